"""Chapter 09, exercise 2: attention that keeps keys and values of what came before.

One text is fed in random pieces. First the cache itself is looked at, after each piece; then the
results are compared with one causal attention over the whole text.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from llama3lib.model.attention import ScaledDotProductAttention
from widgets.core.judge import Case, Known, Mistake, check_form, diagnose, run

_WHAT = "cached_attention"


def _whole(q: Tensor, k: Tensor, v: Tensor, *_: object) -> Tensor:
    return ScaledDotProductAttention()(q, k, v)


def _cached(
    *,
    may: Callable[[Tensor, Tensor, int], Tensor] = lambda row, column, start: column <= row + start,
    low: Callable[[int], int] = lambda start: 0,
    to_the_end: bool = False,
    tile: bool = False,
    scale: Callable[[int], float] = lambda head_dim: head_dim**-0.5,
    axis: int = -1,
    blind: float = math.nan,
) -> Callable:
    """Cached attention, slow and plain, from its parts. `may` compares rows of the piece with
    slots of the cache; `blind` are the weights of a query that may see nothing."""

    def attention(
        q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor, start: int
    ) -> Tensor:
        end = start + q.shape[1]
        keys[:, :, start:end] = k.transpose(1, 2)
        values[:, :, start:end] = v.transpose(1, 2)
        stop, group = keys.shape[2] if to_the_end else end, q.shape[2] // k.shape[2]
        seen = keys[:, :, low(start) : stop], values[:, :, low(start) : stop]
        if tile:
            ks, vs = (x.repeat(1, group, 1, 1) for x in seen)
        else:
            ks, vs = (x.repeat_interleave(group, 1) for x in seen)
        row = torch.arange(end - start).unsqueeze(1)
        column = torch.arange(low(start), stop).unsqueeze(0)
        scores = torch.einsum("btnh,bnsh->bnts", q, ks) * scale(q.shape[-1])
        scores = scores.masked_fill(~may(row, column, start), -math.inf)
        weights = scores.softmax(axis).nan_to_num(blind)
        return torch.einsum("bnts,bnsh->btnh", weights, vs)

    return attention


def _all(row: Tensor, column: Tensor, start: int) -> Tensor:
    return (row >= 0) & (column >= 0)


def _if(condition: Callable[[int], bool]) -> Callable:
    """No mask where the condition on `start` holds, the right one elsewhere."""
    return lambda row, column, start: (column <= row + start) | torch.tensor(condition(start))


def _played(attention: Callable) -> Callable:
    """The attention as a function of a whole text and the sizes of its pieces."""

    def play(q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor, sizes: tuple) -> Tensor:
        start, found = 0, []
        for size in sizes:
            piece = (x[:, start : start + size].clone() for x in (q, k, v))
            found.append(attention(*piece, keys, values, start))
            start += size
        return torch.cat(found, 1)

    return play


_KNOWN = [
    Known(name, _played(function), why)
    for name, function, why in (
        (
            "the mask is not shifted by start",
            _cached(may=lambda row, column, start: column <= row),
            "The first query of a piece stands at position start: it sees start + 1 slots, not 1. "
            "is_causal=True counts from the first slot, too.",
        ),
        (
            "later pieces have no mask",
            _cached(may=_if(lambda start: start > 0)),
            "Within a later piece a query may not see those after it, either.",
        ),
        (
            "the first piece has no mask",
            _cached(may=_if(lambda start: start == 0)),
            "Within the first piece a query may not see those after it, either.",
        ),
        (
            "a query sees later tokens of its piece",
            _cached(may=_all),
            "They are stored already, but a query may look at positions up to its own only.",
        ),
        (
            "a query sees one token too many",
            _cached(may=lambda row, column, start: column <= row + start + 1),
            "Query t of the piece stands at position start + t.",
        ),
        (
            "a query does not see itself",
            _cached(may=lambda row, column, start: column < row + start),
            "Up to its own position, itself included.",
        ),
        (
            "a query does not see itself",
            _cached(may=lambda row, column, start: column < row + start, blind=0.0),
            "Up to its own position, itself included.",
        ),
        (
            "slots that nobody has written are read",
            _cached(may=_all, to_the_end=True),
            "The cache has room for more than there is. What stands behind is rubbish.",
        ),
        (
            "the tokens before the piece are not read",
            _cached(low=lambda start: start),
            "keys and values hold what came before.",
        ),
        (
            "the tokens before the piece are not read",
            _cached(may=_all, low=lambda start: start),
            "keys and values hold what came before.",
        ),
        (
            "query heads read the wrong key/value head",
            _cached(tile=True),
            "Neighbouring query heads share one: 0, 0, 1, 1 and not 0, 1, 0, 1.",
        ),
        (
            "the scores are not scaled",
            _cached(scale=lambda head_dim: 1.0),
            "Divide by the square root of the head size.",
        ),
        (
            "the scores are divided by the head size, not its root",
            _cached(scale=lambda head_dim: 1 / head_dim),
            "",
        ),
        (
            "softmax runs over the wrong axis",
            _cached(axis=-2),
            "The weights of one query over all positions must sum to 1.",
        ),
    )
]


def _cases() -> list[Case]:
    draw = torch.Generator().manual_seed(2)
    rows: list[tuple[int, int, int, int, tuple[int, ...]]] = [
        (1, 1, 1, 2, (1,)),
        (1, 1, 1, 2, (1, 1)),
        (1, 1, 1, 2, (2,)),
        (1, 1, 1, 2, (1, 2)),
        (1, 2, 1, 2, (1, 1)),
        (1, 4, 2, 2, (2, 3)),
    ]
    for _ in range(8):
        sizes = torch.randint(1, 6, (5,), generator=draw).tolist()
        kv_heads, group, batch = torch.randint(1, 4, (3,), generator=draw).tolist()
        rows.append((batch, kv_heads * group, kv_heads, 8, tuple(sizes)))
    cases = []
    for batch, heads, kv_heads, head_dim, sizes in rows:
        length, room = sum(sizes), sum(sizes) + 3
        inputs = [
            torch.randn(batch, length, n, head_dim, generator=draw)
            for n in (heads, kv_heads, kv_heads)
        ]
        # what nobody has written yet is rubbish, as in a real cache
        inputs += [3 * torch.randn(batch, kv_heads, room, head_dim, generator=draw) for _ in "kv"]
        told = f"B={batch}, N={heads}, K={kv_heads}, H={head_dim}, S={room}, "
        told += "pieces: " + ", ".join(map(str, sizes))
        cases.append(Case((*inputs, sizes), told))
    return cases


def check_cached_attention(answer: Callable) -> None:
    """09.2: cached_attention(q, k, v, keys, values, start)."""
    cases = _cases()
    for case in cases:
        _check_store(answer, case)
    diagnose(_played(answer), _whole, cases, _KNOWN, what=_WHAT)


def _check_store(answer: Callable, case: Case) -> None:
    """Feed a text, and look into the cache after each piece."""
    q, k, v, keys, values, sizes = case.inputs
    store, start = {"keys": keys.clone(), "values": values.clone()}, 0
    for size in sizes:
        end = start + size
        before = {name: x.clone() for name, x in store.items()}
        piece = tuple(x[:, start:end].clone() for x in (q, k, v))
        shows = f"{case.shows}; the piece at start={start}"
        inputs = (*piece, *store.values(), start)
        result = run(lambda given=inputs: answer(*given), Case((), shows), _WHAT)
        check_form(result, piece[0], _WHAT, shows)
        fresh = dict(zip(store, (x.transpose(1, 2) for x in piece[1:]), strict=True))
        for name, other in (("keys", "values"), ("values", "keys")):
            _judge_store(name, before[name], store[name], fresh[name], fresh[other], start, shows)
        start = end


def _judge_store(
    name: str, before: Tensor, after: Tensor, new: Tensor, other: Tensor, start: int, shows: str
) -> None:
    """Only slots start to start + T - 1 may change, and they must hold what is new."""
    end = start + new.shape[2]
    want = before.clone()
    want[:, :, start:end] = new
    if torch.equal(after, want):
        return
    if torch.equal(after, before):
        why = f"{name} is as it was. A new tensor of the same name is not the cache: write into it."
        raise Mistake(f"{name}: nothing is stored", shows=shows, why=why)
    if torch.equal(after[:, :, start:end], other):
        raise Mistake("keys and values are mixed up", shows=shows)
    if torch.equal(after[:, :, : end - start], new) and start:
        why = "The first tokens of the text stand there. This piece begins at start."
        raise Mistake(f"{name}: stored at 0, not at start", shows=shows, why=why)
    if torch.equal(after[:, :, start:end], new):
        why = "Only the slots of this piece may change."
        raise Mistake(f"{name}: slots of other tokens are overwritten", shows=shows, why=why)
    why = f"Slots {start} to {end - 1} of {name} should hold this piece, each head its own."
    raise Mistake(f"{name}: something else is stored", shows=shows, why=why)
