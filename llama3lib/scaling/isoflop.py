"""IsoFLOP curves: many sizes at one budget, a parabola through them, and its minimum (§3.2.1).

The minima of several budgets give the two laws: the best size, and the loss it reaches.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from llama3lib.eval.intervals import Interval
from llama3lib.scaling.noise import (
    Noise,
    check_level,
    draw_noise,
    interval_of,
    pooled,
    standard_residuals,
)
from llama3lib.scaling.points import Run, by_budget
from llama3lib.scaling.power_law import (
    PowerLaw,
    PowerLawFit,
    check_floor,
    fit_line,
    law_of_judged,
)
from llama3lib.utils.logging import get_logger
from llama3lib.utils.require import one_of, require, require_all

_log = get_logger(__name__)
Axis = Literal["parameters", "tokens", "non_embedding"]
AXES = ("parameters", "tokens", "non_embedding")
DOUBTFUL = 3.0
"""A law that misses its points by more (`PowerLawFit.misfit`), or sides of a parabola that differ
by more standard errors, are warned of (ours)."""


@dataclass(frozen=True)
class Parabola:
    """loss = lowest + bend · (ln size - ln best)²; a curve with its minimum has bend > 0."""

    best: float
    """Size of least loss, in units of the axis."""
    lowest: float
    bend: float

    def predict(self, size: float) -> float:
        """The loss at a size."""
        return self.lowest + self.bend * (math.log(size) - math.log(self.best)) ** 2


@dataclass(frozen=True)
class IsoFlopCurve:
    """One budget: its runs, their parabola, and where the minimum might be."""

    budget: float
    axis: Axis
    sizes: Float[np.ndarray, "M"]
    losses: Float[np.ndarray, "M"]
    parabola: Parabola
    best: Interval
    lowest: Interval

    @property
    def is_inside(self) -> bool:
        """Whether the minimum lies between the smallest and the largest size tried."""
        return bool(self.sizes.min() < self.parabola.best < self.sizes.max())


@dataclass(frozen=True)
class ScalingLaw:
    """What isoFLOP curves say together: best size and loss as powers of the budget."""

    axis: Axis
    curves: tuple[IsoFlopCurve, ...]
    size: PowerLawFit
    """Best size over FLOPs; with axis "tokens" this is the paper's N*(C)."""
    loss: PowerLawFit
    """Loss of the best size over FLOPs."""

    def predict(self, flops: float) -> "Prediction":
        """Best size and its loss at another budget, with bands."""
        return Prediction(flops, self.axis, self.size.predict(flops), self.loss.predict(flops))


@dataclass(frozen=True)
class Prediction:
    """Best size (in units of the axis) and loss at a budget."""

    flops: float
    axis: Axis
    size: Interval
    loss: Interval


def size_of(run: Run, axis: Axis) -> float:
    """The run's place on that axis. Raises ValueError for another axis, or if it is not known."""
    one_of("axis", axis, list(AXES))
    value = getattr(run, axis)
    require(value is not None, "axis", axis, f"a run at {run.budget:.3g} has none")
    return float(value)


def fit_parabola(
    sizes: Sequence[float] | np.ndarray, losses: Sequence[float] | np.ndarray
) -> Parabola:
    """The parabola of least squares through loss over ln size.

    Raises ValueError with fewer than three different sizes, numbers that are not finite, or points
    that have no lowest place between them because they bend downwards.
    """
    log_x, y = _checked(sizes, losses)
    lowest, best, bend = _vertex(log_x, y[None])
    if not bend[0] > 0:
        raise ValueError(
            f"losses={np.round(y, 4).tolist()} have no minimum: they do not bend upwards "
            f"over sizes {np.exp(log_x).round().tolist()}; add smaller or larger models"
        )
    return Parabola(math.exp(best[0]), float(lowest[0]), float(bend[0]))


