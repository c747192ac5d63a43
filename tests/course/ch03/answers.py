"""Answers to exercises 1 to 3 of chapter 03: right ones in different ways, and planted mistakes."""

import math

import numpy as np
from exercise_tools import load_answers


# 03.1
def match_plain(models, budget):
    costs = {name: 6 * size * tokens for name, (size, tokens) in models.items()}
    return costs, min(costs, key=lambda name: abs(math.log(costs[name] / budget)))


def match_ratios(models, budget):
    """With arrays, and the ratio put the right way round by hand."""
    names = list(models)
    costs = 6.0 * np.prod(np.array([models[name] for name in names]), axis=1)
    ratio = np.maximum(costs / budget, budget / costs)
    return dict(zip(reversed(names), costs[::-1], strict=True)), names[int(np.argmin(ratio))]


def _match(cost, score=lambda cost, budget: abs(math.log(cost / budget))):
    def match_budget(models, budget):
        costs = {name: cost(*pair) for name, pair in models.items()}
        return costs, min(costs, key=lambda name: score(costs[name], budget))

    return match_budget


def _six(size, tokens):
    return 6 * size * tokens


MATCH_WRONG = {
    "the 6 is forgotten": _match(lambda n, d: n * d),
    "the forward pass only": _match(lambda n, d: 2 * n * d),
    "the forward pass counted twice": _match(lambda n, d: 8 * n * d),
    "tokens for each parameter, not FLOPs": _match(lambda n, d: d / n),
    "the tokens are forgotten": _match(lambda n, d: 6 * n),
    "20 tokens for each parameter, whatever was trained on": _match(lambda n, d: 120 * n * n),
    "a share of the budget, not FLOPs": lambda models, budget: (
        {name: cost / budget for name, cost in match_plain(models, budget)[0].items()},
        match_plain(models, budget)[1],
    ),
    "the budget itself for each model": lambda models, budget: (
        {name: 6 * size * (budget / (6 * size)) for name, (size, _) in models.items()},
        next(iter(models)),
    ),
    "nearest as a difference, not as a ratio": _match(_six, lambda c, b: abs(c - b)),
    "the largest that does not pass the budget": _match(
        _six, lambda c, b: b - c if c <= b else math.inf
    ),
    "the smallest that reaches the budget": _match(
        _six, lambda c, b: c - b if c >= b else math.inf
    ),
    "the cheapest one": _match(_six, lambda c, b: math.log(c) - math.log(b)),
    "the dearest one": _match(_six, lambda c, b: b / c),
    "the two results are swapped": lambda models, budget: match_plain(models, budget)[::-1],
    "match_budget: one cost for each model": lambda models, budget: (
        list(match_plain(models, budget)[0].values()),
        match_plain(models, budget)[1],
    ),
    "match_budget: the name of a model is needed": lambda models, budget: (
        match_plain(models, budget)[0],
        0,
    ),
    "match_budget: two results are needed": lambda models, budget: match_plain(models, budget)[0],
}


# 03.2
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
    from llama3lib.scaling import fit_parabola
    from llama3lib.scaling.noise import redraw

    x = np.log(sizes)
    design = np.stack([np.ones_like(x), x - x.mean(), (x - x.mean()) ** 2], axis=1)
    rows = redraw(design, losses, np.random.default_rng(seed), resamples)
    drawn = np.sort([fit_parabola(sizes, row).best for row in rows])
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


def _best_wrong(vertex):
    def lowest_point(sizes, losses, resamples, seed):
        right, low, high = lowest_normal(sizes, losses, resamples, seed)
        best = vertex(sizes, losses)
        return best, low / right * best, high / right * best

    return lowest_point


def _drawn_wrong(ends, scale=lambda left, losses: math.sqrt(left @ left / (len(left) - 3))):
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


def _torn(sizes, losses, resamples, seed):
    rng = np.random.default_rng(seed)
    drawn = [_vertex(sizes, rng.permutation(losses)) for _ in range(resamples)]
    return (_vertex(sizes, losses), *np.percentile(drawn, [2.5, 97.5]))


