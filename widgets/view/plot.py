"""Axes, and what stands on them, in the units of the data."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from widgets.view.measure import text_width
from widgets.view.words import significant

if TYPE_CHECKING:
    from widgets.view.paper import Paper

Point = tuple[float, float]


class Scale:
    """One axis: from values to a share of its length, and the numbers written at it.

    label: what it shows, with the unit. text: how a number is written. ticks: where; round
    numbers if left out.
    Raises ValueError if high is not above low.
    """

    def __init__(
        self,
        low: float,
        high: float,
        label: str = "",
        *,
        text: Callable[[float], str] = significant,
        ticks: Sequence[float] | None = None,
    ) -> None:
        if not low < high:
            raise ValueError(f"high={high!r} is not allowed: above low={low!r}")
        self.low, self.high, self.label, self.text, self._ticks = low, high, label, text, ticks

    def share(self, value: float) -> float:
        """0 at low, 1 at high; outside of both beyond."""
        raise NotImplementedError

    def ticks(self, most: int) -> list[float]:
        """Places of the numbers, `most` or fewer if none were given."""
        return list(self._ticks) if self._ticks is not None else self._round(most)

    def words(self, ticks: Sequence[float]) -> list[str]:
        """What is written at them."""
        return [self.text(tick) for tick in ticks]

    def _round(self, most: int) -> list[float]:
        raise NotImplementedError


class Linear(Scale):
    """Equal steps, equal lengths."""

    def share(self, value: float) -> float:
        return (value - self.low) / (self.high - self.low)

    def words(self, ticks: Sequence[float]) -> list[str]:
        if self.text is not significant:
            return super().words(ticks)
        near = 1e-6 * (self.high - self.low)  # all with as many places as one of them needs
        places = (p for p in range(10) if all(abs(round(t, p) - t) < near for t in ticks))
        least = next(places, 10)
        return [f"{tick:,.{least}f}" for tick in ticks]

    def _round(self, most: int) -> list[float]:
        step = round_step(self.high - self.low, most)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [step * i for i in range(first, last + 1)]


class Log(Scale):
    """Equal factors, equal lengths. Raises ValueError unless low is above 0."""

    def __init__(self, low: float, high: float, label: str = "", **more: object) -> None:
        if not low > 0:
            raise ValueError(f"low={low!r} is not allowed: above 0 on a logarithmic axis")
        super().__init__(low, high, label, **more)

    def share(self, value: float) -> float:
        return math.log(value / self.low) / math.log(self.high / self.low)

    def _round(self, most: int) -> list[float]:
        decades = math.log10(self.high / self.low)
        if decades >= 2:
            every = max(1, math.ceil(decades / most))
            low, high = math.ceil(math.log10(self.low) - 1e-9), math.log10(self.high) + 1e-9
            return [10.0**p for p in range(low, math.floor(high) + 1) if p % every == 0]
        steps = [1, 2, 5] if decades > 0.6 else [1, 1.5, 2, 3, 4, 5, 6, 8]
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        found = [s * 10.0**p for p in powers for s in steps]
        return [v for v in found if self.low * (1 - 1e-9) <= v <= self.high * (1 + 1e-9)]


class Category(Scale):
    """Names, each with a strip of its own; a name's place is the middle of its strip."""

    def __init__(self, names: Sequence[str], label: str = "") -> None:
        super().__init__(0, len(names), label, ticks=range(len(names)))
        self.names = list(names)
        self.text = lambda i: self.names[int(i)]

    def share(self, value: float | str) -> float:
        index = self.names.index(value) if isinstance(value, str) else value
        return (index + 0.5) / len(self.names)


def round_step(span: float, most: int) -> float:
    """The smallest of 1, 2, 5 times a power of ten that makes `most` steps or fewer."""
    power = 10.0 ** math.floor(math.log10(span / most))
    return next(power * m for m in (1, 2, 5, 10) if span / (power * m) <= most + 1e-9)


