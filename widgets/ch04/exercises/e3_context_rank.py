"""Exercise 04.3: attention of one context-parallel rank, with a document mask."""

from collections.abc import Callable

import torch
from torch import Tensor

from widgets.core.exercise import Exercise

E = Exercise(
    "04.3",
    "context_attention",
    tolerance=1e-4,
    hints=(
        "Forget the ranks for a moment: attention needs to know, for each query and each key, its "
        "place in the whole sequence. Which places do the rows of q have, and which those of the "
        "gathered keys?",
        "The sequence has 2·CP chunks, and rank r holds chunks r and 2·CP - 1 - r. Make a tensor "
        "of places for q, and one for the keys of all ranks, one rank after the other. A query "
        "sees a key if its place is not later and both places have the same document.",
        "chunks = torch.arange(len(documents)).chunk(2 * cp) gives the places: torch.cat((chunks"
        "[r], chunks[2 * cp - 1 - r])) for rank r. With torch.cat(k_parts) and the places of all "
        "ranks joined likewise, compare places[:, None] with key_places[None].",
    ),
)
Places = Callable[[int, int, int], Tensor]
Allowed = Callable[[Tensor, Tensor, Tensor], Tensor]


def _held(length: int, rank: int, cp: int) -> Tensor:
    chunks = torch.arange(length).chunk(2 * cp)
    return torch.cat((chunks[rank], chunks[2 * cp - 1 - rank]))


def _contiguous(length: int, rank: int, cp: int) -> Tensor:
    return torch.arange(length).chunk(cp)[rank]


def _causal(queries: Tensor, keys: Tensor) -> Tensor:
    return keys[None] <= queries[:, None]


def _same(documents: Tensor, queries: Tensor, keys: Tensor) -> Tensor:
    return documents[queries][:, None] == documents[keys][None]


@E.reference
def context_attention(
    q: Tensor,
    k_parts: list[Tensor],
    v_parts: list[Tensor],
    documents: Tensor,
    rank: int,
    cp: int,
    *,
    query_places: Places = _held,
    key_places: Places = _held,
    allowed: Allowed = lambda d, q, k: _causal(q, k) & _same(d, q, k),
    share: Callable[[Tensor, int], Tensor] = lambda x, n: x.repeat_interleave(n, dim=1),
    power: float = -0.5,
) -> Tensor:
    """[T, N, H] queries of this rank, and [T, K, H] keys and values of every rank -> [T, N, H]."""
    length, group = len(documents), q.shape[1] // k_parts[0].shape[1]
    places = query_places(length, rank, cp)
    others = torch.cat([key_places(length, other, cp) for other in range(cp)])
    k, v = (share(torch.cat(list(parts)), group) for parts in (k_parts, v_parts))
    scores = torch.einsum("tnh,snh->nts", q, k) * q.shape[-1] ** power
    scores = scores.masked_fill(~allowed(documents, places, others), -1e9)
    return torch.einsum("nts,snh->tnh", scores.softmax(-1), v)


E.mistake("the rank's queries are taken for neighbours", query_places=_contiguous).why(
    "Rank r holds chunks r and 2·CP - 1 - r, one early and one late, not a piece in one."
)
E.mistake("the gathered keys are taken to be in order", key_places=_contiguous).why(
    "They come one rank after the other, and each rank's two chunks are far apart."
)
E.mistake("both are taken to be in order", query_places=_contiguous, key_places=_contiguous).why(
    "Rank r holds chunks r and 2·CP - 1 - r, so neither queries nor keys are in order."
)
E.mistake("documents see each other", allowed=lambda d, q, k: _causal(q, k)).why(
    "A query sees the keys of its own document alone."
)
E.mistake("the future is visible", allowed=_same).why(
    "Within a document, too, a query sees no later key."
)
E.mistake(
    "a query does not see itself",
    allowed=lambda d, q, k: (k[None] < q[:, None]) & _same(d, q, k),
).why("Its own place is not later: <=, not <.")
E.mistake("the heads share keys in turn", share=lambda x, n: x.repeat(1, n, 1)).why(
    "Neighbouring query heads share a key head: 0 and 1 the first, 2 and 3 the second."
)
E.mistake("the scores are not scaled", power=0.0).why("Divide them by the root of H.")


@E.cases
def _cases() -> list[tuple]:
    draw = torch.Generator().manual_seed(6)

    def case(chunk: int, heads: tuple[int, int], ends: list[int], rank: int, cp: int) -> tuple:
        size, (n, kv) = 2 * chunk, heads
        q = torch.randn(size, n, 4, generator=draw)
        k, v = ([torch.randn(size, kv, 4, generator=draw) for _ in range(cp)] for _ in "kv")
        documents = torch.bucketize(torch.arange(size * cp), torch.tensor(ends), right=True)
        return q, k, v, documents, rank, cp

    alone = [case(1, (1, 1), [9], 0, 1), case(2, (1, 1), [1], 0, 1), case(2, (4, 2), [2], 0, 1)]
    two = [case(1, (1, 1), ends, rank, 2) for ends in ([9], [2]) for rank in (0, 1)]
    return alone + two + [case(3, (4, 2), [5, 6, 15], rank, 4) for rank in range(4)]
