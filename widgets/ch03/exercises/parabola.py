"""Chapter 03, exercise 2: the lowest point of a parabola, and how sure one may be of it.

The best size is compared with the closed form. The interval is judged on many planted parabolas
whose best size is known: how often it holds that size, and how wide it is by the measure of the
closed-form standard error. So any honest bootstrap passes, whatever dice it throws.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from llama3lib.scaling import fit_parabola
from widgets.ch03.exercises.numbers import near, numbers
from widgets.ch03.exercises.parabola_known import BEST_KNOWN, INTERVALS_KNOWN
from widgets.core.judge import Case, Mistake, run

_WHAT = "lowest_point"
_NAMES = ("best size", "low", "high")
SETS, POINTS, RESAMPLES = 30, 30, (60, 240)
"""Planted parabolas in each of two groups, runs on each, and draws asked for in each group."""
LEAST_HELD = 0.77
"""Share of the intervals that must hold the true size; honest ones hold it in 85 to 93 % here."""
WIDTHS = (0.885, 1.11)
"""Allowed width, as a share of 2 · 1.96 standard errors; honest bootstraps have 0.92 to 1.02."""


@dataclass(frozen=True)
class Planted:
    """Runs around a known parabola."""

    sizes: np.ndarray
    losses: np.ndarray
    true: float

    @property
    def shows(self) -> str:
        """As a learner would type it, if it is short."""
        if len(self.sizes) > 8:
            first, last = self.sizes[[0, -1]]
            return f"{len(self.sizes)} runs of {first:.3g} to {last:.3g} parameters, seed given"
        return f"sizes={self.sizes.tolist()}, losses={self.losses.tolist()}"

    def call(self, answer: Callable, resamples: int, seed: int) -> tuple[float, float, float]:
        """What the learner's function says."""
        shows = f"{self.shows}, resamples={resamples}, seed={seed}"
        given = (self.sizes.copy(), self.losses.copy(), resamples, seed)
        with np.errstate(all="ignore"):
            result = run(answer, Case(given, shows), _WHAT)
        return numbers(result, _NAMES, _WHAT, shows)


def plant(
    seed: int, points: int, noise: float, *, wide: float = 1.3, middle: float | None = None
) -> Planted:
    """Runs of `points` sizes on a random parabola, with normal noise on the loss."""
    rng = np.random.default_rng(seed)
    best = rng.uniform(14, 23) if middle is None else math.log(middle)
    bend, lowest = rng.uniform(0.04, 0.1), rng.uniform(2, 4)
    away = np.linspace(-wide, wide, points) + rng.uniform(-0.4, 0.4)
    sizes = np.round(np.exp(best + away), 0 if best > 10 else 3)
    losses = lowest + bend * (np.log(sizes) - best) ** 2 + noise * rng.normal(size=points)
    return Planted(sizes, losses.round(12), math.exp(best))


@cache
def best_cases() -> tuple[Planted, ...]:
    """From a few runs to many, from the exact parabola to noisy ones."""
    sizes = np.array([1e6, 2e6, 4e6, 8e6, 16e6, 32e6, 64e6, 128e6])
    exact = 3 + 0.05 * (np.log(sizes) - math.log(1.2e7)) ** 2
    first = Planted(sizes, exact.round(9), 1.2e7)
    few = [plant(200 + i, 8, 0.002 * i) for i in range(4)]
    return (first, *few, *(plant(210 + i, 12 + i, 0.002) for i in range(8)))


@cache
def groups() -> tuple[tuple[Planted, ...], ...]:
    """For each number of resamples the parabolas on which the interval is judged."""
    return tuple(
        tuple(plant(1000 * (g + 1) + i, POINTS, 0.004 + 0.0002 * i) for i in range(SETS))
        for g in range(len(RESAMPLES))
    )


