"""Figures, the report and shown sources: complete without a kernel, safe with any text."""

import inspect
from html.parser import HTMLParser

import pytest
import torch

from llama3lib.utils.files import sha256_file
from widgets import (
    bars,
    boxes,
    curves,
    live_figure,
    panels,
    predict,
    report,
    show_source,
    timeline,
)
from widgets.core.figure import PALETTE
from widgets.core.progress import ledger


def figure(**axes):
    import plotly.graph_objects as go

    drawn = go.Figure([go.Scatter(x=[1, 2], y=[2, 3]), go.Scatter(x=[1, 2], y=[3, 4])])
    drawn.update_layout(**({"xaxis_title": "tokens", "yaxis_title": "loss (nats)"} | axes))
    return drawn


def live(drawn=None, **more):
    words = {"title": "Loss falls", "alt": "Two falling lines.", "table": [{"x": 1, "y": "<i>"}]}
    return live_figure(drawn or figure(), **(words | more))


@pytest.mark.parametrize(
    "drawn, more, told",
    [
        ({}, {"title": " "}, "title"),
        ({}, {"alt": ""}, "alt"),
        ({"xaxis_title": None}, {}, "xaxis"),
        ({"yaxis_title": ""}, {}, "yaxis"),
        ({}, {"table": [{"a": 1}, {"b": 1}]}, "same keys"),
    ],
)
def test_a_figure_without_words_is_refused(drawn, more, told):
    with pytest.raises(ValueError, match=told):
        live(figure(**drawn), **more)


def test_lines_differ_in_more_than_colour():
    first, second = live().figure.data
    assert first.marker.symbol != second.marker.symbol
    assert first.line.dash != second.line.dash
    assert live().figure.layout.colorway == PALETTE


def test_what_the_author_set_stays():
    drawn = figure()
    drawn.data[1].update(marker_symbol="star", line_dash="dot")
    second = live(drawn).figure.data[1]
    assert (second.marker.symbol, second.line.dash) == ("star", "dot")


def test_display_is_figure_then_folded_words(monkeypatch):
    import plotly.io as pio

    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, **_: shown.append(data))
    monkeypatch.setattr(pio.renderers, "default", "plotly_mimetype+notebook")
    live()._ipython_display_()
    first, second = shown
    assert "application/vnd.plotly.v1+json" in first
    assert "text/html" not in first  # that would be megabytes
    assert first["text/plain"].startswith("Two falling lines.")
    assert "<caption>Loss falls</caption>" in second["text/html"]
    assert "<i>" not in second["text/html"]


class Balanced(HTMLParser):
    """Fails on a tag that is closed but was not opened, or the other way round."""

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def fill_ledger():
    ledger().record_check("01.10", False)
    ledger().record_check("01.2", True)
    ledger().record_check("02.1", True)
    ledger().record_hint("01.10", 2)
    ledger().record_answer("01", "why?", "a", False)
    ledger().record_answer("01", "why?", "b", True)
    evil = "<script>alert(1)</script> *"
    predict("01.7", "?", choices=[evil, "no"]).lock(evil)


def test_report_says_what_was_done():
    fill_ledger()
    text = report("01").markdown
    assert "Exercises: 1 solved, 2 tried" in text
    first, second = "- Exercise 01.2: solved on", "- Exercise 01.10: not yet solved, 1 try, 2 of 3"
    assert text.index(first) < text.index(second)
    assert "- Prediction 01.7: I said" in text
    assert "02.1" not in text
    assert "Predictions: 1 locked" in text
    assert "Quiz: 1 of 1 answered right, 0 at the first try" in text


@pytest.mark.parametrize(("seconds", "words"), [(20, None), (60, "1 minute "), (125, "2 minutes ")])
def test_minutes_in_grammar(seconds, words):
    ledger().change(lambda data: data["time"].update({"01": {"seconds": seconds, "last": 0}}))
    text = report("01").markdown
    assert f"About {words}at work." in text if words else "at work" not in text


