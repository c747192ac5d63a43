"""From compute to a benchmark's accuracy in two steps (§3.2.1).

First, the loss of the right answers, in nats a character, is a line over log FLOPs; only
compute-optimal models of the sweep go in. A line ends below 0, where no loss can be: for a task
nearly solved a power law with a floor (ours) is the safer form. Second, accuracy is a sigmoid of
that loss; there other models help too, as Llama 2 did in the paper. The assumption that joins the
two: models of equal loss have equal accuracy, however they came by it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from llama3lib.eval.intervals import Interval
from llama3lib.scaling.noise import check_level, interval_of, redraw
from llama3lib.scaling.power_law import PowerLawFit, fit_power_law
from llama3lib.utils.logging import get_logger
from llama3lib.utils.require import positive, require, require_all

_log = get_logger(__name__)


@dataclass(frozen=True)
class Sigmoid:
    """accuracy = chance + (top - chance) / (1 + exp((nll - middle) / width))."""

    chance: float
    top: float
    middle: float
    """Loss at which accuracy is half-way."""
    width: float

    def predict(self, nll: float) -> float:
        """Accuracy at a loss in nats a character."""
        # tanh, since exp of a large number overflows
        share = 0.5 - 0.5 * math.tanh((nll - self.middle) / (2 * self.width))
        return self.chance + (self.top - self.chance) * share


@dataclass(frozen=True)
class TwoSteps:
    """Both steps, fitted, with what else they might have been in each draw."""

    sigmoid: Sigmoid
    line: tuple[float, float] | None
    """Loss at ln FLOPs = 0, and its change for one unit of ln FLOPs, below 0; None with `law`."""
    lines: Float[np.ndarray, "R 2"]
    sigmoids: tuple[Sigmoid, ...]
    """One a draw; NaN inside where the draw could not tell, which widens the intervals."""
    law: PowerLawFit | None = None
    """Instead of the line: floor + coefficient · FLOPs^exponent."""
    level: float = 0.95

    def predict(self, flops: float) -> "TaskPrediction":
        """Loss and accuracy at a budget, with bands. Raises ValueError if it is not above 0."""
        positive("flops", flops)
        if self.law is not None:
            nll, drawn = self.law.law.predict(flops), self.law.drawn(flops)
        else:
            place = np.array([1.0, math.log(flops)])
            nll, drawn = float(np.array(self.line) @ place), self.lines @ place
        right = np.array(
            [math.nan if math.isnan(v) else s.predict(v) for v, s in self._pairs(drawn)]
        )
        return TaskPrediction(
            interval_of(nll, drawn, self.level),
            interval_of(self.sigmoid.predict(nll), right, self.level),
        )

    def _pairs(self, drawn: np.ndarray) -> list[tuple[float, Sigmoid]]:
        return [(float(v), self.sigmoids[n % len(self.sigmoids)]) for n, v in enumerate(drawn)]


@dataclass(frozen=True)
class TaskPrediction:
    """Loss of the right answers in nats a character, and accuracy."""

    nll: Interval
    accuracy: Interval


def fit_sigmoid(
    nll: Sequence[float] | np.ndarray,
    accuracy: Sequence[float] | np.ndarray,
    *,
    chance: float = 0.25,
    top: float = 1.0,
    near: Sigmoid | None = None,
) -> Sigmoid:
    """The sigmoid of least squares between `chance` and `top`.

    chance: what guessing gives; 0.25 for four choices. top: what no model passes, if questions
    are flawed. Both are set and not fitted: a few points on the slope do not tell the ends.
    near: begin at this one only, if the result is known to be near; ten times as fast.

    Points on one end only, all near chance say, do not tell where the slope is: the search then
    ends at its bounds (ten times the span of the losses beyond them, widths of 1/1000 to 100 times
    the span), and that is warned of.

    Raises ValueError for fewer than three points, numbers out of range, or accuracy that does not
    fall with the loss.
    """
    x, y = _points(nll, accuracy)
    require_all(0 <= chance < top <= 1, "0 <= chance < top <= 1", chance=chance, top=top)
    if not _falls(x, y):
        raise ValueError(
            f"accuracy={np.round(y, 4).tolist()} does not fall with nll={np.round(x, 4).tolist()}: "
            "no sigmoid"
        )
    found, inside = _search(x, y, chance, top, near)
    if not inside:
        _log.warning(
            f"the sigmoid ended at the bounds of its search (middle {found.middle:.3g}, width "
            f"{found.width:.3g}): these models do not show where accuracy rises"
        )
    return found


def _falls(x: np.ndarray, y: np.ndarray) -> bool:
    return float((x - x.mean()) @ (y - y.mean())) < -1e-12


def _search(
    x: np.ndarray, y: np.ndarray, chance: float, top: float, near: Sigmoid | None
) -> tuple[Sigmoid, bool]:
    """The sigmoid, and whether it lies inside the bounds of the search."""
    from scipy.optimize import least_squares

    spread = max(float(np.ptp(x)), 1e-6)

    def share(theta: np.ndarray) -> np.ndarray:
        return 0.5 - 0.5 * np.tanh((x - theta[0]) / (2 * math.exp(theta[1])))

    def miss(theta: np.ndarray) -> np.ndarray:
        return chance + (top - chance) * share(theta) - y

    def slope(theta: np.ndarray) -> np.ndarray:
        part, width = share(theta), math.exp(theta[1])
        steep = (top - chance) * part * (1 - part) / width
        return np.stack([steep, steep * (x - theta[0])], axis=1)

    low = [x.min() - 10 * spread, math.log(spread / 1000)]
    high = [x.max() + 10 * spread, math.log(spread * 100)]
    if near is None:
        middles = np.quantile(x, [0.1, 0.5, 0.9])
        starts = [(m, math.log(spread / w)) for m in middles for w in (2, 8)]
    else:
        starts = [np.clip((near.middle, math.log(near.width)), low, high)]
    tried = [least_squares(miss, s, slope, bounds=(low, high)) for s in starts]
    best = min(tried, key=lambda r: r.cost)
    room = np.minimum(best.x - low, np.subtract(high, best.x)) / np.subtract(high, low)
    found = Sigmoid(chance, top, float(best.x[0]), math.exp(float(best.x[1])))
    return found, bool((room > 0.01).all())


def fit_two_steps(
    flops: Sequence[float] | np.ndarray,
    nll: Sequence[float] | np.ndarray,
    all_nll: Sequence[float] | np.ndarray,
    all_accuracy: Sequence[float] | np.ndarray,
    *,
    first: Literal["line", "floor"] = "line",
    chance: float = 0.25,
    top: float = 1.0,
    level: float = 0.95,
    resamples: int = 200,
    seed: int = 0,
) -> TwoSteps:
    """Fit both steps.

    first: "line" as in the paper, or "floor": a power law with a floor that is fitted too.
    flops, nll: one compute-optimal model a budget. all_nll, all_accuracy: every model there is.
    Each draw puts noise on the line and takes the models of the sigmoid with replacement; a draw
    whose sigmoid cannot be told (see `fit_sigmoid`) counts as one that could be anywhere.

    Raises ValueError for fewer than two budgets, another `first`, or as `fit_sigmoid`.
    """
    check_level(level, resamples)
    require(first in ("line", "floor"), "first", first, "'line' or 'floor'")
    x = np.asarray(flops, dtype=np.float64)
    y = np.asarray(nll, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape or len(np.unique(x)) < 2:
        raise ValueError(f"flops={x.tolist()}, nll={y.tolist()}: one each, two budgets at least")
    if not (np.isfinite(x) & (x > 0) & np.isfinite(y)).all():
        raise ValueError("flops and nll must be finite, flops above 0")
    design = np.stack([np.ones_like(x), np.log(x)], axis=1)
    solve, rng = np.linalg.pinv(design), np.random.default_rng(seed)
    line: tuple[float, float] | None = tuple((solve @ y).tolist())
    drawn, law = redraw(design, y, rng, resamples), None
    lines = np.full((resamples, 2), np.nan) if drawn is None else drawn @ solve.T
    if first == "floor":
        law = fit_power_law(x, y, floor="fit", level=level, resamples=resamples, seed=seed)
        line, lines = None, np.empty((0, 2))
    sigmoid = fit_sigmoid(all_nll, all_accuracy, chance=chance, top=top)
    points = np.stack(_points(all_nll, all_accuracy), axis=1)
    others, lost = [], Sigmoid(chance, top, math.nan, math.nan)
    for _ in range(resamples):
        again = points[rng.integers(len(points), size=len(points))]
        if len(np.unique(again[:, 0])) < 3:
            continue
        if not _falls(*again.T):
            others.append(lost)
            continue
        other, inside = _search(*again.T, chance, top, sigmoid)
        others.append(other if inside else lost)
    return TwoSteps(sigmoid, line, lines, tuple(others) or (lost,), law, level)


def _points(
    nll: Sequence[float] | np.ndarray, accuracy: Sequence[float] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(nll, dtype=np.float64), np.asarray(accuracy, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape or len(np.unique(x)) < 3:
        raise ValueError(f"nll has shape {x.shape}, accuracy {y.shape}: one each, 3 at least")
    if not np.isfinite(x).all() or not ((y >= 0) & (y <= 1)).all():
        raise ValueError("nll must be finite, accuracy 0 to 1")
    return x, y
