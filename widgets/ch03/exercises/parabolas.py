"""Chapter 03, exercise 2: planted parabolas whose best size is known, and how sure one may be."""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np

SETS, POINTS, RESAMPLES = 30, 30, (60, 240)
"""Planted parabolas in each of two groups, runs on each, and draws asked for in each group."""


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


def plant(seed: int, points: int, noise: float) -> Planted:
    """Runs of `points` sizes on a random parabola, with normal noise on the loss."""
    rng = np.random.default_rng(seed)
    best, bend, lowest = rng.uniform(14, 23), rng.uniform(0.04, 0.1), rng.uniform(2, 4)
    away = np.linspace(-1.3, 1.3, points) + rng.uniform(-0.4, 0.4)
    sizes = np.exp(best + away).round()
    losses = lowest + bend * (np.log(sizes) - best) ** 2 + noise * rng.normal(size=points)
    return Planted(sizes, losses.round(12), math.exp(best))


def plain() -> list[Planted]:
    """From a few runs to many, from the exact parabola to noisy ones."""
    sizes = np.array([1e6, 2e6, 4e6, 8e6, 16e6, 32e6, 64e6, 128e6])
    exact = 3 + 0.05 * (np.log(sizes) - math.log(1.2e7)) ** 2
    first = Planted(sizes, exact.round(9), 1.2e7)
    few = [plant(200 + i, 8, 0.002 * i) for i in range(4)]
    return [first, *few, *(plant(210 + i, 12 + i, 0.002) for i in range(8))]


@cache
def groups() -> tuple[tuple[Planted, ...], ...]:
    """For each number of resamples the parabolas on which the interval is judged."""
    return tuple(
        tuple(plant(1000 * (g + 1) + i, POINTS, 0.004 + 0.0002 * i) for i in range(SETS))
        for g in range(len(RESAMPLES))
    )


def centred(sizes: np.ndarray) -> tuple[np.ndarray, float]:
    """Columns 1, x, x² of ln size, moved by its mean, and that mean."""
    x = np.log(sizes)
    middle = float(x.mean())
    return np.stack([np.ones_like(x), x - middle, (x - middle) ** 2], axis=1), middle


def standard_error(one: Planted) -> tuple[float, float]:
    """Fitted ln best size, and its standard error by the delta method."""
    design, middle = centred(one.sizes)
    inverse = np.linalg.inv(design.T @ design)
    _, slope, bend = found = inverse @ design.T @ one.losses
    left = one.losses - design @ found
    variance = float(left @ left) / (len(left) - 3)
    gradient = np.array([0.0, -1 / (2 * bend), slope / (2 * bend**2)])
    return middle - slope / (2 * bend), math.sqrt(variance * gradient @ inverse @ gradient)


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
