"""What the isoFLOP explorer computes: a valley for each budget, and a dot on it (§3.2.1)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llama3lib.scaling import IsoFlopCurve, Parabola, Run, by_budget, fit_isoflop

AXES = ("parameters", "tokens")
STOPS = 60  # places of the slider between the smallest and the largest size tried
FLAT = 0.01  # more loss than the lowest that still counts as the valley's floor (ours)
_UNITS = ((1e12, "T"), (1e9, "B"), (1e6, "M"))


@dataclass(frozen=True)
class Valley:
    """Parabola of one budget over one axis, and how sure its lowest point is."""

    best: float
    lowest: float
    bend: float
    inside: bool
    """Whether the lowest point lies between the sizes tried."""
    low: float | None
    """Ends of the 95 % interval of `best`; None if it could be anywhere."""
    high: float | None

    @property
    def flat(self) -> tuple[float, float]:
        """From where to where the loss is at most 1 % above the lowest."""
        away = math.sqrt(FLAT * self.lowest / self.bend)
        return self.best * math.exp(-away), self.best * math.exp(away)

    def loss(self, at: float) -> float:
        """The parabola's loss at a place on its axis."""
        return Parabola(self.best, self.lowest, self.bend).predict(at)


@dataclass(frozen=True)
class Curve:
    """One budget: its runs, which tokens go with which size, and a valley on each axis."""

    budget: float
    sizes: tuple[float, ...]
    """Different sizes tried, from the smallest up."""
    tokens: tuple[float, ...]
    """What models of these sizes read; with several runs the geometric mean."""
    runs: tuple[tuple[float, float, float, bool], ...]
    """Parameters, tokens, loss, and whether the run was stored."""
    parameters_valley: Valley
    tokens_valley: Valley

    def valley(self, axis: str) -> Valley:
        """The parabola over that axis."""
        return self.tokens_valley if axis == "tokens" else self.parameters_valley

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
    """Nats above the lowest point."""

    @property
    def share(self) -> float:
        """The same as a fraction of the lowest loss."""
        return self.above / (self.loss - self.above)


