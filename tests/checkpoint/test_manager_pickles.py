"""Pickles that would run a program or fill the memory, in each place where DCP keeps a pickle."""

import copyreg
import functools
import importlib
import io
import marshal
import operator
import os
import pickle
import random
import runpy
import shutil
import struct
import subprocess
import sys
import timeit
import zipfile

import pytest
import torch
import torch.distributed.checkpoint as dcp
from timing_tools import deadline
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex

from llama3lib.checkpoint import CheckpointError, manifest
from llama3lib.checkpoint.manager import CheckpointManager
from llama3lib.checkpoint.plain_pickle import read_plain_pickle

CANARY = "canary-that-must-not-be"
COMMAND = f"{sys.executable} -c \"open('{CANARY}', 'w')\""
PYTHON = f"open({CANARY!r}, 'w').close()"
VALUES = {"model": {"a": torch.arange(12.0).reshape(4, 3), "b": torch.arange(50.0, 62).view(4, 3)}}
VALUES["model"]["c"] = torch.tensor([2.5, 3.5], dtype=torch.bfloat16)


class Calls:
    """Calls a function with arguments when it is unpickled, and sets a state if there is one."""

    def __init__(self, function, *arguments, state=None):
        self.does = (function, arguments, state)

    def __reduce__(self):
        return self.does

    def __call__(self):
        """So that pickle takes the result of a call for something to call."""


def saved(value, **options):
    file = io.BytesIO()
    torch.save(value, file, **options)
    return file.getvalue()


def call(*parts):
    """The pickle of a call of a call ...: each pair is a function and its arguments."""
    return pickle.dumps(Calls(*parts), 4)


def text(word):
    return b"\x8c" + bytes([len(word)]) + word.encode()


POSIX = os.system.__module__
OLD = f"S{COMMAND!r}\n".encode()  # text as protocol 0 writes it
OS = Calls(__import__, "os")
CODE = Calls(marshal.loads, marshal.dumps(compile(PYTHON, "x", "exec")))
MADE = Calls(getattr, Calls(importlib.import_module, "types"), "FunctionType")
INNER = call(os.system, COMMAND)
PARTIAL = Calls(functools.partial, len, state=(os.system, (COMMAND,), {}, None))
RUNS = {
    "os.system, text": f"c{POSIX}\nsystem\n(".encode() + OLD + b"tR.",
    "os.system, protocol 2": pickle.dumps(Calls(os.system, COMMAND), 2),
    "os.system, protocol 4": INNER,
    "os.system, protocol 5": pickle.dumps(Calls(os.system, COMMAND), 5),
    "eval": call(eval, f"__import__('os').system({COMMAND!r})"),
    "exec": call(exec, PYTHON),
    "getattr": call(Calls(getattr, OS, "system"), COMMAND),
    "getattr of getattr": call(
        Calls(getattr, Calls(getattr, Calls(getattr, OS, "path"), "os"), "system"), COMMAND
    ),
    "attrgetter": call(Calls(Calls(operator.attrgetter, "path.os.system"), OS), COMMAND),
    "methodcaller": call(Calls(operator.methodcaller, "system", COMMAND), OS),
    "partial": call(functools.partial(os.system, COMMAND)),
    "importlib": call(Calls(getattr, Calls(importlib.import_module, "os"), "system"), COMMAND),
    "subprocess": call(subprocess.check_output, [sys.executable, "-c", PYTHON]),
    "timeit": call(timeit.timeit, PYTHON, "pass", timeit.default_timer, 1),
    "a function of code": call(Calls(MADE, CODE, {"open": open})),
    "runpy": call(runpy._run_code, CODE, {}),
    "a pickle in a pickle": call(pickle.loads, INNER),
    "torch.load": call(torch.storage._load_from_bytes, saved(Calls(os.system, COMMAND))),
    "map and list": call(list, Calls(map, exec, [PYTHON])),
    "INST": b"(" + OLD + f"i{POSIX}\nsystem\n.".encode(),
    "OBJ": f"(c{POSIX}\nsystem\n".encode() + OLD + b"o.",
    "from the memo": f"c{POSIX}\nsystem\np7\n0g7\n(".encode() + OLD + b"tR.",
    "MEMOIZE and BINGET": b"\x80\x04"
    + text(POSIX)
    + text("system")
    + b"\x93\x940h\x00"
    + text(COMMAND)
    + b"\x85R.",
    "an extension code": b"\x80\x04\x82\xc8" + text(COMMAND) + b"\x85R.",
    "__setstate__": pickle.dumps(Calls(PARTIAL), 4),
    "in a list": pickle.dumps([1, {"a": (Calls(os.system, COMMAND),)}]),
    "as a key": pickle.dumps({Calls(os.system, COMMAND): 1}),
    "thrown away": INNER[:-1] + b"0N.",
    "in a table": pickle.dumps(Metadata({}, planner_data=Calls(os.system, COMMAND))),
    "as a version": pickle.dumps(Metadata({}, version=Calls(exec, PYTHON))),
}


