"""Parabolas and the laws through their minima: planted ones are found, bad ones refused."""

import logging
import math
from dataclasses import replace

import numpy as np
import pytest
from scaling_tools import curves, grid_runs, scattered

from llama3lib.scaling import (
    ParametricLaw,
    Run,
    fit_isoflop,
    fit_parabola,
    in_other_counts,
)


def test_a_planted_parabola_is_found():
    sizes = np.geomspace(1e6, 1e8, 7)
    losses = 2.5 + 0.03 * (np.log(sizes) - math.log(2e7)) ** 2
    found = fit_parabola(sizes, losses)
    assert (found.best, found.lowest, found.bend) == pytest.approx((2e7, 2.5, 0.03))
    assert found.predict(1e6) == pytest.approx(losses[0])


def test_it_agrees_with_numpy_on_noisy_points():
    rng = np.random.default_rng(0)
    sizes = np.geomspace(1e3, 1e5, 9)
    losses = 3 + 0.1 * (np.log(sizes) - 9) ** 2 + 0.02 * rng.normal(size=9)
    a, b, c = np.polyfit(np.log(sizes), losses, 2)
    found = fit_parabola(sizes, losses)
    assert found.best == pytest.approx(math.exp(-b / (2 * a)), rel=1e-6)
    assert found.lowest == pytest.approx(c - b * b / (4 * a), rel=1e-6)


def test_planted_laws_are_found_exactly_without_noise():
    law = fit_isoflop(curves(0.0))
    assert law.size.law.exponent == pytest.approx(0.5)
    assert law.size.law.coefficient == pytest.approx(0.1)
    assert law.loss.law.exponent == pytest.approx(-0.07)
    told = law.predict(1e21)
    assert told.size.score == pytest.approx(0.1 * 1e21**0.5)
    assert told.loss.score == pytest.approx(50 * 1e21**-0.07)
    assert told.size.half_width < 1e-6 * told.size.score
    tokens = fit_isoflop(curves(0.0), "tokens").size.law
    assert (tokens.exponent, tokens.coefficient) == pytest.approx((0.5, 1 / 0.6))


def test_intervals_hold_the_planted_laws_95_times_in_100():
    held = np.zeros(3, dtype=int)
    for seed in range(200):
        law = fit_isoflop(curves(0.004, seed), resamples=400, seed=seed)
        told = law.predict(4 * 3e19)
        held += (
            law.size.exponent.holds(0.5),
            told.loss.holds(50 * (4 * 3e19) ** -0.07),
            law.curves[0].best.holds(0.1 * 1e18**0.5),
        )
    assert all(181 <= count <= 199 for count in held), held


@pytest.mark.parametrize(("budgets", "sizes"), [(6, 7), (4, 5)])
@pytest.mark.parametrize("scatter", [0.02, 0.1])
def test_intervals_hold_when_budgets_scatter_by_more_than_their_runs(scatter, budgets, sizes):
    held = np.zeros(2, dtype=int)
    for seed in range(200):
        runs = scattered(scatter, seed, budgets=budgets, sizes=sizes)
        law = fit_isoflop(runs, resamples=300, seed=seed)
        held += law.size.exponent.holds(0.5), law.loss.exponent.holds(-0.07)
    # noise of runs alone holds 5 to 30 of 200 here
    assert all(170 <= count <= 199 for count in held), held


def test_a_law_that_misses_its_points_is_doubted_and_said(caplog):
    with caplog.at_level(logging.WARNING):
        calm = fit_isoflop(curves(0.001, 1, loss=(50.0, -0.07)))
    assert not caplog.text and calm.size.misfit < 2 and calm.loss.misfit < 2
    bent = [
        replace(run, loss=run.loss + 2.5 + 400 * run.budget**-0.15 - 50 * run.budget**-0.07)
        for run in curves(0.001, 1)
    ]
    with caplog.at_level(logging.WARNING):
        straight = fit_isoflop(bent)
    assert "the law of the loss misses its own points" in caplog.text
    assert "size misses" not in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        floored = fit_isoflop(bent, floor="fit")
    assert not caplog.text and floored.loss.misfit < 2
    truth = 2.5 + 400 * 1.2e20**-0.15
    told = straight.predict(1.2e20).loss
    assert straight.loss.misfit > 5 and told.holds(truth)
    # the noise of runs alone would not get there
    assert truth - told.score > 2 * max(curve.lowest.half_width for curve in straight.curves)