def curves_of(runs: Sequence[Run], stored: Sequence[Run] = ()) -> list[Curve]:
    """A curve for each budget, stored runs included; a budget that both have is one curve.

    Raises ValueError as `fit_isoflop`, but a lowest point may lie outside the sizes tried.
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
        valleys = [_valley(fit) for fit in fits]
        made.append(Curve(budget, tuple(sizes), tokens, tuple(points), *valleys))
    return made


def _valley(fit: IsoFlopCurve) -> Valley:
    ends = (fit.best.low, fit.best.high)
    sure = all(math.isfinite(end) and end > 0 for end in ends)
    parabola = fit.parabola
    return Valley(parabola.best, parabola.lowest, parabola.bend, fit.is_inside,
                  *(ends if sure else (None, None)))  # fmt: skip


def dot(curve: Curve, axis: str, stop: int) -> Dot:
    """The model at a stop of the slider: 0 is the smallest size tried, `STOPS` the largest."""
    first, last = curve.sizes[0], curve.sizes[-1]
    size = first * (last / first) ** (stop / STOPS)
    tokens, valley = curve.tokens_of(size), curve.valley(axis)
    at = tokens if axis == "tokens" else size
    loss = valley.loss(at)
    return Dot(size, tokens, at, loss, loss - valley.lowest)


def three(value: float, digits: int = 3) -> str:
    """So many digits, with commas: 0.346, 15.1, 178,000."""
    return f"{float(f'{value:.{digits}g}'):,.10g}"


def amount(value: float, digits: int = 3) -> str:
    """Three digits, from a million on with a unit: 178,000, 2.1B, 16.3T."""
    size, unit = next(((s, u) for s, u in _UNITS if value >= s), (1, ""))
    return three(value / size, digits) + unit


def flops_text(value: float) -> str:
    """As in 1e11 or 3.8e25."""
    digits, power = f"{value:.2e}".split("e")
    return f"{float(digits):g}e{int(power)}"


def percent(share: float) -> str:
    """Two digits, as in 0.43% or 12%; very little is "under 0.01%"."""
    return f"{three(100 * share, 2)}%" if share >= 1e-4 else "under 0.01%"


def headline(curve: Curve, axis: str, stop: int) -> str:
    """The title: the best model, and what yours loses against it."""
    it, valley = dot(curve, axis, stop), curve.valley(axis)
    where, ratio = f"At {flops_text(curve.budget)} FLOPs", it.at / valley.best
    if not valley.inside:
        return f"{where} the lowest point lies outside the sizes tried: add models beyond"
    has, word = ("run reads", "with ") if axis == "tokens" else ("model has", "")
    kind = "as many" if axis == "tokens" else "as large"
    times = f"{three(ratio, 2)} times {kind}" if abs(math.log(ratio)) > 0.05 else f"about {kind}"
    best = f"{where} the best {has} {amount(valley.best)} {axis}"
    return f"{best}; yours, {word}{times}, costs {percent(it.share)} more loss"


def notes(curve: Curve, axis: str, stop: int) -> list[str]:
    """The numbers of the dot, how flat the valley is, and where the tokens come from."""
    it, valley = dot(curve, axis, stop), curve.valley(axis)
    low, high = valley.flat
    simple = curve.budget / (6 * it.parameters)
    paper = "The paper's curves get flatter with more compute (§3.2.1)."
    same = abs(math.log(simple / it.tokens)) < 0.01
    rule = f"{amount(simple)}, for it is meant for large models"
    return [
        f"Yours: {amount(it.parameters)} parameters on {amount(it.tokens)} tokens, "
        f"{three(it.tokens / it.parameters, 2)} tokens for each parameter. Its loss by the "
        f"parabola: {it.loss:.3f} nats, {it.above:.3f} above the lowest.",
        f"The valley's floor: from {amount(low)} to {amount(high)} {axis}, a factor of "
        f"{three(high / low, 2)}, the loss is at most {percent(FLAT)} above the lowest.",
        f"{_sure(valley, axis)} {paper}",
        "Its tokens are read off between those of the runs. The rule C / (6 · N) says "
        f"{'the same' if same else rule}.",
    ]


def _sure(valley: Valley, axis: str) -> str:
    if valley.low is None or valley.high is None:
        return "With the noise of these runs the lowest point could be anywhere."
    between = f"between {amount(valley.low)} and {amount(valley.high)} {axis}"
    return f"The lowest point lies {between} (95% interval)."


def table_rows(
    curves: Sequence[Curve], chosen: Curve, axis: str, stop: int
) -> list[dict[str, str]]:
    """Each budget's runs and its lowest point; at the chosen one also the dot."""
    rows = []
    for curve in curves:
        valley = curve.valley(axis)
        size = curve.size_of(valley.best) if axis == "tokens" else valley.best
        tokens = valley.best if axis == "tokens" else curve.tokens_of(valley.best)
        best = ("lowest point", size, tokens, valley.lowest)
        names = {False: "run", True: "stored run"}
        points = [(names[stored], *point) for *point, stored in curve.runs]
        if curve is chosen:
            it = dot(curve, axis, stop)
            points.append(("yours", it.parameters, it.tokens, it.loss))
        for name, parameters, read, loss in [*points, *([best] if valley.inside else [])]:
            rows.append(
                {
                    "FLOPs": flops_text(curve.budget),
                    "point": name,
                    "parameters": amount(parameters),
                    "tokens": amount(read),
                    "tokens per parameter": three(read / parameters, 2),
                    "loss": f"{loss:.3f}",
                    "above the lowest": f"{loss - valley.lowest:.3f}",
                    f"within 1% ({axis})": " to ".join(map(amount, valley.flat))
                    if name == "lowest point"
                    else "",
                }
            )
    return rows
