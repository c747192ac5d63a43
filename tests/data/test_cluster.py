"""The engines against the plain loop, byte for byte; and the whole against planted truth."""

import itertools
import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import threading

import dill
import psutil
import pytest
from datatrove.data import Document as TroveDocument
from datatrove.executor import slurm
from datatrove.executor.local import LocalPipelineExecutor
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter
from timing_tools import alive, wait_until

from llama3lib.data import cluster
from llama3lib.data.document import Document
from llama3lib.data.filters import GopherRules
from llama3lib.data.pii import MaskPII
from llama3lib.data.readers import read_documents, to_json, write_jsonl
from llama3lib.data.recipe import make_recipe, web_recipe
from llama3lib.data.runner import run_recipe
from llama3lib.data.shards import Plan, dropped, open_folder, output_text, read_part
from llama3lib.worlds.miniweb import crawl, make_web, prose
from llama3lib.worlds.miniweb.score import score_duplicates, score_kinds, score_lines, score_pii

RECIPE = web_recipe(word_list={"words": list(prose.LISTED_WORDS)}, line_dedup={"buckets": 3})
WORDS = [f"word{n}" for n in range(500)]


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    folder = tmp_path_factory.mktemp("web")
    crawl(make_web(150, seed=3), folder)
    return folder


@pytest.fixture(scope="module")
def plain(archives, tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain") / "out"
    run_recipe(RECIPE, archives, folder)
    return folder


def results(folder):
    """What a run is for: its documents, the account, and all drops with their details."""
    files = sorted([*(folder / "documents").glob("*"), *folder.glob("funnel.*")])
    files += sorted((folder / "work").glob("phase-*/dropped/part-*"))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.distributed
@pytest.mark.slow
def test_ray_workers_give_the_same_bytes(archives, plain, tmp_path):
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False)
    try:
        run_recipe(RECIPE, archives, tmp_path / "out", engine="ray", workers=2)
    finally:
        ray.shutdown()
    assert results(tmp_path / "out") == results(plain)


@pytest.mark.distributed
def test_local_workers_give_the_same_bytes_even_if_one_is_killed(archives, plain, tmp_path):
    folder = tmp_path / "out"
    others = {child.pid for child in multiprocessing.active_children()}
    killed = []

    def kill_one():
        begun = list(folder.glob("work/phase-0/d*/part-*"))
        mine = [c.pid for c in multiprocessing.active_children() if c.pid not in others]
        if begun and mine:
            os.kill(mine[0], signal.SIGKILL)
            killed.append(mine[0])
        return killed

    thread = threading.Thread(target=wait_until, args=(kill_one, 120))
    thread.start()
    found = run_recipe(RECIPE, archives, folder, engine="local", workers=2)
    thread.join()
    assert killed and results(folder) == results(plain) and len(found.counts) == 12
    # deleted results are made again, although datatrove has them for completed
    (folder / "documents" / "part-00002.jsonl").unlink()
    (folder / "work" / "phase-1" / "decision.json").unlink()
    run_recipe(RECIPE, archives, folder, engine="local", workers=2)
    assert results(folder) == results(plain)


@pytest.mark.distributed
def test_workers_that_always_die_are_told(tmp_path):
    step = cluster._Work("die", _die)
    executor = cluster.LocalExecutor([step], tasks=2, workers=2, logging_dir=str(tmp_path))
    with pytest.raises(RuntimeError, match="killed 3 times"):
        executor.run()


def _die(rank):
    os.kill(os.getpid(), signal.SIGKILL)


def family_files(folder, seed, files=4):
    """Copies and near-copies all over some files, one of which is empty."""
    rng = random.Random(seed)
    rows = []
    for _ in range(40):
        words = rng.choices(WORDS, k=rng.randint(1, 90))
        for changes in rng.choices((0, 0, 1, 2, 8), k=rng.randint(2, 6)):
            copy = list(words)
            for _ in range(changes):
                copy[rng.randrange(len(copy))] = rng.choice(WORDS)
            rows.append(Document(" ".join(copy) + "\nfoot", "x", {"language": rng.choice("ab")}))
    rng.shuffle(rows)
    rows.append(Document("", "x"))
    for n in range(files):
        write_jsonl(rows[n::files] if n != 1 else [], folder / f"{n}.jsonl")
    return folder


def run_jobs_here(plan):
    """All jobs of the cluster, task by task and the last task first, without any executor."""
    for _, pipeline, tasks in cluster.jobs(plan):
        for rank in reversed(range(tasks)):
            (step,) = pipeline
            step.run(None, rank, tasks)


