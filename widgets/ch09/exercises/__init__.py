"""Chapter 09, exercise 1 (bytes of a cache), and the table of all seven."""

from collections.abc import Callable
from numbers import Integral, Real

import torch
from torch import Tensor

from llama3lib.model import ModelArgs, get_preset
from widgets.ch09.exercises.blocks import check_write_token
from widgets.ch09.exercises.cache import check_cached_attention
from widgets.ch09.exercises.fp8 import check_fp8_rows
from widgets.ch09.exercises.hints import HINTS
from widgets.ch09.exercises.serving import check_plan_step
from widgets.ch09.exercises.speculative import check_speculative_step
from widgets.ch09.exercises.top_p import check_top_p
from widgets.core.judge import Case, Known, Mistake, diagnose, run
from widgets.core.time_limit import patiently

__all__ = ["CHECKS", "HINTS"]


def _size(
    *,
    sides: int = 2,
    layers: Callable[[ModelArgs], int] = lambda a: a.n_layers,
    width: Callable[[ModelArgs], int] = lambda a: a.n_kv_heads * a.head_dim,
    slots: Callable[[int, int], int] = lambda n, size: -(-n // size) * size,
    value: Callable[[int], int] = lambda given: given,
) -> Callable:
    """The size of a cache from its factors."""

    def kv_cache_bytes(
        args: ModelArgs, num_tokens: int, block_size: int = 16, bytes_per_value: int = 2
    ) -> int:
        held = slots(num_tokens, block_size)
        return sides * layers(args) * width(args) * held * value(bytes_per_value)

    return kv_cache_bytes


_CACHE_KNOWN = [
    Known("keys only", _size(sides=1), "Each token leaves a key and a value."),
    Known(
        "one layer only",
        _size(layers=lambda a: 1),
        "Each layer has keys and values of its own.",
    ),
    Known(
        "query heads for key/value heads",
        _size(width=lambda a: a.n_heads * a.head_dim),
        "Queries are used once and forgotten. What is kept has n_kv_heads heads.",
    ),
    Known(
        "the width of the model for that of a key",
        _size(width=lambda a: a.dim),
        "What is kept of a token is not its row of the residual stream.",
    ),
    Known(
        "dim / n_heads for head_dim",
        _size(width=lambda a: a.n_kv_heads * (a.dim // a.n_heads)),
        "The size of a head may be set to something else: args.head_dim tells it.",
    ),
    Known(
        "the heads are forgotten",
        _size(width=lambda a: a.head_dim),
        "Each key/value head has its own vector.",
    ),
    Known(
        "not rounded up to whole blocks",
        _size(slots=lambda n, size: n),
        "A block is handed out whole, even if one token is all it holds.",
    ),
    Known(
        "the last block is forgotten",
        _size(slots=lambda n, size: n // size * size),
        "Tokens that do not fill a block need one, too.",
    ),
    Known(
        "one block too many",
        _size(slots=lambda n, size: (n // size + 1) * size),
        "When the last block is just full, no further one is needed.",
    ),
    Known(
        "one block too many",
        _size(slots=lambda n, size: (-(-n // size) + 1) * size),
        "No block is handed out before a token needs it.",
    ),
    Known(
        "a block counts as one token",
        _size(slots=lambda n, size: -(-n // size)),
        "Each block has room for block_size tokens.",
    ),
    Known(
        "room for one token only",
        _size(slots=lambda n, size: 1),
        "That is what a token takes. How many are there?",
    ),
    Known("bits, not bytes", _size(value=lambda b: 8 * b), "A value of 2 bytes takes 2 bytes."),
    Known(
        "bytes_per_value is not used",
        _size(value=lambda b: 2),
        "A cache may be kept in FP8 or float32, too.",
    ),
    Known("bytes_per_value is not used", _size(value=lambda b: 1), "A value takes some bytes."),
    Known(
        "block_size is not used",
        _size(slots=lambda n, size: -(-n // 16) * 16),
        "16 is only its default.",
    ),
]


def _args(layers: int, heads: int, kv_heads: int, head_dim: int, dim: int) -> ModelArgs:
    return ModelArgs(
        dim=dim,
        n_layers=layers,
        n_heads=heads,
        n_kv_heads=kv_heads,
        head_dim=head_dim,
        ffn_dim=4,
        vocab_size=8,
    )


def _cache_cases() -> list[Case]:
    one = _args(1, 1, 1, 2, 2)
    rows = [
        (one, 1, 1, 1),
        (_args(2, 1, 1, 2, 2), 1, 1, 1),
        (_args(1, 2, 1, 2, 4), 1, 1, 1),
        (_args(1, 2, 2, 2, 8), 1, 1, 1),
        (one, 1, 1, 4),
        (one, 2, 1, 1),
        (one, 3, 2, 1),
        (one, 4, 2, 1),
        (one, 17),
    ]
    draw = torch.Generator().manual_seed(1)

    def pick(most: int) -> int:
        return int(torch.randint(1, most + 1, (), generator=draw))

    for _ in range(20):
        kv_heads, head_dim = pick(8), 2 * pick(64)
        heads = kv_heads * pick(8)
        args = _args(pick(40), heads, kv_heads, head_dim, heads * 2 * pick(64))
        rows.append((args, pick(5000), 2 ** pick(6), pick(4)))
    rows += [(get_preset(name), 4352) for name in ("8B", "70B", "405B")]
    return [Case(row, _shown(*row)) for row in rows]


def _shown(args: ModelArgs, num_tokens: int, *rest: int) -> str:
    fields = ("dim", "n_layers", "n_heads", "n_kv_heads", "head_dim")
    told = ", ".join(f"{name}={getattr(args, name)}" for name in fields)
    more = zip(("block_size", "bytes_per_value"), rest, strict=False)
    return f"{told}; " + ", ".join(
        [f"num_tokens={num_tokens}", *(f"{name}={value}" for name, value in more)]
    )


def check_cache_bytes(answer: Callable) -> None:
    """09.1: kv_cache_bytes(args, num_tokens, block_size, bytes_per_value)."""
    cases, floats = _cache_cases(), []

    def counted(*inputs: object) -> object:
        result = answer(*inputs)
        if isinstance(result, Tensor) and result.numel() == 1:
            result = result.item()
        if isinstance(result, float) and result.is_integer():
            floats.append(result)
            return int(result)
        is_whole = isinstance(result, Integral) and not isinstance(result, bool)
        return int(result) if is_whole else result

    found = run(counted, cases[0], "kv_cache_bytes")
    if isinstance(found, bool) or not isinstance(found, Real):
        why = f"{type(found).__name__} came."
        raise Mistake("kv_cache_bytes: a number is needed", shows=cases[0].shows, why=why)
    diagnose(counted, _size(), cases, _CACHE_KNOWN, what="kv_cache_bytes")
    if floats:
        why = "`/` makes a float, which cannot hold every large number. `//` stays whole."
        raise Mistake("a float, not a whole number", shows=cases[0].shows, why=why)


CHECKS: dict[str, Callable[[object], None]] = {
    "09.1": patiently("kv_cache_bytes", check_cache_bytes),
    "09.2": patiently("cached_attention", check_cached_attention),
    "09.3": patiently("top_p_probs", check_top_p),
    "09.4": patiently("write_token", check_write_token),
    "09.5": patiently("fp8_rows", check_fp8_rows),
    "09.6": patiently("plan_step", check_plan_step),
    "09.7": patiently("speculative_step", check_speculative_step),
}
