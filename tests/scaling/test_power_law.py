"""Straight lines on log-log paper: planted laws are found, and intervals keep their promise."""

import math

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import curve_fit

from llama3lib.paper import scaling as paper
from llama3lib.scaling import fit_line, fit_power_law


def noisy(seed, points=8, exponent=0.54, noise=0.1):
    rng = np.random.default_rng(seed)
    x = np.geomspace(1e18, 1e22, points)
    return x, 0.3 * x**exponent * np.exp(noise * rng.normal(size=points))


def test_exact_points_give_the_law_back():
    law = fit_line([1e18, 1e20, 1e22], [0.3 * c**0.54 for c in (1e18, 1e20, 1e22)])
    assert law.exponent == pytest.approx(0.54, rel=1e-12)
    assert law.coefficient == pytest.approx(0.3, rel=1e-10)
    assert law.predict(3.8e25) == pytest.approx(0.3 * 3.8e25**0.54, rel=1e-10)


def test_a_known_floor_is_taken_off_and_put_back():
    x = np.geomspace(1, 1e4, 6)
    law = fit_line(x, 1.7 + 5 * x**-0.3, floor=1.7)
    assert (law.exponent, law.coefficient) == pytest.approx((-0.3, 5.0))
    assert law.predict(1e6) == pytest.approx(1.7 + 5 * 1e6**-0.3)


@pytest.mark.parametrize("seed", range(5))
def test_it_agrees_with_scipy_on_the_same_points(seed):
    x, y = noisy(seed)
    ours = fit_line(x, y)
    line = stats.linregress(np.log(x), np.log(y))
    assert ours.exponent == pytest.approx(line.slope, rel=1e-6)
    assert math.log(ours.coefficient) == pytest.approx(line.intercept, rel=1e-6)
    (a, b), _ = curve_fit(lambda t, a, b: a + b * t, np.log(x), np.log(y))
    assert (math.log(ours.coefficient), ours.exponent) == pytest.approx((a, b), rel=1e-6)


@pytest.mark.parametrize(("points", "noise"), [(4, 0.05), (8, 0.1), (20, 0.3)])
def test_the_interval_holds_the_planted_exponent_95_times_in_100(points, noise):
    held = [
        fit_power_law(*noisy(seed, points, noise=noise), resamples=400, seed=seed).exponent.holds(
            0.54
        )
        for seed in range(200)
    ]
    # of 200 draws 190 are due; 181 to 198 are within three standard errors
    assert 181 <= sum(held) <= 198


def test_a_floor_is_found_with_an_interval_that_holds_it():
    x = np.geomspace(1, 1e4, 9)
    exact = fit_power_law(x, 1.7 + 5 * x**-0.3, floor="fit")
    assert exact.law.floor == pytest.approx(1.7, rel=1e-3)
    assert exact.law.exponent == pytest.approx(-0.3, rel=1e-3)
    held = 0
    for seed in range(100):
        y = 1.7 + 5 * x**-0.3 + 0.02 * np.random.default_rng(seed).normal(size=9)
        fit = fit_power_law(x, y, floor="fit", resamples=200, seed=seed)
        held += fit.predict(4e4).holds(1.7 + 5 * 4e4**-0.3)
    assert held >= 88
    with pytest.raises(ValueError, match="three different"):
        fit_power_law([1, 2], [2, 1], floor="fit")
    assert fit_power_law([1, 2, 4], [3, 2, 1.5], floor="fit").exponent.half_width == math.inf


def test_the_band_is_narrow_among_the_points_and_wide_far_from_them():
    fit = fit_power_law(*noisy(1))
    near, far = fit.predict(1e20), fit.predict(3.8e25)
    assert near.high / near.low < 1.3 < far.high / far.low
    assert near.holds(0.3 * 1e20**0.54) and far.holds(0.3 * 3.8e25**0.54)


def test_the_same_seed_gives_the_same_interval_and_another_nearly():
    x, y = noisy(0)
    first, again, other = (fit_power_law(x, y, seed=seed).exponent for seed in (0, 0, 1))
    assert first == again != other
    assert first.low == pytest.approx(other.low, abs=0.2 * (first.high - first.low))


def test_two_points_give_a_line_and_no_idea_of_its_error():
    fit = fit_power_law([1e18, 1e20], [1.0, 3.0])
    assert fit.law.predict(1e20) == pytest.approx(3.0)
    assert (fit.exponent.low, fit.exponent.high) == (-math.inf, math.inf)
    assert fit.predict(1e22).half_width == math.inf


