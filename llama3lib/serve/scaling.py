"""What `llama3 scaling` does: run a sweep, fit its laws, predict a larger run."""

import contextlib
import math
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from llama3lib.eval.intervals import Interval
from llama3lib.paper import scaling as paper
from llama3lib.scaling.isoflop import DOUBTFUL, Axis, fit_isoflop
from llama3lib.scaling.parametric import fit_parametric
from llama3lib.scaling.plan import Cell, SweepConfig, cells, load_sweep, share
from llama3lib.scaling.points import (
    ColumnError,
    Run,
    doubt_of_flops,
    read_runs,
    stored_names,
    stored_path,
    write_runs,
)
from llama3lib.scaling.power_law import PowerLawFit
from llama3lib.scaling.records import runs_in, stored_record
from llama3lib.scaling.sweep import diverged, prepare, repeats, run_sweep


def sweep(
    name: str,
    folder: str,
    changes: Sequence[str],
    *,
    processes: int,
    part: str,
    only_prepare: bool = False,
    dry_run: bool = False,
) -> int:
    """Tell the runs, make those that are missing, write FOLDER/points.json; the exit code.

    The code is 1 if a run diverged. only_prepare: write text and settings only. dry_run: tell the
    runs only.

    Raises ValueError for a wrong sweep, or a folder of another one.
    """
    config, wanted = load_sweep(name, changes), _part(part)
    planned = cells(config)
    mine = share(planned, wanted)
    title = config.title if wanted[1] == 1 else f"{config.title}, part {part}"
    print(f"{title}: {len(mine)} runs, {sum(c.flops for c in mine):.2e} FLOPs")
    if dry_run:
        for cell in mine:
            size = f"{cell.parameters:>13,} parameters {cell.tokens:>15,} tokens"
            print(f"{cell.budget:9.2e} FLOPs {size} {cell.steps:>8,} steps  seed {cell.seed}")
        _tell_repeats(config, folder, mine)
        return 0
    if only_prepare:
        prepare(config, folder)
        _tell_repeats(config, folder, mine)
        print(f"{folder} is ready: start the jobs")
        return 0
    left = sum(stored_record(folder, cell) is None for cell in mine)
    with (
        tqdm(total=left, desc="runs", disable=not sys.stderr.isatty()) as bar,
        _terminated_in_order(),
    ):
        made = run_sweep(
            config, folder, processes=processes, part=wanted, on_run=lambda record: bar.update()
        )
    return _tell_end(config, folder, name, len(made))


def _tell_repeats(config: SweepConfig, folder: str, mine: Sequence[Cell]) -> None:
    if told := repeats(config, folder, mine):
        print(f"note: {told}")


def _tell_end(config: SweepConfig, folder: str, name: str, made: int) -> int:
    """Write the points of all that is in the folder, tell what became of this sweep's runs."""
    planned, lost = len(cells(config)), diverged(config, folder)
    runs, _ = runs_in(folder)
    where = "no run finished"
    if runs:
        where = f"points in {Path(folder) / 'points.json'}"
        write_runs(Path(folder) / "points.json", runs, {"made_by": f"llama3 scaling sweep {name}"})
    if lost:
        print(f"to try a diverged run again, remove its file in {Path(folder) / 'runs'}; ", end="")
        print("with a smaller peak or more warmup_share, take another folder")
    rest = planned - made - len(lost)
    told = f"; not made yet: {rest}" if rest else ""
    told += f"; diverged: {len(lost)} ({', '.join(lost)})" if lost else ""
    print(f"finished: {made} of {planned}{told}; {where}")
    return 1 if lost else 0


