"""The isoFLOP explorer: its parabolas, the dot, and the words."""

import itertools
import math

import pytest
from scaling_tools import curves as planted

from llama3lib.scaling import Run, fit_isoflop, read_runs, stored_path
from widgets.ch03.views import isoflop_curves
from widgets.ch03.views.isoflop import IsoFlopExplorer
from widgets.ch03.views.isoflop_curves import AXES, STOPS, curves_of, dot


@pytest.fixture(scope="module")
def toy():
    return [run for run in read_runs(stored_path("toy")) if run.seed == 0]


@pytest.fixture(scope="module")
def long():
    return read_runs(stored_path("toy-long"))


@pytest.fixture(scope="module")
def found(toy, long):
    return curves_of(toy, long)


def test_planted_curves_are_found_on_both_axes():
    for curve in curves_of(planted(0.0)):
        best = 0.1 * curve.budget**0.5
        sizes, tokens = curve.over_parameters, curve.over_tokens
        assert (sizes.best, sizes.bend) == pytest.approx((best, 0.05), rel=1e-6)
        assert sizes.lowest == pytest.approx(50 * curve.budget**-0.07)
        assert tokens.best == pytest.approx(curve.budget / (6 * best), rel=1e-6)
        middle = dot(curve, "parameters", STOPS // 2)
        assert middle.parameters == pytest.approx(best) and middle.above == pytest.approx(0)
        for stop in range(STOPS + 1):
            one, other = dot(curve, "parameters", stop), dot(curve, "tokens", stop)
            away = math.log(one.parameters / best)
            assert one.above == pytest.approx(0.05 * away**2, abs=1e-9)
            assert one.tokens == pytest.approx(curve.budget / (6 * one.parameters), rel=1e-9)
            assert other.loss == pytest.approx(one.loss) and other.at == other.tokens


def test_the_flat_part_ends_where_the_loss_is_one_percent_higher(found):
    for curve, axis in itertools.product(found, AXES):
        fitted = curve.parabola(axis)
        low, high = fitted.flat
        assert fitted.loss(low) == pytest.approx(1.01 * fitted.lowest)
        assert fitted.loss(high) == pytest.approx(1.01 * fitted.lowest)
        assert low < fitted.best < high


def test_parabolas_and_intervals_are_the_librarys(toy, long, found):
    for axis in AXES:
        law = fit_isoflop([*toy, *long], axis)
        for curve, want in zip(found, law.curves, strict=True):
            fitted = curve.parabola(axis)
            assert (fitted.best, fitted.bend) == (want.parabola.best, want.parabola.bend)
            assert (fitted.low, fitted.high) == (want.best.low, want.best.high)
            assert fitted.low < fitted.best < fitted.high


def test_tokens_go_through_the_runs_and_not_by_the_rule_of_six(toy, found):
    assert [curve.budget for curve in found] == [1e10, 3e10, 1e11, 3e11, 1e12]
    for run in toy:
        curve = next(curve for curve in found if curve.budget == run.budget)
        assert curve.tokens_of(run.parameters) == pytest.approx(run.tokens)
        assert curve.size_of(run.tokens) == pytest.approx(run.parameters)
        assert curve.tokens_of(run.parameters) > 1.5 * run.budget / (6 * run.parameters)
    for curve in found:
        dots = [dot(curve, "parameters", stop) for stop in range(STOPS + 1)]
        assert [dots[0].parameters, dots[-1].parameters] == pytest.approx(
            [curve.sizes[0], curve.sizes[-1]]
        )
        read = [it.tokens for it in dots]
        assert read == sorted(read, reverse=True) and len(set(read)) == STOPS + 1
        halfway = math.sqrt(curve.sizes[1] * curve.sizes[2])
        between = math.sqrt(curve.tokens[1] * curve.tokens[2])
        assert curve.tokens_of(halfway) == pytest.approx(between)


def test_the_seeds_of_one_size_are_one_place():
    runs = read_runs(stored_path("toy"))
    curve = curves_of(runs)[0]
    assert len(curve.runs) == 15 and len(curve.sizes) == len(curve.tokens) == 5


def test_words_table_and_picture_tell_the_same(toy, long):
    assert IsoFlopExplorer(toy).budget == 3e11
    view = IsoFlopExplorer(toy, stored=long, budget=1e11, stop=STOPS)
    it, fitted = view.dot(), view.curve.over_parameters
    assert it.parameters == pytest.approx(310_976)
    title = view.summary()
    assert title.startswith("At 1e11 FLOPs the best model has 175,000 parameters; yours, 1.8 ")
    share = it.loss / fitted.lowest - 1
    assert title.endswith(f"times as large, costs {100 * share:.1f}% more loss")
    svg, frame = view.static_svg(), view.frame()
    assert "stored run" in svg and "1e12 FLOPs" in svg
    assert f"yours: {it.above:.3f} nats" in svg
    assert frame["notes"] == isoflop_curves.notes(view.curve, "parameters", STOPS)
    assert frame["facts"] == {"size": str(it.parameters), "loss": str(it.loss)}
    rows = view.table()
    assert [row["point"] for row in rows].count("run") == 20
    assert [row["point"] for row in rows].count("stored run") == 5
    yours = next(row for row in rows if row["point"] == "yours")
    assert (yours["FLOPs"], yours["parameters"], yours["loss"]) == (
        "1e11", "311,000", f"{it.loss:.3f}",
    )  # fmt: skip
    lowest = [row for row in rows if row["point"] == "minimum"]
    assert lowest[2]["parameters"] == "175,000" and lowest[2]["above the minimum"] == "0.000"
    view.axis = "tokens"
    assert view.summary().startswith("At 1e11 FLOPs the best run reads 168,000 tokens; yours, with")
    assert "tokens, log axis" in view.static_svg()
    assert "stored run" not in IsoFlopExplorer(toy).static_svg()


def test_the_rule_of_six_is_named_where_it_holds():
    curve = curves_of(planted(0.0))[0]
    assert isoflop_curves.notes(curve, "parameters", 3)[-1].endswith("C / (6 · N) says the same.")
    assert isoflop_curves.headline(curve, "parameters", STOPS // 2).endswith(
        "yours, about as large, costs under 0.01% more loss"
    )


def test_a_lowest_point_beyond_the_sizes_tried_is_not_shown_as_found(toy):
    small = [run for run in planted(0.0) if run.budget > 1e18 or run.parameters < 9e7]
    more = [
        Run(parameters=n, tokens=1e18 / (6 * n), budget=1e18,
            loss=50 * 1e18**-0.07 + 0.05 * math.log(n / 1e8) ** 2)
        for n in (4e7, 6e7, 7e7)
    ]  # fmt: skip
    view = IsoFlopExplorer([*small, *more], budget=1e18)
    assert not view.curve.over_parameters.inside
    assert view.curve.over_parameters.best == pytest.approx(1e8, rel=1e-6)
    assert view.summary().endswith("lies outside the sizes tried: add models beyond")
    first = [row["point"] for row in view.table() if row["FLOPs"] == "1e18"]
    assert "minimum" not in first and "yours" in first
    assert "above the lowest</text>" not in view.static_svg()


def test_too_few_runs_are_refused(toy):
    with pytest.raises(ValueError, match="a law needs two or more"):
        IsoFlopExplorer([run for run in toy if run.budget == 1e11])
    with pytest.raises(ValueError, match="budget 1e.12"):
        IsoFlopExplorer(toy, stored=read_runs(stored_path("toy-long"))[:2])


def test_numbers_in_words():
    found = [isoflop_curves.amount(v) for v in (178_432, 9.4e5, 2.14e9, 1.655e13, 12.0)]
    assert found == ["178,000", "940,000", "2.14B", "16.6T", "12"]
    assert [isoflop_curves.more_loss(v) for v in (0.0043, 0.12, 0, 9e-5)] == [
        "0.43%", "12%", "under 0.01%", "under 0.01%",
    ]  # fmt: skip


def test_stored_runs_alone_are_enough():
    view = IsoFlopExplorer([], stored=planted(0.0))
    assert view.budget == 3e19 and {row["point"] for row in view.table()} == {
        "stored run",
        "minimum",
        "yours",
    }


def test_budgets_that_differ_by_a_rounding_are_one_curve():
    runs = [
        Run(parameters=run.parameters, tokens=run.tokens, loss=run.loss, budget=budget)
        for i, run in enumerate(planted(0.0))
        for budget in [run.budget * (1 + 1e-4 * (i % 3))]
    ]
    view = IsoFlopExplorer(runs)
    assert len({run.budget for run in runs}) > len(view.curves) == 4
    assert view.budget == pytest.approx(3e19, rel=3e-4) and view.budget < max(
        run.budget for run in runs
    )
