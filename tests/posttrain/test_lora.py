"""LoRA: nothing changes at first, only the adapters learn, and PEFT reads and writes the same."""

import json

import peft
import pytest
import torch
from peft import LoraConfig, PeftModel
from transformers import LlamaForCausalLM

from llama3lib.checkpoint import CheckpointError, load_model, save_hf
from llama3lib.inference import fuse_projections
from llama3lib.model import ModelArgs, Transformer
from llama3lib.posttrain.adapters import load_adapter, save_adapter
from llama3lib.posttrain.lora import LoraLinear, add_lora, lora_places, merge_lora
from llama3lib.quant import quantize_model

ARGS = ModelArgs(
    dim=32, n_layers=2, n_heads=4, n_kv_heads=2, ffn_dim=48, vocab_size=97, max_seq_len=32
)
TOKENS = torch.arange(24).view(2, 12)


def make_model(seed=0):
    model = Transformer(ARGS)
    model.init_weights(torch.Generator().manual_seed(seed))
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.mul_(8)
    return model.eval()


def stirred(model):
    """With adapters that do something."""
    draw = torch.Generator().manual_seed(5)
    for _, _, _, adapted in lora_places(model):
        adapted.lora_b.data.copy_(torch.randn(adapted.lora_b.shape, generator=draw) / 4)
    return model


def test_nothing_changes_at_first_and_only_adapters_learn():
    plain, model = make_model(), add_lora(make_model(), rank=4)
    assert torch.equal(model(TOKENS), plain(TOKENS))
    model(TOKENS).square().mean().backward()
    learned = {name for name, p in model.named_parameters() if p.grad is not None}
    assert learned == {n for n, p in model.named_parameters() if p.requires_grad}
    assert len(learned) == 2 * 7 * 2 and all(".lora_" in name for name in learned)
    before = {name: p.clone() for name, p in model.named_parameters()}
    torch.optim.SGD(model.parameters(), 0.1).step()
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name in learned if name.endswith("lora_b")}  # A has no gradient yet


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_merged_is_what_the_formula_says(dtype):
    model = stirred(add_lora(make_model().to(dtype), rank=3, alpha=6, targets=["wq", "w2"]))
    want = model(TOKENS)
    expected = {
        name: one.base.weight + 2 * one.lora_b @ one.lora_a
        for name, _, _, one in lora_places(model)
    }
    assert sorted(expected)[0] == "layers.0.attention.wq" and len(expected) == 4
    merged = merge_lora(model)
    assert not any(isinstance(part, LoraLinear) for part in merged.modules())
    for name, weight in expected.items():
        assert torch.allclose(merged.get_submodule(name).weight, weight)
    limit = 1e-4 if dtype == torch.float32 else 1e-12
    assert torch.allclose(merged(TOKENS), want, atol=limit)
    assert all(p.requires_grad for p in merged.parameters())


@pytest.mark.parametrize("targets", [["wq", "wv"], ["wq", "wk", "wv", "wo", "w1", "w2", "w3"]])
def test_peft_opens_what_we_write(tmp_path, targets):
    save_hf(make_model(), tmp_path / "base")
    model = stirred(add_lora(load_model(tmp_path / "base"), rank=4, alpha=8, targets=targets))
    save_adapter(model, tmp_path / "adapter", base=str(tmp_path / "base"))
    foreign = LlamaForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
    foreign = PeftModel.from_pretrained(foreign, tmp_path / "adapter").eval()
    with torch.no_grad():
        want = foreign(TOKENS).logits
        assert torch.allclose(model(TOKENS), want, atol=1e-5 * want.abs().max())
        merged = foreign.merge_and_unload()
        merge_lora(model)
        assert torch.allclose(model(TOKENS), merged(TOKENS).logits, atol=1e-5 * want.abs().max())


def test_we_open_what_peft_writes(tmp_path):
    save_hf(make_model(), tmp_path / "base")
    foreign = LlamaForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
    config = LoraConfig(
        r=3, lora_alpha=5, target_modules=["q_proj", "k_proj", "down_proj"], task_type="CAUSAL_LM"
    )
    foreign = peft.get_peft_model(foreign, config).eval()
    draw = torch.Generator().manual_seed(1)
    for name, parameter in foreign.named_parameters():
        if "lora_B" in name:
            parameter.data.copy_(torch.randn(parameter.shape, generator=draw) / 4)
    foreign.save_pretrained(tmp_path / "adapter")
    model = load_adapter(load_model(tmp_path / "base"), tmp_path / "adapter")
    with torch.no_grad():
        want = foreign(TOKENS).logits
        assert torch.allclose(model(TOKENS), want, atol=1e-5 * want.abs().max())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rank": 0}, "rank=0"),
        ({"rank": 2.0}, "rank=2.0"),
        ({"alpha": float("nan")}, "alpha=nan"),
        ({"targets": ["wq", "output"]}, "targets="),
        ({"targets": []}, "targets="),
    ],
)
def test_wrong_settings_are_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        add_lora(make_model(), **changes)


def test_models_that_cannot_be_adapted_are_refused():
    adapted = add_lora(make_model())
    for model in (adapted, fuse_projections(make_model()), quantize_model(make_model(), "int8")):
        with pytest.raises(ValueError, match="no plain matrices"):
            add_lora(model)
    with pytest.raises(ValueError, match="without adapters"):
        merge_lora(make_model())


def rewrite(folder, **changes):
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"peft_type": "IA3"}, "no LoRA"),
        ({"use_dora": True}, "use_dora is not supported"),
        ({"bias": "all"}, "bias is not supported"),
        ({"target_modules": ["lm_head"]}, "lm_head"),
        ({"target_modules": "all-linear"}, "all-linear"),
        ({"r": 5}, r"has shape \(4, 32\), \(5, 32\)"),
        ({"r": "4"}, "rank='4'"),
        ({"target_modules": ["q_proj"]}, "is not expected"),
        ({"target_modules": ["q_proj", "v_proj", "k_proj"]}, "has shape None"),
    ],
)
def test_foreign_and_damaged_adapters_are_refused(tmp_path, changes, said):
    save_adapter(add_lora(make_model(), 4, targets=["wq", "wv"]), tmp_path / "a")
    rewrite(tmp_path / "a", **changes)
    with pytest.raises(CheckpointError, match=said):
        load_adapter(make_model(), tmp_path / "a")


def test_a_folder_is_written_whole_or_not_at_all(tmp_path):
    save_adapter(add_lora(make_model(), 4), tmp_path / "a")
    with pytest.raises(ValueError, match="not empty"):
        save_adapter(add_lora(make_model(), 2), tmp_path / "a")
    (tmp_path / "a" / "adapter_model.safetensors").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_adapter(make_model(), tmp_path / "a")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_adapter(make_model(), tmp_path / "nowhere")
