"""Runs that are killed, disks that are full, several processes: all in processes of their own."""

import os
import subprocess
import sys

import pytest
import torch
from disk_tools import tiny_disk
from timing_tools import patient

from llama3lib.checkpoint.manager import CheckpointManager

PROBES = ["before_save", "staged", "written", "manifest", "published", "pruned"]
POSIX = pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked")

# what a run saves, and a look at what is there; the other scripts begin with it
_COMMON = """
import os, random, shutil, signal, sys, time
from pathlib import Path
import torch
from llama3lib.checkpoint.manager import CheckpointManager
torch.set_num_threads(1)
folder = Path(sys.argv[1])
def numbered(step):
    return {"model": {"w": torch.full((20_000,), float(step))}, "more": {"b": torch.tensor(step)}}
def save(manager, step):
    manager.save(step, numbered(step), {"step": step})
    manager.wait()
def forked(work):
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(1)
    return child
"""

_KILL_IN_PROBES = (
    _COMMON
    + """
def train(place, asynchronous, fatal):
    def probe(name):
        if name == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
    save(CheckpointManager(place, keep_last=1, asynchronous=asynchronous, probe=probe), 2)
for asynchronous in (True, False):
    for fatal in sys.argv[2:]:
        place = folder / f"{fatal}-{asynchronous}"
        save(CheckpointManager(place), 1)
        child = forked(lambda: train(place, asynchronous, fatal))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
"""
)

_KILL_AT_RANDOM = (
    _COMMON
    + """
def train():
    manager = CheckpointManager(folder, keep_last=2)
    target = numbered(0)
    found = manager.restore(target)
    step = found.step if found else 0
    while True:
        step += 1
        manager.save(step, numbered(step), {"step": step})
begun = time.monotonic()
save(CheckpointManager(folder / "timed"), 1)
one = time.monotonic() - begun
shutil.rmtree(folder / "timed")
rng, newest = random.Random(0), 0
for _ in range(int(sys.argv[2])):
    child = forked(train)
    time.sleep(rng.uniform(1, 10) * max(one, 0.02))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    manager, target = CheckpointManager(folder), numbered(0)
    assert not [name for name in os.listdir(folder) if name.startswith(".")]
    found = manager.restore(target)
    if found is None:
        assert newest == 0
        continue
    assert found.skipped == [] and found.step >= newest and found.meta == {"step": found.step}
    assert torch.equal(target["model"]["w"], numbered(found.step)["model"]["w"])
    assert target["more"]["b"] == found.step
    newest = found.step
print(newest)
"""
)

_FULL = (
    _COMMON
    + """
if len(sys.argv) > 2:
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
for asynchronous in (True, False):
    manager = CheckpointManager(folder, asynchronous=asynchronous)
    save(manager, 1)
    large = {"model": {"w": torch.ones(2_000_000)}}
    for step in (2, 3):
        try:
            manager.save(step, large, {})
            manager.wait()
        except ValueError as error:
            told = str(error)
        else:
            raise AssertionError("nothing was raised")
        assert f"step {step} could not be written to {folder}" in told, told
        assert "No space left" in told or "File too large" in told, told
    assert os.listdir(folder) == ["step-00000001"], os.listdir(folder)
    save(manager, 4)
    target = numbered(0)
    assert manager.restore(target).step == 4 and target["more"]["b"] == 4
    manager.restore(target, 1)
    assert target["more"]["b"] == 1
    shutil.rmtree(folder / "step-00000004")
"""
)

