"""Chapter 09, exercise 7: speculative decoding that is distributed as the target alone.

Two random models of few tokens write many short texts, the draft guessing for the target. Three
things are tested: the law of the first tokens against that of the target alone, the number of
guesses that are kept, and that all randomness comes from the generator. If a test fails, the exact
laws of known mistakes are compared with what was seen.
"""

import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from numbers import Integral

import torch
from torch import Tensor

from widgets.ch09.exercises.guesses import BONUSES, KEEPS, RESTS, RIGHT, Law, law_of
from widgets.core.judge import Case, Mistake, run

_WHAT = "speculative_step"
DRAWS = 2000
_FAILS, _EXPLAINS = 1e-6, 1e-4
"""A right answer fails a test with chance 1e-6; a mistake is named if what was seen has a chance
above 1e-4 under its law."""


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


WORLDS = (World.of(2, 1, 1), World.of(3, 2, 2), World.of(4, 2, 3))


@dataclass
class Seen:
    """What came out in one world."""

    world: World
    counts: Counter
    """(guesses, result) -> how often."""


def check_speculative_step(answer: Callable) -> None:
    """09.7: speculative_step(guesses, draft_probs, target_probs, generator)."""
    _check_dice(answer)
    seen = [_watch(answer, world) for world in WORLDS]
    trouble = next(filter(None, (_test(one) for one in seen)), None) or _sure(answer)
    if trouble is None:
        return
    name, why, shows = trouble
    if known := _known(seen):
        name, why = known
    raise Mistake(name, shows=shows, why=why)


def _step(
    answer: Callable,
    guesses: Sequence[int],
    draft: Tensor,
    target: Tensor,
    dice: torch.Generator,
    shows: str,
) -> tuple[int, ...]:
    """One call; its result as whole numbers. Raises Mistake for another form."""
    given = list(guesses), draft.clone(), target.clone(), dice
    found = run(lambda: answer(*given), Case((), shows), _WHAT)
    shows = f"guesses={list(guesses)}; {shows}"
    if isinstance(found, Tensor) and found.dim() == 1:
        found = found.tolist()
    if not isinstance(found, list | tuple):
        why = f"{type(found).__name__} came."
        raise Mistake(f"{_WHAT}: a list of tokens is needed", shows=shows, why=why)
    tokens = [t.item() if isinstance(t, Tensor) and t.numel() == 1 else t for t in found]
    if not all(isinstance(t, Integral) and not isinstance(t, bool) for t in tokens):
        why = f"{found!r:.60} came."
        raise Mistake(f"{_WHAT}: whole numbers are needed", shows=shows, why=why)
    if not all(0 <= t < draft.shape[1] for t in tokens):
        why = f"{tokens} came."
        raise Mistake(f"{_WHAT}: a token that is not in the vocabulary", shows=shows, why=why)
    if not tokens:
        why = "A refused guess is replaced, so that each step brings one token at least."
        raise Mistake("a refused guess is not replaced", shows=shows, why=why)
    if len(tokens) > len(guesses) + 1 or tokens[:-1] != list(guesses)[: len(tokens) - 1]:
        why = (
            f"{tokens} came. All but the last token must be the first guesses, as they are: rows "
            "after a refused guess belong to a text that is not there."
        )
        raise Mistake("it goes on after a refused guess", shows=shows, why=why)
    return tuple(int(t) for t in tokens)


def _check_dice(answer: Callable) -> None:
    """Equal generators give equal results, the generator moves, and the global dice do not."""
    world, moved = WORLDS[0], False
    for seed in range(20):
        guesses, results = [seed % 2], set()
        rows = world.rows(world.draft, guesses)[:1], world.rows(world.target, guesses)
        for _ in range(3):
            dice, before = torch.Generator().manual_seed(seed), torch.get_rng_state()
            start = dice.get_state()
            results.add(_step(answer, guesses, *rows, dice, world.shows))
            moved = moved or not torch.equal(dice.get_state(), start)
            if not torch.equal(before, torch.get_rng_state()):
                why = "Hand `generator=generator` to each function that draws."
                raise Mistake("other dice than the generator's", shows=world.shows, why=why)
        if len(results) > 1:
            why = "The same inputs and a generator of the same seed gave different results."
            raise Mistake("other dice than the generator's", shows=world.shows, why=why)
    if not moved:
        why = (
            "It is in the same state after each call as before. Whether a guess is kept is drawn, "
            "and so is the token after it."
        )
        raise Mistake("the generator is not used", shows=world.shows, why=why)


