"""Loss over model size at constant compute: a parabola for each budget, and a dot to drag (§3.2.1).

The runs are real ones; `llama3lib.scaling.fit_isoflop` fits them once over parameters and once
over tokens, as the paper draws them (Fig. 2). The browser has the parabolas and does the rest
again so that a saved page still works.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import traitlets

from llama3lib.scaling import Run
from widgets.ch03.views.valleys import (
    AXES,
    FLAT,
    STOPS,
    Curve,
    Dot,
    amount,
    curves_of,
    dot,
    flops_text,
    headline,
    notes,
    percent,
    table_rows,
)
from widgets.core.drawing import BLUE, GREEN, INK, LINE, ORANGE, PAPER, SKY, SOFT, Drawing
from widgets.core.widget import CourseWidget, css, esm

PLOT = {"x": 80, "y": 80, "width": 890, "height": 350}


def ends(curves: Sequence[Curve], axis: str) -> tuple[float, float, float, float]:
    """What the picture spans: least and most of the axis, then of the loss."""
    places = [run[axis == "tokens"] for curve in curves for run in curve.runs]
    losses = [run[2] for curve in curves for run in curve.runs]
    losses += [curve.valley(axis).lowest for curve in curves if curve.valley(axis).inside]
    low, high = min(losses), max(losses)
    margin = (high - low) or 0.1
    return min(places), max(places), low - 0.12 * margin, high + 0.05 * margin


def round_marks(low: float, high: float) -> list[float]:
    """Places 1, 2, 5 of each decade; every decade only if that is too many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    wide = high / low > 1e4
    marks = [m * 10.0**p for p in powers for m in ((1,) if wide else (1, 2, 5))]
    return [mark for mark in marks if low <= mark <= high]


