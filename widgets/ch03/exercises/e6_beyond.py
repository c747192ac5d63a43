"""Exercise 03.6: the loss of a run ten times beyond all others, and how sure one is.

Two kinds of runs: planted ones, whose law is known, and those of the toy sweep, whose held-out runs
were really made. They come as bare numbers: the fit is the exercise.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from operator import itemgetter

import numpy as np
from jaxtyping import Float

from llama3lib.scaling import (
    ParametricLaw,
    Run,
    by_budget,
    fit_isoflop,
    fit_line,
    fit_parabola,
    read_runs,
    stored_path,
)
from widgets.ch03.exercises.numbers import explain, near, numbers
from widgets.core.exercise import Exercise
from widgets.core.judge import Case, Mistake, run

E = Exercise(
    "03.6",
    "predict_loss",
    hints=(
        "With both axes logarithmic the lowest losses bend, and a ruler misses the bend. What does "
        "the loss go to, if compute has no end? And for the interval: the same as in 03.2, but all "
        "the way to the end.",
        "Minimum of each budget; then a law with three unknowns: floor + coefficient · "
        "flops ** exponent. For each floor the rest is a straight line in logarithms; take the "
        "floor with which the points lie best on it. For the interval: noise on the runs, new "
        "parabolas, new law, many times. What five runs leave over a parabola is too small: "
        "divide its squares by 5 - 3, not by 5.",
        "for floor in np.linspace(0, least, 300, endpoint=False): a line through np.log(lowest - "
        "floor) over np.log(budgets), its squared misses in the loss itself; keep the best. Draws: "
        "fitted + rng.normal(0, sqrt(left @ left / 2), 5) for each parabola, then all of it again. "
        "The middle plus and minus 2.2 standard deviations of the draws will do.",
    ),
)
ALLOWED = 0.02
WIDEST = 0.04
"""Of the loss: an interval wider than this says nothing."""
TIMES = 2.5
"""So many times the width that the planted noise allows, at most."""
HELD = 8
"""Intervals that must hold the loss."""
HELD_OUT = ("toy-held-out", "toy-ten-times")
"""Stored runs far beyond the toy sweep: four times, and ten times."""
_LAWS = (
    (ParametricLaw(E=1.82, A=482.0, B=2085.0, alpha=0.348, beta=0.366), 1e16, 4.0),
    (ParametricLaw(E=2.4, A=2000.0, B=8000.0, alpha=0.45, beta=0.45), 1e15, 3.0),
    (ParametricLaw(E=1.2, A=300.0, B=900.0, alpha=0.30, beta=0.34), 1e18, 5.0),
    (ParametricLaw(E=1.7, A=400.0, B=3000.0, alpha=0.30, beta=0.42), 1e16, 4.0),
)
_NOISE = 0.0005

Points = Float[np.ndarray, "M 3"]


@dataclass(frozen=True)
class Planned:
    """Runs, a budget beyond them, and the loss that came out there."""

    runs: tuple[Run, ...]
    flops: float
    loss: float
    made: bool
    """Whether the run was really made; else its law is planted."""

    @property
    def case(self) -> Case:
        """What the learner gets: budget, parameters and loss of each run, and the budget beyond."""
        points = np.array([(run.budget, run.parameters, run.loss) for run in self.runs])
        told = ", ".join(f"{budget:.1e}" for budget in by_budget(self.runs))
        kind = "the toy sweep's runs" if self.made else "planted runs"
        return Case((points, self.flops), f"{kind} at {told}; flops={self.flops:.2e}")


def plant(law: ParametricLaw, first: float, ratio: float, seed: int) -> Planned:
    """Four budgets of five sizes around the best one, with noise, and the law's optimum beyond."""
    rng, runs = np.random.default_rng(seed), []
    budgets = [first * ratio**i for i in range(4)]
    for budget in budgets:
        best, _ = law.optimum(budget)
        for away in np.linspace(-1, 1, 5):
            size = round(best * math.exp(away))
            tokens = round(budget / (6 * size))
            loss = law.predict(size, tokens) * math.exp(_NOISE * rng.normal())
            runs.append(Run(parameters=size, tokens=tokens, loss=round(loss, 5), budget=budget))
    flops = 10 * budgets[-1]
    return Planned(tuple(runs), flops, law.predict(*law.optimum(flops)), made=False)


@cache
def cases() -> tuple[Planned, ...]:
    """Planted laws first, then each seed of the toy sweep with each of its held-out runs."""
    found = [plant(*told, seed=60 + i) for i, told in enumerate(_LAWS)]
    runs = read_runs(stored_path("toy"))
    for name in HELD_OUT:
        for beyond in read_runs(stored_path(name)):
            mine = tuple(one for one in runs if one.seed == beyond.seed)
            found.append(Planned(mine, beyond.budget, beyond.loss, made=True))
    return tuple(found)


@cache
def widest() -> tuple[float, ...]:
    """Of each case: the widest interval allowed, in nats."""
    told = []
    for one in cases():
        most = WIDEST * one.loss
        if not one.made:
            law = fit_isoflop(one.runs, floor="fit", resamples=400)
            fair = law.predict(one.flops).loss
            most = min(most, TIMES * (fair.high - fair.low))
        told.append(most)
    return tuple(told)


# Losses that are not right ----------------------------------------------------------------------

Law = Callable[[Points, float], float]
Pairs = tuple[np.ndarray, np.ndarray]


def _curves(points: Points, side: str = "lowest") -> Pairs:
    """Budgets, and one side of each one's parabola."""
    budgets = np.unique(points[:, 0])
    found = [fit_parabola(*points[points[:, 0] == budget, 1:].T) for budget in budgets]
    return budgets, np.array([getattr(curve, side) for curve in found])


