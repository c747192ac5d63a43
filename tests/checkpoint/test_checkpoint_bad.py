"""Folders that must be refused: each with a clear error, nothing run, nothing half-loaded."""

import json
import pickle
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from llama3lib.checkpoint import (
    CheckpointError,
    load_args,
    load_model,
    load_tokenizer,
    save_hf,
    save_meta,
)
from llama3lib.model import ModelArgs, RopeScaling, Transformer

ARGS = ModelArgs(
    dim=16, n_layers=2, n_heads=4, n_kv_heads=2, ffn_dim=24, vocab_size=40, max_seq_len=32
)


class Evil:
    """Runs code when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return (Path.touch, (self.canary,))


def edit_json(file, **changes):
    data = json.loads(file.read_text(encoding="utf-8"))
    for key, value in changes.items():
        if value is ...:
            data.pop(key)
        else:
            data[key] = value
    file.write_text(json.dumps(data), encoding="utf-8")


def edit_tensors(file, change):
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)


@pytest.fixture
def folder(tmp_path):
    save_hf(Transformer(ARGS), tmp_path / "hf")
    (tmp_path / "hf" / "checksums.json").unlink()  # so that the check behind it is reached
    return tmp_path / "hf"


@pytest.fixture
def sharded(tmp_path):
    save_hf(Transformer(ARGS), tmp_path / "sharded", max_shard_bytes=3000)
    (tmp_path / "sharded" / "checksums.json").unlink()
    return tmp_path / "sharded"


@pytest.fixture
def meta_folder(tmp_path):
    save_meta(Transformer(ARGS), tmp_path / "meta", model_parallel=2)
    return tmp_path / "meta"


@pytest.mark.parametrize(
    "change, words",
    [
        ({"model_type": "mistral"}, "model_type='mistral'"),
        ({"model_type": ...}, "no model_type"),
        ({"hidden_act": "gelu"}, "hidden_act='gelu'"),
        ({"attention_bias": True}, "attention_bias=True"),
        ({"mlp_bias": True}, "mlp_bias=True"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"sliding_window": 4096}, "sliding_window=4096"),
        ({"hidden_size": ...}, "lacks hidden_size"),
        ({"hidden_size": "16"}, "dim='16'"),
        ({"num_key_value_heads": 3}, "n_kv_heads=3"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2}}, "'yarn' is not supported"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 2}}, "high_freq_factor"),
        ({"rope_scaling": 7}, "rope_scaling=7"),
        ({"tie_word_embeddings": "no"}, "tie_embeddings='no'"),
        ({"tie_word_embeddings": True}, "they are tied"),
        ({"num_hidden_layers": 3}, "layers.2.attention.wq.weight is missing"),
        ({"intermediate_size": 32}, r"w1.weight has shape \[24, 16\], \[32, 16\] is expected"),
        ({"vocab_size": 41}, r"tok_embeddings.weight has shape \[40, 16\]"),
    ],
)
def test_config(folder, change, words):
    edit_json(folder / "config.json", **change)
    with pytest.raises(CheckpointError, match=words):
        load_model(folder)


@pytest.mark.parametrize("content", ["", "{", "[1]", "\ufeff{}", '"text"'])
def test_config_that_is_no_json(folder, content):
    (folder / "config.json").write_text(content, encoding="utf-8")
    for load in (load_model, load_args):
        with pytest.raises(CheckpointError, match=r"config\.json"):
            load(folder)


def _drop(name):
    return lambda tensors: tensors.pop(name)


def _put(name, tensor):
    return lambda tensors: tensors.__setitem__(name, tensor)


@pytest.mark.parametrize(
    "change, words",
    [
        (_drop("model.norm.weight"), "norm.weight is missing"),
        (_put("model.extra.weight", torch.zeros(2)), "has not: model.extra.weight"),
        (_put("model.layers.9.mlp.up_proj.weight", torch.zeros(2)), "layers.9.* is not expected"),
        (_put("model.norm.weight", torch.zeros(15)), r"norm.weight has shape \[15\]"),
        (_put("model.norm.weight", torch.zeros(16, dtype=torch.int8)), r"stored as torch.int8"),
        (_put("model.layers.0.self_attn.q_proj.bias", torch.zeros(16)), "q_proj.bias"),
    ],
)
def test_tensors(folder, change, words):
    edit_tensors(folder / "model.safetensors", change)
    with pytest.raises(CheckpointError, match=words):
        load_model(folder)


@pytest.mark.parametrize("size", [0, 7, 8, 100, -1, -1000])
def test_truncated_files(folder, size):
    file = folder / "model.safetensors"
    raw = file.read_bytes()
    file.write_bytes(raw[:size])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged"):
        load_model(folder)


def test_a_flipped_bit_in_the_weights_is_seen_by_its_checksum(tmp_path):
    save_hf(Transformer(ARGS), tmp_path / "m")
    file = tmp_path / "m" / "model.safetensors"
    raw = bytearray(file.read_bytes())
    raw[-20] ^= 4
    file.write_bytes(raw)
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged: its SHA-256"):
        load_model(tmp_path / "m")
    load_model(tmp_path / "m", verify=False)  # asked for: then nobody can see it


@pytest.mark.parametrize("count", [300, pytest.param(5000, marks=pytest.mark.long)])
def test_mutated_files_load_or_are_refused(folder, count):
    file, rng = folder / "model.safetensors", random.Random(count)
    raw = file.read_bytes()
    refused = 0
    for _ in range(count):
        damaged = bytearray(raw)
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(min(2500, len(raw)))] = rng.randrange(256)
        file.write_bytes(damaged)
        try:
            load_model(folder)
        except CheckpointError:
            refused += 1
    assert refused > count // 2


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda d: next(d.glob("model-00002*")).unlink(), "model-00002-of-.* is missing"),
        (lambda d: edit_json(d / "model.safetensors.index.json", weight_map=...), "no weight_map"),
        (lambda d: edit_json(d / "model.safetensors.index.json", weight_map={}), "no weight_map"),
        (
            lambda d: edit_json(
                d / "model.safetensors.index.json", weight_map={"a": "../hf/model.safetensors"}
            ),
            r"names '\.\./hf",
        ),
        (
            lambda d: edit_json(
                d / "model.safetensors.index.json", weight_map={"a": "/etc/passwd"}
            ),
            "names '/etc/passwd'",
        ),
        (lambda d: edit_json(d / "model.safetensors.index.json", weight_map={"a": 3}), "names '3'"),
    ],
)
def test_sharded_folders(sharded, change, words):
    change(sharded)
    with pytest.raises(CheckpointError, match=words):
        load_model(sharded)


def test_a_tensor_in_two_shards(sharded):
    first, second = sorted(sharded.glob("model-*.safetensors"))[:2]
    stolen = next(iter(load_file(first).items()))
    edit_tensors(second, _put(*stolen))
    with pytest.raises(CheckpointError, match="belongs elsewhere"):
        load_model(sharded)


def test_pickles_are_never_run(tmp_path, meta_folder):
    canary = tmp_path / "canary"
    folder = tmp_path / "pickled"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Evil(canary)))
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin is a pickle"):
        load_model(folder)
    torch.save(Evil(canary), meta_folder / "consolidated.00.pth")
    with pytest.raises(CheckpointError, match=r"consolidated\.00\.pth"):
        load_model(meta_folder)
    (meta_folder / "consolidated.00.pth").write_bytes(pickle.dumps(Evil(canary)))
    with pytest.raises(CheckpointError, match=r"consolidated\.00\.pth"):
        load_model(meta_folder)
    assert not canary.exists()


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda d: (d / "consolidated.00.pth").unlink(), r"lacks consolidated\.00\.pth"),
        (lambda d: (d / "params.json").unlink(), r"params\.json is missing"),
        (lambda d: edit_json(d / "params.json", surprise=1), "unknown keys: surprise"),
        (lambda d: edit_json(d / "params.json", dim=...), "lacks dim"),
        (lambda d: edit_json(d / "params.json", n_heads=3), "dim=16"),
        (lambda d: edit_json(d / "params.json", multiple_of=64), "w1.weight has shape"),
        (lambda d: edit_json(d / "params.json", vocab_size=41), "tok_embeddings.weight has shape"),
        (lambda d: (d / "consolidated.01.pth").write_bytes(b"nonsense"), r"consolidated\.01\.pth"),
        (lambda d: torch.save([1, 2], d / "consolidated.01.pth"), "not a dictionary of tensors"),
        (
            lambda d: torch.save({"a": torch.zeros(1)}, d / "consolidated.01.pth"),
            "00 and 01 differ",
        ),
    ],
)
def test_meta_folders(meta_folder, change, words):
    change(meta_folder)
    with pytest.raises(CheckpointError, match=words):
        load_model(meta_folder)


def test_meta_shards_that_disagree(meta_folder):
    file = meta_folder / "consolidated.01.pth"
    shard = torch.load(file, weights_only=True)
    shard["norm.weight"] += 1
    torch.save(shard, file)
    with pytest.raises(CheckpointError, match="norm.weight must be the same in every shard"):
        load_model(meta_folder)


def test_places_that_hold_no_checkpoint(tmp_path):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    for place, words in (("file", "not a folder"), ("empty", r"holds no model\.safetensors")):
        with pytest.raises(CheckpointError, match=words):
            load_model(tmp_path / place)
    with pytest.raises(CheckpointError, match="nowhere.*bundled checkpoints: tiny-base"):
        load_model(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="holds no tokenizer"):
        load_tokenizer(tmp_path / "empty")


def test_saving_refuses_and_leaves_nothing(tmp_path):
    model = Transformer(ARGS)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious.txt").write_text("keep", encoding="utf-8")
    with pytest.raises(ValueError, match="not empty"):
        save_hf(model, tmp_path / "full")
    with pytest.raises(ValueError, match="max_shard_bytes=0"):
        save_hf(model, tmp_path / "a", max_shard_bytes=0)
    with pytest.raises(ValueError, match="model_parallel=3"):
        save_meta(model, tmp_path / "b", model_parallel=3)
    odd = Transformer(ARGS.replace(rope_scaling=RopeScaling(low_freq_factor=2.0)))
    with pytest.raises(ValueError, match="does not fit Meta's format"):
        save_meta(odd, tmp_path / "c")
    with torch.device("meta"):
        empty = Transformer(ARGS)
    with pytest.raises(ValueError, match="meta device"):
        save_hf(empty, tmp_path / "d")
    assert [path.name for path in tmp_path.iterdir()] == ["full"]
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["precious.txt"]


def test_a_crash_while_saving_leaves_the_old_folder(tmp_path, monkeypatch):
    save_hf(Transformer(ARGS), tmp_path / "m")
    before = (tmp_path / "m" / "model.safetensors").read_bytes()

    def full_disk(*args, **kwargs):
        raise OSError("no space left")

    monkeypatch.setattr("llama3lib.checkpoint.save.save_file", full_disk)
    with pytest.raises(OSError, match="no space"):
        save_hf(Transformer(ARGS), tmp_path / "m", overwrite=True)
    assert (tmp_path / "m" / "model.safetensors").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
