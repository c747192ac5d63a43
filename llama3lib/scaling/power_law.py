"""A straight line on log-log paper: y = coefficient · x^exponent, with error bars (§3.2.1)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float

from llama3lib.eval.intervals import Interval
from llama3lib.scaling.noise import Noise, check_level, draw_noise, interval_of, redraw
from llama3lib.utils.require import positive, require

Array = np.ndarray
_CHANCE = 2.0
"""Points whose scatter is noise alone miss their law by more than this in 2 to 7 of 100 cases."""
_ROUNDING = 1e-5
"""Points nearer than this to a law lie on it: a floor is not looked for more finely."""


@dataclass(frozen=True)
class PowerLaw:
    """y = floor + coefficient · x^exponent."""

    exponent: float
    coefficient: float
    floor: float = 0.0

    def predict(self, x: float) -> float:
        """y at x. Raises ValueError if x is not above 0."""
        positive("x", x)
        # in logs: the coefficient of a steep law over- or underflows where y does not
        return self.floor + math.exp(math.log(self.coefficient) + self.exponent * math.log(x))


@dataclass(frozen=True)
class PowerLawFit:
    """A law and what else it might have been.

    draws [R, 3]: log of the coefficient, exponent, floor; NaN where a draw gave no law.
    """

    law: PowerLaw
    draws: Float[np.ndarray, "R 3"]
    level: float = 0.95
    misfit: float | None = None
    """How far the points miss the law, in units of what their own error bars let expect (root of
    chi² over its freedom; ours). About 1: as far as noise says. Above 3: this law is not theirs.
    None if the points have no error bars of their own, or as many unknowns as there are points."""

    @property
    def exponent(self) -> Interval:
        """The exponent and its interval."""
        return interval_of(self.law.exponent, self.draws[:, 1], self.level)

    @property
    def coefficient(self) -> Interval:
        """The coefficient and its interval."""
        with np.errstate(over="ignore"):
            drawn = np.exp(self.draws[:, 0])
        return interval_of(self.law.coefficient, drawn, self.level)

    @property
    def floor(self) -> Interval:
        """The floor and its interval; one that was given has no width."""
        return interval_of(self.law.floor, self.draws[:, 2], self.level)

    def predict(self, x: float) -> Interval:
        """y at x with the band of the curve. Raises ValueError if x is not above 0."""
        return interval_of(self.law.predict(x), self.drawn(x), self.level)

    def drawn(self, x: float) -> Float[np.ndarray, "R"]:
        """y at x in each draw."""
        with np.errstate(over="ignore"):
            return self.draws[:, 2] + np.exp(self.draws[:, 0] + self.draws[:, 1] * math.log(x))


def fit_line(
    x: Sequence[float] | Array, y: Sequence[float] | Array, floor: float = 0.0
) -> PowerLaw:
    """The power law of least squares in log space.

    floor: a known part of y that no x removes, such as the entropy of text; subtracted first.

    Raises ValueError if there are fewer than two different x, if these are so near each other that
    no law can be told, for numbers that have no logarithm, or a floor below 0.
    """
    check_floor(floor)
    log_x, log_y = _logs(x, y, floor)
    slope, middle = _solve(log_x, log_y)
    require(abs(middle) < 700, "x", np.exp(log_x).tolist(), "too near each other for a law")
    return PowerLaw(slope, math.exp(middle), floor)


def fit_power_law(
    x: Sequence[float] | Array,
    y: Sequence[float] | Array,
    *,
    floor: float | Literal["fit"] = 0.0,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> PowerLawFit:
    """`fit_line` with bootstrap intervals; the same seed gives the same ones.

    floor: "fit" looks for it as `law_of` does; noise is then taken as alike at all y, not at all
    ln y. With two points (three with a floor to fit) the law goes through all and nothing is left
    to judge noise by: the interval is then infinite.

    Raises ValueError as `fit_line`, for fewer than three different x with a floor to fit, a level
    outside 0 to 1, or resamples below 1.
    """
    check_level(level, resamples)
    check_floor(floor, fit=True)
    if floor == "fit":
        return _fit_with_floor(x, y, level, resamples, seed)
    law = fit_line(x, y, floor)
    log_x, log_y = _logs(x, y, floor)
    design = _design(log_x)
    drawn = redraw(design, log_y, np.random.default_rng(seed), resamples)
    if drawn is None:
        return PowerLawFit(law, np.full((resamples, 3), np.nan), level)
    lines = drawn @ np.linalg.pinv(design).T
    return PowerLawFit(law, np.column_stack([lines, np.full(resamples, floor)]), level)


def _fit_with_floor(
    x: Sequence[float] | Array, y: Sequence[float] | Array, level: float, resamples: int, seed: int
) -> PowerLawFit:
    _logs(x, y, 0.0)  # only to refuse what has no law
    xs, ys = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    require(len(np.unique(xs)) >= 3, "x", xs.tolist(), "floor='fit' needs three different values")
    law = law_of(xs, ys, np.empty((0, len(xs))), "fit", level).law
    if len(xs) < 4:
        return PowerLawFit(law, np.full((resamples, 3), np.nan), level)
    fitted = np.array([law.predict(value) for value in xs])
    left, freedom = ys - fitted, len(xs) - 3
    size = math.sqrt(float(left @ left) / freedom)
    spread = float(left.std())
    noise = Noise((left - left.mean()) / spread if spread > 0 else left, size, freedom)
    drawn = fitted + draw_noise(noise, np.random.default_rng(seed), (resamples, len(xs)))
    return law_of(xs, ys, drawn, "fit", level)


def law_of(
    x: Float[np.ndarray, "M"],
    y: Float[np.ndarray, "M"],
    drawn: Float[np.ndarray, "R M"],
    floor: float | Literal["fit"] = 0.0,
    level: float = 0.95,
) -> PowerLawFit:
    """A law through y, and one through each of the `drawn` rows that y might have been.

    floor: as in `fit_line`, or "fit": the one between 0 and the least y that leaves the points
    nearest to a line in log space, in each row anew.

    Raises ValueError as `fit_line`.
    """
    rows = np.concatenate([y[None], drawn])
    floors = best_floors(x, rows) if floor == "fit" else np.full(len(rows), float(floor))
    law = fit_line(x, y, float(floors[0]))
    with np.errstate(all="ignore"):
        logs = np.log(drawn - floors[1:, None])
        lines = logs @ np.linalg.pinv(_design(np.log(x))).T
    lines[~np.isfinite(lines).all(axis=1)] = np.nan
    return PowerLawFit(law, np.column_stack([lines, floors[1:]]), level)


def law_of_judged(
    x: Float[np.ndarray, "M"],
    y: Float[np.ndarray, "M"],
    drawn: Float[np.ndarray, "R M"],
    rng: np.random.Generator,
    floor: float | Literal["fit"] = 0.0,
    level: float = 0.95,
) -> PowerLawFit:
    """`law_of`, but doubted if y lies farther from the law than the drawn rows do from y (ours).

    What is drawn knows the noise of runs only. If points miss their law by more, be it that each
    budget is off by luck of its own or that the law is wrong, drawn points are moved away from y
    by that factor more (Birge's ratio). Beyond `_CHANCE`, where the miss is sure and not its size,
    each draw takes another factor (scaled inverse chi-square): few points say little of it.

    Raises ValueError as `fit_line`.
    """
    found = law_of(x, y, drawn, floor, level)
    misfit, freedom = _misfit(x, y, drawn, found.law, floor)
    if misfit is None or misfit <= 1:
        return replace(found, misfit=misfit)
    more = np.full(len(drawn), misfit)
    if misfit > _CHANCE:
        more *= np.sqrt(freedom / rng.chisquare(freedom, len(drawn)))
    more = np.maximum(more, 1)[:, None]
    with np.errstate(over="ignore", invalid="ignore"):
        if floor == "fit":
            rows, least = y + more * (drawn - y), 0.0
        else:  # in logs, where the law is a line
            rows, least = floor + (y - floor) * ((drawn - floor) / (y - floor)) ** more, floor
        rows = np.where(rows > least, rows, np.nan)
    return replace(law_of(x, y, rows, floor, level), misfit=misfit)


def _misfit(
    x: Array, y: Array, drawn: Array, law: PowerLaw, floor: float | Literal["fit"]
) -> tuple[float | None, int]:
    """Misses over what the draws let expect, and the freedom left.

    Where points are not equally well known, a fit that weighs them alike leaves of noise with
    variances v the sum of (1 - leverage) · v in squares.
    """
    fitted = np.array([law.predict(value) for value in x])
    with np.errstate(invalid="ignore", divide="ignore"):
        if floor == "fit" and law.floor > 1e-3 * y.min():
            above = fitted - law.floor
            design = np.stack([np.ones_like(x), above, above * np.log(x)], axis=1)
            left, rows, scale = y - fitted, drawn - y, y
        else:  # a floor that went to 0 is one unknown less
            design, scale = _design(np.log(x)), np.ones_like(y)
            left = np.log((y - law.floor) / (fitted - law.floor))
            rows = np.log((drawn - law.floor) / (y - law.floor))
    freedom = len(y) - design.shape[1]
    if freedom < 1 or len(drawn) < 40:
        return None, freedom
    bars = np.array([interval_of(0.0, column, 0.6827).half_width for column in rows.T])
    if not np.isfinite(bars).all():
        return None, freedom
    leverage = (np.linalg.qr(design)[0] ** 2).sum(axis=1)
    expected = float((1 - leverage) @ (bars**2 + (_ROUNDING * scale) ** 2))
    return math.sqrt(float(left @ left) / expected), freedom


def check_floor(floor: float | str, *, fit: bool = False) -> None:
    """Raises ValueError unless it is a finite number of 0 or more, or, if `fit` is True, "fit"."""
    if fit and floor == "fit":
        return
    numeric = isinstance(floor, int | float | np.number) and not isinstance(floor, bool)
    if not (numeric and math.isfinite(floor) and floor >= 0):
        also = ", or 'fit'" if fit else ""
        raise ValueError(f"floor={floor!r} is not allowed: a finite number, 0 or more{also}")


def best_floors(
    x: Float[np.ndarray, "M"], rows: Float[np.ndarray, "R M"]
) -> Float[np.ndarray, "R"]:
    """For each row of y the floor that leaves its points nearest to a line; NaN rows keep NaN.

    Looked for on 60 places, three times around the best. How near is measured in y, not in its
    log, which would let a floor just below the last point blow it up.
    """
    design = _design(np.log(x))
    hat = design @ np.linalg.pinv(design)
    least = rows.min(axis=1)
    low, high = np.zeros(len(rows)), 0.999 * least
    for _ in range(3):
        tried = low + np.linspace(0, 1, 60)[:, None] * (high - low)
        above = rows - tried[..., None]
        with np.errstate(invalid="ignore"):  # rows that gave no curve stay NaN
            line = np.exp(np.log(above) @ hat.T)
        place = np.nan_to_num(((line - above) ** 2).sum(axis=2), nan=np.inf).argmin(axis=0)
        step = (high - low) / 59
        middle = tried[place, np.arange(len(rows))]
        low, high = np.maximum(low, middle - step), np.minimum(high, middle + step)
    return (low + high) / 2


def _design(log_x: Array) -> Float[np.ndarray, "M 2"]:
    return np.stack([np.ones_like(log_x), log_x], axis=1)


def _logs(
    x: Sequence[float] | Array, y: Sequence[float] | Array, floor: float
) -> tuple[Array, Array]:
    xs, ys = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if xs.ndim != 1 or xs.shape != ys.shape:
        raise ValueError(f"x has shape {xs.shape}, y {ys.shape}: two rows of the same length")
    for name, values in (("x", xs), ("y", ys - floor)):
        if not (np.isfinite(values) & (values > 0)).all():
            below = f" less floor={floor}" if name == "y" and floor else ""
            bad = values[~(np.isfinite(values) & (values > 0))][0]
            raise ValueError(f"{name}{below} has {bad}: finite numbers above 0 are needed")
    require(len(np.unique(xs)) >= 2, "x", xs.tolist(), "a line needs two different values")
    return np.log(xs), np.log(ys - floor)


def _solve(log_x: Array, log_y: Array) -> tuple[float, float]:
    """Slope, and height at x = 1; from the middle of the points, where sums lose no digits."""
    middle = log_x.mean()
    away = log_x - middle
    slope = float(away @ (log_y - log_y.mean()) / (away @ away))
    return slope, float(log_y.mean() - slope * middle)
