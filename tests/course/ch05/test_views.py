"""The four views of chapter 05: their arithmetic, and that pictures and tables show it."""

import itertools
import math
import re
import time

import numpy as np
import pytest
import torch
from view_samples import some_band, some_grids, some_losses, some_points

from llama3lib.paper import training as facts
from llama3lib.train import lr_at
from widgets.ch05.views import averaging, band, needles, schedule
from widgets.ch05.views.averaging import AveragingLine, losses_of_means, losses_on_line
from widgets.ch05.views.band import BandView
from widgets.ch05.views.needles import NeedleMap
from widgets.ch05.views.schedule import USED_UP, ScheduleDesigner

# ---- the schedule


def test_the_schedule_is_the_papers_and_the_librarys():
    assert schedule.borders() == [0, facts.FIRST_BATCH_STEPS.value, 358_782, USED_UP]
    assert schedule.tokens_at(63) == facts.BATCH_CHANGES.value[0]
    assert 0 <= schedule.tokens_at(USED_UP) - 15.6e12 < 16e6
    assert schedule.tokens_at(1_200_000) == pytest.approx(facts.TOKENS_FOR_ALL_STEPS.value[0], 0.01)
    view = ScheduleDesigner()
    assert view.rate_at_end() == lr_at(USED_UP, 8e-5, 8000, 1_200_000, 8e-7)
    assert round(view.rate_at_end(), 7) == facts.LEARNING_RATE_AT_END.value[0]
    assert view.summary().endswith("1,154,407: the rate is 1.1e-6 there")
    rows = {row["phase"]: row for row in view.table()}
    assert rows["batch 1"]["to step"] == "63" and rows["batch 1"]["tokens"] == "252M"
    assert rows["batch 3"]["rate at its end"] == "1.1e-6"
    assert rows["annealing, as printed"]["from step"] == "1,154,404.5"
    assert sum(facts.SLIPS in note for note in schedule.notes(8000, 1_200_000)) == 1


def test_the_first_batches_are_thinner_in_tokens():
    assert schedule.sliver("steps") == "4M a step: 63 of 10K steps, 0.63%"
    assert schedule.sliver("tokens") == "4M a step: 252M of 79.7B tokens, 0.32%"


def test_the_words_follow_the_controls():
    view = ScheduleDesigner(warmup=0, total=1_000_000, axis="tokens")
    assert "the rate is 8.0e-7 since step 1,000,000" in view.summary()
    assert "outlast the warm-up of 0 steps" in schedule.notes(0, 1_000_000)[0]
    assert "warm-up" not in {row["phase"] for row in view.table()}
    assert "just reaches 8.0e-7" in schedule.headline(8000, USED_UP)
    assert ">4M a step: 252M of 79.7B tokens, 0.32%<" in view.static_svg()
    assert view.summary() == schedule.headline(0, 1_000_000)
    assert view.table() == schedule.table_rows(0, 1_000_000)
    assert view.frame()["notes"] == schedule.notes(0, 1_000_000)
    want = f"{lr_at(USED_UP, 8e-5, 0, 1_000_000, 8e-7):.6e}"
    assert view.frame()["facts"] == {"rate": want, "axis": "tokens"}


# ---- the band


def test_a_band_with_nothing_in_it():
    view = BandView(some_band())
    assert view.summary() == "The band of 3 runs of tiny; no block of yours yet"
    assert view.share_inside() is None and view.now == {}
    assert {row["inside"] for row in view.table()} == {"–"}
    assert view.frame()["notes"][0].startswith("Nothing has run yet")


@pytest.mark.parametrize("offset", [0.0, 0.02, -0.02, 1.0])
def test_blocks_are_judged_as_the_band_does_it(offset):
    losses = some_losses(offset)
    compared = some_band().compare(losses)
    view = BandView(some_band(), {"mine": losses})
    assert view.run == "mine" and view.means() == pytest.approx(list(compared.losses))
    assert band.judged(some_band(), view.means()) == list(compared.inside)
    assert view.share_inside() == compared.share
    facts = {"points": "20", "inside": str(sum(compared.inside)), "scale": "log"}
    assert view.frame()["facts"] == facts
    assert view.table() == band.table_rows(some_band(), view.means())


