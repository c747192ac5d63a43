"""Answers to the exercises of chapter 03: right ones, and wrong ones in a learner's style."""

import math

import numpy as np
from exercise_tools import load_answers

from llama3lib.scaling import fit_parabola
from llama3lib.scaling.noise import redraw

_BUDGETS = load_answers("03_budgets")


# 03.1 ----------------------------------------------------------------------------------------


def match_plain(models, budget):
    costs = {name: 6 * size * tokens for name, (size, tokens) in models.items()}
    return costs, min(costs, key=lambda name: abs(math.log(costs[name] / budget)))


def match_ratios(models, budget):
    """With arrays, and the ratio put the right way round by hand."""
    names = list(models)
    costs = 6.0 * np.prod(np.array([models[name] for name in names]), axis=1)
    ratio = np.maximum(costs / budget, budget / costs)
    return dict(zip(reversed(names), costs[::-1], strict=True)), names[int(np.argmin(ratio))]


def _chosen(distance):
    def match_budget(models, budget):
        costs, _ = match_plain(models, budget)
        return costs, min(costs, key=lambda name: distance(costs[name], budget))

    return match_budget


def _other(costs=lambda costs: costs, name=lambda name: name):
    def match_budget(models, budget):
        right = match_plain(models, budget)
        return costs(right[0]), name(right[1])

    return match_budget


MATCH_WRONG = {
    "20 tokens for each parameter, whatever was trained on": lambda models, budget: (
        {name: 120 * size**2 for name, (size, _) in models.items()},
        next(iter(models)),
    ),
    "the budget itself for each model": lambda models, budget: (
        {name: 6 * size * (budget / (6 * size)) for name, (size, _) in models.items()},
        next(iter(models)),
    ),
    "the cheapest one": _chosen(lambda cost, budget: math.log(cost) - math.log(budget)),
    "the most expensive one": _chosen(lambda cost, budget: budget / cost),
    "the two results are swapped": lambda models, budget: match_plain(models, budget)[::-1],
    "match_budget: one cost for each model": _other(costs=lambda costs: list(costs.values())),
    "match_budget, costs: a number is needed": _other(
        costs=lambda costs: {name: str(cost) for name, cost in costs.items()}
    ),
    "match_budget: the name of a model is needed": _other(name=lambda name: 0),
    "match_budget: two results are needed": lambda models, budget: match_plain(models, budget)[0],
}


# 03.2 ----------------------------------------------------------------------------------------


def _vertex(sizes, losses):
    bend, slope, _ = np.polyfit(np.log(sizes), losses, 2)
    return math.exp(-slope / (2 * bend))


def lowest_residuals(sizes, losses, resamples, seed):
    """Residuals drawn with replacement, a loop, np.polyfit."""
    rng = np.random.default_rng(seed)
    fitted = np.polyval(np.polyfit(np.log(sizes), losses, 2), np.log(sizes))
    left = losses - fitted
    drawn = [
        _vertex(sizes, fitted + rng.choice(left, size=len(left), replace=True))
        for _ in range(resamples)
    ]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return _vertex(sizes, losses), low, high


def lowest_normal(sizes, losses, resamples, seed):
    """Normal noise with the size of the residuals, all draws at once, log10 of the size."""
    x = np.log10(sizes) - np.log10(sizes).mean()
    design = np.stack([x**2, x, np.ones_like(x)], axis=1)
    found = np.linalg.lstsq(design, losses, rcond=None)[0]
    left = losses - design @ found
    noise = np.random.default_rng(seed).normal(size=(resamples, len(x)))
    noise *= math.sqrt(left @ left / (len(x) - 3))
    drawn = np.linalg.pinv(design) @ (losses + noise).T

    def place(coefficients):
        return 10 ** (np.log10(sizes).mean() - coefficients[1] / (2 * coefficients[0]))

    low, high = np.quantile(place(drawn), (0.025, 0.975))
    return place(found), low, high


def lowest_cases(sizes, losses, resamples, seed):
    """Runs drawn with replacement, each with its loss."""
    rng, drawn = np.random.default_rng(seed), []
    for _ in range(resamples):
        chosen = rng.integers(len(sizes), size=len(sizes))
        drawn.append(_vertex(sizes[chosen], losses[chosen]))
    return (_vertex(sizes, losses), *np.percentile(drawn, [2.5, 97.5]))