def bomb(depth):
    """A tuple of itself twice, again and again: 2**depth items in a file of 4*depth bytes."""
    return b")\x94" + b"".join(b"h" + bytes([i]) + b"\x86\x94" for i in range(depth))


INERT = {
    "empty": b"",
    "no end": b"\x80\x04N",
    "two pickles": b"\x80\x04N.\x80\x04N.",
    "nothing": b"\x80\x04N.",
    "a number": b"\x80\x04K\x01.",
    "marks only": b"(" * 20_000 + b".",
    "a huge frame": b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"N.",
    "huge text": b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"x.",
    "huge bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"x.",
    "a huge bytearray": b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"x.",
    "a huge number": b"\x80\x04\x8b" + struct.pack("<I", 2**31 - 1) + b"x.",
    "a number of many digits": b"L" + b"9" * 1_000_000 + b"L\n.",
    "a huge memo": b"\x80\x04Nr" + struct.pack("<I", 2**31 - 1) + b".",
    "a memo that is not there": b"\x80\x04j" + struct.pack("<I", 2**31 - 1) + b".",
    "2**60 items": b"\x80\x04" + bomb(60) + b".",
    "2**60 items as a key": b"\x80\x04}" + bomb(60) + b"Ns.",
    "deep tuples": b"\x80\x04)" + b"\x85" * 20_000 + b".",
    "deep tuples as a key": b"\x80\x04})" + b"\x85" * 20_000 + b"Ns.",
    "deep lists": b"\x80\x04" + b"]" * 20_000 + b"a" * 19_999 + b".",
    "a list in itself": b"\x80\x04]\x94h\x00a.",
    "a persistent id": b"Pevil\n.",
    "a persistent object": b"\x80\x04N\x95Q.",
    "a buffer from outside": b"\x80\x05\x97.",
    "a name as a table": b"\x80\x04\x8c\x05torch\x8c\x04Size\x93.",
    "a state for a class": b"\x80\x04\x8c)torch.distributed.checkpoint.metadata"
    b"\x8c\x08Metadata\x93}\x8c\x07version\x8c\x01xs\x86b.",
    "a call of a dtype": b"\x80\x04\x8c\x05torch\x8c\x07float32\x93)R.",
    "a call of a call": b"\x80\x04\x8c\x05torch\x8c\x04Size\x93)R)R.",
    "a shape of shapes": b"\x80\x04\x8c\x05torch\x8c\x04Size\x93" * 2 + b"\x85R.",
    "a dotted name": b"\x80\x04\x8c\x05torch\x8c\x0cSize.__new__\x93)R.",
    "a name in two places": b"\x80\x04\x8c\x00\x8c\x0atorch.Size\x93)R.",
    "an unknown opcode": b"\x80\x04\xff.",
    "not text": b"\x80\x04\x8c\x02\xff\xfe.",
}


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    manager = CheckpointManager(folder)
    for step in (1, 2):
        manager.save(step, VALUES, {})
    manager.wait()
    return folder


@pytest.fixture
def run(original, tmp_path, monkeypatch):
    """A run with two checkpoints; the second is what a test spoils."""
    monkeypatch.chdir(tmp_path)  # where a canary would appear
    copyreg.add_extension(POSIX, "system", 200)
    yield shutil.copytree(original, tmp_path / "run")
    copyreg.remove_extension(POSIX, "system", 200)
    copyreg.clear_extension_cache()
    assert not os.path.exists(CANARY)


def seal(folder):
    """A manifest that fits the files as they are now."""
    names = [path.name for path in folder.iterdir() if path.name != "manifest.json"]
    files = {name: manifest.describe_file(folder / name) for name in names}
    manifest.write_manifest(folder, int(folder.name[5:]), False, files)


