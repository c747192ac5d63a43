"""Wrong input, diverging losses, full disks: a clear word, and the last good checkpoint stays."""

import logging
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from disk_tools import tiny_disk
from train_tools import (
    ARGS,
    changed,
    drawn_model,
    everything,
    phase,
    recipe,
    shard_of,
    sources,
    steps_told,
    stored,
    told,
    weights,
)

from llama3lib.checkpoint import CheckpointManager
from llama3lib.checkpoint.errors import CheckpointError
from llama3lib.train import DivergedError, SourceConfig, StoppedError, Trainer
from llama3lib.train import trainer as module
from llama3lib.train.config import make_config
from llama3lib.train.plan import make_plan, memory_of
from llama3lib.train.step import on_device


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return sources(tmp_path_factory.mktemp("shards"))


@pytest.fixture(autouse=True)
def _no_measuring(monkeypatch):
    monkeypatch.setattr(module, "peak_flops", lambda device, dtype: 1e12)


def test_a_loss_that_is_no_number_names_the_step_and_the_last_checkpoint(shards, tmp_path):
    trainer = Trainer(recipe(phase(steps=9)), shards, tmp_path)

    def poison(record):
        if record["step"] == 7:
            with torch.no_grad():
                trainer.model.norm.weight[0] = math.nan

    with pytest.raises(DivergedError) as caught:
        trainer.fit(poison)
    text = str(caught.value)
    assert text.startswith("step 8: loss nan")
    assert text.endswith(f"Last checkpoint: step 6 in {tmp_path / 'checkpoints'}")
    assert [row["step"] for row in steps_told(tmp_path)] == list(range(1, 8))
    poisoned = weights(trainer.model)
    assert sum(int(tensor.isnan().sum()) for tensor in poisoned.values()) == 1  # nothing spread
    with pytest.raises(StoppedError):
        trainer.fit()
    Trainer(recipe(phase(steps=9)), shards, tmp_path).fit()  # from step 6, without the poison
    Trainer(recipe(phase(steps=9)), shards, tmp_path / "whole").fit()
    assert steps_told(tmp_path) == steps_told(tmp_path / "whole")


def test_a_rate_that_is_far_too_high_ends_as_a_diverged_run(shards, tmp_path):
    config = recipe(phase(steps=60), optimizer={"peak": 1e30}, save_every=100)
    with pytest.raises(DivergedError, match=r"step \d+: loss .*No checkpoint yet"):
        Trainer(config, shards, tmp_path).fit()


def test_a_loss_that_jumps_is_counted_and_logged(shards, tmp_path, caplog):
    config = recipe(phase(steps=80, batch_size=1, length=8), save_every=1000)
    trainer = Trainer(config, shards, tmp_path)

    def shake(record):
        if record["step"] == 70:
            with torch.no_grad():
                trainer.model.output.weight.mul_(-20)

    with caplog.at_level(logging.WARNING, "llama3lib"):
        result = trainer.fit(shake)
    rows = [row for row in steps_told(tmp_path) if row["spike"]]
    assert result.spikes == len(rows) >= 1 and rows[0]["step"] == 71
    assert any("step 71: the loss jumps to" in line for line in caplog.messages)


def test_sources_that_do_not_fit_are_told_before_anything_is_written(shards, tmp_path):
    out = tmp_path / "run"
    short = shards | {"b": shard_of(tmp_path / "short", ["abcdefgh"])}
    later = recipe(
        phase("one"), phase("two", mix={"a": 1.0}), phase("long", 2, 2, 32, mix={"b": 1})
    )
    cases = [
        (recipe(names="abc"), shards, r"'c' of the recipe is missing"),
        (recipe(model=ARGS.replace(vocab_size=100)), shards, r"vocab_size=100 .* 'a' go up to 255"),
        (recipe(), short, r"^phases\.0 \(main\), data\.b: .* 9 tokens, a window needs 17"),
        (later, shards | {"b": shard_of(tmp_path / "mid", ["x" * 25])}, r"^phases\.2 \(long\)"),
    ]
    for config, given, message in cases:
        with pytest.raises(ValueError, match=message):
            Trainer(config, given, out)
        assert not (out / "config.json").exists() and not (out / "metrics.jsonl").exists()
    unread = changed(recipe(phase(mix={"a": 1.0})), micro_batch=7)  # more than the batch: all of it
    Trainer(unread, short, out).fit()


