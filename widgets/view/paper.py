"""Paper: what a scene draws on. The only place that writes SVG.

Measures are pixels from the top left of a picture `width` wide. A scene that reads `paper.width`
fits a projector (fewer, larger pixels) and a telephone. Every text is escaped here.

- `key` keeps the identity of a piece between two frames: it travels instead of jumping. A key
  names the thing ("request 3"), never its place.
- `tip` is shown when the pointer or the keyboard is on the piece.
- `put=("control", value)` makes the piece something to choose, by mouse and by arrow keys.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from xml.sax.saxutils import escape, quoteattr

from widgets.core.colours import colour
from widgets.view.measure import text_width, wrap
from widgets.view.plot import Plot, Scale

STEM = "ID~"
"""Stands in ids until a picture has a place: ids are unique in a page, not only in a picture."""
WIDTHS = (960, 720, 480)
"""Pictures are laid out for one of these: a page, a projector, a telephone."""
TEXT = 14
_PAINT = ("fill", "stroke")
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SHAPES = ("circle", "square", "diamond", "triangle", "cross")


class Paper:
    """Collects the pieces of one picture. Draw first what lies below."""

    def __init__(self, width: int = WIDTHS[0]) -> None:
        self.width = width
        self.pieces: list[str] = []
        self._low = 0.0
        self._open: list[list[str]] = []
        self._hatches: set[str] = set()
        self.taken: list[tuple[float, float, float, float]] = []
        """Boxes in which no label may stand: left, top, right, bottom."""

    @property
    def narrow(self) -> bool:
        """Whether the picture is for a telephone."""
        return self.width <= WIDTHS[-1]

    @property
    def height(self) -> float:
        """The lowest thing drawn, with a little room."""
        return self._low + 6

    def shape(
        self,
        tag: str,
        words: str | None = None,
        *,
        key: str | None = None,
        tip: str | None = None,
        put: tuple[str, object] | None = None,
        label: str | None = None,
        **attributes: object,
    ) -> None:
        """Any element. fill and stroke name roles; `stroke_width` is `stroke-width`.

        label: what a screen reader says of a piece that can be chosen; its tip if left out.
        """
        own = [f"<{tag}", *_written(attributes), *_marks(key, tip, put, label)]
        body = f">{escape(words)}</{tag}>" if words is not None else "/>"
        self._add(" ".join(own) + body)

    def _add(self, piece: str) -> None:
        (self._open[-1] if self._open else self.pieces).append(readable(piece))

    def reach(self, y: float) -> None:
        """Make the picture at least so high."""
        self._low = max(self._low, y)

    @contextmanager
    def group(
        self,
        *,
        key: str | None = None,
        tip: str | None = None,
        put: tuple[str, object] | None = None,
        label: str | None = None,
        **attributes: object,
    ) -> Iterator[None]:
        """Everything drawn inside is one piece with one key, one tip, one choice."""
        self._open.append([])
        try:
            yield
        finally:
            inner = "".join(self._open.pop())
            own = " ".join(["<g", *_written(attributes), *_marks(key, tip, put, label)])
            self._add(f"{own}>{inner}</g>")

    def line(
        self, x1: float, y1: float, x2: float, y2: float, role: str = "grid", **style: object
    ) -> None:
        """A straight line, written as a path, for only a path can move."""
        self.path([(x1, y1), (x2, y2)], role, **style)

    def path(
        self,
        points: Iterable[Sequence[float]],
        role: str = "first",
        *,
        width: float = 1.0,
        dash: str | None = None,
        closed: bool = False,
        fill: str = "none",
        **style: object,
    ) -> None:
        """A line through points; closed and filled it is an area."""
        points = list(points)
        d = "M" + "L".join(f"{_number(x)} {_number(y)}" for x, y in points) + "Z" * closed
        if "clip_path" not in style:
            self.reach(max(y for _, y in points))
        style = {"stroke_width": width, "stroke_dasharray": dash} | style
        self.shape("path", d=d, stroke=role, fill=fill, stroke_linejoin="round", **style)

    def rect(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        fill: str = "tint",
        *,
        round: float = 0,
        **style: object,
    ) -> None:
        """A rectangle; a side below 0 counts as 0."""
        self.reach(y + height)
        sides = {"width": max(width, 0.0), "height": max(height, 0.0), "rx": round or None}
        self.shape("rect", x=x, y=y, **sides, fill=fill, **style)

    def circle(self, x: float, y: float, r: float, fill: str = "none", **style: object) -> None:
        self.reach(y + r)
        self.shape("circle", cx=x, cy=y, r=r, fill=fill, **style)

    def text(
        self,
        x: float,
        y: float,
        words: str,
        role: str = "ink",
        *,
        size: float = TEXT,
        anchor: str = "start",
        bold: bool = False,
        halo: bool = False,
        **style: object,
    ) -> None:
        """One line of text; y is its base line. halo: readable over lines."""
        self.reach(y + 0.3 * size)
        style["font_size"] = None if size == TEXT else size  # that one the whole picture has
        style["text_anchor"] = None if anchor == "start" else anchor
        if bold:
            style["font_weight"] = 600
        if halo:
            style |= {"stroke": "paper", "stroke_width": 4, "paint_order": "stroke"}
        if style.get("key"):  # only a transform travels
            style["transform"] = f"translate({_number(x)} {_number(y)})"
        else:
            style |= {"x": x, "y": y}
        self.shape("text", words, fill=role, **style)

    def wrapped(
        self, x: float, y: float, words: str, role: str = "ink", *, size: float = TEXT
    ) -> float:
        """A text over as many lines as the paper's width asks for; the base line after the last."""
        for line in wrap(words, size, self.width - x - 4):
            self.text(x, y, line, role, size=size)
            y += 1.45 * size
        return y

    def mark(
        self,
        kind: str,
        x: float,
        y: float,
        role: str = "first",
        *,
        size: float = 6,
        **style: object,
    ) -> None:
        """A point: circle, square, diamond, triangle, cross; the shape says what the colour says.

        Raises ValueError for another kind.
        """
        if kind not in _SHAPES:
            raise ValueError(f"kind={kind!r} is not allowed: one of {', '.join(_SHAPES)}")
        self.take(x - size, y - size, x + size, y + size)
        self.reach(y + size)
        place = {"transform": f"translate({_number(x)} {_number(y)})"}
        style = place | {"stroke": "ink", "fill": role} | style
        if kind == "cross":
            style |= {"stroke": role, "stroke_width": 2.5}
        self.shape("path", d=_outline(kind, size), **style)

    def take(self, left: float, top: float, right: float, bottom: float) -> None:
        """Keep labels out of this box."""
        self.taken.append((left, top, right, bottom))

    def label(
        self,
        x: float,
        y: float,
        words: str,
        role: str = "ink",
        *,
        size: float = TEXT,
        **style: object,
    ) -> None:
        """Text beside a point, where it covers nothing that is there already."""
        wide, gap = text_width(words, size, bold=bool(style.get("bold"))), 9
        places = [
            ("start", x + gap, y + 0.35 * size),
            ("end", x - gap, y + 0.35 * size),
            ("middle", x, y - gap),
            ("middle", x, y + gap + 0.8 * size),
            *[("start", x + gap, y + s * 1.3 * size) for s in (-1, 1, -2, 2)],
            *[("end", x - gap, y + s * 1.3 * size) for s in (-1, 1, -2, 2)],
        ]
        boxes = [_box(anchor, at, low, wide, size) for anchor, at, low in places]
        costs = [self._cost(box) for box in boxes]
        best = costs.index(min(costs))
        self.take(*boxes[best])
        anchor, at, low = places[best]
        self.text(at, low, words, role, size=size, anchor=anchor, halo=True, **style)

    def _cost(self, box: tuple[float, float, float, float]) -> float:
        """Area of other things under a box, and much more for what is cut off."""
        left, top, right, bottom = box
        outside = max(0, -left) + max(0, right - self.width) + max(0, -top)
        over = sum(
            max(0, min(right, x2) - max(left, x1)) * max(0, min(bottom, y2) - max(top, y1))
            for x1, y1, x2, y2 in self.taken
        )
        return over + 1000 * outside

    def hatch(self, role: str, *, angle: int = 45, gap: int = 8) -> str:
        """Stripes of a role's colour, defined once; returns the fill to use."""
        name = f"{STEM}hatch-{role}-{angle}-{gap}"
        if name not in self._hatches:
            self._hatches.add(name)
            ink = colour(role)
            self.pieces.insert(
                0,
                f'<defs data-key="{name}"><pattern id="{name}" width="{gap}" height="{gap}" '
                f'patternUnits="userSpaceOnUse" patternTransform="rotate({angle})">'
                f'<rect width="{gap}" height="{gap}" fill="{ink}" fill-opacity="0.14"/>'
                f'<path d="M0 0V{gap}" stroke="{ink}" stroke-width="2.4"/></pattern></defs>',
            )
        return f"url(#{name})"

    def clip(self, left: float, top: float, width: float, height: float) -> str:
        """Define a window; returns the `clip_path` that shows only what lies in it."""
        name = f"{STEM}clip-{len(self.pieces)}"
        self.pieces.append(
            f'<defs data-key="{name}"><clipPath id="{name}"><rect x="{_number(left)}" '
            f'y="{_number(top)}" width="{_number(width)}" height="{_number(height)}"/>'
            "</clipPath></defs>"
        )
        return f"url(#{name})"

    def plot(
        self,
        x: Scale,
        y: Scale,
        *,
        left: float = 84,
        top: float = 16,
        right: float = 14,
        height: float = 300,
        width: float | None = None,
    ) -> Plot:
        """Axes and a frame; what is drawn on the plot is in the units of the data."""
        across = self.width - left - right if width is None else width
        return Plot(self, x, y, (left, top, across, height))


