"""`llama3 scaling sweep`: make the runs that are missing."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, UseAppendAction, arg

if TYPE_CHECKING:
    from llama3lib.scaling import Cell, SweepConfig
    from llama3lib.scaling.records import Record


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
        """Do it; the exit code is 1 if a run diverged.

        Raises ValueError for a wrong sweep, or a folder of another one.
        """
        from llama3lib.scaling.plan import cells, load_sweep, share
        from llama3lib.scaling.sweep import prepare

        config, part = load_sweep(self.name, self.set), _part(self.part)
        mine = share(cells(config), part)
        title = config.title if part[1] == 1 else f"{config.title}, part {self.part}"
        print(f"{title}: {len(mine)} runs, {sum(c.flops for c in mine):.2e} FLOPs")
        if self.dry_run:
            for cell in mine:
                size = f"{cell.parameters:>13,} parameters {cell.tokens:>15,} tokens"
                print(f"{cell.budget:9.2e} FLOPs {size} {cell.steps:>8,} steps  seed {cell.seed}")
            self._tell_repeats(config, mine)
            return 0
        if self.prepare:
            prepare(config, self.folder)
            self._tell_repeats(config, mine)
            print(f"{self.folder} is ready: start the jobs")
            return 0
        return self._tell_end(config, self._make(config, part, mine))

    def _make(self, config: "SweepConfig", part: tuple[int, int], mine: "Sequence[Cell]") -> int:
        """Make the runs that are missing; how many of the sweep are finished then."""
        from llama3lib.cli.progress import Progress
        from llama3lib.scaling.records import stored_record
        from llama3lib.scaling.sweep import run_sweep
        from llama3lib.train.interrupt import terminated_in_order

        left, done = sum(stored_record(self.folder, cell) is None for cell in mine), count(1)

        def on_run(record: "Record") -> None:
            size = f"{record['parameters']:,} parameters, {record['tokens']:,} tokens"
            loss = "diverged" if record["loss"] is None else f"loss {record['loss']:.3f}"
            progress.reach(next(done), size, loss, now=True)

        with Progress("run", left) as progress, terminated_in_order():
            made = run_sweep(
                config, self.folder, processes=self.processes, part=part, on_run=on_run
            )
        return len(made)

    def _tell_repeats(self, config: "SweepConfig", mine: "Sequence[Cell]") -> None:
        from llama3lib.scaling.sweep import repeats

        if note := repeats(config, self.folder, mine):
            print(f"note: {note}")

    def _tell_end(self, config: "SweepConfig", made: int) -> int:
        """Write the points of all that is in the folder, tell what became of this sweep's runs."""
        from llama3lib.scaling.plan import cells
        from llama3lib.scaling.points import write_runs
        from llama3lib.scaling.records import runs_in
        from llama3lib.scaling.sweep import diverged

        folder, planned, lost = Path(self.folder), len(cells(config)), diverged(config, self.folder)
        runs, _ = runs_in(folder)
        where = "no run finished"
        if runs:
            where = f"points in {folder / 'points.json'}"
            write_runs(
                folder / "points.json", runs, {"made_by": f"llama3 scaling sweep {self.name}"}
            )
        if lost:
            print(f"to try a diverged run again, remove its file in {folder / 'runs'}; ", end="")
            print("with a smaller peak or more warmup_share, take another folder")
        rest = planned - made - len(lost)
        missing = f"; not made yet: {rest}" if rest else ""
        missing += f"; diverged: {len(lost)} ({', '.join(lost)})" if lost else ""
        print(f"finished: {made} of {planned}{missing}; {where}")
        return 1 if lost else 0


def _part(text: str) -> tuple[int, int]:
    number, sign, parts = text.partition("/")
    if not sign or not number.isdecimal() or not parts.isdecimal():
        raise ValueError(f"part={text!r} is not allowed: I/N, as in 1/4")
    return int(number), int(parts)
