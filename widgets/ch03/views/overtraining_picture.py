"""The static picture of what a loss costs with models of all sizes."""

import math
from collections.abc import Callable, Sequence
from textwrap import wrap

import numpy as np

from llama3lib.scaling import Life, ParametricLaw, cheapest, life, tokens_for
from widgets.core.drawing import BLUE, GREEN, INK, LINE, ORANGE, PAPER, PURPLE, RED, SOFT, Drawing
from widgets.view.words import significant as three

PLOT = {"x": 84, "y": 150, "width": 884, "height": 300}
LOW = PLOT["y"] + PLOT["height"]
UNITS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K"), (1, ""))
Spot = Callable[[float, float], tuple[float, float]]


def short(value: float) -> str:
    """Three digits and a unit: 8.75B, 15T, 523T."""
    size, unit = next(((s, u) for s, u in UNITS if value >= s), (1, ""))
    return f"{three(value / size)}{unit}"


def draw_overtraining(
    law: ParametricLaw,
    facts: dict,
    *,
    target: str,
    served: float,
    size: float,
    title: str,
    told: Sequence[str],
) -> str:
    """The picture as SVG. told: lines below it."""
    goal = facts["targets"][target]
    lines = [part for line in told for part in wrap(line, 138)]
    picture = Drawing(1000, 562 + 21 * len(lines), title=title, description=" ".join(told))
    picture.text(20, 34, title, size=min(20, 1560 / len(title)), font_weight=600)
    picture.text(20, 60, f"FLOPs to reach {goal['words']} tokens, {goal['loss']:.3f} nats", size=15)
    picture.begin("clipPath", id="overtraining-plot")
    picture.rect(**PLOT)
    picture.end("clipPath")
    sizes, costs = facts["ends"]["size"], facts["ends"]["cost"][[*facts["targets"]].index(target)]
    spot = spotter(sizes, costs)
    least = math.exp((math.log(law.A) - math.log(goal["loss"] - law.E)) / law.alpha)
    _draw_axes(picture, sizes, costs, spot, spot(least, costs[0])[0])
    _draw_curves(picture, law, goal["loss"], served, (least, sizes[1]), spot)

    def at(parameters: float) -> Life | None:
        tokens = tokens_for(law, parameters, goal["loss"])
        return life(parameters, tokens, served) if math.isfinite(tokens) else None

    for name, parameters in facts["models"].items():
        _draw_mark(picture, name, at(parameters), spot(parameters, costs[0])[0], spot)
    for tokens, kind, fill in ((0.0, "circle", PAPER), (served, "diamond", RED)):
        it = at(cheapest(law, goal["loss"], tokens).parameters)
        picture.mark(kind, *spot(it.parameters, it.total), 8, fill=fill, stroke=INK)
    if (own := at(size)) is not None:
        _triangle(picture, *_inside(spot(own.parameters, own.total)))
    _draw_key(picture)
    for place, line in enumerate(lines):
        picture.text(20, LOW + 110 + 21 * place, line, fill=SOFT, size=13)
    return picture.svg()


def spotter(sizes: Sequence[float], costs: Sequence[float]) -> Spot:
    """Where parameters and FLOPs stand."""

    def share(span: Sequence[float], value: float) -> float:
        return math.log(value / span[0]) / math.log(span[1] / span[0])

    def spot(parameters: float, cost: float) -> tuple[float, float]:
        across = PLOT["x"] + PLOT["width"] * share(sizes, parameters)
        return across, PLOT["y"] + PLOT["height"] * (1 - share(costs, cost))

    return spot


