"""What `llama3 scaling` does: run a sweep, fit its laws, predict a larger run."""

import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from llama3lib.eval.intervals import Interval
from llama3lib.paper import scaling as paper
from llama3lib.scaling.isoflop import Axis, fit_isoflop
from llama3lib.scaling.parametric import fit_parametric
from llama3lib.scaling.plan import cells, load_sweep
from llama3lib.scaling.points import Run, read_runs, stored_names, stored_path, write_runs
from llama3lib.scaling.sweep import prepare, run_sweep, waiting


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

    only_prepare: write text and settings only. dry_run: tell the runs only.

    Raises ValueError for a wrong sweep, or a folder of another one.
    """
    config, share = load_sweep(name, changes), _part(part)
    planned = cells(config)
    print(f"{config.title}: {len(planned)} runs, {sum(c.flops for c in planned):.2e} FLOPs")
    if dry_run:
        for cell in planned:
            size = f"{cell.parameters:>13,} parameters {cell.tokens:>15,} tokens"
            print(f"{cell.budget:9.2e} FLOPs {size} {cell.steps:>8,} steps  seed {cell.seed}")
        return 0
    if only_prepare:
        prepare(config, folder)
        print(f"{folder} is ready: start the jobs")
        return 0
    left = len(waiting(config, folder, share))
    with tqdm(total=left, desc="runs", disable=not sys.stderr.isatty()) as bar:
        runs = run_sweep(
            config, folder, processes=processes, part=share, on_run=lambda record: bar.update()
        )
    write_runs(Path(folder) / "points.json", runs, {"made_by": f"llama3 scaling sweep {name}"})
    print(f"finished: {len(runs)} of {len(planned)}; points in {Path(folder) / 'points.json'}")
    return 0


def fit(points: str, axis: Axis, method: str, drop_highest: int) -> int:
    """Print the laws that fit the points; the exit code. Raises ValueError if none do."""
    runs = points_of(points)
    if method == "parametric":
        return _parametric(runs, drop_highest)
    law = fit_isoflop(runs, axis)
    print(f"{'budget':>9}  {'best ' + axis:<36} least loss")
    for curve in law.curves:
        print(f"{curve.budget:9.2e}  {_told(curve.best, '.4g'):<36} {_told(curve.lowest, '.4f')}")
    print(f"best {axis} = A · C^a: a = {_told(law.size.exponent, '.3f')}, ", end="")
    print(f"A = {law.size.law.coefficient:.3g}")
    print(f"least loss = B · C^b: b = {_told(law.loss.exponent, '.4f')}, ", end="")
    print(f"B = {law.loss.law.coefficient:.3g}")
    return 0


def predict(points: str, flops: float, axis: Axis, floor: bool) -> int:
    """Print what the law says of a budget; the exit code. `paper` asks the paper's own law.

    floor: fit a loss that no budget removes. Raises ValueError if no law fits.
    """
    if not flops > 0:
        raise ValueError(f"flops={flops!r} is not allowed: a number above 0")
    if points == "paper":
        return _paper(flops)
    law = fit_isoflop(points_of(points), axis, floor="fit" if floor else 0.0)
    told = law.predict(flops)
    largest = max(curve.budget for curve in law.curves)
    print(f"at {flops:.3g} FLOPs, {flops / largest:.3g} times the largest budget fitted:")
    print(f"best {axis}: {_told(told.size, '.4g')}")
    print(f"loss: {_told(told.loss, '.4f')} nats a token", end="")
    print(f", floor {law.loss.law.floor:.3f}" if floor else "")
    return 0


def points_of(points: str) -> list[Run]:
    """Runs of a file, of a sweep's folder, or of the points that come along under that name."""
    path = Path(points)
    if path.is_dir():
        path = path / "points.json"
    if not path.exists() and points in stored_names():
        path = stored_path(points)
    return read_runs(path)


def _parametric(runs: Sequence[Run], drop_highest: int) -> int:
    found = fit_parametric(runs, drop_highest=drop_highest)
    law = found.law
    print(f"L(N, D) = E + A / N^alpha + B / D^beta, on {found.runs} runs")
    print(f"E {law.E:.4f}  A {law.A:.2f}  B {law.B:.2f}  ", end="")
    print(f"alpha {law.alpha:.4f}  beta {law.beta:.4f}")
    print(f"best parameters ~ C^{law.size_exponent:.4f}, tokens ~ C^{law.token_exponent:.4f}")
    return 0


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
