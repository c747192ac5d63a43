""" "Often claimed": popular errors about the paper, each with a proof that runs."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from llama3lib.paper import architecture, herd


@dataclass(frozen=True)
class Claim:
    """What is often claimed, what is true, where it stands, and a proof that returns True."""

    claimed: str
    truth: str
    section: str
    proof: Callable[[], bool]


def _size(size: str, row: str) -> int:
    return architecture.TABLE_3.cell(row, size)


def _tied_total() -> bool:
    embedding = architecture.VOCABULARY.value * _size("8B", "model dimension")
    untied = architecture.TOTALS.cell("total", "8B")
    return untied - embedding == architecture.TOTAL_8B_IF_TIED.value != untied


def _released_frequencies() -> bool:
    theta = architecture.ROPE_THETA.value
    waves = [2 * math.pi * theta ** (i / 128) for i in range(0, 128, 2)]
    kept, divided = sum(w < 2048 for w in waves), sum(w > 8192 for w in waves)
    return (kept, 64 - kept - divided, divided) == architecture.ROPE_KEPT_BLENDED_DIVIDED.value


def _groups() -> bool:
    heads = architecture.TABLE_3.row("attention heads")
    kv = architecture.TABLE_3.row("key/value heads")
    return [heads[s] // kv[s] for s in architecture.SIZES] == [4, 8, 16]


def _cache_of_70b() -> bool:
    cache = architecture.KV_CACHE.cell("bytes per token", "70B") * herd.CONTEXT.value
    return (
        round(cache / 1e9, 1) == 42.9 and cache < 2 * architecture.TOTALS.cell("total", "70B") / 3
    )


ARCHITECTURE = (
    Claim(
        "Only the large models use grouped-query attention.",
        "All sizes have 8 key/value heads: 4, 8 and 16 query heads share one.",
        "§3.2, Table 3",
        _groups,
    ),
    Claim(
        "The 8B ties its input and output embeddings.",
        "8B, 70B and 405B have a separate output matrix; only Llama 3.2 1B and 3B are tied.",
        "released code",
        _tied_total,
    ),
    Claim(
        "The RoPE base was raised to 8 million for 128K tokens.",
        "theta stays 500,000. Llama 3.1 rescales frequencies: 29 kept, 6 blended, 29 divided by 8.",
        "§3.2, Table 3; released code",
        _released_frequencies,
    ),
    Claim(
        "Grouped-query attention, SwiGLU, RoPE and RMSNorm are new in Llama 3.",
        "The paper lists four small changes since Llama 2.",
        "§3.2",
        lambda: len(architecture.CHANGES_SINCE_LLAMA_2.value) == 4,
    ),
    Claim(
        "The 70B's cache at 128K tokens is larger than its weights.",
        "42.9 GB of cache against 141.1 GB of weights in bfloat16.",
        "from §3.2, Table 3",
        _cache_of_70b,
    ),
    Claim(
        "The new vocabulary saves about 15 % of the tokens on English.",
        "3.17 to 3.94 characters per token is 19.5 % fewer tokens.",
        "§3.2",
        lambda: (
            round(1 - architecture.CHARACTERS_PER_TOKEN_LLAMA_2.value / 3.94, 3)
            == architecture.TOKENS_SAVED.value
        ),
    ),
    Claim(
        "Mixture of experts was overlooked.",
        "It was considered and left out, for stability and for ease of scaling.",
        "§1",
        lambda: "mixture of experts" in herd.REJECTED.value,
    ),
)
