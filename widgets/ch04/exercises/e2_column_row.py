"""Exercise 04.2: what one tensor-parallel rank computes of a SwiGLU layer."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from widgets.core.exercise import Exercise

E = Exercise(
    "04.2",
    "feed_forward_rank",
    tolerance=1e-4,
    hints=(
        "The F channels in the middle are independent of each other: a rank can have some of them, "
        "whole. Which rows or columns of the three matrices belong to a channel?",
        "Rank r has channels r·F/ranks to (r+1)·F/ranks: those rows of w1 and of w3, and those "
        "columns of w2. It computes the layer as if it were a smaller one, and sums nothing.",
        "With cut = slice(r * F // ranks, (r + 1) * F // ranks): w1[cut] and w3[cut] make the "
        "gate and the proposal, w2[:, cut] brings them back.",
    ),
)
Cut = Callable[[int, int, int], slice]


def _equal_parts(size: int, rank: int, ranks: int) -> slice:
    return slice(rank * size // ranks, (rank + 1) * size // ranks)


@E.reference
def feed_forward_rank(
    x: Tensor,
    w1: Tensor,
    w2: Tensor,
    w3: Tensor,
    rank: int,
    ranks: int,
    *,
    gate: Cut = _equal_parts,
    up: Cut = _equal_parts,
    down: Cut = _equal_parts,
    share: Callable[[int], float] = lambda ranks: 1.0,
    squash: Callable[[Tensor], Tensor] = F.silu,
) -> Tensor:
    """This rank's term of the sum over ranks that is the layer."""
    size = len(w1)
    hidden = squash(x @ w1[gate(size, rank, ranks)].T) * (x @ w3[up(size, rank, ranks)].T)
    return share(ranks) * hidden @ w2[:, down(size, rank, ranks)].T


def _strided(size: int, rank: int, ranks: int) -> slice:
    return slice(rank, size, ranks)


def _first(size: int, rank: int, ranks: int) -> slice:
    return _equal_parts(size, 0, ranks)


def _next(size: int, rank: int, ranks: int) -> slice:
    return _equal_parts(size, (rank + 1) % ranks, ranks)


def _by_inputs(x: Tensor, w1: Tensor, w2: Tensor, w3: Tensor, rank: int, ranks: int) -> Tensor:
    cut = _equal_parts(x.shape[-1], rank, ranks)
    part = x[:, cut]
    return (F.silu(part @ w1[:, cut].T) * (part @ w3[:, cut].T)) @ w2.T


def _whole(x: Tensor, w1: Tensor, w2: Tensor, w3: Tensor, rank: int, ranks: int) -> Tensor:
    return (F.silu(x @ w1.T) * (x @ w3.T)) @ w2.T


E.mistake("every rank computes the whole layer", _whole).why(
    "Then the sum over the ranks is as many times too large. Each rank has its own channels."
)
E.mistake("the first matrices are cut by their inputs", _by_inputs).why(
    "A part of a sum is no channel: SiLU of a part is not a part of SiLU. Cut w1 and w3 by rows."
)
E.mistake("gate and proposal are cut differently", up=_strided).why(
    "A gate belongs to its channel: w1 and w3 need the very same rows."
)
E.mistake("the last matrix is cut differently", down=_strided).why(
    "The columns of w2 must be the channels that this rank has."
)
E.mistake("all ranks take the first part", gate=_first, up=_first, down=_first).why(
    "Each rank has another part: where does `rank` come in?"
)
E.mistake("w2 of another rank", down=_next).why(
    "The columns of w2 must be the channels that this rank has."
)
E.mistake("divided by the ranks", share=lambda ranks: 1 / ranks).why(
    "The ranks' results are added, not averaged."
)
E.mistake("ReLU for SiLU", squash=torch.relu).why("The layer is SwiGLU: the gate is SiLU.")


@E.cases
def _cases() -> list[tuple]:
    draw = torch.Generator().manual_seed(3)

    def case(tokens: int, dim: int, ffn: int, rank: int, ranks: int) -> tuple:
        shapes = ((tokens, dim), (ffn, dim), (dim, ffn), (ffn, dim))
        return (*(torch.randn(s, generator=draw) for s in shapes), rank, ranks)

    small = [case(1, 2, 4, rank, 2) for rank in (0, 1)]
    alone = [case(2, 3, 4, 0, 1)]
    return alone + small + [case(5, 8, 24, rank, 4) for rank in range(4)]
