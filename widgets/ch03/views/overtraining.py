"""Train once, serve many: what a loss costs with models of all sizes (ours, next to section 3.2.1).

A small model needs more tokens to reach the same loss, and then costs less with each token served.
Costs are those of `llama3lib.scaling.serving`; the law is not the paper's, and far from its runs.
"""

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from llama3lib.paper.scaling import SIX_ND
from llama3lib.scaling import (
    REPLICATION,
    Life,
    ParametricLaw,
    break_even,
    cheapest,
    life,
    tokens_for,
)
from widgets.view import Choice, Log, Paper, Plot, Scene, Slider, View
from widgets.view.legend import legend
from widgets.view.words import scientific, significant
from widgets.view.words import with_letter as short

MODELS = {name: SIX_ND.rows[name][:2] for name in ("8B", "70B", "405B")}
"""Parameters and training tokens of the paper's models."""
SERVED = (0.0, *(digit * 10.0**power for power in range(9, 16) for digit in (1, 3)), 1e16)
COSTS = {
    "training": ("second", {"dash": "9 5"}),
    "serving": ("third", {"dash": "2 5", "width": 2.4}),
    "total": ("main", {"width": 2.6}),
}
"""Costs of a life: role and style of their lines."""
LINES = {"training": "training", "serving": "serving", "total": "in all"}
SIGNS = {
    "cheapest to train": ("circle", "paper"),
    "cheapest": ("diamond", "fourth"),
    "yours": ("triangle", "fifth"),
}
SOURCE = (
    "Chinchilla's formula, refitted by Besiroglu and others 2024; not the Llama 3 paper's. Its "
    "runs had about 16B parameters and 500B tokens at most: most of this is extrapolated."
)


def power(value: float) -> str:
    """Two digits and a power of ten: 0, 3e9, 1.3e23."""
    return scientific(value, 2)


def at_size(law: ParametricLaw, parameters: float, loss: float, served: float) -> Life | None:
    """A model of this size that reaches the loss; None if no number of tokens gets it there."""
    tokens = tokens_for(law, parameters, loss)
    return life(parameters, tokens, served) if math.isfinite(tokens) else None


def least_size(law: ParametricLaw, loss: float) -> float:
    """Parameters of a model that would need endless tokens to reach the loss."""
    return math.exp((math.log(law.A) - math.log(loss - law.E)) / law.alpha)


def cheapest_when(law: ParametricLaw, parameters: float, loss: float) -> float | None:
    """Tokens served with which no other size is cheaper.

    None if another size is, whatever is served: this one never gets there, or is larger than the
    cheapest to train. From the minimum of 6·N·D + 2·N·served, where its slope over N is 0.
    """
    size = math.exp(math.log(law.A) - law.alpha * math.log(parameters))
    room = loss - law.E - size
    if room <= 0:
        return None
    steep = law.alpha * size / (law.beta * room)  # how fast tokens fall with size, in logs
    served = 3 * tokens_for(law, parameters, loss) * (steep - 1)
    return served if served >= 0 else None


def headline(law: ParametricLaw, loss: float, served: float) -> str:
    """The title: the cheapest size, against the one that is cheapest to train."""
    best, first = cheapest(law, loss, served), cheapest(law, loss, 0)
    size = f"{short(best.parameters)} parameters cost least"
    if served == 0:
        return f"With no token served {size}: the cheapest to train"
    much = first.parameters / best.parameters
    less = f"{significant(much, 2)} times fewer than" if much >= 1.05 else "about as many as"
    return f"With {power(served)} tokens served {size}: {less} without serving"


def notes(law: ParametricLaw, loss: float, served: float, size: float, source: str) -> list[str]:
    """The numbers of the best model, the one that is cheapest to train, and the reader's own."""
    best, first = cheapest(law, loss, served), cheapest(law, loss, 0)
    first, own = life(first.parameters, first.tokens, served), at_size(law, size, loss, served)
    told = [f"Cheapest: {words(best)}.", f"Cheapest to train, Chinchilla's optimum: {words(first)}"]
    told[1] += f"; {significant(first.total / best.total)} times the cheapest." if served else "."
    if own is None:
        told.append(f"Yours: {short(size)} is too small; no number of tokens brings this loss.")
        return [*told, source]
    line = f"Yours: {words(own)}; {significant(own.total / best.total)} times the cheapest."
    if (when := cheapest_when(law, size, loss)) is None:
        line += " Larger than the cheapest to train: some smaller size always costs less."
    else:
        line += f" Cheaper than Chinchilla's optimum once {power(break_even(own, first))} tokens"
        line += f" are served; cheapest of all sizes at {power(when)}."
    return [*told, line, source]


