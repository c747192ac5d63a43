"""Folders of both kinds: written, read, and the same logits every time."""

import json
import resource
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from llama3lib.checkpoint import (
    bundled_path,
    hf,
    load_args,
    load_model,
    load_tokenizer,
    meta,
    save_hf,
    save_meta,
)
from llama3lib.model import ModelArgs, RopeScaling, Transformer, get_preset

ARGS = ModelArgs(
    dim=32, n_layers=2, n_heads=8, n_kv_heads=4, ffn_dim=48, vocab_size=96, max_seq_len=64
)
TOKENS = torch.randint(96, (2, 12), generator=torch.Generator().manual_seed(0))


def make(**changes):
    dtype = changes.pop("dtype", torch.float32)
    model = Transformer(ARGS.replace(**changes)).to(dtype)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data = (torch.randn(parameter.shape, generator=generator) * 0.3).to(dtype)
    return model.eval()


CASES = [
    {},
    {"tie_embeddings": True},
    {"n_kv_heads": 8},
    {"n_kv_heads": 1},
    {"head_dim": 6},
    {"rope_scaling": RopeScaling(factor=32.0), "rope_theta": 500_000.0},
    {"dtype": torch.bfloat16},
]


@pytest.mark.parametrize("changes", CASES)
@pytest.mark.parametrize("limit", [5_000_000, 9000])
def test_hugging_face_round_trip_is_exact(tmp_path, changes, limit):
    model = make(**changes)
    save_hf(model, tmp_path / "m", max_shard_bytes=limit)
    sharded = (tmp_path / "m" / "model.safetensors.index.json").exists()
    assert sharded == (limit == 9000)
    again = load_model(tmp_path / "m")
    assert again.args == model.args and not again.training
    assert again.norm.weight.dtype == model.norm.weight.dtype
    assert torch.equal(again(TOKENS), model(TOKENS))
    assert load_args(tmp_path / "m") == model.args


@pytest.mark.parametrize("ranks", [1, 2, 4])
@pytest.mark.parametrize("tied", [True, False])
def test_meta_round_trip_is_exact(tmp_path, ranks, tied):
    model = make(tie_embeddings=tied, rope_scaling=RopeScaling())
    save_meta(model, tmp_path / "m", model_parallel=ranks)
    assert len(list((tmp_path / "m").glob("consolidated.*.pth"))) == ranks
    again = load_model(tmp_path / "m")
    assert again.args == model.args
    assert torch.equal(again(TOKENS), model(TOKENS))


