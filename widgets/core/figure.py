"""Plotly figures of the course: one look, checked labels, the same in words and numbers."""

from collections.abc import Sequence
from html import escape
from typing import Any

from widgets.core.widget import html_table, plain_table

PALETTE = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#8a8a00", "#666666")
SYMBOLS = ("circle", "square", "diamond", "cross", "triangle-up", "x", "star", "pentagon")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
PATTERNS = ("", "/", ".", "x", "-", "|", "+", "\\")
_MARGIN = {"l": 70, "r": 20, "t": 60, "b": 60}


_PLOTLY = "application/vnd.plotly.v1+json"


class LiveFigure:
    """A figure, and beside it what it says in words and numbers. Made by `live_figure`.

    JupyterLab stores a PNG beside the figure when the notebook is saved: that is the picture
    readers without a kernel see. Words and numbers are a second, folded output.
    """

    def __init__(self, figure: Any, alt: str, table: Sequence[dict[str, object]]) -> None:
        self.figure, self.alt, self.table = figure, alt, list(table)

    def _ipython_display_(self) -> None:
        from IPython.display import display

        bundle = self.figure._repr_mimebundle_()
        if _PLOTLY in bundle:
            bundle.pop("text/html", None)  # the same again, with megabytes of JavaScript
        bundle["text/plain"] = "\n".join([self.alt, *plain_table(self.table)])
        display(bundle, raw=True)
        title = self.figure.layout.title.text
        words = f"<p>{escape(self.alt)}</p>" + html_table(self.table, caption=title)
        html = f"<details><summary>The figure in words and numbers</summary>{words}</details>"
        display({"text/html": html, "text/plain": self.alt}, raw=True)


def live_figure(
    figure: Any,
    *,
    title: str,
    alt: str,
    table: Sequence[dict[str, object]] = (),
) -> LiveFigure:
    """Give a plotly figure the course's look and return it as a cell's result.

    title: says what to see. alt: the same for who cannot see it, in a sentence or two.
    table: the numbers, as rows with the same keys.
    Lines and bars that set no symbol, dash or pattern get one each: colour is never the only
    sign. The paper is white, so that the figure reads the same on a light and a dark page.
    Raises ValueError if title, alt or an axis label is missing, or rows differ in their keys.
    """
    for field, value in (("title", title), ("alt", alt)):
        if not value.strip():
            raise ValueError(f"{field}={value!r} is not allowed: a figure needs one")
    drawn = {trace.type for trace in figure.data}
    if drawn & {"scatter", "bar", "heatmap", "histogram", "box"}:
        for axis in ("xaxis", "yaxis"):
            if not figure.layout[axis].title.text:
                raise ValueError(f"{axis} has no title: say what it shows, with the unit")
    if any(set(row) != set(table[0]) for row in table):
        raise ValueError("table is not allowed: all rows need the same keys")
    figure.update_layout(
        title={"text": title, "x": 0.01, "font": {"size": 17}},
        template="plotly_white",
        colorway=PALETTE,
        paper_bgcolor="white",
        font={"size": 14, "color": "#1b1f24"},
        height=figure.layout.height or 420,
        margin=_MARGIN,
    )
    _tell_apart(figure)
    return LiveFigure(figure, alt, table)


def _tell_apart(figure: Any) -> None:
    """A symbol and a dash for each line, a pattern for each set of bars, where none is set."""
    lines = [trace for trace in figure.data if trace.type == "scatter"]
    for number, trace in enumerate(lines):
        if trace.marker.symbol is None:
            trace.marker.symbol = SYMBOLS[number % len(SYMBOLS)]
        if trace.line.dash is None:
            trace.line.dash = DASHES[number % len(DASHES)]
    bars = [trace for trace in figure.data if trace.type == "bar"]
    for number, trace in enumerate(bars):
        if trace.marker.pattern.shape is None and len(bars) > 1:
            trace.marker.pattern.shape = PATTERNS[number % len(PATTERNS)]
