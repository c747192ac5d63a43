"""Checkpoints that are damaged or made to harm: an older one, or a clear error, and nothing run."""

import json
import os
import pickle
import random
import shutil
import struct
import sys

import pytest
import torch
from safetensors.torch import save_file

from llama3lib.checkpoint import CheckpointError, manifest
from llama3lib.checkpoint.manager import CheckpointManager

INDEX, SHARD = "tensors.json", "shard-00001-model-00001-of-00001.safetensors"
FILES = [INDEX, SHARD, "manifest.json", "meta.json"]
SHAPES = {"model.a": (4, 3), "model.b": (4, 3), "model.c": (), "optimizer.a": (5,)}


def numbered(step):
    """Tensors of which no two share a value, so that no mix-up goes unseen."""
    tensors = {
        name: torch.arange(100.0 * i + step, 100.0 * i + step + 12)[: torch.Size(shape).numel()]
        for i, (name, shape) in enumerate(SHAPES.items())
    }
    return {name: tensors[name].reshape(shape) for name, shape in SHAPES.items()}


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    manager = CheckpointManager(folder)
    for step in (1, 2):
        manager.save(step, numbered(step), {"step": step})
    manager.wait()
    return folder


@pytest.fixture
def run(original, tmp_path):
    """A run with two checkpoints; the second is what a test spoils."""
    return shutil.copytree(original, tmp_path / "run")


def seal(folder):
    """A manifest that fits the files as they are now."""
    names = [path.name for path in folder.iterdir() if path.name != "manifest.json"]
    files = {name: manifest.describe_file(folder / name) for name in names}
    manifest.write_manifest(folder, int(folder.name[5:]), False, files)


def outcome(run):
    """Restore: the step that came back right, or None if nothing did and nothing was touched."""
    target = {name: torch.full(shape, -1.0) for name, shape in SHAPES.items()}
    try:
        found = CheckpointManager(run).restore(target)
    except CheckpointError as error:
        assert str(run) in str(error), error
        assert all(tensor.eq(-1).all() for tensor in target.values())
        return None
    assert found.meta == {"step": found.step}
    for name, tensor in numbered(found.step).items():
        assert torch.equal(target[name], tensor), name
    assert [step for step, _ in found.skipped] == [2][: 2 - found.step]
    return found.step


def refused(run):
    """The second checkpoint is refused, whether there is another one or not."""
    assert outcome(run) == 1
    with pytest.raises(CheckpointError):
        CheckpointManager(run).load_tensors(2, "model")
    shutil.rmtree(run / "step-00000001")
    assert outcome(run) is None


def flip(place):
    def change(raw, rng):
        damaged = bytearray(raw)
        at = rng.randrange(len(raw)) if place is None else int(place * (len(raw) - 1))
        damaged[at] ^= 1 << rng.randrange(8)
        return damaged

    return change