def restore(run, step=None):
    """The step that came back as it was saved; CheckpointError leaves the tensors alone."""
    target = {"model": {name: torch.zeros_like(t) for name, t in VALUES["model"].items()}}
    try:
        found = CheckpointManager(run).restore(target, step)
    except CheckpointError:
        assert not any(tensor.any() for tensor in target["model"].values())
        raise
    assert all(torch.equal(target["model"][n], t) for n, t in VALUES["model"].items())
    return found.step


def refused(run):
    assert restore(run) == 1
    for use in (restore, lambda run, step: CheckpointManager(run).load_tensors(step, "model")):
        with pytest.raises(CheckpointError):
            use(run, 2)


@pytest.mark.parametrize("name", RUNS)
def test_hostile_tables_of_contents(run, name):
    file = run / "step-00000002" / ".metadata"
    file.write_bytes(RUNS[name])
    refused(run)  # its sum is not right
    seal(file.parent)
    refused(run)
    with pytest.raises(ValueError, match="not a pickle of plain data"):
        read_plain_pickle(RUNS[name], ())
    assert not os.path.exists(CANARY)
    pickle.loads(RUNS[name])  # the same bytes, read as torch reads them, do run
    assert os.path.exists(CANARY)
    os.remove(CANARY)


@pytest.mark.parametrize("name", INERT)
def test_odd_tables_of_contents(run, name):
    file = run / "step-00000002" / ".metadata"
    file.write_bytes(INERT[name])
    seal(file.parent)
    before = peak()
    with deadline(10, name):
        refused(run)
    assert peak() - before < 200e6
    assert Metadata({}).version is None and vars(Metadata)["version"] is None


def peak():
    """Bytes of memory this process has had at most; 0 where nobody counts."""
    try:
        import resource
    except ImportError:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@pytest.mark.parametrize("protocol", [4, 5])
def test_plain_values_are_read_as_pickle_reads_them(protocol):
    rng = random.Random(protocol)

    def value(depth):
        kind = rng.randrange(8 if depth else 5)
        if kind < 5:
            words = ["", "a", "ü" * 300, "x" * 70_000, "model.w"]
            number = rng.choice([1, -1]) * rng.getrandbits(rng.choice([1, 7, 15, 31, 62, 300]))
            return [None, True, False, number, rng.choice(words)][kind]
        items = [value(depth - 1) for _ in range(rng.randrange(6))]
        if kind == 5:
            return items
        return tuple(items) if kind == 6 else {str(i): item for i, item in enumerate(items)}

    shared = value(3)
    for _ in range(200):
        one = [value(4), shared, shared]
        assert read_plain_pickle(pickle.dumps(one, protocol), ()) == one


@pytest.mark.parametrize("name", ["evil", "model.a", "model.a, twice"])
def test_entries_that_are_no_tensors(run, name):
    """DCP stores anything else as a pickle of its own, and reads it without a guard."""
    folder = run / "step-00000002"
    state = {f"model.{key}": tensor for key, tensor in VALUES["model"].items()}
    state[name.split(",")[0]] = Calls(os.system, COMMAND)
    shutil.rmtree(folder)
    with pytest.warns(UserWarning, match="single process"):
        dcp.save(state, checkpoint_id=folder)
    if name.endswith("twice"):  # the table says "tensor", the bytes are the pickle
        table = pickle.loads((folder / ".metadata").read_bytes())
        sound = pickle.loads((run / "step-00000001" / ".metadata").read_bytes())
        table.state_dict_metadata = sound.state_dict_metadata
        key = MetadataIndex("model.a")
        table.storage_data[MetadataIndex("model.a", (0, 0))] = table.storage_data.pop(key)
        table.storage_meta = None
        (folder / ".metadata").write_bytes(pickle.dumps(table))
    shutil.copy(run / "step-00000001" / "meta.json", folder)
    seal(folder)
    refused(run)


def with_payload(run, payload):
    """The second checkpoint, sealed, with these bytes for the first tensor."""
    folder = run / "step-00000002"
    table = pickle.loads((folder / ".metadata").read_bytes())
    table.storage_data[MetadataIndex("model.a", (0, 0))] = _StorageInfo("forged", 0, len(payload))
    (folder / ".metadata").write_bytes(pickle.dumps(table))
    (folder / "forged").write_bytes(payload)
    seal(folder)


