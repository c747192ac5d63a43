"""The picture of the two-step prediction: both steps side by side, as in Figure 4."""

import math
from collections.abc import Sequence

import numpy as np

from llama3lib.scaling import Sigmoid
from widgets.ch03.views.twosteps_fits import chosen, nll_at
from widgets.view import Linear, Log, Paper, Plot
from widgets.view.legend import legend
from widgets.view.words import fixed, scientific, thousands


def sci(value: float) -> str:
    """Two digits and a power: 3e10, 1.2e12."""
    return scientific(value, 2)


def percent(share: float) -> str:
    """One decimal place: 97.5%."""
    return f"{fixed(100 * share, 1)}%"


def run_words(run: dict) -> str:
    """One run in a line."""
    return (
        f"{sci(run['budget'])} FLOPs, {thousands(run['parameters'])} parameters, seed "
        f"{run['seed']}: {fixed(run['nll'], 3)} nats a character, {percent(run['accuracy'])}"
    )


class Picture:
    """Both steps side by side, as in Figure 4; on a telephone one below the other."""

    def __init__(self, paper: Paper, data: dict, entry: dict, models: str, form: str) -> None:
        self.paper, self.data, self.entry, self.models = paper, data, entry, models
        self.first, self.second = entry["first"][form], entry["second"][models]
        self.told, self.form = entry["told"].get(models, {}).get(form), form
        self.nll = low, high = data["spans"][form]
        narrow = paper.narrow
        box = {"height": 220 if narrow else 236}
        box["width"] = paper.width - 66 if narrow else (paper.width - 138) / 2
        flops = Log(*data["spans"]["flops"], "training FLOPs", text=sci)
        ticks = [fifth / 5 for fifth in range(math.ceil(5 * low), math.floor(5 * high) + 1)]
        nll = Linear(low, high, "nats a character", ticks=ticks)
        self.left = paper.plot(flops, nll, left=52, top=52, **box)
        ends, left = data["spans"]["accuracy"], 52 if narrow else self.left.right + 72
        top = self.left.low + 104 if narrow else 52
        accuracy = Linear(*ends, "accuracy", text=lambda v: f"{fixed(100 * v, 0)}%")
        self.right = paper.plot(nll, accuracy, left=left, top=top, **box)
        titles = "Step 1: FLOPs → loss per character", "Step 2: loss per character → accuracy"
        for plot, title in zip((self.left, self.right), titles, strict=True):
            paper.text(plot.left - 48, plot.top - 34, title, size=15, bold=True)
        self._limits()
        self._curves()
        self._runs()
        self._prediction()
        self._legend()

    def _limits(self) -> None:
        """Where no loss is, and how far was seen."""
        paper, left, right = self.paper, self.left, self.right
        x = left.at_x(self.entry["limit"]) + 8  # just beyond the points
        near = x < left.left + 136  # too near the edge for words to stand left of the line
        at, anchor = (x + 6, "start") if near else (x - 6, "end")
        if self.nll[0] < 0:
            y, wall = left.at_y(0), right.at_x(0)
            shade = {"fill_opacity": 0.7}
            paper.rect(left.left, y, left.width, left.low - y, "tint", **shade)
            paper.rect(right.left, right.top, wall - right.left, right.height, "tint", **shade)
            paper.text(at if near else left.left + 8, left.low - 10, "no loss is below 0", "soft")
        paper.line(x, left.top, x, left.low, "soft", dash="3 4", key="limit")
        words = "seen up to here"
        paper.text(at, left.top + 16, words, "soft", size=13, anchor=anchor, halo=True)

    def _curves(self) -> None:
        left, right = self.left, self.right
        for plot, step in ((left, self.first), (right, self.second)):
            if step.get("band"):
                plot.band(*zip(*step["band"], strict=True), "sixth", opacity=0.35)
        if "trouble" not in self.first:
            grid = np.geomspace(*self.data["spans"]["flops"], 41).tolist()
            line = [(x, nll_at(self.first, self.form, x)) for x in grid]
            left.line(line, "main", width=2.2, key="step 1")
        if "trouble" not in self.second:
            tops, grid = self.second["tops"], np.linspace(*self.nll, 61).tolist()

            def sigmoid(way: Sequence[float], role: str, **style: object) -> None:
                right.line([(x, Sigmoid(*way).predict(x)) for x in grid], role, **style)

            for way in tops[:: max(len(tops) - 1, 1)]:
                sigmoid(way, "ink", width=1.6, dash="2 5")
            sigmoid(self.second["sigmoid"], "main", width=2.2, key="step 2")

    def _runs(self) -> None:
        """Those seen on top of those taken away; then those held out."""
        runs, limit = self.data["runs"], self.entry["limit"]
        mine = {id(run) for run in chosen(runs, limit, self.models)}
        for i in sorted(range(len(runs)), key=lambda i: id(runs[i]) in mine):
            run, spots = runs[i], [(self.right, id(runs[i]) in mine, 3.8)]
            if run["best"]:
                spots.append((self.left, run["budget"] <= limit, 5))
            for plot, seen, size in spots:
                at = self._spot(plot, run)
                fill, stroke = ("main", "paper") if seen else ("paper", "soft")
                style = {"size": size, "stroke": stroke, "tip": run_words(run)}
                plot.mark("circle", at, fill, key=f"run {i} {plot is self.left}", **style)
        for run in self.data["held"]:
            for plot in (self.left, self.right):
                tip = f"measured: {run_words(run)}"
                plot.mark("square", self._spot(plot, run), "ink", size=5, stroke="paper", tip=tip)

    def _spot(self, plot: Plot, run: dict) -> tuple[float, float]:
        return (run["flops"], run["nll"]) if plot is self.left else (run["nll"], run["accuracy"])

    def _prediction(self) -> None:
        if "trouble" in self.first:
            return
        target, (nll, *ends) = self.data["target"], self.first["nll"]
        bar = {"role": "chosen", "width": 3}
        marks = [(self.left, (target, nll), f"predicted: {fixed(nll, 3)} nats a character")]
        if None not in ends:
            self.left.line([(target, end) for end in ends], **bar)
        if self.told is not None:
            score, *ups = self.told["accuracy"]
            marks.append((self.right, (nll, score), f"predicted: {percent(score)}"))
            if None not in ends:
                self.right.line([(end, score) for end in ends], **bar)
            if None not in ups:
                self.right.line([(nll, end) for end in ups], **bar)
            if by_top := self.told["by_top"]:
                self.right.line([(nll, end) for end in by_top], "chosen", dash="2 4")
        for plot, at, tip in marks:
            plot.mark("diamond", at, "chosen", size=7, tip=tip, key=f"told {plot is self.left}")

    def _legend(self) -> None:
        signs = [
            ("circle", "main", "seen"),
            ("circle", "paper", "taken away", {"stroke": "soft"}),
            ("diamond", "chosen", "predicted, with its interval"),
            ("square", "ink", "measured, in no fit"),
            ("line", "ink", "lowest and highest top that fit as well", {"dash": "2 5"}),
        ]
        if not self.data["held"]:
            del signs[3]
        legend(self.paper, 4, self.right.low + 72, signs)
