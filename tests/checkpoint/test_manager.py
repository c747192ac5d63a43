"""Checkpoints of a run: what comes back, when it is written, and what errors leave behind."""

import json
import math
import os
import re
import threading
import time

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import nn

from llama3lib.checkpoint import CheckpointError
from llama3lib.checkpoint.manager import CheckpointManager
from llama3lib.utils.files import sha256_file

DTYPES = "float32 float64 bfloat16 float16 int64 uint8 bool complex64 float8_e4m3fn".split()


def every_kind():
    """Tensors of each sort that training has, filled with random bytes: NaNs and all."""
    rng = torch.Generator().manual_seed(0)
    shared = torch.randn(6, 4, generator=rng)
    model = {"embed.weight": shared, "output.weight": shared}
    for name in DTYPES:
        raw = torch.randint(2 if name == "bool" else 256, (96,), generator=rng, dtype=torch.uint8)
        model[name] = raw.view(getattr(torch, name)).reshape(-1, 3)
    turned = torch.randn(3, generator=rng, dtype=torch.complex64)
    odd = {
        "plain": turned,
        "conjugate": turned.conj(),
        "empty": torch.empty(0, 3),
        "scalar": torch.tensor(-0.0),
        "transposed": torch.randn(5, 7, generator=rng).t(),
        "slice": torch.randn(50, generator=rng)[3:40:4],
        "expanded": torch.randn(1, generator=rng).expand(4),
        "parameter": nn.Parameter(torch.randn(3, generator=rng)),
    }
    return {"model": model, "optimizer": {"deep": {"er": odd}, "step": torch.tensor(7)}}


def blank(tensors):
    """The same tree, in memory of its own, with other values."""
    if isinstance(tensors, dict):
        return {name: blank(value) for name, value in tensors.items()}
    return torch.empty(tensors.shape, dtype=tensors.dtype).copy_(torch.ones(()))


def bits(tensors):
    """Names and raw bytes: a NaN is not equal to itself, its bytes are."""
    if isinstance(tensors, dict):
        return {name: bits(value) for name, value in tensors.items()}
    tensor = tensors.detach().resolve_conj().contiguous()
    return tensor.dtype, tuple(tensor.shape), tensor.reshape(-1).view(torch.uint8).tolist()


def numbered(step, size=64):
    """Tensors from which one can see what step they belong to."""
    return {
        "model": {"w": torch.full((size,), float(step)), "b": torch.full((3,), step)},
        "optimizer": {"w": {"exp_avg": torch.full((size,), step / 3)}},
    }


def restored(manager, step=None):
    tensors = blank(numbered(0))
    found = manager.restore(tensors, step)
    if found is not None:
        assert bits(tensors) == bits(numbered(found.step))
        assert found.meta == {"step": found.step}
    return found


def save(manager, *steps, **options):
    for step in steps:
        manager.save(step, numbered(step), {"step": step}, **options)
    manager.wait()