def test_the_misfit_is_chi_square_over_its_freedom():
    """Against bars and a line by other means, where all minima are equally well known."""
    rng = np.random.default_rng(4)
    runs = scattered(0.05, 3)
    law = fit_isoflop(runs, resamples=4000)
    x = np.log([curve.budget for curve in law.curves])
    y = np.log([curve.parabola.best for curve in law.curves])
    left = y - np.polyval(np.polyfit(x, y, 1), x)
    # the vertex of a parabola through 7 points with noise .001, by plain simulation
    away = np.linspace(-1.2, 1.2, 7)
    fits = np.polyfit(away, 0.05 * away[:, None] ** 2 + 0.001 * rng.normal(size=(7, 4000)), 2)
    bar = np.std(-fits[1] / (2 * fits[0]))
    assert law.size.misfit == pytest.approx(math.sqrt(left @ left / 4) / bar, rel=0.2)
    assert fit_isoflop(runs[:14]).size.misfit is None  # two budgets: nothing left to judge by
    assert fit_isoflop(runs, resamples=39).size.misfit is None


def test_sizes_so_far_apart_that_no_parabola_fits_are_warned_of(caplog):
    law = ParametricLaw(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)
    wide = [replace(r, budget=float(f"{r.flops:.6g}")) for r in grid_runs(law, 0.0005)]
    near = [run for run in wide if 0.3 < run.parameters / law.optimum(run.flops)[0] < 3.5]
    with caplog.at_level(logging.WARNING):
        fit_isoflop(near, floor="fit")
    assert "one side" not in caplog.text
    with caplog.at_level(logging.WARNING):
        fit_isoflop(wide, floor="fit")
    assert "the curves are steeper on one side" in caplog.text


def test_more_noise_gives_wider_intervals():
    calm, wild = (fit_isoflop(curves(noise, 3)).size.exponent for noise in (0.002, 0.008))
    assert wild.half_width > 2 * calm.half_width


def test_noise_that_may_hide_the_lowest_point_widens_it_without_end():
    law = fit_isoflop(curves(0.05, 5, bend=0.06), edges=True)
    assert any(math.isinf(curve.best.half_width) for curve in law.curves)
    assert math.isinf(law.size.exponent.half_width)


def test_a_lowest_point_on_the_edge_is_refused_or_warned_of(caplog):
    runs = [r for r in curves(0.0, sizes=9) if r.budget > 1e18 or r.parameters < 0.09 * 1e9]
    with pytest.raises(ValueError, match=r"budget 1e\+18: the minimum .* outside"):
        fit_isoflop(runs)
    with caplog.at_level(logging.WARNING):
        law = fit_isoflop(runs, edges=True)
    assert "outside" in caplog.text
    assert [curve.is_inside for curve in law.curves] == [False, True, True, True]