def test_a_live_run_is_the_finished_one():
    view, losses = BandView(some_band()), some_losses(0.02)
    for step, loss in enumerate(losses[:95], start=1):
        view.on_step({"step": step, "loss": loss, "phase": "all", "lr": 0.1})
    view.on_step({"step": 95, "gate": True})  # no loss: some other record
    view.flush()
    assert view.frame()["notes"] == [
        f"step 95 (all): {np.mean(losses[90:95]):.3f} in the block under way"
    ]
    assert view.means() == band.block_means(losses[:95], 10) and len(view.means()) == 9
    assert view.now == {"step": 95, "phase": "all", "loss": pytest.approx(np.mean(losses[90:95]))}
    for step in range(41, 201):  # resumed from step 40
        view.on_step({"step": step, "loss": losses[step - 1], "phase": "all"})
    assert view.means() == band.block_means(losses, 10)
    assert view.summary() == BandView(some_band(), {"yours": losses}).summary()
    for step in (1, 2):  # begun anew
        view.on_step({"step": step, "loss": 5.0})
    assert view.means() == [] and view.now["step"] == 2


def test_gaps_and_lost_runs_are_no_points():
    view = BandView(some_band())
    for step in range(15, 41):  # a view that came late
        view.on_step({"step": step, "loss": math.nan if step == 35 else 2.0})
    assert view.means() == [None, None, 2.0, None]
    assert [row["yours"] for row in view.table()[:4]] == ["–", "–", "2.000", "–"]
    for step in range(41, 400):  # longer than the band
        view.on_step({"step": step, "loss": 2.0})
    assert len(view.means()) == 20 and "nan" not in view.static_svg()


def test_pictures_of_a_run_are_few(monkeypatch):
    view, drawn = BandView(some_band()), []
    monkeypatch.setattr(view, "refresh", lambda: drawn.append(len(view._losses)))
    clock = itertools.count(0, 0.005)
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))  # asked twice a step at the most
    for step in range(1, 201):
        view.on_step({"step": step, "loss": 2.0})
    assert 4 <= len(drawn) <= 11  # in 1 to 2 seconds
    for name in ("summary", "table", "static_svg"):  # what is asked for is never late
        view.on_step({"step": len(view._losses) + 1, "loss": 2.0})
        getattr(view, name)()
        assert drawn[-1] == len(view._losses)


def test_losses_off_the_axis_stand_at_its_edge():
    view = BandView(some_band(), {"lucky": [0.0] * 200})
    for step in range(1, 6):
        view.on_step({"step": step, "loss": 1e9})
    for scale, run in itertools.product(band.SCALES, ("lucky", "yours")):
        view.move(scale=scale, run=run)
        assert view.frame()["size"][1] < 450 and "nan" not in view.static_svg()
    assert "so far" in "".join(view.frame()["pieces"])


def test_the_bands_state_and_arguments_are_checked():
    view = BandView(some_band())
    with pytest.raises(ValueError, match="run='other' is not allowed: one of yours"):
        view.run = "other"
    with pytest.raises(ValueError, match="losses has 9 steps, a block needs 10"):
        view.add("short", [1.0] * 9)
    with pytest.raises(ValueError, match="name='' is not allowed"):
        view.add("", [1.0] * 10)
    with pytest.raises(ValueError, match="step=0 is not allowed: 1 or more"):
        view.on_step({"step": 0, "loss": 1.0})
    with pytest.raises(ValueError, match="band='tiny' is not allowed"):
        BandView("tiny")


def test_loss_minus_the_mean_of_the_seeds():
    view = BandView(some_band(), {"mine": some_losses(0.02)})
    told = view.summary(), view.table(), view.frame()["facts"]["inside"]
    view.scale = "minus mean"
    assert (view.summary(), view.table(), view.frame()["facts"]["inside"]) == told
    above = band.from_mean(some_band(), view.means())
    assert above == pytest.approx([0.02 * max(0, i - 9) for i in range(20)])
    low, high = band.axis_ends(band.centred(some_band()), {"mine": above}, "minus mean")
    assert -low == high == pytest.approx(1.05 * max(above))
    picture = "".join(view.frame()["pieces"])
    places = re.findall(r'translate\(\S+ ([\d.]+)\)"[^>]*data-key="block', picture)
    middle, unit = 28 + 280 / 2, 280 / (high - low)
    assert [float(y) for y in places] == pytest.approx([middle - unit * a for a in above], abs=0.02)
    lost = {"lost": [None, 1e6]}
    assert band.axis_ends(band.centred(some_band()), lost, "minus mean")[1] == pytest.approx(0.72)
    view.on_step({"step": 1, "loss": 3.6})
    view.flush()
    assert view.frame()["notes"] == ["step 1: 3.600 in the block under way"]