def test_report_escapes_and_is_well_formed(tmp_path):
    fill_ledger()
    page = report("01").save(tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script>" not in page
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    text = report("01").save(tmp_path / "report.md").read_text(encoding="utf-8")
    assert "\\<script>" in text
    assert report("01")._repr_markdown_() == text
    with pytest.raises(ValueError, match=r"\.html or \.md"):
        report("01").save(tmp_path / "report.pdf")


def test_report_of_an_untouched_chapter():
    assert "Exercises: 0 solved, 0 tried" in report("05").markdown


def test_source_is_the_librarys_own():
    shown = show_source(sha256_file)._repr_mimebundle_()
    lines, first = inspect.getsourcelines(inspect.unwrap(sha256_file))
    assert f"llama3lib/utils/files.py, line {first}" in shown["text/plain"]
    assert "".join(lines).strip() in shown["text/plain"]
    assert "````python\ndef sha256_file" in shown["text/markdown"]


def test_what_has_no_source_is_refused():
    with pytest.raises(ValueError, match="no Python source"):
        show_source(len)


WORDS = {"x_title": "tokens", "y_title": "loss (nats)", "title": "Loss <falls>", "alt": "It falls."}


def test_curves_are_named_at_their_ends_and_told_as_a_table():
    made = curves([1, 10, 100], {"a": [3, 2, 1.0], "b": torch.ones(3)}, log="x", **WORDS)
    assert made.figure.layout.xaxis.type == "log" and not made.figure.layout.showlegend
    ends = {one.text: (one.x, one.y) for one in made.figure.layout.annotations}
    assert ends["a"][0] == ends["b"][0] == 2
    assert abs(ends["a"][1] - ends["b"][1]) > 0.1  # both end at 1: the names stand apart
    assert made.table[-1] == {"tokens": 100, "a": "1", "b": "1"}
    assert "<b>Loss &lt;falls&gt;</b>" == made.figure.layout.title.text


def test_where_letters_for_numbers_run_out_ticks_are_powers_of_ten():
    made = curves([1e10, 1e20], {"a": [2e3, 3e4]}, log="xy", **WORDS)
    axes = made.figure.layout.xaxis, made.figure.layout.yaxis
    assert [axis.exponentformat for axis in axes] == ["power", None]


def test_lines_with_places_of_their_own_bands_marks_and_borders():
    lines = {"fit": ([0, 1, 2], [1, 2, 3]), "runs": ([1], [2.5])}
    more = {"points": ["runs"], "bands": {"fit": [0.5] * 3}, "borders": {"here": 1}}
    made = curves(None, lines, **more, **WORDS)
    band, line, marks = made.figure.data
    assert (min(band.y), max(band.y)) == (0.5, 3.5) and band.fill == "toself"
    assert (line.name, marks.name, marks.mode) == ("fit", "runs", "markers")
    assert made.figure.layout.shapes[0].x0 == 1
    assert made.table[0] == {"tokens": 0, "fit": 1, "runs": ""}


def test_bars_and_boxes_are_told_as_tables():
    made = bars(["x", "y"], {"with": [1, 2], "without": [3, 4]}, borders=[0.5], **WORDS)
    assert made.table == [
        {"tokens": "x", "with": 1, "without": 3},
        {"tokens": "y", "with": 2, "without": 4},
    ]
    first, second = made.figure.data
    assert first.marker.pattern.shape != second.marker.pattern.shape
    found = boxes({"a": [3.0, 1.0, 2.0]}, **WORDS)
    row = {"group": "a", "least": "1", "median": "2", "largest": "3", "values": 3}
    assert found.table == [row] and found.figure.data[0].boxpoints == "all"


@pytest.mark.parametrize(
    "more, told",
    [
        ({"lines": {"a": [1]}}, "a has 1 values for 2 places"),
        ({"points": ["c"]}, "points names 'c': one of a"),
        ({"bands": {"c": [1]}}, "bands names 'c'"),
        ({"log": "z"}, "log='z'"),
        ({"log": "y", "lines": {"a": [0, 1]}}, "a has y of 0 or less"),
    ],
)
def test_curves_that_do_not_fit_are_refused(more, told):
    with pytest.raises(ValueError, match=told):
        curves([1, 2], more.pop("lines", {"a": [1, 2]}), **more, **WORDS)


def test_panels_give_a_name_one_look_in_all_pictures():
    pictures = {"A": {"run": [1, 2], "healthy": [1, 1]}, "B": {"healthy": [1, 1], "run": [2, 3]}}
    made = panels([1, 2], pictures, columns=2, table=[{"a": 1}], **WORDS)
    looks = {(line.name, line.line.color, line.line.dash) for line in made.figure.data}
    assert len(looks) == 2 and len(made.figure.data) == 4
    assert sum(line.showlegend for line in made.figure.data) == 2
    assert made.figure.layout.xaxis2.title.text == "tokens"


def test_a_timeline_shows_when_each_row_was_busy():
    spans = {
        "first": [("stage 0", 0.0, 2.0), ("stage 1", 2.0, 3.0)],
        "second": [("stage 0", 2.0, 4.0)],
    }
    first, second = timeline(spans, table=[{"a": 1}], **WORDS).figure.data
    assert (list(first.base), list(first.x), list(first.y)) == (
        [0, 2],
        [2, 1],
        ["stage 0", "stage 1"],
    )
    assert second.orientation == "h" and second.marker.pattern.shape != first.marker.pattern.shape