CHANGES = {
    "emptied": lambda raw, rng: b"",
    "first byte only": lambda raw, rng: raw[:1],
    "half": lambda raw, rng: raw[: len(raw) // 2],
    "last byte lost": lambda raw, rng: raw[:-1],
    "one byte more": lambda raw, rng: raw + b"\0",
    "first bit": flip(0),
    "a bit in the middle": flip(0.5),
    "last bit": flip(1),
    "any bit": flip(None),
    "zeros": lambda raw, rng: bytes(len(raw)),
    "turned round": lambda raw, rng: raw[::-1],
}


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("change", CHANGES)
def test_damage_to_each_file(run, file, change):
    path = run / "step-00000002" / file
    path.write_bytes(CHANGES[change](path.read_bytes(), random.Random(f"{file} {change}")))
    refused(run)


@pytest.mark.parametrize("file", FILES)
def test_a_file_that_is_lost_or_another_or_no_file(run, file):
    path, kept = run / "step-00000002" / file, run / "kept"
    path.rename(kept)
    assert outcome(run) == 1
    path.mkdir()
    assert outcome(run) == 1
    path.rmdir()
    shutil.copy(run / "step-00000001" / file, path)
    same = path.read_bytes() == kept.read_bytes()
    assert same == (file == INDEX)  # same names and shapes
    assert outcome(run) == 1 + same
    path.unlink()
    if sys.platform != "win32":
        path.symlink_to(kept)
        assert outcome(run) == (2 if file == "manifest.json" else 1)
        path.unlink()
        os.mkfifo(path)
        assert file == "manifest.json" or outcome(run) == 1
        path.unlink()
    refused(run)


@pytest.mark.skipif(sys.platform == "win32", reason="links and pipes")
def test_links_and_pipes_that_a_manifest_describes(run):
    folder = run / "step-00000002"
    told = json.loads((folder / "manifest.json").read_bytes())
    for name, make, size in (
        ("link", lambda path: path.symlink_to("meta.json"), len("meta.json")),
        ("pipe", os.mkfifo, 0),  # to read it would never end
    ):
        make(folder / name)
        files = told["files"] | {name: told["files"]["meta.json"] | {"size": size}}
        manifest.write_manifest(folder, 2, False, files)
        with pytest.raises(CheckpointError, match=f"{name} is damaged: it is no plain file"):
            CheckpointManager(run).load_tensors(2, "model")
        (folder / name).unlink()


def test_folders_and_files_that_changed_places(run):
    one, two = run / "step-00000001", run / "step-00000002"
    one.rename(run / "x")
    two.rename(one)
    (run / "x").rename(two)
    assert outcome(run) is None
    for file in ("meta.json", INDEX):
        other = INDEX if file == "meta.json" else "meta.json"
        shutil.copy(one / file, one / other)
        assert outcome(run) is None


@pytest.mark.parametrize("bits", [1, pytest.param(8, marks=pytest.mark.long)])
def test_every_bit_of_the_manifest_counts(run, bits):
    folder = run / "step-00000002"
    file = folder / "manifest.json"
    raw = file.read_bytes()
    for at in range(len(raw)):
        for bit in [at % 8] if bits == 1 else range(8):
            damaged = bytearray(raw)
            damaged[at] ^= 1 << bit
            file.write_bytes(damaged)
            with pytest.raises(manifest.DamagedError):
                files = manifest.read_manifest(folder)["files"]
                manifest.check_files(folder, files, list(files))


@pytest.mark.parametrize(
    "change",
    [
        lambda told: told.update(version=2),
        lambda told: told.update(format="other"),
        lambda told: told.update(step=3),
        lambda told: told.update(step=2.0),
        lambda told: told.update(keep=0),
        lambda told: told.update(extra=1),
        lambda told: told.pop("keep"),
        lambda told: told.update(files=[]),
        lambda told: told.update(files={}),
        lambda told: told["files"].pop("meta.json"),
        lambda told: told["files"].pop(INDEX),
        lambda told: told["files"].pop(SHARD),
        lambda told: told["files"].update({"../step-00000001/meta.json": {}}),
        lambda told: told["files"].update({"a/b": told["files"]["meta.json"]}),
        lambda told: told["files"].update({"/etc/passwd": told["files"]["meta.json"]}),
        lambda told: told["files"].update({"gone": told["files"]["meta.json"]}),
        lambda told: told["files"]["meta.json"].update(size=True),
        lambda told: told["files"]["meta.json"].update(size=-1),
        lambda told: told["files"]["meta.json"].update(sha256=None),
    ],
)
def test_manifests_that_are_wrong_but_well_written(run, change):
    file = run / "step-00000002" / "manifest.json"
    told = json.loads(file.read_bytes())
    change(told)
    file.write_bytes(manifest._encode(told))
    refused(run)


@pytest.mark.parametrize("text", ["", "[" * 100_000, "[1]", "1" * 5000, "\ufeff{}", "{'a': 1}"])
def test_values_that_are_no_json_object(run, text):
    (run / "step-00000002" / "meta.json").write_text(text, encoding="utf-8")
    seal(run / "step-00000002")
    refused(run)
    (run / "step-00000002" / "manifest.json").write_text(text, encoding="utf-8")
    assert outcome(run) is None


class Table:
    """What a checkpoint says of its tensors: `tensors.json`, and the header of its only shard."""

    def __init__(self, folder):
        self.folder = folder
        self.index = json.loads((folder / INDEX).read_bytes())
        raw = (folder / SHARD).read_bytes()
        size = struct.unpack("<Q", raw[:8])[0]
        self.header, self.data = json.loads(raw[8 : 8 + size]), raw[8 + size :]
        self.places = json.loads(self.header["__metadata__"]["DCP_SHARDING_INFO"])

    def write(self):
        """All of it, and a manifest that fits."""
        if "__metadata__" in self.header:
            self.header["__metadata__"].setdefault("DCP_SHARDING_INFO", json.dumps(self.places))
        header = json.dumps(self.header).encode()
        raw = struct.pack("<Q", len(header)) + header + self.data
        (self.folder / INDEX).write_text(json.dumps(self.index))
        (self.folder / SHARD).write_bytes(raw)
        seal(self.folder)

    def move(self, start, name="model.a"):
        self.places[name]["saved_offsets"] = start
        del self.header["__metadata__"]["DCP_SHARDING_INFO"]

    def says(self, text):
        self.header["__metadata__"]["DCP_SHARDING_INFO"] = text

    def add(self, name, shape, start):
        """Another shard, with one tensor."""
        told = json.dumps({name: {"saved_offsets": start}})
        file = self.folder / SHARD.replace("shard-00001", "shard-00002")
        save_file({name: torch.zeros(shape)}, file, {"DCP_SHARDING_INFO": told})


def _rename(table):
    table.index["model.x"] = table.index.pop("model.a")


def _both(name, value):
    """The same lie in both places."""

    def change(table):
        table.index["model.a"][name] = value
        table.header["model.a"][name] = value

    return change


def _index(**changes):
    return lambda table: table.index["model.a"].update(changes)


def _taller(table):
    """A whole of six rows, of which four are here, and three of them twice."""
    table.index["model.a"]["shape"] = [7, 3]
    table.add("model.a", (3, 3), [2, 0])


HUGE = [2**40, 2**20]
LIES = {
    "a name that is not there": (_rename, "'model.a' stands only in one"),
    "a tensor more": (lambda t: t.add("model.x", (2,), [0]), "'model.x' stands only in one"),
    "a huge tensor": (_index(shape=HUGE), "do not make up the whole"),
    "a huge tensor everywhere": (_both("shape", HUGE), "damaged or hostile"),
    "a huge empty tensor": (_index(shape=[0, 2**62, 2**62]), "lies outside"),
    "a part only": (_index(shape=[5, 3]), "do not make up the whole"),
    "pieces outside": (lambda t: t.move([2, 0]), "lies outside"),
    "a piece with other axes": (lambda t: t.move([0]), "lies outside"),
    "the same piece twice": (lambda t: t.add("model.a", (4, 3), [0, 0]), "make up the whole"),
    "pieces that overlap": (_taller, "pieces that overlap"),
    "another shape": (_both("shape", [3, 4]), "has shape .3, 4., .4, 3. is expected"),
    "1000 axes": (_index(shape=[1] * 1000), "is no shape"),
    "another dtype": (_index(dtype="int32"), "is stored as"),
    "another dtype everywhere": (
        lambda t: (
            t.index["model.a"].update(dtype="int32"),
            t.header["model.a"].update(dtype="I32"),
        ),
        "model.a is torch.int32, torch.float32",
    ),
    "a dtype that is wider": (
        lambda t: t.header["model.a"].update(dtype="F64"),
        "damaged or hostile",
    ),
    "a dtype that is none": (_index(dtype="float7"), "damaged or hostile"),
    "a function for a dtype": (_index(dtype="load"), "is stored as"),
    "no dtype": (lambda t: t.index["model.a"].pop("dtype"), "damaged or hostile"),
    "no shape": (_index(shape=None), "is no shape"),
    "a shape of fractions": (_index(shape=[4.0, 3.0]), "is no shape"),
    "a place before the tensor": (lambda t: t.move([-1, 0]), "is no shape"),
    "a place that is no number": (lambda t: t.move(["0", 0]), "is no shape"),
    "no places": (lambda t: t.header.pop("__metadata__"), "damaged or hostile"),
    "a place missing": (lambda t: t.says("{}"), "damaged or hostile"),
    "places that are no JSON": (lambda t: t.says("{'a': 1}"), "damaged or hostile"),
    "deep places": (lambda t: t.says("[" * 100_000), "damaged or hostile"),
    "bytes of a neighbour": (
        lambda t: t.header["model.a"].update(data_offsets=t.header["model.b"]["data_offsets"]),
        "damaged or hostile",
    ),
    "bytes behind the file": (
        lambda t: t.header["model.a"].update(data_offsets=[10**6, 10**6 + 48]),
        "damaged or hostile",
    ),
    "an index that is a list": (lambda t: setattr(t, "index", [1]), "damaged or hostile"),
    "nothing at all": (lambda t: t.index.clear(), "stands only in one"),
}


@pytest.mark.parametrize("lie", LIES)
def test_tables_of_contents_that_lie(run, lie):
    table = Table(run / "step-00000002")
    change, words = LIES[lie]
    change(table)
    table.write()
    target = {name: torch.full(shape, -1.0) for name, shape in SHAPES.items()}
    with pytest.raises(CheckpointError, match=words):
        CheckpointManager(run).restore(target, 2)
    if not words.startswith(("has shape", "model.a is")):  # no lie where nothing is expected
        with pytest.raises(CheckpointError):
            CheckpointManager(run).load_tensors(2, "model")
    assert all(tensor.eq(-1).all() for tensor in target.values())


@pytest.mark.parametrize("file", [INDEX, SHARD])
@pytest.mark.parametrize("count", [150, pytest.param(3000, marks=pytest.mark.long)])
def test_random_damage_that_a_manifest_confirms(run, file, count):
    """Values may change, nothing else: no crash, no other error, no memory for nothing."""
    rng, folder = random.Random(f"{file}{count}"), run / "step-00000002"
    raw = (folder / file).read_bytes()
    for _ in range(count):
        damaged = bytearray(raw)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(min(len(raw), 700))
            how = rng.randrange(3)
            if how == 0:
                damaged[at % len(damaged)] = rng.randrange(256)
            elif how == 1:
                del damaged[at % len(damaged)]
            else:
                damaged.insert(at % len(damaged), rng.choice(b'0129{}[],":e'))
        (folder / file).write_bytes(damaged)
        seal(folder)
        try:
            found = CheckpointManager(run).load_tensors(2, "model")
        except (CheckpointError, ValueError):
            continue
        assert sum(tensor.nbytes for tensor in found.values()) <= len(raw)


def test_the_pickle_of_old_versions_is_refused_and_not_read(run):
    class Harm:
        def __reduce__(self):
            return os.mkdir, (str(run / "harm"),)

    folder = run / "step-00000002"
    (folder / ".metadata").write_bytes(pickle.dumps(Harm()))
    seal(folder)
    with pytest.raises(CheckpointError, match=r"written by llama3lib 0.1.0 or before, .* a pickle"):
        CheckpointManager(run).restore(numbered(0))
    assert not (run / "harm").exists()
