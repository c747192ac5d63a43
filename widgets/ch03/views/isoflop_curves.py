"""What the isoFLOP explorer computes: a curve for each budget, and a dot on it (§3.2.1)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llama3lib.scaling import IsoFlopCurve, Parabola, Run, by_budget, fit_isoflop
from widgets.view.words import percent, scientific, significant, with_letter

AXES = {"parameters": "parameters", "tokens": "tokens (as Fig. 2)"}
STOPS = 60  # places of the slider between the smallest and the largest size tried
FLAT = 0.01  # more loss than the lowest that still counts as flat (ours)


@dataclass(frozen=True)
class FittedParabola:
    """Parabola of one budget over one axis, and how sure its minimum is."""

    best: float
    lowest: float
    bend: float
    inside: bool
    """Whether the minimum lies between the sizes tried."""
    low: float | None
    """Ends of the 95 % interval of `best`; None if it could be anywhere."""
    high: float | None

    @property
    def flat(self) -> tuple[float, float]:
        """From where to where the loss is at most 1 % above the minimum."""
        away = math.sqrt(FLAT * self.lowest / self.bend)
        return self.best * math.exp(-away), self.best * math.exp(away)

    def loss(self, at: float) -> float:
        """The parabola's loss at a place on its axis."""
        return Parabola(self.best, self.lowest, self.bend).predict(at)


@dataclass(frozen=True)
class Curve:
    """One budget: its runs, which tokens go with which size, and a parabola over each axis."""

    budget: float
    sizes: tuple[float, ...]
    """Different sizes tried, from the smallest up."""
    tokens: tuple[float, ...]
    """What models of these sizes read; with several runs the geometric mean."""
    runs: tuple[tuple[float, float, float, bool], ...]
    """Parameters, tokens, loss, and whether the run was stored."""
    over_parameters: FittedParabola
    over_tokens: FittedParabola

    def parabola(self, axis: str) -> FittedParabola:
        """The parabola over that axis."""
        return self.over_tokens if axis == "tokens" else self.over_parameters

    def tokens_of(self, size: float) -> float:
        """Tokens of a size: on a straight line in logs between its neighbours among the runs."""
        logs = np.interp(math.log(size), np.log(self.sizes), np.log(self.tokens))
        return math.exp(float(logs))

    def size_of(self, tokens: float) -> float:
        """The size that reads so many tokens, the same way."""
        read, sizes = zip(*sorted(zip(self.tokens, self.sizes, strict=True)), strict=True)
        return math.exp(float(np.interp(math.log(tokens), np.log(read), np.log(sizes))))


@dataclass(frozen=True)
class Dot:
    """A model on a curve."""

    parameters: float
    tokens: float
    at: float
    """Its place on the axis."""
    loss: float
    above: float
    """Nats above the minimum."""

    @property
    def share(self) -> float:
        """The same as a fraction of the lowest loss."""
        return self.above / (self.loss - self.above)


def curves_of(runs: Sequence[Run], stored: Sequence[Run] = ()) -> list[Curve]:
    """A curve for each budget, stored runs included; a budget that both have is one curve.

    Raises ValueError as `fit_isoflop`, but a minimum may lie outside the sizes tried.
    """
    everything = [*runs, *stored]
    laws = [fit_isoflop(everything, axis, edges=True) for axis in AXES]
    known = {id(run) for run in stored}
    made = []
    for (budget, found), *fits in zip(
        by_budget(everything).items(), *(law.curves for law in laws), strict=True
    ):
        sizes = sorted({run.parameters for run in found})
        read = [[math.log(r.tokens) for r in found if r.parameters == size] for size in sizes]
        points = [(r.parameters, r.tokens, r.loss, id(r) in known) for r in found]
        tokens = tuple(math.exp(sum(logs) / len(logs)) for logs in read)
        parabolas = [_fitted(fit) for fit in fits]
        made.append(Curve(budget, tuple(sizes), tokens, tuple(points), *parabolas))
    return made


def _fitted(fit: IsoFlopCurve) -> FittedParabola:
    ends = (fit.best.low, fit.best.high)
    sure = all(math.isfinite(end) and end > 0 for end in ends)
    parabola = fit.parabola
    return FittedParabola(parabola.best, parabola.lowest, parabola.bend, fit.is_inside,
                  *(ends if sure else (None, None)))  # fmt: skip


