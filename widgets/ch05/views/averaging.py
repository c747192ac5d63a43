"""Does the mean of checkpoints beat the last one? Losses on a line between two, and of means.

The paper's final model is the mean of checkpoints of the annealing (section 3.4.3). Both lists here
are computed with a loss that is given: one of weights between two checkpoints, one of the mean of
the last k.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import torch
import traitlets
from torch import Tensor

from llama3lib.checkpoint import RunningMean
from widgets.core.drawing import BLUE, INK, LINE, RED, SOFT, Drawing
from widgets.core.widget import CourseWidget, css, esm

SHARES = tuple(i / 20 for i in range(21))
UPPER = {"x": 92, "y": 84, "width": 880, "height": 150}
LOWER = {"x": 92, "y": 306, "width": 880, "height": 150}

Weights = Mapping[str, Tensor]
Points = list[tuple[float, float]]


@torch.no_grad()
def losses_on_line(
    weights_a: Weights,
    weights_b: Weights,
    loss_of: Callable[[dict[str, Tensor]], float],
    shares: Sequence[float] = SHARES,
) -> Points:
    """Losses of the weights (1 - share) of a + share of b, by share.

    Raises ValueError if names or shapes differ, a tensor is not floating-point, or shares do not
    rise within 0 to 1.
    """
    if len(shares) < 2 or not all(x < y for x, y in pairwise(shares)):
        raise ValueError(f"shares={tuple(shares)!r} is not allowed: two or more, rising")
    if not (0 <= shares[0] and shares[-1] <= 1):
        raise ValueError(f"shares={tuple(shares)!r} is not allowed: within 0 to 1")
    wide = []
    for name, weights in (("weights_a", weights_a), ("weights_b", weights_b)):
        try:
            mean = RunningMean(weights_a)  # checks, and float32 or better
            mean.update(weights)
        except ValueError as error:
            raise ValueError(f"{name} is not allowed: {error}") from None
        wide.append(mean.mean())
    a, b = wide
    return [
        (float(t), float(loss_of(_like(weights_a, {n: (1 - t) * a[n] + t * b[n] for n in a}))))
        for t in shares
    ]


@torch.no_grad()
def losses_of_means(
    weights: Sequence[Weights], loss_of: Callable[[dict[str, Tensor]], float]
) -> list[tuple[int, float]]:
    """Losses of the mean of the last k checkpoints, by k from 1 on; the newest one stands last.

    Raises ValueError if there is none, names or shapes differ, or a tensor is not floating-point.
    """
    if not weights:
        raise ValueError("weights is not allowed to be empty: one checkpoint or more")
    mean, found = RunningMean(), []
    for checkpoint in reversed(weights):
        mean.update(checkpoint)
        found.append((mean.count, float(loss_of(_like(checkpoint, mean.mean())))))
    return found


def _like(weights: Weights, wide: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.to(weights[name].dtype) for name, tensor in wide.items()}


def nearest(points: Sequence[Sequence[float]], value: float) -> Sequence[float]:
    """The point whose first number is nearest; the first one of two."""
    return min(points, key=lambda point: abs(point[0] - value))


def nats(value: float) -> str:
    """Two decimals, or three if it is small."""
    return f"{value:.2f}" if value >= 0.01 else f"{value:.3f}"


def headline(name: str, means: Sequence[Sequence[float]], k: float) -> str:
    """The title: what to see."""
    count, loss = nearest(means, k)
    gain = means[0][1] - loss
    if count == 1:
        return f"{name}: the last checkpoint alone has a loss of {loss:.2f} nats"
    mean = f"the mean of {count:.0f} checkpoints is"
    if abs(gain) < 0.0005:
        return f"{name}: no gain, {mean} as good as the last one alone"
    better = f"{nats(abs(gain))} nats {'better' if gain > 0 else 'worse'} than the last one alone"
    return f"{name}: {mean} {better}" if gain > 0 else f"{name}: no gain, {mean} {better}"


def line_words(line: Sequence[Sequence[float]], share: float) -> str:
    """What the chosen point of the line says."""
    at, loss = nearest(line, share)
    lower = min(line[0][1], line[-1][1])
    side = "below" if loss < lower else "above" if loss > lower else "level with"
    how = f"{nats(abs(loss - lower))} nats {side}" if loss != lower else side
    return f"at {at:.2f} of the way the loss is {loss:.3f}, {how} the better end"


def loss_range(series: Mapping[str, Mapping[str, Points]]) -> tuple[float, float]:
    """One range of losses for all plots, with a margin of a tenth."""
    losses = [p[1] for one in series.values() for part in one.values() for p in part]
    low, high = min(losses), max(losses)
    margin = 0.1 * (high - low) or 0.1
    return low - margin, high + margin


def loss_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round losses within a range."""
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(power * m for m in (1, 2, 5, 10) if (high - low) / (power * m) <= most)
    return [step * i for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


class _Plot:
    """One of the two plots: where a point of any series stands."""

    def __init__(self, box: dict, series: Mapping[str, Mapping[str, Points]], part: str) -> None:
        self.ends = loss_range(series)
        self.x, self.y, self.width, self.height = (box[n] for n in ("x", "y", "width", "height"))
        found = [at for one in series.values() for at, _ in one[part]]
        self.first, self.last = min(found), max(found)

    def at(self, point: Sequence[float]) -> tuple[float, float]:
        along = (point[0] - self.first) / ((self.last - self.first) or 1)
        up = (point[1] - self.ends[0]) / (self.ends[1] - self.ends[0])
        return self.x + self.width * along, self.y + self.height * (1 - up)

    def frame(self, picture: Drawing, words: str, marks: Sequence[float]) -> None:
        picture.text(20, self.y - 16, words, fill=SOFT)
        for loss in loss_ticks(*self.ends):
            high = self.at((self.first, loss))[1]
            picture.line(self.x, high, self.x + self.width, high, stroke=LINE)
            picture.text(self.x - 10, high + 5, f"{loss:.4g}", anchor="end", fill=SOFT)
        for mark in marks:
            here = self.at((mark, 0))[0], self.y + self.height + 22
            picture.text(*here, f"{mark:g}", anchor="middle", fill=SOFT)

    def curve(self, picture: Drawing, points: Points, *, chosen: bool = True) -> None:
        spots = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(self.at, points))
        other = {"stroke": SOFT, "stroke_width": 1.8, "stroke_dasharray": "8 5"}
        style = {"stroke": BLUE, "stroke_width": 3} if chosen else other
        picture.shape("polyline", points=spots, fill="none", **style)

    def chosen(self, picture: Drawing, point: Sequence[float]) -> None:
        x, y = self.at(point)
        left = x > self.x + self.width - 80
        picture.mark("circle", x, y, 8, fill=BLUE, stroke=INK, stroke_width=2)
        halo = {"stroke": "#ffffff", "stroke_width": 4, "paint_order": "stroke"}
        halo |= {"anchor": "end" if left else "start", "font_weight": 600}
        picture.text(x + (-13 if left else 13), y - 11, f"{point[1]:.3f}", size=16, **halo)


