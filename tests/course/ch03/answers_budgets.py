"""Answers to exercises 4 to 6 of chapter 03, which `answers.py` takes in."""

import math

import numpy as np

from llama3lib.scaling import (
    Run,
    by_budget,
    fit_isoflop,
    fit_line,
    fit_parabola,
    fit_power_law,
)


def _curves(runs):
    return {
        budget: fit_parabola([r.parameters for r in found], [r.loss for r in found])
        for budget, found in by_budget(runs).items()
    }


# 03.4 ---------------------------------------------------------------------------------------


def spoilt_left_out(runs):
    """Leave each budget out; the one without which the losses lie best on a line is spoilt."""
    misses = {}
    for budget in by_budget(runs):
        rest = [run for run in runs if run.budget != budget]
        law = fit_isoflop(rest, resamples=50)
        misses[budget] = sum(
            math.log(curve.parabola.lowest / law.loss.law.predict(curve.budget)) ** 2
            for curve in law.curves
        )
    spoilt = min(misses, key=misses.get)
    rest = [run for run in runs if run.budget != spoilt]
    return spoilt, fit_isoflop(rest, resamples=50).size.law.exponent


def spoilt_by_floor(runs):
    """The same with a floor, with arrays, and the exponent by np.polyfit."""
    budgets = np.array(sorted({run.budget for run in runs}))
    curves = []
    for budget in budgets:
        x, y = np.array([(r.parameters, r.loss) for r in runs if r.budget == budget]).T
        a, b, c = np.polyfit(np.log(x), y, 2)
        curves.append((-b / (2 * a), c - b * b / (4 * a)))
    logs, least = np.array(curves).T
    left = []
    for place in range(len(budgets)):
        keep = np.arange(len(budgets)) != place
        law = fit_power_law(budgets[keep], least[keep], floor="fit", resamples=10).law
        miss = [law.predict(c) - y for c, y in zip(budgets[keep], least[keep], strict=True)]
        left.append(np.square(miss).sum())
    place = int(np.argmin(left))
    keep = np.arange(len(budgets)) != place
    return budgets[place], np.polyfit(np.log(budgets[keep]), logs[keep], 1)[0]


def spoilt_by_bend(runs):
    """The row of ln losses should be smooth: a parabola through the others, and who is above."""
    curves = _curves(runs)
    x, y = np.log(list(curves)), np.log([curve.lowest for curve in curves.values()])
    left = []
    for place in range(len(x)):
        keep = np.arange(len(x)) != place
        fit = np.polyfit(x[keep] - x.mean(), y[keep], 2)
        left.append(np.square(np.polyval(fit, x[keep] - x.mean()) - y[keep]).sum())
    spoilt = list(curves)[int(np.argmin(left))]
    return spoilt, _size_exponent([run for run in runs if run.budget != spoilt])


def spoilt_by_size(runs):
    """By the best sizes instead of the losses; the exponent from that of the tokens."""
    curves = _curves(runs)
    left = {}
    for budget in curves:
        rest = {c: curve.best for c, curve in curves.items() if c != budget}
        law = fit_line(list(rest), list(rest.values()))
        left[budget] = sum(math.log(law.predict(c) / best) ** 2 for c, best in rest.items())
    spoilt = min(left, key=left.get)
    rest = [run for run in runs if run.budget != spoilt]
    return [spoilt, 1 - fit_isoflop(rest, "tokens", resamples=5).size.law.exponent]


def _size_exponent(runs):
    curves = _curves(runs)
    return fit_line(list(curves), [curve.best for curve in curves.values()]).exponent


def _worst_fit(runs):
    worst, spoilt = 0.0, None
    for budget, found in by_budget(runs).items():
        x, y = np.log([r.parameters for r in found]), np.array([r.loss for r in found])
        miss = np.square(np.polyval(np.polyfit(x, y, 2), x) - y).sum()
        if miss > worst:
            worst, spoilt = miss, budget
    return spoilt, _size_exponent([run for run in runs if run.budget != spoilt])


