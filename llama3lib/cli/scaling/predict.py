"""`llama3 scaling predict`: what a law says of a larger budget."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, UseAppendAction, arg

from llama3lib.cli.scaling.points import (
    Axis,
    Method,
    isoflop_law,
    points_of,
    tell_misfit,
    with_interval,
)

if TYPE_CHECKING:
    from llama3lib.scaling import Run


@dataclass(frozen=True, kw_only=True)
class Predict:
    """Best size and loss at a larger budget, with bands."""

    points: Annotated[Positional[str], arg(metavar="POINTS")]
    """As for fit; or paper, for the law of the paper with both pairs it prints."""
    flops: Annotated[Positional[float], arg(metavar="FLOPS")]
    """The budget."""
    axis: Axis = "parameters"
    """What a size is."""
    method: Method = "isoflop"
    """As for fit."""
    floor: bool = False
    """Fit a loss that no budget removes; takes four budgets (isoflop only: the formula has one)."""
    resamples: int = 100
    """Draw the runs anew so often, for 95 % intervals: 40 or more (parametric only)."""
    drop_highest: int = 0
    """As for fit."""
    column: UseAppendAction[tuple[str, ...]] = ()
    """As for fit."""

    def run(self) -> int:
        """Print what the law says; returns the exit code. Raises ValueError if no law fits."""
        flops, parametric = self.flops, self.method == "parametric"
        if not (math.isfinite(flops) and flops > 0):
            raise ValueError(f"flops={flops!r} is not allowed: a finite number above 0")
        for name, mine in {
            "axis": False,
            "floor": False,
            "resamples": True,
            "drop_highest": True,
        }.items():
            value = getattr(self, name)
            if mine != parametric and value != getattr(type(self), name):
                raise ValueError(f"{name}={value!r} is not allowed with {self.method}")
        if self.points == "paper":
            return _paper(flops)
        runs = points_of(self.points, self.column)
        return self._parametric(runs) if parametric else self._isoflop(runs)

    def _isoflop(self, runs: "list[Run]") -> int:
        flops, axis = self.flops, self.axis
        law = isoflop_law(runs, axis, floor=self.floor)
        found = law.predict(flops)
        largest = max(curve.budget for curve in law.curves)
        print(f"at {flops:.3g} FLOPs, {flops / largest:.3g} times the largest budget fitted:")
        print(f"best {axis}: {with_interval(found.size, '.4g')}")
        print(f"loss: {with_interval(found.loss, '.4f')} nats a token", end="")
        print(f", floor {with_interval(law.loss.floor, '.3f')}" if self.floor else "")
        tell_misfit(f"best {axis}", law.size, "more budgets")
        tell_misfit("loss", law.loss, "more budgets" if self.floor else "--floor, more budgets")
        return 0

    def _parametric(self, runs: "list[Run]") -> int:
        from llama3lib.scaling import fit_parametric

        fit = fit_parametric(runs, drop_highest=self.drop_highest, resamples=self.resamples)
        size, tokens = (fit.predict(self.flops, axis) for axis in ("parameters", "tokens"))
        times = self.flops / max(run.flops for run in runs)
        print(f"at {self.flops:.3g} FLOPs, {times:.3g} times the largest of {fit.runs} runs:")
        print(f"best parameters: {with_interval(size.size, '.4g')}")
        print(f"best tokens: {with_interval(tokens.size, '.4g')}")
        floor = with_interval(fit.interval("E"), ".3f")
        print(f"loss: {with_interval(size.loss, '.4f')} nats a token, floor {floor}")
        for doubt in fit.doubts:
            print(f"doubt it: {doubt}")
        return 0


def _paper(flops: float) -> int:
    from llama3lib.paper import scaling as paper

    print(f"§3.2.1, at {flops:.3g} FLOPs:")
    pairs = {
        "printed in the text": (paper.EXPONENT.value, paper.COEFFICIENT.value),
        "label of Figure 3": (paper.EXPONENT_FIGURE.value, paper.COEFFICIENT_FIGURE.value),
    }
    for name, (exponent, coefficient) in pairs.items():
        tokens = paper.optimal_tokens(flops, exponent, coefficient)
        size = flops / (6 * tokens)
        print(f"{name:<20} ({exponent}, {coefficient}): {tokens:.3e} tokens, {size:.3e} parameters")
    return 0
