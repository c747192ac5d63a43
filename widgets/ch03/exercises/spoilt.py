"""Chapter 03, exercise 4: six budgets, one of them trained badly. Which, and what does it cost?

The runs are planted: a known law with a floor, a little noise, and one budget whose loss is too
high, more so for large models. Its own parabola is as good as the others'; only beside them does
it stand out.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from llama3lib.scaling import Run, by_budget, fit_line, fit_parabola
from widgets.ch03.exercises.numbers import near, numbers
from widgets.core.judge import Case, Mistake, run

_WHAT = "find_spoilt"
_NAMES = ("spoilt budget", "exponent")
TOLERANCE = 0.008
"""How far the exponent may be from that of the plain method; other honest ones differ by less."""


@dataclass(frozen=True)
class Planted:
    """Runs, which budget of them is spoilt, and the exponent the others follow."""

    runs: tuple[Run, ...]
    spoilt: float
    exponent: float

    @property
    def shows(self) -> str:
        """The budgets in words."""
        told = ", ".join(f"{budget:.1e}" for budget in by_budget(self.runs))
        return f"runs of {len(by_budget(self.runs))} budgets ({told})"

    @property
    def clean(self) -> list[Run]:
        """The runs of the other budgets."""
        return [one for one in self.runs if one.budget != self.spoilt]


def plant(
    seed: int,
    place: int,
    exponent: float,
    *,
    budgets: int = 6,
    floor: float = 1.8,
    above: tuple[float, float] = (1.2, -0.16),
    spoil: tuple[float, float] = (0.045, 0.5),
    noise: float = 0.001,
) -> Planted:
    """Six runs at each budget, each budget three times the one before.

    above: loss over the floor at the smallest budget, and its exponent. spoil: share of the loss
    that is added at the place given, and how much faster it grows with ln size.
    """
    rng, runs = np.random.default_rng(seed), []
    unlike = noise * rng.uniform(0.8, 1.6, budgets)
    unlike[place] = 0.5 * noise  # so that no parabola fits worst because it is the spoilt one
    flops = [6e17 * 3.0**i for i in range(budgets)]
    for i, budget in enumerate(flops):
        best = 1.3e8 * (budget / 6e17) ** exponent
        lowest = floor + above[0] * (budget / 6e17) ** above[1]
        for away in np.linspace(-1.2, 1.2, 6):
            # sizes come from a coarse list, as real ones do
            size = round(math.exp(round((math.log(best) + away) / 0.12) * 0.12))
            off = math.log(size / best)
            loss = lowest + 0.05 * off**2
            if i == place:
                loss *= 1 + spoil[0] * (1 + spoil[1] * off)
            loss *= math.exp(unlike[i] * rng.normal())
            tokens = round(budget / (6 * size))
            runs.append(Run(parameters=size, tokens=tokens, loss=round(loss, 5), budget=budget))
    order = rng.permutation(len(runs))
    return Planted(tuple(runs[i] for i in order), flops[place], exponent)


@cache
def cases() -> tuple[Planted, ...]:
    """The spoilt budget at each place; in none is it the one of the worst parabola."""
    return (
        plant(1, 4, 0.5, budgets=5),
        plant(2, 0, 0.46),
        plant(3, 5, 0.54, spoil=(0.06, 0.5)),
        plant(4, 2, 0.5, floor=1.0, above=(2.0, -0.14), spoil=(0.055, 0.5)),
        plant(5, 1, 0.57, spoil=(0.04, 0.6)),
        plant(6, 4, 0.43, floor=1.5, spoil=(0.05, 0.6)),
        plant(7, 3, 0.52, budgets=5, spoil=(0.04, 0.5)),
    )


def exponent_of(
    runs: list[Run] | tuple[Run, ...],
    best: Callable[[list[Run]], float] = lambda found: (
        fit_parabola([one.parameters for one in found], [one.loss for one in found]).best
    ),
) -> float:
    """Exponent of something of each budget's runs over FLOPs; left to itself of the best size."""
    groups = by_budget(runs)
    return fit_line(list(groups), [best(found) for found in groups.values()]).exponent


def _lowest(found: list[Run]) -> float:
    return fit_parabola([one.parameters for one in found], [one.loss for one in found]).lowest


def _scatter(found: list[Run]) -> float:
    curve = fit_parabola([one.parameters for one in found], [one.loss for one in found])
    return sum((one.loss - curve.predict(one.parameters)) ** 2 for one in found)


def _spread(found: list[Run]) -> float:
    return max(one.loss for one in found) - min(one.loss for one in found)


def _pick(score: Callable[[list[Run]], float]) -> Callable[[Planted], float]:
    """The budget whose runs have the highest score."""

    def picked(one: Planted) -> float:
        groups = by_budget(one.runs)
        return max(groups, key=lambda budget: score(groups[budget]))

    return picked


