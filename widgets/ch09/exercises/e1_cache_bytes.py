"""Exercise 09.1: the bytes of a key/value cache that is handed out in blocks."""

from collections.abc import Callable

import torch

from llama3lib.model import ModelArgs, get_preset
from widgets.core.exercise import Exercise

E = Exercise(
    "09.1",
    "kv_cache_bytes",
    hints=(
        "What does one token leave behind in one layer? And how many tokens have room in the "
        "blocks that were handed out for this text?",
        "One token leaves a key and a value for each key/value head, of head_dim numbers each. "
        "Do that for all layers, and for each slot of each block that was begun.",
        "Blocks: the tokens divided by block_size, rounded up; -(-a // b) rounds up without "
        "floats. Then multiply: 2, n_layers, n_kv_heads, head_dim, blocks, block_size, "
        "bytes_per_value.",
    ),
)


def _in_blocks(num_tokens: int, size: int) -> int:
    return -(-num_tokens // size) * size


@E.reference
def cache_bytes(
    args: ModelArgs,
    num_tokens: int,
    block_size: int = 16,
    bytes_per_value: int = 2,
    *,
    sides: int = 2,
    layers: Callable[[ModelArgs], int] = lambda a: a.n_layers,
    width: Callable[[ModelArgs], int] = lambda a: a.n_kv_heads * a.head_dim,
    slots: Callable[[int, int], int] = _in_blocks,
    value: Callable[[int], int] = lambda given: given,
) -> int:
    """The size of a cache from its factors."""
    held = slots(num_tokens, block_size)
    return sides * layers(args) * width(args) * held * value(bytes_per_value)


E.mistake("keys only", sides=1).why("Each token leaves a key and a value.")
E.mistake("one layer only", layers=lambda a: 1).why("Each layer has keys and values of its own.")
E.mistake("query heads for key/value heads", width=lambda a: a.n_heads * a.head_dim).why(
    "Queries are used once and forgotten. What is kept has n_kv_heads heads."
)
E.mistake("the width of the model for that of a key", width=lambda a: a.dim).why(
    "What is kept of a token is not its row of the residual stream."
)
E.mistake("dim / n_heads for head_dim", width=lambda a: a.n_kv_heads * (a.dim // a.n_heads)).why(
    "The size of a head may be set to something else: args.head_dim tells it."
)
E.mistake("the heads are forgotten", width=lambda a: a.head_dim).why(
    "Each key/value head has its own vector."
)
E.mistake("not rounded up to whole blocks", slots=lambda n, size: n).why(
    "A block is handed out whole, even if one token is all it holds."
)
E.mistake("the last block is forgotten", slots=lambda n, size: n // size * size).why(
    "Tokens that do not fill a block need one, too."
)
E.mistake("one block too many", slots=lambda n, size: (n // size + 1) * size).why(
    "When the last block is just full, no further one is needed."
)
E.mistake("one block too many", slots=lambda n, size: _in_blocks(n, size) + size).why(
    "No block is handed out before a token needs it."
)
E.mistake("a block counts as one token", slots=lambda n, size: -(-n // size)).why(
    "Each block has room for block_size tokens."
)
E.mistake("room for one token only", slots=lambda n, size: 1).why(
    "That is what a token takes. How many are there?"
)
E.mistake("bits, not bytes", value=lambda b: 8 * b).why("A value of 2 bytes takes 2 bytes.")
E.mistake("bytes_per_value is not used", value=lambda b: 2).why(
    "A cache may be kept in FP8 or float32, too."
)
E.mistake("bytes_per_value is not used", value=lambda b: 1).why("A value takes some bytes.")
E.mistake("block_size is not used", slots=lambda n, _: _in_blocks(n, 16)).why(
    "16 is only its default."
)


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


@E.cases
def _cases() -> list[tuple]:
    one = _args(1, 1, 1, 2, 2)
    rows: list[tuple] = [
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
    return rows + [(get_preset(name), 4352) for name in ("8B", "70B", "405B")]
