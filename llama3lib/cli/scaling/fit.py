"""`llama3 scaling fit`: the laws of finished runs."""

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional, UseAppendAction, arg

from llama3lib.cli.scaling.points import (
    Axis,
    Method,
    isoflop_law,
    points_of,
    tell_misfit,
    with_interval,
)


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Fit laws to points: isoFLOP parabolas (§3.2.1), or one formula for all runs."""

    points: Annotated[Positional[str], arg(metavar="POINTS")]
    """A .csv, .tsv, .json or .jsonl file, a sweep's folder, or a name of points that come along."""
    axis: Axis = "parameters"
    """What a size is; the paper's law is over tokens."""
    method: Method = "isoflop"
    """parametric: L(N, D) = E + A/N^alpha + B/D^beta, as Chinchilla's third method."""
    drop_highest: int = 0
    """Leave out so many runs of the highest loss (parametric only)."""
    resamples: int = 0
    """Draw the runs anew so often, for 95 % intervals: 40 or more (parametric only)."""
    column: UseAppendAction[tuple[str, ...]] = ()
    """Which column holds a field, as in loss=train_loss; may be given often."""

    def run(self) -> int:
        """Print the laws that fit the points; returns the exit code.

        Raises ValueError if none do, or for an option that the method does not have.
        """
        if self.method == "parametric":
            if self.axis != "parameters":
                raise ValueError(
                    f"axis={self.axis!r} is not allowed with the parametric method: it has none"
                )
            return self._parametric()
        for name in ("drop_highest", "resamples"):
            if value := getattr(self, name):
                raise ValueError(f"{name}={value} is not allowed with isoflop: parametric only")
        return self._isoflop()

    def _isoflop(self) -> int:
        axis = self.axis
        law = isoflop_law(points_of(self.points, self.column), axis)
        print(f"{'budget':>9}  {'best ' + axis:<36} least loss")
        for curve in law.curves:
            best, lowest = with_interval(curve.best, ".4g"), with_interval(curve.lowest, ".4f")
            print(f"{curve.budget:9.2e}  {best:<36} {lowest}")
        print(f"best {axis} = A · C^a: a = {with_interval(law.size.exponent, '.3f')}, ", end="")
        print(f"A = {law.size.law.coefficient:.3g}")
        print(f"least loss = B · C^b: b = {with_interval(law.loss.exponent, '.4f')}, ", end="")
        print(f"B = {law.loss.law.coefficient:.3g}")
        tell_misfit(f"best {axis}", law.size, "more budgets")
        tell_misfit("loss", law.loss, "predict --floor, more budgets")
        return 0

    def _parametric(self) -> int:
        from llama3lib.scaling import fit_parametric

        runs = points_of(self.points, self.column)
        found = fit_parametric(runs, drop_highest=self.drop_highest, resamples=self.resamples)
        law = found.law
        print(f"L(N, D) = E + A / N^alpha + B / D^beta, on {found.runs} runs")
        print(f"E {law.E:.4f}  A {law.A:.2f}  B {law.B:.2f}  ", end="")
        print(f"alpha {law.alpha:.4f}  beta {law.beta:.4f}")
        if law.alpha > 0 and law.beta > 0:
            print(
                f"best parameters ~ C^{law.size_exponent:.4f}, tokens ~ C^{law.token_exponent:.4f}"
            )
            names = ("E", "A", "B", "alpha", "beta", "size_exponent")
        else:
            names = ("E", "A", "B", "alpha", "beta")
        for name in names if self.resamples else ():
            print(f"{name:<13} {with_interval(found.interval(name), '.4g')}")
        for doubt in found.doubts:
            print(f"doubt it: {doubt}")
        return 0
