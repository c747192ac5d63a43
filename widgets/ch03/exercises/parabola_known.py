"""Chapter 03, exercise 2: known mistakes, in the best size and in its interval."""

import math
from collections.abc import Callable

import numpy as np

Ends = tuple[float, float, float]


def _fit(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Bend, slope and height of the parabola of least squares."""
    return np.polyfit(x, y, 2)


def _log(formula: Callable[[float, float, float], float]) -> Callable:
    """A best size from the coefficients of the parabola over ln size."""

    def best(sizes: np.ndarray, losses: np.ndarray) -> float:
        bend, slope, height = _fit(np.log(sizes), losses)
        power = formula(bend, slope, height)
        return math.exp(power) if power < 700 else math.inf

    return best


def _raw(sizes: np.ndarray, losses: np.ndarray) -> float:
    unit = sizes.mean()
    bend, slope, _ = _fit(sizes / unit, losses)
    return float(-slope / (2 * bend) * unit)


def _least(sizes: np.ndarray, losses: np.ndarray) -> float:
    return float(sizes[losses.argmin()])


def _mixed(sizes: np.ndarray, losses: np.ndarray) -> float:
    bend, slope, _ = _fit(np.log10(sizes), losses)
    return math.exp(-slope / (2 * bend))


def _mixed_back(sizes: np.ndarray, losses: np.ndarray) -> float:
    bend, slope, _ = _fit(np.log(sizes), losses)
    return float(np.power(10.0, -slope / (2 * bend)))


def _three(sizes: np.ndarray, losses: np.ndarray) -> float:
    order = np.sort(np.argsort(losses)[:3])
    bend, slope, _ = _fit(np.log(sizes[order]), losses[order])
    return math.exp(-slope / (2 * bend))


def _not_moved_back(sizes: np.ndarray, losses: np.ndarray) -> float:
    x = np.log(sizes)
    bend, slope, _ = _fit(x - x.mean(), losses)
    return math.exp(-slope / (2 * bend))


def _plain(way: Callable[[np.ndarray, np.ndarray], float]) -> Callable:
    def best(sizes: np.ndarray, losses: np.ndarray) -> float:
        bend, slope, height = _fit(np.log(sizes), losses)
        return float(way(np.array([bend, slope, height]), np.log(sizes)))

    return best


BEST_KNOWN: tuple[tuple[str, Callable, str], ...] = (
    (
        "a parabola over the sizes, not over their logarithms",
        _raw,
        "The sizes lie evenly on a logarithmic axis, and so does the curve's symmetry.",
    ),
    (
        "the best of the sizes tried",
        _least,
        "The lowest point of the curve may lie between two runs, and noise picks a wrong one.",
    ),
    (
        "the sign of the vertex",
        _log(lambda bend, slope, _: slope / (2 * bend)),
        "At the lowest point the slope b + 2 a x is 0.",
    ),
    (
        "the half is missing in the vertex",
        _log(lambda bend, slope, _: -slope / bend),
        "The slope of a x² is 2 a x.",
    ),
    (
        "bend and slope are mixed up",
        _log(lambda bend, slope, _: -bend / (2 * slope)),
        "np.polyfit gives the highest power first.",
    ),
    (
        "bend and slope are mixed up",
        _log(lambda bend, slope, height: -slope / (2 * height)),
        "np.polyfit gives the highest power first.",
    ),
    (
        "ln and log10 are mixed up",
        _mixed,
        "exp undoes ln; log10 is undone by a power of 10.",
    ),
    (
        "ln and log10 are mixed up",
        _mixed_back,
        "exp undoes ln; log10 is undone by a power of 10.",
    ),
    (
        "the logarithm is not undone",
        _plain(lambda c, x: -c[1] / (2 * c[0])),
        "A size is wanted, not its logarithm.",
    ),
    (
        "the lowest loss, not the best size",
        _plain(lambda c, x: c[2] - c[1] ** 2 / (4 * c[0])),
        "Where is the lowest point, not how low?",
    ),
    (
        "the middle is not added again",
        _not_moved_back,
        "The parabola was fitted around the mean of ln size. Move its vertex back.",
    ),
    (
        "only the three lowest runs are fitted",
        _three,
        "Three points are met exactly, with all their noise. Use every run.",
    ),
    (
        "a parabola of the logarithm of the loss",
        lambda sizes, losses: _log(lambda a, b, _: -b / (2 * a))(sizes, np.log(losses)),
        "Only the size is put on a logarithmic axis.",
    ),
)
"""Name, function of sizes and losses, one sentence of help."""


def _draws(
    sizes: np.ndarray,
    losses: np.ndarray,
    resamples: int,
    rng: np.random.Generator,
    spread: Callable[[np.ndarray, np.ndarray], float],
) -> tuple[float, np.ndarray]:
    """Best ln size, and that of each draw with normal noise of some size."""
    x = np.log(sizes)
    middle = x.mean()
    design = np.stack([np.ones_like(x), x - middle, (x - middle) ** 2], axis=1)
    solve = np.linalg.pinv(design)
    fitted = design @ (solve @ losses)
    noise = spread(losses - fitted, losses) * rng.normal(size=(resamples, len(x)))
    found = np.concatenate([fitted[None], fitted + noise]) @ solve.T
    places = middle - found[:, 1] / (2 * found[:, 2])
    return float(places[0]), places[1:]


def _error(left: np.ndarray, losses: np.ndarray) -> float:
    return math.sqrt(float(left @ left) / (len(left) - 3))


def _ends(
    ends: Callable[[float, np.ndarray], tuple[float, float]],
    spread: Callable[[np.ndarray, np.ndarray], float] = _error,
) -> Callable:
    """An interval from its ends in ln size and from the noise that is drawn."""

    def interval(
        sizes: np.ndarray, losses: np.ndarray, resamples: int, rng: np.random.Generator
    ) -> Ends:
        best, places = _draws(sizes, losses, resamples, rng, spread)
        low, high = ends(best, places)
        return math.exp(best), math.exp(min(low, 700)), math.exp(min(high, 700))

    return interval


def _quantiles(low: float, high: float) -> Callable:
    return lambda best, places: tuple(np.quantile(places, [low, high]))


_RIGHT = _quantiles(0.025, 0.975)
INTERVALS_KNOWN: tuple[tuple[str, Callable, str], ...] = (
    (
        "an interval of about 68 %",
        _ends(_quantiles(0.16, 0.84)),
        "One standard deviation to each side is not enough for 95 %.",
    ),
    (
        "an interval of about 50 %",
        _ends(_quantiles(0.25, 0.75)),
        "Between the quartiles lies half of the draws.",
    ),
    (
        "an interval of about 90 %",
        _ends(_quantiles(0.05, 0.95)),
        "5 % on both sides together, not on each.",
    ),
    (
        "an interval of about 99 %",
        _ends(_quantiles(0.005, 0.995)),
        "5 % of the draws should lie outside.",
    ),
    (
        "from the least to the most of all draws",
        _ends(lambda best, places: (places.min(), places.max())),
        "It grows with the number of resamples. 5 % of the draws should lie outside.",
    ),
    (
        "percent are taken for shares",
        _ends(_quantiles(0.00025, 0.00975)),
        "np.percentile counts from 0 to 100, np.quantile from 0 to 1.",
    ),
    (
        "the standard error of a mean",
        _ends(lambda best, places: _around(best, 1.96 * places.std() / math.sqrt(len(places)))),
        "More resamples do not make the best size surer. Divide by no number of draws.",
    ),
    (
        "the noise is divided by the root of the number of runs",
        _ends(_RIGHT, lambda left, losses: _error(left, losses) / math.sqrt(len(left))),
        "Each run has the noise of one run, not that of their mean.",
    ),
    (
        "the variance is taken for the standard deviation",
        _ends(_RIGHT, lambda left, losses: _error(left, losses) ** 2),
        "Noise is drawn with a standard deviation. Is a root missing?",
    ),
    (
        "only the lower half",
        _ends(lambda best, places: (np.quantile(places, 0.025), best)),
        "The best size may be larger, too.",
    ),
)
"""Name, function of sizes, losses, resamples and dice, one sentence of help."""


def _around(best: float, half: float) -> tuple[float, float]:
    return best - half, best + half
