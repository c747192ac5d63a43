"""The formula of Chinchilla: planted constants are found, whatever SciPy method looks for them."""

import logging
import math
from dataclasses import replace

import numpy as np
import pytest
from scaling_tools import CHINCHILLA, grid_runs
from scipy.optimize import approx_fprime, least_squares, minimize_scalar

from llama3lib.scaling import ParametricLaw, Run, fit_parametric, read_runs
from llama3lib.scaling.parametric import objective


@pytest.fixture(scope="module")
def noisy():
    return grid_runs(CHINCHILLA, noise=0.004, budgets=6, sizes=12)


@pytest.fixture(scope="module")
def fitted(noisy):
    return fit_parametric(noisy)


def test_planted_constants_are_found_exactly_without_noise(tmp_path):
    path = tmp_path / "points.csv"
    rows = [
        f"{r.parameters:.17g},{r.tokens:.17g},{r.loss:.17g}" for r in grid_runs(CHINCHILLA, sizes=7)
    ]
    path.write_text("\n".join(["Model Size,Training Tokens,loss", *rows]))
    law = fit_parametric(read_runs(path)).law
    for name in ("E", "A", "B", "alpha", "beta"):
        assert getattr(law, name) == pytest.approx(getattr(CHINCHILLA, name), rel=1e-5), name