def each(it: Life) -> str:
    """Tokens for each parameter."""
    return significant(it.tokens / it.parameters)


def words(it: Life) -> str:
    """A model, its tokens and its costs in one line."""
    read = f"{short(it.tokens)} tokens ({each(it)} a parameter)"
    costs = f"training {power(it.training)} + serving {power(it.serving)}"
    return f"{short(it.parameters)} on {read}; {costs} = {power(it.total)} FLOPs"


def table_rows(
    law: ParametricLaw, loss: float, served: float, models: Mapping[str, float]
) -> list[dict[str, str]]:
    """The cheapest, the cheapest to train, and the named sizes, for one loss."""
    best, first = cheapest(law, loss, served), cheapest(law, loss, 0)
    shown = {"cheapest": best.parameters, "cheapest to train": first.parameters} | dict(models)
    rows = []
    for name, size in shown.items():
        it = at_size(law, size, loss, served)
        row = {"model": name, "parameters": short(size)}
        told = ["never gets there", "-", "-", "-", "-", "-"]
        if it is not None:
            told = [short(it.tokens), each(it)]
            told += [power(cost) for cost in (it.training, it.serving, it.total)]
            told.append(significant(it.total / best.total))
        names = ("tokens", "tokens a parameter", "training FLOPs", "serving FLOPs", "all FLOPs")
        rows.append(row | dict(zip((*names, "times the cheapest"), told, strict=True)))
    return rows


def ends(
    law: ParametricLaw, losses: Sequence[float], sizes: Sequence[float]
) -> tuple[tuple[float, float], list[tuple[float, float]]]:
    """Ends of the axes: of the size for all losses, of the cost for each."""
    least = min(least_size(law, loss) for loss in losses)
    trained = [cheapest(law, loss, 0) for loss in losses]
    most = [cheapest(law, loss, SERVED[-1]).total for loss in losses]
    low, high = min(0.7 * least, 0.6 * min(sizes)), max(it.parameters for it in trained)
    costs = [(it.total / 8, 15 * top) for it, top in zip(trained, most, strict=True)]
    return (low, max(3 * high, 2 * max(sizes))), costs


def steps_between(low: float, high: float, named: Collection[float]) -> list[float]:
    """Sizes for the slider: two digits each, twelve to a power of ten, and the named ones."""
    number = round(12 * math.log10(high / low)) + 1
    even = {float(f"{size:.1e}") for size in np.geomspace(low, high, number)}
    return sorted({*named} | {s for s in even if all(abs(s / n - 1) > 0.06 for n in named)})