def _tried(points: Points) -> Pairs:
    budgets = np.unique(points[:, 0])
    return budgets, np.array([points[points[:, 0] == budget, 2].min() for budget in budgets])


def _all_runs(points: Points) -> Pairs:
    return points[:, 0], points[:, 2]


def _line(of: Callable[[Points], Pairs] = _curves, last: int = 0, floor: float = 0.0) -> Law:
    """A power law through the last of some points; all of them, if none are told."""

    def loss(points: Points, flops: float) -> float:
        x, y = of(points)
        return fit_line(x[-last:], y[-last:], floor).predict(flops)

    return loss


def _half_log(of: Callable[[Points], Pairs] = _curves, last: int = 0) -> Law:
    """A straight line of the loss itself over log FLOPs."""

    def loss(points: Points, flops: float) -> float:
        x, y = of(points)
        return float(np.polyval(np.polyfit(np.log(x[-last:]), y[-last:], 1), math.log(flops)))

    return loss


def _bent(points: Points, flops: float) -> float:
    x, y = np.log(_curves(points))
    return math.exp(np.polyval(np.polyfit(x - x.mean(), y, 2), math.log(flops) - x.mean()))


def _mistake(name: str, why: str, *laws: Law) -> None:
    """Losses alone: they are judged before the intervals."""
    for law in laws:
        E.mistake(name, lambda *given, law=law: (law(*given),) * 3).why(why)


_FLOOR = "More compute does not remove the text's own uncertainty. What is left over at the end?"
_MORE = "Ten times the compute is worth something. Follow the law."
_BENDS = "Such a line goes below 0 some day. A power law above a floor bends."
_mistake("a straight line without a floor", _FLOOR, _line(), _line(_tried))
_mistake(
    "only the last two budgets",
    "Two points show no bend: " + _FLOOR[0].lower() + _FLOOR[1:],
    _line(last=2),
)
_mistake("only the last three budgets, without a floor", _FLOOR, _line(last=3))
_mistake(
    "the loss of the largest budget",
    _MORE,
    lambda points, flops: _curves(points)[1][-1],
    lambda points, flops: points[:, 2].min(),
)
_mistake("the mean of the losses", _MORE, lambda points, flops: _curves(points)[1].mean())
_mistake("a line of the loss over log FLOPs", _BENDS, _half_log())
_mistake("a line of the loss over log FLOPs, from two budgets", _BENDS, _half_log(last=2))
_mistake(
    "a law through all runs, not through the best ones",
    "Runs that are too small or too large lie above the law. Take the minima.",
    _line(_all_runs),
    _half_log(_all_runs),
)
_mistake(
    "a parabola through the logarithms",
    "It turns up again further out. A law above a floor does not.",
    _bent,
)
_mistake(
    "a floor from elsewhere",
    "That is the floor of another text and another tokenizer. Find that of these runs.",
    _line(floor=1.69),
    _line(floor=1.82),
)
_mistake(
    "the logarithm is not undone",
    "A loss in nats is wanted, not its logarithm.",
    lambda *given: math.log(_line()(*given)),
)
_mistake(
    "the best size, not its loss",
    "Which of the two laws is asked for: the best size, or its loss?",
    _line(lambda points: _curves(points, "best")),
)

# Judged -----------------------------------------------------------------------------------------


@E.rule
def _is_right_and_rightly_unsure(function: Callable) -> None:
    found = []
    for one in cases():
        result = run(function, one.case, "predict_loss")
        found.append(numbers(result, ("loss", "low", "high"), "predict_loss", one.case.shows))
    _judge_losses([loss for loss, _, _ in found])
    _judge_intervals(found)


def _judge_losses(found: Sequence[float]) -> None:
    pairs = list(zip(found, cases(), strict=True))
    missed = [(got, one) for got, one in pairs if not near(got, one.loss, ALLOWED)]
    if not missed:
        return
    got, first = missed[0]
    shows = first.case.shows
    inputs = [one.case.inputs for one in cases()]
    explain(E.mistakes, itemgetter(0), found, inputs, 1e-3, shows)
    told = f"{len(missed)} of {len(pairs)} cases are off by more than {ALLOWED:.0%}."
    least = min(one.loss for one in first.runs)
    if all(one.loss * (1 + ALLOWED) < got for got, one in missed):
        way = "too high" if got < least else "not below the losses that are known"
        raise Mistake(f"predict_loss: {way}", shows=shows, why=told)
    if all(got < one.loss * (1 - ALLOWED) for got, one in missed):
        raise Mistake("predict_loss: too low", shows=shows, why=f"{told} Is there a floor?")
    raise Mistake("predict_loss: not within 2 %", shows=shows, why=told)


def _judge_intervals(found: Sequence[tuple[float, float, float]]) -> None:
    held = 0
    for (loss, low, high), one, most in zip(found, cases(), widest(), strict=True):
        if not low <= loss <= high:
            why = f"low={low:.4g}, loss={loss:.4g}, high={high:.4g}."
            raise Mistake("the interval does not hold its own loss", shows=one.case.shows, why=why)
        if high - low > most:
            why = f"Yours is {high - low:.3g} nats wide. These runs scatter less than that."
            raise Mistake("the interval is too wide", shows=one.case.shows, why=why)
        held += low <= one.loss <= high
    if held < HELD:
        why = (
            f"{held} of {len(found)} hold what came out. Few points lie close to a curve with "
            "three unknowns: what they leave over looks smaller than the noise is."
        )
        shows = cases()[-1].case.shows
        raise Mistake("the intervals are too narrow", shows=shows, why=why)