def rezip(payload, change, method=zipfile.ZIP_STORED):
    """A saved tensor with its entries changed: name, content -> new content in pieces."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(payload)) as old, zipfile.ZipFile(file, "w", method) as new:
        for entry in old.namelist():
            with new.open(entry, "w") as stream:
                stream.writelines(change(entry, old.read(entry)))
    return file.getvalue()


MEGABYTE = bytes(1_000_000)
SOUND = saved(torch.arange(12.0).reshape(4, 3))
PAYLOADS = {
    "a program": saved(Calls(os.system, COMMAND)),
    "a program, old format": saved(Calls(os.system, COMMAND), _use_new_zipfile_serialization=False),
    "a tensor with a program": saved([VALUES["model"]["a"], Calls(exec, PYTHON)]),
    "a program in an archive": rezip(
        SOUND, lambda name, raw: [INNER if name.endswith(".pkl") else raw]
    ),
    "a bare pickle": INNER + bytes(100),
    "a sound tensor, old format": saved(
        torch.arange(12.0).reshape(4, 3), _use_new_zipfile_serialization=False
    ),
    "another dtype": saved(torch.arange(12).reshape(4, 3).int()),
    "another shape": saved(torch.arange(12.0).reshape(3, 4)),
    "a dictionary": saved({"a": torch.arange(12.0)}),
    "a parameter": saved(torch.nn.Parameter(torch.arange(12.0).reshape(4, 3))),
    "sparse": saved(torch.arange(12.0).reshape(4, 3).to_sparse()),
    "without memory": saved(torch.empty(4, 3, device="meta")),
    "compressed": rezip(SOUND, lambda name, raw: [raw], zipfile.ZIP_DEFLATED),
    "a compressed bomb": rezip(
        SOUND, lambda n, raw: [MEGABYTE] * 300 if "/data/" in n else [raw], zipfile.ZIP_DEFLATED
    ),
    "too little data": rezip(SOUND, lambda n, raw: [raw[:20] if "/data/" in n else raw]),
    "no data": rezip(SOUND, lambda n, raw: [b"" if "/data/" in n else raw]),
    "a lie about its length": rezip(
        SOUND, lambda n, raw: [raw.replace(b"K\x0ct", b"J\xff\xff\xff\x7ft")]
    ),
    "cut off": SOUND[:-50],
    "zeros": bytes(len(SOUND)),
    "text": b"PK\x03\x04" + b"x" * 2000,
}


@pytest.mark.parametrize("name", PAYLOADS)
def test_hostile_tensors(run, name):
    with_payload(run, SOUND)
    assert restore(run) == 2
    with_payload(run, PAYLOADS[name])
    before = peak()
    refused(run)
    assert peak() - before < 200e6


def mutated(raw, rng):
    damaged = bytearray(raw)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(damaged))
        kind = rng.randrange(4)
        if kind == 0:
            damaged[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            damaged[at] = rng.randrange(256)
        elif kind == 2:
            del damaged[at : at + rng.randint(1, 8)]
        else:
            damaged[at:at] = rng.randbytes(rng.randint(1, 4))
    return bytes(damaged)


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.long)])
def test_changed_tables_load_right_or_are_refused(run, count):
    folder, rng = run / "step-00000002", random.Random(count)
    raw = (folder / ".metadata").read_bytes()
    before, loaded, refusals = peak(), 0, 0
    for _ in range(count):
        (folder / ".metadata").write_bytes(mutated(raw, rng))
        seal(folder)
        try:
            loaded += restore(run, 2) == 2  # which looks at every value
        except CheckpointError:
            refusals += 1
    assert refusals > count // 2 and loaded
    assert peak() - before < 300e6


@pytest.mark.parametrize("count", [100, pytest.param(5000, marks=pytest.mark.long)])
def test_changed_tensors_are_refused_or_have_the_right_shape(run, count):
    """With a forged sum a changed number is a number like any other; nothing else may happen."""
    folder, rng = run / "step-00000002", random.Random(count)
    raw = (folder / "__0_0.distcp").read_bytes()
    refusals = 0
    for _ in range(count):
        (folder / "__0_0.distcp").write_bytes(mutated(raw, rng)[: len(raw)].ljust(len(raw), b"\0"))
        seal(folder)
        target = {"model": {name: torch.zeros_like(t) for name, t in VALUES["model"].items()}}
        try:
            CheckpointManager(run).restore(target, 2)
        except CheckpointError:
            refusals += 1
            assert not any(tensor.any() for tensor in target["model"].values())
    assert refusals > count // 4