def draw_averaging(
    series: Mapping[str, Mapping[str, Points]], name: str, share: float, k: int
) -> str:
    """The static picture, as SVG."""
    line, means = series[name]["line"], series[name]["means"]
    title, others = headline(name, means, k), [other for other in series if other != name]
    words = f"{line_words(line, share)}. " + "; ".join(f"mean of {n}: {x:.3f}" for n, x in means)
    picture = Drawing(1000, 500, title=title, description=words)
    picture.text(20, 34, title, size=min(22, 1700 / len(title)), font_weight=600)
    upper, lower = _Plot(UPPER, series, "line"), _Plot(LOWER, series, "means")
    upper.frame(picture, "loss in nats, by share of the way between two checkpoints", (0, 0.5, 1))
    marks = [at for at, _ in means]
    lower.frame(picture, "loss in nats, by how many of the last checkpoints are averaged", marks)
    for other in others:
        upper.curve(picture, series[other]["line"], chosen=False)
        lower.curve(picture, series[other]["means"], chosen=False)
    upper.curve(picture, line)
    for end in (line[0], line[-1]):
        picture.mark("square", *upper.at(end), 6, fill=BLUE)
    alone, right = lower.at(means[0])[1], lower.x + lower.width
    picture.line(lower.x, alone, right, alone, stroke=RED, stroke_width=2, stroke_dasharray="3 4")
    single = f"dotted: the last one alone, {means[0][1]:.3f}"
    picture.text(right, LOWER["y"] - 16, single, anchor="end")
    lower.curve(picture, means)
    for point in means:
        picture.mark("circle", *lower.at(point), 4, fill=BLUE)
    upper.chosen(picture, nearest(line, share))
    lower.chosen(picture, nearest(means, k))
    told = f"solid: {name}" + (f" · dashed: {', '.join(others)}" if others else "")
    picture.text(right, UPPER["y"] - 16, told, anchor="end")
    return picture.svg()


