"""Chapter 03, exercise 6: the loss of a run ten times beyond all others, and how sure one is.

Two kinds of runs: planted ones, whose law is known, and those of the toy sweep, whose held-out runs
were really made. They come as bare numbers: the fit is the exercise.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

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
from widgets.ch03.exercises.numbers import near, numbers
from widgets.core.judge import Case, Mistake, run

_WHAT = "predict_loss"
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


@dataclass(frozen=True)
class Planned:
    """Runs, a budget beyond them, and the loss that came out there."""

    runs: tuple[Run, ...]
    flops: float
    loss: float
    made: bool
    """Whether the run was really made; else its law is planted."""

    @property
    def points(self) -> Float[np.ndarray, "M 3"]:
        """Budget, parameters and loss of each run."""
        return np.array([(run.budget, run.parameters, run.loss) for run in self.runs])

    @property
    def shows(self) -> str:
        """The budgets in words."""
        told = ", ".join(f"{budget:.1e}" for budget in by_budget(self.runs))
        kind = "the toy sweep's runs" if self.made else "planted runs"
        return f"{kind} at {told}; flops={self.flops:.2e}"


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


def _least(one: Planned) -> tuple[list[float], list[float]]:
    """Budgets, and the lowest point of each one's parabola."""
    groups = by_budget(one.runs)
    curves = [
        fit_parabola([r.parameters for r in found], [r.loss for r in found])
        for found in groups.values()
    ]
    return list(groups), [curve.lowest for curve in curves]


def _line(one: Planned, last: int = 4, floor: float = 0.0) -> float:
    x, y = _least(one)
    return fit_line(x[-last:], y[-last:], floor).predict(one.flops)


def _half_log(one: Planned, last: int = 4) -> float:
    """A straight line of the loss itself over log FLOPs."""
    x, y = _least(one)
    slope, height = np.polyfit(np.log(x[-last:]), y[-last:], 1)
    return float(slope * math.log(one.flops) + height)


def _bent(one: Planned) -> float:
    x, y = (np.log(values) for values in _least(one))
    fit = np.polyfit(x - x.mean(), y, 2)
    return math.exp(np.polyval(fit, math.log(one.flops) - x.mean()))


def _all_runs(one: Planned) -> float:
    return fit_line([r.budget for r in one.runs], [r.loss for r in one.runs]).predict(one.flops)


def _all_half_log(one: Planned) -> float:
    slope, height = np.polyfit(np.log([r.budget for r in one.runs]), [r.loss for r in one.runs], 1)
    return float(slope * math.log(one.flops) + height)


def _tried(one: Planned) -> float:
    groups = by_budget(one.runs)
    least = [min(r.loss for r in found) for found in groups.values()]
    return fit_line(list(groups), least).predict(one.flops)