def test_a_gate_needs_somebody_to_answer(shards, tmp_path):
    with pytest.raises(ValueError, match="gate=None"):
        Trainer(recipe(phase(gate=True)), shards, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"average_every": 7}, r"average_every=7 .* 0 to steps=6"),
        ({"average_every": -1}, "average_every=-1"),
        ({"rope_theta": 0.0}, "rope_theta=0"),
        ({"rope_theta": math.inf}, "rope_theta=inf"),
        ({"most_steps": 5}, "most_steps=5"),
        ({"gate": True, "rate": "anneal"}, "gate=True"),
    ],
)
def test_phases_that_cannot_be(change, message):
    with pytest.raises(ValueError, match=message):
        phase(**change)


@pytest.mark.parametrize("name", ["held-out", "../x", "a/b", ".", "", "a b"])
def test_names_of_sources_are_names_of_folders_of_the_run(name):
    with pytest.raises(ValueError, match="^data="):
        changed(recipe(), data={name: SourceConfig(stories=1)})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("optimizer", "peak"), math.inf),
        (("optimizer", "eps"), math.inf),
        (("optimizer", "weight_decay"), math.inf),
        (("model", "preset"), 5),
        (("model", "preset"), ["8B"]),
        (("micro_batch",), 0),
        (("keep_last",), 0),
    ],
)
def test_values_that_are_no_use_are_refused_by_name(path, value):
    table = {
        "model": {"preset": "tiny"},
        "data": {"a": {"stories": 2}},
        "phases": [{"name": "one", "steps": 200, "batch_size": 1, "length": 8}],
    }
    place = table
    for part in path[:-1]:
        place = place.setdefault(part, {})
    place[path[-1]] = value
    with pytest.raises(ValueError, match=path[-1]):
        make_config(table)


def test_a_model_that_fits_no_memory_is_reckoned_not_built():
    table = {
        "model": {"preset": "405B"},
        "device": "cpu",
        "data": {"a": {"stories": 2}},
        "phases": [{"name": "one", "steps": 200, "batch_size": 1, "length": 8}],
    }
    plan = make_plan(make_config(table))
    assert not plan.measured and plan.memory.total > 6e12


@pytest.mark.parametrize("layers", [1, 3])
def test_the_plan_counts_what_the_document_mask_takes(layers):
    """At 128 tokens little, at 128,000 more than everything else: it grows with the square."""
    length, args = 128, ARGS.replace(n_layers=layers, max_seq_len=128)
    config = recipe(phase(steps=3, batch_size=2, length=length), model=args)
    planned = memory_of(config).activations
    planned -= memory_of(changed(config, document_mask=False)).activations
    owners = torch.arange(length + 1).mul(3).div(length + 1, rounding_mode="floor").expand(2, -1)
    tokens = torch.zeros(2, length + 1, dtype=torch.long)
    kept = []
    for ids in (owners, torch.zeros_like(owners)):
        storages = {}
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, to=storages: to.update({t.untyped_storage().data_ptr(): t}) or t, lambda t: t
        ):
            inputs, mask = on_device(tokens[:, :-1], ids[:, :-1], torch.device("cpu"))
            positions = None if mask is None else mask.positions()
            kept_alive = drawn_model(args)(inputs, positions, mask)
        kept.append(sum(t.untyped_storage().nbytes() for t in storages.values()))
        del kept_alive
    making = 3 * 2 * length**2  # the mask and its two parts, in bytes
    assert planned - making == pytest.approx(kept[0] - kept[1], rel=0.1)


def test_a_line_that_was_cut_off_is_written_again(shards, tmp_path):
    config = recipe(phase(steps=7), save_every=3)
    Trainer(config, shards, tmp_path / "whole").fit()
    trainer = Trainer(config, shards, tmp_path / "cut")
    with pytest.raises(KeyError):
        trainer.fit(lambda record: {}[record["step"]] if record["step"] == 5 else None)
    trainer.checkpoints.wait()
    log = tmp_path / "cut" / "metrics.jsonl"
    log.write_bytes(log.read_bytes()[:-20])
    assert len(steps_told(tmp_path / "cut")) == 4
    Trainer(config, shards, tmp_path / "cut").fit()
    assert told(tmp_path / "cut") == told(tmp_path / "whole")


