"""The static picture of the two-step prediction: both steps side by side, as in Figure 4."""

import math
from collections.abc import Callable, Sequence
from textwrap import wrap

import numpy as np

from llama3lib.scaling import Sigmoid
from widgets.ch03.views.twosteps_fits import chosen, nll_at
from widgets.core.drawing import BLUE, INK, ORANGE, PAPER, SKY, SOFT, Drawing

LEFT = {"x": 70, "y": 94, "width": 400, "height": 280}
RIGHT = {"x": 566, "y": 94, "width": 414, "height": 280}
LOW = LEFT["y"] + LEFT["height"]
STEPS = ("Step 1: FLOPs → loss per character", "Step 2: loss per character → accuracy")
Spot = Callable[[float, float], tuple[float, float]]


def spots(facts: dict, form: str) -> tuple[Spot, Spot]:
    """Where FLOPs and loss stand on the left, loss and accuracy on the right."""
    flops, nll, accuracy = (facts["spans"][name] for name in ("flops", form, "accuracy"))

    def share(span: Sequence[float], value: float) -> float:
        return (value - span[0]) / (span[1] - span[0])

    def left(at: float, loss: float) -> tuple[float, float]:
        across = math.log(at / flops[0]) / math.log(flops[1] / flops[0])
        return (
            LEFT["x"] + LEFT["width"] * across,
            LEFT["y"] + LEFT["height"] * (1 - share(nll, loss)),
        )

    def right(loss: float, part: float) -> tuple[float, float]:
        up = RIGHT["y"] + RIGHT["height"] * (1 - share(accuracy, part))
        return RIGHT["x"] + RIGHT["width"] * share(nll, loss), up

    return left, right


def draw_two_steps(
    facts: dict, entry: dict, models: str, form: str, *, title: str, told: Sequence[str]
) -> str:
    """The picture as SVG. told: lines below it."""
    lines = [part for line in told for part in wrap(line, 140)]
    picture = Drawing(1000, 478 + 21 * len(lines), title=title, description=" ".join(told))
    picture.text(20, 34, title, size=min(20, 1420 / len(title)), font_weight=600)
    for key, box in (("left", LEFT), ("right", RIGHT)):
        picture.begin("clipPath", id=f"twosteps-{key}")
        picture.rect(**box)
        picture.end("clipPath")
    _draw_axes(picture, facts, entry, form)
    _draw_curves(picture, facts, entry, models, form)
    _draw_points(picture, facts, entry, models, form)
    _draw_prediction(picture, facts, entry, models, form)
    _draw_key(picture, bool(facts["held"]))
    for place, line in enumerate(lines):
        picture.text(20, 478 + 21 * place, line, fill=SOFT, size=13)
    return picture.svg()


def _draw_axes(picture: Drawing, facts: dict, entry: dict, form: str) -> None:
    left, right = spots(facts, form)
    for box, title, across, up in (
        (LEFT, STEPS[0], "training FLOPs", "nats a character"),
        (RIGHT, STEPS[1], "nats a character", "accuracy"),
    ):
        picture.text(box["x"], box["y"] - 28, title, size=15, font_weight=600)
        picture.text(box["x"] - 50, box["y"] - 8, up, fill=SOFT, size=13)
        middle = box["x"] + box["width"] / 2
        picture.text(middle, LOW + 42, across, anchor="middle", fill=SOFT)
    low, high = facts["spans"][form]
    line = left(entry["limit"], 0)[0] + 8  # just beyond the points
    near = line < LEFT["x"] + 136  # too near the edge for words to stand left of the line
    if low < 0:
        shade = {"fill": "#d9dee3", "fill_opacity": 0.55}
        y, x = left(entry["limit"], 0)[1], right(0, 1)[0]
        picture.rect(LEFT["x"], y, LEFT["width"], LOW - y, **shade)
        picture.rect(RIGHT["x"], RIGHT["y"], x - RIGHT["x"], RIGHT["height"], **shade)
        at = line + 6 if near else LEFT["x"] + 8
        picture.text(at, LOW - 10, "no loss is below 0", fill=SOFT)
    for power in range(*(math.ceil(math.log10(v)) for v in facts["spans"]["flops"])):
        x = left(10.0**power, 0)[0]
        picture.line(x, LEFT["y"], x, LOW)
        picture.text(x, LOW + 20, f"1e{power}", anchor="middle", fill=SOFT)
    for fifth in range(math.ceil(5 * low), math.floor(5 * high) + 1):
        y, x = left(entry["limit"], fifth / 5)[1], right(fifth / 5, 1)[0]
        picture.line(LEFT["x"], y, LEFT["x"] + LEFT["width"], y)
        picture.text(LEFT["x"] - 8, y + 5, f"{fifth / 5:.1f}", anchor="end", fill=SOFT)
        picture.line(x, RIGHT["y"], x, LOW)
        picture.text(x, LOW + 20, f"{fifth / 5:.1f}", anchor="middle", fill=SOFT)
    for tenth in range(math.ceil(10 * facts["spans"]["accuracy"][0]), 11):
        y = right(0, tenth / 10)[1]
        picture.line(RIGHT["x"], y, RIGHT["x"] + RIGHT["width"], y)
        picture.text(RIGHT["x"] - 8, y + 5, f"{10 * tenth}%", anchor="end", fill=SOFT)
    picture.line(line, LEFT["y"], line, LOW, stroke=SOFT, stroke_dasharray="3 4")
    at, anchor = (line + 6, "start") if near else (line - 6, "end")
    picture.text(at, LEFT["y"] + 16, "seen up to here", anchor=anchor, fill=SOFT, size=13)


