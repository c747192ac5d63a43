"""The five views of chapter 04: their arithmetic against the library, and what they show of it."""

import math
import re

import pytest

from llama3lib.paper.infrastructure import TABLE_4
from llama3lib.parallel.context import cut_sequence
from llama3lib.parallel.failures import Conditions
from llama3lib.parallel.hardware import load_hardware
from llama3lib.parallel.schedules import pipeline_order
from widgets.ch04.views import checkpoints, context_load, memory, ranks, timeline
from widgets.ch04.views.checkpoints import CheckpointInterval
from widgets.ch04.views.context_load import LENGTH, ContextLoad
from widgets.ch04.views.memory import RankMemory
from widgets.ch04.views.ranks import SETUPS, RankMap
from widgets.ch04.views.timeline import PipelineTimeline

ROW_2 = "Table 4: 8K sequences, 16,384 GPUs"


def keys(view, name):
    """Pieces of the picture whose key begins so."""
    found = re.findall(r'data-key="([^"]+)"', "".join(view.frame()["pieces"]))
    return [key for key in found if key.startswith(name)]


def fact(view, name):
    """What the picture tells of itself, as a number."""
    return float(view.frame()["facts"][name])


# ---- who talks to whom


def test_rank_5_of_figure_5_has_the_papers_groups():
    found = ranks.groups(SETUPS["Figure 5: 16 GPUs"], 5)
    assert found == {"TP": [4, 5], "CP": [5, 7], "PP": [1, 5], "DP": [5, 13]}
    view = RankMap(rank=5)
    assert view.summary() == "Rank 5 talks to 4 of the 15 others"
    assert fact(view, "rank") == 5 and fact(view, "world") == 16
    joined = {row["group"]: row["joined by"] for row in view.table()}
    assert joined == dict.fromkeys(("TP", "CP", "PP"), "one server") | {"DP": "the network"}


def test_a_rank_among_16384_talks_to_few():
    view = RankMap(setup=ROW_2)
    dims = SETUPS[ROW_2]
    cells = TABLE_4.row("8K sequences, 16,384 GPUs")
    assert dims.world == cells["GPUs"] and cells["TP"] == 8
    others = sum(cells[name] - 1 for name in ("TP", "CP", "PP", "DP"))
    assert f"talks to {others} of the 16,383 others" in view.summary()
    assert all(rank < dims.world for rank in ranks.some_ranks(dims))
    view.move(rank=ranks.some_ranks(dims)[3])
    assert view.table()[0]["joined by"] == "one server"  # TP never leaves a server
    assert view.table()[1]["joined by"] == "no messages"  # one rank of CP in this row
    view.move(setup="Figure 5: 16 GPUs")
    assert view.rank < 16


# ---- the pipeline


@pytest.mark.parametrize(
    ("shape", "m", "wait"), [((4, 1), 8, 3 / 8), ((4, 2), 8, 3 / 16), ((8, 1), 16, 7 / 16)]
)
def test_the_waiting_is_the_formulas(shape, m, wait):
    view = PipelineTimeline(shape=shape, micro_batches=m)
    assert fact(view, "bubble") == pytest.approx(wait, abs=1e-4)
    assert view.summary().endswith(f"= {shape[0] - 1}/{shape[1] * m}")
    assert [row["passes"] for row in view.table()] == [2 * shape[1] * m] * shape[0]


def test_earlier_ranks_keep_more_and_n_changes_how_much():
    kept = timeline.held(timeline.timeline(4, 1, 8, None), 1)
    assert kept == [4, 3, 2, 1]
    least, most = (max(timeline.held(timeline.timeline(4, 2, 8, run), 2)) for run in (4, 8))
    assert least < most
    assert timeline.runs(4, 1, 8) == [] and 4 in timeline.runs(4, 2, 8)
    view = PipelineTimeline(shape=(4, 2), micro_batches=8, run=8)
    order = pipeline_order(4, 8, virtual=2, run=8)
    assert {str(action) for rank in order for action in rank} <= set(keys(view, ""))


def test_fewer_micro_batches_than_ranks_leave_more_waiting_than_working():
    view = PipelineTimeline(shape=(4, 1), micro_batches=1)
    assert fact(view, "bubble") == pytest.approx(3)


