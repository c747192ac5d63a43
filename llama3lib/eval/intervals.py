"""How far a benchmark score may be trusted: intervals, and differences between two models.

A score is a mean over N questions that stand for all questions one could have asked. All shares
here are fractions, 0 to 1; the paper's tables print per cent.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from llama3lib.paper.results import interval as paper_half_width
from llama3lib.utils.require import require, whole

_BLOCK = 1 << 22  # numbers drawn at a time, so that memory does not grow with the resamples


@dataclass(frozen=True)
class Interval:
    """A score and the range around it, in the score's own unit."""

    score: float
    low: float
    high: float
    level: float = 0.95

    @property
    def half_width(self) -> float:
        """Half the range: what the paper prints after its ± sign."""
        return (self.high - self.low) / 2

    def holds(self, value: float) -> bool:
        """True if the value lies in the range, its ends included."""
        return self.low <= value <= self.high


def confidence_interval(score: float, n: int) -> Interval:
    """The paper's 95 % interval: S ± 1.96·sqrt(S·(1-S)/N) (§5.1.1).

    A normal curve stands in for a binomial one, which is bad near 0 and 1 and for few questions.
    At S = 1 it has no width whatever N is, and it may pass 1: the paper's QuALITY of 95.2 ± 9.1
    (Table 21) ends at 104.3 %. Nothing is cut off here, so that printed values can be checked;
    `wilson_interval` has neither fault.

    Raises ValueError if the score is not within 0 to 1, or n is no whole number above 0.
    """
    _check_score(score, n)
    half = paper_half_width(100 * score, n) / 100
    return Interval(score, score - half, score + half)


def wilson_interval(score: float, n: int, level: float = 0.95) -> Interval:
    """Wilson's interval: all true shares that would not make this score a surprise.

    It stays within 0 to 1 and keeps a width at both ends. `score` itself is not its middle.

    Raises ValueError as `confidence_interval`, and if level is not between 0 and 1.
    """
    _check_score(score, n)
    z = _z(level)
    middle = (score + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(score * (1 - score) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    # exact at the ends, where rounding would leave 1e-17
    low = 0.0 if score == 0 else max(0.0, middle - half)
    high = 1.0 if score == 1 else min(1.0, middle + half)
    return Interval(score, low, high, level)


def bootstrap_interval(
    values: Sequence[float | int] | np.ndarray,
    level: float = 0.95,
    *,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap of a mean: how it moves when questions are drawn again.

    values: one number for each question, [N].
    For scores that are not just right or wrong (F1, losses). The same seed gives the same
    interval. Values that are all alike give an interval without width, as bad as the paper's at
    0 and 1.

    Raises ValueError on fewer than two values, one that is not finite, a level outside 0 to 1,
    or resamples below 1.
    """
    data = _finite("values", values)
    _z(level)
    whole("resamples", resamples, 1)
    rng = np.random.default_rng(seed)
    rows = max(1, _BLOCK // len(data))
    means = [
        data[rng.integers(len(data), size=(min(rows, resamples - start), len(data)))].mean(1)
        for start in range(0, resamples, rows)
    ]
    tail = (1 - level) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
    return Interval(float(data.mean()), float(low), float(high), level)


def paired_difference(
    first: Sequence[float | int] | np.ndarray,
    second: Sequence[float | int] | np.ndarray,
    level: float = 0.95,
) -> Interval:
    """Mean of `first` minus `second`, both [N] on the same questions, with its interval.

    Two models mostly fail on the same hard questions, so their difference is known better than
    two separate intervals suggest: what both get right or both get wrong adds no doubt. A range
    that does not hold 0 says that one is better. The normal curve wants some dozens of questions
    on which the two differ.

    Raises ValueError if the lengths differ, on fewer than two values, one that is not finite, or
    a level outside 0 to 1.
    """
    a, b = _finite("first", first), _finite("second", second)
    if len(a) != len(b):
        raise ValueError(f"second has {len(b)} values: the {len(a)} of first are needed")
    difference = a - b
    mean = float(difference.mean())
    half = _z(level) * float(difference.std(ddof=1)) / math.sqrt(len(difference))
    return Interval(mean, mean - half, mean + half, level)


def _z(level: float) -> float:
    require(0 < level < 1, "level", level, "between 0 and 1")
    return NormalDist().inv_cdf((1 + level) / 2)


def _check_score(score: float, n: int) -> None:
    require(0 <= score <= 1, "score", score, "a fraction, 0 to 1")
    whole("n", n, 1)


def _finite(field: str, values: Sequence[float] | np.ndarray) -> np.ndarray:
    data = np.asarray(values, dtype=np.float64)
    if data.ndim != 1 or len(data) < 2:
        raise ValueError(f"{field} has shape {data.shape}: one row of 2 or more is needed")
    if not np.isfinite(data).all():
        bad = data[~np.isfinite(data)][0]
        raise ValueError(f"{field} has {bad}: finite numbers are needed")
    return data