def dot(curve: Curve, axis: str, stop: int) -> Dot:
    """The model at a stop of the slider: 0 is the smallest size tried, `STOPS` the largest."""
    first, last = curve.sizes[0], curve.sizes[-1]
    size = first * (last / first) ** (stop / STOPS)
    tokens, fitted = curve.tokens_of(size), curve.parabola(axis)
    at = tokens if axis == "tokens" else size
    loss = fitted.loss(at)
    return Dot(size, tokens, at, loss, loss - fitted.lowest)


def more_loss(share: float) -> str:
    """Two digits, as in 0.43% or 12%; very little is "under 0.01%"."""
    return percent(share) if share >= 1e-4 else "under 0.01%"


def amount(value: float) -> str:
    """Three digits, from a million on with a letter: 178,000, 2.1B, 16.3T."""
    return with_letter(value, least=1e6)


def headline(curve: Curve, axis: str, stop: int) -> str:
    """The title: the best model, and what yours loses against it."""
    it, fitted = dot(curve, axis, stop), curve.parabola(axis)
    where, ratio = f"At {scientific(curve.budget)} FLOPs", it.at / fitted.best
    if not fitted.inside:
        return f"{where} the minimum lies outside the sizes tried: add models beyond"
    has, word = ("run reads", "with ") if axis == "tokens" else ("model has", "")
    kind = "as many" if axis == "tokens" else "as large"
    times = (
        f"{significant(ratio, 2)} times {kind}" if abs(math.log(ratio)) > 0.05 else f"about {kind}"
    )
    best = f"{where} the best {has} {amount(fitted.best)} {axis}"
    return f"{best}; yours, {word}{times}, costs {more_loss(it.share)} more loss"


def notes(curve: Curve, axis: str, stop: int) -> list[str]:
    """The numbers of the dot, how flat the curve is, and where the tokens come from."""
    it, fitted = dot(curve, axis, stop), curve.parabola(axis)
    low, high = fitted.flat
    simple = curve.budget / (6 * it.parameters)
    paper = "The paper's curves get flatter with more compute (§3.2.1)."
    same = abs(math.log(simple / it.tokens)) < 0.01
    rule = f"{amount(simple)}, for it is meant for large models"
    return [
        f"Yours: {amount(it.parameters)} parameters on {amount(it.tokens)} tokens, "
        f"{significant(it.tokens / it.parameters, 2)} tokens for each parameter. Its loss by the "
        f"parabola: {it.loss:.3f} nats, {it.above:.3f} above the minimum.",
        f"The flat part: from {amount(low)} to {amount(high)} {axis}, a factor of "
        f"{significant(high / low, 2)}, the loss is at most {percent(FLAT)} above the minimum.",
        f"{_sure(fitted, axis)} {paper}",
        "Its tokens are read off between those of the runs. The rule C / (6 · N) says "
        f"{'the same' if same else rule}.",
    ]


def _sure(fitted: FittedParabola, axis: str) -> str:
    if fitted.low is None or fitted.high is None:
        return "With the noise of these runs the minimum could be anywhere."
    between = f"between {amount(fitted.low)} and {amount(fitted.high)} {axis}"
    return f"The minimum lies {between} (95% interval)."


def table_rows(
    curves: Sequence[Curve], chosen: Curve, axis: str, stop: int
) -> list[dict[str, str]]:
    """Each budget's runs and its minimum; at the chosen one also the dot."""
    rows = []
    for curve in curves:
        fitted = curve.parabola(axis)
        size = curve.size_of(fitted.best) if axis == "tokens" else fitted.best
        tokens = fitted.best if axis == "tokens" else curve.tokens_of(fitted.best)
        best = ("minimum", size, tokens, fitted.lowest)
        names = {False: "run", True: "stored run"}
        points = [(names[stored], *point) for *point, stored in curve.runs]
        if curve is chosen:
            it = dot(curve, axis, stop)
            points.append(("yours", it.parameters, it.tokens, it.loss))
        for name, parameters, read, loss in [*points, *([best] if fitted.inside else [])]:
            rows.append(
                {
                    "FLOPs": scientific(curve.budget),
                    "point": name,
                    "parameters": amount(parameters),
                    "tokens": amount(read),
                    "tokens per parameter": significant(read / parameters, 2),
                    "loss": f"{loss:.3f}",
                    "above the minimum": f"{loss - fitted.lowest:.3f}",
                    f"within 1% ({axis})": " to ".join(map(amount, fitted.flat))
                    if name == "minimum"
                    else "",
                }
            )
    return rows
