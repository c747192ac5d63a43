"""Make the stored points of chapter 03: a sweep per seed, predictions written down, their tests.

    python scripts/run_scaling.py --runs FOLDER          # about a quarter of an hour on two cores

For each seed the grid of `llama3 scaling sweep toy` is run and its law fitted; losses of runs of
four and of ten times the largest budget are predicted and written to FOLDER before those runs are
made. An interrupted script goes on. Into `llama3lib/assets/scaling` go

- `toy.json`: the grids; `toy-long.json`: one more budget
- `toy-held-out.json`, `toy-ten-times.json`: the larger runs, and what was predicted of them
- `toy-unfinished.json`: two budgets again, each run cut out of one four times as long
"""

import argparse
import json
import platform
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from llama3lib.scaling import Budget, Run, cells, fit_isoflop, load_sweep, run_sweep, write_runs
from llama3lib.scaling.plan import SweepConfig
from llama3lib.scaling.points import STORED
from llama3lib.utils.files import atomic_write

HELD_OUT = {"toy-held-out": 1.2e12, "toy-ten-times": 3e12}
LONG = Budget(flops=1e12, models=((48, 1), (64, 1), (88, 1), (120, 1), (160, 1)))
WIDTHS = (64, 80, 96, 112, 128, 144, 160, 192, 224, 256)
UNFINISHED = (1e11, 3e11)
COSINE = 4.0


def nearest(config: SweepConfig, flops: float, parameters: float) -> SweepConfig:
    """The one run of a held-out budget whose size is nearest to the best one."""
    tried = Budget(flops=flops, models=tuple((width, 1) for width in WIDTHS))
    best = min(
        cells(replace(config, budgets=(tried,))), key=lambda c: abs(c.parameters - parameters)
    )
    only = Budget(flops=flops, models=((best.model.dim, best.model.n_layers),))
    return replace(config, budgets=(only,))


def unfinished(config: SweepConfig) -> SweepConfig:
    """Two budgets of the sweep, with a cosine that ends long after the run."""
    cut = [replace(b, cosine=COSINE) for b in config.budgets if b.flops in UNFINISHED]
    return replace(config, budgets=tuple(cut))


def grid(config: SweepConfig, folder: Path, processes: int) -> list[Run]:
    """All runs of a sweep, with a progress bar."""
    with tqdm(desc=f"seed {config.seeds[0]}") as bar:
        return run_sweep(config, folder, processes=processes, on_run=lambda record: bar.update())


def predicted(runs: Sequence[Run], seed: int, flops: float) -> dict[str, Any]:
    """What the sweep of a seed says of a larger run, with and without a floor of the loss."""
    told = fit_isoflop(runs, floor="fit").predict(flops)
    straight = fit_isoflop(runs).predict(flops)
    return {
        "seed": seed,
        "flops": flops,
        "size": [round(v) for v in (told.size.score, told.size.low, told.size.high)],
        "loss": [round(v, 4) for v in (told.loss.score, told.loss.low, told.loss.high)],
        "loss_without_floor": round(straight.loss.score, 4),
    }


def tested(
    config: SweepConfig, runs: Sequence[Run], flops: float, folder: Path
) -> tuple[Run, dict[str, Any]]:
    """A run beyond the grid and what was written down of it before."""
    note = predicted(runs, config.seeds[0], flops)
    path = folder / f"prediction-{flops:.3g}-seed{config.seeds[0]}.json"
    if not path.exists():  # written down once, before the run
        with atomic_write(path) as file:
            file.write_text(json.dumps(note) + "\n", encoding="utf-8")
    (run,) = grid(nearest(config, flops, note["size"][0]), folder, 1)
    return run, json.loads(path.read_text(encoding="utf-8"))


def store(name: str, what: str, runs: Sequence[Run], **more: Any) -> None:
    """Write points to the assets, with where they come from."""
    told = {
        "what": what,
        "made_by": "scripts/run_scaling.py",
        "machine": f"{platform.machine()}, one thread a run, torch {torch.__version__}",
        "unit": "nats a token (one word) on held-out text; nll: nats a character",
    }
    write_runs(STORED / f"{name}.json", runs, told | more)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    points: list[Run] = []
    cut: list[Run] = []
    tests: dict[str, list[tuple[Run, dict[str, Any]]]] = {name: [] for name in HELD_OUT}
    for seed in options.seeds:
        config = load_sweep("toy", [f"seeds=[{seed}]"])
        runs = grid(config, options.runs, options.processes)
        points += runs
        for name, flops in HELD_OUT.items():
            tests[name].append(tested(config, runs, flops, options.runs))
        cut += grid(unfinished(config), options.runs, options.processes)
    store("toy", "sweep toy on the invented language", points)
    long = run_sweep(replace(load_sweep("toy"), budgets=(LONG,)), options.runs, processes=1)
    store("toy-long", "one more budget for sweep toy, too long for a lesson", long)
    what = "sweep toy again, its learning rate not yet down: cosine four times as long as the run"
    store("toy-unfinished", what, cut)
    for (name, found), times in zip(tests.items(), ("four", "ten"), strict=True):
        what = f"one run a seed, {times} times the largest budget; predicted from that seed's sweep"
        runs = [run for run, _ in found]
        store(name, what, runs, predictions=[note for _, note in found])


if __name__ == "__main__":
    main()
