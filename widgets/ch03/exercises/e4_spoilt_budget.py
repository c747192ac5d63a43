"""Exercise 03.4: six budgets, one of them trained badly. Which, and what does it cost?

The runs are planted: a known law with a floor, a little noise, and one budget whose loss is too
high, more so for large models. Its own parabola is as good as the others'; only beside them does
it stand out.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from operator import itemgetter

import numpy as np

from llama3lib.scaling import Parabola, Run, by_budget, fit_line, fit_parabola
from widgets.ch03.exercises.numbers import explain, near, numbers
from widgets.core.exercise import Exercise
from widgets.core.judge import Case, Mistake, run

E = Exercise(
    "03.4",
    "find_spoilt",
    hints=(
        "Bad training raises the whole curve of a budget, so the curve may look fine by itself. "
        "Look at the lowest losses of all budgets together: which one is out of line?",
        "Minimum of each budget first. Then leave out each budget in turn, fit a power law to "
        "the lowest losses of the others, and measure how far they are off. Where is that least? "
        "Without that budget fit the best sizes. (A law without a floor is good enough over so "
        "short a range.)",
        "curves = {c: fit_parabola(sizes, losses)} for each c of by_budget(runs). For each c: law "
        "= fit_line(others, lowest of others), and the sum of squares of log(lowest / "
        "law.predict). spoilt = the c with the least sum. The exponent is fit_line(budgets, best "
        "sizes).exponent over the others.",
    ),
)
TOLERANCE = 0.008
"""How far the exponent may be from that of the plain method; other honest ones differ by less."""
Runs = Sequence[Run]

# Planted runs ---------------------------------------------------------------------------------


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
    wide: float = 1.2,
    noise: float = 0.001,
) -> Planted:
    """Six runs at each budget, each budget three times the one before.

    above: loss over the floor at the smallest budget, and its exponent. spoil: share of the loss
    that is added at the place given, and how much faster it grows with ln size. wide: how far the
    sizes tried there lie from the best one, in ln size.
    """
    rng, runs = np.random.default_rng(seed), []
    unlike = noise * rng.uniform(0.8, 1.6, budgets)
    unlike[place] = 0.5 * noise  # so that no parabola fits worst because it is the spoilt one
    flops = [6e17 * 3.0**i for i in range(budgets)]
    for i, budget in enumerate(flops):
        best = 1.3e8 * (budget / 6e17) ** exponent
        lowest = floor + above[0] * (budget / 6e17) ** above[1]
        ends = wide if i == place else 1.2
        for away in np.linspace(-ends, ends, 6):
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
    """The spoilt budget at each place; nothing about a curve by itself tells it in all of them."""
    return (
        plant(1, 4, 0.5, budgets=5),
        plant(2, 0, 0.46),
        plant(3, 5, 0.54, spoil=(0.06, 0.5)),
        plant(4, 2, 0.5, floor=1.0, above=(2.0, -0.14), spoil=(0.055, 0.5)),
        plant(5, 1, 0.57, spoil=(0.1, 0.2)),
        plant(6, 4, 0.43, floor=1.5, spoil=(0.05, 0.3), wide=0.7),
        plant(7, 3, 0.52, budgets=5, spoil=(0.04, 0.5)),
    )


# What is right, and what is not ---------------------------------------------------------------


def _curve(found: Runs) -> Parabola:
    return fit_parabola([one.parameters for one in found], [one.loss for one in found])


def _best(found: Runs) -> float:
    return _curve(found).best


def _lowest(found: Runs) -> float:
    return _curve(found).lowest


def scatter(found: Runs) -> float:
    """Squared distances of the losses of one budget from their parabola."""
    curve = _curve(found)
    return sum((one.loss - curve.predict(one.parameters)) ** 2 for one in found)


def exponent_of(runs: Runs, best: Callable[[Runs], float] = _best) -> float:
    """Exponent of something of each budget's runs over FLOPs; left to itself of the best size."""
    groups = by_budget(runs)
    return fit_line(list(groups), [best(found) for found in groups.values()]).exponent


def _off_the_law(groups: Mapping[float, Runs]) -> float:
    """The budget without which the lowest losses lie best on a line."""
    lowest = {budget: _lowest(found) for budget, found in groups.items()}

    def left(without: float) -> float:
        rest = {budget: loss for budget, loss in lowest.items() if budget != without}
        law = fit_line(list(rest), list(rest.values()))
        return sum(math.log(loss / law.predict(budget)) ** 2 for budget, loss in rest.items())

    return min(groups, key=left)


def _most(score: Callable[[Runs], float]) -> Callable[[Mapping[float, Runs]], float]:
    """The budget whose runs have the highest score."""
    return lambda groups: max(groups, key=lambda budget: score(groups[budget]))


@E.reference
def find_spoilt(
    runs: Runs,
    *,
    spoilt: Callable[[Mapping[float, Runs]], float] = _off_the_law,
    exponent: Callable[[Runs, Runs], float] = lambda runs, rest: exponent_of(rest),
) -> tuple[float, float]:
    """The spoilt budget, and the exponent of the best size, from all runs and from the rest."""
    budget = spoilt(by_budget(runs))
    return budget, exponent(runs, [one for one in runs if one.budget != budget])


