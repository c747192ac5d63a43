"""Signs with what they stand for, where a direct label has no room."""

from collections.abc import Sequence

from widgets.view.measure import text_width
from widgets.view.paper import TEXT, Paper

Sign = tuple[str, str, str] | tuple[str, str, str, dict[str, object]]
"""Kind, role, words; and the style the sign has in the picture if it needs one. The kind is one
of `Paper.mark`, or "line" or "area"."""
_LONG, _GAP, _STEP = 28, 22, 24


def legend(paper: Paper, x: float, y: float, signs: Sequence[Sign]) -> float:
    """Draw them on as many lines as the paper's width asks for; the base line after the last."""
    at = x
    for kind, role, words, *more in signs:
        style = more[0] if more else {}
        room = _LONG if kind in ("line", "area") else 14
        wide = room + 8 + text_width(words, TEXT)
        if at > x and at + wide > paper.width - 4:
            at, y = x, y + _STEP
        middle = y - 0.35 * TEXT
        if kind == "line":
            paper.line(at, middle, at + _LONG, middle, role, **{"width": 2.5} | style)
        elif kind == "area":
            paper.rect(at, middle - 7, _LONG, 14, role, **style)
        else:
            paper.mark(kind, at + 7, middle, role, **{"size": 5.5} | style)
        paper.text(at + room + 8, y, words)
        at += wide + _GAP
    return y + _STEP
