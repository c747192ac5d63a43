"""The numbers that come out of a part, drawn: as squares, as lines between words, as bars."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from widgets.view import Category, Linear, Paper
from widgets.view.measure import shorten
from widgets.view.words import percent

LONGEST = 34.0  # pixels of the largest square
LABEL = 96  # pixels for the tokens beside the picture
FAINTEST = 0.02  # the least share of attention that is drawn as a line
ROOM_FOR_LINES = 110.0  # pixels; with less the squares stand alone
ROW = 21  # pixels from bar to bar


@dataclass(frozen=True, kw_only=True)
class Square:
    """One value of the picture: its area is the size, hollow means below 0."""

    x: float
    y: float
    side: float
    sign: int
    """1, -1, or 0 for something that is not a number."""


def squares(cells: list[list[float | None]], width: float, height: float) -> list[Square]:
    """The picture of a matrix inside a rectangle; the largest size fills its place."""
    step = min(width / len(cells[0]), height / len(cells), LONGEST)
    largest = max((abs(v) for row in cells for v in row if v is not None), default=0.0) or 1.0
    return [
        Square(
            x=(column + 0.5) * step,
            y=(line + 0.5) * step,
            side=step * (0.5 if value is None else 0.94 * math.sqrt(abs(value) / largest)),
            sign=0 if value is None else -1 if value < 0 else 1,
        )
        for line, row in enumerate(cells)
        for column, value in enumerate(row)
    ]


def draw_cells(
    paper: Paper,
    tokens: Sequence[str],
    columns: Sequence[str],
    cells: list[list[float | None]],
    role: str,
    *,
    pattern: bool,
    left: float,
    top: float,
) -> float:
    """A matrix, a row a token, and what its signs mean; returns where it ends.

    pattern: whether it says where tokens look; then lines say it again where there is room.
    """
    x, room = left + LABEL, paper.width - left - LABEL - (64 if pattern else 10)
    high = 200 if paper.narrow else 236
    top += 44 if pattern else 20
    step = min(room / len(columns), high / len(tokens), LONGEST)
    size, low = min(14, 0.95 * step), top + step * len(tokens)
    for i, token in enumerate(tokens):
        y = top + (i + 0.5) * step + 0.35 * size
        paper.text(x - 10, y, shorten(token, size, LABEL - 12), size=size, anchor="end")
    for i, name in enumerate(columns):
        at, y = x + (i + 0.5) * step, top - 7
        if pattern:
            turn = {"transform": f"rotate(-50 {at:.1f} {y:.1f})"}
            paper.text(at, y, shorten(name, 13, 62), "soft", size=13, **turn)
        elif i % 4 == 0:
            paper.text(at, y, name, "soft", size=13, anchor="middle")
    paper.rect(x, top, step * len(columns), low - top, "none", stroke="grid")
    found = squares(cells, room, high)
    for sign, style in _signs(role).items():  # one path for each: many shapes would be slow
        of_sign = [square for square in found if square.sign == sign and square.side]
        d = "".join(_outline(square, x, top) for square in of_sign)
        if d:
            paper.shape("path", d=d, key=f"sign {sign}", **style)
    start = x + step * len(columns) + 52
    if pattern and paper.width - LABEL - start > ROOM_FOR_LINES:
        draw_lines(paper, tokens, cells, (start, paper.width - LABEL), (top, step))
    _draw_signs(paper, role, left if paper.narrow else x, low + 13, pattern)
    return low + 53


def draw_lines(
    paper: Paper,
    tokens: Sequence[str],
    pattern: list[list[float | None]],
    ends: tuple[float, float],
    rows: tuple[float, float],
) -> None:
    """From each token, on the left, to those it looks at: the thicker, the more it takes.

    The last token's lines are dark. rows: where they begin, and the step from one to the next.
    """
    (start, end), (top, step) = ends, rows
    size = min(14, 0.95 * step)
    paper.text(start, top - 14, "who looks", "soft", size=13)
    paper.text(end, top - 14, "at what", "soft", size=13)
    for i, row in enumerate(pattern):
        last, y = i == len(pattern) - 1, top + (i + 0.5) * step
        paper.circle(start - 4, y, 2.5, "query" if last else "quiet")
        for at, share in enumerate(row):
            if share is None or share < FAINTEST:
                continue
            tip = f"“{tokens[i]}” takes {percent(share)} from “{tokens[at]}”"
            style = {"width": 6 * share, "stroke_opacity": None if last else 0.7, "tip": tip}
            low = top + (at + 0.5) * step
            paper.line(start, y, end - 6, low, "query" if last else "quiet", **style)
    for at, token in enumerate(tokens):
        y = top + (at + 0.5) * step + 0.35 * size
        paper.text(end, y, shorten(token, size, LABEL - 6), size=size)


def draw_next(
    paper: Paper, likeliest: Sequence[tuple[str, float]], left: float, top: float
) -> float:
    """The likeliest next tokens, a bar each; returns where it ends."""
    names = [f"{place}. {shorten(token, 14, LABEL)}" for place, (token, _) in
             enumerate(likeliest, start=1)]  # fmt: skip
    plot = paper.plot(
        Linear(0, 1, "probability of being the next token", text=percent, ticks=(0, 0.5, 1)),
        Category(names), left=left + LABEL + 34, right=70, top=top, height=ROW * len(names),
    )  # fmt: skip
    for name, (token, chance) in zip(names, likeliest, strict=True):
        style = {"key": f"next {token}", "tip": f"“{token}”: {percent(chance)}"}
        plot.bar(name, chance, "output", **style)
        x, y = plot.at(chance, name)
        paper.text(x + 8, y + 5, percent(chance), "soft", size=13)
    return plot.low + 66


def _draw_signs(paper: Paper, role: str, x: float, y: float, pattern: bool) -> None:
    paper.rect(x, y, 13, 13, role)
    if pattern:
        paper.text(x + 20, y + 12, "area: share of attention")
        return
    paper.text(x + 20, y + 12, "above 0")
    paper.rect(x + 96, y, 13, 13, **_signs(role)[-1])
    paper.text(x + 116, y + 12, "below 0 · area: size")


def _signs(role: str) -> dict[int, dict[str, object]]:
    return {
        1: {"fill": role},
        -1: {"fill": "paper", "stroke": role, "stroke_width": 1.6},
        0: {"fill": "none", "stroke": "soft", "stroke_dasharray": "2 2"},
    }


def _outline(square: Square, left: float, top: float) -> str:
    x, y = left + square.x - square.side / 2, top + square.y - square.side / 2
    side = f"{square.side:.1f}"
    return f"M{x:.1f} {y:.1f}h{side}v{side}h-{side}z"
