"""The other method: one formula for the loss of every run, L(N, D) = E + A/N^alpha + B/D^beta.

Hoffmann and others 2022 ("Chinchilla"), method 3; the Llama 3 paper uses isoFLOP curves instead
(§3.2.1). Fitted as they did, by a Huber loss on the log of the loss with L-BFGS from many starts.
Besiroglu and others 2024 found that the published numbers came from stopping too early: the mean
of tiny terms looked settled. Here terms are summed, in units of the Huber width, to tight limits.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from llama3lib.eval.intervals import Interval
from llama3lib.scaling.isoflop import Prediction
from llama3lib.scaling.noise import check_level, interval_of
from llama3lib.scaling.points import Run
from llama3lib.utils.logging import get_logger
from llama3lib.utils.require import one_of, positive, require, whole

_log = get_logger(__name__)
STARTS = {
    "a": (0.0, 5.0, 10.0, 15.0, 20.0, 25.0),
    "b": (0.0, 5.0, 10.0, 15.0, 20.0, 25.0),
    "e": (-1.0, -0.5, 0.0, 0.5, 1.0),
    "alpha": (0.0, 0.5, 1.0, 1.5, 2.0),
    "beta": (0.0, 0.5, 1.0, 1.5, 2.0),
}
"""The grid of starts of Hoffmann and others: a = ln A, b = ln B, e = ln E."""
_TIGHT = {"ftol": 1e-15, "gtol": 1e-9, "maxiter": 5000, "maxfun": 20_000, "maxcor": 20}
_LOOSE = {"ftol": 1e-9, "gtol": 1e-5, "maxiter": 300}


@dataclass(frozen=True)
class ParametricLaw:
    """L(N, D) = E + A/N^alpha + B/D^beta, in nats a token."""

    E: float
    A: float
    B: float
    alpha: float
    beta: float

    def predict(self, parameters: float, tokens: float) -> float:
        """The loss of a run. Raises ValueError if a number is not above 0."""
        for name, value in (("parameters", parameters), ("tokens", tokens)):
            positive(name, value)
        size = math.exp(math.log(self.A) - self.alpha * math.log(parameters))
        return self.E + size + math.exp(math.log(self.B) - self.beta * math.log(tokens))

    @property
    def size_exponent(self) -> float:
        """a in N ~ C^a: how the best size grows with compute.

        Raises ValueError if alpha or beta is not above 0; `token_exponent` does too.
        """
        self._check_exponents()
        return self.beta / (self.alpha + self.beta)

    @property
    def token_exponent(self) -> float:
        """b in D ~ C^b; the Llama 3 paper's alpha is this one (§3.2.1)."""
        self._check_exponents()
        return self.alpha / (self.alpha + self.beta)

    def optimum(self, flops: float) -> tuple[float, float]:
        """Best parameters and tokens for a budget, by C = 6 · N · D.

        Raises ValueError if the budget is not above 0 or an exponent is not.
        """
        positive("flops", flops)
        self._check_exponents()
        total = self.alpha + self.beta
        balance = math.log(self.alpha * self.A) - math.log(self.beta * self.B)
        size = balance / total + self.size_exponent * math.log(flops / 6)
        return math.exp(size), math.exp(math.log(flops / 6) - size)

    def _check_exponents(self) -> None:
        if not (self.alpha > 0 and self.beta > 0):
            raise ValueError(f"alpha={self.alpha}, beta={self.beta}: no optimum, both must be > 0")


REPLICATION = ParametricLaw(E=1.8172, A=482.01, B=2085.43, alpha=0.3478, beta=0.3658)
"""Chinchilla's formula as Besiroglu and others 2024 refitted it, from points read off a figure of
Hoffmann and others 2022. Not the Llama 3 paper's."""


