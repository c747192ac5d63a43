""" "Often claimed": popular errors about the paper, each with a proof that runs."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from llama3lib.paper import architecture, data, herd, inference, infrastructure, scaling, training


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


def _changes_name_no_older_part() -> bool:
    """SwiGLU and RMSNorm are no change; of RoPE and shared heads only a number is."""
    changes = architecture.CHANGES_SINCE_LLAMA_2.value
    old = ("SwiGLU", "RMSNorm")
    return len(changes) == 4 and not any(word in text for text in changes for word in old)


def _total(size: str, ffn: int, kv_heads: int) -> int:
    dim, head = _size(size, "model dimension"), architecture.HEAD_DIM.value
    attention = 2 * dim * dim + 2 * dim * kv_heads * head
    layer = attention + 3 * dim * ffn + 2 * dim
    return _size(size, "layers") * layer + 2 * architecture.VOCABULARY.value * dim + dim


STALE_WIDTHS = {"8B": (6144, 8), "70B": (12_288, 8), "405B": (20_480, 16)}
"""FFN dimension and key/value heads of an old Table 3 that is still passed on; not the paper's."""


def _stale_table_is_too_small() -> bool:
    stale = [_total(size, *STALE_WIDTHS[size]) / 1e9 for size in architecture.SIZES]
    printed = [
        _total(size, _size(size, "FFN dimension"), _size(size, "key/value heads"))
        for size in architecture.SIZES
    ]
    right = list(architecture.TOTALS.row("total").values())
    told = round(stale[0], 2), round(stale[1], 1), round(stale[2])
    return printed == right and told == (4.81, 38.3, 207)


def _rotation_keeps_length() -> bool:
    pair, angle = complex(3, 4), 1.2
    turned = pair * complex(math.cos(angle), math.sin(angle))
    return math.isclose(abs(turned), abs(pair)) and turned != pair


