"""Exercise 01.2: RoPE in both layouts, and the order of channels between them.

The neighbour layout is judged by `llama3lib.model.rope.apply_rotary_emb`, the halves layout by
the same function behind a change of order.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from llama3lib.model.rope import apply_rotary_emb, interleaved_to_half, rope_frequencies
from widgets.core.exercise import Exercise, Part
from widgets.core.forms import brief, like
from widgets.core.judge import Case, Mistake, run

E = Exercise(
    "01.2",
    hints=(
        "Turning a pair by an angle is one formula. The two layouts only disagree about who is "
        "whose partner.",
        "Make the table of angles first: one row for each position, one column for each pair. "
        "Then pick firsts and seconds: every other channel, or first half and second half. "
        "Turn, and put both back where they came from.",
        "a, b = x[:, 0::2], x[:, 1::2] or a, b = x.chunk(2, -1); new a is a*cos - b*sin, new b "
        "is a*sin + b*cos. Put back with torch.stack((a, b), -1).flatten(-2), or torch.cat. "
        "The order lists all even channels, then all odd ones.",
    ),
)
neighbours = E.part("rotate_neighbours", tolerance=1e-3)
halves = E.part("rotate_halves", tolerance=1e-3)
order = E.part(
    "halves_order",
    otherwise=(
        "halves_order: the layouts do not meet",
        "Turning x[..., order] by halves must be turning x by neighbours.",
    ),
)


def turn_neighbours(x: Tensor, positions: Tensor, freqs: Tensor) -> Tensor:
    """Channel 2i with channel 2i + 1, as the library turns them."""
    angles = torch.outer(positions.double(), freqs.double())
    turn = torch.polar(torch.ones_like(angles), angles)
    return apply_rotary_emb(x[None, :, None], turn[None])[0, :, 0]


def channel_order(head_dim: int) -> list[int]:
    """Channel of the neighbour layout that stands at each place of the halves layout."""
    return interleaved_to_half(torch.arange(float(head_dim)), 1).int().tolist()


def turn_halves(x: Tensor, positions: Tensor, freqs: Tensor) -> Tensor:
    """Channel i with channel i + H/2."""
    index = torch.tensor(channel_order(x.shape[-1]))
    return turn_neighbours(x[:, index.argsort()], positions, freqs)[:, index]


def _cases() -> list[tuple]:
    draw = torch.Generator().manual_seed(3)
    one = torch.ones(1, dtype=torch.float64)
    sent = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    wide = torch.tensor([[1.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    cases: list[tuple] = [
        (sent, torch.tensor([1]), one),
        (sent, torch.tensor([0]), one),
        (wide, torch.tensor([1]), torch.tensor([1.0, 0.01], dtype=torch.float64)),
    ]
    for length, head_dim in ((2, 4), (3, 6), (5, 16)):
        x = torch.randn(length, head_dim, generator=draw, dtype=torch.float64)
        positions = torch.randint(2, 900, (length,), generator=draw)
        cases.append((x, positions, rope_frequencies(head_dim, 500_000.0) * 0.9))
    return cases


def _judge_turns(part: Part, right: Callable, other: Callable, firsts: Callable, pair: str) -> None:
    """Cases and mistakes of one layout. firsts: which channels come first in their pairs."""

    def both_plus(x: Tensor, p: Tensor, f: Tensor) -> Tensor:
        return torch.where(firsts(x.shape[-1]), right(x, -p, f), right(x, p, f))

    part.reference(right)
    part.mistake("wrong pairing of channels", other).why(
        f"In this layout channel 0 turns together with channel {pair}."
    )
    part.mistake("the pairs turn the wrong way", lambda x, p, f: right(x, -p, f)).why(
        "A positive angle turns the first channel towards the second."
    )
    part.mistake(
        "the position is off by one",
        lambda x, p, f: right(x, p + 1, f),
        lambda x, p, f: right(x, p - 1, f),
    ).why("The first token is at position 0 and must not turn at all.")
    part.mistake(
        "the row number is used as the position", lambda x, p, f: right(x, torch.arange(len(p)), f)
    ).why("Use the positions you are given: a row need not start at 0.")
    part.mistake(
        "the frequencies are ignored",
        lambda x, p, f: right(x, p, rope_frequencies(x.shape[-1], 10_000.0)),
    ).why("Use the freqs you are given: they may be scaled, and their base is not 10,000.")
    part.mistake(
        "the frequencies stand in reverse order", lambda x, p, f: right(x, p, f.flip(0))
    ).why("The first pair is the fastest.")
    part.mistake("a minus sign is missing", both_plus).why(
        "A turn keeps the length of every pair; check yours."
    )
    part.cases(_cases)


_judge_turns(
    neighbours, turn_neighbours, turn_halves, lambda size: torch.arange(size) % 2 == 0, "1"
)
neighbours.mistake(
    "the pairs are not put back beside each other",
    lambda x, p, f: turn_neighbours(x, p, f)[:, torch.tensor(channel_order(x.shape[-1]))],
).why("First and second channels must come out in the places they came from.")
_judge_turns(
    halves, turn_halves, turn_neighbours, lambda size: torch.arange(size) < size // 2, "H/2"
)


@order.rule
def _is_a_permutation(function: Callable) -> None:
    for head_dim in (2, 4, 6, 16, 128):
        shows = f"halves_order({head_dim})"
        got = like(run(function, Case((head_dim,), shows), "halves_order"), list(range(head_dim)))
        is_row = isinstance(got, list) and len(got) == head_dim
        if not is_row or not all(channel in got for channel in range(head_dim)):
            why = f"Every channel 0 to {head_dim - 1} must stand there once; yours: {brief(got)}."
            raise Mistake("halves_order: not a permutation", shows=shows, why=why)


order.reference(channel_order)
order.mistake(
    "halves_order: this is the inverse",
    lambda head_dim: torch.tensor(channel_order(head_dim)).argsort().tolist(),
).why("It takes the halves layout back to neighbours (at head size 4 both are the same).")
order.mistake("halves_order: nothing moves", lambda head_dim: list(range(head_dim))).why(
    "Pairs must come apart."
)
order.cases([(2,), (4,), (6,), (16,), (128,)])