class Plot:
    """A frame with two axes on a paper. Made by `Paper.plot`.

    The first category of a vertical axis stands on top. Lines and bands are cut at the frame.
    """

    def __init__(
        self, paper: "Paper", x: Scale, y: Scale, box: tuple[float, float, float, float]
    ) -> None:
        self.paper, self.x, self.y = paper, x, y
        self.left, self.top, self.width, self.height = box
        self._clip = paper.clip(self.left, self.top, self.width, self.height)
        self._draw_axes()

    def at(self, x: float | str, y: float | str) -> Point:
        """Pixels of a point."""
        return self.at_x(x), self.at_y(y)

    def at_x(self, x: float | str) -> float:
        return self.left + self.width * self.x.share(x)

    def at_y(self, y: float | str) -> float:
        share = self.y.share(y)
        return self.top + self.height * (share if isinstance(self.y, Category) else 1 - share)

    @property
    def low(self) -> float:
        """The lower edge of the frame, in pixels."""
        return self.top + self.height

    @property
    def right(self) -> float:
        """The right edge of the frame, in pixels."""
        return self.left + self.width

    def line(
        self, points: Sequence[Point], role: str = "first", *, width: float = 2, **style: object
    ) -> None:
        """A line through points (x, y); dash, key, tip as in `Paper.path`."""
        self.paper.path([self.at(*p) for p in points], role, width=width, clip_path=self._clip,
                        **style)  # fmt: skip

    def band(
        self, xs: Sequence[float], low: Sequence[float], high: Sequence[float],
        role: str = "first", *, opacity: float = 0.18, **style: object,
    ) -> None:  # fmt: skip
        """The area between two lines."""
        there = [self.at(x, y) for x, y in zip(xs, high, strict=True)]
        back = [self.at(x, y) for x, y in zip(xs, low, strict=True)]
        self.paper.path([*there, *reversed(back)], "none", fill=role, fill_opacity=opacity,
                        closed=True, clip_path=self._clip, **style)  # fmt: skip

    def bar(
        self, name: str | float, value: float, role: str = "first", *, thick: float = 0.7,
        base: float | None = None, **style: object,
    ) -> None:  # fmt: skip
        """A bar from the axis (or `base`) to a value, across if the names are on y."""
        if isinstance(self.y, Category):
            strip = self.height / len(self.y.names)
            start, end = self.at_x(self.x.low if base is None else base), self.at_x(value)
            left, wide, high = min(start, end), abs(end - start), strip * thick
            self.paper.rect(left, self.at_y(name) - high / 2, wide, high, role, **style)
        else:
            strip = self.width / len(self.x.names)
            start, end = self.at_y(self.y.low if base is None else base), self.at_y(value)
            top, high, wide = min(start, end), abs(end - start), strip * thick
            self.paper.rect(self.at_x(name) - wide / 2, top, wide, high, role, **style)

    def mark(self, kind: str, point: Point, role: str = "first", **style: object) -> None:
        """A mark at a point; see `Paper.mark`."""
        self.paper.mark(kind, *self.at(*point), role, **style)

    def rule(
        self, *, x: float | None = None, y: float | None = None, role: str = "soft",
        words: str = "", dash: str | None = "3 4", **style: object,
    ) -> None:  # fmt: skip
        """A line across the whole frame at one value of x or of y, with words at its end."""
        if x is not None:
            at = self.at_x(x)
            self.paper.line(at, self.top, at, self.low, role, dash=dash, **style)
            if words:
                self.paper.label(at, self.top + 14, words, "soft")
        else:
            at = self.at_y(y)
            self.paper.line(self.left, at, self.right, at, role, dash=dash, **style)
            if words:
                self.paper.label(self.right - 4, at - 12, words, "soft")

    def label(self, point: Point, words: str, role: str = "ink", **style: object) -> None:
        """Words beside a point, where they cover nothing."""
        self.paper.label(*self.at(*point), words, role, **style)

    def _draw_axes(self) -> None:
        paper, x, y = self.paper, self.x, self.y
        across = max(2, int(self.width / 80))
        ticks = x.ticks(across)
        for value, words in zip(ticks, x.words(ticks), strict=True):
            at = self.at_x(value)
            if not isinstance(x, Category):
                paper.line(at, self.top, at, self.low)
            room = paper.width - 2 - text_width(words, 14) / 2  # the last one is not cut off
            paper.text(min(at, room), self.low + 20, words, "soft", anchor="middle")
        ticks = y.ticks(max(2, int(self.height / 44)))
        for value, words in zip(ticks, y.words(ticks), strict=True):
            at = self.at_y(value)
            if not isinstance(y, Category):
                paper.line(self.left, at, self.right, at)
            paper.text(self.left - 8, at + 5, words, "soft", anchor="end")
        paper.path([(self.left, self.top), (self.left, self.low), (self.right, self.low)], "soft")
        if x.label:
            paper.text(self.left + self.width / 2, self.low + 42, x.label, anchor="middle")
        if y.label:  # level, above the axis: nobody reads sideways
            wide = text_width(y.label, 14)
            start = max(4.0, min(self.left - 8 - wide / 2, self.right - wide))
            paper.text(min(start, max(4.0, self.left - 60)), self.top - 10, y.label)