def entries(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("asynchronous", [True, False])
def test_every_kind_of_tensor_comes_back_bit_by_bit(tmp_path, asynchronous):
    manager, tensors = CheckpointManager(tmp_path, asynchronous=asynchronous), every_kind()
    manager.save(3, tensors, {})
    again = blank(tensors)
    assert bits(again) != bits(tensors)
    assert manager.restore(again).step == 3
    assert bits(again) == bits(tensors)
    loaded = manager.load_tensors(3, "model")
    assert bits(loaded) == bits(tensors["model"])
    assert set(manager.load_tensors(3, "optimizer")) == {
        "step",
        *(f"deep.er.{name}" for name in tensors["optimizer"]["deep"]["er"]),
    }


def test_torch_itself_reads_what_we_write(tmp_path):
    manager, tensors = CheckpointManager(tmp_path), every_kind()
    manager.save(3, tensors, {})
    manager.wait()
    again = blank(tensors)
    with pytest.warns(UserWarning, match="single process"):
        reader = dcp.HuggingFaceStorageReader(str(tmp_path / "step-00000003"))
        dcp.load(again, storage_reader=reader)
    assert bits(again) == bits(tensors)


def test_targets_may_be_laid_out_in_other_ways(tmp_path):
    manager = CheckpointManager(tmp_path)
    values = torch.arange(12.0).reshape(3, 4)
    model = nn.Linear(4, 3)
    manager.save(1, {"w": values, "b": torch.ones(3)}, {})
    large = torch.zeros(8, 8)
    manager.restore({"w": large.t()[2:5, 1:8:2], "b": model.bias})
    assert torch.equal(large.t()[2:5, 1:8:2], values) and large.count_nonzero() == 11
    assert torch.equal(model.bias, torch.ones(3)) and model.bias.requires_grad


def test_tied_tensors_stay_tied(tmp_path):
    manager, weight = CheckpointManager(tmp_path), torch.randn(4, 4)
    manager.save(1, {"a": weight, "b": weight}, {})
    target = torch.zeros(4, 4)
    manager.restore({"a": target, "b": target})
    assert torch.equal(target, weight)


def test_training_may_go_on_at_once(tmp_path):
    hold = threading.Event()
    before = ("before_save", "staged")
    manager = CheckpointManager(tmp_path, probe=lambda name: name in before or hold.wait(20))
    tensors, meta = numbered(1), {"step": 1, "list": [1]}
    manager.save(1, tensors, meta)
    tensors["model"]["w"].zero_()
    tensors["optimizer"]["w"]["exp_avg"].mul_(3)
    meta["list"].append(2)
    assert manager.steps() == []  # still being written
    hold.set()
    manager.wait()
    assert manager.steps() == [1]
    again = blank(numbered(1))
    assert manager.restore(again).meta == {"step": 1, "list": [1]} and bits(again) == bits(
        numbered(1)
    )


def test_probes_come_in_order_and_a_second_save_waits(tmp_path):
    seen = []
    manager = CheckpointManager(
        tmp_path, probe=lambda name: (time.sleep(0.02 * (name == "written")), seen.append(name))
    )
    save(manager, 1, 2)
    order = ["before_save", "staged", "written", "manifest", "published", "pruned"]
    assert seen == order * 2


def test_the_manifest_tells_every_file(tmp_path):
    save(CheckpointManager(tmp_path), 12)
    folder = tmp_path / "step-00000012"
    told = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    files = {f.name: f for f in folder.iterdir() if f.name != "manifest.json"}
    assert told["step"] == 12 and told["files"] == {
        name: {"size": file.stat().st_size, "sha256": sha256_file(file)}
        for name, file in files.items()
    }


def test_numbers_of_meta_come_back_bit_by_bit(tmp_path):
    manager = CheckpointManager(tmp_path)
    floats = [0.1, 1 / 3, -0.0, 5e-324, 1.7976931348623157e308, 2.0**-1074, math.inf, -math.inf]
    meta = {"f": floats, "i": [0, -(2**63), 2**200], "s": 'ü"\n\ud800', "n": None, "t": True}
    manager.save(1, numbered(1), meta | {"nan": math.nan, "tuple": (1, 2)})
    told = manager.read_meta()
    assert math.isnan(told.pop("nan")) and told.pop("tuple") == [1, 2]
    assert told == meta and [math.copysign(1, x) for x in told["f"]][2] == -1
    assert manager.read_meta(1).keys() == manager.restore(blank(numbered(0))).meta.keys()


@pytest.mark.parametrize(
    "meta, words",
    [
        ({1: 2}, "key 1"),
        ({"a": [{"b": {None: 1}}]}, "key None"),
        ({"a": torch.ones(1)}, "Tensor"),
        ({"a": {1, 2}}, "set"),
        ({"a": b"x"}, "bytes"),
        ({"a": 10**5000}, "integer"),
        ([1], "a dictionary"),
    ],
)
def test_meta_that_json_cannot_hold(tmp_path, meta, words):
    with pytest.raises(ValueError, match=words):
        CheckpointManager(tmp_path).save(1, numbered(1), meta)
    assert entries(tmp_path) == []


@pytest.mark.parametrize(
    "tensors, words",
    [
        ({}, "empty"),
        ({"model": {}}, "empty"),
        ({"a": 1.0}, "a is a float"),
        ({"a": {"b": [torch.ones(1)]}}, "a.b is a list"),
        ({"a": {0: torch.ones(1)}}, "key 0 in 'a'"),
        ({"a.b": torch.ones(1), "a": {"b": torch.ones(1)}}, "'a.b' twice"),
        ({"a": torch.ones(2, 2).to_sparse()}, "sparse"),
        ({"a": torch.ones(2, device="meta")}, "meta"),
    ],
)
def test_tensors_that_cannot_be_stored(tmp_path, tensors, words):
    manager = CheckpointManager(tmp_path)
    for call in (lambda: manager.save(1, tensors, {}), lambda: manager.restore(tensors)):
        with pytest.raises(ValueError, match=words):
            call()
    assert entries(tmp_path) == []


def test_bad_arguments(tmp_path):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    for value in (0, -1, 2.0, True, None):
        with pytest.raises(ValueError, match="keep_last="):
            CheckpointManager(tmp_path, keep_last=value)
    with pytest.raises(ValueError, match="it is a file"):
        CheckpointManager(tmp_path / "file")
    for step in (-1, 1.0, True, "1", 10**18):
        with pytest.raises(ValueError, match="step="):
            CheckpointManager(tmp_path).save(step, numbered(1), {})
    save(CheckpointManager(tmp_path), 1)
    with pytest.raises(ValueError, match="prefix='mod'.*model, optimizer"):
        CheckpointManager(tmp_path).load_tensors(1, "mod")
    with pytest.raises(ValueError, match="model.w cannot be filled"):
        broad = numbered(1) | {"model": {"w": torch.ones(1).expand(64), "b": torch.ones(3)}}
        CheckpointManager(tmp_path).restore(broad)


def test_nothing_there(tmp_path):
    manager = CheckpointManager(tmp_path / "not" / "yet")
    assert manager.steps() == [] and manager.read_meta() is None and restored(manager) is None
    for call in (manager.read_meta, lambda step: restored(manager, step)):
        with pytest.raises(CheckpointError, match="no checkpoint of step 4: none"):
            call(4)
    assert entries(tmp_path) == []


def test_old_ones_go_and_kept_ones_stay(tmp_path):
    manager = CheckpointManager(tmp_path, keep_last=2)
    save(manager, 1, 2)
    save(manager, 3, keep=True)
    save(manager, 4, 5, 100_000_000)
    assert manager.steps() == [3, 5, 100_000_000]
    assert entries(tmp_path) == ["step-00000003", "step-00000005", "step-100000000"]
    assert restored(manager).step == 100_000_000 and restored(manager, 3).step == 3


def test_after_going_back_the_new_branch_stays(tmp_path):
    manager = CheckpointManager(tmp_path, keep_last=1)
    save(manager, 20)
    save(manager, 7)  # a run that was restored from step 5
    assert manager.steps() == [7, 20]


def test_a_step_that_is_saved_again_is_replaced(tmp_path):
    manager = CheckpointManager(tmp_path)
    save(manager, 5)
    manager.save(5, numbered(8), {"step": 5})
    manager.wait()
    assert torch.equal(manager.load_tensors(5, "model")["w"], torch.full((64,), 8.0))
    assert entries(tmp_path) == ["step-00000005"]


def test_other_folders_are_left_alone(tmp_path):
    for name in ("step-5", "step-000000005", "step-00000009", "logs", ".step-00000001.tmp"):
        (tmp_path / name).mkdir()
    (tmp_path / "step-00000010").write_text("a file", encoding="utf-8")
    before = entries(tmp_path)
    manager = CheckpointManager(tmp_path, keep_last=1)
    assert manager.steps() == []
    save(manager, 1, 2)
    assert manager.steps() == [2]
    assert entries(tmp_path) == sorted([*before, "step-00000002"])
    found = restored(manager)
    assert found.step == 2 and [step for step, _ in found.skipped] == [9]


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda t: t["model"].pop("b"), "model.b is not expected"),
        (lambda t: t["model"].update(c=torch.ones(1)), "model.c is missing"),
        (lambda t: t["model"].update(w=torch.ones(8, 8)), r"has shape \[64\], \[8, 8\] is"),
        (lambda t: t["model"].update(w=torch.ones(64).half()), "float32, torch.float16 is exp"),
        (lambda t: t.pop("optimizer"), "optimizer.w.exp_avg is not expected"),
    ],
)
def test_a_changed_model_is_told_and_nothing_is_filled(tmp_path, change, words):
    manager = CheckpointManager(tmp_path)
    manager.save(1, {"other": torch.ones(2)}, {})
    save(manager, 2)
    tensors = blank(numbered(0))
    change(tensors)
    before = bits(tensors)
    for step in (None, 2):
        with pytest.raises(CheckpointError, match=f"changed between save and resume.*{words}"):
            manager.restore(tensors, step)
    assert bits(tensors) == before