def _full_heads_of_70b() -> bool:
    cache = architecture.KV_CACHE
    each = cache.cell("GiB at 131,072 if each query head had its own", "70B")
    return each / cache.cell("GiB at 131,072", "70B") == 8


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
        _changes_name_no_older_part,
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
            round(
                1
                - architecture.CHARACTERS_PER_TOKEN_LLAMA_2.value
                / architecture.CHARACTERS_PER_TOKEN.value,
                3,
            )
            == architecture.TOKENS_SAVED.value
        ),
    ),
    Claim(
        "Mixture of experts was overlooked.",
        "It was considered and left out, for stability and for ease of scaling.",
        "§1",
        lambda: "mixture of experts" in herd.REJECTED.value,
    ),
    Claim(
        "The FFN widths are 6,144, 12,288 and 20,480, and the 405B has 16 key/value heads.",
        "These shapes would make 4.81B, 38.3B and 207B parameters; those of Table 3 fit the names.",
        "§3.2, Table 3",
        _stale_table_is_too_small,
    ),
    Claim(
        "RoPE shifts dimensions by one and reaches beyond the trained length by itself.",
        "It turns pairs of coordinates; 128K took six stages and about 800B tokens of training.",
        "§3.4.2",
        lambda: (
            _rotation_keeps_length()
            and training.LONG_CONTEXT_STAGES.value == 6
            and training.LONG_CONTEXT_TOKENS.value == 800e9
        ),
    ),
    Claim(
        "With one key/value head for each query head the 70B's cache would be 4 times as large.",
        "64 query heads on 8 key/value heads: 8 times.",
        "from §3.2, Table 3",
        _full_heads_of_70b,
    ),
    Claim(
        "The models of April 2024 read 128K tokens.",
        "They read 8,192; 128K came with Llama 3.1 in July 2024.",
        "Table 1; Llama 3 model card",
        lambda: (
            herd.CONTEXT_APRIL.value == 8192
            and not herd.MODELS.cell("Llama 3 8B", "long context")
            and herd.MODELS.cell("Llama 3.1 8B", "long context")
        ),
    ),
    Claim(
        "The paper covers Llama 3.2.",
        "It covers Llama 3 and 3.1, and its results are those of 3.1. Llama 3.2 came later.",
        "§1, Table 1",
        lambda: not any("3.2" in name for name in herd.MODELS.rows),
    ),
)
DATA = (
    Claim(
        "The mix was about 85 percent web, 8 percent code, the rest books and papers.",
        "50 percent general, 25 maths and reasoning, 17 code, 8 multilingual; no list of sources.",
        "§3.1.2",
        lambda: sum(data.MIX.value) == 100 and data.MIX.value[:3] == (50, 25, 17),
    ),
    Claim(
        "Exact hashing of documents finds near-duplicates.",
        "One changed word changes the whole hash; the paper uses MinHash.",
        "§3.1.1",
        lambda: (
            hash("a b c d e f") != hash("a b c d e g")
            and "MinHash" in data.STAGES.rows["documents"][0]
        ),
    ),
    Claim(
        "The tokenizer is SentencePiece, as in Llama 2.",
        "Byte-level BPE: 100K tokens of tiktoken and 28K more.",
        "§3.2",
        lambda: (
            architecture.FROM_TIKTOKEN.value + architecture.ADDED_TOKENS.value
            == architecture.VOCABULARY_PRINTED.value
        ),
    ),
    Claim(
        "15.6T tokens are about twice the compute-optimal number for 405B.",
        "Only by Chinchilla's rule of 20 tokens a parameter (8.1T). By the paper's own law it is "
        "about optimal (402B on 16.55T).",
        "§3.2.1",
        lambda: (
            round(herd.TOKENS.value / (20 * herd.PARAMETERS.value), 2) == 1.93
            and round(herd.TOKENS.value / scaling.OPTIMAL_TOKENS.value, 2) == 0.94
        ),
    ),
    Claim(
        "Annealing on maths problems raised GSM8k by 24 percent in the released models.",
        "That was a side experiment with the benchmark's training set, for the 8B; negligible for "
        "the 405B, and the real annealing data has no such sets.",
        "§3.1.3",
        lambda: (
            data.ANNEALING_GAINS.cell("GSM8k", "8B") == 24.0
            and data.ANNEALING_GAINS.marks["GSM8k", "405B"] == "negligible"
        ),
    ),
)
INFERENCE = (
    Claim(
        "FP8 gives 50 percent more throughput.",
        "Up to 50 percent, and in prefill only, against BF16 on two machines; it speeds up the "
        "feed-forward products, about half of the compute time.",
        "§6.2",
        lambda: (
            "prefill only" in inference.PREFILL_GAIN.note
            # half of the time at twice the speed, on the same machines
            and round(1 / (1 - inference.FFN_TIME.value / 2), 2) == 1.33
        ),
    ),
    Claim(
        "The 405B fits 4 GPUs of 80 GB in FP8.",
        "Even with every weight in one byte it needs 406 GB; with the paper's recipe 487 GB. It "
        "is served on 8.",
        "§6.2",
        lambda: (
            architecture.TOTALS.cell("total", "405B") / 1e9 > 4 * infrastructure.GPU_MEMORY.value
            and 4 * infrastructure.GPU_MEMORY.value
            < inference.FP8_GIGABYTES.value
            < inference.SERVER_GIGABYTES.value
        ),
    ),
    Claim(
        "The feed-forward layers are half of the model.",
        "They take about half of the compute time of inference; of the parameters they hold 81 "
        "percent.",
        "§6.2",
        lambda: inference.FFN_TIME.value < 0.8 < inference.FFN_PARAMETERS.value < 0.82,
    ),
    Claim(
        "Grouped-query attention shrinks the cache of the 70B to a quarter.",
        "To an eighth: 64 query heads share 8 key/value heads. A quarter is the 8B.",
        "§3.2, Table 3",
        lambda: (
            architecture.QUERIES_PER_KV_HEAD.row("queries per KV head")
            == {"8B": 4, "70B": 8, "405B": 16}
        ),
    ),
    Claim(
        "Serving on many GPUs has to synchronise gradients.",
        "There is no backward pass: 8 GPUs share each product, 2 machines are two stages.",
        "§6.1",
        lambda: (
            inference.TENSOR_PARALLEL.value * inference.PIPELINE_PARALLEL.value
            == inference.GPUS_BF16.value
        ),
    ),
)


