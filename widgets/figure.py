"""Plotly figures of the course: one look, checked labels, words and a table for who cannot see it."""

from collections.abc import Sequence
from html import escape
from typing import Any

from widgets.base import html_table, plain_table

PALETTE = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#8a8a00", "#666666")
SYMBOLS = ("circle", "square", "diamond", "cross", "triangle-up", "x", "star", "pentagon")


class LiveFigure:
    """A figure, and beside it what it says in words and numbers. Made by `live_figure`."""

    def __init__(self, figure: Any, alt: str, table: Sequence[dict[str, object]]) -> None:
        self.figure, self.alt, self.table = figure, alt, list(table)

    def _ipython_display_(self) -> None:
        from IPython.display import display

        bundle = self.figure._repr_mimebundle_()
        bundle.pop("text/html", None)
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
    Raises ValueError if title, alt or an axis label is missing.
    """
    for field, value in (("title", title), ("alt", alt)):
        if not value.strip():
            raise ValueError(f"{field}={value!r} is not allowed: a figure needs one")
    drawn = {trace.type for trace in figure.data}
    if drawn & {"scatter", "bar", "heatmap", "histogram", "box"}:
        for axis in ("xaxis", "yaxis"):
            if not figure.layout[axis].title.text:
                raise ValueError(f"{axis} has no title: say what it shows, with the unit")
    figure.update_layout(
        title={"text": title, "x": 0.01, "font": {"size": 17}},
        template="plotly_white",
        colorway=PALETTE,
        paper_bgcolor="white",
        font={"size": 14},
        height=figure.layout.height or 420,
        margin={"l": 70, "r": 20, "t": 60, "b": 60},
    )
    return LiveFigure(figure, alt, table)