def test_an_error_in_the_background_is_told_once_and_the_next_save_works(tmp_path):
    manager = CheckpointManager(tmp_path)
    save(manager, 1)
    (tmp_path / "step-00000002").write_text("in the way", encoding="utf-8")
    manager.save(2, numbered(2), {})
    words = rf"step 2 could not be written to {re.escape(str(tmp_path))}.*is a file.*older"
    with pytest.raises(CheckpointError, match=words):
        manager.wait()
    manager.wait()
    manager.save(2, numbered(2), {})
    with pytest.raises(CheckpointError, match="step 2 could not be written"):
        manager.save(3, numbered(3), {})
    save(manager, 4)
    assert manager.steps() == [1, 4] and restored(manager).step == 4
    assert entries(tmp_path) == ["step-00000001", "step-00000002", "step-00000004"]


@pytest.mark.parametrize("asynchronous", [True, False])
def test_a_folder_that_cannot_be_made(tmp_path, asynchronous):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    manager = CheckpointManager(tmp_path / "file" / "run", asynchronous=asynchronous)
    with pytest.raises(CheckpointError, match="could not be written.*file"):
        save(manager, 1)
    assert entries(tmp_path) == ["file"]


def test_a_writer_that_fails_midway_leaves_nothing(tmp_path):
    for name in ("written", "manifest"):
        manager = CheckpointManager(tmp_path)
        save(manager, 1)

        def fail(now, name=name):
            if now == name:
                raise RuntimeError("planted")

        manager._probe = fail
        with pytest.raises(CheckpointError, match="planted"):
            save(manager, 2)
        assert entries(tmp_path) == ["step-00000001"] and restored(manager).step == 1


