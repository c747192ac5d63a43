"""Run a recipe on files of any size: task by task, resumable, with an account of every drop."""

import importlib
from collections.abc import Callable
from pathlib import Path

from llama3lib.data.funnel import Funnel
from llama3lib.data.readers import Limits, packages_of
from llama3lib.data.recipe import Recipe
from llama3lib.data.shards import Plan, Watch, open_folder, report, run_decision, run_task
from llama3lib.utils.require import at_least, one_of

Told = Callable[[int, int, str], None]
ENGINES = ("plain", "local", "ray", "slurm")


def run_recipe(
    recipe: Recipe,
    source: str | Path,
    folder: str | Path,
    *,
    engine: str = "plain",
    workers: int = 1,
    limits: Limits | None = None,
    progress: Told | None = None,
    watch: Watch | None = None,
) -> Funnel | None:
    """Run a recipe on a file or folder and write the result into `folder`.

    Written are `documents/part-*.jsonl`, `funnel.json`, `funnel.html`, and under `work/` all that
    is needed to resume: start it again with the same arguments after any interruption, and only
    what is missing is done. The result is the same, byte for byte, with every engine and any number
    of workers.

    Engines: `plain` is a loop in this process. `local`, `ray` and `slurm` are datatrove's
    executors (the extra `cluster`). `slurm` only submits jobs; None is returned, and the report is
    written by the last of them.

    With the engine `plain`, `progress(done, tasks, pass)` is called before the first task and after
    each; `watch(shard, documents)` passes on the documents of a task as they are read.

    Raises ValueError for an unknown engine, an input that cannot be read, an output folder that
    belongs to something else or where another process is at work, or Slurm where it isn't;
    ModuleNotFoundError if a package is missing that the run would need. Nothing has been written
    then.
    """
    one_of("engine", engine, list(ENGINES))
    at_least("workers", workers, 1)
    plan = Plan(recipe, Path(source), Path(folder), limits or Limits())
    for package in _packages(plan):
        importlib.import_module(package)
    if engine == "plain":
        with open_folder(plan):
            return _run_plainly(plan, progress, watch)
    from llama3lib.data.cluster import find_engine, run_on_cluster

    find_engine(engine)
    with open_folder(plan):
        return run_on_cluster(plan, engine, workers)


def _packages(plan: Plan) -> list[str]:
    """All modules beyond the base installation that the run may import, each once."""
    files = (packages_of(file) for shard in plan.shards for file in shard)
    steps = (step.packages for step in plan.recipe.steps)
    return sorted({name for names in (*files, *steps) for name in names})


def _run_plainly(plan: Plan, progress: Told | None, watch: Watch | None) -> Funnel:
    passes, shards = len(plan.phases), len(plan.shards)
    for phase in plan.phases:
        name = phase.noted.name if phase.noted else "the end"
        label, begun = f"pass {phase.number + 1} of {passes}, up to {name}", phase.number * shards
        for shard in range(shards):
            if progress is not None and begun + shard == 0:
                progress(0, passes * shards, label)
            run_task(plan, phase, shard, watch)
            if progress is not None:
                progress(begun + shard + 1, passes * shards, label)
        run_decision(plan, phase)
    return report(plan)
