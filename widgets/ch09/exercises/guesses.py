"""Chapter 09, exercise 7: the exact law of a step of speculative decoding, right or wrong.

A step has three parts: when a guess is kept, what replaces the first one that is not, and what
follows if all are kept. A mistake is another function for one of them.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

Row = list[float]
Law = dict[tuple, float]


class Part(NamedTuple):
    """One part of a step. The right one has no name."""

    name: str
    function: Callable
    why: str = ""


def _over(row: Row) -> Row:
    """Divided by the sum; a row of zeros stays."""
    total = sum(row)
    return [value / total for value in row] if total > 0 else row


def _rest(p: Row, q: Row, guess: int) -> Row:
    return _over([max(a - b, 0.0) for a, b in zip(p, q, strict=True)])


def _missing_to(place: int) -> Callable[[Row, Row, int], Row]:
    """The rest not renormalised; what is missing to 1 falls on one place."""

    def rest(p: Row, q: Row, guess: int) -> Row:
        row = [max(a - b, 0.0) for a, b in zip(p, q, strict=True)]
        row[place] += 1 - sum(row)
        return row

    return rest


def _likeliest(row: Row) -> Row:
    best = row.index(max(row))
    return [float(i == best) for i in range(len(row))]


KEEPS = [
    Part("", lambda p, q: min(1.0, p / q)),
    Part(
        "all guesses are kept",
        lambda p, q: 1.0,
        "Then the draft writes, not the target.",
    ),
    Part(
        "only guesses with p >= q are kept",
        lambda p, q: float(p >= q),
        "A guess with p < q is refused always, and comes out too rarely. Keep it sometimes: with "
        "which chance?",
    ),
    Part(
        "no guess is kept",
        lambda p, q: 0.0,
        "The distribution may be right, but nothing is saved.",
    ),
    Part(
        "a guess is kept with the chance p",
        lambda p, q: p,
        "It was not drawn from all tokens alike, but with chance q. That has to be made up for.",
    ),
    Part(
        "the ratio is upside down",
        lambda p, q: min(1.0, q / p) if p > 0 else 1.0,
        "A guess that the target likes more than the draft does is always welcome.",
    ),
    Part(
        "a guess is kept with the chance of refusing it",
        lambda p, q: 1 - min(1.0, p / q),
        "Which way round is the comparison?",
    ),
]
RESTS = [
    Part("", _rest),
    Part(
        "a refused guess is replaced by a draw from the target's row",
        lambda p, q, guess: p,
        "The kept guesses have brought a part of that row already. What is left of it?",
    ),
    Part(
        "a refused guess is replaced by a draw from the draft's row",
        lambda p, q, guess: q,
        "The draft has had its guess.",
    ),
    Part(
        "only the refused guess is taken out of the target's row",
        lambda p, q, guess: _over([0.0 if i == guess else a for i, a in enumerate(p)]),
        "The other tokens have been guessed at other times, too. What has p more than q?",
    ),
    Part(
        "the rest is taken the wrong way round",
        lambda p, q, guess: _rest(q, p, guess),
        "What has the target more than the draft?",
    ),
    Part(
        "the rest has all differences, not only those above 0",
        lambda p, q, guess: _over([abs(a - b) for a, b in zip(p, q, strict=True)]),
        "Where the draft has more than the target, nothing is left over.",
    ),
    Part(
        "the rest is not renormalised",
        _missing_to(-1),
        "Its sum is less than 1, and what is missing falls on one token.",
    ),
    Part(
        "the rest is not renormalised",
        _missing_to(0),
        "Its sum is less than 1, and what is missing falls on one token.",
    ),
    Part(
        "the likeliest token of the rest is taken, not drawn",
        lambda p, q, guess: _likeliest(_rest(p, q, guess)),
        "Each token of the rest must come, as often as its share.",
    ),
]
BONUSES = [
    Part("", lambda draft, target: target[-1]),
    Part(
        "the bonus token is missing",
        lambda draft, target: None,
        "When all guesses are kept, the target has one row more. It was computed anyway.",
    ),
    Part(
        "the bonus token is drawn from the wrong row",
        lambda draft, target: target[-2],
        "The last row of target_probs follows the last guess.",
    ),
    Part(
        "the bonus token is drawn from the wrong row",
        lambda draft, target: draft[-2],
        "The draft has no row for it: the target does.",
    ),
    Part(
        "the bonus token is the likeliest, not drawn",
        lambda draft, target: _likeliest(target[-1]),
        "It is a token of the target like any other.",
    ),
]
RIGHT = (KEEPS[0].function, RESTS[0].function, BONUSES[0].function)


def law_of(
    guesses: Sequence[int],
    draft: list[Row],
    target: list[Row],
    keep: Callable[[float, float], float],
    rest: Callable[[Row, Row, int], Row],
    bonus: Callable[[list[Row], list[Row]], Row | None],
) -> Law:
    """How likely each result is, for these guesses. Both models have a row after the last guess."""
    law: Law = {}

    def add(result: tuple, chance: float) -> None:
        law[result] = law.get(result, 0.0) + chance

    reach, kept = 1.0, tuple(guesses)
    for place, guess in enumerate(guesses):
        p, q = target[place], draft[place]
        stays = keep(p[guess], q[guess])
        if stays < 1:
            for token, share in enumerate(rest(p, q, guess)):
                add((*kept[:place], token), reach * (1 - stays) * share)
        reach *= stays
    last = bonus(draft, target)
    if last is None:
        add(kept, reach)
        return law
    for token, share in enumerate(last):
        add((*kept, token), reach * share)
    return law