# ---- the needles


@pytest.mark.parametrize("threshold", [5, 30, 50, 75, 90, 95, 100])
def test_what_passes_is_what_the_gate_lets_through(threshold):
    for name, grid in some_grids().items():
        view = NeedleMap(some_grids(), grid=name, threshold=threshold)
        passing = [n for n in grid.lengths if grid.solved(n, threshold / 100)]
        assert view.passing() == (passing[-1] if passing else None)
        assert view.frame()["facts"] == {"passed": str(len(passing))}
        assert view.summary() == needles.headline(name, grid, threshold)
        signs = [row["counts as"] == "found" for row in view.table()]
        assert signs == (grid.share >= threshold / 100).flatten().tolist()


def test_the_map_says_what_it_shows():
    view = NeedleMap(some_grids())
    assert view.summary() == "before: found up to 64 tokens at 100%"
    view.threshold = 90
    assert view.summary() == "before: found up to 128 tokens at 90%"
    view.cell = [2, 1]
    want = "length 256, depth 0.25: 18 of 40 found (45%), 2.10 nats a token: ◐ partly"
    assert view.cell_words() == want
    assert want in "".join(view.frame()["pieces"])
    view.grid = "short"  # the cursor stays within the grid
    assert view.cell_words().startswith("length 64, depth 0.25: 38 of 40")
    assert "nats not finite" in view.cell_words() and view.table()[0]["nats"] == "–"
    view.threshold = 100
    assert view.summary() == "short: no length passes at 100%"
    assert [needles.percent(share) for share in (0, 0.001, 0.995, 0.999, 1)] == [
        "0%",
        "1%",
        "99%",
        "99%",
        "100%",
    ]


def test_what_is_no_grid_is_refused():
    for wrong in ({}, {"a": 3}):
        with pytest.raises(ValueError, match="grids="):
            NeedleMap(wrong)
    view = NeedleMap(some_grids())
    for wrong in ([0], [4, 0], [0, -1]):
        with pytest.raises(ValueError, match="cell=.* is not allowed"):
            view.cell = wrong


# ---- averages


def quadratic(weights):
    """A linear model's squared error: (w x - y)^2 + b^2 with x = 2, y = 1."""
    return float(((2 * weights["w"] - 1) ** 2).sum() + (weights["b"] ** 2).sum())


def linear(w, b, dtype=torch.float64):
    return {"w": torch.tensor([w], dtype=dtype), "b": torch.tensor([b], dtype=dtype)}


def test_losses_on_a_line_in_closed_form():
    a, b = linear(0.0, 1.0), linear(1.0, -1.0)
    line = losses_on_line(a, b, quadratic)
    assert len(line) == 21 and line[0] == (0.0, 2.0) and line[-1] == (1.0, 2.0)
    for share, loss in line:
        assert loss == pytest.approx((2 * share - 1) ** 2 + (1 - 2 * share) ** 2, abs=1e-12)
    assert losses_on_line(a, b, quadratic, [0.25, 0.75])[1] == pytest.approx((0.75, 0.5))
    assert a["w"].item() == 0 and b["w"].item() == 1  # untouched


def test_losses_of_means_in_closed_form():
    places = [0.9, 0.1, 0.7, 0.4]
    found = losses_of_means([linear(w, w) for w in places], quadratic)
    for count, loss in found:
        mean = sum(places[-count:]) / count
        assert loss == pytest.approx((2 * mean - 1) ** 2 + mean**2)
    assert [count for count, _ in found] == [1, 2, 3, 4]


def test_a_real_network_and_small_dtypes():
    torch.manual_seed(0)
    nets = [torch.nn.Linear(4, 2) for _ in range(3)]
    x, y = torch.randn(32, 4), torch.randn(32, 2)

    def loss_of(weights):
        return torch.nn.functional.mse_loss(torch.func.functional_call(nets[0], weights, x), y)

    states = [net.state_dict() for net in nets]
    mean = {n: torch.stack([s[n] for s in states]).mean(0) for n in states[0]}
    found = losses_of_means(states, loss_of)
    assert found[2][1] == pytest.approx(loss_of(mean).item())
    assert found[0][1] == pytest.approx(loss_of(states[2]).item())
    seen = []
    small = [linear(1.0, 1.0, torch.bfloat16), linear(0.0, 0.0, torch.bfloat16)]
    losses_on_line(*small, lambda w: seen.append(w["w"].dtype) or 0.0, [0, 1])
    losses_of_means(small, lambda w: seen.append(w["w"].dtype) or 0.0)
    assert set(seen) == {torch.bfloat16}