_TOGETHER = (
    _COMMON
    + """
import torch.distributed as dist
from llama3lib.checkpoint import ranks
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor
rank = int(sys.argv[2])
def whole(step):
    rng = torch.Generator().manual_seed(step)
    shapes = {"rows": (8, 6), "uneven": (3, 5), "columns": (4, 7), "one": (1, 2), "all": (2, 2)}
    return {name: torch.randn(shape, generator=rng) for name, shape in shapes.items()}
def cut(step):
    how = {"columns": Shard(1), "all": Replicate()}
    parts = {n: distribute_tensor(t, mesh, [how.get(n, Shard(0))]) for n, t in whole(step).items()}
    own = {f"own{rank}": {"t": torch.tensor(rank + step)}}
    return {"model": parts | {"plain": torch.arange(5.0) + step}} | own
def same(left, right):
    local = lambda t: t.to_local() if hasattr(t, "to_local") else t
    flat = lambda d: [local(t) for _, g in sorted(d.items()) for _, t in sorted(g.items())]
    return all(torch.equal(a, b) for a, b in zip(flat(left), flat(right), strict=True))
def refused(words, work):
    try:
        work()
    except ValueError as error:
        assert words in str(error), error
    else:
        raise AssertionError("nothing was raised")
dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
mesh = init_device_mesh("cpu", (2,))
manager = CheckpointManager(folder / "run", keep_last=2)
assert manager.restore(cut(0)) is None
for step in (1, 2, 3):
    state = cut(step)
    manager.save(step, state, {"step": step, "rank": rank})
    state["model"]["rows"].mul_(0)
target = cut(9)
found = manager.restore(target)
assert (found.step, found.meta, found.skipped) == (3, {"step": 3, "rank": 0}, [])
assert same(target, cut(3)) and manager.steps() == [2, 3]
loaded = manager.load_tensors(3, "model")
assert all(torch.equal(loaded[name], tensor) for name, tensor in whole(3).items())
# an error on one rank is an error on both, and what is written stays
original = ranks._describe
if rank == 1:
    ranks._describe = lambda *a: 1 / 0
refused("division by zero", lambda: (manager.save(4, cut(4), {}), manager.wait()))
ranks._describe = original
assert manager.steps() == [2, 3]
# damage that only one rank looks at makes both go back
if rank == 0:
    (own,) = (folder / "run" / "step-00000003").glob("shard-00002-*")
    with open(own, "ab") as file:
        file.write(b"x")
dist.barrier()
target = cut(9)
found = manager.restore(target)
assert found.step == 2 and [step for step, _ in found.skipped] == [3] and same(target, cut(2))
target["own" + str(rank)]["t"] = torch.zeros(3)
refused("has shape [], [3] is expected", lambda: manager.restore(target, 2))
dist.barrier()
dist.destroy_process_group()
"""
)

# the same folder by one process, which has no shards
_ALONE = (
    _COMMON
    + _TOGETHER.split(_COMMON)[1].split("def cut")[0].replace("int(sys.argv[2])", "0")
    + """
target = {"model": {n: t * 0 for n, t in whole(2).items()} | {"plain": torch.zeros(5)}}
target |= {f"own{r}": {"t": torch.tensor(-1)} for r in (0, 1)}
assert CheckpointManager(folder / "run").restore(target).step == 2
assert all(torch.equal(target["model"][name], tensor) for name, tensor in whole(2).items())
assert [int(target[f"own{r}"]["t"]) for r in (0, 1)] == [2, 3]
"""
)


def start(code, *arguments):
    command = [sys.executable, "-W", "error:::llama3lib", "-c", code, *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
    )


def finish(*children):
    try:
        told = [child.communicate(timeout=patient(120)) for child in children]
    finally:
        for child in children:
            child.kill()
    for child, (_, errors) in zip(children, told, strict=True):
        assert child.returncode == 0, errors[-3000:]
    return [out for out, _ in told]


@pytest.mark.slow
@POSIX
def test_a_run_killed_in_each_probe(tmp_path):
    finish(start(_KILL_IN_PROBES, tmp_path, *PROBES))
    for asynchronous in (True, False):
        for number, fatal in enumerate(PROBES):
            folder = tmp_path / f"{fatal}-{asynchronous}"
            manager = CheckpointManager(folder)
            published = number >= PROBES.index("published")
            wanted = [[1], [1, 2], [2]][published + (fatal == "pruned")]
            assert manager.steps() == wanted
            assert sorted(os.listdir(folder)) == [f"step-{step:08d}" for step in wanted]
            for step in wanted:
                target = {"model": {"w": torch.zeros(20_000)}, "more": {"b": torch.tensor(0)}}
                assert manager.restore(target, step).meta == {"step": step}
                assert target["model"]["w"].eq(step).all() and target["more"]["b"] == step


@pytest.mark.slow
@POSIX
@pytest.mark.parametrize("kills", [15, pytest.param(200, marks=pytest.mark.long)])
def test_a_run_killed_at_any_moment(tmp_path, kills):
    (newest,) = finish(start(_KILL_AT_RANDOM, tmp_path, kills))
    assert int(newest) > 2


@pytest.mark.slow
@POSIX
def test_a_limit_on_the_size_of_files(tmp_path):
    finish(start(_FULL, tmp_path, 500_000))


@pytest.mark.slow
@POSIX
def test_a_full_disk(tmp_path):
    with tiny_disk(tmp_path, "1m") as disk:
        finish(start(_FULL, disk))


@pytest.mark.distributed
def test_two_processes_write_and_read_one_checkpoint(tmp_path):
    finish(*(start(_TOGETHER, tmp_path, rank) for rank in (0, 1)))
    finish(start(_ALONE, tmp_path))