def test_a_floor_is_found_where_the_loss_has_one():
    runs = [
        Run(
            parameters=run.parameters,
            tokens=run.tokens,
            loss=2.5 + 400 * run.budget**-0.15 + 0.05 * (i % 5 - 2) ** 2,
            budget=run.budget,
        )
        for i, run in enumerate(curves(0.0))
    ]
    straight, bent = fit_isoflop(runs), fit_isoflop(runs, floor="fit")
    truth = 2.5 + 400 * 1e21**-0.15
    assert bent.loss.law.floor == pytest.approx(2.5, abs=1e-3)
    assert bent.loss.law.exponent == pytest.approx(-0.15, rel=1e-3)
    assert bent.predict(1e21).loss.score == pytest.approx(truth, rel=1e-4)
    assert straight.predict(1e21).loss.score < 0.97 * truth
    assert fit_isoflop(runs, floor=2.5).loss.law.exponent == pytest.approx(-0.15)
    with pytest.raises(ValueError, match="with 3 budgets: 4 or more"):
        fit_isoflop(runs[:15], floor="fit")
    with pytest.raises(ValueError, match="less floor=4"):
        fit_isoflop(runs, floor=4.0)


def test_the_doubt_about_the_floor_widens_the_band():
    runs = curves(0.004, 2)
    known, unknown = (fit_isoflop(runs, floor=f).predict(1e21).loss for f in (0.0, "fit"))
    assert unknown.half_width > 1.5 * known.half_width
    assert unknown.holds(50 * 1e21**-0.07)


def test_degenerate_input_is_refused_by_name():
    runs = curves(0.001)
    with pytest.raises(ValueError, match="two or more"):
        fit_isoflop([run for run in runs if run.budget == 1e18])
    with pytest.raises(ValueError, match=r"budget 3e\+18: 3 runs are too few"):
        fit_isoflop([r for n, r in enumerate(runs) if n not in (5, 9)])
    with pytest.raises(ValueError, match=r"budget 3e\+18: 2 different sizes among 2 runs .* 1 %"):
        fit_isoflop([r for n, r in enumerate(runs) if n not in (5, 6, 9)])
    with pytest.raises(ValueError, match="do not bend upwards"):
        fit_isoflop(curves(0.0, bend=-0.02))
    with pytest.raises(ValueError, match="non_embedding"):
        fit_isoflop(runs, "non_embedding")
    with pytest.raises(ValueError, match="axis='size'"):
        fit_isoflop(runs, "size")
    near = [replace(run, budget=1.2e18) if run.budget == 3e18 else run for run in runs[:10]]
    with pytest.raises(ValueError, match=r"1\.5 times the smallest"):
        fit_isoflop(near)
    for floor in (-1, True, "fitt", math.nan, None):
        with pytest.raises(ValueError, match=rf"floor={floor!r} is not allowed.*or 'fit'"):
            fit_isoflop(runs, floor=floor)
    with pytest.raises(ValueError, match="finite"):
        fit_parabola([1.0, 2.0, 3.0], [1.0, math.nan, 2.0])


def test_leaving_out_the_embedding_makes_the_law_steeper():
    """Models of width d: embedding and output 2·V·d, layers 12·d², V = 2048."""
    runs = []
    for budget in (1e10, 1e11, 1e12):
        best = 0.5 * budget**0.5
        for away in np.linspace(-1, 1, 5):
            size = best * math.exp(away)
            width = (-4096 + math.sqrt(4096**2 + 48 * size)) / 24
            loss = 9 * budget**-0.05 + 0.1 * away**2
            runs.append(
                Run(
                    parameters=size,
                    tokens=budget / (6 * size),
                    loss=loss,
                    flops=budget,
                    non_embedding=12 * width**2,
                )
            )
    law = fit_isoflop(runs)
    whole, other = in_other_counts(law, runs)
    assert whole.exponent == pytest.approx(0.5)
    # N_E ~ N² for small models, and 6·N_E·D then grows faster too: about 2·0.5 / (1 + 0.5)
    assert 0.6 < other.exponent < 0.7
    with pytest.raises(ValueError, match=r"runs have none at budget 1e\+12"):
        in_other_counts(law, runs[:10])
    assert in_other_counts(law, [replace(r, budget=1.004 * r.budget) for r in runs]) == (
        whole,
        other,
    )
    with pytest.raises(ValueError, match="'tokens'"):
        in_other_counts(fit_isoflop(runs, "tokens"), runs)
