"""Plotly figures of the course: one look, checked labels, the same in words and numbers."""

from collections.abc import Sequence
from html import escape
from typing import Any

from widgets.core.colours import SERIES, colour
from widgets.core.widget import html_table, plain_table

PALETTE = tuple(colour(role) for role in SERIES)
SYMBOLS = ("circle", "square", "diamond", "cross", "triangle-up", "x", "star", "pentagon")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
PATTERNS = ("", "/", ".", "x", "-", "|", "+", "\\")
_MARGIN = {"l": 70, "r": 20, "t": 60, "b": 60}
_FONT = "system-ui, sans-serif"


_PLOTLY = "application/vnd.plotly.v1+json"


class LiveFigure:
    """A figure, and beside it what it says in words and numbers. Made by `live_figure`.

    JupyterLab stores a PNG beside the figure when the notebook is saved: that is the picture
    readers without a kernel see. Words and numbers are a second, folded output.
    """

    def __init__(
        self, figure: Any, title: str, alt: str, table: Sequence[dict[str, object]]
    ) -> None:
        self.figure, self.title, self.alt, self.table = figure, title, alt, list(table)

    def _ipython_display_(self) -> None:
        from IPython.display import display

        bundle = self.figure._repr_mimebundle_()
        if _PLOTLY in bundle:
            bundle.pop("text/html", None)  # the same again, with megabytes of JavaScript
        bundle["text/plain"] = "\n".join([self.alt, *plain_table(self.table)])
        display(bundle, raw=True)
        words = f"<p>{escape(self.alt)}</p>" + html_table(self.table, caption=self.title)
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
    sign. Type, inks and hues are those of the views. The paper is white; on a dark page
    JupyterLab shows its negative with the hues kept (`common.css`), for plotly knows no themes.
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
        title={"text": f"<b>{escape(title)}</b>", "x": 0.01, "font": {"size": 17}},
        template="plotly_white",
        colorway=PALETTE,
        paper_bgcolor=colour("paper"),
        font={"family": _FONT, "size": 14, "color": colour("ink")},
        height=figure.layout.height or 420,
        margin=_MARGIN | figure.layout.margin.to_plotly_json(),
    )
    for axes in (figure.update_xaxes, figure.update_yaxes):
        axes(gridcolor=colour("grid"), linecolor=colour("soft"))
    _tell_apart(figure)
    return LiveFigure(figure, title, alt, table)


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
