"""The landscape: Table 2 as it is printed, no invented sizes, labels apart."""

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama3lib.paper.results import TABLE_2
from widgets.ch01.views.landscape import (
    BENCHMARKS,
    FLAGSHIP,
    RIVALS,
    Landscape,
    board,
    draw_axes,
    headline,
    hits,
    kind_of,
    lead,
    place,
    record_note,
    score_range,
    signed,
    spread,
    table_rows,
)
from widgets.view import Paper


def test_all_rows_and_models_are_there():
    assert len(BENCHMARKS) == 16
    assert len(RIVALS) == 10
    for benchmark in BENCHMARKS:
        shown = {entry.model: entry.score for entry in board(benchmark)}
        assert shown == TABLE_2.row(benchmark)


@pytest.mark.parametrize(
    "benchmark, rival, points",
    [
        ("InfiniteBench/En.MC", "GPT-4 (0125)", 11.3),
        ("GPQA (0-shot, CoT)", "GPT-4 (0125)", 9.7),
        ("MATH (0-shot, CoT)", "GPT-4 (0125)", 9.3),
        ("GPQA (0-shot, CoT)", "Claude 3.5 Sonnet", -8.3),
        ("MGSM (0-shot, CoT)", "Claude 3.5 Sonnet", 0.0),
        ("InfiniteBench/En.MC", "Claude 3.5 Sonnet", None),
    ],
)
def test_leads(benchmark, rival, points):
    assert lead(benchmark, rival) == points


def test_board_is_ordered_and_gaps_come_last():
    entries = board("GPQA (0-shot, CoT)")
    scores = [entry.score for entry in entries]
    assert scores[-2:] == [None, None]
    assert scores[:-2] == sorted(scores[:-2], reverse=True)


def test_no_size_is_invented():
    sizes = {entry.model: entry.parameters for entry in board(BENCHMARKS[0])}
    for model in ("GPT-3.5 Turbo", "GPT-4 (0125)", "GPT-4o", "Claude 3.5 Sonnet", "Mixtral 8x22B"):
        assert sizes[model] is None
    assert sizes[FLAGSHIP] == 405e9
    rows = {row["model"]: row for row in table_rows(BENCHMARKS[0])}
    assert rows["GPT-4o"]["parameters"] == "not published"
    assert rows["Mixtral 8x22B"]["parameters"] == "not in the name"


def test_kinds_and_marks():
    kinds = [kind_of(m) for m in (FLAGSHIP, "Mixtral 8x22B", "GPT-4o")]
    assert kinds == ["llama", "open", "closed"]
    marks = {entry.model: entry.mark for entry in board("GSM8K (8-shot, CoT)") if entry.mark}
    assert marks == {"Nemotron 4 340B": "zero-shot", "Claude 3.5 Sonnet": "zero-shot"}


def test_words():
    assert headline("IFEval", "GPT-4 (0125)").endswith("4.3 points ahead of GPT-4 (0125)")
    assert "is level with" in headline("ZeroSCROLLS/QuALITY", "GPT-4 (0125)")
    assert "1.9 points behind" in headline("NIH/Multi-needle", "GPT-4o")
    assert "prints no score" in headline("BFCL", "Gemma 2 9B")
    assert record_note("GPT-4 (0125)").endswith("14 ahead, 1 behind, 1 level")
    assert [signed(x) for x in (2.2, -1.84, 0.0, None)] == ["+2.2", "−1.8", "±0.0", "–"]
    with pytest.raises(ValueError, match="row='Chess'"):
        lead("Chess", "GPT-4o")


@given(st.lists(st.floats(0, 300), min_size=1, max_size=11), st.floats(1, 25))
def test_labels_are_moved_apart(wanted, gap):
    placed = spread(sorted(wanted), gap, 0, 300)
    assert all(b - a >= gap - 1e-9 for a, b in itertools.pairwise(placed))
    assert placed[-1] <= 300


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_every_point_and_label_fits(benchmark):
    paper, entries = Paper(), board(benchmark)
    plot, strip = draw_axes(paper, entries)
    points = place(entries, plot, strip)
    low, high, _ = score_range([p.entry.score for p in points])
    assert {p.entry.model for p in points} == {e.model for e in entries if e.score is not None}
    for point in points:
        assert low <= point.entry.score <= high
        assert plot.top <= point.y <= plot.low
        assert 0 <= point.label[0] and point.label[2] <= paper.width
        if point.entry.parameters:
            assert point.x == pytest.approx(plot.at_x(point.entry.parameters))
        others = [p for p in points if p is not point]
        assert not hits(point.label, [box for p in others for box in (p.mark, p.label)])


def test_boxes_that_meet_are_counted():
    box = (10, 10, 20, 20)
    assert hits(box, [(19, 19, 30, 30), (0, 0, 11, 11), (20, 10, 30, 20), (12, 21, 15, 30)]) == 2


def test_state_is_checked():
    view = Landscape("MATH (0-shot, CoT)", rival="GPT-4o")
    assert view.lead() == -2.8
    for field, wrong in (("benchmark", "Chess"), ("rival", "Chess"), ("rival", FLAGSHIP)):
        with pytest.raises(ValueError, match=f"{field}='{wrong}' is not allowed: one of"):
            setattr(view, field, wrong)


def test_picture_and_notes_tell_what_the_functions_say():
    view = Landscape("MATH (0-shot, CoT)", rival="GPT-4o")
    frame = view.frame()
    assert frame["title"] == headline("MATH (0-shot, CoT)", "GPT-4o")
    assert "9 ahead, 7 behind" in frame["notes"][0] and frame["facts"] == {"lead": "-2.8"}
    assert frame["table"] == table_rows("MATH (0-shot, CoT)")
    view.benchmark = "MMLU (0-shot, CoT)"
    frame = view.frame()
    assert "0.1 points behind GPT-4o" in frame["title"]
    assert "* Gemma 2 9B: 5-shot, no chain of thought" in frame["notes"]
    picture = "".join(frame["pieces"])
    assert "Gemma 2 9B 72.3*" in picture
    chosen = re.findall(r"""data-put='\["rival", "([^"]+)"\]'""", picture)
    assert sorted(set(chosen)) == sorted(RIVALS)
    view.benchmark = "GPQA (0-shot, CoT)"
    frame = view.frame()
    assert "No score printed: Gemma 2 9B, Nemotron 4 340B" in frame["notes"]
    assert "".join(frame["pieces"]).count("<g data-key") == 9
