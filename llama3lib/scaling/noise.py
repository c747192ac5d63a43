"""Honest error bars from a handful of runs.

Resampling a few points shows too little doubt: their own scatter hides part of the noise. So each
draw here scales the scatter up for the parameters fitted, and also draws how large the noise might
really be (scaled inverse chi-square). On a line with normal noise the interval then holds the true
value as often as it says.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from llama3lib.eval.intervals import Interval
from llama3lib.utils.require import require, whole


def redraw(
    design: Float[np.ndarray, "M P"],
    y: Float[np.ndarray, "M"],
    rng: np.random.Generator,
    resamples: int,
) -> Float[np.ndarray, "R M"] | None:
    """What y might have been: the fitted values plus noise like that of the residuals.

    None if there are as many parameters as points, so that no noise can be seen.
    """
    hat = design @ np.linalg.pinv(design)
    noise = standard_residuals(hat, y)
    if noise is None:
        return None
    return hat @ y + draw_noise(noise, rng, (resamples, len(y)))


@dataclass(frozen=True)
class Noise:
    """Residuals of one or more fits, as a pool to draw from: unit variance, and their size."""

    pool: Float[np.ndarray, "M"]
    size: float
    freedom: int
    """Residuals less parameters fitted: how well `size` is known."""


def standard_residuals(hat: Float[np.ndarray, "M M"], y: Float[np.ndarray, "M"]) -> Noise | None:
    """Residuals of a linear fit with projection `hat`; None if it has no freedom left."""
    freedom = len(y) - round(float(np.trace(hat)))
    if freedom < 1:
        return None
    left = y - hat @ y
    size = math.sqrt(float(left @ left) / freedom)
    room = np.sqrt(np.clip(1 - np.diag(hat), 1e-12, None))
    keep = room > 1e-5  # a point that the fit goes through whatever it is tells nothing
    pool = left[keep] / room[keep]
    pool = pool - pool.mean()
    spread = float(np.sqrt((pool**2).mean()))
    return Noise(pool / spread if spread > 0 else pool, size, freedom)


def pooled(parts: Sequence[Noise]) -> Noise:
    """Residuals of several fits of the same kind of data, taken together."""
    freedom = sum(part.freedom for part in parts)
    size = math.sqrt(sum(part.size**2 * part.freedom for part in parts) / freedom)
    return Noise(np.concatenate([part.pool for part in parts]), size, freedom)


def draw_noise(
    noise: Noise, rng: np.random.Generator, shape: tuple[int, int]
) -> Float[np.ndarray, "R M"]:
    """Noise for R draws of M points; each draw has its own size."""
    size = noise.size * np.sqrt(noise.freedom / rng.chisquare(noise.freedom, shape[0]))
    return size[:, None] * rng.choice(noise.pool, size=shape)


def interval_of(score: float, drawn: Float[np.ndarray, "R"], level: float) -> Interval:
    """Percentiles of draws; one that failed (NaN) counts as being off on both sides.

    Fewer draws than 2 / (1 - level), 40 at 95 %, do not show the ends: these are then infinite.
    """
    if len(drawn) < math.ceil(2 / (1 - level) - 1e-9):
        return Interval(float(score), -math.inf, math.inf, level)
    tail = (1 - level) / 2
    low = np.sort(np.where(np.isnan(drawn), -np.inf, drawn))
    high = np.sort(np.where(np.isnan(drawn), np.inf, drawn))
    at = min(math.floor(tail * len(drawn)), len(drawn) - 1)
    return Interval(float(score), float(low[at]), float(high[len(drawn) - 1 - at]), level)


def check_level(level: float, resamples: int) -> None:
    """Raises ValueError for a level outside 0 to 1, or resamples below 1."""
    require(0 < level < 1, "level", level, "between 0 and 1")
    whole("resamples", resamples, 1)
