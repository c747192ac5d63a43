"""The isoFLOP explorer: its parabolas, the dot, the words, and the browser's arithmetic."""

import itertools
import math

import pytest
import traitlets
from scaling_tools import curves as planted
from view_tools import run_js

from llama3lib.scaling import Run, fit_isoflop, read_runs, stored_path
from widgets.ch03.views import isoflop, valleys
from widgets.ch03.views.isoflop import IsoFlopExplorer
from widgets.ch03.views.valleys import AXES, STOPS, curves_of, dot


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
        sizes, tokens = curve.parameters_valley, curve.tokens_valley
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


def test_the_valley_ends_where_the_loss_is_one_percent_higher(found):
    for curve, axis in itertools.product(found, AXES):
        valley = curve.valley(axis)
        low, high = valley.flat
        assert valley.loss(low) == pytest.approx(1.01 * valley.lowest)
        assert valley.loss(high) == pytest.approx(1.01 * valley.lowest)
        assert low < valley.best < high


def test_parabolas_and_intervals_are_the_librarys(toy, long, found):
    for axis in AXES:
        law = fit_isoflop([*toy, *long], axis)
        for curve, want in zip(found, law.curves, strict=True):
            valley = curve.valley(axis)
            assert (valley.best, valley.bend) == (want.parabola.best, want.parabola.bend)
            assert (valley.low, valley.high) == (want.best.low, want.best.high)
            assert valley.low < valley.best < valley.high


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
    view = IsoFlopExplorer(toy, stored=long, budget=1e11, stop=STOPS)
    it, valley = view.dot(), view.curve.parameters_valley
    assert it.parameters == pytest.approx(310_976)
    title = view.summary()
    assert title.startswith("At 1e11 FLOPs the best model has 175,000 parameters; yours, 1.8 ")
    share = it.loss / valley.lowest - 1
    assert title.endswith(f"times as large, costs {100 * share:.1f}% more loss")
    svg = view.static_svg()
    assert f"<title>{title}</title>" in svg and "stored run" in svg
    assert f"{it.above:.3f} nats" in svg and "1e12 FLOPs" in svg
    assert all(line in svg for line in valleys.notes(view.curve, "parameters", STOPS))
    assert "image/svg+xml" in view._repr_mimebundle_()[0]
    rows = view.table()
    assert [row["point"] for row in rows].count("run") == 20
    assert [row["point"] for row in rows].count("stored run") == 5
    yours = next(row for row in rows if row["point"] == "yours")
    assert (yours["FLOPs"], yours["parameters"], yours["loss"]) == (
        "1e11", "311,000", f"{it.loss:.3f}",
    )  # fmt: skip
    lowest = [row for row in rows if row["point"] == "lowest point"]
    assert lowest[2]["parameters"] == "175,000" and lowest[2]["above the lowest"] == "0.000"
    view.axis = "tokens"
    assert view.summary().startswith("At 1e11 FLOPs the best run reads 168,000 tokens; yours, with")
    assert "tokens, log axis" in view.static_svg()
    assert "stored run" not in IsoFlopExplorer(toy).static_svg()


def test_the_rule_of_six_is_named_where_it_holds():
    curve = curves_of(planted(0.0))[0]
    assert valleys.notes(curve, "parameters", 3)[-1].endswith("C / (6 · N) says the same.")
    assert valleys.headline(curve, "parameters", STOPS // 2).endswith(
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
    assert not view.curve.parameters_valley.inside
    assert view.curve.parameters_valley.best == pytest.approx(1e8, rel=1e-6)
    assert view.summary().endswith("lies outside the sizes tried: add models beyond")
    first = [row["point"] for row in view.table() if row["FLOPs"] == "1e18"]
    assert "lowest point" not in first and "yours" in first
    assert "above the lowest</text>" not in view.static_svg()


def test_too_few_runs_are_refused(toy):
    with pytest.raises(ValueError, match="a law needs two or more"):
        IsoFlopExplorer([run for run in toy if run.budget == 1e11])
    with pytest.raises(ValueError, match="budget 1e.12"):
        IsoFlopExplorer(toy, stored=read_runs(stored_path("toy-long"))[:2])


@pytest.mark.parametrize(
    "field, wrong", [("budget", 5.0), ("axis", "bytes"), ("stop", -1), ("stop", STOPS + 1)]
)
def test_the_state_is_checked(toy, field, wrong):
    view = IsoFlopExplorer(toy)
    assert (view.budget, view.axis) == (3e11, "parameters")
    with pytest.raises(traitlets.TraitError, match=f"{field}={wrong!r} is not allowed"):
        setattr(view, field, wrong)


def test_numbers_in_words():
    found = [valleys.amount(v) for v in (178_432, 9.4e5, 2.14e9, 1.655e13, 12.0)]
    assert found == ["178,000", "940,000", "2.14B", "16.6T", "12"]
    assert [valleys.flops_text(v) for v in (1e11, 3.8e25, 6e18)] == ["1e11", "3.8e25", "6e18"]
    assert [valleys.percent(v) for v in (0.0043, 0.12, 0, 9e-5)] == [
        "0.43%", "12%", "under 0.01%", "under 0.01%",
    ]  # fmt: skip


def test_marks_are_round():
    assert isoflop.round_marks(3e4, 3e5) == [5e4, 1e5, 2e5]
    assert isoflop.round_marks(1e4, 2e9) == [1e4, 1e5, 1e6, 1e7, 1e8, 1e9]
    assert isoflop.loss_marks(2.9, 4.1) == pytest.approx([3.0, 3.2, 3.4, 3.6, 3.8, 4.0])


def test_the_explorer_in_javascript(node, tmp_path, toy, long):
    view = IsoFlopExplorer(toy, stored=long)
    told, curves = view.facts, [*view.curves.values()]
    seen = list(zip(told["curves"], curves, strict=True))
    cases = [(*pair, axis, stop) for pair in seen for axis in AXES for stop in range(STOPS + 1)]

    def js(function, some):
        return run_js(node, tmp_path, "isoflop", function, *some)

    given = [[told, sent, axis, stop] for sent, _, axis, stop in cases]
    names = ("parameters", "tokens", "at", "loss", "above", "share")
    for (_, curve, axis, stop), got in zip(cases, js("dotOf", given), strict=True):
        want = dot(curve, axis, stop)
        assert [got[n] for n in names] == pytest.approx([getattr(want, n) for n in names], 1e-9)
    assert js("headline", given) == [valleys.headline(*case[1:]) for case in cases]
    assert js("notes", given) == [valleys.notes(*case[1:]) for case in cases]
    want = [valleys.table_rows(curves, *case[1:]) for case in cases[::7]]
    assert js("tableRows", given[::7]) == want
    for axis in AXES:
        (got,) = js("endsOf", [[told, axis]])
        assert got == pytest.approx(isoflop.ends(curves, axis))
    spans = [(3e4, 3e5), (24_000, 1.4e6), (1e4, 2e9)]
    assert js("roundMarks", map(list, spans)) == [isoflop.round_marks(*span) for span in spans]
    for low, high in ((2.9, 4.1), (2.7, 5.1), (3.0, 3.01)):
        (step,) = js("lossStep", [[low, high]])
        marks = isoflop.loss_marks(low, high)
        assert marks[1] - marks[0] == pytest.approx(step)


def test_stored_runs_alone_are_enough():
    view = IsoFlopExplorer([], stored=planted(0.0))
    assert view.budget == 3e19 and {row["point"] for row in view.table()} == {
        "stored run",
        "lowest point",
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
