"""Chapter 01, exercise 3: RoPE in both layouts, and the order of channels between them.

The neighbour layout is judged by `llama3lib.model.rope.apply_rotary_emb`, the halves layout by
the same function behind a change of order.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from llama3lib.model.rope import apply_rotary_emb, interleaved_to_half, rope_frequencies
from widgets.core.judge import Case, Known, Mistake, brief, diagnose, functions_of, run, same


def _neighbours(x: Tensor, positions: Tensor, freqs: Tensor) -> Tensor:
    angles = torch.outer(positions.double(), freqs.double())
    turn = torch.polar(torch.ones_like(angles), angles)
    return apply_rotary_emb(x[None, :, None], turn[None])[0, :, 0]


def _order(head_dim: int) -> list[int]:
    """Channel of the neighbour layout that stands at each place of the halves layout."""
    return interleaved_to_half(torch.arange(float(head_dim)), 1).int().tolist()


def _halves(x: Tensor, positions: Tensor, freqs: Tensor) -> Tensor:
    order = torch.tensor(_order(x.shape[-1]))
    return _neighbours(x[:, order.argsort()], positions, freqs)[:, order]


def _cases() -> list[Case]:
    draw = torch.Generator().manual_seed(3)
    one = torch.ones(1, dtype=torch.float64)
    sent = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    cases = [
        Case((sent, torch.tensor([1]), one), "x=[[1, 0]], positions=[1], freqs=[1.0]"),
        Case((sent, torch.tensor([0]), one), "x=[[1, 0]], positions=[0], freqs=[1.0]"),
        Case(
            (
                torch.tensor([[1.0, 0.0, 0.0, 0.0]], dtype=torch.float64),
                torch.tensor([1]),
                torch.tensor([1.0, 0.01], dtype=torch.float64),
            ),
            "x=[[1, 0, 0, 0]], positions=[1], freqs=[1.0, 0.01]",
        ),
    ]
    for length, head_dim in ((2, 4), (3, 6), (5, 16)):
        x = torch.randn(length, head_dim, generator=draw, dtype=torch.float64)
        positions = torch.randint(2, 900, (length,), generator=draw)
        freqs = rope_frequencies(head_dim, 500_000.0) * 0.9
        shows = f"x of shape [{length}, {head_dim}], positions={positions.tolist()}"
        cases.append(Case((x, positions, freqs), shows))
    return cases


def _mistakes(right: Callable, other: Callable, pairing: str) -> list[Known]:
    def own_freqs(x: Tensor, p: Tensor, f: Tensor) -> Tensor:
        return right(x, p, rope_frequencies(x.shape[-1], 10_000.0))

    def both_plus(x: Tensor, p: Tensor, f: Tensor) -> Tensor:
        first = torch.arange(x.shape[-1]) % 2 == 0
        if pairing != "1":
            first = torch.arange(x.shape[-1]) < x.shape[-1] // 2
        return torch.where(first, right(x, -p, f), right(x, p, f))

    return [
        Known(
            "wrong pairing of channels",
            other,
            f"In this layout channel 0 turns together with channel {pairing}.",
        ),
        Known(
            "the pairs turn the wrong way",
            lambda x, p, f: right(x, -p, f),
            "A positive angle turns the first channel towards the second.",
        ),
        Known(
            "the position is off by one",
            lambda x, p, f: right(x, p + 1, f),
            "The first token is at position 0 and must not turn at all.",
        ),
        Known(
            "the position is off by one",
            lambda x, p, f: right(x, p - 1, f),
            "The first token is at position 0 and must not turn at all.",
        ),
        Known(
            "the row number is used as the position",
            lambda x, p, f: right(x, torch.arange(len(p)), f),
            "Use the positions you are given: a row need not start at 0.",
        ),
        Known(
            "the frequencies are ignored",
            own_freqs,
            "Use the freqs you are given: they may be scaled, and their base is not 10,000.",
        ),
        Known(
            "the frequencies stand in reverse order",
            lambda x, p, f: right(x, p, f.flip(0)),
            "The first pair is the fastest.",
        ),
        Known(
            "a minus sign is missing",
            both_plus,
            "A turn keeps the length of every pair; check yours.",
        ),
    ]


def _left_apart(x: Tensor, positions: Tensor, freqs: Tensor) -> Tensor:
    return _neighbours(x, positions, freqs)[:, torch.tensor(_order(x.shape[-1]))]


_APART = Known(
    "the pairs are not put back beside each other",
    _left_apart,
    "First and second channels must come out in the places they came from.",
)


def check_rope(answer: object) -> None:
    """01.3: dict(rotate_neighbours=..., rotate_halves=..., halves_order=...)."""
    names = ("rotate_neighbours", "rotate_halves", "halves_order")
    neighbours, halves, order = functions_of(answer, names)
    cases = _cases()
    known = [*_mistakes(_neighbours, _halves, "1"), _APART]
    diagnose(neighbours, _neighbours, cases, known, what=names[0], tolerance=1e-3)
    known = _mistakes(_halves, _neighbours, "H/2")
    diagnose(halves, _halves, cases, known, what=names[1], tolerance=1e-3)
    _check_order(order)


def _check_order(order: Callable) -> None:
    for head_dim in (2, 4, 6, 16, 128):
        shows = f"halves_order({head_dim})"
        got = run(order, Case((head_dim,), shows), "halves_order")
        got = got.tolist() if isinstance(got, Tensor) else got
        got = list(got) if isinstance(got, tuple | range) else got
        if not isinstance(got, list) or sorted(got) != list(range(head_dim)):
            why = f"Every channel 0 to {head_dim - 1} must stand there once; yours: {brief(got)}."
            raise Mistake("halves_order: not a permutation", shows=shows, why=why)
        if got == _order(head_dim):
            continue
        inverse = torch.tensor(_order(head_dim)).argsort().tolist()
        if got == inverse:
            why = (
                "It takes the halves layout back to neighbours (at head size 4 both are the same)."
            )
            raise Mistake("halves_order: this is the inverse", shows=shows, why=why)
        if got == list(range(head_dim)):
            raise Mistake("halves_order: nothing moves", shows=shows, why="Pairs must come apart.")
        why = f"Turning x[..., order] by halves must be turning x by neighbours; yours: {got[:8]}."
        raise Mistake("halves_order: the layouts do not meet", shows=shows, why=why)


def rotations_agree(neighbours: Callable, halves: Callable, order: list[int]) -> bool:
    """True if both layouts give one result behind the order. The chapter prints it."""
    x, positions, freqs = _cases()[-1].inputs
    index = torch.tensor(order)
    return same(halves(x[:, index], positions, freqs), neighbours(x, positions, freqs)[:, index])
