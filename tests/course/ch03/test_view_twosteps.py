"""The two-step prediction with points taken away: the library's fits, and the words."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import curve_fit
from scipy.special import expit
from scipy.stats import f as ratio
from view_samples import some_task_runs

from llama3lib.scaling import Sigmoid, fit_two_steps, read_runs, stored_path
from widgets.ch03.views import twosteps
from widgets.ch03.views.twosteps import FORMS, MODELS, TwoStepsView
from widgets.ch03.views.twosteps_fits import best_runs, chosen, fit_all, nll_at, tops_that_fit

LIMITS = (3e10, 1e11, 3e11)
CASES = [*itertools.product(LIMITS, MODELS, FORMS)]


@pytest.fixture(scope="module")
def runs():
    return read_runs(stored_path("toy"))


@pytest.fixture(scope="module")
def held():
    return read_runs(stored_path("toy-held-out"))


@pytest.fixture(scope="module")
def view(runs, held):
    return TwoStepsView(runs, held_out=held)


def set_to(view, limit, models, form):
    view.limit, view.models, view.form = limit, models, form
    return view.entry()


@pytest.mark.parametrize("limit, models, form", CASES)
def test_every_fit_is_the_librarys(view, runs, limit, models, form):
    entry = set_to(view, limit, models, form)
    best = [r for r, ok in zip(runs, best_runs(runs), strict=True) if ok and r.budget <= limit]
    most = {"smallest": 1e10, "others": 3e11}.get(models, limit)
    mine = best if models == "best" else [run for run in runs if run.budget <= most]
    if limit == 3e10 and form == "floor":
        assert "three budgets" in entry["first"][form]["trouble"]
        assert form not in entry["told"][models]
        return
    fit = fit_two_steps(
        [run.flops for run in best],
        [run.nll for run in best],
        [run.nll for run in mine],
        [run.accuracy for run in mine],
        first=form,
        resamples=80,
    )
    assert view.data["target"] == pytest.approx(1.2e12, rel=1e-3)
    want, told = fit.predict(view.data["target"]), entry["told"][models][form]["accuracy"]
    first = entry["first"][form]
    assert first["nll"] == pytest.approx([want.nll.score, want.nll.low, want.nll.high])
    assert nll_at(first, form, 5e12) == pytest.approx(fit.predict(5e12).nll.score)
    assert told[0] == pytest.approx(want.accuracy.score)
    if models in ("best", "seen") and limit < 3e11:  # draws that no other limit shares
        assert told[1:] == pytest.approx([want.accuracy.low, want.accuracy.high])
    assert told[1] <= told[0] <= told[2]
    x, low, high = entry["second"][models]["band"][60]
    assert low <= fit.sigmoid.predict(x) <= high
    for x, low, high in first["band"]:
        assert low <= fit.predict(x).nll.score <= high


def test_planted_steps_are_predicted():
    runs, held = some_task_runs()
    view = TwoStepsView(runs, held_out=held, limit=1e16)
    told = view.entry()["told"]["seen"]["line"]["accuracy"]
    assert told[0] == pytest.approx(held[0].accuracy, abs=1e-6)
    share = twosteps.percent(held[0].accuracy)
    assert view.summary().startswith(f"Seen up to 1e16 FLOPs: predicted {share} at 4e18")
    assert view.summary().endswith(f"measured {share}")


def test_which_models_each_step_sees(view, runs):
    assert sum(best_runs(runs)) == 12  # of four budgets and three seeds
    given = view.data["runs"]
    count = {(limit, m): len(chosen(given, limit, m)) for limit, m, _ in CASES}
    assert [count[3e10, m] for m in MODELS] == [15, 6, 30, 60]
    assert [count[3e11, m] for m in MODELS] == [15, 12, 60, 60]
    least = min(r.loss for r in runs if (r.budget, r.seed) == (1e11, 1))
    (one,) = [r for r in given if r["best"] and (r["budget"], r["seed"]) == (1e11, 1)]
    assert one["nll"] == next(r.nll for r in runs if r.loss == least)


def test_a_floor_keeps_the_loss_above_0_where_the_line_does_not(view):
    assert set_to(view, 1e11, "seen", "line")["first"]["line"]["nll"][0] < 0
    assert "but through a loss below 0" in view.summary()
    assert "the line has left its range" in view.static_svg()
    entry = set_to(view, 1e11, "seen", "floor")
    _, low, high = entry["first"]["floor"]["nll"]
    assert 0 < low < view.data["held"][0]["nll"] < high
    assert "below 0" not in view.summary() and "no loss is below 0" not in view.static_svg()


def test_the_foot_of_a_sigmoid_does_not_tell_its_top(view):
    second = set_to(view, 1e11, "smallest", "floor")["second"]
    span = {models: (s["tops"][-1][1], s["tops"][0][1]) for models, s in second.items()}
    assert span["smallest"][0] < 0.8 and span["smallest"][1] == 1
    assert span["seen"][0] > 0.97 and span["others"][0] > 0.97  # more models tell it
    low = view.entry()["told"]["smallest"]["floor"]["by_top"][0]
    assert f"({twosteps.percent(low)} with another top)" in view.summary()
    assert "do not tell the sigmoid's top" in view.static_svg()
    view.models = "others"
    assert "These models tell the sigmoid's top" in view.static_svg()
    assert "as Llama 2's did in the paper" in view.static_svg().replace("\n", " ")


def test_tops_agree_with_a_fit_of_three_unknowns():
    rng = np.random.default_rng(0)
    nll = np.linspace(0.2, 1.2, 24)
    accuracy = [Sigmoid(0.25, 0.86, 0.7, 0.1).predict(x) + 0.01 * rng.normal() for x in nll]

    def curve(x, top, middle, width):
        return 0.25 + (top - 0.25) * expit((middle - x) / width)

    best, _ = curve_fit(curve, nll, accuracy, p0=(0.9, 0.7, 0.1))
    most = ((curve(nll, *best) - accuracy) ** 2).sum() * (1 + ratio.ppf(0.95, 1, 21) / 21)
    tops = [one.top for one in tops_that_fit(nll.tolist(), accuracy)]
    assert tops == sorted(tops, reverse=True) and tops[-1] < best[0] < tops[0]
    for top in (tops[-1] - 0.01, tops[-1], tops[0], tops[0] + 0.01):
        rest, _ = curve_fit(lambda x, m, w, top=top: curve(x, top, m, w), nll, accuracy, (0.7, 0.1))
        squares = ((curve(nll, top, *rest) - accuracy) ** 2).sum()
        # a little more than by the best of all tops, since they are tried in steps
        assert squares <= 1.02 * most if top in tops else squares > most
    assert tops_that_fit([0.1, 0.2, 0.3, 0.4], [0.9, 0.8, 0.7, 0.6]) == []


def test_the_true_top_is_nearly_always_among_those_that_fit():
    rng, held = np.random.default_rng(1), 0
    nll = np.linspace(0.3, 1.1, 12)
    for _ in range(40):
        accuracy = [Sigmoid(0.25, 0.9, 0.8, 0.15).predict(x) + 0.01 * rng.normal() for x in nll]
        tops = [one.top for one in tops_that_fit(nll.tolist(), accuracy)]
        held += min(tops) - 0.005 <= 0.9 <= max(tops) + 0.005
    assert held >= 35


def test_what_cannot_be_told_is_said():
    runs, held = some_task_runs()
    two = [run for run in runs if run.budget < 1e17]
    view = TwoStepsView(two, held_out=held)
    assert "(error unknown)" in view.summary()  # two points lie on any line
    assert view.entry()["first"]["line"]["band"] == []
    view.models = "best"
    assert "Step 2 has too few points" in view.summary()
    assert view.table()[1]["predicted accuracy"] == "too few points"
    assert "no prediction" in view.summary() and view.frame()["facts"]["accuracy"] == "none"
    assert 'data-key="step 1"' in "".join(view.frame()["pieces"])
    assert 'data-key="step 2"' not in "".join(view.frame()["pieces"])
    view.models, view.form = "seen", "floor"
    assert "Step 1 has too few points: a floor needs three budgets, and it has 2." in (
        view.static_svg()
    )
    few = [run for run in two if run.budget == 1e15][:2] + [r for r in two if r.budget == 1e16][:2]
    notes = TwoStepsView(few, held_out=held).frame()["notes"]
    assert any("fewer than five models" in line for line in notes)


def test_without_a_run_held_out_four_times_the_budget_is_predicted():
    runs, _ = some_task_runs()
    view = TwoStepsView(runs)
    assert view.data["target"] == pytest.approx(4e18)
    assert "measured" not in view.summary() and view.table()[0]["measured"] == "-"
    assert "in no fit" not in view.static_svg()


def test_words_table_and_picture_tell_the_same(view):
    set_to(view, 1e11, "seen", "floor")
    title = view.summary()
    told = view.entry()["told"]["seen"]["floor"]["accuracy"]
    score, low, high = map(twosteps.percent, told)
    assert title == (
        f"Seen up to 1e11 FLOPs: predicted {score} at 1.2e12 ({low} to {high}), measured 99.9%"
    )
    facts = view.frame()["facts"]
    assert facts == {"accuracy": str(told[0]), "seen": "45"}
    rows = {(row["seen up to, FLOPs"], row["models in step 2"]): row for row in view.table()}
    row = rows["1e11", MODELS["seen"]]
    assert (row["predicted accuracy"], row["low"], row["high"]) == (score, low, high)
    assert row["measured"] == "99.9%" and len(rows) == 12


def test_runs_that_cannot_tell_are_refused(runs):
    with pytest.raises(ValueError, match="two budgets and three different losses"):
        TwoStepsView([run for run in runs if run.budget == 1e10])
    with pytest.raises(ValueError, match="0 have nll and accuracy"):
        TwoStepsView([replace(run, nll=None) for run in runs])
    with pytest.raises(ValueError, match="held_out: no run has"):
        TwoStepsView(runs, held_out=[replace(runs[0], accuracy=None)])


def test_numbers_in_words():
    assert [twosteps.sci(v) for v in (3e10, 1.2e12, 9.99e9)] == ["3e10", "1.2e12", "1e10"]
    assert [twosteps.percent(v) for v in (0.97449, 1, 0.25)] == ["97.4%", "100.0%", "25.0%"]
    assert twosteps.to("1%", "1%") == "1%" and twosteps.to("1%", "2%") == "1% to 2%"


def test_models_whose_accuracy_does_not_fall_with_the_loss_are_told():
    runs = [
        {"budget": c, "flops": c, "best": n == 2, "nll": 2 / k - 0.05 * n, "accuracy": y}
        for k, c in enumerate((1e10, 1e11, 1e12), 1)
        for n, y in enumerate({1: (0.27, 0.25, 0.24), 2: (0.3, 0.33, 0.4), 3: (0.6, 0.7, 0.8)}[k])
    ]
    entry = fit_all(runs, 1e13, resamples=40)[-1]
    assert "accuracy does not fall" in entry["second"]["smallest"]["trouble"]
    assert "smallest" not in entry["told"]
    assert all(np.isfinite(row).all() for row in np.array(entry["second"]["seen"]["band"]))
