"""Does the mean of checkpoints beat the last one? Losses on a line between two, and of means.

The paper's final model is the mean of checkpoints of the annealing (section 3.4.3). Both lists here
are computed with a loss that is given: one of weights between two checkpoints, one of the mean of
the last k.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from llama3lib.checkpoint import RunningMean
from widgets.view import Choice, Linear, Paper, Plot, Scene, Slider, View
from widgets.view.plot import round_step
from widgets.view.words import significant

SHARES = tuple(i / 20 for i in range(21))
HIGH = 138
"""Of each of the two plots."""

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


def loss_range(one: Mapping[str, Points]) -> tuple[float, float]:
    """The range of a series' losses, the same for both plots, with a margin of a tenth.

    Of that series alone: the others would press its valley flat.
    """
    losses = [loss for part in one.values() for _, loss in part]
    low, high = min(losses), max(losses)
    margin = 0.1 * (high - low) or 0.1
    return low - margin, high + margin


def table_rows(one: Mapping[str, Points]) -> list[dict[str, str]]:
    """Losses on the line, then of the means."""
    line, means = one["line"], one["means"]
    rows = [(f"share {at:.2f} of the way", loss) for at, loss in line]
    rows += [(f"mean of the last {k}", loss) for k, loss in means]
    names = ("weights", "loss", "better than the last")
    cells = [(words, f"{loss:.4f}", f"{means[0][1] - loss:+.4f}") for words, loss in rows]
    return [dict(zip(names, row, strict=True)) for row in cells]


def draw_plot(
    paper: Paper, series: Mapping[str, Mapping[str, Points]], name: str, part: str, top: float
) -> Plot:
    """One part of a series, solid; the others dashed as far as they lie in its range."""
    found = [at for one in series.values() for at, _ in one[part]]
    first, last = min(found), max(found)
    low, high = loss_range(series[name])
    step = round_step(high - low, 5)
    ticks = [step * i for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
    y = Linear(low, high, text=lambda v: significant(v, 4), ticks=ticks)
    x = Linear(first, last if last > first else first + 1)
    plot = paper.plot(x, y, left=64, top=top, right=18, height=HIGH)
    for other in series:
        if other != name:
            plot.line(series[other][part], "soft", width=1.8, dash="8 5", tip=other)
    plot.line(series[name][part], "main", width=3)
    return plot


def draw_points(plot: Plot, points: Points, control: str, chosen: float, words: str) -> None:
    """Points to choose from, and the chosen one with its loss."""
    for at, loss in points:
        tip = f"{words.format(at)}: {loss:.3f}"
        plot.mark("circle", (at, loss), "main", size=3.5, stroke="none", put=(control, at), tip=tip)
    point = nearest(points, chosen)
    plot.mark("circle", point, "main", size=8, stroke="ink", stroke_width=2, key=control)
    (x, y), words = plot.at(*point), f"{point[1]:.3f}"
    left = x > plot.right - 80
    plot.paper.text(x + (-12 if left else 12), y - 10, words, anchor="end" if left else "start",
                    bold=True, halo=True)  # fmt: skip


class AveragingLine(View):
    """The loss between two checkpoints, and of the mean of the last k; choose point, k and series.

    points: for each series, by name, {"line": from `losses_on_line`, "means": from
    `losses_of_means`}.
    """

    series = Choice(lambda view, values: list(view.points), "series")
    share = Slider(
        lambda view, values: [at for at, _ in view.points[values["series"]]["line"]],
        "share of the way",
        start=0.5,
        text="{:.2f}".format,
    )
    k = Slider(
        lambda view, values: [k for k, _ in view.points[values["series"]]["means"]],
        "checkpoints averaged",
    )

    def __init__(self, points: Mapping[str, Mapping[str, Sequence[Sequence[float]]]]) -> None:
        if not points:
            raise ValueError("points is not allowed to be empty: one series or more, by name")
        self.points = {str(name): _checked(name, one) for name, one in points.items()}
        super().__init__(k=next(iter(self.points.values()))["means"][-1][0])

    def scene(self, paper: Paper, *, series: str, share: float, k: int) -> Scene:
        line, means = self.points[series]["line"], self.points[series]["means"]
        paper.text(4, 14, "loss in nats, by share of the way between two checkpoints", "soft")
        plot = draw_plot(paper, self.points, series, "line", 28)
        for end in (line[0], line[-1]):
            plot.mark("square", end, "main", stroke="none")
        draw_points(plot, line, "share", share, "{:.2f} of the way")
        words = "loss in nats, by how many of the last checkpoints are averaged"
        paper.text(4, plot.low + 50, words, "soft")
        plot = draw_plot(paper, self.points, series, "means", plot.low + 64)
        plot.line([(plot.x.low, means[0][1]), (plot.x.high, means[0][1])], "bad", dash="3 4")
        draw_points(plot, means, "k", k, "mean of the last {}")
        others = [name for name in self.points if name != series]
        words = f"solid: {series}" + (
            f" · dashed: {', '.join(others)}, where in range" if others else ""
        )
        words += f" · dotted: the last one alone, {means[0][1]:.3f}"
        paper.wrapped(4, plot.low + 46, words)
        title, words = headline(series, means, k), f"On the line, {line_words(line, share)}."
        return Scene(
            title=title,
            notes=[words],
            table=table_rows(self.points[series]),
            say=f"{title}. {words}",
            facts={
                "gain": f"{means[0][1] - nearest(means, k)[1]:.6f}",
                "loss": f"{nearest(line, share)[1]:.6f}",
            },
        )

    def gain(self) -> float:
        """By how many nats the mean of k checkpoints is better than the last one alone."""
        means = self.points[self.series]["means"]
        return means[0][1] - nearest(means, self.k)[1]


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
