"""The same steps on many cores and machines, by datatrove's executors (the extra `cluster`).

Two ways in. `StageStep` wraps a single document step for any datatrove pipeline, with datatrove's
own readers and writers around it. `run_on_cluster` runs a whole recipe: each phase of `shards` is
one executor, MinHash goes through datatrove's own stages, and lines are counted by DuckDB, bucket
by bucket. What comes out is, byte for byte, what the plain loop gives.
"""

import json
import shutil
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from datatrove.data import Document as TroveDocument
from datatrove.executor.base import PipelineExecutor
from datatrove.executor.local import LocalPipelineExecutor
from datatrove.executor.ray import RayPipelineExecutor
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.dedup.minhash import (
    MinhashConfig,
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupSignature,
)
from datatrove.utils.hashing import HashConfig

from llama3lib.data.dedup.lines import DropRepeatedLines
from llama3lib.data.dedup.minhash import DropNearDuplicates
from llama3lib.data.document import Document, DocumentStep, Drop
from llama3lib.data.funnel import Funnel
from llama3lib.data.shards import (
    Phase,
    Plan,
    read_shard_notes,
    report,
    run_decision,
    run_task,
    write_decision,
)
from llama3lib.utils.files import atomic_write
from llama3lib.utils.processes import end_with_parent, without_main_file, worker_context
from llama3lib.utils.require import require

_SILENT = 1  # datatrove prints what the worker with local rank 0 says
_TRIES = 3  # a worker may be killed by the system now and then; not again and again


class StageStep(PipelineStep):
    """A document step of ours as a step of a datatrove pipeline.

    Counts go to datatrove's statistics (`total`, `forwarded`, `dropped_REASON`); `exclusion_writer`
    may be any of its writers and gets what was dropped.
    """

    type = "llama3lib"

    def __init__(self, step: DocumentStep, exclusion_writer: Any = None) -> None:
        self.name = step.name
        super().__init__()
        self.step, self.exclusion_writer = step, exclusion_writer

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Iterator[TroveDocument]:
        """Called by datatrove for every shard."""
        with self.exclusion_writer or nullcontext():  # its files are closed at the end
            for trove in data or ():
                with self.track_time():
                    answer = self.step.apply(Document(trove.text, trove.id, trove.metadata))
                self.stat_update("total")
                if isinstance(answer, Drop):
                    self.stat_update(f"dropped_{answer.reason}")
                    if self.exclusion_writer is not None:
                        trove.metadata["drop_reason"] = answer.reason
                        self.exclusion_writer.write(trove, rank)
                    continue
                self.stat_update("forwarded")
                yield TroveDocument(answer.text, answer.id, metadata=dict(answer.metadata))


class _Work(PipelineStep):
    """A function of the rank as a pipeline of one step."""

    type = "llama3lib"

    def __init__(self, name: str, work: Callable[[int], None]) -> None:
        self.name = name
        super().__init__()
        self.work = work

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        """Called by datatrove for every task."""
        with self.track_time():
            self.work(rank)


class _Signatures(MinhashDedupSignature):
    """datatrove's first MinHash stage, fed with the signatures that are in our notes."""

    def __init__(self, plan: Plan, phase: Phase, folder: Path, config: MinhashConfig) -> None:
        PipelineStep.__init__(self)  # its own __init__ asks for a language's word tokenizer
        from datatrove.io import get_datafolder

        self.plan, self.phase, self.config = plan, phase, config
        self.output_folder, self.skip_existing_sigs = get_datafolder(str(folder)), False

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        """Called by datatrove for every shard."""
        notes = read_shard_notes(self.plan, self.phase.number, rank)
        documents = (TroveDocument(note or "", name) for name, note in notes)
        super().run(documents, rank, world_size)

    def get_shingles(self, text: str) -> np.ndarray:
        """The numbers of a note."""
        return np.frombuffer(bytes.fromhex(text), dtype=np.uint32)

    def get_signature(self, shingles: np.ndarray) -> list[list[int]]:
        """The same numbers, band by band."""
        return [band.tolist() for band in np.split(shingles, self.config.num_buckets)]


Job = tuple[str, list[PipelineStep], int]


def jobs(plan: Plan) -> list[Job]:
    """Name, pipeline and number of tasks of every job of a run, in order."""
    found: list[Job] = []
    for phase in plan.phases:
        work = partial(run_task, plan, phase)
        found.append((f"phase-{phase.number}", [_Work("phase", work)], len(plan.shards)))
        if isinstance(phase.noted, DropNearDuplicates):
            found += _minhash_jobs(plan, phase, phase.noted)
        elif isinstance(phase.noted, DropRepeatedLines):
            found += _line_jobs(plan, phase, phase.noted)
        elif phase.noted is not None:
            decide = partial(_decide, plan, phase)
            found.append((f"decide-{phase.number}", [_Work("decide", decide)], 1))
    found.append(("report", [_Work("report", partial(_report, plan))], 1))
    return found