def standard_error(one: Planted) -> tuple[float, float]:
    """Fitted ln best size, and its standard error by the delta method."""
    x = np.log(one.sizes)
    middle = x.mean()
    design = np.stack([np.ones_like(x), x - middle, (x - middle) ** 2], axis=1)
    inverse = np.linalg.inv(design.T @ design)
    _, slope, bend = found = inverse @ design.T @ one.losses
    left = one.losses - design @ found
    variance = float(left @ left) / (len(x) - 3)
    gradient = np.array([0.0, -1 / (2 * bend), slope / (2 * bend**2)])
    return float(middle - slope / (2 * bend)), math.sqrt(variance * gradient @ inverse @ gradient)


def check_lowest_point(answer: Callable) -> None:
    """03.2: lowest_point(sizes, losses, resamples, seed)."""
    _check_best(answer)
    _check_form(answer)
    _check_dice(answer)
    told = [[one.call(answer, r, 7 + i) for i, one in enumerate(g)] for r, g in _both()]
    judge(told)


def _both() -> list[tuple[int, tuple[Planted, ...]]]:
    return list(zip(RESAMPLES, groups(), strict=True))


def _check_best(answer: Callable) -> None:
    cases = best_cases()
    found = [one.call(answer, 4, 1)[0] for one in cases]
    want = [fit_parabola(one.sizes, one.losses).best for one in cases]
    wrong = [i for i in range(len(cases)) if not near(found[i], want[i], 1e-6)]
    if not wrong:
        return
    first = wrong[0]
    shows = cases[first].shows
    for name, function, why in BEST_KNOWN:
        with np.errstate(all="ignore"):
            theirs = [function(one.sizes, one.losses) for one in cases]
        if all(near(g, t, 1e-4) for g, t in zip(found, theirs, strict=True)):
            apart = next(i for i in wrong if not near(theirs[i], want[i], 1e-3))
            raise Mistake(name, shows=cases[apart].shows, why=why)
    if all(near(g, w, 0.02) for g, w in zip(found, want, strict=True)):
        why = "It is near. Was it looked for on a grid? The vertex of a parabola has a formula."
        raise Mistake("near the lowest point, but not at it", shows=shows, why=why)
    why = f"Yours gives {found[first]:.6g}."
    raise Mistake(f"{_WHAT}: another best size", shows=shows, why=why)


def _check_form(answer: Callable) -> None:
    """Mistakes that one interval shows: order, unit, ends that were no result of a fit."""
    one = plant(5, 20, 0.002)
    best, low, high = one.call(answer, 100, 3)
    shows = f"{one.shows}, resamples=100, seed=3"
    told = f"Yours: best {best:.4g}, low {low:.4g}, high {high:.4g}."
    for name, undo in (("ln", math.exp), ("log10", lambda v: 10**v)):
        if all(abs(v) < 100 and near(undo(v), best, 0.5) for v in (low, high)):
            why = f"{told} They are {name} of a size. Undo the logarithm."
            raise Mistake("the interval is still in logarithms", shows=shows, why=why)
    least, most = one.losses.min(), one.losses.max()
    if best > 100 and all(0.5 * least < v < 2 * most for v in (low, high)):
        why = f"{told} Ask each draw for its best size."
        raise Mistake("the interval is of the loss, not of the size", shows=shows, why=why)
    if any(abs(v) < best / 100 for v in (low, high)) and abs(high - low) < best:
        why = f"{told} Low and high are sizes themselves, not distances from the best one."
        raise Mistake("the ends are no sizes", shows=shows, why=why)
    if low > high:
        raise Mistake("low and high are swapped", shows=shows, why=told)
    if low == high:
        why = f"{told} New noise on the curve gives another parabola each time."
        raise Mistake("all draws are alike", shows=shows, why=why)
    if all(np.isclose(v, one.sizes, rtol=1e-9).any() for v in (low, high)):
        why = "Both ends are sizes that were tried. Fit a new parabola in each draw."
        raise Mistake("no new parabola in the draws", shows=shows, why=why)
    exact = plant(6, 20, 0.0)
    best, low, high = exact.call(answer, 100, 3)
    if not (near(low, best, 1e-4) and near(high, best, 1e-4)):
        shows = f"{exact.shows}, all exactly on a parabola"
        why = (
            f"No point is off the curve, so there is no doubt. Yours: {low:.4g} to {high:.4g}. "
            "Noise is what the fitted curve leaves over; its bend is none."
        )
        raise Mistake("wide where there is no noise", shows=shows, why=why)