# ---- the sequence


def test_pairs_of_chunks_are_equal_and_pieces_in_order_are_not():
    even = context_load.loads(8, "paired", "one")
    assert max(even) - min(even) == 0 and sum(even) == LENGTH * (LENGTH + 1) // 2
    skew = context_load.loads(16, "contiguous", "one")
    assert skew[-1] / skew[0] == pytest.approx(31, abs=0.01) and sum(skew) == sum(even)
    assert "nobody waits" in ContextLoad(cut="paired").summary()


def test_documents_break_the_balance_and_both_cuts_hold_all_tokens():
    starts = context_load.document_starts("many")
    assert (starts[1:] >= starts[:-1]).all() and len(starts.unique()) > 3
    for cut in ("contiguous", "paired"):
        found = context_load.loads(4, cut, "many")
        assert max(found) > 1.02 * min(found)
        assert sum(found) == int((starts * -1 + 1).sum()) + LENGTH * (LENGTH - 1) // 2
    held = context_load.holders(4, "paired")
    tokens = [int(cut_sequence(starts * 0 + 1, rank, 4, dim=0).sum()) for rank in range(4)]
    assert tokens == [LENGTH // 4] * 4 and held == [0, 1, 2, 3, 3, 2, 1, 0]
    view = ContextLoad(cp=4, cut="paired", text="many")
    assert [row["pieces"] for row in view.table()] == ["0, 7", "1, 6", "2, 5", "3, 4"]
    assert len(keys(view, "piece")) == 8 and len(keys(view, "rank")) == 4


# ---- memory


def test_the_papers_rows_fit_with_selective_recomputation():
    room = load_hardware().room / memory.GB
    for row in memory.ROWS[:2]:
        view = RankMemory(setup=f"405B, {row}")
        assert fact(view, "most") <= room and "it fits into" in view.summary()
        view.move(recompute="none")
        assert fact(view, "most") > room and "does not fit" in view.summary()


def test_the_bars_add_up_and_gathering_again_saves_weights():
    view = RankMemory(setup="8B on one server, FSDP 8")
    (row,) = view.table()
    found = memory.memories("8B on one server, FSDP 8", "selective", False)[0]
    assert sum(getattr(found, part) for part in memory.PARTS) == pytest.approx(found.total)
    assert len(row) == len(memory.PARTS) + 2
    before = fact(view, "most")
    view.move(reshard=True)
    assert fact(view, "most") < before
    assert len(keys(view, "0 ")) == len(memory.PARTS)


# ---- failures


def test_youngs_rule_is_the_lowest_point_of_the_curve():
    settings = Conditions(pause=2, restart=10)
    assert settings.young == pytest.approx(math.sqrt(2 * 2 * settings.between_failures))
    loss = {x: checkpoints.expected_loss(settings, x) for x in checkpoints.INTERVALS}
    assert min(loss, key=loss.get) == 27
    view = CheckpointInterval()
    assert view.frame()["facts"]["best"] == "True" and "Young's rule says 27" in view.summary()


def test_the_shares_of_the_time_add_up_and_dearer_saves_leave_less():
    view = CheckpointInterval(interval=27, pause=2, restart=10)
    outcome = checkpoints.played(27, 2, 10)
    parts = ("useful", *checkpoints.LOSSES)
    assert sum(getattr(outcome, part) for part in parts) == pytest.approx(outcome.minutes)
    useful = []
    for pause in checkpoints.PAUSES:
        view.move(pause=pause)
        useful.append(fact(view, "effective"))
    assert useful == sorted(useful, reverse=True) and useful[0] - useful[-1] > 0.1
    assert keys(view, "useful") == ["useful"]


@pytest.mark.parametrize(
    ("view", "wrong"),
    [
        (RankMap, {"setup": "17 GPUs"}),
        (PipelineTimeline, {"shape": (3, 1)}),
        (ContextLoad, {"cut": "diagonal"}),
        (RankMemory, {"recompute": "most"}),
        (CheckpointInterval, {"pause": -1}),
    ],
)
def test_what_no_control_offers_is_refused(view, wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}="):
        view(**wrong)
