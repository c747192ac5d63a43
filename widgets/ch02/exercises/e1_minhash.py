"""Exercise 02.1: MinHash signatures, and what they estimate."""

import random
from collections.abc import Callable, Sequence

from widgets.core.exercise import Exercise
from widgets.core.judge import Case

E = Exercise(
    "02.1",
    hints=(
        "Shuffle all numbers, and look who comes first. Two sets agree on the first one exactly "
        "as often as they overlap.",
        "A shuffle is x -> (a x + b) mod p. For each pair (a, b) take the least value over the "
        "set. Signatures are compared place by place, never as sets.",
        "[min((a * x + b) % p for x in shingles) for a, b in zip(factors, offsets)] and "
        "sum(s == t for s, t in zip(one, other)) / len(one).",
    ),
)
minhash, overlap = E.part("signature"), E.part("estimate")
_P = 2**61 - 1


@minhash.reference
def signature(
    shingles: set[int],
    factors: Sequence[int],
    offsets: Sequence[int],
    *,
    value: Callable[[set[int], int, int], int] = lambda s, a, b: min((a * x + b) % _P for x in s),
) -> list[int]:
    """One value of the set for each shuffle."""
    return [value(shingles, a, b) for a, b in zip(factors, offsets, strict=True)]


minhash.mistake(
    "the largest value is taken", value=lambda s, a, b: max((a * x + b) % _P for x in s)
)
minhash.mistake("the remainder is missing", value=lambda s, a, b: min(a * x + b for x in s)).why(
    "Without it the order is that of the numbers themselves: no shuffle."
)
minhash.mistake("the offset is missing", value=lambda s, a, b: min(a * x % _P for x in s))
minhash.mistake(
    "the least number is shuffled, not the numbers", value=lambda s, a, b: (a * min(s) + b) % _P
).why("First shuffle all, then take the least.")
minhash.mistake(
    "all values are kept",
    lambda s, factors, offsets: sorted((factors[0] * x + offsets[0]) % _P for x in s),
).why("One number for each shuffle: the least.")


@minhash.cases
def _cases() -> list[tuple | Case]:
    draw = random.Random(2)
    factors = [draw.randrange(1, _P) for _ in range(64)]
    offsets = [draw.randrange(_P) for _ in range(64)]
    some = {draw.randrange(2**60) for _ in range(50)}
    return [
        ({1}, [3], [5]),
        Case(({1, 2}, [2**60], [0]), "shingles={1, 2}, factors=[2**60], offsets=[0]"),
        Case(({3, 7}, [5, 2**60], [1, 9]), "shingles={3, 7}, factors=[5, 2**60], offsets=[1, 9]"),
        Case((some, factors, offsets), "50 shingles, 64 shuffles"),
    ]


def _equal(one: list[int], other: list[int]) -> list[bool]:
    return [s == t for s, t in zip(one, other, strict=True)]


@overlap.reference
def estimate(one: list[int], other: list[int]) -> float:
    """The share of places that are equal."""
    return sum(_equal(one, other)) / len(one)


overlap.mistake(
    "signatures are compared as sets",
    lambda one, other: len(set(one) & set(other)) / len(set(one) | set(other)),
).why("Place i of one belongs to place i of the other: both used the same shuffle.")
overlap.mistake(
    "equal places are counted, not their share", lambda one, other: sum(_equal(one, other))
)
overlap.mistake(
    "it stops at the first difference",
    lambda one, other: [*_equal(one, other), False].index(False) / len(one),
)
overlap.cases(
    [
        ([1, 2], [1, 3]),
        ([1, 2, 3], [2, 1, 3]),
        ([5, 6, 7, 8], [5, 6, 7, 8]),
        ([1, 2, 3, 4], [9, 2, 9, 4]),
    ]
)