def _decide(plan: Plan, phase: Phase, rank: int) -> None:
    run_decision(plan, phase)


def _report(plan: Plan, rank: int) -> None:
    report(plan)


def _minhash_jobs(plan: Plan, phase: Phase, step: DropNearDuplicates) -> list[Job]:
    """datatrove's stages: signatures, matches in each band, groups; then whom we keep."""
    folder = plan.folder / "work" / f"phase-{phase.number}" / "minhash"
    config = MinhashConfig(
        n_grams=step.ngram,
        num_buckets=step.bands,
        hashes_per_bucket=step.rows,
        hash_config=HashConfig(precision=32, hash_fc="sha1"),
    )
    signatures, matches, groups = (str(folder / part) for part in ("sig", "match", "group"))
    first = _Signatures(plan, phase, folder / "sig", config)
    second = MinhashDedupBuckets(signatures, matches, config=config)
    third = MinhashDedupCluster(matches, groups, config=config, save_cluster_id=True)
    last = _Work("keep", partial(_keep_first, plan, phase, Path(groups)))
    number = phase.number
    return [
        (f"minhash-1-{number}", [first], len(plan.shards)),
        (f"minhash-2-{number}", [second], step.bands),
        (f"minhash-3-{number}", [third], 1),
        (f"minhash-4-{number}", [last], 1),
    ]


def _keep_first(plan: Plan, phase: Phase, groups: Path, rank: int) -> None:
    """Turn datatrove's groups into our decision: all but the first document of a group go."""
    first: dict[int, str] = {}
    decision: dict[str, str] = {}
    for shard in range(len(plan.shards)):
        file = groups / f"{shard:06d}.clusters"
        group_of = dict(struct.iter_unpack("<2I", file.read_bytes())) if file.is_file() else {}
        for place, (name, _) in enumerate(read_shard_notes(plan, phase.number, shard)):
            if (group := group_of.get(place)) is not None:
                kept = first.setdefault(group, name)
                if kept != name:
                    decision[name] = kept
    write_decision(plan, phase, decision)


def _line_jobs(plan: Plan, phase: Phase, step: DropRepeatedLines) -> list[Job]:
    """Lines as numbers into one Parquet file a shard and bucket; DuckDB counts each bucket."""
    folder = plan.folder / "work" / f"phase-{phase.number}" / "lines"
    number = phase.number
    spread = _Work("spread", partial(_spread_lines, plan, phase, folder))
    count = _Work("count", partial(_count_lines, folder, step.most))
    join = _Work("join", partial(_join_lines, plan, phase, folder, step.buckets))
    return [
        (f"lines-1-{number}", [spread], len(plan.shards)),
        (f"lines-2-{number}", [count], step.buckets),
        (f"lines-3-{number}", [join], 1),
    ]


def _spread_lines(plan: Plan, phase: Phase, folder: Path, rank: int) -> None:
    import duckdb

    keys: dict[int, list[int]] = {}
    for _, (bucket, found) in read_shard_notes(plan, phase.number, rank):
        keys.setdefault(bucket, []).extend(found)
    for bucket, found in keys.items():
        numbers = {"key": np.array(found, dtype=np.uint64)}
        with atomic_write(folder / f"bucket-{bucket}" / f"part-{rank:05}.parquet") as file:
            with duckdb.connect(config={"threads": 1}) as connection:
                connection.register("numbers", numbers)
                connection.execute(f"COPY numbers TO '{_quoted(file)}' (FORMAT parquet)")


def _count_lines(folder: Path, most: int, rank: int) -> None:
    import duckdb

    parts = sorted((folder / f"bucket-{rank}").glob("part-*.parquet"))
    rows: list[tuple[int]] = []
    if parts:
        spill = str(folder / f"tmp-{rank}")
        config = {"threads": 1, "memory_limit": "2GB", "temp_directory": spill}
        with duckdb.connect(config=config) as connection:
            query = "SELECT key FROM read_parquet(?) GROUP BY key HAVING count(*) > ? ORDER BY key"
            rows = connection.execute(query, [[str(part) for part in parts], most]).fetchall()
    with atomic_write(folder / f"frequent-{rank}.json") as file:
        file.write_text(json.dumps([key for (key,) in rows]), encoding="utf-8")


def _join_lines(plan: Plan, phase: Phase, folder: Path, buckets: int, rank: int) -> None:
    files = [folder / f"frequent-{bucket}.json" for bucket in range(buckets)]
    decision = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    write_decision(plan, phase, decision)


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")