def _of_losses(sizes, losses, resamples, seed):
    rng = np.random.default_rng(seed)
    drawn = [rng.choice(losses, len(losses)).mean() for _ in range(resamples)]
    return (_vertex(sizes, losses), *np.percentile(drawn, [2.5, 97.5]))


def _in_logs(sizes, losses, resamples, seed):
    best, low, high = lowest_normal(sizes, losses, resamples, seed)
    return best, math.log(low), math.log(high)


def _once(sizes, losses, resamples, seed):
    best = _vertex(sizes, losses)
    return (best, *np.percentile([best] * resamples, [2.5, 97.5]))


def _raw_vertex(sizes, losses):
    bend, slope, _ = np.polyfit(sizes / 1e6, losses, 2)
    return -slope / (2 * bend) * 1e6


def _formula(value):
    return lambda sizes, losses: value(*np.polyfit(np.log(sizes), losses, 2))


def _grid(sizes, losses):
    fit = np.polyfit(np.log(sizes), losses, 2)
    tried = np.linspace(np.log(sizes.min()), np.log(sizes.max()), 200)
    return float(np.exp(tried[np.argmin(np.polyval(fit, tried))]))


def _three(sizes, losses):
    at = int(np.clip(np.argmin(losses), 1, len(sizes) - 2))
    return _vertex(sizes[at - 1 : at + 2], losses[at - 1 : at + 2])


LOWEST_WRONG = {
    "a parabola over the sizes, not over their logarithms": _best_wrong(_raw_vertex),
    "the best of the sizes tried": _best_wrong(lambda s, y: s[np.argmin(y)]),
    "the sign of the vertex": _best_wrong(_formula(lambda a, b, c: math.exp(b / (2 * a)))),
    "the half is missing in the vertex": _best_wrong(_formula(lambda a, b, c: math.exp(-b / a))),
    "the logarithm is not undone": _best_wrong(_formula(lambda a, b, c: -b / (2 * a))),
    "the lowest loss, not the best size": _best_wrong(
        _formula(lambda a, b, c: c - b * b / (4 * a))
    ),
    "ln and log10 are mixed up": _best_wrong(lambda s, y: 10 ** math.log(_vertex(s, y))),
    "bend and slope are mixed up": _best_wrong(_formula(lambda a, b, c: math.exp(-a / (2 * b)))),
    "a parabola of the logarithm of the loss": _best_wrong(lambda s, y: _vertex(s, np.log(y))),
    "near the lowest point, but not at it": _best_wrong(_grid),
    "an interval of about 68 %": _drawn_wrong(_percentiles(16, 84)),
    "an interval of about 90 %": _drawn_wrong(_percentiles(5, 95)),
    "an interval of about 99 %": _drawn_wrong(_percentiles(0.5, 99.5)),
    "from the least to the most of all draws": _drawn_wrong(_percentiles(0, 100)),
    "percent are taken for shares": _drawn_wrong(_percentiles(0.025, 0.975)),
    "the standard error of a mean": _drawn_wrong(
        lambda drawn: (
            drawn.mean() - 1.96 * drawn.std() / math.sqrt(len(drawn)),
            drawn.mean() + 1.96 * drawn.std() / math.sqrt(len(drawn)),
        )
    ),
    "the noise is divided by the root of the number of runs": _drawn_wrong(
        _percentiles(2.5, 97.5), lambda left, losses: left.std() / math.sqrt(len(left))
    ),
    "the variance is taken for the standard deviation": _drawn_wrong(
        _percentiles(2.5, 97.5), lambda left, losses: left.var(ddof=3)
    ),
    "wide where there is no noise": _drawn_wrong(
        _percentiles(2.5, 97.5), lambda left, losses: losses.std()
    ),
    "only the lower half": _drawn_wrong(
        lambda drawn: (np.percentile(drawn, 2.5), np.percentile(drawn, 50))
    ),
    "low and high are swapped": _drawn_wrong(_percentiles(97.5, 2.5)),
    "no new parabola in the draws": _argmin_draws,
    "the interval is of the loss, not of the size": _of_losses,
    "the interval is still in logarithms": _in_logs,
    "all draws are alike": _once,
    "the seed is not used": lambda s, y, r, seed: lowest_normal(s, y, r, 0),
    "resamples is not used": lambda s, y, r, seed: lowest_normal(s, y, 1000, seed),
    "other dice than the seed's": lambda s, y, r, seed: lowest_normal(s, y, r, None),
    "lowest_point: 3 results are needed": lambda s, y, r, seed: lowest_normal(s, y, r, seed)[0],
    "the ends are no sizes": lambda s, y, r, seed: (
        lowest_normal(s, y, r, seed)[0],
        *np.subtract(lowest_normal(s, y, r, seed)[1:], lowest_normal(s, y, r, seed)[0]) / 100,
    ),
}
LOWEST_TORN = _torn


