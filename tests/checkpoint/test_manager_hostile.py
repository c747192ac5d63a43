"""Checkpoints that are damaged or made to harm: an older one, or a clear error, and nothing run."""

import json
import os
import pickle
import random
import shutil
import sys

import pytest
import torch
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    MetadataIndex,
    TensorProperties,
)

from llama3lib.checkpoint import CheckpointError, manifest
from llama3lib.checkpoint.manager import CheckpointManager

FILES = [".metadata", "__0_0.distcp", "manifest.json", "meta.json"]
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
    assert same == (file == ".metadata")  # same names and shapes, same table of contents
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
    for file in ("meta.json", ".metadata"):
        other = ".metadata" if file == "meta.json" else "meta.json"
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
        lambda told: told["files"].pop(".metadata"),
        lambda told: told["files"].pop("__0_0.distcp"),
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


def metadata_of(folder):
    return pickle.loads((folder / ".metadata").read_bytes())


def put(folder, metadata, protocol=4):
    (folder / ".metadata").write_bytes(pickle.dumps(metadata, protocol))
    seal(folder)


@pytest.mark.parametrize("protocol", [4, 5])
def test_the_spelling_of_newer_pythons_is_read(run, protocol):
    put(run / "step-00000002", metadata_of(run / "step-00000002"), protocol)
    assert outcome(run) == 2


def _tensor(**changes):
    """A change of the entry of "model.a"."""
    return lambda m: vars(m.state_dict_metadata["model.a"]).update(changes)


def _stored(**changes):
    key = MetadataIndex("model.a", (0, 0))
    return lambda m: vars(m.storage_data[key]).update(changes)


def _chunks(*pairs):
    return [ChunkStorageMetadata(torch.Size(a), torch.Size(b)) for a, b in pairs]


def _rename(metadata):
    entries = metadata.state_dict_metadata
    entries["model.x"] = entries.pop("model.a")


def _byte_entry(metadata):
    metadata.state_dict_metadata["model.a"] = BytesStorageMetadata()


def _also_bytes(metadata):
    metadata.state_dict_metadata["more"] = BytesStorageMetadata()
    metadata.storage_data[MetadataIndex("more")] = _StorageInfo("__0_0.distcp", 0, 10)


def _move(start, shape):
    """The tensor as one piece that starts elsewhere, with as many axes as it has."""

    def change(metadata):
        if len(start) > 2:
            metadata.state_dict_metadata["model.a"].size = torch.Size(shape)
        metadata.state_dict_metadata["model.a"].chunks = _chunks((start, shape))
        info = metadata.storage_data.pop(MetadataIndex("model.a", (0, 0)))
        metadata.storage_data[MetadataIndex("model.a", start)] = info

    return change


def _twice(metadata):
    keys = {key.fqn: key for key in metadata.storage_data}
    object.__setattr__(keys["model.b"], "fqn", "model.a")


def _no_home(metadata):
    metadata.storage_data[MetadataIndex("more", (0,))] = _StorageInfo("__0_0.distcp", 0, 0)


def _in_two(metadata, *pieces):
    """The tensor in two pieces that are wrong together."""
    metadata.state_dict_metadata["model.a"].chunks = _chunks(*pieces)
    info = metadata.storage_data.pop(MetadataIndex("model.a", (0, 0)))
    for i, (start, _) in enumerate(pieces):
        half = _StorageInfo(info.relative_path, info.offset + i * 600, 600)
        metadata.storage_data[MetadataIndex("model.a", start)] = half