budget = E.part("spoilt budget")
budget.mistake("the budget whose parabola fits worst", spoilt=_most(scatter)).why(
    "Bad training moves all runs of a budget. Its own parabola may fit well; compare it with "
    "the other budgets."
)
budget.mistake("the budget of the highest loss", spoilt=_most(_lowest)).why(
    "A small budget has a high loss. Which one is too high for what was spent?"
)
budget.mistake("the budget of the lowest loss", spoilt=_most(lambda found: -_lowest(found))).why(
    "The largest budget has the lowest loss. Which one breaks the row?"
)
budget.mistake(
    "the budget whose losses spread most",
    spoilt=_most(lambda found: np.ptp([one.loss for one in found])),
).why("The spread of one curve depends on the sizes tried.")
budget.mistake("always the smallest budget", spoilt=min).why("It may be any of them.")
budget.mistake("always the largest budget", spoilt=max).why("It may be any of them.")

exponent = E.part("exponent")
exponent.mistake("the spoilt budget is left in", exponent=lambda runs, rest: exponent_of(runs)).why(
    "You know which one is spoilt. Fit the law to the others."
)
exponent.mistake(
    "the tokens' exponent, not the parameters'", exponent=lambda runs, rest: 1 - exponent_of(rest)
).why("The two add up to 1. That of the best parameters is asked for.")
exponent.mistake(
    "the tokens' exponent, with the spoilt budget left in",
    exponent=lambda runs, rest: 1 - exponent_of(runs),
).why("That of the best parameters is asked for, from the other budgets.")
exponent.mistake(
    "the exponent of the loss", exponent=lambda runs, rest: exponent_of(rest, _lowest)
).why("Which of the two laws is asked for: the best size, or its loss?")
exponent.mistake(
    "the best of the sizes tried",
    exponent=lambda runs, rest: exponent_of(
        rest, lambda found: min(found, key=lambda one: one.loss).parameters
    ),
).why("The minimum of each parabola lies between two sizes.")
exponent.mistake("one over the exponent", exponent=lambda runs, rest: 1 / exponent_of(rest)).why(
    "The budget stands on the x axis."
)
exponent.mistake(
    "the mean size of the runs",
    exponent=lambda runs, rest: exponent_of(
        rest, lambda found: float(np.mean([one.parameters for one in found]))
    ),
).why("Which size was tried says little. Which one was the best?")


@E.rule
def _finds_it_and_leaves_it_out(function: Callable) -> None:
    found = []
    for one in cases():
        result = run(function, Case((list(one.runs),), one.shows), "find_spoilt")
        found.append(numbers(result, ("spoilt budget", "exponent"), "find_spoilt", one.shows))
    budgets, exponents = zip(*found, strict=True)
    _check_budgets(budgets, exponents)
    _check_exponents(exponents)


def _check_budgets(budgets: Sequence[float], exponents: Sequence[float]) -> None:
    wrong = [i for i, one in enumerate(cases()) if not near(budgets[i], one.spoilt, 0.02)]
    if not wrong:
        return
    first = cases()[wrong[0]]
    shows, told = first.shows, f"Yours: {budgets[wrong[0]]:.4g}."
    if all(abs(b) < 3 and c > 1e6 for b, c in zip(budgets, exponents, strict=True)):
        why = "First the spoilt budget, then the exponent."
        raise Mistake("the two results are swapped", shows=shows, why=why)
    if all(b in range(7) for b in budgets):
        why = f"{told} Return its FLOPs, not its place."
        raise Mistake("a place, not a budget", shows=shows, why=why)
    if not any(near(budgets[wrong[0]], b, 0.02) for b in by_budget(first.runs)):
        raise Mistake("none of the budgets", shows=shows, why=told)
    explain(budget.mistakes, itemgetter(0), budgets, _inputs(), 0.02, shows)
    why = (
        f"{told} Right in {len(cases()) - len(wrong)} of {len(cases())} cases. Leave out each "
        "budget in turn: how well do the others lie on one law?"
    )
    raise Mistake("another budget is spoilt", shows=shows, why=why)


def _check_exponents(exponents: Sequence[float]) -> None:
    off = [abs(exponents[i] - exponent_of(one.clean)) for i, one in enumerate(cases())]
    wrong = [i for i, distance in enumerate(off) if distance > TOLERANCE]
    if wrong:
        shows = cases()[wrong[0]].shows
        explain(exponent.mistakes, itemgetter(1), exponents, _inputs(), 4e-3, shows)
        why = f"The budget is right, the exponent is not. Yours: {exponents[wrong[0]]:.3f}."
        raise Mistake("find_spoilt: another exponent", shows=shows, why=why)


def _inputs() -> list[tuple[Runs]]:
    return [(one.runs,) for one in cases()]