_FLOOR = "More compute does not remove the text's own uncertainty. What is left over at the end?"
_KNOWN: tuple[tuple[str, Callable[[Planned], float], str], ...] = (
    ("a straight line without a floor", _line, _FLOOR),
    ("a straight line without a floor", _tried, _FLOOR),
    (
        "only the last two budgets",
        lambda one: _line(one, 2),
        "Two points show no bend: " + _FLOOR[0].lower() + _FLOOR[1:],
    ),
    (
        "only the last three budgets, without a floor",
        lambda one: _line(one, 3),
        _FLOOR,
    ),
    (
        "the loss of the largest budget",
        lambda one: _least(one)[1][-1],
        "Ten times the compute is worth something. Follow the law.",
    ),
    (
        "the loss of the largest budget",
        lambda one: min(r.loss for r in one.runs),
        "Ten times the compute is worth something. Follow the law.",
    ),
    (
        "the mean of the losses",
        lambda one: float(np.mean(_least(one)[1])),
        "Ten times the compute is worth something. Follow the law.",
    ),
    (
        "a line of the loss over log FLOPs",
        _half_log,
        "Such a line goes below 0 some day. A power law above a floor bends.",
    ),
    (
        "a line of the loss over log FLOPs, from two budgets",
        lambda one: _half_log(one, 2),
        "Such a line goes below 0 some day. A power law above a floor bends.",
    ),
    (
        "a law through all runs, not through the best ones",
        _all_runs,
        "Runs that are too small or too large lie above the law. Take the lowest points.",
    ),
    (
        "a law through all runs, not through the best ones",
        _all_half_log,
        "Runs that are too small or too large lie above the law. Take the lowest points.",
    ),
    (
        "a parabola through the logarithms",
        _bent,
        "It turns up again further out. A law above a floor does not.",
    ),
    (
        "a floor from elsewhere",
        lambda one: _line(one, floor=1.69),
        "That is the floor of another text and another tokenizer. Find that of these runs.",
    ),
    (
        "a floor from elsewhere",
        lambda one: _line(one, floor=1.82),
        "That is the floor of another text and another tokenizer. Find that of these runs.",
    ),
    (
        "the logarithm is not undone",
        lambda one: math.log(_line(one)),
        "A loss in nats is wanted, not its logarithm.",
    ),
    (
        "the best size, not its loss",
        lambda one: _best_size(one),
        "Which of the two laws is asked for: the best size, or its loss?",
    ),
)


def _best_size(one: Planned) -> float:
    groups = by_budget(one.runs)
    best = [
        fit_parabola([r.parameters for r in found], [r.loss for r in found]).best
        for found in groups.values()
    ]
    return fit_line(list(groups), best).predict(one.flops)


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


def check_predict_loss(answer: Callable) -> None:
    """03.6: predict_loss(points, flops) -> (loss, low, high): right, and rightly unsure."""
    found = []
    for one in cases():
        result = run(answer, Case((one.points, one.flops), one.shows), _WHAT)
        found.append(numbers(result, ("loss", "low", "high"), _WHAT, one.shows))
    _judge_losses([loss for loss, _, _ in found])
    _judge_intervals(found)


def _judge_losses(found: list[float]) -> None:
    pairs = list(zip(found, cases(), strict=True))
    missed = [(got, one) for got, one in pairs if not near(got, one.loss, ALLOWED)]
    if not missed:
        return
    got, first = missed[0]
    for name, function, why in _KNOWN:
        if all(near(got, function(one), 1e-3) for got, one in pairs):
            raise Mistake(name, shows=first.shows, why=why)
    told = f"{len(missed)} of {len(pairs)} cases are off by more than {ALLOWED:.0%}."
    least = min(one.loss for one in first.runs)
    if all(one.loss * (1 + ALLOWED) < got for got, one in missed):
        way = "too high" if got < least else "not below the losses that are known"
        raise Mistake(f"{_WHAT}: {way}", shows=first.shows, why=told)
    if all(got < one.loss * (1 - ALLOWED) for got, one in missed):
        raise Mistake(f"{_WHAT}: too low", shows=first.shows, why=f"{told} Is there a floor?")
    raise Mistake(f"{_WHAT}: not within 2 %", shows=first.shows, why=told)


def _judge_intervals(found: list[tuple[float, float, float]]) -> None:
    held = 0
    for (loss, low, high), one, most in zip(found, cases(), widest(), strict=True):
        if not low <= loss <= high:
            why = f"low={low:.4g}, loss={loss:.4g}, high={high:.4g}."
            raise Mistake("the interval does not hold its own loss", shows=one.shows, why=why)
        if high - low > most:
            why = f"Yours is {high - low:.3g} nats wide. These runs scatter less than that."
            raise Mistake("the interval is too wide", shows=one.shows, why=why)
        held += low <= one.loss <= high
    if held < HELD:
        why = (
            f"{held} of {len(found)} hold what came out. Few points lie close to a curve with "
            "three unknowns: what they leave over looks smaller than the noise is."
        )
        raise Mistake("the intervals are too narrow", shows=cases()[-1].shows, why=why)