def test_another_method_finds_the_same_place(noisy, fitted):
    data = np.log([[run.parameters, run.tokens, run.loss] for run in noisy])

    def miss(t):
        size, tokens = data[:, 0], data[:, 1]
        total = np.exp(t[0] - t[3] * size) + np.exp(t[1] - t[4] * tokens) + np.exp(t[2])
        return np.log(total) - data[:, 2]

    start = [6.0, 7.5, 0.5, 0.34, 0.36]
    tight = {"xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15, "max_nfev": 20_000}
    other = least_squares(miss, start, loss="huber", f_scale=1e-3, x_scale="jac", **tight)
    ours = fitted.law
    theta = [math.log(ours.A), math.log(ours.B), math.log(ours.E), ours.alpha, ours.beta]
    assert fitted.objective == pytest.approx(other.cost, rel=1e-8)
    assert theta == pytest.approx(other.x.tolist(), rel=1e-6)


def test_the_gradient_is_that_of_the_objective(noisy):
    data = np.log([[run.parameters, run.tokens, run.loss] for run in noisy])
    theta = np.array([6.0, 7.0, 0.5, 0.33, 0.35])
    _, gradient = objective(theta, data, 0.05)
    told = approx_fprime(theta, lambda t: objective(t, data, 0.05)[0], 1e-7)
    assert gradient == pytest.approx(told, rel=1e-4)


def test_noise_moves_the_constants_a_little_and_intervals_hold_them(noisy):
    fit = fit_parametric(noisy, resamples=60, polished=25)
    for name in ("E", "alpha", "beta"):
        assert fit.interval(name).holds(getattr(CHINCHILLA, name)), name
    assert fit.interval("size_exponent").holds(CHINCHILLA.size_exponent)
    with pytest.raises(ValueError, match="name='gamma'"):
        fit.interval("gamma")


def test_wild_runs_hardly_matter_and_can_be_left_out(noisy, fitted):
    wild = [*noisy, *(Run(parameters=1e8 * n, tokens=1e9, loss=9.0) for n in (1, 2))]
    assert fit_parametric(wild).law.alpha == pytest.approx(fitted.law.alpha, abs=0.02)
    without = fit_parametric(wild, drop_highest=2)
    assert without.runs == len(noisy)
    assert without.law.alpha == pytest.approx(fitted.law.alpha, rel=1e-6)


@pytest.mark.parametrize("flops", [1e20, 5.76e23, 3.8e25])
def test_the_optimum_is_where_a_search_finds_it(flops):
    size, tokens = CHINCHILLA.optimum(flops)
    assert 6 * size * tokens == pytest.approx(flops)
    found = minimize_scalar(
        lambda n: CHINCHILLA.predict(math.exp(n), flops / (6 * math.exp(n))), bracket=(20, 30)
    )
    assert size == pytest.approx(math.exp(found.x), rel=1e-5)


def test_the_replication_asks_for_about_twenty_tokens_a_parameter():
    """Besiroglu and others 2024: their constants agree with Chinchilla's rule, the old do not."""
    size, tokens = CHINCHILLA.optimum(5.76e23)
    assert 15 < tokens / size < 30
    published = ParametricLaw(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)
    size, tokens = published.optimum(5.76e23)
    assert tokens / size > 60


def test_runs_that_cannot_tell_are_refused(noisy):
    with pytest.raises(ValueError, match="5 runs are too few"):
        fit_parametric(noisy[:5])
    with pytest.raises(ValueError, match="too few"):
        fit_parametric(noisy[:8], drop_highest=3)
    same = [Run(parameters=1e9, tokens=1e9 * n, loss=3 - 0.1 * n) for n in range(1, 8)]
    with pytest.raises(ValueError, match="parameters are the same"):
        fit_parametric(same)
    with pytest.raises(ValueError, match="delta=0"):
        fit_parametric(noisy, delta=0)
    for name, value in (
        ("delta", math.inf),
        ("delta", math.nan),
        ("resamples", -3),
        ("resamples", 1.5),
        ("polished", 0),
        ("drop_highest", -1),
    ):
        with pytest.raises(ValueError, match=f"{name}={value!r} is not allowed"):
            fit_parametric(noisy, **{name: value})
    with pytest.raises(ValueError, match="16 runs are too few, 2 of them different"):
        fit_parametric([noisy[0], noisy[40]] * 8)
    with pytest.raises(ValueError, match="losses are the same in all runs"):
        fit_parametric([replace(run, loss=3.0) for run in noisy])
    with pytest.raises(ValueError, match=r"losses of .*e\+30 are not allowed: 0\.01 to 100"):
        fit_parametric([replace(run, loss=1e30 * run.loss) for run in noisy])
    with pytest.raises(ValueError, match="0 runs are too few"):
        fit_parametric(noisy, drop_highest=1000)
    with pytest.raises(ValueError, match="resamples=0"):
        fit_parametric(noisy[:12], polished=1).interval("E")


def test_a_law_the_runs_cannot_tell_is_doubted(caplog, fitted):
    assert not fitted.doubts
    rising = [
        Run(parameters=n, tokens=d, loss=2 + 1e-3 * math.log(n) + 400 / d**0.3)
        for n in (1e7, 1e8, 1e9)
        for d in (1e9, 1e10, 1e11)
    ]
    with caplog.at_level(logging.WARNING):
        fit = fit_parametric(rising, resamples=40)
    assert "more parameters do not lower the loss" in caplog.text
    assert fit.law.alpha <= 0 and any(told.startswith("alpha=") for told in fit.doubts)
    for name in ("size_exponent", "token_exponent"):
        with pytest.raises(ValueError, match=r"no optimum, both must be > 0"):
            getattr(fit.law, name)
    endless = [
        Run(parameters=n, tokens=d, loss=40 / n**0.1 + 40 / d**0.1)
        for n in (1e7, 1e8, 1e9)
        for d in (1e9, 1e10, 1e11)
    ]
    assert any("where the loss ends" in told for told in fit_parametric(endless).doubts)


def test_draws_without_an_optimum_widen_the_interval_of_the_size_exponent(fitted):
    draws = np.tile([1.8, 480.0, 2000.0, 0.35, 0.37], (100, 1))
    draws[:, 3] += np.linspace(-0.01, 0.01, 100)
    assert replace(fitted, draws=draws).interval("size_exponent").half_width < 0.02
    draws[:10, 3] = -0.1
    assert replace(fitted, draws=draws).interval("size_exponent").half_width == math.inf


def test_a_prediction_is_the_optimum_of_the_law_with_the_spread_of_the_draws(noisy):
    flops = 100 * max(run.flops for run in noisy)
    fit = fit_parametric(noisy, polished=1, resamples=40)
    size, tokens = (fit.predict(flops, axis) for axis in ("parameters", "tokens"))
    best = minimize_scalar(
        lambda n: fit.law.predict(math.exp(n), flops / 6 / math.exp(n)), bounds=(15, 35)
    )
    assert size.size.score == pytest.approx(math.exp(best.x), rel=1e-3)
    assert size.size.score * tokens.size.score == pytest.approx(flops / 6)
    assert size.loss == tokens.loss and size.loss.score == pytest.approx(best.fun)
    assert size.loss.holds(CHINCHILLA.predict(*CHINCHILLA.optimum(flops)))
    for found in (size.size, tokens.size, size.loss):
        assert 0 < found.low < found.score < found.high < math.inf


def test_draws_without_an_optimum_widen_a_prediction(noisy):
    fit = fit_parametric(noisy, polished=1, resamples=40)
    draws = fit.draws.copy()
    draws[:2, 3] = -0.1
    assert replace(fit, draws=draws).predict(1e22).size.high == math.inf
    with pytest.raises(ValueError, match="resamples=0"):
        replace(fit, draws=draws[:0]).predict(1e22)
    with pytest.raises(ValueError, match="axis='depth'"):
        fit.predict(1e22, "depth")