@pytest.mark.parametrize("raw", [b"\xff\xfe\n", b"[]\n", b'{"step": "x"}\n', b'{"a": 1}\n{"step"'])
def test_a_log_with_other_lines_in_it_is_no_obstacle(shards, tmp_path, raw):
    (tmp_path / "metrics.jsonl").write_bytes(raw)
    Trainer(recipe(phase(steps=2)), shards, tmp_path).fit()
    assert [row["step"] for row in told(tmp_path)] == [1, 2]


def test_a_folder_that_cannot_be_one(shards, tmp_path):
    (tmp_path / "file").write_text("mine")
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises((OSError, ValueError), match="file"):
            Trainer(recipe(), shards, folder)
    assert everything(tmp_path) == {"file": b"mine"}


def test_an_error_of_the_evaluation_is_the_caller_s(shards, tmp_path):
    def evaluate(model):
        raise LookupError("no such text")

    with pytest.raises(LookupError):
        Trainer(recipe(), shards, tmp_path, evaluate=evaluate).fit()
    Trainer(recipe(), shards, tmp_path).fit()
    assert len(steps_told(tmp_path)) == 6


def test_a_log_that_cannot_be_written_stops_the_run(shards, tmp_path):
    trainer = Trainer(recipe(phase(steps=9)), shards, tmp_path)

    def break_it(record):
        if record["step"] == 5:
            trainer.log.flush()
            (tmp_path / "metrics.jsonl").unlink()
            (tmp_path / "metrics.jsonl").mkdir()

    with pytest.raises(StoppedError, match=r"metrics\.jsonl.*Last checkpoint: step 3"):
        trainer.fit(break_it)
    assert CheckpointManager(tmp_path / "checkpoints").steps() == [3]


_FULL = """
import os, sys
from pathlib import Path
folder = Path(sys.argv[2])
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
from train_tools import phase, recipe, sources
from llama3lib.checkpoint.errors import CheckpointError
from llama3lib.train import StoppedError, Trainer
shards = sources(folder / "data")
config = recipe(phase(steps=40, batch_size=1), save_every=5)
def fill(record):
    if record["step"] == 12:
        trainer.checkpoints.wait()
        if sys.argv[3] == "limit":  # a file of weights is larger, those of text are not
            import resource
            resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))
        else:
            with open(folder / "ballast", "wb", buffering=0) as file:
                try:
                    while True:
                        file.write(bytes(4096))
                except OSError:
                    pass
trainer = Trainer(config, shards, folder / "run")
try:
    trainer.fit(fill)
except (CheckpointError, StoppedError) as error:
    print(type(error).__name__, error)
"""


def full_disk(folder, how):
    command = [sys.executable, "-c", _FULL, str(Path(__file__).parents[1]), str(folder), how]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, encoding="utf-8", env=env, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def goes_on(folder):
    """The last good checkpoint is whole, and with room the run ends as one never disturbed."""
    shards = sources(folder / "data")
    config = recipe(phase(steps=40, batch_size=1), save_every=5)
    seen = []
    Trainer(config, shards, folder / "run").fit(lambda record: seen.append(record["step"]))
    assert seen == list(range(11, 41))
    Trainer(config, shards, folder / "whole").fit()
    assert told(folder / "run") == told(folder / "whole")
    ends = [stored(folder / name) for name in ("run", "whole")]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit on the size of files")
def test_a_checkpoint_that_cannot_be_written(tmp_path):
    out = full_disk(tmp_path, "limit")
    assert "CheckpointError the checkpoint of step 15 could not be written" in out
    assert "File too large" in out and "older checkpoints are as they were" in out
    assert CheckpointManager(tmp_path / "run" / "checkpoints").steps() == [5, 10]
    goes_on(tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="no mounting on Windows")
def test_a_full_disk(tmp_path):
    with tiny_disk(tmp_path, "2m") as disk:
        out = full_disk(disk, "disk")
        assert "Error" in out and "No space left on device" in out
        assert CheckpointManager(disk / "run" / "checkpoints").steps() == [5, 10]
        (disk / "ballast").unlink()
        goes_on(disk)


def test_errors_of_checkpoints_are_value_errors():
    assert issubclass(CheckpointError, ValueError)  # so that the command line tells them in a line
