"""The five views of chapter 04: places, sizes and words in the picture against the library."""

from xml.etree import ElementTree

import pytest

from llama3lib.model import get_preset
from llama3lib.parallel.failures import Conditions
from llama3lib.parallel.memory import rank_memory
from widgets.ch04.views import checkpoints, context_load, memory, ranks, timeline
from widgets.ch04.views.checkpoints import CheckpointInterval
from widgets.ch04.views.context_load import ContextLoad
from widgets.ch04.views.memory import RankMemory
from widgets.ch04.views.ranks import SETUPS, RankMap
from widgets.ch04.views.timeline import PipelineTimeline
from widgets.view.words import percent

VIEWS = [RankMap, PipelineTimeline, ContextLoad, RankMemory, CheckpointInterval]


def picture(view):
    """The picture's elements."""
    return ElementTree.fromstring(f"<svg>{''.join(view.frame()['pieces'])}</svg>")


def boxes(view, name):
    """Rectangles with such a key, or in a group with it: by key, each one's attributes."""
    found = {}
    for piece in picture(view).iter():
        key, box = piece.get("data-key", ""), next(piece.iter("rect"), None)
        if key.startswith(name) and key and piece.tag != "defs" and box is not None:
            found[key] = {a: float(box.get(a)) for a in ("x", "y", "width", "height")}
    return found


def told(view):
    """What is written in the picture."""
    return [piece.text for piece in picture(view).iter("text")]


def test_every_rank_of_a_group_is_marked_and_no_other():
    for setup in SETUPS:
        view = RankMap(setup=setup)
        view.move(rank=ranks.some_ranks(SETUPS[setup])[5])
        found = ranks.groups(SETUPS[setup], view.rank)
        if SETUPS[setup].world == 16:
            edges = {p.get("stroke") for p in picture(view).iter("rect")}
            bold = [p.text for p in picture(view).iter("text") if p.get("font-weight") == "600"]
            assert len(edges) == 6  # four groups, the chosen rank, and the others
            assert {int(words.split()[1]) for words in bold} == set().union(*found.values())
            continue
        tips = [p.get("data-tip") for p in picture(view).iter() if p.get("data-tip")]
        for name, group in found.items():
            marked = [tip.split()[-1] for tip in tips if tip.startswith(name)]
            want = [f"{other:,}" for other in group if other != view.rank]
            assert marked == want
        assert f"rank {view.rank:,}, chosen" in tips


def test_boxes_lie_where_the_schedule_has_them():
    view = PipelineTimeline(shape=(4, 2), micro_batches=6)
    played = timeline.timeline(4, 2, 6, None)
    found = {key: box for key, box in boxes(view, "").items() if not key.startswith("held")}
    assert len(found) == len(played.spans) == 4 * 2 * 2 * 6
    origin = min(box["x"] for box in found.values())
    unit = (max(box["x"] + box["width"] for box in found.values()) + 1 - origin) / played.wall
    for span in played.spans:
        box = found[str(span.action)]
        assert box["x"] - origin == pytest.approx(unit * span.start, abs=0.1)
        assert box["x"] + box["width"] + 1 - origin == pytest.approx(unit * span.end, abs=0.1)
    rows = {span.rank: found[str(span.action)]["y"] for span in played.spans}
    assert sorted(rows, key=rows.get) == [0, 1, 2, 3]
    held = [box["width"] for box in boxes(view, "held").values()]
    want = timeline.held(played, 2)
    assert [w / held[0] for w in held] == pytest.approx([k / want[0] for k in want], abs=1e-3)


def test_the_numbers_and_the_legend_fit_the_pipeline():
    one, two = PipelineTimeline(), PipelineTimeline(shape=(4, 2))
    assert told(one).count("7") == 2 * 4 and "stages 0 to 3" not in told(one)
    assert {"stages 0 to 3", "stages 4 to 7"} <= set(told(two))
    dense = PipelineTimeline(shape=(8, 2), micro_batches=16)  # two digits have no room: none do
    assert not {"6", "8", "9", "15"} & set(told(dense))
    assert "of 1 micro-batch." in PipelineTimeline(micro_batches=1).frame()["notes"][0]


def test_the_bars_are_the_loads_and_equal_ones_have_no_slowest():
    view = ContextLoad(cp=8, text="many")
    found = context_load.loads(8, "contiguous", "many")
    high = [box["height"] for box in boxes(view, "rank").values()]
    assert [h / max(high) for h in high] == pytest.approx(
        [scores / max(found) for scores in found], abs=1e-3
    )
    assert f"Rank {found.index(max(found))} has most" in view.frame()["notes"][0]
    view.move(text="one", cut="paired")
    assert len({box["height"] for box in boxes(view, "rank").values()}) == 1
    assert "has most" not in view.frame()["notes"][0]


def test_the_columns_are_the_librarys_memory():
    name = f"405B, {memory.ROWS[1]}"
    model, layout, sequence = memory.SETUPS[name]
    view = RankMemory(setup=name)
    for rank in (0, 1, layout.pp - 1):
        want = rank_memory(get_preset(model), layout, sequence, rank)
        stack = boxes(view, f"{rank} ")
        low = stack[f"{rank} weights"]["y"] + stack[f"{rank} weights"]["height"]
        top = min(box["y"] for box in stack.values())
        for part in memory.PARTS:
            share = getattr(want, part) / want.total
            height = stack[f"{rank} {part}"]["height"]
            assert height == pytest.approx(share * (low - top), abs=0.05)
    view.move(setup="8B on one server, FSDP 8")
    assert view.summary().startswith("Every GPU needs the same, ")
    assert not any("paper" in note for note in view.frame()["notes"])


def test_the_bar_of_the_time_is_the_outcome():
    view = CheckpointInterval(interval=27, pause=5)
    outcome, parts = checkpoints.played(27, 5, 10), ("useful", *checkpoints.LOSSES)
    wide = {part: boxes(view, part)[part]["width"] for part in parts}
    for part in parts:
        share = getattr(outcome, part) / outcome.minutes
        assert wide[part] / sum(wide.values()) == pytest.approx(share, abs=1e-4)
    assert f"saving {percent(outcome.pauses / outcome.minutes)}" in told(view)


def test_a_loss_above_the_axis_is_told():
    view = CheckpointInterval(interval=2, pause=5)
    want = 100 * checkpoints.expected_loss(Conditions(interval=2, pause=5), 2)
    assert want > 100 and f"chosen: {want:.0f}%" in told(view)
    view.move(interval=45)
    assert "chosen" in told(view) and "Young's rule" in told(view)


@pytest.mark.parametrize("view", VIEWS)
def test_stored_pictures_and_tables_follow_the_controls(view):
    it = view()
    before = it.static_svg(), it.table()
    name = it.drawn_by[0]
    stops = list(it.controls[name].stops(it, it.values))
    it.move(**{name: next(stop for stop in reversed(stops) if stop != it.values[name])})
    assert f"<title>{it.summary()}</title>" in it.static_svg()
    assert it.static_svg() != before[0] and it.table() != before[1]
    assert it.table() == view(**it.values).table()