def lowest_library(sizes, losses, resamples, seed):
    """The library's noise, which knows that a few runs tell little of it."""
    x = np.log(sizes)
    design = np.stack([np.ones_like(x), x - x.mean(), (x - x.mean()) ** 2], axis=1)
    rows = redraw(design, losses, np.random.default_rng(seed), resamples)
    bend, slope, _ = np.polyfit(np.log(sizes), rows.T, 2)
    drawn = np.sort(np.exp(-slope / (2 * bend)))
    cut = int(0.025 * resamples)
    return [fit_parabola(sizes, losses).best, drawn[cut], drawn[-1 - cut]]


def lowest_spread(sizes, losses, resamples, seed):
    """An interval of 1.96 standard deviations of the draws around the best size."""
    rng = np.random.default_rng(seed)
    fit = np.polyfit(np.log(sizes), losses, 2)
    fitted = np.polyval(fit, np.log(sizes))
    scale = np.std(losses - fitted, ddof=3)
    drawn = [
        math.log(_vertex(sizes, fitted + scale * rng.normal(size=len(sizes))))
        for _ in range(resamples)
    ]
    best = _vertex(sizes, losses)
    factor = math.exp(1.96 * np.std(drawn))
    return best, best / factor, best * factor


def _best(vertex):
    """Another best size, and the interval moved with it."""

    def lowest_point(sizes, losses, resamples, seed):
        right, low, high = lowest_normal(sizes, losses, resamples, seed)
        best = vertex(sizes, losses)
        return best, low / right * best, high / right * best

    return lowest_point


def _around(best, low, high, times):
    return best * (low / best) ** times, best * (high / best) ** times


def _ends(change):
    """Other ends, made of best, low and high."""

    def lowest_point(sizes, losses, resamples, seed):
        right = lowest_normal(sizes, losses, resamples, seed)
        return right[0], *change(*right)

    return lowest_point


def _drawn(ends, scale=lambda left, losses: math.sqrt(left @ left / (len(left) - 3))):
    def lowest_point(sizes, losses, resamples, seed):
        rng = np.random.default_rng(seed)
        fitted = np.polyval(np.polyfit(np.log(sizes), losses, 2), np.log(sizes))
        noise = scale(losses - fitted, losses) * rng.normal(size=(resamples, len(sizes)))
        bend, slope, _ = np.polyfit(np.log(sizes), (fitted + noise).T, 2)
        with np.errstate(over="ignore"):
            low, high = ends(np.exp(-slope / (2 * bend)))
        return _vertex(sizes, losses), low, high

    return lowest_point


def _percentiles(*cuts):
    return lambda drawn: np.percentile(drawn, cuts)


def _argmin_draws(sizes, losses, resamples, seed):
    rng = np.random.default_rng(seed)
    left = losses - np.polyval(np.polyfit(np.log(sizes), losses, 2), np.log(sizes))
    drawn = [sizes[np.argmin(losses + rng.choice(left, len(left)))] for _ in range(resamples)]
    drawn += [sizes.min(), sizes.max()]
    return (_vertex(sizes, losses), *np.percentile(drawn, [0, 100]))


def lowest_torn(sizes, losses, resamples, seed):
    rng = np.random.default_rng(seed)
    drawn = [_vertex(sizes, rng.permutation(losses)) for _ in range(resamples)]
    return (_vertex(sizes, losses), *np.percentile(drawn, [2.5, 97.5]))


def _of_losses(sizes, losses, resamples, seed):
    rng = np.random.default_rng(seed)
    drawn = [rng.choice(losses, len(losses)).mean() for _ in range(resamples)]
    return (_vertex(sizes, losses), *np.percentile(drawn, [2.5, 97.5]))


def _once(sizes, losses, resamples, seed):
    best = _vertex(sizes, losses)
    return (best, *np.percentile([best] * resamples, [2.5, 97.5]))


def _raw_vertex(sizes, losses):
    bend, slope, _ = np.polyfit(sizes / 1e6, losses, 2)
    return -slope / (2 * bend) * 1e6


def _grid(sizes, losses):
    fit = np.polyfit(np.log(sizes), losses, 2)
    tried = np.linspace(np.log(sizes.min()), np.log(sizes.max()), 200)
    return float(np.exp(tried[np.argmin(np.polyval(fit, tried))]))