_BUDGETS_KNOWN: tuple[tuple[str, Callable[[Planted], float], str], ...] = (
    (
        "the budget whose parabola fits worst",
        _pick(_scatter),
        "Bad training moves all runs of a budget. Its own parabola may fit well; compare it with "
        "the other budgets.",
    ),
    (
        "the budget of the highest loss",
        _pick(_lowest),
        "A small budget has a high loss. Which one is too high for what was spent?",
    ),
    (
        "the budget of the lowest loss",
        _pick(lambda found: -_lowest(found)),
        "The largest budget has the lowest loss. Which one breaks the row?",
    ),
    (
        "the budget whose losses spread most",
        _pick(_spread),
        "The spread of one curve depends on the sizes tried.",
    ),
)


def _best_tried(found: list[Run]) -> float:
    return min(found, key=lambda one: one.loss).parameters


_EXPONENTS_KNOWN: tuple[tuple[str, Callable[[Planted], float], str], ...] = (
    (
        "the spoilt budget is left in",
        lambda one: exponent_of(one.runs),
        "You know which one is spoilt. Fit the law to the others.",
    ),
    (
        "the tokens' exponent, not the parameters'",
        lambda one: 1 - exponent_of(one.clean),
        "The two add up to 1. That of the best parameters is asked for.",
    ),
    (
        "the tokens' exponent, with the spoilt budget left in",
        lambda one: 1 - exponent_of(one.runs),
        "That of the best parameters is asked for, from the other budgets.",
    ),
    (
        "the exponent of the loss",
        lambda one: exponent_of(one.clean, _lowest),
        "Which of the two laws is asked for: the best size, or its loss?",
    ),
    (
        "the best of the sizes tried",
        lambda one: exponent_of(one.clean, _best_tried),
        "The lowest point of each parabola lies between two sizes.",
    ),
    (
        "one over the exponent",
        lambda one: 1 / exponent_of(one.clean),
        "The budget stands on the x axis.",
    ),
    (
        "the mean size of the runs",
        lambda one: exponent_of(
            one.clean, lambda found: float(np.mean([run.parameters for run in found]))
        ),
        "Which size was tried says little. Which one was the best?",
    ),
)


def check_find_spoilt(answer: Callable) -> None:
    """03.4: find_spoilt(runs) -> (spoilt budget, exponent of the best parameters)."""
    found = []
    for one in cases():
        result = run(answer, Case((list(one.runs),), one.shows), _WHAT)
        found.append(numbers(result, _NAMES, _WHAT, one.shows))
    _check_budgets([budget for budget, _ in found], found)
    _check_exponents([exponent for _, exponent in found])


def _check_budgets(budgets: list[float], found: list[tuple[float, ...]]) -> None:
    planted = cases()
    if all(near(b, one.spoilt, 0.02) for b, one in zip(budgets, planted, strict=True)):
        return
    first = next(i for i, one in enumerate(planted) if not near(budgets[i], one.spoilt, 0.02))
    shows = planted[first].shows
    told = f"Yours: {budgets[first]:.4g}."
    if all(abs(b) < 3 and exponent > 1e6 for b, exponent in found):
        why = "First the spoilt budget, then the exponent."
        raise Mistake("the two results are swapped", shows=shows, why=why)
    if all(b in range(7) for b in budgets):
        why = f"{told} Return its FLOPs, not its place."
        raise Mistake("a place, not a budget", shows=shows, why=why)
    if not any(near(budgets[first], b, 0.02) for b in by_budget(planted[first].runs)):
        raise Mistake("none of the budgets", shows=shows, why=told)
    for name, function, why in _BUDGETS_KNOWN:
        if all(near(b, function(one), 0.02) for b, one in zip(budgets, planted, strict=True)):
            raise Mistake(name, shows=shows, why=why)
    for name, end in (("always the smallest budget", min), ("always the largest budget", max)):
        if all(
            near(b, end(by_budget(p.runs)), 0.02) for b, p in zip(budgets, planted, strict=True)
        ):
            raise Mistake(name, shows=shows, why="It may be any of them.")
    held = sum(near(b, one.spoilt, 0.02) for b, one in zip(budgets, planted, strict=True))
    why = (
        f"{told} Right in {held} of {len(planted)} cases. Leave out each budget in turn: how well "
        "do the others lie on one law?"
    )
    raise Mistake("another budget is spoilt", shows=shows, why=why)


def _check_exponents(exponents: list[float]) -> None:
    planted = cases()
    want = [exponent_of(one.clean) for one in planted]
    pairs = list(zip(exponents, want, strict=True))
    wrong = [i for i, (got, right) in enumerate(pairs) if abs(got - right) > TOLERANCE]
    if not wrong:
        return
    shows = planted[wrong[0]].shows
    for name, function, why in _EXPONENTS_KNOWN:
        theirs = [function(one) for one in planted]
        if all(abs(got - t) < 2e-3 for got, t in zip(exponents, theirs, strict=True)):
            raise Mistake(name, shows=shows, why=why)
    why = f"The budget is right, the exponent is not. Yours: {exponents[wrong[0]]:.3f}."
    raise Mistake(f"{_WHAT}: another exponent", shows=shows, why=why)
