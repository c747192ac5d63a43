"""Going on: only with what a run was begun with, from any whole checkpoint, after any Ctrl-C."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from timing_tools import patient
from train_tools import (
    ARGS,
    changed,
    everything,
    phase,
    recipe,
    same,
    shard_of,
    sources,
    steps_told,
    stored,
    texts,
    told,
    weights,
)

from llama3lib.checkpoint import CheckpointManager
from llama3lib.checkpoint.errors import CheckpointError
from llama3lib.train import OptimizerConfig, SourceConfig, StoppedError, Trainer
from llama3lib.train import trainer as module

pytestmark = pytest.mark.many_steps
PARTS = (
    phase("one", 4, 2, 16, mix={"a": 1.0, "b": 1.0}),
    phase("two", 5, 4, 16, mix={"a": 3.0, "b": 1.0}),
    phase("three", 4, 2, 16, rate="anneal", average_every=2),
)
WHOLE = recipe(*PARTS, save_every=2, keep_last=20)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return sources(tmp_path_factory.mktemp("shards"), "abc")


@pytest.fixture(scope="module")
def whole(shards, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, Trainer(WHOLE, shards, folder).fit()


@pytest.fixture(autouse=True)
def _no_measuring(monkeypatch):
    monkeypatch.setattr(module, "peak_flops", lambda device, dtype: 1e12)


def until(whole, tmp_path, step):
    """A copy of the run as it was at a checkpoint; its log may know more."""
    folder = tmp_path / f"at-{step}"
    shutil.copytree(whole[0], folder)
    for path in (folder / "checkpoints").iterdir():
        if int(path.name[5:]) > step:
            shutil.rmtree(path)
    return folder


def assert_same_end(folder, whole):
    assert told(folder) == told(whole[0])
    assert same(stored(folder), stored(whole[0]))


@pytest.mark.parametrize("step", [2, 4, 6, 8, 10, 12, 13])
def test_from_every_checkpoint_the_same_end(whole, shards, tmp_path, step):
    folder = until(whole, tmp_path, step)
    seen = []
    result = Trainer(WHOLE, shards, folder).fit(lambda record: seen.append(record["step"]))
    assert seen == list(range(step + 1, 14))
    assert_same_end(folder, whole)
    assert same(result.averaged["three"], whole[1].averaged["three"])


def other_optimizer(**change):
    return {"optimizer": changed(WHOLE.optimizer, **change)}


def other_phase(number, **change):
    parts = list(PARTS)
    parts[number] = changed(parts[number], **change)
    return {"phases": tuple(parts)}


WRONG = {
    "model.ffn_dim": {"model": ARGS.replace(ffn_dim=48)},
    "model.rope_theta": {"model": ARGS.replace(rope_theta=1e4)},
    "tokenizer": {"tokenizer": "tiny-base"},
    "seed": {"seed": 1},
    "optimizer.peak": other_optimizer(peak=2e-2),
    "optimizer.betas": other_optimizer(betas=(0.9, 0.99)),
    "optimizer.warmup": other_optimizer(warmup=3),
    "optimizer.clip": other_optimizer(clip=0.5),
    "precision": {"precision": "bfloat16"},
    "document_mask": {"document_mask": False},
    "phases.0.name": other_phase(0, name="uno"),
    "phases.0.steps": other_phase(0, steps=5),
    "phases.0.batch_size": other_phase(0, batch_size=3),
    "phases.0.length": other_phase(0, length=8),
    "phases.0.mix": other_phase(0, mix={"a": 1.0, "b": 1.0, "c": 1.0}),
    "phases.0.average_every": other_phase(0, average_every=2),
    "phases.1.batch_size": other_phase(1, batch_size=3),
    "phases.1.rate": other_phase(1, rate="constant"),
    "phases.1.rope_theta": other_phase(1, rope_theta=1e4),
    "phases.1.mix": other_phase(1, mix={"b": 1.0}),
    "phases.1.steps": other_phase(1, steps=3),
    "phases has 1": {"phases": PARTS[:1]},
}


@pytest.mark.parametrize("name", WRONG)
def test_what_was_computed_with_must_stay(whole, shards, tmp_path, name):
    folder = until(whole, tmp_path, 8)  # four steps into the second phase
    before = everything(folder)
    data = {n: SourceConfig(shard=n) for n in "abc"}
    wrong = changed(WHOLE, **({"data": data} | WRONG[name]))
    field = {"model.ffn_dim": "ffn|feed_forward"}.get(name, rf"^{name}\b")
    if name == "phases has 1":  # the second one is under way: only its first is finished
        folder = until(whole, tmp_path, 10)
        before, field = everything(folder), r"^phases has 1, .* finished 2"
    with pytest.raises(ValueError, match=field):
        Trainer(wrong, shards, folder)
    assert everything(folder) == before


def test_other_tokens_are_refused_before_and_after_they_were_finished(whole, shards, tmp_path):
    for step in (3, 8, 13):
        folder = until(whole, tmp_path, max(2, step))
        before = everything(folder)
        other = shards | {"b": shard_of(tmp_path / f"other-{step}", texts(60, seed=9))}
        more = changed(WHOLE, phases=(*PARTS, phase("four", 2, 2, 16, mix={"a": 1.0})))
        with pytest.raises(ValueError, match=r"^data\.b is not allowed"):
            Trainer(more, other, folder)
        assert everything(folder) == before


def test_settings_that_change_nothing_computed_may_change(whole, shards, tmp_path):
    folder = until(whole, tmp_path, 6)
    free = {"save_every": 3, "keep_last": 1, "evaluate_every": 7, "title": "x", "micro_batch": 9}
    Trainer(changed(WHOLE, **free, checkpointing=True), shards, folder).fit()
    assert_same_end(folder, whole)
    assert CheckpointManager(folder / "checkpoints").steps() == [13]


def test_later_phases_may_be_others(whole, shards, tmp_path):
    """Several annealings from the same trunk; up to the branch not a bit differs."""
    ends = {}
    for name, mix in {"plain": None, "upsampled": {"c": 1.0}}.items():
        folder = until(whole, tmp_path, 8).rename(tmp_path / name)
        branch = phase("branch", 6, 2, 16, rate="anneal", average_every=3, mix=mix)
        data = {n: SourceConfig(shard=n) for n in "abc"}
        config = changed(WHOLE, phases=(*PARTS[:2], branch), data=data)
        result = Trainer(config, shards, folder).fit()
        assert steps_told(folder)[:9] == steps_told(whole[0])[:9]
        assert result.steps == 15 and result.averaged.keys() == {"branch"}
        ends[name] = weights(result.model)
        # the other branch's steps lie in the copied folder still and are no part of the mean
        assert (folder / "weights" / "three").is_dir()
    assert not same(*ends.values())


def test_a_branch_of_the_same_name_does_not_average_the_weights_of_the_other(
    whole, shards, tmp_path
):
    branch = phase("three", 4, 2, 16, rate="anneal", average_every=4)
    folder = until(whole, tmp_path, 8)
    result = Trainer(changed(WHOLE, phases=(*PARTS[:2], branch)), shards, folder).fit()
    assert same(result.averaged["three"], weights(result.model))


def test_a_finished_run_gets_another_phase(shards, tmp_path):
    short = recipe(*PARTS[:1])
    Trainer(short, shards, tmp_path / "grown").fit()
    long = recipe(*PARTS[:2])
    Trainer(long, shards, tmp_path / "grown").fit()
    Trainer(long, shards, tmp_path / "whole").fit()
    assert told(tmp_path / "grown") == told(tmp_path / "whole")
    assert same(stored(tmp_path / "grown"), stored(tmp_path / "whole"))


def test_a_cosine_over_all_steps_does_not_let_the_number_of_steps_change(shards, tmp_path):
    told = OptimizerConfig(warmup=2, peak=1e-2)
    Trainer(changed(recipe(*PARTS[:1]), optimizer=told), shards, tmp_path).fit()
    with pytest.raises(ValueError, match=r"set optimizer\.decay_steps"):
        Trainer(changed(recipe(*PARTS[:2]), optimizer=told), shards, tmp_path)


@pytest.mark.parametrize("how", ["cut", "flipped", "deleted"])
def test_a_damaged_checkpoint_is_passed_over(whole, shards, tmp_path, how):
    names = [path.name for path in (whole[0] / "checkpoints" / "step-00000008").iterdir()]
    for name in sorted(names):
        folder = until(whole, tmp_path, 8)
        file = folder / "checkpoints" / "step-00000008" / name
        raw = bytearray(file.read_bytes())
        raw[len(raw) // 2] ^= 1
        if how == "deleted":
            file.unlink()
        else:
            file.write_bytes(raw if how == "flipped" else raw[:-1])
        seen = []
        Trainer(WHOLE, shards, folder).fit(lambda record, to=seen: to.append(record["step"]))
        assert seen[0] == 7
        assert_same_end(folder, whole)
        shutil.rmtree(folder)


def test_all_checkpoints_damaged_is_an_error_not_a_new_run(whole, shards, tmp_path):
    folder = until(whole, tmp_path, 4)
    for path in (folder / "checkpoints").iterdir():
        (path / "meta.json").write_text("{}")
    with pytest.raises(CheckpointError, match="every checkpoint in .* is damaged"):
        Trainer(WHOLE, shards, folder)


def test_damaged_weights_of_an_average_are_told_not_left_out(whole, shards, tmp_path):
    for name in ("manifest.json", "shard-00001-model-00001-of-00001.safetensors"):
        folder = until(whole, tmp_path, 12)
        (folder / "weights" / "three" / "step-00000011" / name).write_text("x")
        with pytest.raises(CheckpointError, match="step-00000011"):
            Trainer(WHOLE, shards, folder).fit()
        shutil.rmtree(folder)


def test_a_stop_between_steps_and_the_same_trainer_again(whole, shards, tmp_path):
    trainer = Trainer(WHOLE, shards, tmp_path)
    for stop in (3, 4, 9, 12):

        def on_step(record, stop=stop):
            if record["step"] == stop:
                signal.raise_signal(signal.SIGINT)

        before = signal.getsignal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            trainer.fit(on_step)
        assert signal.getsignal(signal.SIGINT) is before
        assert CheckpointManager(tmp_path / "checkpoints").steps()[-1] == stop
    trainer.save()  # as a caller may, at any time
    trainer.fit()
    assert_same_end(tmp_path, whole)


def test_a_second_interrupt_stops_in_the_midst_of_a_step_and_saves_nothing_half_done(
    whole, shards, tmp_path
):
    def probe(place):
        if place == "after_step" and trainer.state.place.step == 6:
            signal.raise_signal(signal.SIGINT)  # the weights are those of step 7 already
            signal.raise_signal(signal.SIGINT)

    trainer = Trainer(WHOLE, shards, tmp_path, probe=probe)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()
    with pytest.raises(StoppedError, match="make a new one"):
        trainer.fit()
    trainer.checkpoints.wait()
    assert CheckpointManager(tmp_path / "checkpoints").steps()[-1] == 6
    Trainer(WHOLE, shards, tmp_path).fit()
    assert_same_end(tmp_path, whole)


def test_a_checkpoint_appears_after_all_that_it_counts_on(shards, tmp_path):
    """The kept weights are written slowly here; a kill right after must not find them missing."""
    looks = []

    def probe(place):
        if place == "average_written":
            time.sleep(0.1)
        if place == "published":
            state = CheckpointManager(tmp_path / "checkpoints").read_meta()["state"]
            kept = CheckpointManager(tmp_path / "weights" / "three").steps()
            looks.append((state["kept"].get("three", []), kept))
            assert len(steps_told(tmp_path)) >= state["place"]["step"]

    Trainer(WHOLE, shards, tmp_path, probe=probe).fit()
    assert looks[-1] == ([11, 13], [11, 13]) and len(looks) == 7
    assert all(set(needed) <= set(there) for needed, there in looks)


def test_an_error_of_the_caller_loses_nothing(whole, shards, tmp_path):
    def on_step(record):
        if record["step"] == 5:
            raise RuntimeError("the caller's own")

    trainer = Trainer(WHOLE, shards, tmp_path)
    with pytest.raises(RuntimeError, match="own"):
        trainer.fit(on_step)
    trainer.fit()
    assert_same_end(tmp_path, whole)


def test_in_another_thread_there_are_no_signals(whole, shards, tmp_path):
    done = threading.Thread(target=lambda: Trainer(WHOLE, shards, tmp_path).fit())
    done.start()
    done.join()
    assert_same_end(tmp_path, whole)


def test_where_interrupts_are_ignored_they_stay_so(whole, shards, tmp_path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        Trainer(WHOLE, shards, tmp_path).fit(lambda record: signal.raise_signal(signal.SIGINT))
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert_same_end(tmp_path, whole)


_CHILD = """
import sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import torch
torch.set_num_threads(1)
from test_resume import WHOLE, Trainer, sources
here = Path(sys.argv[2])
def on_step(record):
    print(record["step"], flush=True)
    time.sleep(0.05)
