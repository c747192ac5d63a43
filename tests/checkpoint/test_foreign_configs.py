"""Configs as they lie beside models of the Llama family, in short: read, or refused by name.

The values are the published ones; keys that all of them share are filled in below.
"""

import json
import logging

import pytest
import torch

from llama3lib.checkpoint import CheckpointError, load_model, save_hf
from llama3lib.checkpoint.hf import config_to_args, unknown_keys
from llama3lib.model import ModelArgs, Transformer

COMMON = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.31.0",
    "use_cache": True,
}
SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
SIZES += ("num_key_value_heads", "vocab_size", "max_position_embeddings")
LLAMA31_ROPE = {
    "factor": 8.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}
# name: sizes, what else the file says, keys that are told to be ignored
READ = {
    "Llama-2-7b": (
        (4096, 11008, 32, 32, 32, 32000, 4096),
        {"_name_or_path": "x", "pretraining_tp": 1, "rope_scaling": None, "pad_token_id": 0},
        [],
    ),
    "Llama-2-13b as first published": (
        (5120, 13824, 40, 40, None, 32000, 4096),
        {"pretraining_tp": 2, "rms_norm_eps": 1e-5},
        [],
    ),
    "Llama-2-7b-chat with its generation settings": (
        (4096, 11008, 32, 32, 32, 32000, 4096),
        {"do_sample": True, "temperature": 0.6, "top_p": 0.9, "max_length": 4096},
        ["do_sample", "max_length", "temperature", "top_p"],
    ),
    "Meta-Llama-3-8B": (
        (4096, 14336, 32, 32, 8, 128256, 8192),
        {"attention_bias": False, "attention_dropout": 0.0, "rope_theta": 500000.0},
        [],
    ),
    "Llama-3.1-8B-Instruct": (
        (4096, 14336, 32, 32, 8, 128256, 131072),
        {"eos_token_id": [128001, 128008, 128009], "mlp_bias": False, "rope_scaling": LLAMA31_ROPE},
        [],
    ),
    "Llama-3.2-1B": (
        (2048, 8192, 16, 32, 8, 128256, 131072),
        {
            "head_dim": 64,
            "rope_scaling": LLAMA31_ROPE | {"factor": 32.0},
            "tie_word_embeddings": True,
        },
        [],
    ),
    "CodeLlama-7b": ((4096, 11008, 32, 32, 32, 32016, 16384), {"rope_theta": 1000000}, []),
    "TinyLlama-1.1B-Chat": ((2048, 5632, 22, 32, 4, 32000, 2048), {"rope_scaling": None}, []),
    "SmolLM2-135M-Instruct": (
        (576, 1536, 30, 9, 3, 49152, 8192),
        {
            "is_llama_config": True,
            "pad_token_id": 2,
            "rope_interleaved": False,
            "rope_theta": 100000,
            "tie_word_embeddings": True,
            "transformers.js_config": {"kv_cache_dtype": {"q4f16": "float16"}},
        },
        ["is_llama_config", "rope_interleaved", "transformers.js_config"],
    ),
    "vicuna-7b-v1.5": (
        (4096, 11008, 32, 32, 32, 32000, 4096),
        {"max_length": 4096, "max_sequence_length": 4096},
        ["max_length", "max_sequence_length"],
    ),
    "Yi-6B": ((4096, 11008, 32, 32, 4, 64000, 4096), {"rope_theta": 5000000.0}, []),
    "Hermes-3-Llama-3.1-8B": (
        (4096, 14336, 32, 32, 8, 128256, 131072),
        {"eos_token_id": 128040, "rope_scaling": LLAMA31_ROPE},
        [],
    ),
    "Llama-3.2-1B-Instruct by Unsloth": (
        (2048, 8192, 16, 32, 8, 128256, 131072),
        {"unsloth_fixed": True, "unsloth_version": "2024.9", "quantization_config": None},
        ["unsloth_fixed", "unsloth_version"],
    ),
    "DeepSeek-R1-Distill-Llama-8B": (
        (4096, 14336, 32, 32, 8, 128256, 131072),
        {"rope_scaling": LLAMA31_ROPE, "head_dim": None},
        [],
    ),
    "decapoda llama-7b": (
        (4096, 11008, 32, 32, None, 32000, 2048),
        {"architectures": ["LLaMAForCausalLM"], "max_sequence_length": 2048},
        ["max_sequence_length"],
    ),
}
REFUSED = {
    "deepseek-coder-6.7b: linear": (
        {"rope_scaling": {"factor": 4.0, "type": "linear"}},
        "rope type 'linear' is not supported",
    ),
    "a dynamic context": (
        {"rope_scaling": {"factor": 2.0, "rope_type": "dynamic"}},
        "rope type 'dynamic' is not supported",
    ),
    "Yarn-Llama-2-7b": (
        {"rope_scaling": {"factor": 16.0, "type": "yarn", "finetuned": True}},
        "rope type 'yarn' is not supported",
    ),
    "Qwen in Llama's clothes": ({"attention_bias": True}, "attention_bias=True is not supported"),
    "a classifier": ({"architectures": ["LlamaForSequenceClassification"]}, "architectures="),
    "code of its own": ({"architectures": ["DeciLMForCausalLM"]}, "architectures="),
    "Granite's scales": ({"residual_multiplier": 0.22}, "residual_multiplier=0.22"),
    "half of the pairs turned": ({"partial_rotary_factor": 0.5}, "partial_rotary_factor=0.5"),
    "windows": ({"layer_types": ["sliding_attention"]}, "layer_types="),
    "GPTQ": ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "gptq"),
}


def config(sizes, more):
    named = {k: v for k, v in zip(SIZES, sizes, strict=True) if v is not None}
    return COMMON | {"rms_norm_eps": 1e-6} | named | more


@pytest.mark.parametrize("name", READ)
def test_published_configs_are_read(name):
    sizes, more, told = READ[name]
    data = config(sizes, more)
    args = config_to_args(json.loads(json.dumps(data)))
    assert (args.dim, args.ffn_dim, args.n_layers, args.n_heads) == sizes[:4]
    assert args.n_kv_heads == (sizes[4] or sizes[3])
    assert args.rope_theta == more.get("rope_theta", 10000.0)
    assert bool(args.rope_scaling) == bool(more.get("rope_scaling"))
    assert unknown_keys(data) == told


@pytest.mark.parametrize("name", REFUSED)
def test_other_arithmetic_is_refused_by_name(name):
    more, words = REFUSED[name]
    with pytest.raises(CheckpointError, match=words):
        config_to_args(config(READ["Yi-6B"][0], more))


def test_unknown_keys_are_told_once_and_change_nothing(tmp_path, caplog):
    args = ModelArgs(dim=16, n_layers=1, n_heads=2, n_kv_heads=1, ffn_dim=16, vocab_size=40)
    save_hf(model := Transformer(args), tmp_path / "m")
    (tmp_path / "m" / "checksums.json").unlink()
    path = tmp_path / "m" / "config.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(data | {"unsloth_fixed": True, "max_length": 9}), encoding="utf-8")
    with caplog.at_level(logging.WARNING, "llama3lib"):
        loaded = load_model(tmp_path / "m")
    assert [r.getMessage().split(": ")[-1] for r in caplog.records] == ["max_length, unsloth_fixed"]
    assert all(map(torch.equal, model.parameters(), loaded.parameters()))
