"""Exercise 09.7: two random models of few tokens, the exact law of a step that uses both, and what
came out against it."""

import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from widgets.core.judge import Mistake

DRAWS = 2000
FAILS = 1e-6
"""Chance with which a right answer fails a test."""
Row = list[float]
Law = dict[tuple, float]


@dataclass(frozen=True)
class World:
    """A draft and a target that see only the token before: rows of chances, the first one row 0."""

    draft: Tensor
    target: Tensor
    """[V + 1, V]: row 0 begins a text, row 1 + t follows token t."""
    num_guesses: int

    @classmethod
    def of(cls, size: int, num_guesses: int, seed: int) -> "World":
        draw = torch.Generator().manual_seed(seed)
        rows = torch.rand(2, size + 1, size, generator=draw) ** 2 + 0.02
        return cls(*(rows / rows.sum(-1, keepdim=True)), num_guesses)

    @property
    def size(self) -> int:
        return self.draft.shape[1]

    def rows(self, model: Tensor, guesses: Sequence[int]) -> Tensor:
        """The model's row before each guess, and after the last one."""
        return model[[0, *(1 + guess for guess in guesses)]]

    def chance(self, model: Tensor, text: Sequence[int]) -> float:
        """How likely a text is."""
        rows = self.rows(model, text[:-1])
        return math.prod(float(row[token]) for row, token in zip(rows, text, strict=True))

    def texts(self, length: int) -> Iterator[tuple[int, ...]]:
        return product(range(self.size), repeat=length)

    @property
    def shows(self) -> str:
        rows = [[round(v, 2) for v in model[0].tolist()] for model in (self.draft, self.target)]
        return (
            f"G={self.num_guesses}, V={self.size}, first row of draft_probs {rows[0]}, "
            f"of target_probs {rows[1]}"
        )


def law_of(
    guesses: Sequence[int],
    draft: list[Row],
    target: list[Row],
    keep: Callable[[float, float], float],
    rest: Callable[[Row, Row, int], Row],
    bonus: Callable[[list[Row], list[Row]], Row | None],
) -> Law:
    """How likely each result is, for these guesses and the rows that a learner gets."""
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


def p_value(counts: Counter, law: Law) -> float:
    """Chance of a fit at least as bad, by chi-square; cells with few expected are put together."""
    total = sum(counts.values())
    if any(law.get(cell, 0.0) <= 0 for cell in counts):
        return 0.0
    square, cells, few, few_seen = 0.0, 0, 0.0, 0
    for cell, chance in law.items():
        expected, seen = total * chance, counts.get(cell, 0)
        if expected < 5:
            few, few_seen = few + expected, few_seen + seen
        else:
            square, cells = square + (seen - expected) ** 2 / expected, cells + 1
    if few > 0:
        square, cells = square + (few_seen - few) ** 2 / max(few, 1.0), cells + 1
    if cells < 2:
        return 1.0
    halves = torch.tensor([(cells - 1) / 2, square / 2], dtype=torch.float64)
    return float(torch.special.gammaincc(*halves))


def expected(world: World, parts: tuple) -> Law:
    """The law of guesses and results together, for a step made of these parts."""
    law: Law = {}
    for guesses in world.texts(world.num_guesses):
        chance = world.chance(world.draft, guesses)
        draft, target = (world.rows(m, guesses).tolist() for m in (world.draft, world.target))
        for result, share in law_of(guesses, draft[:-1], target, *parts).items():
            if share > 0:
                law[guesses, result] = chance * share
    return law


@dataclass
class Seen:
    """What came out in one world."""

    world: World
    counts: Counter
    """(guesses, result) -> how often."""


def trouble(seen: Seen, right: tuple) -> Mistake | None:
    """The first test that fails in a world.

    right: the parts of a right step.
    """
    world, rng = seen.world, random.Random(9)
    whole: Counter = Counter()
    for (_, result), count in seen.counts.items():
        for _ in range(count):
            text = list(result)
            while len(text) <= world.num_guesses:  # the target writes what is missing, alone
                row = world.target[1 + text[-1]].tolist()
                text += rng.choices(range(world.size), row)
            whole[tuple(text)] += 1
    places = ("the first token", "the first two tokens", "the first three tokens")
    for length, name in enumerate(places[: world.num_guesses + 1], start=1):
        counts: Counter = Counter()
        for text, count in whole.items():
            counts[text[:length]] += count
        law = {text: world.chance(world.target, text) for text in world.texts(length)}
        if p_value(counts, law) < FAILS:
            shares = {t: round(n / DRAWS, 2) for t, n in sorted(counts.items())}
            told = f" Yours: {shares}." if len(shares) < 5 else ""
            why = f"In {DRAWS:,} steps they are distributed otherwise than by the target.{told}"
            return Mistake(f"{name}: another distribution", shows=world.shows, why=why)
    return _kept_enough(seen, right)


def _kept_enough(seen: Seen, right: tuple) -> Mistake | None:
    """Whether as many guesses are kept as a right step keeps."""
    law = expected(seen.world, right).items()
    mean = sum(chance * (len(result) - 1) for (_, result), chance in law)
    square = sum(chance * (len(result) - 1) ** 2 for (_, result), chance in law)
    kept = sum(count * (len(result) - 1) for (_, result), count in seen.counts.items()) / DRAWS
    if kept > mean - 5 * math.sqrt((square - mean**2) / DRAWS):
        return None
    why = f"On average {kept:.2f} are kept; as many as {mean:.2f} could be, with the same law."
    return Mistake("guesses are refused that could be kept", shows=seen.world.shows, why=why)