def readable(text: str) -> str:
    """The text with � for characters that XML does not know: strangers' texts have them."""
    return _NO_XML.sub("\ufffd", text)


def _box(anchor: str, x: float, y: float, wide: float, size: float) -> tuple[float, ...]:
    left = {"start": x, "end": x - wide, "middle": x - wide / 2}[anchor]
    return left, y - 0.85 * size, left + wide, y + 0.25 * size


def _outline(kind: str, s: float) -> str:
    d = s * 1.25
    return {
        "circle": f"M{-s:g} 0A{s:g} {s:g} 0 1 1 {s:g} 0A{s:g} {s:g} 0 1 1 {-s:g} 0Z",
        "square": f"M{-0.9 * s:g} {-0.9 * s:g}h{1.8 * s:g}v{1.8 * s:g}h{-1.8 * s:g}Z",
        "diamond": f"M0 {-d:g}L{d:g} 0L0 {d:g}L{-d:g} 0Z",
        "triangle": f"M0 {-d:g}L{d:g} {0.8 * d:g}L{-d:g} {0.8 * d:g}Z",
        "cross": f"M{-s:g} {-s:g}L{s:g} {s:g}M{s:g} {-s:g}L{-s:g} {s:g}",
    }[kind]


def _written(attributes: dict[str, object]) -> list[str]:
    return [_attribute(name, value) for name, value in attributes.items() if value is not None]


@lru_cache(65_536, typed=True)  # a grid writes the same few hundreds of times
def _attribute(name: str, value: object) -> str:
    if name in _PAINT and isinstance(value, str) and not value.startswith("url("):
        value = colour(value)
    text = _number(value) if isinstance(value, float) else str(value)
    return f"{name.rstrip('_').replace('_', '-')}={quoteattr(text)}"


def _number(value: float) -> str:
    """Two decimals at the most. Raises ValueError for what is no place in a picture."""
    if not math.isfinite(value):
        raise ValueError(f"{value} is not allowed in a picture: a finite number")
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _marks(
    key: str | None, tip: str | None, put: tuple[str, object] | None, label: str | None
) -> Iterator[str]:
    if key is not None:
        yield f"data-key={quoteattr(str(key))}"
    if tip is not None:
        yield f"data-tip={quoteattr(tip)}"
    if put is not None:
        yield f"data-put={quoteattr(json.dumps(put, ensure_ascii=False))}"
    if label is not None:
        yield f"aria-label={quoteattr(label)}"