class AveragingLine(CourseWidget):
    """The loss between two checkpoints, and of the mean of the last k; choose point, k and series.

    points: for each series, by name, {"line": from `losses_on_line`, "means": from
    `losses_of_means`}. Works in a saved page.
    """

    _esm = esm("averaging")
    _css = css("averaging")
    series = traitlets.Unicode().tag(sync=True)
    share = traitlets.Float(0.5).tag(sync=True)
    k = traitlets.Int(1).tag(sync=True)
    points = traitlets.Dict().tag(sync=True)

    def __init__(self, points: Mapping[str, Mapping[str, Sequence[Sequence[float]]]]) -> None:
        if not points:
            raise ValueError("points is not allowed to be empty: one series or more, by name")
        super().__init__(points={str(name): _checked(name, one) for name, one in points.items()})
        self.series = next(iter(self.points))
        self.k = self.most()

    def most(self) -> int:
        """The largest k of any series."""
        return max(one["means"][-1][0] for one in self.points.values())

    @traitlets.validate("series")
    def _known_series(self, proposal: dict) -> str:
        if proposal["value"] not in self.points:
            names = ", ".join(self.points)
            raise traitlets.TraitError(
                f"series={proposal['value']!r} is not allowed: one of {names}"
            )
        return proposal["value"]

    @traitlets.validate("share", "k")
    def _in_range(self, proposal: dict) -> float:
        name, value = proposal["trait"].name, proposal["value"]
        low, high = (0, 1) if name == "share" else (1, self.most())
        if not low <= value <= high:
            raise traitlets.TraitError(f"{name}={value!r} is not allowed: {low} to {high}")
        return value

    def gain(self) -> float:
        """By how many nats the mean of k checkpoints is better than the last one alone."""
        means = self.points[self.series]["means"]
        return means[0][1] - nearest(means, self.k)[1]

    def summary(self) -> str:
        return headline(self.series, self.points[self.series]["means"], self.k)

    def table(self) -> list[dict[str, object]]:
        line, means = (self.points[self.series][part] for part in ("line", "means"))
        rows = [(f"share {at:.2f} of the way", loss) for at, loss in line]
        rows += [(f"mean of the last {k}", loss) for k, loss in means]
        names = ("weights", "loss", "better than the last")
        cells = [(words, f"{loss:.4f}", f"{means[0][1] - loss:+.4f}") for words, loss in rows]
        return [dict(zip(names, row, strict=True)) for row in cells]

    def static_svg(self) -> str:
        return draw_averaging(self.points, self.series, self.share, self.k)


def _checked(name: str, one: Mapping[str, Sequence[Sequence[float]]]) -> dict[str, list]:
    """A series with plain lists. Raises ValueError on what cannot be drawn."""
    if not isinstance(one, Mapping) or set(one) != {"line", "means"}:
        raise ValueError(f"points[{name!r}] is not allowed: a dict of 'line' and 'means'")
    plain = {part: [[float(x), float(loss)] for x, loss in points] for part, points in one.items()}
    for part, least in (("line", 2), ("means", 1)):
        rising = all(x[0] < y[0] for x, y in pairwise(plain[part]))
        if len(plain[part]) < least or not rising:
            raise ValueError(f"points[{name!r}][{part!r}] is not allowed: {least} or more, rising")
        if not all(map(math.isfinite, (loss for _, loss in plain[part]))):
            raise ValueError(f"points[{name!r}][{part!r}] is not allowed: a loss is not finite")
    if plain["means"][0][0] != 1:
        raise ValueError(f"points[{name!r}]['means'] is not allowed: the first is of 1 checkpoint")
    plain["means"] = [[int(k), loss] for k, loss in plain["means"]]
    return plain