def _with(exponent):
    """The right budget, another exponent."""

    def find_spoilt(runs):
        spoilt, right = spoilt_by_bend(runs)
        return spoilt, exponent(runs, [r for r in runs if r.budget != spoilt], right)

    return find_spoilt


def _tried(runs):
    groups = by_budget(runs)
    best = [min(found, key=lambda run: run.loss).parameters for found in groups.values()]
    return fit_line(list(groups), best).exponent


SPOILT_WRONG = {
    "the budget whose parabola fits worst": _worst_fit,
    "the tokens' exponent, not the parameters'": _with(
        lambda runs, rest, right: fit_isoflop(rest, "tokens", resamples=5).size.law.exponent
    ),
    "the best of the sizes tried": _with(lambda runs, rest, right: _tried(rest)),
    "a place, not a budget": lambda runs: (
        sorted(by_budget(runs)).index(spoilt_by_bend(runs)[0]),
        spoilt_by_bend(runs)[1],
    ),
    "the two results are swapped": lambda runs: spoilt_by_bend(runs)[::-1],
    "find_spoilt: another exponent": _with(lambda runs, rest, right: right + 0.02),
    "another budget is spoilt": lambda runs: (
        sorted(by_budget(runs))[2],
        spoilt_by_bend(runs)[1],
    ),
    "find_spoilt: 2 results are needed": lambda runs: spoilt_by_bend(runs)[0],
    "none of the budgets": lambda runs: (1e30, 0.5),
}


# 03.5 ---------------------------------------------------------------------------------------


def served_library(law, small, large):
    from llama3lib.scaling import break_even, life, tokens_for

    tokens = tokens_for(law, large, law.predict(*small))
    if tokens == math.inf:
        return 0.0
    return break_even(life(*small, 0.0), life(large, tokens, 0.0))


def served_halving(law, small, large):
    """Tokens of the other model by halving; then the two straight lines of cost are compared."""
    loss = law.E + law.A / small[0] ** law.alpha + law.B / small[1] ** law.beta
    if law.E + law.A / large**law.alpha >= loss:
        return 0
    low, high = -50.0, 400.0
    for _ in range(200):
        middle = (low + high) / 2
        value = law.predict(large, math.exp(middle))
        low, high = (low, middle) if value < loss else (middle, high)
    first, second = 6 * small[0] * small[1], 6 * large * math.exp(low)
    if first <= second and small[0] < large:
        return 0
    return (
        math.inf if small[0] > large else np.float64((first - second) / (2 * large - 2 * small[0]))
    )


def _tokens(law, small, large):
    room = law.predict(*small) - law.A / large**law.alpha - law.E
    return (law.B / room) ** (1 / law.beta) if room > 0 else math.inf


def _for_all_flops_alike(law, small, large):
    """The other one gets as many training FLOPs as the first."""
    ahead = 6 * small[0] * small[1] - 6 * large * (small[0] * small[1] / large)
    if ahead <= 0:
        return 0.0 if small[0] < large else math.inf
    return ahead / (2 * large - 2 * small[0]) if small[0] < large else math.inf


def _bare(law, small, large):
    ahead = 6 * (small[0] * small[1] - large * _tokens(law, small, large))
    return ahead / (2 * (large - small[0]))


SERVED_WRONG = {
    "the other one is not trained to the same loss": _for_all_flops_alike,
    "as many training tokens for both": lambda law, small, large: (
        (6 * small[0] * small[1] - 6 * large * small[1]) / (2 * large - 2 * small[0])
    ),
    "below zero": _bare,
    "never is forgotten": lambda *given: max(0.0, _bare(*given)),
    "a loss out of reach of the other one": lambda law, small, large: (
        math.inf if _tokens(law, small, large) == math.inf else served_library(law, small, large)
    ),
    "served_until_cheaper: a number is needed": lambda *given: str(served_library(*given)),
}


# 03.6 ---------------------------------------------------------------------------------------


