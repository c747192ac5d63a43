"""FLOPs to loss to accuracy: planted lines and sigmoids are found, and other fits agree."""

import logging
import math

import numpy as np
import pytest
from scipy.optimize import curve_fit
from scipy.special import expit

from llama3lib.scaling import Sigmoid, fit_sigmoid, fit_two_steps
from llama3lib.scaling.noise import interval_of, redraw

TRUE = Sigmoid(chance=0.25, top=1.0, middle=1.3, width=0.05)
FLOPS = np.array([1e20, 3e20, 1e21, 3e21, 1e22])
NLL = 1.4 - 0.02 * np.log(FLOPS / 1e20)


def noisy(seed, noise=0.01):
    rng = np.random.default_rng(seed)
    nll = np.linspace(1.15, 1.45, 12)
    return nll, np.clip([TRUE.predict(v) for v in nll] + noise * rng.normal(size=12), 0, 1)


def test_a_sigmoid_goes_from_the_top_to_chance():
    assert TRUE.predict(-100) == pytest.approx(1.0)
    assert TRUE.predict(100) == pytest.approx(0.25)
    assert TRUE.predict(1.3) == pytest.approx(0.625)
    assert TRUE.predict(1.2) == pytest.approx(0.25 + 0.75 * expit(2.0))


def test_a_planted_sigmoid_is_found():
    found = fit_sigmoid(*noisy(0, noise=0.0))
    assert (found.middle, found.width) == pytest.approx((1.3, 0.05), rel=1e-6)


