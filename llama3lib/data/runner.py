"""Run a recipe on files of any size: task by task, resumable, with an account of every drop."""

import importlib
from collections.abc import Iterable
from pathlib import Path

from llama3lib.data.funnel import Funnel
from llama3lib.data.readers import Limits, packages_of
from llama3lib.data.recipe import Recipe
from llama3lib.data.shards import Plan, open_folder, report, run_decision, run_task
from llama3lib.utils.require import at_least, one_of

ENGINES = ("plain", "local", "ray", "slurm")


def run_recipe(
    recipe: Recipe,
    source: str | Path,
    folder: str | Path,
    *,
    engine: str = "plain",
    workers: int = 1,
    limits: Limits | None = None,
    progress: bool = False,
) -> Funnel | None:
    """Run a recipe on a file or folder and write the result into `folder`.

    Written are `documents/part-*.jsonl`, `funnel.json`, `funnel.html`, and under `work/` all that
    is needed to resume: start it again with the same arguments after any interruption, and only
    what is missing is done. The result is the same, byte for byte, with every engine and any number
    of workers.

    Engines: `plain` is a loop in this process. `local`, `ray` and `slurm` are datatrove's
    executors (the extra `cluster`). `slurm` only submits jobs; None is returned, and the report is
    written by the last of them.

    Raises ValueError for an unknown engine, an input that cannot be read, an output folder that
    belongs to something else, or Slurm where it isn't; ModuleNotFoundError if a package is missing
    that the run would need. Nothing has been written then.
    """
    one_of("engine", engine, list(ENGINES))
    at_least("workers", workers, 1)
    plan = Plan(recipe, Path(source), Path(folder), limits or Limits())
    for package in _packages(plan):
        importlib.import_module(package)
    if engine == "plain":
        open_folder(plan)
        return _run_plainly(plan, progress)
    from llama3lib.data.cluster import find_engine, run_on_cluster

    find_engine(engine)
    open_folder(plan)
    return run_on_cluster(plan, engine, workers)


def _packages(plan: Plan) -> list[str]:
    """All modules beyond the base installation that the run may import, each once."""
    files = (packages_of(file) for shard in plan.shards for file in shard)
    steps = (step.packages for step in plan.recipe.steps)
    return sorted({name for names in (*files, *steps) for name in names})


def _run_plainly(plan: Plan, progress: bool) -> Funnel:
    for phase in plan.phases:
        name = phase.noted.name if phase.noted else "the end"
        tasks: Iterable[int] = range(len(plan.shards))
        if progress:
            from tqdm.auto import tqdm

            label = f"Pass {phase.number + 1} of {len(plan.phases)}, up to {name}"
            tasks = tqdm(tasks, desc=label, unit="shard")
        for shard in tasks:
            run_task(plan, phase, shard)
        run_decision(plan, phase)
    return report(plan)