# 03.3
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


def _box_wrong(half=lambda digits: 0.5 * 10**-digits, low=(-1, -1), high=(1, 1)):
    def box(exponent, coefficient, digits, flops):
        h = half(digits)
        ends = [(exponent + i * h, coefficient + j * h) for i, j in (low, high)]
        return tuple(k * flops**a for a, k in ends)

    return box


PAIR_WRONG = {
    "the law predicts tokens, not parameters": {"law": lambda *given: _law(*given)[::-1]},
    "the 6 is forgotten in the parameters": {
        "law": lambda a, k, c: (k * c**a, c / (k * c**a)),
    },
    "20 tokens for each parameter": {"law": lambda a, k, c: (k * c**a, k * c**a / 20)},
    "exponent and coefficient are swapped": {"law": lambda a, k, c: _law(k, a, c)},
    "the coefficient is inside the power": {
        "law": lambda a, k, c: ((k * c) ** a, c / 6 / (k * c) ** a)
    },
    "law: 2 results are needed": {"law": lambda a, k, c: k * c**a},
    "the coefficient is forgotten": {
        "exponent_for": lambda t, k, c: math.log(t) / math.log(c),
    },
    "ln and log10 are mixed up": {
        "exponent_for": lambda t, k, c: math.log(t / k) / math.log10(c),
    },
    "the fraction is upside down": {
        "exponent_for": lambda t, k, c: math.log(c) / math.log(t / k),
    },
    "the logarithm of a ratio is no ratio of logarithms": {
        "exponent_for": lambda t, k, c: math.log(t / k / c),
    },
    "the exponent of the parameters": {
        "exponent_for": lambda t, k, c: 1 - _exponent_for(t, k, c),
    },
    "fewest and most are swapped": {"box": lambda *given: _box(*given)[::-1]},
    "parameters, not tokens": {
        "box": lambda a, k, d, c: tuple(c / 6 / tokens for tokens in _box(a, k, d, c))
    },
    "a whole unit, not half of one": {"box": _box_wrong(lambda digits: 10**-digits)},
    "a whole unit of the next digit": {"box": _box_wrong(lambda digits: 10 ** -(digits + 1))},
    "one digit too many": {"box": _box_wrong(lambda digits: 0.5 * 10 ** -(digits + 1))},
    "one digit too few": {"box": _box_wrong(lambda digits: 0.5 * 10 ** (1 - digits))},
    "rounding is taken for cutting off": {"box": _box_wrong(low=(0, 0), high=(2, 2))},
    "only the exponent is moved": {"box": _box_wrong(low=(-1, 0), high=(1, 0))},
    "only the coefficient is moved": {"box": _box_wrong(low=(0, -1), high=(0, 1))},
    "the wrong corners of the box": {"box": _box_wrong(low=(-1, 1), high=(1, -1))},
    "only one corner": {"box": _box_wrong(low=(0, 0))},
    "digits is not used": {"box": _box_wrong(lambda digits: 0.005)},
}
PAIR_WRONG = {name: PAIR_PLAIN | changed for name, changed in PAIR_WRONG.items()}


_BUDGETS = load_answers("03_budgets")
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