@dataclass(frozen=True)
class ParametricFit:
    """A law, how well it fits, and what else it might have been.

    objective: sum of the Huber terms, in their own unit.
    draws [R, 5]: E, A, B, alpha, beta of each resampling; none if none were asked for.
    """

    law: ParametricLaw
    objective: float
    runs: int
    draws: Float[np.ndarray, "R 5"]
    level: float = 0.95

    @property
    def doubts(self) -> tuple[str, ...]:
        """What the runs could not tell, a sentence each; none if all is well."""
        found = [
            f"{name}={value:.3g}: more {what} do not lower the loss of these runs"
            for name, value, what in (
                ("alpha", self.law.alpha, "parameters"),
                ("beta", self.law.beta, "tokens"),
            )
            if value <= 0
        ]
        if self.law.E < 1e-2:
            found.append(f"E={self.law.E:.3g}: these runs do not show where the loss ends")
        return tuple(found)

    def interval(self, name: str) -> Interval:
        """Interval of E, A, B, alpha, beta, or of size_exponent.

        A draw without an optimum (alpha or beta not above 0) has no size_exponent.

        Raises ValueError for another name, or if there are no draws.
        """
        names = ("E", "A", "B", "alpha", "beta")
        require(name in (*names, "size_exponent"), "name", name, (*names, "size_exponent"))
        self._check_draws()
        if name == "size_exponent":
            alpha, beta = self.draws[:, 3:].T
            good = (alpha > 0) & (beta > 0)
            drawn = np.where(good, beta / np.where(good, alpha + beta, 1.0), np.nan)
        else:
            drawn = self.draws[:, names.index(name)]
        return interval_of(getattr(self.law, name), drawn, self.level)

    def predict(
        self, flops: float, axis: Literal["parameters", "tokens"] = "parameters"
    ) -> Prediction:
        """Best parameters (or tokens) for a budget, and the loss there.

        A draw without an optimum could be anywhere, and widens the intervals.

        Raises ValueError if the law has no optimum, for a budget or an axis that is not allowed, or
        if there are no draws.
        """
        one_of("axis", axis, ["parameters", "tokens"])
        self._check_draws()
        place = ["parameters", "tokens"].index(axis)

        def best(law: ParametricLaw) -> tuple[float, float]:
            pair = law.optimum(flops)
            return pair[place], law.predict(*pair)

        drawn = np.full((len(self.draws), 2), np.nan)
        for row, values in enumerate(self.draws.tolist()):
            law = ParametricLaw(*values)
            if law.alpha > 0 and law.beta > 0:
                drawn[row] = best(law)
        size, loss = best(self.law)
        at, least = (
            interval_of(v, d, self.level) for v, d in zip((size, loss), drawn.T, strict=True)
        )
        return Prediction(flops, axis, at, least)

    def _check_draws(self) -> None:
        if not len(self.draws):
            raise ValueError("resamples=0 is not allowed here: no draws, no interval")


def check_runs(runs: Sequence[Run], drop_highest: int = 0) -> list[Run]:
    """The runs that the formula is fitted to, lowest loss first.

    Raises ValueError if they are too few or too much alike for it, see `fit_parametric`.
    """
    kept = sorted(runs, key=lambda run: run.loss)
    kept = kept[: max(0, len(kept) - drop_highest)]
    different = len({(run.parameters, run.tokens) for run in kept})
    if different < 6:
        raise ValueError(
            f"{len(kept)} runs are too few, {different} of them different in parameters or tokens: "
            "the formula has 5 unknowns, so 6 or more"
        )
    if not 0.01 <= kept[0].loss <= kept[-1].loss <= 100:
        raise ValueError(
            f"losses of {kept[0].loss:.3g} to {kept[-1].loss:.3g} are not allowed: 0.01 to 100 nats"
        )
    for name in ("parameters", "tokens", "loss"):
        values = np.log([getattr(run, name) for run in kept])
        if np.ptp(values) < 1e-9:
            what = "losses" if name == "loss" else name
            raise ValueError(f"{what} are the same in all runs: no exponent can be seen")
    return kept


def fit_parametric(
    runs: Sequence[Run],
    *,
    delta: float = 1e-3,
    drop_highest: int = 0,
    polished: int = 40,
    resamples: int = 0,
    level: float = 0.95,
    seed: int = 0,
) -> ParametricFit:
    """Fit the formula to runs.

    delta: where the Huber loss on ln loss turns from square to straight.
    drop_highest: leave out so many runs of the highest loss, if they are known outliers.
    polished: from how many starts L-BFGS goes down; the five lowest then go on to tight limits. All
    of the grid are looked at; the best one of each pair of exponents goes first.
    resamples: draws of runs with replacement for intervals, each from the best fit on.

    A law with an exponent of 0 or less, or without an E, is warned of; see `ParametricFit.doubts`.

    Raises ValueError for fewer than six runs that differ in size or tokens (the formula has five
    unknowns), sizes, token counts or losses that are all alike, losses outside 0.01 to 100 nats
    (the starts of the search are made for these), or settings out of range.
    """
    check_level(level, 1)
    _check_settings(delta, polished, drop_highest, resamples)
    kept = check_runs(runs, drop_highest)
    data = np.log(np.array([[run.parameters, run.tokens, run.loss] for run in kept]))
    tried = [_descend(s, data, delta, tight=False) for s in _starts(data, delta, polished)]
    tried.sort(key=lambda one: one[0])
    value, theta = min((_descend(s, data, delta) for _, s in tried[:5]), key=lambda one: one[0])
    rng, draws = np.random.default_rng(seed), []
    for _ in range(resamples):
        again = data[rng.integers(len(data), size=len(data))]
        draws.append(_plain(_descend(theta, again, delta)[1]))
    found = _plain(theta)
    table = np.array(draws).reshape(-1, 5)
    law = ParametricLaw(*found.tolist())
    fit = ParametricFit(law, value * delta**2, len(kept), table, level)
    for doubt in fit.doubts:
        _log.warning(doubt)
    return fit