def _check_dice(answer: Callable) -> None:
    """Equal seeds, equal intervals; other seeds or draws, others."""
    one = plant(5, 20, 0.002)
    first, again = one.call(answer, 60, 3), one.call(answer, 60, 3)
    if first != again:
        why = "Make a generator from it: rng = np.random.default_rng(seed)."
        raise Mistake("other dice than the seed's", shows=f"{one.shows}, twice seed=3", why=why)
    if one.call(answer, 60, 4) == first:
        why = "Another seed gives the very same interval. Is anything drawn?"
        raise Mistake("the seed is not used", shows=f"{one.shows}, seed=3 and seed=4", why=why)
    if one.call(answer, 900, 3) == first:
        why = "60 and 900 resamples give the very same interval."
        raise Mistake("resamples is not used", shows=f"{one.shows}, seed=3", why=why)


def signature(results: list[list[tuple[float, float, float]]]) -> np.ndarray:
    """Median distance of low and of high from the best size in each group, in 1.96 errors."""
    found = []
    for planted, told in zip(groups(), results, strict=True):
        ways = []
        for one, (_, low, high) in zip(planted, told, strict=True):
            best, error = standard_error(one)
            ends = [math.log(v) if 0 < v < math.inf else math.nan for v in (low, high)]
            ways.append([(best - ends[0]) / (1.96 * error), (ends[1] - best) / (1.96 * error)])
        found.append(np.median(np.nan_to_num(ways, nan=1e3), axis=0))
    return np.array(found)


@cache
def _known_signatures() -> tuple[tuple[str, str, np.ndarray], ...]:
    told = []
    for name, function, why in INTERVALS_KNOWN:
        results = []
        for resamples, planted in _both():
            rng = np.random.default_rng(90)
            with np.errstate(all="ignore"):
                results.append([function(p.sizes, p.losses, resamples, rng) for p in planted])
        told.append((name, why, signature(results)))
    return tuple(told)


def judge(results: list[list[tuple[float, float, float]]]) -> None:
    """Raise a `Mistake` unless the intervals hold the truth often enough, and are not wide."""
    pairs = [
        (one, got)
        for planted, told in zip(groups(), results, strict=True)
        for one, got in zip(planted, told, strict=True)
    ]
    held = sum(low <= one.true <= high for one, (_, low, high) in pairs) / len(pairs)
    seen = signature(results)
    width = float(seen[1].mean())  # many draws tell it better than few
    is_even = (np.abs(seen[1] - width) < 0.2).all()
    if held >= LEAST_HELD and WIDTHS[0] < width < WIDTHS[1] and is_even:
        return
    shows = pairs[0][0].shows
    told = f"On {len(pairs)} planted parabolas {held:.0%} of the intervals hold the true best size."
    known = sorted(_known_signatures(), key=lambda one: _apart(one[2], seen))
    if _apart(known[0][2], seen) < 0.12:
        raise Mistake(known[0][0], shows=shows, why=f"{told} {known[0][1]}")
    if not is_even and held < 0.95:
        raise Mistake("the interval lies to one side", shows=shows, why=told)
    size = f"It is {width:.2f} times as wide as 1.96 standard errors to both sides."
    name = "the interval is too narrow" if width < 1 else "the interval is too wide"
    raise Mistake(name, shows=shows, why=f"{told} {size}")


def _apart(known: np.ndarray, seen: np.ndarray) -> float:
    """How far two signatures are apart, as a share of the known one's size."""
    return float(np.abs(known - seen).max() / max(np.abs(known).max(), 1e-9))