@contextlib.contextmanager
def _terminated_in_order() -> Iterator[None]:
    """SIGTERM, as of a job array that is cancelled, does what Ctrl-C does: save, then stop."""
    before = signal.getsignal(signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread() or before is None:
        yield  # only the main thread gets signals; None: a handler that is not Python's
        return

    def on_end(number: int, frame: object) -> None:
        if signal.getsignal(signal.SIGINT) in (signal.SIG_IGN, None):  # as behind nohup
            raise KeyboardInterrupt
        signal.raise_signal(signal.SIGINT)

    signal.signal(signal.SIGTERM, on_end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def fit(
    points: str,
    axis: Axis,
    method: str,
    drop_highest: int,
    columns: Sequence[str] = (),
    *,
    resamples: int = 0,
) -> int:
    """Print the laws that fit the points; the exit code.

    Raises ValueError if none do, or for an option that the method does not have.
    """
    if method == "parametric":
        if axis != "parameters":
            raise ValueError(
                f"axis={axis!r} is not allowed with the parametric method: it has none"
            )
        return _parametric(points_of(points, columns), drop_highest, resamples)
    for name, value in (("drop_highest", drop_highest), ("resamples", resamples)):
        if value:
            raise ValueError(f"{name}={value} is not allowed with isoflop: parametric only")
    law = fit_isoflop(points_of(points, columns), axis)
    print(f"{'budget':>9}  {'best ' + axis:<36} least loss")
    for curve in law.curves:
        print(f"{curve.budget:9.2e}  {_told(curve.best, '.4g'):<36} {_told(curve.lowest, '.4f')}")
    print(f"best {axis} = A · C^a: a = {_told(law.size.exponent, '.3f')}, ", end="")
    print(f"A = {law.size.law.coefficient:.3g}")
    print(f"least loss = B · C^b: b = {_told(law.loss.exponent, '.4f')}, ", end="")
    print(f"B = {law.loss.law.coefficient:.3g}")
    _tell_misfit(f"best {axis}", law.size, "more budgets")
    _tell_misfit("loss", law.loss, "predict --floor, more budgets")
    return 0


def predict(points: str, flops: float, axis: Axis, floor: bool, columns: Sequence[str] = ()) -> int:
    """Print what the law says of a budget; the exit code. `paper` asks the paper's own law.

    floor: fit a loss that no budget removes. Raises ValueError if no law fits.
    """
    if not (math.isfinite(flops) and flops > 0):
        raise ValueError(f"flops={flops!r} is not allowed: a finite number above 0")
    if points == "paper":
        return _paper(flops)
    law = fit_isoflop(points_of(points, columns), axis, floor="fit" if floor else 0.0)
    told = law.predict(flops)
    largest = max(curve.budget for curve in law.curves)
    print(f"at {flops:.3g} FLOPs, {flops / largest:.3g} times the largest budget fitted:")
    print(f"best {axis}: {_told(told.size, '.4g')}")
    print(f"loss: {_told(told.loss, '.4f')} nats a token", end="")
    print(f", floor {_told(law.loss.floor, '.3f')}" if floor else "")
    _tell_misfit(f"best {axis}", law.size, "more budgets")
    _tell_misfit("loss", law.loss, "more budgets" if floor else "--floor, more budgets")
    return 0


def points_of(points: str, columns: Sequence[str] = ()) -> list[Run]:
    """Runs of a file, of a sweep's folder, or of the points that come along under that name.

    columns: which column holds a field, as in loss=train_loss; of a file only.
    Of a folder all runs that are finished count, also those of a sweep that was interrupted; which
    ones are left out is told. Without any, its points.json is read.

    Raises ValueError if there are none, for a damaged file, and for a column that cannot be.
    """
    names, path = _named(columns), Path(points)
    if path.is_dir():
        if names:
            raise ValueError(f"column={columns[0]!r} is not allowed with a sweep's folder")
        runs, left_out = runs_in(path)
        if left_out:
            print(f"left out: {', '.join(left_out)}", file=sys.stderr)
        if runs:
            return runs
        path = path / "points.json"
        if left_out or not path.is_file():
            raise ValueError(f"{points!r} is not allowed: no run is finished there")
    if not path.exists() and points in stored_names():
        path = stored_path(points)
    try:
        found = read_runs(path, names=names)
    except ColumnError as error:
        raise ValueError(f"{error.told}; give --column {error.field}=NAME") from None
    if doubt := doubt_of_flops(found):
        print(f"doubt it: {doubt}", file=sys.stderr)
    return found


def _named(columns: Sequence[str]) -> dict[str, str]:
    names: dict[str, str] = {}
    for told in columns:
        field, sign, column = told.partition("=")
        if not (sign and field and column) or field in names:
            raise ValueError(f"column={told!r} is not allowed: FIELD=COLUMN, each field once")
        names[field] = column
    return names


def _parametric(runs: Sequence[Run], drop_highest: int, resamples: int) -> int:
    found = fit_parametric(runs, drop_highest=drop_highest, resamples=resamples)
    law = found.law
    print(f"L(N, D) = E + A / N^alpha + B / D^beta, on {found.runs} runs")
    print(f"E {law.E:.4f}  A {law.A:.2f}  B {law.B:.2f}  ", end="")
    print(f"alpha {law.alpha:.4f}  beta {law.beta:.4f}")
    if law.alpha > 0 and law.beta > 0:
        print(f"best parameters ~ C^{law.size_exponent:.4f}, tokens ~ C^{law.token_exponent:.4f}")
        names = ("E", "A", "B", "alpha", "beta", "size_exponent")
    else:
        names = ("E", "A", "B", "alpha", "beta")
    for name in names if resamples else ():
        print(f"{name:<13} {_told(found.interval(name), '.4g')}")
    for doubt in found.doubts:
        print(f"doubt it: {doubt}")
    return 0


def _tell_misfit(what: str, law: PowerLawFit, cure: str) -> None:
    if law.misfit is not None and law.misfit > DOUBTFUL:
        print(
            f"the law of the {what} misses its own points ({law.misfit:.1f} times their error ",
            end="",
        )
        print(f"bars): try {cure}, or doubt it")


def _paper(flops: float) -> int:
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


def _part(text: str) -> tuple[int, int]:
    number, sign, parts = text.partition("/")
    if not sign or not number.isdecimal() or not parts.isdecimal():
        raise ValueError(f"part={text!r} is not allowed: I/N, as in 1/4")
    return int(number), int(parts)


def _told(value: Interval, form: str) -> str:
    return f"{value.score:{form}} ({value.low:{form}} to {value.high:{form}})"