LOWEST_WRONG = {
    "a parabola over the sizes, not over their logarithms": _best(_raw_vertex),
    "the best of the sizes tried": _best(lambda s, y: s[np.argmin(y)]),
    "ln and log10 are mixed up": _best(lambda s, y: 10 ** math.log(_vertex(s, y))),
    "lowest_point: another best size": _best(lambda s, y: 1.1 * _vertex(s, y)),
    "near the minimum, but not at it": _best(_grid),
    "an interval of about 68 %": _drawn(_percentiles(16, 84)),
    "an interval of about 90 %": _drawn(_percentiles(5, 95)),
    "the standard error of a mean": _drawn(
        lambda drawn: (
            drawn.mean() - 1.96 * drawn.std() / math.sqrt(len(drawn)),
            drawn.mean() + 1.96 * drawn.std() / math.sqrt(len(drawn)),
        )
    ),
    "the noise is divided by the root of the number of runs": _drawn(
        _percentiles(2.5, 97.5), lambda left, losses: left.std() / math.sqrt(len(left))
    ),
    "the interval is too narrow": _ends(lambda best, low, high: _around(best, low, high, 0.6)),
    "the interval is too wide": _ends(lambda best, low, high: _around(best, low, high, 2.5)),
    "the interval lies to one side": _drawn(_percentiles(0.5, 80)),
    "wide where there is no noise": _drawn(
        _percentiles(2.5, 97.5), lambda left, losses: losses.std()
    ),
    "low and high are swapped": _drawn(_percentiles(97.5, 2.5)),
    "no new parabola in the draws": _argmin_draws,
    "the interval is of the loss, not of the size": _of_losses,
    "the interval is still in logarithms": _ends(
        lambda best, low, high: (math.log(low), math.log(high))
    ),
    "the ends are no sizes": _ends(
        lambda best, low, high: ((low - best) / 100, (high - best) / 100)
    ),
    "all draws are alike": _once,
    "the seed is not used": lambda s, y, r, seed: lowest_normal(s, y, r, 0),
    "resamples is not used": lambda s, y, r, seed: lowest_normal(s, y, 1000, seed),
    "other dice than the seed's": lambda s, y, r, seed: lowest_normal(s, y, r, None),
    "lowest_point: 3 results are needed": lambda s, y, r, seed: lowest_normal(s, y, r, seed)[0],
}


# 03.3 ----------------------------------------------------------------------------------------


def _law(exponent, coefficient, flops):
    tokens = coefficient * flops**exponent
    return tokens, flops / (6 * tokens)


def _exponent_for(tokens, coefficient, flops):
    return math.log(tokens / coefficient) / math.log(flops)


def _box(exponent, coefficient, digits, flops):
    half = 0.5 * 10**-digits
    ends = [(exponent - half, coefficient - half), (exponent + half, coefficient + half)]
    return tuple(k * flops**a for a, k in ends)


PAIR_PLAIN = {"law": _law, "exponent_for": _exponent_for, "box": _box}


def _law_logs(exponent, coefficient, flops):
    power = np.log10(coefficient) + exponent * np.log10(flops)
    return [10**power, 10 ** (np.log10(flops) - power) / 6]


def _exponent_halving(tokens, coefficient, flops):
    low, high = -1.0, 3.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if coefficient * flops**middle < tokens else (low, middle)
    return low


def _box_corners(exponent, coefficient, digits, flops):
    half = 10.0**-digits / 2
    corners = [
        _law_logs(exponent + i * half, coefficient + j * half, flops)[0]
        for i in (-1, 1)
        for j in (-1, 1)
    ]
    return np.array([min(corners), max(corners)])


PAIR_LOGS = {"law": _law_logs, "exponent_for": _exponent_halving, "box": _box_corners}


PAIR_WRONG = {
    "the 6 is forgotten in the parameters": {"law": lambda a, k, c: (k * c**a, c / (k * c**a))},
    "the coefficient is inside the power": {
        "law": lambda a, k, c: ((k * c) ** a, c / 6 / (k * c) ** a)
    },
    "law: 2 results are needed": {"law": lambda a, k, c: k * c**a},
    "ln and log10 are mixed up": {"exponent_for": lambda t, k, c: math.log(t / k) / math.log10(c)},
    "the exponent of the parameters": {"exponent_for": lambda t, k, c: 1 - _exponent_for(t, k, c)},
    "fewest and most are swapped": {"box": lambda *given: _box(*given)[::-1]},
    "parameters, not tokens": {"box": lambda a, k, d, c: [c / 6 / t for t in _box(a, k, d, c)]},
    "rounding is taken for cutting off": {
        "box": lambda a, k, d, c: (k * c**a, (k + 10**-d) * c ** (a + 10**-d))
    },
}


RIGHT = {
    "03.1": [match_plain, match_ratios],
    "03.2": [lowest_residuals, lowest_normal, lowest_cases, lowest_library, lowest_spread],
    "03.3": [PAIR_PLAIN, PAIR_LOGS],
    **_BUDGETS.RIGHT,
}
WRONG = {
    "03.1": MATCH_WRONG,
    "03.2": LOWEST_WRONG,
    "03.3": PAIR_WRONG,
    **_BUDGETS.WRONG,
}
