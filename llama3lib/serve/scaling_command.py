"""The options of `llama3 scaling sweep`, `fit` and `predict`."""

from dataclasses import dataclass
from typing import Annotated, Literal

from tyro.conf import OmitSubcommandPrefixes, Positional, UseAppendAction, arg, subcommand


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Train the runs of a sweep that are missing in FOLDER. An interrupted sweep goes on."""

    name: Annotated[Positional[str], arg(metavar="SWEEP")]
    """A sweep file (TOML), or toy or gpu."""
    folder: Annotated[Positional[str], arg(metavar="FOLDER")] = "sweep"
    """Where runs and points go."""
    set: UseAppendAction[tuple[str, ...]] = ()
    """Change a setting, as in seeds=[1] or budgets.0.flops=2e10; may be given often."""
    processes: int = 2
    """Runs side by side, one thread each."""
    part: str = "1/1"
    """I/N: make only the I-th of N shares, as one job of an array of N."""
    prepare: bool = False
    """Only write text and settings into FOLDER, before jobs of an array start together."""
    dry_run: bool = False
    """Only tell the runs."""

    def run(self) -> int:
        from llama3lib.serve import scaling

        return scaling.sweep(
            self.name,
            self.folder,
            self.set,
            processes=self.processes,
            part=self.part,
            only_prepare=self.prepare,
            dry_run=self.dry_run,
        )


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Fit laws to points: isoFLOP parabolas (§3.2.1), or one formula for all runs."""

    points: Annotated[Positional[str], arg(metavar="POINTS")]
    """A .csv, .tsv, .json or .jsonl file, a sweep's folder, or a name of points that come along."""
    axis: Literal["parameters", "tokens", "non_embedding"] = "parameters"
    """What a size is; the paper's law is over tokens."""
    method: Literal["isoflop", "parametric"] = "isoflop"
    """parametric: L(N, D) = E + A/N^alpha + B/D^beta, as Chinchilla's third method."""
    drop_highest: int = 0
    """Leave out so many runs of the highest loss (parametric only)."""
    resamples: int = 0
    """Draw the runs anew so often, for 95 % intervals: 40 or more (parametric only)."""
    column: UseAppendAction[tuple[str, ...]] = ()
    """Which column holds a field, as in loss=train_loss; may be given often."""

    def run(self) -> int:
        from llama3lib.serve import scaling

        return scaling.fit(
            self.points,
            self.axis,
            self.method,
            self.drop_highest,
            self.column,
            resamples=self.resamples,
        )


@dataclass(frozen=True, kw_only=True)
class Predict:
    """Best size and loss at a larger budget, with bands."""

    points: Annotated[Positional[str], arg(metavar="POINTS")]
    """As for fit; or paper, for the law of the paper with both pairs it prints."""
    flops: Annotated[Positional[float], arg(metavar="FLOPS")]
    """The budget."""
    axis: Literal["parameters", "tokens", "non_embedding"] = "parameters"
    """What a size is."""
    floor: bool = False
    """Fit a loss that no budget removes; takes four budgets."""
    column: UseAppendAction[tuple[str, ...]] = ()
    """As for fit."""

    def run(self) -> int:
        from llama3lib.serve import scaling

        return scaling.predict(self.points, self.flops, self.axis, self.floor, self.column)


Action = OmitSubcommandPrefixes[
    Annotated[Sweep, subcommand("sweep")]
    | Annotated[Fit, subcommand("fit")]
    | Annotated[Predict, subcommand("predict")]
]


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """Scaling laws: sweep (make small runs), fit (find laws), predict (a larger run)."""

    action: Action
    """What to do."""

    def run(self) -> int:
        """Do it; returns the exit code."""
        return self.action.run()