def _check_settings(delta: float, polished: int, drop_highest: int, resamples: int) -> None:
    positive("delta", delta)
    for name, value, least in (
        ("polished", polished, 1),
        ("drop_highest", drop_highest, 0),
        ("resamples", resamples, 0),
    ):
        whole(name, value, least)


def _plain(theta: np.ndarray) -> np.ndarray:
    a, b, e, alpha, beta = theta
    return np.array([math.exp(e), math.exp(a), math.exp(b), alpha, beta])


def _starts(data: np.ndarray, delta: float, count: int) -> list[np.ndarray]:
    """The best start for each pair of exponents, then the best of the rest."""
    grid = np.array(list(itertools.product(*STARTS.values())))
    values = np.concatenate([_values(part, data, delta) for part in np.array_split(grid, 45)])
    order = np.argsort(values, kind="stable")
    _, first = np.unique(grid[order][:, 3:], axis=0, return_index=True)
    leaders = order[np.sort(first)]
    rest = order[~np.isin(order, leaders)]
    return list(grid[np.concatenate([leaders, rest])[:count]])


def _values(thetas: Float[np.ndarray, "S 5"], data: np.ndarray, delta: float) -> np.ndarray:
    """The objective at many places at once."""
    a, b, e, alpha, beta = thetas.T[:, :, None]
    size, tokens, loss = data.T[:, None]
    fitted = np.logaddexp(np.logaddexp(a - alpha * size, b - beta * tokens), e)
    scaled = np.abs(fitted - loss) / delta
    return np.where(scaled <= 1, 0.5 * scaled**2, scaled - 0.5).sum(axis=1)


def _descend(
    start: np.ndarray, data: np.ndarray, delta: float, *, tight: bool = True
) -> tuple[float, np.ndarray]:
    """The lowest objective found from a start, and where.

    Searched in ln A - alpha · mean ln N, and so for B: A and alpha alone are nearly one direction,
    in which steps would be tiny.
    """
    from scipy.optimize import minimize

    middle = data[:, :2].mean(axis=0)
    turn = np.eye(5)
    turn[0, 3], turn[1, 4] = middle

    def value(theta: np.ndarray) -> tuple[float, np.ndarray]:
        found, gradient = objective(turn @ theta, data, delta)
        return found, turn.T @ gradient

    def descend(theta: np.ndarray) -> tuple[float, np.ndarray]:
        limits = _TIGHT if tight else _LOOSE
        lowest = minimize(value, theta, jac=True, method="L-BFGS-B", options=limits)
        return float(lowest.fun), lowest.x

    best = descend(np.linalg.solve(turn, start))
    for _ in range(20 if tight else 0):  # started anew, it forgets a stale picture of the bend
        again = descend(best[1])
        if not again[0] < best[0] * (1 - 1e-12):
            break
        best = again
    return best[0], turn @ best[1]


def objective(
    theta: Float[np.ndarray, "5"], data: Float[np.ndarray, "M 3"], delta: float
) -> tuple[float, Float[np.ndarray, "5"]]:
    """Sum of Huber terms over delta², and its gradient.

    theta: ln A, ln B, ln E, alpha, beta. data: ln parameters, ln tokens, ln loss of each run.
    """
    a, b, e, alpha, beta = theta
    terms = np.stack([a - alpha * data[:, 0], b - beta * data[:, 1], np.full(len(data), e)], axis=1)
    top = terms.max(axis=1, keepdims=True)
    parts = np.exp(terms - top)
    total = parts.sum(axis=1, keepdims=True)
    left = (top + np.log(total))[:, 0] - data[:, 2]
    scaled = left / delta
    small = np.abs(scaled) <= 1
    value = np.where(small, 0.5 * scaled**2, np.abs(scaled) - 0.5).sum()
    slope = np.where(small, scaled, np.sign(scaled)) / delta
    share = parts / total * slope[:, None]
    gradient = share.sum(axis=0)
    return float(value), np.array(
        [
            gradient[0],
            gradient[1],
            gradient[2],
            -(share[:, 0] @ data[:, 0]),
            -(share[:, 1] @ data[:, 1]),
        ]
    )