def test_left_overs_go_but_not_those_of_a_living_writer(tmp_path):
    hold, reached = threading.Event(), threading.Event()

    def probe(name):
        if name == "written":
            reached.set()
            assert hold.wait(20)

    writer = CheckpointManager(tmp_path, probe=probe)
    writer.save(2, numbered(2), {"step": 2})
    assert reached.wait(20)
    dead = tmp_path / ".step-00000001.0123456789abcdef.tmp"
    dead.mkdir()
    os.utime(dead, (time.time() - 4000, time.time() - 4000))
    assert CheckpointManager(tmp_path).steps() == []
    assert dead.exists() and len(entries(tmp_path)) == 2
    hold.set()
    writer.wait()
    aside = tmp_path / ".step-00000001.fedcba9876543210.old"
    os.rename(tmp_path / "step-00000002", tmp_path / ".step-00000002.fedcba9876543210.old")
    aside.mkdir()
    (tmp_path / "step-00000001").mkdir()
    assert restored(CheckpointManager(tmp_path)).step == 2  # what was moved aside is back
    assert entries(tmp_path) == ["step-00000001", "step-00000002"]


def test_where_there_are_no_locks_only_what_is_old_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr("llama3lib.checkpoint.manifest.fcntl", None)
    for age, name in ((0, "1" * 16), (4000, "2" * 16)):
        folder = tmp_path / f".step-00000001.{name}.tmp"
        folder.mkdir()
        os.utime(folder, (time.time() - age, time.time() - age))
    save(CheckpointManager(tmp_path), 3)
    assert entries(tmp_path) == [f".step-00000001.{'1' * 16}.tmp", "step-00000003"]