def test_averages_of_what_does_not_fit_are_refused():
    a = linear(0.0, 1.0)
    for shares in ([0.5], [0.5, 0.5], [0, 1.5], [-0.1, 1], [math.nan, 1]):
        with pytest.raises(ValueError, match="shares="):
            losses_on_line(a, a, quadratic, shares)
    with pytest.raises(ValueError, match=r"weights_b is not allowed: .*first b"):
        losses_on_line(a, {"w": a["w"]}, quadratic)
    with pytest.raises(ValueError, match=r"weights_b is not allowed: .*shape"):
        losses_on_line(a, a | {"w": torch.zeros(2)}, quadratic)
    with pytest.raises(ValueError, match="weights_a is not allowed: n is torch.int64"):
        losses_on_line({"n": torch.zeros(2, dtype=torch.int64)}, a, quadratic)
    with pytest.raises(ValueError, match="weights is not allowed to be empty"):
        losses_of_means([], quadratic)


def test_averages_say_their_gain():
    view = AveragingLine(some_points())
    assert view.k == 10 and view.gain() == pytest.approx(0.216)
    want = "the mean of 10 checkpoints is 0.22 nats better than the last one alone"
    assert view.summary() == f"constant rate: {want}"
    view.series = "rate to 0"  # which has 8
    want = "no gain, the mean of 8 checkpoints is 0.004 nats worse than the last one alone"
    assert view.summary() == f"rate to 0: {want}"
    view.k = 2
    assert "no gain, the mean of 2 checkpoints is 0.001 nats worse" in view.summary()
    view.k = 1
    assert "the last checkpoint alone has a loss of 1.79 nats" in view.summary()
    assert "as good as" in averaging.headline("x", [(1, 2.0), (2, 2.0001)], 2)
    assert len(view.table()) == 29
    assert view.table()[-1]["better than the last"] == "-0.0042"
    assert "dashed: constant rate" in view.static_svg()
    line, means = some_points()["rate to 0"].values()
    facts = {"gain": f"{view.gain():.6f}", "loss": f"{dict(line)[0.5]:.6f}"}
    assert view.frame()["facts"] == facts and view.gain() == 0
    assert f"dotted: the last one alone, {means[0][1]:.3f}" in view.static_svg()
    words = averaging.line_words(some_points()["constant rate"]["line"], 0.5)
    assert words == "at 0.50 of the way the loss is 1.853, 0.15 nats below the better end"


@pytest.mark.parametrize("series", ["constant rate", "rate to 0"])
def test_the_valley_fills_the_plot(series):
    """The axis belongs to the chosen series: the other one does not press it flat."""
    view = AveragingLine(some_points())
    view.series = series
    one = some_points()[series]
    losses = [loss for part in one.values() for _, loss in part]
    low, high = averaging.loss_range(one)
    assert low < min(losses) and max(losses) < high
    assert (max(losses) - min(losses)) / (high - low) == pytest.approx(1 / 1.2)
    picture = "".join(view.frame()["pieces"])
    d, width = re.findall(r'<path d="M([^"]+)" stroke="#0072b3"[^>]*stroke-width="(\d)"', picture)[
        0
    ]
    ys = [float(point.split()[1]) for point in d.split("L")]
    assert width == "3"
    depth = max(loss for _, loss in one["line"]) - min(loss for _, loss in one["line"])
    assert max(ys) - min(ys) == pytest.approx(averaging.HIGH * depth / (high - low), abs=0.05)


def test_averages_arguments_are_checked():
    good = some_points()["rate to 0"]
    for wrong, words in (
        ({}, "points is not allowed to be empty"),
        ({"a": good["line"]}, "a dict of 'line' and 'means'"),
        ({"a": good | {"line": [(0, 1.0)]}}, "2 or more, rising"),
        ({"a": good | {"means": [(2, 1.0)]}}, "the first is of 1 checkpoint"),
        ({"a": good | {"means": [(1, math.inf)]}}, "a loss is not finite"),
    ):
        with pytest.raises(ValueError, match=words):
            AveragingLine(wrong)