def _watch(answer: Callable, world: World) -> Seen:
    """Let the draft guess and the learner's function judge, many times."""
    texts = list(world.texts(world.num_guesses))
    chances = torch.tensor([world.chance(world.draft, text) for text in texts])
    dice = torch.Generator().manual_seed(100 + world.size)
    drawn = torch.multinomial(chances, DRAWS, replacement=True, generator=dice).tolist()
    rows = [(world.rows(world.draft, t)[:-1], world.rows(world.target, t)) for t in texts]
    counts: Counter = Counter()
    for number in drawn:
        result = _step(answer, texts[number], *rows[number], dice, world.shows)
        counts[texts[number], result] += 1
    return Seen(world, counts)


def _test(seen: Seen) -> tuple[str, str, str] | None:
    """Name, explanation and input of the first test that fails in a world."""
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
        if p_value(counts, law) < _FAILS:
            shares = {t: round(n / DRAWS, 2) for t, n in sorted(counts.items())}
            told = f" Yours: {shares}." if len(shares) < 5 else ""
            why = f"In {DRAWS:,} steps they are distributed otherwise than by the target.{told}"
            return f"{name}: another distribution", why, world.shows
    return _kept_enough(seen)


def _kept_enough(seen: Seen) -> tuple[str, str, str] | None:
    """Whether as many guesses are kept as a right step keeps."""
    right = _expected(seen.world, RIGHT)
    mean = sum(chance * (len(result) - 1) for (_, result), chance in right.items())
    square = sum(chance * (len(result) - 1) ** 2 for (_, result), chance in right.items())
    kept = sum(count * (len(result) - 1) for (_, result), count in seen.counts.items()) / DRAWS
    if kept > mean - 5 * math.sqrt((square - mean**2) / DRAWS):
        return None
    why = f"On average {kept:.2f} are kept; as many as {mean:.2f} could be, with the same law."
    return "guesses are refused that could be kept", why, seen.world.shows


def _sure(answer: Callable) -> tuple[str, str, str] | None:
    """Rows of zeros and a one leave nothing to chance; nor do equal models."""
    eye, dice = torch.eye(3), torch.Generator().manual_seed(4)
    for guesses, written in (([0], [1, 2]), ([1, 2], [1, 2, 0]), ([1, 2], [1, 0, 0])):
        same = next((i for i, g in enumerate(guesses) if g != written[i]), len(guesses))
        shows = f"greedy: guesses={guesses}, likeliest of each target row {written}"
        found = _step(answer, guesses, eye[guesses], eye[written], dice, shows)
        if found != tuple(written[: same + 1]):
            why = f"{list(found)} came. Rows of zeros and a one leave nothing to chance."
            return "greedy rows give another text than the target's", why, shows
    return None


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


def _expected(world: World, parts: tuple) -> Law:
    """The law of guesses and results together, for a step made of these parts."""
    law: Law = {}
    for guesses in world.texts(world.num_guesses):
        chance = world.chance(world.draft, guesses)
        draft, target = (world.rows(m, guesses).tolist() for m in (world.draft, world.target))
        for result, share in law_of(guesses, draft, target, *parts).items():
            if share > 0:
                law[guesses, result] = chance * share
    return law


def _known(seen: Sequence[Seen]) -> tuple[str, str] | None:
    """The mistake that explains all worlds with the fewest changes to a right step."""
    parts = sorted(product(KEEPS, RESTS, BONUSES), key=lambda p: sum(x.name != "" for x in p))
    for chosen in parts:
        functions = tuple(part.function for part in chosen)
        if all(p_value(s.counts, _expected(s.world, functions)) > _EXPLAINS for s in seen):
            told = next((part for part in chosen if part.name), None)
            return (told.name, told.why) if told else None
    return None