def test_key_value_heads_stored_twice_are_read_once(tmp_path):
    """More ranks than heads: each head is stored by several ranks (the 405B of 16 ranks)."""
    model = make(n_kv_heads=2)
    save_meta(model, tmp_path / "m", model_parallel=2)
    shards = [
        torch.load(tmp_path / "m" / f"consolidated.{i:02d}.pth", weights_only=True) for i in (0, 1)
    ]
    for rank in range(4):
        half = {}
        for name, tensor in shards[rank // 2].items():
            cut = meta.cut_dimension(name, [tensor.shape], 32)
            keep = cut is None or name.endswith(("wk.weight", "wv.weight"))
            half[name] = tensor if keep else tensor.chunk(2, cut)[rank % 2].clone()
        torch.save(half, tmp_path / "m" / f"consolidated.{rank:02d}.pth")
    again = load_model(tmp_path / "m")
    assert again.args == model.args and torch.equal(again(TOKENS), model(TOKENS))


def test_older_meta_folders_cut_the_embedding_by_columns(tmp_path):
    model = make()
    save_meta(model, tmp_path / "m", model_parallel=2)
    for rank in (0, 1):
        file = tmp_path / "m" / f"consolidated.{rank:02d}.pth"
        shard = torch.load(file, weights_only=True)
        whole = model.tok_embeddings.weight.detach()
        shard["tok_embeddings.weight"] = whole.chunk(2, 1)[rank].clone()
        shard["rope.freqs"] = torch.zeros(3)
        torch.save(shard, file)
    assert torch.equal(load_model(tmp_path / "m")(TOKENS), model(TOKENS))


@pytest.mark.parametrize(
    "name", ["llama3-8b", "llama3.1-8b", "llama3.1-70b", "llama3.1-405b", "110m"]
)
def test_params_say_the_shape(name):
    args = get_preset(name)
    params = meta.args_to_params(args)
    again = meta.params_to_args(params, args.vocab_size, tied=args.tie_embeddings, source="p")
    assert again == args
    if name == "llama3.1-405b":
        assert (params["ffn_dim_multiplier"], params["multiple_of"]) == (1.2, 4096)


@pytest.mark.parametrize("name", ["llama3.1-8b", "llama3.2-1b", "llama3-70b"])
def test_config_says_the_shape_in_both_spellings(name):
    args = get_preset(name)
    config = hf.args_to_config(args, torch.bfloat16)
    assert hf.config_to_args(config) == args
    rope = {"rope_theta": config.pop("rope_theta"), **(config.pop("rope_scaling") or {})}
    rope.setdefault("rope_type", "default")
    config["dtype"] = config.pop("torch_dtype")
    assert hf.config_to_args(config | {"rope_parameters": rope}) == args


def test_dtype_device_and_length_are_chosen_by_the_caller(tmp_path):
    save_hf(make(), tmp_path / "m")
    model = load_model(tmp_path / "m", dtype=torch.float64, max_seq_len=16)
    assert model.norm.weight.dtype == torch.float64 and len(model.freqs_cis) == 16
    assert next(model.parameters()).requires_grad


def test_a_tied_matrix_is_stored_once_and_accepted_twice(tmp_path):
    model = make(tie_embeddings=True)
    save_hf(model, tmp_path / "m")
    tensors = load_file(tmp_path / "m" / "model.safetensors")
    assert "lm_head.weight" not in tensors
    from safetensors.torch import save_file

    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, tmp_path / "m" / "model.safetensors")
    (tmp_path / "m" / "checksums.json").unlink()
    again = load_model(tmp_path / "m")
    assert again.output.weight is again.tok_embeddings.weight
    assert torch.equal(again(TOKENS), model(TOKENS))


def test_tiny_base_comes_with_the_package_and_is_what_its_provenance_says():
    path = bundled_path("tiny-base")
    size = sum(file.stat().st_size for file in path.iterdir())
    assert size <= 5_000_000
    told = json.loads((path / "provenance.json").read_text(encoding="utf-8"))
    model, tokenizer = load_model("tiny-base"), load_tokenizer("tiny-base")
    assert sum(p.numel() for p in model.parameters()) == told["parameters"]
    assert tokenizer.n_vocab == model.args.vocab_size == 768
    ids = torch.tensor([tokenizer.encode("Ada had two apples. Then she found one", bos=True)])
    assert model(ids).argmax(-1)[0, -1] in (tokenizer.encode(w)[0] for w in (" apple", " more"))


_MEASURE = """
import resource, sys, torch
from llama3lib.checkpoint import load_model
load_model("tiny-base")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
model = load_model(sys.argv[1], verify=False)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
size = sum(p.numel() * p.element_size() for p in model.parameters())
print((after - before) * 1024 / size)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is measured in Linux's units")
def test_loading_takes_the_model_and_little_more(tmp_path):
    args = ModelArgs(dim=512, n_layers=8, n_heads=8, n_kv_heads=4, ffn_dim=2048, vocab_size=8000)
    save_hf(Transformer(args), tmp_path / "m", max_shard_bytes=20_000_000)
    command = [sys.executable, "-c", _MEASURE, str(tmp_path / "m")]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    # pages of mapped files count too: the file and the model are both in memory at the end
    assert float(told) < 2.2, told
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > 0