def _draw_curves(picture: Drawing, facts: dict, entry: dict, models: str, form: str) -> None:
    left, right = spots(facts, form)
    first, second = entry["first"][form], entry["second"][models]

    def line(key: str, points: list, **style: object) -> None:
        style |= {"fill": "none", "clip_path": f"url(#twosteps-{key})"}
        picture.shape("polyline", points=_pairs(points), **style)

    def band(key: str, rows: list, spot: Spot) -> None:
        if rows:
            edge = [spot(x, low) for x, low, _ in rows]
            edge += [spot(x, high) for x, _, high in reversed(rows)]
            style = {"fill": SKY, "fill_opacity": 0.35, "clip_path": f"url(#twosteps-{key})"}
            picture.shape("polygon", points=_pairs(edge), **style)

    if "trouble" not in first:
        band("left", first["band"], left)
        grid = np.geomspace(*facts["spans"]["flops"], 60).tolist()
        points = [left(x, nll_at(first, form, x)) for x in grid]
        line("left", points, stroke=BLUE, stroke_width=2.2)
    if "trouble" not in second:
        band("right", second["band"], right)
        grid = np.linspace(*facts["spans"][form], 80).tolist()
        for way in second["tops"][:: max(len(second["tops"]) - 1, 1)]:
            points = [right(x, Sigmoid(*way).predict(x)) for x in grid]
            line("right", points, stroke=INK, stroke_width=1.6, stroke_dasharray="2 5")
        points = [right(x, Sigmoid(*second["sigmoid"]).predict(x)) for x in grid]
        line("right", points, stroke=BLUE, stroke_width=2.2)


def _draw_points(picture: Drawing, facts: dict, entry: dict, models: str, form: str) -> None:
    left, right = spots(facts, form)
    mine = {id(run) for run in chosen(facts["runs"], entry["limit"], models)}
    for run in facts["runs"]:
        _dot(picture, right(run["nll"], run["accuracy"]), id(run) in mine, 3.8)
        if run["best"]:
            spot = left(run["flops"], run["nll"])
            _dot(picture, spot, run["budget"] <= entry["limit"], 5)


def _dot(picture: Drawing, spot: tuple[float, float], seen: bool, size: float) -> None:
    style = {"fill": BLUE, "stroke": PAPER} if seen else {"fill": PAPER, "stroke": SOFT}
    picture.mark("circle", *spot, size, **style)


def _draw_prediction(picture: Drawing, facts: dict, entry: dict, models: str, form: str) -> None:
    left, right = spots(facts, form)
    first, told = entry["first"][form], entry["told"].get(models, {}).get(form)
    bars = []
    if "trouble" not in first:
        nll, *ends = first["nll"]
        bars.append((left(facts["target"], nll), [left(facts["target"], e) for e in _known(ends)]))
    if told is not None:
        score, *ups = told["accuracy"]
        bars.append((right(nll, score), [right(e, score) for e in _known(ends)]))
        bars.append((right(nll, score), [right(nll, e) for e in _known(ups)]))
        if told["by_top"]:
            points = _pairs([right(nll, e) for e in told["by_top"]])
            style = {"stroke": ORANGE, "stroke_width": 2, "stroke_dasharray": "2 4"}
            picture.shape("polyline", points=points, fill="none", **style)
    for _, ends in bars:
        if ends:
            style = {"stroke": ORANGE, "stroke_width": 3, "fill": "none"}
            picture.shape("polyline", points=_pairs(ends), **style)
    for spot, _ in bars[:2]:
        picture.mark("diamond", *spot, 7, fill=ORANGE, stroke=INK)
    for run in facts["held"]:
        for spot in (left(run["flops"], run["nll"]), right(run["nll"], run["accuracy"])):
            picture.mark("square", *spot, 5, fill=INK, stroke=PAPER)


def _known(ends: Sequence[float | None]) -> list[float]:
    return [] if None in ends else list(ends)


def _draw_key(picture: Drawing, held: bool) -> None:
    y = LOW + 74
    items = [(70, "● seen", BLUE), (140, "○ taken away", SOFT)]
    items.append((256, "◆ predicted, with its interval", "#a56f00"))  # orange, dark enough to read
    if held:
        items.append((474, "■ measured, in no fit", INK))
    items.append((636, "····· lowest and highest top that fit as well", INK))
    for x, words, colour in items:
        picture.text(x, y, words, fill=colour)


def _pairs(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