HUGE = torch.Size([2**40, 2**20])
LIES = {
    "a name that is not there": (_rename, "'model.x' at .* is stored nowhere"),
    "bytes instead of a tensor": (_byte_entry, "BytesStorageMetadata' is not allowed"),
    "bytes besides the tensors": (_also_bytes, "BytesStorageMetadata' is not allowed"),
    "a huge tensor": (
        _tensor(size=HUGE, chunks=_chunks(((0, 0), HUGE))),
        "'model.a' takes more bytes",
    ),
    "a huge empty tensor": (
        _tensor(size=torch.Size([0, 2**62, 2**62]), chunks=_chunks(((0, 0), (0, 2**62)))),
        "lies outside",
    ),
    "a huge empty tensor that is one piece": (
        _move((0, 0, 0), (0, 2**62, 2**62)),
        "has shape",
    ),
    "no pieces": (_tensor(chunks=[]), "do not make up the whole"),
    "a part only": (_tensor(chunks=_chunks(((0, 0), (3, 3)))), "do not make up the whole"),
    "pieces outside": (_move((2, 0), (4, 3)), "lies outside"),
    "a piece with other axes": (_move((0,), (12,)), "lies outside"),
    "the same piece twice": (
        _tensor(chunks=_chunks(((0, 0), (4, 3)), ((0, 0), (4, 3)))),
        "stored nowhere",
    ),
    "pieces that overlap": (
        lambda m: _in_two(m, ((0, 0), (2, 3)), ((1, 0), (2, 3))),
        "pieces that overlap",
    ),
    "pieces with a gap": (
        lambda m: _in_two(m, ((0, 0), (2, 3)), ((3, 0), (1, 3))),
        "do not make up the whole",
    ),
    "another shape": (
        _tensor(size=torch.Size([3, 4]), chunks=_chunks(((0, 0), (3, 4)))),
        "has shape .3, 4., .4, 3. is expected",
    ),
    "1000 axes": (_tensor(size=torch.Size([1] * 1000)), "shape is not written as one"),
    "another dtype": (
        _tensor(properties=TensorProperties(torch.int32)),
        "model.a is torch.int32, torch.float32",
    ),
    "a dtype that is wider": (
        _tensor(properties=TensorProperties(torch.float64)),
        "model.a takes more bytes|torch.float64, torch.float32",
    ),
    "sparse": (_tensor(properties=TensorProperties(layout=torch.sparse_coo)), "only dense ones"),
    "no shape": (_tensor(size=None), "shape is not written"),
    "a shape that is a list": (_tensor(size=[4, 3]), "shape is not written"),
    "a file above": (_stored(relative_path="../step-00000001/__0_0.distcp"), "has no bytes"),
    "a file anywhere": (_stored(relative_path="/etc/passwd"), "has no bytes"),
    "a file that is not listed": (
        _stored(relative_path="manifest.json"),
        "'manifest.json' has no bytes",
    ),
    "another file of the folder": (_stored(relative_path="meta.json"), "'meta.json' has no bytes"),
    "bytes of a neighbour": (_stored(offset=1700), "named twice"),
    "bytes before the file": (_stored(offset=-1), "not a whole number"),
    "bytes behind the file": (_stored(offset=10**6), "has no bytes"),
    "more bytes than there are": (_stored(length=10**12), "has no bytes"),
    "too few bytes": (_stored(length=10), "takes more bytes"),
    "a place that is no number": (_stored(offset=0.0), "BINFLOAT is not allowed"),
    "compressed": (_stored(transform_descriptors=["stream.zstd/1"]), "transformed pieces"),
    "a tensor stored twice": (_twice, "'model.a', .0, 0.. is stored twice"),
    "bytes of no tensor": (_no_home, "'more', .0,.. belongs to no tensor"),
    "nothing stored": (lambda m: m.storage_data.clear(), "stored nowhere"),
    "storage that is a list": (lambda m: vars(m).update(storage_data=[]), "not a dictionary"),
    "nothing at all": (lambda m: vars(m).clear(), "not a dictionary"),
}


@pytest.mark.parametrize("lie", LIES)
def test_tables_of_contents_that_lie(run, lie):
    folder = run / "step-00000002"
    metadata = metadata_of(folder)
    change, words = LIES[lie]
    change(metadata)
    put(folder, metadata)
    target = {name: torch.full(shape, -1.0) for name, shape in SHAPES.items()}
    with pytest.raises(CheckpointError, match=words):
        CheckpointManager(run).restore(target, 2)
    with pytest.raises(CheckpointError):
        CheckpointManager(run).load_tensors(2, "model")
    assert all(tensor.eq(-1).all() for tensor in target.values())