def _draw_axes(
    picture: Drawing, sizes: Sequence[float], costs: Sequence[float], spot: Spot, wall: float
) -> None:
    shade = {"fill": "#d9dee3", "fill_opacity": 0.55}
    picture.rect(PLOT["x"], PLOT["y"], wall - PLOT["x"], PLOT["height"], **shade)
    for power in range(*(math.ceil(math.log10(cost)) for cost in costs)):
        y = spot(sizes[0], 10.0**power)[1]
        picture.line(PLOT["x"], y, PLOT["x"] + PLOT["width"], y)
        picture.text(PLOT["x"] - 8, y + 5, f"1e{power}", anchor="end", fill=SOFT)
    for power in range(math.floor(math.log10(sizes[0])), math.ceil(math.log10(sizes[1]))):
        for digit in (1, 3):
            value = digit * 10.0**power
            if sizes[0] <= value <= sizes[1]:
                x, (size, unit) = spot(value, costs[0])[0], next(u for u in UNITS if value >= u[0])
                picture.line(x, PLOT["y"], x, LOW)
                picture.text(x, LOW + 20, f"{value / size:g}{unit}", anchor="middle", fill=SOFT)
    picture.text(PLOT["x"] + PLOT["width"] / 2, LOW + 44, "parameters", anchor="middle")
    picture.text(20, PLOT["y"] - 8, "FLOPs", fill=SOFT)
    turn = {"transform": f"rotate(-90 {wall - 8:.1f} {LOW - 12})"}
    picture.text(wall - 8, LOW - 12, "too small for this loss", fill=SOFT, **turn)
    picture.shape("rect", **PLOT, fill="none", stroke=LINE)


def _draw_curves(
    picture: Drawing,
    law: ParametricLaw,
    loss: float,
    served: float,
    sizes: tuple[float, float],
    spot: Spot,
) -> None:
    # close points near the wall, where the costs soar
    grid = sizes[0] * np.exp(np.geomspace(1e-4, math.log(sizes[1] / sizes[0]), 160))
    lives = [life(size, tokens_for(law, size, loss), served) for size in grid.tolist()]
    kinds = [("training", ORANGE, "9 5", 2.2), ("serving", GREEN, "2 5", 2.4)]
    for name, colour, dashes, width in [*kinds, ("total", BLUE, None, 2.6)]:
        costs = [(it.parameters, max(getattr(it, name), 1.0)) for it in lives]
        points = " ".join("{:.1f},{:.1f}".format(*spot(*pair)) for pair in costs)
        style = {"stroke": colour, "stroke_width": width, "stroke_dasharray": dashes}
        clip = {"fill": "none", "clip_path": "url(#overtraining-plot)"}
        picture.shape("polyline", points=points, **style, **clip)


def _draw_mark(picture: Drawing, name: str, it: Life | None, x: float, spot: Spot) -> None:
    told = ["never gets there"]
    y = LOW
    if it is not None:
        y = _inside(spot(it.parameters, it.total))[1]
        told = [
            f"needs {short(it.tokens)} tokens",
            f"{three(it.tokens / it.parameters)} a parameter",
        ]
    picture.text(x, PLOT["y"] - 52, name, anchor="middle", font_weight=600, size=15)
    for place, line in enumerate(told):
        at = PLOT["y"] - 34 + 17 * place
        picture.text(x, at, line, anchor="middle", size=13, fill=SOFT)
    picture.line(x, PLOT["y"] - 12, x, y, stroke=SOFT, stroke_dasharray="3 4")
    if it is not None:
        picture.mark("square", x, y, 5.5, fill=INK, stroke=PAPER)


def _inside(place: tuple[float, float]) -> tuple[float, float]:
    """A cost beyond the picture stands on its edge."""
    return place[0], max(place[1], PLOT["y"])


def _triangle(picture: Drawing, x: float, y: float) -> None:
    picture.shape("path", d=f"M{x:.1f} {y - 10:.1f}l9 16h-18z", fill=PURPLE, stroke=INK)


def _draw_key(picture: Drawing) -> None:
    y = LOW + 71
    for x, words, colour, dashes in (
        (84, "in all", BLUE, None),
        (184, "training", ORANGE, "9 5"),
        (302, "serving", GREEN, "2 5"),
    ):
        picture.line(x, y, x + 34, y, stroke=colour, stroke_width=2.6, stroke_dasharray=dashes)
        picture.text(x + 42, y + 5, words)
    picture.mark("diamond", 428, y, 7, fill=RED, stroke=INK)
    picture.text(443, y + 5, "cheapest")
    picture.mark("circle", 534, y, 7, fill=PAPER, stroke=INK)
    picture.text(547, y + 5, "cheapest to train")
    picture.mark("square", 696, y, 5.5, fill=INK)
    picture.text(708, y + 5, "named sizes")
    _triangle(picture, 830, y + 2)
    picture.text(846, y + 5, "yours")
