"""The batching timeline: its runs against the simulator, its words, and the browser's."""

import itertools

import pytest

from llama3lib.inference.simulate import StepTime, run_continuous, run_static
from widgets.ch09.views import batching
from widgets.ch09.views.batching import MODES, SLOTS, SPREADS, BatchingTimeline, play, requests

SETTINGS = list(itertools.product(MODES, SLOTS, SPREADS))


@pytest.fixture(scope="module")
def view():
    return BatchingTimeline()


def test_every_setting_is_a_run_of_the_simulator(view):
    for mode, slots, spread in SETTINGS[::5]:  # meets every mode, number of slots and spread
        run = play(mode, slots, spread, batching.STORED_TIME)
        cell = view.cells(slots, spread)[mode]
        assert cell["end"] == pytest.approx(1000 * run.end, abs=0.006)
        assert cell["idle"] == pytest.approx(run.idle_share, abs=1e-4)
        assert cell["rate"] == pytest.approx(run.throughput, abs=0.06)
        assert cell["wait"] == pytest.approx(1000 * max(run.times_between_tokens), abs=0.006)
        assert len(cell["first"]) == len(cell["done"]) == len(requests(spread).jobs)
        # what is hatched or blank is what the title calls idle
        used = sum(end - start for _, _, kind, start, end in cell["spans"] if kind < 2)
        assert 1 - used / (slots * cell["end"]) == pytest.approx(cell["idle"], abs=2e-3)
        assert (mode == "static") == any(
            kind == 2 for *_, kind, _, _ in cell["spans"]
        ) or not spread


def test_a_step_time_of_ones_own_is_used():
    own = StepTime(1.0, 0.0)
    view = BatchingTimeline("continuous", slots=6, spread=1.0, step_time=own, note="made up")
    work = requests(1.0)
    assert view.cells()["static"]["end"] == 1000 * run_static(work, own, 6).end
    whole = run_continuous(work, own, max_num_seqs=6)
    assert view.cells()["continuous"]["end"] == 1000 * whole.end
    cut = run_continuous(work, own, max_num_seqs=6, max_num_batched_tokens=batching.PIECE)
    assert view.cells()["pieces"]["end"] == 1000 * cut.end
    assert view.frame()["notes"][2].startswith("Step times: made up. Requests: ours")


@pytest.mark.parametrize("fixed, per_token", [(1.2e-3, 3.7e-5), (5e-3, 1e-6), (1e-4, 1e-4)])
def test_what_the_picture_claims(fixed, per_token):
    """Effects as directions: nothing of it hangs on the machine that measured the steps."""
    step_time = StepTime(fixed, per_token, 1e-6)
    for slots in (2, 8):
        static, whole, pieces = (
            [play(mode, slots, spread, step_time) for spread in SPREADS] for mode in MODES
        )
        ends = [a.end / b.end for a, b in zip(whole, static, strict=True)]
        assert ends[0] > ends[1] > ends[2] and ends[2] < 0.75  # differing answers: more to gain
        assert static[0].idle_share < static[1].idle_share < static[2].idle_share
        if per_token * batching.PIECE > fixed / 2:  # long prompts no longer stop the others
            for a, b in list(zip(pieces, whole, strict=True))[1:]:
                assert max(a.times_between_tokens) < 0.8 * max(b.times_between_tokens)


def test_the_words(view):
    assert batching.STORED_ON in view.frame()["notes"][2]
    view.mode, view.slots, view.spread = "static", 4, 0.5
    cells = view.cells()
    share = batching.percent(cells["continuous"]["end"] / cells["static"]["end"])
    idle = batching.percent(cells["static"]["idle"])
    words = f"Static batching leaves {idle} of slot time idle; continuous batching finishes"
    assert view.summary() == f"{words} in {share} of the time"
    view.mode = "pieces"
    assert f"against {batching.significant(cells['continuous']['wait'])} ms" in view.summary()
    rows = view.table()
    jobs = requests(0.5).jobs
    assert [row["output tokens"] for row in rows] == [job.output_tokens for job in jobs]
    assert {row["slot"] for row in rows} == {1, 2, 3, 4}
    assert all(float(r["first token, ms"]) <= float(r["last token, ms"]) for r in rows)
    assert hatched(view) == 0 and "slot 4" in view.static_svg()
    assert "padding: the slot waits for the longest sequence" in view.frame()["notes"][0]
    view.mode, view.spread = "static", 0.0
    assert "answers of 40." in view.frame()["notes"][1]
    view.spread = 1.0
    assert hatched(view) > 4


def hatched(view):
    return sum('fill="url(#' in piece for piece in view.frame()["pieces"])


def test_time_plays_the_run(view):
    view.move(mode="static", slots=4, spread=1.0)
    spans, longest = view.cells()["static"]["spans"], view.cells()["static"]["end"]
    for moment in (1, 20, 59, 60):
        view.moment = moment
        now = longest * moment / batching.MOMENTS
        drawn = sum("data-tip" in piece for piece in view.frame()["pieces"])
        assert drawn == sum(start < now for *_, start, _ in spans)


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_text_is_named_once_and_no_two_numbers_touch(view, setting):
    runs = view.cells(*setting[1:])
    spans, scale = runs[setting[0]]["spans"], 910 / max(r["end"] for r in runs.values())
    found = batching.names(spans, 70, scale)
    assert sorted(job for _, job, _, _ in found) == list(range(batching.NUM_JOBS))
    for slot in range(setting[1]):
        above = [(x, job) for one, job, x, high in found if one == slot and high]
        for (x, job), (other, _) in itertools.pairwise(above):
            assert x + 7 * len(str(job + 1)) < other
    bars = {job: (70 + scale * a, 70 + scale * b) for _, job, kind, a, b in spans if kind == 1}
    for _, job, x, high in found:
        left, right = bars[job]
        assert left - 8 < x < right + 8 if high else left < x < right - 9