@pytest.mark.parametrize(
    ("x", "y", "named"),
    [
        ([1e18], [1.0], "two different"),
        ([1e18, 1e18], [1.0, 2.0], "two different"),
        ([1e18, 1e19], [1.0, math.nan], "y has nan"),
        ([1e18, 0.0], [1.0, 2.0], "x has 0.0"),
        ([1e18, 1e19], [1.0, -2.0], "y has -2.0"),
        ([1e18, 1e19], [1.0], "same length"),
    ],
)
def test_points_without_a_line_are_refused(x, y, named):
    with pytest.raises(ValueError, match=named):
        fit_power_law(x, y)


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="level=1"):
        fit_power_law([1, 2], [1, 2], level=1)
    with pytest.raises(ValueError, match="resamples=0"):
        fit_power_law([1, 2], [1, 2], resamples=0)
    with pytest.raises(ValueError, match="floor=2"):
        fit_line([1, 2], [1.5, 3], floor=2)
    for floor in (-1, True, "fit", math.inf):
        with pytest.raises(ValueError, match=f"floor={floor!r} is not allowed"):
            fit_line([1, 2], [1.5, 3], floor=floor)
    for floor in (-1, True, "fitt"):
        with pytest.raises(ValueError, match=f"floor={floor!r} is not allowed.*'fit'"):
            fit_power_law([1, 2, 4, 8], [4, 3, 2.5, 2.3], floor=floor)


def test_points_too_near_each_other_are_refused():
    with pytest.raises(ValueError, match=r"x=\[.*\] is not allowed: too near"):
        fit_line([1e18, 1.001e18], [1, 0.9])


def test_few_draws_do_not_show_the_ends_of_an_interval():
    x, y = noisy(0)
    assert fit_power_law(x, y, resamples=1).exponent.half_width == math.inf
    assert fit_power_law(x, y, resamples=39).predict(1e23).high == math.inf
    assert fit_power_law(x, y, resamples=40).exponent.half_width < 0.1
    assert fit_power_law(x, y, resamples=19, level=0.9).exponent.half_width == math.inf
    assert fit_power_law(x, y, resamples=20, level=0.9).exponent.half_width < 0.1


def test_the_floor_has_an_interval_too():
    x = np.geomspace(1, 1e4, 9)
    held = 0
    for seed in range(100):
        y = 1.7 + 5 * x**-0.3 + 0.02 * np.random.default_rng(seed).normal(size=9)
        told = fit_power_law(x, y, floor="fit", resamples=200, seed=seed).floor
        assert told.low < told.score < told.high
        held += told.holds(1.7)
    assert held >= 88
    known = fit_power_law(x, y, floor=1.2).floor
    assert (known.low, known.score, known.high) == (1.2, 1.2, 1.2)


# ---- the paper's law (§3.2.1)


def test_the_printed_pair_cannot_give_the_printed_tokens():
    flops, wanted = 3.8e25, paper.OPTIMAL_TOKENS.value
    text = paper.optimal_tokens(flops, paper.EXPONENT.value, paper.COEFFICIENT.value)
    figure = paper.optimal_tokens(
        flops, paper.EXPONENT_FIGURE.value, paper.COEFFICIENT_FIGURE.value
    )
    assert text == pytest.approx(10.46e12, rel=1e-3)
    assert figure == pytest.approx(wanted, rel=0.02)
    # nor any pair that rounds to it
    assert paper.optimal_tokens(flops, 0.535, 0.295) < 0.9 * wanted
    assert paper.OPTIMAL_PARAMETERS.value * wanted * 6 == pytest.approx(3.99e25, rel=2e-3)
    # pairs that the figure's label rounds to do reach it
    low = paper.optimal_tokens(flops, 0.5365, 0.2985)
    high = paper.optimal_tokens(flops, 0.5375, 0.2995)
    assert low < wanted < high


def test_the_tokens_answer_to_the_exponent_as_the_log_of_the_budget_says():
    flops, step = 3.8e25, 1e-6
    up, down = (paper.optimal_tokens(flops, 0.537 + s, 0.299) for s in (step, -step))
    slope = (math.log(up) - math.log(down)) / (2 * step)
    assert slope == pytest.approx(math.log(flops), rel=1e-6)
    assert paper.SENSITIVITY.value == pytest.approx(slope, abs=0.05)
