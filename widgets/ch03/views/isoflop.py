"""Loss over model size at constant compute: a parabola for each budget, and a dot to move (§3.2.1).

The runs are real ones; `llama3lib.scaling.fit_isoflop` fits them once over parameters and once
over tokens, as the paper draws them (Fig. 2).
"""

from collections.abc import Sequence

import numpy as np

from llama3lib.scaling import Run
from widgets.ch03.views.isoflop_curves import (
    AXES,
    STOPS,
    Curve,
    Dot,
    amount,
    curves_of,
    dot,
    headline,
    more_loss,
    notes,
    table_rows,
)
from widgets.view import Choice, Linear, Log, Paper, Plot, Scene, Slider, View
from widgets.view.legend import legend
from widgets.view.words import scientific

FLAT_STYLE = {"width": 13, "stroke_opacity": 0.45}


def named(budget: float) -> str:
    """A budget in words."""
    return f"{scientific(budget)} FLOPs"


def ends(curves: Sequence[Curve], axis: str) -> tuple[float, float, float, float]:
    """What the picture spans: least and most of the axis, then of the loss."""
    places = [run[axis == "tokens"] for curve in curves for run in curve.runs]
    losses = [run[2] for curve in curves for run in curve.runs]
    losses += [curve.parabola(axis).lowest for curve in curves if curve.parabola(axis).inside]
    low, high = min(losses), max(losses)
    margin = (high - low) or 0.1
    return min(places), max(places), low - 0.12 * margin, high + 0.05 * margin


def axes(paper: Paper, curves: Sequence[Curve], axis: str) -> Plot:
    """Room for the names of the curves is left on the right."""
    least, most, low, high = ends(curves, axis)
    words = f"{axis}, log axis; each curve is one budget of FLOPs"
    return paper.plot(
        Log(least / 1.05, most * 1.05, words, text=amount),
        Linear(low, high, "loss on held-out text, nats a token"),
        left=52,
        top=28,
        right=100,
        height=260,
    )


def draw_curve(plot: Plot, curve: Curve, axis: str, strong: bool) -> None:
    """Parabola, runs and minimum of a budget; a click on them chooses it."""
    fitted, name = curve.parabola(axis), named(curve.budget)
    tried = curve.tokens if axis == "tokens" else curve.sizes
    low, high = min(tried), max(tried)

    def points(start: float, end: float) -> list[tuple[float, float]]:
        return [(at, fitted.loss(at)) for at in np.geomspace(start, end, 41).tolist()]

    left, right = max(low, fitted.flat[0]), min(high, fitted.flat[1])
    if strong and left < right:
        plot.line(points(left, right), "sixth", key="flat", **FLAT_STYLE)
    role, put = "main" if strong else "soft", ("budget", curve.budget)
    width = 3 if strong else 1.4
    plot.line(points(low, high), role, width=width, key=f"curve {name}", put=put, tip=name)
    for i, (size, tokens, loss, stored) in enumerate(curve.runs):
        kind, fill = ("square", "paper") if stored else ("circle", role)
        tip = f"{amount(size)} parameters, {amount(tokens)} tokens: {loss:.3f}"
        at = (tokens if axis == "tokens" else size, loss)
        style = {"size": 5, "fill": fill, "stroke": role, "key": f"run {name} {i}"}
        plot.mark(kind, at, role, tip=tip, put=put, **style)
    if fitted.inside:
        plot.mark("cross", (fitted.best, fitted.lowest), "good", size=7, key=f"lowest {name}")
    x, y = plot.at(high, fitted.loss(high))
    role = "ink" if strong else "soft"
    plot.paper.text(x + 11, y + 5, name, role, bold=strong, halo=True, key=f"name {name}")


def draw_gauge(plot: Plot, curve: Curve, axis: str, it: Dot) -> None:
    """From the lowest level up to the dot."""
    fitted, paper = curve.parabola(axis), plot.paper
    if fitted.inside:
        level = fitted.lowest
        plot.line([(fitted.best, level), (it.at, level)], "ink", width=1, dash="3 3", key="level")
        plot.line([(it.at, level), (it.at, it.loss)], "ink", key="gauge")
        words = f"yours: {it.above:.3f} nats"
        if not paper.narrow:
            words += f" ({more_loss(it.share)}) above the minimum"
        paper.text(paper.width - 4, plot.top - 10, words, anchor="end", bold=True)
    plot.mark("diamond", (it.at, it.loss), "chosen", size=8, key="dot")


def draw_legend(plot: Plot, curves: Sequence[Curve]) -> None:
    """What the signs mean."""
    stored = {"fill": "paper", "stroke": "soft"}
    signs = [
        ("circle", "soft", "run", {"stroke": "soft"}),
        ("square", "soft", "stored run", stored),
        ("cross", "good", "minimum of a parabola"),
        ("diamond", "chosen", "yours"),
        ("line", "sixth", "at most 1% above the minimum", FLAT_STYLE),
    ]
    if not any(run[3] for curve in curves for run in curve.runs):
        del signs[1]
    legend(plot.paper, 4 if plot.paper.narrow else plot.left, plot.low + 70, signs)


class IsoFlopExplorer(View):
    """Move the size of a model at constant compute; see what it costs.

    runs: finished runs, of two budgets or more together with `stored`; four or more a budget.
    stored: runs from a file, drawn with a mark of their own.
    """

    budget = Slider(lambda view, values: list(view.curves), "budget", text=named)
    stop = Slider(lambda view, values: view.sizes[values["budget"]], "size", start=48)
    axis = Choice(AXES, "axis")

    def __init__(
        self,
        runs: Sequence[Run],
        *,
        stored: Sequence[Run] = (),
        budget: float | None = None,
        stop: int = 48,
        axis: str = "parameters",
    ) -> None:
        self.curves = {curve.budget: curve for curve in curves_of(runs, stored)}
        self.sizes = {
            curve.budget: {
                i: f"{amount(dot(curve, 'parameters', i).parameters)} parameters"
                for i in range(STOPS + 1)
            }
            for curve in self.curves.values()
        }
        if budget is None:  # runs of a curve may differ from its budget by a rounding
            largest = max(run.budget for run in runs or stored)
            budget = min(self.curves, key=lambda known: abs(known - largest))
        super().__init__(budget=budget, stop=stop, axis=axis)

    def scene(self, paper: Paper, *, budget: float, stop: int, axis: str) -> Scene:
        curves, chosen = list(self.curves.values()), self.curves[budget]
        plot = axes(paper, curves, axis)
        for curve in sorted(curves, key=lambda one: one is chosen):
            draw_curve(plot, curve, axis, curve is chosen)
        it = dot(chosen, axis, stop)
        draw_gauge(plot, chosen, axis, it)
        draw_legend(plot, curves)
        return Scene(
            title=headline(chosen, axis, stop),
            notes=notes(chosen, axis, stop),
            table=table_rows(curves, chosen, axis, stop),
            facts={"size": it.parameters, "loss": it.loss},
        )

    @property
    def curve(self) -> Curve:
        """The chosen budget's curve."""
        return self.curves[self.budget]

    def dot(self) -> Dot:
        """The model that the picture shows."""
        return dot(self.curve, self.axis, self.stop)