class LocalExecutor(LocalPipelineExecutor):
    """datatrove's local executor that survives the death of a worker.

    The original waits for ever for a task whose worker was killed. This one notices, starts new
    workers and goes on with what is not completed; after three deaths it gives up. Its workers end
    when it is killed itself.

    Raises RuntimeError then.
    """

    def run(self) -> None:
        """Run all tasks that have not been completed; a single one in this process."""
        if self.tasks == 1:
            self._run_for_rank(0, _SILENT)
            return
        for _ in range(_TRIES):
            ranks = self.get_incomplete_ranks(range(self.tasks))
            if not ranks:
                return
            workers = min(self.workers, len(ranks))
            try:
                context = worker_context()
                with (
                    without_main_file(),
                    ProcessPoolExecutor(workers, context, initializer=end_with_parent) as pool,
                ):
                    list(pool.map(partial(self._run_for_rank, local_rank=_SILENT), ranks))
            except BrokenProcessPool:
                continue
        if left := self.get_incomplete_ranks(range(self.tasks)):
            raise RuntimeError(f"tasks {left}: workers were killed {_TRIES} times; not done")


class RayExecutor(RayPipelineExecutor):
    """datatrove's Ray executor without its pool of processes inside each of Ray's workers.

    Those are forked from a worker whose signals Ray handles, so ending them can hang for ever. Here
    one task of Ray is one task of ours; Ray itself repeats those whose worker was killed.
    """

    def run(self) -> None:
        """Run all tasks that have not been completed, at most `workers` at the same time."""
        import ray

        ranks = self.get_incomplete_ranks(range(self.tasks))
        memory = int(self.mem_per_cpu_gb * self.cpus_per_task * 1024**3)
        options = {"num_cpus": self.cpus_per_task, "memory": memory, "max_retries": _TRIES}
        task = ray.remote(**options | (self.ray_remote_kwargs or {}))(_run_ray_task)
        me = ray.put(self) if ranks else None
        running: list[Any] = []
        for rank in ranks:
            if len(running) == self.workers:
                done, running = ray.wait(running)
                ray.get(done)
            running.append(task.remote(me, rank))
        ray.get(running)


def _run_ray_task(executor: RayExecutor, rank: int) -> None:
    executor._run_for_rank(rank, _SILENT)


def _logs(plan: Plan, job: str) -> Path:
    return plan.folder / "work" / "logs" / job


def forget_lost_work(plan: Plan) -> None:
    """Take back datatrove's marks of completed tasks whose files are not there any more."""
    for phase in plan.phases:
        number = phase.number
        shards = (n for n in range(len(plan.shards)) if not plan.is_done(number, n))
        lost = [(f"phase-{number}", shard) for shard in shards]
        if phase.noted is not None and not plan.path(number, "decision").is_file():
            lost += [(f"{last}-{number}", 0) for last in ("decide", "minhash-4", "lines-3")]
        for job, rank in [*lost, ("report", 0)]:
            (_logs(plan, job) / "completions" / f"{rank:05}").unlink(missing_ok=True)


def make_executor(
    job: Job, plan: Plan, engine: str, workers: int, **settings: Any
) -> PipelineExecutor:
    """datatrove's executor for a job; `settings` go to it (Slurm: `time`, `partition`, ...)."""
    name, pipeline, tasks = job
    logs = str(_logs(plan, name))
    if engine == "local":
        return LocalExecutor(pipeline, tasks=tasks, workers=workers, logging_dir=logs)
    if engine == "ray":
        return RayExecutor(pipeline, tasks=tasks, workers=workers, logging_dir=logs, **settings)
    from datatrove.executor.slurm import SlurmPipelineExecutor

    settings = {"time": "12:00:00", "partition": "cpu", **settings}
    return SlurmPipelineExecutor(
        pipeline, tasks=tasks, workers=workers, logging_dir=logs, job_name=name, **settings
    )


def find_engine(engine: str) -> None:
    """Raises ValueError if an engine cannot be used from this machine."""
    found = engine != "slurm" or shutil.which("sbatch")
    require(found, "engine", engine, "there is no command sbatch here; start it on a login node")


def run_on_cluster(plan: Plan, engine: str, workers: int, **settings: Any) -> Funnel | None:
    """Run all jobs of a plan, one after the other; `settings` go to each executor.

    With Slurm each job is submitted with the one before as its dependency, and None is returned.

    Raises RuntimeError if tasks of a job were not completed; run again to go on with them. Raises
    ValueError for Slurm where it isn't.
    """
    find_engine(engine)
    before: Any = None
    forget_lost_work(plan)
    for job in jobs(plan):
        alone = job[2] == 1 and engine == "ray"  # not worth a machine
        executor = make_executor(job, plan, "local" if alone else engine, workers, **settings)
        if engine == "slurm":
            executor.depends = before
            before = executor
            continue
        executor.run()
        if left := executor.get_incomplete_ranks(range(job[2])):
            raise RuntimeError(f"{job[0]}: tasks {left} were not completed; run again to go on")
    if engine == "slurm":
        before.run()  # submits those it depends on first
        return None
    return report(plan)
