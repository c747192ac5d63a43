"""Train once, serve many: what a loss costs with models of all sizes (ours, next to section 3.2.1).

A small model needs more tokens to reach the same loss, and then costs less with each token served.
Costs are those of `llama3lib.scaling.serving`; the law is not the paper's, and far from its runs.
The browser does the arithmetic again so that a saved page still works.
"""

import math
from collections.abc import Mapping

import numpy as np
import traitlets

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
from widgets.ch03.views.overtraining_picture import draw_overtraining, short
from widgets.ch03.views.twosteps import sci
from widgets.core.widget import CourseWidget, css, esm
from widgets.view.words import significant as three

MODELS = {name: SIX_ND.rows[name][:2] for name in ("8B", "70B", "405B")}
"""Parameters and training tokens of the paper's models."""
SERVED = (0.0, *(digit * 10.0**power for power in range(9, 16) for digit in (1, 3)), 1e16)
SOURCE = (
    "Chinchilla's formula, refitted by Besiroglu and others 2024; not the Llama 3 paper's. Its "
    "runs had about 16B parameters and 500B tokens at most: most of this is extrapolated."
)


def power(value: float) -> str:
    """Two digits and a power of ten: 0, 3e9, 1.3e23."""
    return sci(value) if value else "0"


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
    cheapest to train. From the lowest point of 6·N·D + 2·N·served, where its slope over N is 0.
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
    less = f"{three(much, 2)} times fewer than" if much >= 1.05 else "about as many as"
    return f"With {power(served)} tokens served {size}: {less} without serving"


def notes(law: ParametricLaw, loss: float, served: float, size: float, source: str) -> list[str]:
    """The numbers of the best model, the one that is cheapest to train, and the reader's own."""
    best, first = cheapest(law, loss, served), cheapest(law, loss, 0)
    first, own = life(first.parameters, first.tokens, served), at_size(law, size, loss, served)
    told = [f"Cheapest: {words(best)}.", f"Cheapest to train, Chinchilla's optimum: {words(first)}"]
    told[1] += f"; {three(first.total / best.total)} times the cheapest." if served else "."
    if own is None:
        told.append(f"Yours: {short(size)} is too small; no number of tokens brings this loss.")
        return [*told, source]
    line = f"Yours: {words(own)}; {three(own.total / best.total)} times the cheapest."
    if (when := cheapest_when(law, size, loss)) is None:
        line += " Larger than the cheapest to train: some smaller size always costs less."
    else:
        line += f" Cheaper than Chinchilla's optimum once {power(break_even(own, first))} tokens"
        line += f" are served; cheapest of all sizes at {power(when)}."
    return [*told, line, source]


def words(it: Life) -> str:
    """A model, its tokens and its costs in one line."""
    each = f"{short(it.tokens)} tokens ({three(it.tokens / it.parameters)} a parameter)"
    costs = f"training {power(it.training)} + serving {power(it.serving)}"
    return f"{short(it.parameters)} on {each}; {costs} = {power(it.total)} FLOPs"


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
            told = [short(it.tokens), three(it.tokens / it.parameters)]
            told += [power(cost) for cost in (it.training, it.serving, it.total)]
            told.append(three(it.total / best.total))
        names = ("tokens", "tokens a parameter", "training FLOPs", "serving FLOPs", "all FLOPs")
        rows.append(row | dict(zip((*names, "times the cheapest"), told, strict=True)))
    return rows


def ends(law: ParametricLaw, losses: list[float], sizes: list[float]) -> dict[str, list]:
    """Ends of the axes: of the size for all losses, of the cost for each."""
    least = min(least_size(law, loss) for loss in losses)
    trained = [cheapest(law, loss, 0) for loss in losses]
    most = [cheapest(law, loss, SERVED[-1]).total for loss in losses]
    low, high = min(0.7 * least, 0.6 * min(sizes)), max(it.parameters for it in trained)
    costs = [[it.total / 8, 15 * top] for it, top in zip(trained, most, strict=True)]
    return {"size": [low, max(3 * high, 2 * max(sizes))], "cost": costs}


def steps_between(low: float, high: float, more: Mapping[str, float]) -> list[float]:
    """Sizes for the slider: two digits each, twelve to a power of ten, and the named ones."""
    number = round(12 * math.log10(high / low)) + 1
    even = {float(f"{size:.1e}") for size in np.geomspace(low, high, number)}
    named = set(more.values())
    return sorted(named | {s for s in even if all(abs(s / n - 1) > 0.06 for n in named)})


class OvertrainingCost(CourseWidget):
    """Choose a loss and how much the model will be used; see which size costs least in all.

    law: by default Chinchilla's formula, refitted. models: parameters and training tokens under a
    name; each gives a loss to reach and a size to compare. target: one of these names. served:
    tokens read or written in the model's life, one of SERVED. size: parameters of a model of your
    own, one of `steps`. source: what to say of the law. Works in a saved page.

    Raises ValueError for no models, or sizes that `llama3lib.scaling.life` refuses.
    """

    _esm = esm("overtraining")
    _css = css("overtraining")
    served = traitlets.Float(1e13).tag(sync=True)
    target = traitlets.Unicode().tag(sync=True)
    size = traitlets.Float().tag(sync=True)
    facts = traitlets.Dict().tag(sync=True)

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
        targets = {
            name: {"words": f"the loss of {name} on {short(tokens)}", "loss": loss}
            for name, (parameters, tokens) in models.items()
            if (loss := law.predict(parameters, tokens))
        }
        sizes = {name: parameters for name, (parameters, _) in models.items()}
        span = ends(law, [one["loss"] for one in targets.values()], list(sizes.values()))
        self.steps = steps_between(*span["size"], sizes)
        said = SOURCE if law == REPLICATION else "A law of your own; beyond its runs, extrapolated."
        facts = {"law": {n: getattr(law, n) for n in ("E", "A", "B", "alpha", "beta")}}
        facts |= {"targets": targets, "models": sizes, "served": SERVED, "sizes": self.steps}
        super().__init__(facts=facts | {"ends": span, "source": source or said})
        self.target = next(iter(models)) if target is None else target
        middle = math.exp(sum(map(math.log, [*sizes.values()][:2])) / min(len(sizes), 2))
        near = min(self.steps, key=lambda step: abs(math.log(step / middle)))
        self.served, self.size = served, near if size is None else size

    @traitlets.validate("served", "target", "size")
    def _offered(self, proposal: dict) -> object:
        name, value = proposal["trait"].name, proposal["value"]
        stops = {"served": SERVED, "target": [*self.facts["targets"]], "size": self.steps}[name]
        if value not in stops:
            names = ", ".join(map(str, stops))
            raise traitlets.TraitError(f"{name}={value!r} is not allowed: one of {names}")
        return value

    @property
    def loss(self) -> float:
        """The loss to reach, by the law."""
        return self.facts["targets"][self.target]["loss"]

    def best(self) -> Life:
        """The model that the title names."""
        return cheapest(self.law, self.loss, self.served)

    def summary(self) -> str:
        return headline(self.law, self.loss, self.served)

    def table(self) -> list[dict[str, object]]:
        shown = self.facts["models"] | {"your size": self.size}
        return table_rows(self.law, self.loss, self.served, shown)

    def static_svg(self) -> str:
        told = notes(self.law, self.loss, self.served, self.size, self.facts["source"])
        chosen = {"target": self.target, "served": self.served, "size": self.size}
        return draw_overtraining(self.law, self.facts, **chosen, title=self.summary(), told=told)
