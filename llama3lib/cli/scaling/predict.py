"""`llama3 scaling predict`: what a law says of a larger budget."""

import math
from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional, UseAppendAction, arg

from llama3lib.cli.scaling.points import Axis, points_of, tell_misfit, with_interval


@dataclass(frozen=True, kw_only=True)
class Predict:
    """Best size and loss at a larger budget, with bands."""

    points: Annotated[Positional[str], arg(metavar="POINTS")]
    """As for fit; or paper, for the law of the paper with both pairs it prints."""
    flops: Annotated[Positional[float], arg(metavar="FLOPS")]
    """The budget."""
    axis: Axis = "parameters"
    """What a size is."""
    floor: bool = False
    """Fit a loss that no budget removes; takes four budgets."""
    column: UseAppendAction[tuple[str, ...]] = ()
    """As for fit."""

    def run(self) -> int:
        """Print what the law says; returns the exit code. Raises ValueError if no law fits."""
        from llama3lib.scaling import fit_isoflop

        flops, axis = self.flops, self.axis
        if not (math.isfinite(flops) and flops > 0):
            raise ValueError(f"flops={flops!r} is not allowed: a finite number above 0")
        if self.points == "paper":
            return _paper(flops)
        runs = points_of(self.points, self.column)
        law = fit_isoflop(runs, axis, floor="fit" if self.floor else 0.0)
        found = law.predict(flops)
        largest = max(curve.budget for curve in law.curves)
        print(f"at {flops:.3g} FLOPs, {flops / largest:.3g} times the largest budget fitted:")
        print(f"best {axis}: {with_interval(found.size, '.4g')}")
        print(f"loss: {with_interval(found.loss, '.4f')} nats a token", end="")
        print(f", floor {with_interval(law.loss.floor, '.3f')}" if self.floor else "")
        tell_misfit(f"best {axis}", law.size, "more budgets")
        tell_misfit("loss", law.loss, "more budgets" if self.floor else "--floor, more budgets")
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