def _runs(points):
    return [Run(parameters=n, tokens=c / (6 * n), loss=y, budget=c) for c, n, y in points.tolist()]


def predict_library(points, flops):
    told = fit_isoflop(_runs(points), floor="fit", resamples=400).predict(flops).loss
    return told.score, told.low, told.high


def _least_of(points, rng=None):
    """Lowest points with np.polyfit; with rng of runs that might have been."""
    budgets, found = np.unique(points[:, 0]), []
    for budget in budgets:
        _, sizes, losses = points[points[:, 0] == budget].T
        x = np.log(sizes) - np.log(sizes).mean()
        fit = np.polyfit(x, losses, 2)
        if rng is not None:
            left = losses - np.polyval(fit, x)
            size = np.sqrt((left @ left) / (len(x) - 3))
            fit = np.polyfit(x, np.polyval(fit, x) + rng.normal(0, size, len(x)), 2)
        found.append(fit[2] - fit[1] ** 2 / (4 * fit[0]))
    return np.log(budgets), np.array(found)


def _with_floor(x, y, far):
    floors = np.linspace(0, y.min() * 0.999, 300)
    fits = np.polyfit(x, np.log(y[:, None] - floors), 1)
    lines = floors + np.exp(np.outer(x, fits[0]) + fits[1])
    best = np.argmin(np.square(lines - y[:, None]).sum(0))
    return floors[best] + math.exp(np.polyval(fits[:, best], far))


def predict_by_hand(points, flops):
    """Every floor is tried, and the straightest line taken; again for noise drawn anew."""
    far, rng = math.log(flops), np.random.default_rng(0)
    drawn = [_with_floor(*_least_of(points, rng), far) for _ in range(40)]
    middle = _with_floor(*_least_of(points), far)
    return middle, middle - 2.2 * np.std(drawn), middle + 2.2 * np.std(drawn)


def _least(points):
    x, y = _least_of(points)
    return np.exp(x), y


def _sure(loss):
    """A loss with a narrow interval around it."""

    def predict_loss(points, flops):
        value = loss(points, flops)
        return value, value - 0.001, value + 0.001

    return predict_loss


def _line(points, flops):
    return fit_line(*_least(points)).predict(flops)


def _half_log(points, flops):
    budgets, losses = _least(points)
    return np.polyval(np.polyfit(np.log10(budgets), losses, 1), math.log10(flops))


def _scaled(factor, more=0.0):
    return lambda points, flops: factor * predict_library(points, flops)[0] + more


BEYOND_WRONG = {
    "a straight line without a floor": _sure(_line),
    "a line of the loss over log FLOPs": _sure(_half_log),
    "a law through all runs, not through the best ones": _sure(
        lambda points, flops: fit_line(points[:, 0], points[:, 2]).predict(flops)
    ),
    "predict_loss: 3 results are needed": _scaled(1.0),
    "predict_loss: too low": _sure(_scaled(0.95)),
    "predict_loss: too high": _sure(_scaled(1.02, 0.02)),
    "predict_loss: not below the losses that are known": _sure(
        lambda points, flops: 1.2 * points[:, 2].min()
    ),
    "predict_loss: not within 2 %": _sure(
        lambda points, flops: predict_library(points, flops)[0] * (1.05 if flops > 1e17 else 0.9)
    ),
    "the interval does not hold its own loss": lambda points, flops: (
        predict_library(points, flops)[0],
        0.0,
        0.1,
    ),
    "the interval is too wide": lambda points, flops: tuple(
        predict_library(points, flops)[0] * factor for factor in (1.0, 0.985, 1.015)
    ),
    "the intervals are too narrow": _sure(_scaled(1.0)),
}


RIGHT = {
    "03.4": [spoilt_left_out, spoilt_by_floor, spoilt_by_bend, spoilt_by_size],
    "03.5": [served_library, served_halving],
    "03.6": [predict_library, predict_by_hand],
}
WRONG = {"03.4": SPOILT_WRONG, "03.5": SERVED_WRONG, "03.6": BEYOND_WRONG}
