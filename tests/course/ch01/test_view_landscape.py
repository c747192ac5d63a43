"""The landscape: Table 2 as it is printed, no invented sizes, Node, JupyterLab by keyboard."""

import itertools

import pytest
import traitlets
from hypothesis import given
from hypothesis import strategies as st
from view_tools import kernel_says, run_js

from llama3lib.paper.results import TABLE_2
from widgets.ch01.views.landscape import (
    BENCHMARKS,
    FLAGSHIP,
    PLOT,
    RIVALS,
    Landscape,
    board,
    draw_landscape,
    headline,
    is_free,
    kind_of,
    lead,
    place,
    record_note,
    score_range,
    signed,
    spread,
    table_rows,
)


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
    points = place(board(benchmark))
    low, high, _ = score_range([p.entry.score for p in points])
    for point in points:
        assert low <= point.entry.score <= high
        assert PLOT["top"] <= point.y <= PLOT["bottom"]
        assert PLOT["top"] <= point.label_y <= PLOT["bottom"]
        assert point.label_x + 8.6 * len(point.entry.model) + 50 < 1000
    for a, b in itertools.combinations(points, 2):
        assert a.label_x != b.label_x or abs(a.label_y - b.label_y) >= 18.9


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_the_number_hides_no_label(benchmark):
    points = place(board(benchmark))
    for point in points:  # a number right on a label is refused, one far below is not
        assert not is_free(points, point.label_x + 30, point.label_y)
    assert is_free(points, 400, 2000)


def test_state_is_checked():
    view = Landscape("MATH (0-shot, CoT)", rival="GPT-4o")
    assert view.lead() == -2.8
    assert "9 ahead, 7 behind" in view.summary()
    for field in ("benchmark", "rival"):
        with pytest.raises(traitlets.TraitError):
            setattr(view, field, "Chess")
    with pytest.raises(traitlets.TraitError):
        view.rival = FLAGSHIP


def test_static_picture():
    svg = draw_landscape("MMLU (0-shot, CoT)", "GPT-4o")
    assert "<title>MMLU (0-shot, CoT): Llama 3 405B is 0.1 points behind GPT-4o</title>" in svg
    assert "Gemma 2 9B 72.3*" in svg


def test_javascript_agrees_with_python(node, tmp_path):
    rows = Landscape().rows
    pairs = [(benchmark, rival) for benchmark in BENCHMARKS for rival in RIVALS]
    leads = run_js(node, tmp_path, "landscape", "leadOf", *[[rows[b], r] for b, r in pairs])
    assert leads == [lead(*pair) for pair in pairs]
    titles = run_js(node, tmp_path, "landscape", "headline", *[[b, rows[b], r] for b, r in pairs])
    assert titles == [headline(*pair) for pair in pairs]
    places = run_js(node, tmp_path, "landscape", "place", *[[rows[b]] for b in BENCHMARKS])
    for benchmark, points in zip(BENCHMARKS, places, strict=True):
        for js, point in zip(points, place(board(benchmark)), strict=True):
            assert js.pop("entry")["model"] == point.entry.model
            want = {name: getattr(point, name) for name in ("x", "y", "label_x", "label_y")}
            assert js == pytest.approx(want)


@pytest.mark.browser
def test_in_jupyterlab(open_notebook):
    page = open_notebook(["from widgets import Landscape\nview = Landscape()\nview"])
    root = page.locator(".l3-landscape")
    root.wait_for()
    assert root.get_attribute("data-lead") == "2.2"
    assert page.locator(".l3-landscape g[data-model]").count() == 11
    page.screenshot("landscape-light", ".l3-landscape")

    benchmark = page.locator(".l3-landscape select[data-trait=benchmark]")
    benchmark.focus()
    for _ in range(9):
        page.page.keyboard.press("ArrowDown")
    page.page.wait_for_function(
        "() => document.querySelector('.l3-landscape').dataset.lead === '9.7'"
    )
    kernel_says(page, "view.benchmark, view.lead()", "('GPQA (0-shot, CoT)', 9.7)")
    assert page.locator(".l3-landscape g[data-model]").count() == 9
    assert "No score printed: Gemma 2 9B, Nemotron 4 340B" in root.inner_text()
    rival = page.locator(".l3-landscape select[data-trait=rival]")
    rival.focus()
    page.page.keyboard.press("End")
    page.page.wait_for_function(
        "() => document.querySelector('.l3-landscape').dataset.lead === '-8.3'"
    )
    kernel_says(page, "view.rival, view.lead()", "('Claude 3.5 Sonnet', -8.3)")
    benchmark.focus()
    page.page.keyboard.press("Home")
    page.page.wait_for_function(
        "() => document.querySelector('.l3-landscape').dataset.lead === '-2.6'"
    )
    assert page.median_move_ms(benchmark, "ArrowDown", 15) <= 100
    assert page.median_move_ms(rival, "ArrowUp", 9) <= 100


@pytest.mark.browser
def test_dark_theme(open_notebook):
    view = "Landscape('MMLU (0-shot, CoT)', rival='Claude 3.5 Sonnet')"
    page = open_notebook([f"from widgets import Landscape\n{view}"], theme="dark")
    page.locator(".l3-landscape .mark").first.wait_for(state="attached")
    page.screenshot("landscape-dark", ".l3-landscape")
    assert "* Gemma 2 9B: 5-shot, no chain of thought" in page.locator(".l3-landscape").inner_text()
