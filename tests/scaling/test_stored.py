"""The stored points of the toy sweep show what chapter 03 says of them."""

import pytest

from llama3lib.scaling import (
    by_budget,
    fit_isoflop,
    fit_two_steps,
    in_other_counts,
    load_sweep,
    read_runs,
    stored_path,
)
from llama3lib.scaling.points import provenance

SEEDS = (0, 1, 2)


@pytest.fixture(scope="module")
def runs():
    return read_runs(stored_path("toy"))


@pytest.fixture(scope="module")
def held():
    return read_runs(stored_path("toy-held-out"))


def of(seed, runs):
    return [run for run in runs if run.seed == seed]


def test_they_are_those_of_the_sweep(runs):
    budgets = {b.flops: len(b.models) for b in load_sweep("toy").budgets}
    for seed in SEEDS:
        found = by_budget(of(seed, runs))
        assert {flops: len(group) for flops, group in found.items()} == budgets


@pytest.mark.parametrize("seed", SEEDS)
def test_every_curve_has_its_lowest_point_inside(runs, seed):
    law = fit_isoflop(of(seed, runs))
    best = [curve.parabola.best for curve in law.curves]
    assert all(curve.is_inside for curve in law.curves) and best == sorted(best)


@pytest.mark.parametrize("seed", SEEDS)
def test_four_times_the_largest_budget_is_predicted_within_two_per_cent(runs, held, seed):
    (run,) = of(seed, held)
    mine = of(seed, runs)
    assert run.budget >= 4 * max(r.budget for r in mine)
    law = fit_isoflop(mine, floor="fit")
    told = law.predict(run.budget)
    assert told.loss.score == pytest.approx(run.loss, rel=0.02)
    assert run.parameters == pytest.approx(told.size.score, rel=0.1)
    note = provenance(stored_path("toy-held-out"))["predictions"][seed]
    assert note["loss"][0] == pytest.approx(told.loss.score, abs=2e-4)
    # a line without a floor is far off: the first way to fool oneself
    assert fit_isoflop(mine).predict(run.budget).loss.score < 0.92 * run.loss


@pytest.mark.parametrize("seed", SEEDS)
def test_leaving_out_the_embedding_gives_a_steeper_law(runs, seed):
    mine = of(seed, runs)
    whole, other = in_other_counts(fit_isoflop(mine), mine)
    assert other.exponent > whole.exponent + 0.1


def test_accuracy_follows_from_compute_in_two_steps(runs, held):
    best = [
        min(group, key=lambda run: run.loss)
        for seed in SEEDS
        for group in by_budget(of(seed, runs)).values()
    ]
    fit = fit_two_steps(
        [run.flops for run in best],
        [run.nll for run in best],
        [run.nll for run in runs],
        [run.accuracy for run in runs],
        first="floor",
        resamples=60,
    )
    told = fit.predict(1.2e12)
    for run in held:
        assert told.nll.holds(run.nll)
        assert told.accuracy.score == pytest.approx(run.accuracy, abs=0.05)


@pytest.mark.parametrize("seed", SEEDS)
def test_ten_times_the_largest_budget_is_predicted_within_two_per_cent(runs, seed):
    (run,) = of(seed, read_runs(stored_path("toy-ten-times")))
    mine = of(seed, runs)
    assert run.budget == pytest.approx(10 * max(r.budget for r in mine))
    assert fit_isoflop(mine, floor="fit").predict(run.budget).loss.score == pytest.approx(
        run.loss, rel=0.02
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_runs_whose_cosine_has_not_ended_shift_the_law_to_larger_models(runs, seed):
    cut = of(seed, read_runs(stored_path("toy-unfinished")))
    budgets = {run.budget for run in cut}
    mixed = [run for run in of(seed, runs) if run.budget not in budgets] + cut
    right, wrong = fit_isoflop(of(seed, runs)), fit_isoflop(mixed)
    assert wrong.size.law.exponent > right.size.exponent.high
    assert wrong.size.misfit > 2 > right.size.misfit
    for one, other in zip(right.curves[2:], wrong.curves[2:], strict=True):
        assert other.parabola.lowest > 1.04 * one.parabola.lowest
        assert other.parabola.best > 1.1 * one.parabola.best
