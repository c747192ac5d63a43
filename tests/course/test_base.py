"""What every widget shares: joined files, static twins, escaped text, readable colours."""

import re
import subprocess

import pytest

from widgets import ChatPanel, Quiz
from widgets.core.predict import Prediction
from widgets.core.widget import CourseWidget, css, folded_table, html_table, plain_table
from widgets.view import View

WIDGETS = (ChatPanel, Prediction, Quiz, View)
ROWS = [{"part": "attention", "share (%)": 17}, {"part": "<script>", "share (%)": "a & b"}]


class Little(CourseWidget):
    """A widget with a picture and a table."""

    _esm = "export default { render({ el }) {} };"

    def summary(self):
        return "Little: two parts"

    def table(self):
        return ROWS

    def static_svg(self):
        return "<svg><title>two parts</title></svg>"


def test_bundle_has_live_view_picture_line_and_table():
    data, _ = Little()._repr_mimebundle_()
    assert data["text/plain"].splitlines()[0] == "Little: two parts"
    assert "attention" in data["text/plain"]
    assert data["image/svg+xml"].startswith("<svg")
    assert "application/vnd.jupyter.widget-view+json" in data
    # HTML in the same output would win over the picture in most viewers
    assert "text/html" not in data
    assert "0x" not in data["text/plain"]


def test_display_is_live_view_then_folded_table(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, **_: shown.append(data))
    Little()._ipython_display_()
    first, second = shown
    assert "application/vnd.jupyter.widget-view+json" in first
    assert "<details" in second["text/html"]
    assert "<caption>Little: two parts</caption>" in second["text/html"]


def test_tables_escape_what_comes_from_outside():
    html = html_table(ROWS, caption="<b>") + folded_table(ROWS, caption="<b>")
    assert "<script>" not in html
    assert "<b>" not in html
    assert html.count("&lt;script&gt;") == 2
    assert html_table([], caption="nothing") == ""


def test_plain_table_lines_up():
    head, first, second = plain_table(ROWS)
    assert head.index("share") == first.index("17") == second.index("a & b")
    assert plain_table([]) == []


@pytest.mark.parametrize("widget", WIDGETS)
def test_sources_are_whole_and_reach_for_nothing(widget):
    text = str(widget._esm) + str(widget._css)
    assert "export default" in text
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", text)
    assert not re.search(r"^\s*import\b", str(widget._esm), re.MULTILINE)
    assert "@import" not in text


@pytest.mark.parametrize("widget", WIDGETS)
def test_joined_module_loads(widget, node, tmp_path):
    """Two parts that define the same name would be a syntax error in the joined module."""
    module = tmp_path / "widget.mjs"
    module.write_text(str(widget._esm), encoding="utf-8")
    code = f"import widget from {module.as_uri()!r}; console.log(typeof widget.render);"
    command = [node, "--input-type=module", "-e", code]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=60)
    assert done.stdout.strip() == "function", done.stderr


def _luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def _contrast(one, other):
    high, low = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_text_colours_can_be_read_on_both_themes():
    """WCAG asks for 4.5 to 1. JupyterLab's papers are white and #212121."""
    text = css("quiz")
    light = dict(re.findall(r"--l3-(\w+): (#\w{6});", text.split("[data-jp-theme-light")[0]))
    dark = dict(re.findall(r"--l3-(\w+): (#\w{6});", text.split("[data-jp-theme-light")[1]))
    for paper, colours in (("#ffffff", light), ("#212121", dark)):
        for name in ("good", "bad", "accent"):
            assert _contrast(paper, colours[name]) >= 4.5, (paper, name)