def marks(low: float, high: float) -> list[float]:
    """1 and 3 of each power of ten."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)))
    return [size for p in powers for digit in (1, 3) if low <= (size := digit * 10.0**p) <= high]


def draw_costs(plot: Plot, law: ParametricLaw, loss: float, served: float) -> None:
    """Training, serving and both over the size, and the wall that no tokens get across."""
    paper, least = plot.paper, least_size(law, loss)
    wall = plot.at_x(least)
    paper.rect(plot.left, plot.top, wall - plot.left, plot.height, "tint", key="wall")
    turn = {"transform": f"rotate(-90 {plot.left + 16:.1f} {plot.low - 12:.1f})"}
    paper.text(plot.left + 16, plot.low - 12, "too small for this loss", "soft", **turn)
    # close points near the wall, where the costs soar
    grid = least * np.exp(np.geomspace(1e-4, math.log(plot.x.high / least), 80))
    lives = [life(size, tokens_for(law, size, loss), served) for size in grid.tolist()]
    for name, (role, style) in COSTS.items():
        points = [(it.parameters, max(getattr(it, name), 1.0)) for it in lives]
        plot.line(points, role, key=name, **style)


def draw_named(plot: Plot, name: str, parameters: float, it: Life | None) -> None:
    """A size with a name: what it needs, above the frame, and its place on the curve."""
    paper, x, told = plot.paper, plot.at_x(parameters), ["never gets there"]
    if it is not None:
        told = [f"needs {short(it.tokens)} tokens", f"{each(it)} a parameter"]
        if paper.narrow:
            told = [f"{short(it.tokens)} tokens"]
    paper.text(x, 40, name, size=15, anchor="middle", bold=True)
    for i, line in enumerate(told):
        paper.text(x, 58 + 17 * i, line, "soft", size=13, anchor="middle")
    y = plot.low if it is None else plot.at_y(min(it.total, plot.y.high))
    paper.line(x, 44 + 17 * len(told) + 6, x, y, "soft", dash="3 4", key=f"lead {name}")
    if it is not None:
        tip = f"{name}: {words(it)}"
        style = {"size": 5.5, "stroke": "paper", "key": name, "put": ("size", parameters)}
        paper.mark("square", x, y, "ink", tip=tip, **style)


class OvertrainingCost(View):
    """Choose a loss and how much the model will be used; see which size costs least in all.

    law: by default Chinchilla's formula, refitted. models: parameters and training tokens under a
    name; each gives a loss to reach and a size to compare. target: one of these names. served:
    tokens read or written in the model's life, one of SERVED. size: parameters of a model of your
    own, one of `steps`. source: what to say of the law.

    Raises ValueError for no models, or sizes that `llama3lib.scaling.life` refuses.
    """

    served = Slider(SERVED, "tokens served", start=1e13, text=power)
    target = Choice(lambda view, values: view.targets, "to reach")
    size = Slider(lambda view, values: view.steps, "your size", text=short, recorded=18)

    def __init__(
        self,
        law: ParametricLaw = REPLICATION,
        *,
        models: Mapping[str, tuple[float, float]] = MODELS,
        target: str | None = None,
        served: float = 1e13,
        size: float | None = None,
        source: str | None = None,
    ) -> None:
        if not models:
            raise ValueError("models={} is not allowed: at least one")
        self.law = law
        self.losses = {name: law.predict(*model) for name, model in models.items()}
        self.models = {name: parameters for name, (parameters, _) in models.items()}
        self.targets = {
            name: f"{self.losses[name]:.3f}, the loss of {name} on {short(tokens)}"
            for name, (_, tokens) in models.items()
        }
        sizes = list(self.models.values())
        self.sizes, costs = ends(law, list(self.losses.values()), sizes)
        self.costs = dict(zip(models, costs, strict=True))
        self.steps = steps_between(*self.sizes, sizes)
        said = SOURCE if law == REPLICATION else "A law of your own; beyond its runs, extrapolated."
        self.source = source or said
        middle = math.exp(sum(map(math.log, sizes[:2])) / min(len(sizes), 2))
        near = min(self.steps, key=lambda step: abs(math.log(step / middle)))
        super().__init__(served=served, target=target, size=near if size is None else size)

    def scene(self, paper: Paper, *, served: float, target: str, size: float) -> Scene:
        law, loss = self.law, self.losses[target]
        goal = self.targets[target].partition(", ")[2]
        paper.text(4, 16, f"FLOPs to reach {goal} tokens, {loss:.3f} nats")
        plot = paper.plot(
            Log(*self.sizes, "parameters", text=short, ticks=marks(*self.sizes)),
            Log(*self.costs[target], text=power),
            left=56,
            top=92,
            height=246,
        )
        draw_costs(plot, law, loss, served)
        for name, parameters in self.models.items():
            draw_named(plot, name, parameters, at_size(law, parameters, loss, served))
        best, own = cheapest(law, loss, served), at_size(law, size, loss, served)
        first = at_size(law, cheapest(law, loss, 0).parameters, loss, served)
        for name, it in (("cheapest to train", first), ("cheapest", best), ("yours", own)):
            if it is not None:  # a cost beyond the picture stands on its edge
                (kind, role), at = SIGNS[name], (it.parameters, min(it.total, plot.y.high))
                plot.mark(kind, at, role, size=8, tip=f"{name}: {words(it)}", key=name)
        lines = [("line", role, LINES[name], style) for name, (role, style) in COSTS.items()]
        signs = [(*SIGNS[name], name) for name in SIGNS]
        named = ("square", "ink", "named sizes")
        legend(paper, 4 if paper.narrow else plot.left, plot.low + 70, [*lines, *signs, named])
        return Scene(
            title=headline(law, loss, served),
            notes=notes(law, loss, served, size, self.source),
            table=table_rows(law, loss, served, self.models | {"your size": size}),
            facts={"best": best.parameters, "own": own.total if own else "none"},
        )

    @property
    def loss(self) -> float:
        """The loss to reach, by the law."""
        return self.losses[self.target]

    def best(self) -> Life:
        """The model that the title names."""
        return cheapest(self.law, self.loss, self.served)
