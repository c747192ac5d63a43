"""Exercise 09.2: attention that keeps keys and values of what came before.

One text is fed in random pieces. First the cache itself is looked at, after each piece; then the
results are compared over the whole text.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from widgets.core.exercise import Exercise
from widgets.core.judge import Case, Mistake, check_form, run


def play(
    attention: Callable,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    keys: Tensor,
    values: Tensor,
    sizes: tuple[int, ...],
) -> Tensor:
    """The results for a whole text that comes in pieces of these sizes."""
    start, found = 0, []
    for size in sizes:
        piece = (x[:, start : start + size].clone() for x in (q, k, v))
        found.append(attention(*piece, keys, values, start))
        start += size
    return torch.cat(found, 1)


E = Exercise(
    "09.2",
    "cached_attention",
    through=play,
    hints=(
        "A piece of T queries meets start + T keys. Query t of the piece is which position of the "
        "text? Which slots may it see?",
        "First store: the cache has the heads before the tokens, so turn k and v round, and write "
        "them into slots start to start + T - 1. Then attend to the slots that are written, with a "
        "mask of T rows and start + T columns.",
        "keys[:, :, start:end] = k.transpose(1, 2), the same for values. The mask is "
        "torch.ones(T, end, dtype=torch.bool).tril(start). Give it to "
        "F.scaled_dot_product_attention as attn_mask, with q.transpose(1, 2), both caches up to "
        "end, and enable_gqa=True. Turn the result back.",
    ),
)


@E.reference
def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    keys: Tensor,
    values: Tensor,
    start: int,
    *,
    may: Callable[[Tensor, Tensor, int], Tensor] = lambda row, column, start: column <= row + start,
    low: Callable[[int], int] = lambda start: 0,
    to_the_end: bool = False,
    tile: bool = False,
    scale: Callable[[int], float] = lambda head_dim: head_dim**-0.5,
    axis: int = -1,
    blind: float = math.nan,
) -> Tensor:
    """Slow and plain. `may` compares rows of the piece with slots of the cache; `blind` are the
    weights of a query that may see nothing."""
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


def _all(row: Tensor, column: Tensor, start: int) -> Tensor:
    return (row >= 0) & (column >= 0)


E.mistake("the mask is not shifted by start", may=lambda row, column, start: column <= row).why(
    "The first query of a piece stands at position start: it sees start + 1 slots, not 1. "
    "is_causal=True counts from the first slot, too."
)
E.mistake(
    "later pieces have no mask",
    may=lambda row, column, start: (column <= row + start) | torch.tensor(start > 0),
).why("Within a later piece a query may not see those after it, either.")
E.mistake(
    "the first piece has no mask",
    may=lambda row, column, start: (column <= row + start) | torch.tensor(start == 0),
).why("Within the first piece a query may not see those after it, either.")
E.mistake("a query sees later tokens of its piece", may=_all).why(
    "They are stored already, but a query may look at positions up to its own only."
)
E.mistake(
    "a query sees one token too many", may=lambda row, column, start: column <= row + start + 1
).why("Query t of the piece stands at position start + t.")
for _blind in (math.nan, 0.0):
    E.mistake(
        "a query does not see itself",
        may=lambda row, column, start: column < row + start,
        blind=_blind,
    ).why("Up to its own position, itself included.")
E.mistake("slots that nobody has written are read", may=_all, to_the_end=True).why(
    "The cache has room for more than there is. What stands behind is rubbish."
)
for _may in (lambda row, column, start: column <= row + start, _all):
    E.mistake("the tokens before the piece are not read", low=lambda start: start, may=_may).why(
        "keys and values hold what came before."
    )
E.mistake("query heads read the wrong key/value head", tile=True).why(
    "Neighbouring query heads share one: 0, 0, 1, 1 and not 0, 1, 0, 1."
)
E.mistake("the scores are not scaled", scale=lambda head_dim: 1.0).why(
    "Divide by the square root of the head size."
)
E.mistake(
    "the scores are divided by the head size, not its root", scale=lambda head_dim: 1 / head_dim
)
E.mistake("softmax runs over the wrong axis", axis=-2).why(
    "The weights of one query over all positions must sum to 1."
)


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


@E.rule
def _stores(answer: Callable) -> None:
    """Feed each text, and look into the cache after each piece."""
    for case in _cases():
        q, k, v, keys, values, sizes = case.inputs
        store, start = {"keys": keys.clone(), "values": values.clone()}, 0
        for size in sizes:
            before = {name: x.clone() for name, x in store.items()}
            piece = tuple(x[:, start : start + size].clone() for x in (q, k, v))
            shows = f"{case.shows}; the piece at start={start}"
            inputs = (*piece, *store.values(), start)
            result = run(lambda given=inputs: answer(*given), Case((), shows), E.what)
            check_form(result, piece[0], E.what, shows)
            fresh = dict(zip(store, (x.transpose(1, 2) for x in piece[1:]), strict=True))
            for name, other in (("keys", "values"), ("values", "keys")):
                both = fresh[name], fresh[other]
                _judge_store(name, before[name], store[name], *both, start, shows)
            start += size


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


E.cases(_cases)