@pytest.mark.parametrize("per_language", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_datatroves_minhash_and_duckdbs_lines_decide_as_ours_do(tmp_path, seed, per_language):
    steps = [
        {"use": "minhash_dedup", "bands": 10, "rows": 5, "per_language": per_language},
        {"use": "line_dedup", "most": 4, "buckets": 3, "per_language": per_language},
    ]
    recipe = make_recipe({"steps": steps})
    source = family_files(tmp_path / "in", seed)
    run_recipe(recipe, source, tmp_path / "plain")
    plan = Plan(recipe, source, tmp_path / "there")
    with open_folder(plan):
        run_jobs_here(plan)
    assert results(tmp_path / "there") == results(tmp_path / "plain")
    reasons = [row.reason for row in dropped(plan)]
    assert reasons.count("near-duplicate") > 10
    assert '"lines_removed": 1' in output_text(plan)


def test_every_corpus_step_runs_as_a_job(tmp_path):
    recipe = make_recipe(
        {"steps": [{"use": n} for n in ("url_dedup", "outliers", "downsample", "minhash_dedup")]}
    )
    source = family_files(tmp_path / "in", 9)
    run_recipe(recipe, source, tmp_path / "plain")
    plan = Plan(recipe, source, tmp_path / "there")
    with open_folder(plan):
        run_jobs_here(plan)
    assert results(tmp_path / "there") == results(tmp_path / "plain")


def test_a_stage_between_datatroves_reader_and_writers(tmp_path):
    rng = random.Random(0)
    texts = [" ".join(rng.choices(WORDS, k=rng.randint(1, 40))) for _ in range(60)]
    texts[5] += " mail to someone@example.com"
    rows = [Document(text, f"d{n}", {"n": n}) for n, text in enumerate(texts)]
    for part in range(2):
        write_jsonl(rows[part::2], tmp_path / "in" / f"{part}.jsonl")
    short = GopherRules(least_words=20, stop_words=0)
    stages = [
        cluster.StageStep(short, JsonlWriter(str(tmp_path / "dropped"), compression=None)),
        cluster.StageStep(MaskPII()),
    ]
    pipeline = [
        JsonlReader(str(tmp_path / "in")),
        *stages,
        JsonlWriter(str(tmp_path / "out"), compression=None),
    ]
    logs = str(tmp_path / "logs")
    stats = LocalPipelineExecutor(pipeline, tasks=1, workers=1, logging_dir=logs).run()
    kept = [d for path in sorted((tmp_path / "out").iterdir()) for d in read_part(path)]
    gone = [d for path in sorted((tmp_path / "dropped").iterdir()) for d in read_part(path)]
    long = [row for row in rows if len(row.text.split()) >= 20]
    assert {d.metadata["n"]: d.text for d in kept} == {
        row.metadata["n"]: row.text.replace("someone@example.com", "[EMAIL]") for row in long
    }
    assert len(gone) == len(rows) - len(long) > 10
    assert {d.metadata["drop_reason"] for d in gone} == {"too short"}
    told = {stage.name: {k: v.total for k, v in stage.stats.items()} for stage in stats.stats}
    first = next(counts for name, counts in told.items() if "gopher" in name)
    assert (first["total"], first["forwarded"]) == (60, len(long))
    assert first["dropped_too short"] == len(gone)


def test_a_stage_on_documents_directly():
    step = cluster.StageStep(MaskPII())
    before = TroveDocument("write to a@example.com", "d", metadata={"x": 1})
    (after,) = step.run([before])
    assert after.text == "write to [EMAIL]" and after.id == "d"
    assert after.metadata == {"x": 1, "pii": {"email": 1}} and before.metadata == {"x": 1}
    assert list(step.run(None)) == []


def test_slurm_scripts_depend_each_on_the_one_before(tmp_path, monkeypatch):
    recipe = make_recipe(
        {"steps": [{"use": n} for n in ("url_dedup", "minhash_dedup", "line_dedup", "pii")]}
    )
    source = family_files(tmp_path / "in", 1)
    submitted, numbers = [], itertools.count(100)
    (tmp_path / "sbatch").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    def submit(script, retriever, *args):
        submitted.append((str(next(numbers)), script, args))
        return submitted[-1][0]

    monkeypatch.setattr(slurm, "launch_slurm_job", submit)
    monkeypatch.setattr(slurm, "expand_slurm_nodelist", lambda nodes: [nodes])
    monkeypatch.setenv("SLURM_NODELIST", "this-machine")
    assert run_recipe(recipe, source, tmp_path / "out", engine="slurm", workers=2) is None
    main = [one for one in submitted if "launch_pickled_pipeline" in one[1]]
    names = [re.search(r"--job-name=(\S+)", script)[1] for _, script, _ in main]
    plan = Plan(recipe, source, tmp_path / "out")
    assert names == [name for name, _, _ in cluster.jobs(plan)]
    for (number, _, _), (_, _, args) in itertools.pairwise(main):
        assert f"--dependency=afterok:{number}" in args
    assert not any("dependency" in arg for arg in main[0][2])
    arrays = [re.search(r"--array=0-(\d+)%2", script)[1] for _, script, _ in main]
    assert [int(n) + 1 for n in arrays] == [tasks for _, _, tasks in cluster.jobs(plan)]
    assert all("--time=12:00:00" in script for _, script, _ in main)
    # what Slurm would start on its machines, in that order
    for (_, script, _), tasks in zip(main, map(int, arrays), strict=True):
        pickle = re.search(r"launch_pickled_pipeline (\S+)", script)[1]
        for task in range(tasks + 1):
            monkeypatch.setenv("SLURM_ARRAY_TASK_ID", str(task))
            with open(pickle, "rb") as file:
                dill.load(file).run()
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID")
    run_recipe(recipe, source, tmp_path / "plain")
    assert results(tmp_path / "out") == results(tmp_path / "plain")


def test_slurm_where_it_is_not_says_so_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    recipe, source = make_recipe({"steps": [{"use": "pii"}]}), family_files(tmp_path / "in", 1)
    with pytest.raises(ValueError, match="engine='slurm'.*sbatch"):
        run_recipe(recipe, source, tmp_path / "out", engine="slurm")
    with pytest.raises(ValueError, match="sbatch"):
        cluster.run_on_cluster(Plan(recipe, source, tmp_path / "out"), "slurm", 1)
    assert not (tmp_path / "out").exists()


@pytest.mark.long
def test_the_workers_of_a_killed_run_end_by_themselves(archives, tmp_path):
    run = "import sys; from llama3lib.data.recipe import web_recipe; "
    run += "from llama3lib.data.runner import run_recipe; "
    run += "run_recipe(web_recipe(), *sys.argv[1:], engine='local', workers=2)"
    command = [sys.executable, "-c", run, str(archives), str(tmp_path / "out")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    parent, family = psutil.Process(process.pid), set()

    def at_work():  # workers, their sandboxes, and what multiprocessing itself starts
        family.update(parent.children(recursive=True))
        return list((tmp_path / "out").glob("work/phase-0/d*/part-*"))

    wait_until(at_work, 120)
    process.kill()
    process.wait()
    assert len(family) >= 4
    wait_until(lambda: not any(map(alive, family)), 60)


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """A web of 1,500 pages through the recipe, with the state before each step we score."""
    folder = tmp_path_factory.mktemp("scored")
    web = make_web(1500, seed=0)
    crawl(web, folder / "in")
    plan = Plan(
        web_recipe(word_list={"words": [*prose.LISTED_WORDS]}), folder / "in", folder / "out"
    )
    run_recipe(plan.recipe, plan.source, plan.folder)
    return web, plan


def documents_of(plan, phase):
    """What a phase has written, all shards in order."""
    shards = range(len(plan.shards))
    return [d for n in shards for d in read_part(plan.path(phase, "documents", n))]


def test_scores_against_planted_truth(scored, capsys):
    web, plan = scored
    final = documents_of(plan, len(plan.phases) - 1)
    steps = [phase.decided and phase.decided.name for phase in plan.phases]
    compared = documents_of(plan, steps.index("minhash_dedup") - 1)
    gone = {
        row.id: row.detail.removeprefix("of ")
        for row in dropped(plan)
        if row.step == "minhash_dedup"
    }
    near = score_duplicates({d.id: d.text for d in compared}, gone)
    masked, lines = score_pii(web, final), score_lines(web, final)
    with capsys.disabled():
        for name, table in (("near-duplicates", near), ("PII", masked), ("lines", lines)):
            print(f"\n{name}: {table} recall {table.recall:.4f} precision {table.precision:.4f}")
        print(score_kinds(web, final))
    assert near.recall >= 0.98 and near.precision >= 0.95 and near.hits > 100
    assert masked.recall >= 0.99 and masked.hits > 50
    assert lines.recall >= 0.95
    assert lines.false_alarms <= 0.01 * (lines.false_alarms + lines.left_alone)


def test_good_kinds_stay_and_junk_goes(scored):
    web, plan = scored
    kinds = score_kinds(web, documents_of(plan, len(plan.phases) - 1))
    left = {kind: now / max(1, before) for kind, (before, now) in kinds.items()}
    assert all(left[kind] == 0 for kind in ("adult", "empty"))
    assert all(left[kind] <= 0.05 for kind in ("spam", "log", "encoded")), left
    assert left["shuffled"] == 1  # single words of good pages: only a model of quality sees it
    assert left["story"] > 0.9 and left["foreign"] > 0.9 and left["program"] > 0.9, left
    assert to_json(next(iter(read_documents(plan.folder / "documents"))))
