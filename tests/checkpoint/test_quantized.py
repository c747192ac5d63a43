"""Models in few bits, saved and loaded: the same logits to the last bit, smaller, and no damage."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from llama3lib.checkpoint import CheckpointError, load_model, load_tokenizer, save_hf, save_meta
from llama3lib.cli.main import main
from llama3lib.inference import fuse_projections
from llama3lib.model import ModelArgs, Transformer
from llama3lib.quant import Int4Linear, quantize_model

ARGS = ModelArgs(
    dim=64, n_layers=3, n_heads=4, n_kv_heads=2, ffn_dim=96, vocab_size=768, max_seq_len=64
)
SCHEMES = ("int8", "int8-dynamic", "int4", "fp8", "fp8-tensorwise", "fp8-unbounded")
TOKENS = torch.arange(20).unsqueeze(0)


def quantized(scheme, **changes):
    model = Transformer(ARGS.replace(**changes))
    model.init_weights(torch.Generator().manual_seed(1))
    return quantize_model(model, scheme)


def size(folder):
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


@pytest.mark.parametrize(
    ("scheme", "dtype"),
    [("int8", torch.float32), ("int4", torch.float32), *((s, torch.bfloat16) for s in SCHEMES)],
)
def test_logits_are_the_same_to_the_last_bit(tmp_path, scheme, dtype):
    model = quantized(scheme, tie_embeddings=dtype == torch.bfloat16).to(dtype)
    save_hf(model, tmp_path / "m", max_shard_bytes=20_000)
    again = load_model(tmp_path / "m")
    with torch.inference_mode():
        assert torch.equal(again(TOKENS), model(TOKENS))
        fused = fuse_projections(load_model(tmp_path / "m"), pack=False)
        torch.testing.assert_close(fused(TOKENS), model(TOKENS), rtol=2e-2, atol=2e-2)
    assert {k: type(v) for k, v in again.named_modules()} == {
        k: type(v) for k, v in model.named_modules()
    }
    config = json.loads((tmp_path / "m" / "config.json").read_text(encoding="utf-8"))
    assert config["quantization_config"]["scheme"] == scheme
    save_hf(again, tmp_path / "again", max_shard_bytes=20_000)
    sums = [(tmp_path / name / "checksums.json").read_text() for name in ("m", "again")]
    assert sums[0] == sums[1]


def test_sizes_are_what_the_bits_say(tmp_path):
    wide = dict(dim=256, ffn_dim=512)
    plain = Transformer(ARGS.replace(**wide))
    save_hf(plain, tmp_path / "plain")
    for scheme, most in {"int8": 0.35, "int4": 0.26}.items():
        save_hf(quantized(scheme, **wide), tmp_path / scheme)
        assert size(tmp_path / scheme) < most * size(tmp_path / "plain")  # the embedding stays


@pytest.mark.parametrize("rows", [[64, 64], [128, 64, 64], [48, 16]])
def test_packed_rows_join_as_if_packed_together(rows):
    parts = [torch.randn(n, 64) for n in rows]
    joined = Int4Linear.joined([Int4Linear(part) for part in parts])
    whole = Int4Linear(torch.cat(parts))
    assert torch.equal(joined.packed, whole.packed)
    assert torch.equal(joined.scale_and_zero, whole.scale_and_zero)


def _edit(folder, **changes):
    path = folder / "config.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(data | changes), encoding="utf-8")


def _tensors(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def _flip(folder):
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)


HEAD = "model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_flip, "is damaged: its SHA-256"),
        (lambda d: _tensors(d, lambda t: t.pop(f"{HEAD}.weight_scale")), "wq.weight_scale is miss"),
        (
            lambda d: _tensors(d, lambda t: t.update({f"{HEAD}.weight": torch.zeros(64, 64)})),
            "wq.weight is not expected",
        ),
        (
            lambda d: _tensors(
                d,
                lambda t: t.update(
                    {
                        f"{HEAD}.weight_packed": t[f"{HEAD}.weight_packed"][:, 1:]
                        .clone()
                        .contiguous()
                    }
                ),
            ),
            r"wq.weight_packed has shape \[64, 31\], \[64, 32\] is expected",
        ),
        (
            lambda d: _tensors(
                d, lambda t: t.update({f"{HEAD}.weight_zero": t[f"{HEAD}.weight_zero"].float()})
            ),
            "wq.weight_zero is stored as torch.float32, torch.bfloat16 is expected",
        ),
        (lambda d: _edit(d, quantization_config=None), "wq.weight is missing"),
        (lambda d: _edit(d, quantization_config={"quant_method": "awq"}), "'awq'.*not supported"),
        (
            lambda d: _edit(
                d,
                quantization_config={
                    "quant_method": "llama3lib",
                    "scheme": "int4",
                    "group_size": 64,
                },
            ),
            "'group_size': 64",
        ),
    ],
)
def test_damage_and_other_layouts_are_refused(tmp_path, damage, words):
    save_hf(quantized("int4"), tmp_path / "m")
    if damage is not _flip:
        (tmp_path / "m" / "checksums.json").unlink()
    damage(tmp_path / "m")
    with pytest.raises(CheckpointError, match=words):
        load_model(tmp_path / "m")


def test_what_cannot_be_saved_or_done_twice_is_named(tmp_path):
    model = quantized("int8")
    with pytest.raises(ValueError, match="Meta's layout"):
        save_meta(model, tmp_path / "meta")
    with pytest.raises(ValueError, match="fused or quantised before"):
        fuse_projections(model, scheme="int4")
    model.output = torch.nn.Linear(ARGS.dim, ARGS.vocab_size, bias=False)
    with pytest.raises(ValueError, match="not just those"):
        save_hf(model, tmp_path / "mixed")
    assert not list(tmp_path.iterdir())


def test_the_commands_write_and_read_such_a_folder(tmp_path, capsys):
    small = str(tmp_path / "small")
    assert main(["export", "tiny-base", small, "--quantize", "int4"]) == 0
    assert f"written: {small}" in capsys.readouterr().out
    options = ["--prompt", "One sunny day", "--max-tokens", "8"]
    texts = []
    assert main(["generate", small, *options]) == 0
    texts.append(capsys.readouterr().out)
    model = fuse_projections(load_model("tiny-base"), scheme="int4")
    words = load_tokenizer(small)
    from llama3lib.inference import SamplingParams, generate

    made = generate(model, words, options[1], SamplingParams(max_tokens=8))
    assert texts == ["".join(made) + "\n"]