Trainer(WHOLE, sources(here / "data", "abc"), here / "run").fit(on_step)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows sends Ctrl-C in another way")
def test_ctrl_c_of_a_process(whole, tmp_path):
    folders = os.pathsep.join(str(Path(__file__).parents[n]) for n in (0, 1))
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": folders}
    command = [sys.executable, "-c", _CHILD, str(Path(__file__).parent), str(tmp_path)]
    # a shell that puts a job in the background lets it ignore Ctrl-C; here it must not
    code = "import signal, sys, os; signal.signal(signal.SIGINT, signal.SIG_DFL); "
    code += "os.execv(sys.argv[1], sys.argv[1:])"
    stops = 0
    for after in (5, 99):
        child = subprocess.Popen(
            [sys.executable, "-c", code, *command], env=env, stdout=-1, stderr=-1, encoding="utf-8"
        )
        for _ in range(after):
            if not child.stdout.readline():
                break
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=patient(120))
        if child.returncode == 0:
            break
        stops += 1
        assert "KeyboardInterrupt" in errors and child.returncode in (1, 130, -signal.SIGINT)
        last = CheckpointManager(tmp_path / "run" / "checkpoints").steps()[-1]
        assert len(steps_told(tmp_path / "run")) == last
    assert stops == 1
    assert_same_end(tmp_path / "run", whole)