def fit_isoflop(
    runs: Sequence[Run],
    axis: Axis = "parameters",
    *,
    floor: float | Literal["fit"] = 0.0,
    edges: bool = False,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> ScalingLaw:
    """A parabola for each budget and a power law through the minima.

    floor: loss that no budget removes; subtracted before the law of the loss is fitted. "fit"
    looks for the one with which the minima lie best on a line, in each draw anew; that
    takes four budgets or more. The law of the size knows no floor.
    edges: True lets a minimum lie outside the sizes tried; it is then only warned of.
    Each draw of the bootstrap goes all the way: noise on the runs, new parabolas, new laws. The
    noise is that of all curves together, since five runs alone say little about it. A draw in
    which a curve has no minimum is one that could be anywhere, and widens the intervals.
    Minima that miss their law by more than the noise of runs widen them too, see
    `PowerLawFit.misfit`; above `DOUBTFUL` it is warned of, as are curves whose sides differ: a
    parabola's minimum is then off by more than its interval says.
    With four budgets and a fitted floor, 95 % of the intervals of the loss four times farther on
    hold it, and 94 % of those of the floor; where there is none they end a little above 0.

    Raises ValueError for fewer than two budgets (four to fit a floor), budgets all within a factor
    of 1.5, fewer than four runs at one (three go through a parabola exactly and show no noise), a
    curve without a minimum, or one on the edge.
    """
    check_level(level, resamples)
    check_floor(floor, fit=True)
    groups = by_budget(runs)
    _check_budgets(list(groups), floor)
    data, noises = {}, []
    for budget, found in groups.items():
        data[budget], noise = _one(budget, found, axis, edges)
        noises.append(noise)
    _warn_of_sides(data)
    noise, rng = pooled(noises), np.random.default_rng(seed)
    curves, best, lowest = [], [], []
    for budget, (log_x, y, parabola) in data.items():
        fitted = _design(log_x) @ np.linalg.pinv(_design(log_x)) @ y
        drawn = fitted + draw_noise(noise, rng, (resamples, len(y)))
        low, place, bend = _vertex(log_x, drawn)
        gone = ~(bend > 0) | ~(low > 0)
        low, place = np.where(gone, np.nan, low), np.where(gone, np.nan, place)
        with np.errstate(over="ignore"):
            at = interval_of(parabola.best, np.exp(place), level)
        least = interval_of(parabola.lowest, low, level)
        curves.append(IsoFlopCurve(budget, axis, np.exp(log_x), y, parabola, at, least))
        best.append(place)
        lowest.append(low)
    budgets = np.array(list(data))
    sizes = np.array([curve.parabola.best for curve in curves])
    losses = np.array([curve.parabola.lowest for curve in curves])
    with np.errstate(over="ignore"):
        size = law_of_judged(budgets, sizes, np.exp(np.stack(best, 1)), rng, 0.0, level)
    loss = law_of_judged(budgets, losses, np.stack(lowest, 1), rng, floor, level)
    _warn_of_misfits({"best size": size, "loss": loss})
    return ScalingLaw(axis, tuple(curves), size, loss)


def in_other_counts(law: ScalingLaw, runs: Sequence[Run]) -> tuple[PowerLaw, PowerLaw]:
    """The same best models counted two ways: with and without embedding and output matrix.

    First the law over the budget in all parameters; then what one gets who leaves out the
    embedding and the output matrix both from the parameters and from the FLOPs (6 · N · D), as
    Kaplan and others 2020 did. Small models are mostly embedding, so the second is steeper.

    Raises ValueError if the law is not over parameters, a run has no other count, or there are
    no runs of one of the law's budgets.
    """
    require(law.axis == "parameters", "law.axis", law.axis, "'parameters'")
    small, spent, groups = [], [], by_budget(runs)
    for curve in law.curves:
        near = [found for b, found in groups.items() if abs(math.log(b / curve.budget)) < 0.01]
        if not near:
            raise ValueError(f"runs have none at budget {curve.budget:.3g}, which the law is from")
        size = math.log(curve.parabola.best)
        place = sorted({(r.parameters, size_of(r, "non_embedding"), r.tokens) for r in near[0]})
        logs = np.log(np.array(place))
        small.append(math.exp(float(np.interp(size, logs[:, 0], logs[:, 1]))))
        tokens = math.exp(float(np.interp(size, logs[:, 0], logs[:, 2])))
        spent.append(6 * small[-1] * tokens)
    return law.size.law, fit_line(spent, small)


def _check_budgets(budgets: Sequence[float], floor: float | str) -> None:
    require_all(len(budgets) >= 2, "a law needs two or more", budgets=budgets)
    ok = max(budgets) >= 1.5 * min(budgets)
    require_all(
        ok, "the largest must be 1.5 times the smallest or more, for a law", budgets=budgets
    )
    if floor == "fit" and len(budgets) < 4:
        raise ValueError(f"floor='fit' is not allowed with {len(budgets)} budgets: 4 or more")


def _warn_of_misfits(laws: Mapping[str, PowerLawFit]) -> None:
    for what, law in laws.items():
        if law.misfit is not None and law.misfit > DOUBTFUL:
            start = f"the law of the {what} misses its own points, {law.misfit:.1f} times"
            _log.warning(f"{start} what their error bars let expect")


def _one(
    budget: float, found: Sequence[Run], axis: Axis, edges: bool
) -> tuple[tuple[np.ndarray, np.ndarray, Parabola], Noise]:
    where = f"budget {budget:.3g}"
    sizes = [size_of(run, axis) for run in found]
    if len(set(sizes)) < 3:
        raise ValueError(
            f"{where}: {len(set(sizes))} different sizes among {len(found)} runs are too few: a "
            "parabola needs 3; runs whose budgets are within 1 % are one curve"
        )
    try:
        log_x, y = _checked(sizes, [run.loss for run in found])
        parabola = fit_parabola(np.exp(log_x), y)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    design = _design(log_x)
    noise = standard_residuals(design @ np.linalg.pinv(design), y)
    if noise is None:
        raise ValueError(f"{where}: {len(y)} runs are too few: 4, to see how noisy they are")
    place = math.log(parabola.best)
    if not log_x.min() < place < log_x.max():
        message = (
            f"{where}: the minimum {parabola.best:.3g} lies outside the sizes "
            f"{math.exp(log_x.min()):.3g} to {math.exp(log_x.max()):.3g}: add models beyond"
        )
        if not edges:
            raise ValueError(message)
        _log.warning(message)
    return (log_x, y, parabola), noise


def _warn_of_sides(data: dict[float, tuple[np.ndarray, np.ndarray, Parabola]]) -> None:
    """Warn if all curves together rise faster on one side: a cubic term common to them."""
    squares, product, left, freedom = 0.0, 0.0, 0.0, -1
    for log_x, y, _ in data.values():
        design = _design(log_x)
        rest = np.eye(len(y)) - design @ np.linalg.pinv(design)
        cubic, missed = rest @ design[:, 1] ** 3, rest @ y
        squares += float(cubic @ cubic)
        product += float(cubic @ missed)
        left += float(missed @ missed)
        freedom += len(y) - 3
    if freedom < 4 or squares < 1e-9:  # so few would often warn of nothing
        return
    noise = max(0.0, left - product**2 / squares) / freedom + 1e-18
    t = product / math.sqrt(squares * noise)
    if abs(t) > DOUBTFUL:
        _log.warning(
            f"the curves are steeper on one side (t = {t:.1f} for a cubic term): the minimum "
            "of a parabola is then off; leave out the sizes farthest from it"
        )


def _checked(
    sizes: Sequence[float] | np.ndarray, losses: Sequence[float] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(sizes, dtype=np.float64), np.asarray(losses, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"sizes has shape {x.shape}, losses {y.shape}: two rows alike are needed")
    if not (np.isfinite(x) & (x > 0)).all() or not np.isfinite(y).all():
        raise ValueError("sizes and losses must be finite, sizes above 0")
    if len(np.unique(x)) < 3:
        raise ValueError(f"{len(np.unique(x))} different sizes are too few: a parabola needs 3")
    return np.log(x), y


def _design(log_x: np.ndarray) -> Float[np.ndarray, "M 3"]:
    away = log_x - log_x.mean()
    return np.stack([np.ones_like(away), away, away**2], axis=1)


def _vertex(
    log_x: np.ndarray, y: Float[np.ndarray, "R M"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Height, place (ln size) and bend of the vertex for each row of losses."""
    height, slope, bend = (y @ np.linalg.pinv(_design(log_x)).T).T
    with np.errstate(divide="ignore", invalid="ignore"):
        place = -slope / (2 * bend)
        return height + slope * place / 2, log_x.mean() + place, bend