def test_it_agrees_with_curve_fit():
    nll, accuracy = noisy(1)
    (middle, width), _ = curve_fit(
        lambda v, m, w: 0.25 + 0.75 * expit((m - v) / w), nll, accuracy, p0=(1.28, 0.06), ftol=1e-14
    )
    found = fit_sigmoid(nll, accuracy)
    assert (found.middle, found.width) == pytest.approx((middle, width), rel=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_beginning_near_the_result_finds_the_same(seed):
    nll, accuracy = noisy(seed, noise=0.03)
    found = fit_sigmoid(nll, accuracy)
    for start in (TRUE, Sigmoid(0.25, 1.0, 9.0, 80.0)):  # the second is clipped into range
        again = fit_sigmoid(nll, accuracy, near=start)
        assert (again.middle, again.width) == pytest.approx((found.middle, found.width), rel=1e-5)


def test_both_steps_find_what_was_planted_and_extrapolate():
    nll, accuracy = noisy(0, noise=0.0)
    fit = fit_two_steps(FLOPS, NLL, nll, accuracy)
    assert fit.line[1] == pytest.approx(-0.02)
    told = fit.predict(3.8e25)
    wanted = 1.4 - 0.02 * math.log(3.8e25 / 1e20)
    assert told.nll.score == pytest.approx(wanted)
    assert told.accuracy.score == pytest.approx(TRUE.predict(wanted), rel=1e-5)


def test_the_line_holds_what_was_planted_95_times_in_100():
    design = np.stack([np.ones(5), np.log(FLOPS)], axis=1)
    solve, far = np.linalg.pinv(design), np.array([1.0, math.log(1e23)])
    rng, held = np.random.default_rng(0), 0
    for seed in range(200):
        drawn = redraw(design, NLL + 0.004 * rng.normal(size=5), np.random.default_rng(seed), 300)
        told = interval_of(0.0, drawn @ solve.T @ far, 0.95)
        held += told.holds(1.4 - 0.02 * math.log(1e3))
    assert 181 <= held <= 198


def test_bands_grow_with_distance_and_stay_between_chance_and_top():
    fit = fit_two_steps(FLOPS, NLL + 0.002 * np.array([1, -1, 0, 1, -1]), *noisy(0), resamples=60)
    near, far = fit.predict(1e21), fit.predict(1e25)
    assert near.nll.half_width < far.nll.half_width
    for told in (near, far):
        low, high = told.accuracy.low, told.accuracy.high
        assert 0.25 <= low <= told.accuracy.score <= high <= 1
        assert told.accuracy.holds(TRUE.predict(told.nll.score))


def test_a_floor_keeps_the_loss_above_where_it_ends():
    nll, accuracy = noisy(0, noise=0.0)
    flops = np.geomspace(1e18, 1e21, 7)
    bent = 1.2 + 3.0 * (flops / 1e17) ** -0.3
    floor = fit_two_steps(flops, bent, nll, accuracy, first="floor", resamples=60)
    line = fit_two_steps(flops, bent, nll, accuracy, resamples=60)
    truth = 1.2 + 3.0 * 1e6**-0.3
    assert floor.predict(1e23).nll.score == pytest.approx(truth, rel=1e-4)
    assert floor.predict(1e23).accuracy.score == pytest.approx(TRUE.predict(truth), rel=1e-3)
    assert line.predict(1e25).nll.score < 0 < floor.predict(1e25).nll.low


def test_two_budgets_leave_the_error_unknown():
    fit = fit_two_steps(FLOPS[:2], NLL[:2], *noisy(0), resamples=20)
    assert fit.predict(1e22).nll.half_width == math.inf
    assert fit.predict(1e22).accuracy.half_width == math.inf


def at_the_foot(seed, middle=0.9):
    """Models that all lie where a sigmoid has hardly begun to rise."""
    rng, true = np.random.default_rng(seed), Sigmoid(0.25, 1.0, middle, 0.05)
    nll = np.linspace(1.15, 1.45, 12)
    return nll, np.array([true.predict(v) for v in nll]) + 0.01 * rng.normal(size=12)


def test_models_at_the_foot_only_say_so_and_widen_the_interval():
    held, unsure = 0, 0
    for seed in range(20):
        nll, accuracy = at_the_foot(seed, middle=1.0)
        try:
            fit = fit_two_steps(FLOPS, NLL, nll, accuracy, resamples=40, seed=seed)
        except ValueError as error:
            assert "does not fall with nll" in str(error)
            unsure += 1
            continue
        told = fit.predict(1e24)
        held += told.accuracy.holds(Sigmoid(0.25, 1.0, 1.0, 0.05).predict(told.nll.score))
        unsure += math.isinf(told.accuracy.half_width)
    assert held >= 17 and unsure >= 5


def test_a_fit_that_ends_at_the_bounds_is_warned_of(caplog):
    with caplog.at_level(logging.WARNING):
        fit_sigmoid(*noisy(0))
    assert not caplog.text
    with caplog.at_level(logging.WARNING):
        fit_sigmoid(*at_the_foot(38))
    assert "the bounds of its search" in caplog.text


def test_accuracy_that_rises_with_the_loss_is_refused():
    nll, accuracy = noisy(0)
    with pytest.raises(ValueError, match="does not fall with nll"):
        fit_sigmoid(nll, accuracy[::-1])
    with pytest.raises(ValueError, match="does not fall with nll"):
        fit_two_steps(FLOPS, NLL, nll, np.full(12, 0.4))


def test_degenerate_input_is_refused():
    nll, accuracy = noisy(0)
    for first in ("flor", None):
        with pytest.raises(ValueError, match=f"first={first!r} is not allowed"):
            fit_two_steps(FLOPS, NLL, nll, accuracy, first=first)
    with pytest.raises(ValueError, match="two budgets"):
        fit_two_steps([1e20, 1e20], [1.4, 1.4], nll, accuracy)
    with pytest.raises(ValueError, match="finite"):
        fit_two_steps([1e20, math.nan], [1.4, 1.3], nll, accuracy)
    with pytest.raises(ValueError, match="3 at least"):
        fit_sigmoid(nll[:2], accuracy[:2])
    with pytest.raises(ValueError, match="0 to 1"):
        fit_sigmoid(nll, 100 * accuracy)
    with pytest.raises(ValueError, match="chance=1"):
        fit_sigmoid(nll, accuracy, chance=1.0)
    with pytest.raises(ValueError, match="flops=0"):
        fit_two_steps(FLOPS, NLL, nll, accuracy, resamples=5).predict(0)