def loss_marks(low: float, high: float) -> list[float]:
    """Round losses, at most eight."""
    steps = [m * 10.0**p for p in range(-4, 4) for m in (1, 2, 5)]
    step = next((s for s in steps if (high - low) / s <= 7), steps[-1])
    return [step * i for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


class _Picture:
    """The static picture."""

    def __init__(self, curves: Sequence[Curve], chosen: Curve, axis: str, stop: int) -> None:
        self.curves, self.chosen, self.axis = curves, chosen, axis
        self.dot, self.valley = dot(chosen, axis, stop), chosen.valley(axis)
        self.least, self.most, self.low, self.high = ends(curves, axis)
        title, told = headline(chosen, axis, stop), notes(chosen, axis, stop)
        self.to = Drawing(1000, 630, title=title, description=" ".join(told))
        self.to.text(20, 34, title, size=min(22, 1540 / len(title)), font_weight=600)
        self._axes()
        for curve in sorted(curves, key=lambda one: one is chosen):
            self._curve(curve)
        self._gauge()
        self._legend()
        for place, line in enumerate(told):
            self.to.text(20, 540 + 22 * place, line, fill=SOFT, size=13)

    def spot(self, at: float, loss: float) -> tuple[float, float]:
        """Labels of the curves need room on the right."""
        way = math.log(at / self.least) / math.log(self.most / self.least)
        x = PLOT["x"] + 20 + (PLOT["width"] - 130) * way
        up = (loss - self.low) / (self.high - self.low)
        return x, PLOT["y"] + PLOT["height"] * (1 - up)

    def _axes(self) -> None:
        x, y, width, to = PLOT["x"], PLOT["y"], PLOT["width"], self.to
        bottom = y + PLOT["height"]
        to.text(20, y - 14, "loss on held-out text, nats a token", fill=SOFT)
        marks = loss_marks(self.low, self.high)
        digits = max(1, math.ceil(-math.log10(marks[1] - marks[0]) - 1e-9))
        for mark in marks:
            level = self.spot(self.least, mark)[1]
            to.line(x, level, x + width, level)
            to.text(x - 8, level + 5, f"{mark:.{digits}f}", anchor="end", fill=SOFT)
        for mark in round_marks(self.least / 1.05, self.most * 1.05):
            at = self.spot(mark, self.low)[0]
            to.line(at, y, at, bottom)
            to.text(at, bottom + 22, amount(mark), anchor="middle", fill=SOFT)
        words = f"{self.axis}, log axis; each curve is one budget of FLOPs"
        to.text(x + width / 2, bottom + 46, words, anchor="middle", size=15)
        to.rect(x, y, width, PLOT["height"], fill="none", stroke=LINE)

    def _line(self, curve: Curve, low: float, high: float, **style: object) -> None:
        valley = curve.valley(self.axis)
        places = [low * (high / low) ** (i / 60) for i in range(61)]
        spots = [self.spot(at, valley.loss(at)) for at in places]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
        self.to.shape("polyline", points=points, fill="none", **style)

    def _curve(self, curve: Curve) -> None:
        valley, strong = curve.valley(self.axis), curve is self.chosen
        tried = curve.tokens if self.axis == "tokens" else curve.sizes
        low, high = min(tried), max(tried)
        if strong and max(low, valley.flat[0]) < min(high, valley.flat[1]):
            ends_ = max(low, valley.flat[0]), min(high, valley.flat[1])
            self._line(curve, *ends_, stroke=SKY, stroke_width=13, stroke_opacity=0.45)
        self._line(curve, low, high, stroke=BLUE if strong else SOFT,
                   stroke_width=3 if strong else 1.4)  # fmt: skip
        for size, tokens, loss, stored in curve.runs:
            at = self.spot(tokens if self.axis == "tokens" else size, loss)
            kind, fill = ("square", PAPER) if stored else ("circle", BLUE if strong else SOFT)
            self.to.mark(kind, *at, 5, fill=fill, stroke=BLUE if strong else SOFT)
        if valley.inside:
            draw_cross(self.to, *self.spot(valley.best, valley.lowest), 7, GREEN)
        x, y = self.spot(high, valley.loss(high))
        style = {"font_weight": 600} if strong else {"fill": SOFT}
        self.to.text(x + 12, y + 5, f"{flops_text(curve.budget)} FLOPs", **style)

    def _gauge(self) -> None:
        """From the lowest level up to the dot."""
        it = self.dot
        x, y = self.spot(it.at, it.loss)
        if self.valley.inside:
            start, level = self.spot(self.valley.best, self.valley.lowest)
            self.to.line(start, level, x, level, stroke=INK, stroke_dasharray="3 3")
            self.to.line(x, level, x, y, stroke=INK, stroke_width=2)
            words = f"yours: {it.above:.3f} nats ({percent(it.share)}) above the lowest"
            right = PLOT["x"] + PLOT["width"] - 14  # small budgets fill the left only
            self.to.text(right, PLOT["y"] + 28, words, anchor="end", font_weight=600)
        self.to.mark("diamond", x, y, 8, fill=ORANGE, stroke=INK, stroke_width=1.5)

    def _legend(self) -> None:
        y, x, to = PLOT["y"] + PLOT["height"] + 74, PLOT["x"], self.to
        to.mark("circle", x + 6, y, 5, fill=SOFT)
        to.text(x + 18, y + 5, "run")
        if any(run[3] for curve in self.curves for run in curve.runs):
            to.mark("square", x + 76, y, 5, fill=PAPER, stroke=SOFT)
            to.text(x + 88, y + 5, "stored run")
        draw_cross(to, x + 196, y, 7, GREEN)
        to.text(x + 210, y + 5, "lowest point of a parabola")
        to.mark("diamond", x + 436, y, 8, fill=ORANGE, stroke=INK)
        to.text(x + 450, y + 5, "yours")
        to.line(x + 522, y, x + 552, y, stroke=SKY, stroke_width=13, stroke_opacity=0.45)
        to.text(x + 562, y + 5, "at most 1% above the lowest loss")


def draw_cross(picture: Drawing, x: float, y: float, size: float, colour: str) -> None:
    """Two crossed strokes over a light edge, so that they show on lines too."""
    d = f"M{x - size:.1f} {y - size:.1f}l{2 * size} {2 * size}m0 {-2 * size}l{-2 * size} {2 * size}"
    for stroke, width in ((PAPER, 6), (colour, 3)):
        picture.shape("path", d=d, fill="none", stroke=stroke, stroke_width=width)


def draw_isoflop(curves: Sequence[Curve], chosen: Curve, axis: str, stop: int) -> str:
    """The static picture, as SVG."""
    return _Picture(curves, chosen, axis, stop).to.svg()


class IsoFlopExplorer(CourseWidget):
    """Drag the size of a model at constant compute; see what it costs.

    runs: finished runs, of two budgets or more together with `stored`; four or more a budget.
    stored: runs from a file, drawn with a mark of their own. Works in a saved page.
    """

    _esm = esm("isoflop")
    _css = css("isoflop")
    budget = traitlets.Float().tag(sync=True)
    stop = traitlets.Int(48).tag(sync=True)
    axis = traitlets.Unicode(AXES[0]).tag(sync=True)
    facts = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        runs: Sequence[Run],
        *,
        stored: Sequence[Run] = (),
        budget: float | None = None,
        stop: int = 48,
        axis: str = AXES[0],
    ) -> None:
        self.curves = {curve.budget: curve for curve in curves_of(runs, stored)}
        facts: Mapping[str, object] = {
            "curves": [asdict(curve) for curve in self.curves.values()],
            "stops": STOPS,
            "flat": FLAT,
        }
        super().__init__(facts=facts)
        if budget is None:  # runs of a curve may differ from its budget by a rounding
            largest = max(run.budget for run in runs or stored)
            budget = min(self.curves, key=lambda known: abs(known - largest))
        self.budget = budget
        self.stop, self.axis = stop, axis

    @traitlets.validate("budget", "axis")
    def _offered(self, proposal: dict) -> object:
        name, value = proposal["trait"].name, proposal["value"]
        allowed = [*self.curves] if name == "budget" else [*AXES]
        if value not in allowed:
            names = ", ".join(map(str, allowed))
            raise traitlets.TraitError(f"{name}={value!r} is not allowed: one of {names}")
        return value

    @traitlets.validate("stop")
    def _in_range(self, proposal: dict) -> int:
        if not 0 <= proposal["value"] <= STOPS:
            raise traitlets.TraitError(f"stop={proposal['value']!r} is not allowed: 0 to {STOPS}")
        return proposal["value"]

    @property
    def curve(self) -> Curve:
        """The chosen budget's curve."""
        return self.curves[self.budget]

    def dot(self) -> Dot:
        """The model that the picture shows."""
        return dot(self.curve, self.axis, self.stop)

    def summary(self) -> str:
        return headline(self.curve, self.axis, self.stop)

    def table(self) -> list[dict[str, object]]:
        return table_rows([*self.curves.values()], self.curve, self.axis, self.stop)

    def static_svg(self) -> str:
        return draw_isoflop([*self.curves.values()], self.curve, self.axis, self.stop)