def _by_the_figure(flops: float) -> tuple[float, float]:
    """Tokens and parameters of the law, with the figure's exponent and coefficient."""
    tokens = scaling.optimal_tokens(
        flops, scaling.EXPONENT_FIGURE.value, scaling.COEFFICIENT_FIGURE.value
    )
    return tokens, flops / (6 * tokens)


def _law_is_of_tokens() -> bool:
    found, _ = _by_the_figure(herd.FLOPS.value)
    near = abs(found / scaling.OPTIMAL_TOKENS.value - 1) < 0.02
    return near and round(found / scaling.OPTIMAL_PARAMETERS.value) == 41


def _tokens_each_by_law() -> list[float]:
    """Tokens for each parameter at the smallest and the largest budget, and at the flagship's."""
    budgets = (*scaling.BUDGET_ENDS.value, herd.FLOPS.value)
    return [round(tokens / size, 1) for tokens, size in map(_by_the_figure, budgets)]


def _small_sizes_by_law() -> dict[str, int]:
    """Billions of parameters that the law gives for what the small models cost."""
    costs = {size: scaling.SIX_ND.cell(size, "FLOPs") for size in ("8B", "70B")}
    return {size: round(_by_the_figure(cost)[1] / 1e9) for size, cost in costs.items()}


def _digits_of_an_exponent() -> bool:
    flops, (low, high) = herd.FLOPS.value, (-0.005, 0.005)
    pair = scaling.EXPONENT.value, scaling.COEFFICIENT.value
    ends = [scaling.optimal_tokens(flops, pair[0] + a, pair[1] + a) for a in (low, high)]
    swing = math.exp(high * math.log(flops)) - 1
    return (
        round(swing, 2) == scaling.SHIFT_OF_ALPHA.value
        and ends[1] < scaling.OPTIMAL_TOKENS.value
        and ends[1] / ends[0] > 1.8
    )


SCALING = (
    Claim(
        "The law N*(C) predicts the best number of parameters.",
        "It predicts training tokens: the y axis of Figure 3. With the figure's coefficients it "
        "gives 16.3T at 3.8e25 FLOPs, 41 times the 402B parameters; those follow from the budget.",
        "§3.2.1, Figure 3",
        _law_is_of_tokens,
    ),
    Claim(
        "Chinchilla's 20 tokens for each parameter is a constant of nature.",
        "By the paper's own law the best ratio grows with compute: 13 at its smallest budget, 23 "
        "at its largest, 42 at the flagship's.",
        "from §3.2.1",
        lambda: _tokens_each_by_law() == [13.2, 22.8, 41.9],
    ),
    Claim(
        "The sizes of the 8B and the 70B come from the scaling law.",
        "Only the 405B's does. For what the small ones cost the law would train 62B and 170B; they "
        "were trained far longer, to be cheap to use.",
        "from §3.2.1",
        lambda: _small_sizes_by_law() == {"8B": 62, "70B": 170},
    ),
    Claim(
        "Two decimals are enough for an exponent.",
        "At 3.8e25 FLOPs half a unit of the second decimal moves the tokens by 34 percent, and no "
        "pair that rounds to the printed (0.53, 0.29) reaches the printed 16.55T.",
        "from §3.2.1",
        _digits_of_an_exponent,
    ),
)
ALL = ARCHITECTURE + DATA + INFERENCE + SCALING
"""Every claim so far."""

NOT_IN_PAPER = (
    "a number for what grouped-query attention costs in quality",
    "AdamW betas, weight decay and gradient clipping of the flagship",
    "how many fine-tuning examples or preference pairs there were",
    "the head of the reward model",
    "batch sizes of fine-tuning and of DPO",
    "lengths and tokens of the six long-context stages",
    "parameters of RoPE scaling",
    "a list of data sources, or how many tokens were unique",
    "the interleaving V of the pipeline",
    "training tokens of the 8B and the 70B one by one",
    "costs in dollars",
    "a study of reward hacking",
    "loss curves",
    "ablations over the rounds of post-training",
)
"""What is often attributed to the paper and is not there."""
