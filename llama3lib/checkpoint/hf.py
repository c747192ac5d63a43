"""Hugging Face's names, layout and config for Llama. Foreign names stay in this file.

Two things differ from Meta's checkpoints: names, and the order of the rows of wq and wk (see
`llama3lib.model.rope`). The config exists in two spellings: `rope_theta` with `rope_scaling` as
published, and `rope_parameters` as newer versions of transformers write it.
"""

import re
from typing import get_args

import torch
from torch import Tensor

from llama3lib.checkpoint.errors import CheckpointError
from llama3lib.model import ModelArgs, RopeScaling
from llama3lib.model.rope import half_to_interleaved, interleaved_to_half
from llama3lib.quant.quantize import Scheme

_TOP = {
    "tok_embeddings.weight": "model.embed_tokens.weight",
    "norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_IN_LAYER = {
    "attention.wq": "self_attn.q_proj",
    "attention.wk": "self_attn.k_proj",
    "attention.wv": "self_attn.v_proj",
    "attention.wo": "self_attn.o_proj",
    "feed_forward.w1": "mlp.gate_proj",
    "feed_forward.w2": "mlp.down_proj",
    "feed_forward.w3": "mlp.up_proj",
    "attention_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
_OURS = {theirs: ours for ours, theirs in _IN_LAYER.items()}
_LAYER = re.compile(r"(?:model\.)?layers\.(\d+)\.(.+)\.weight")
_QUANT_METHOD = "llama3lib"
_SUFFIX = re.compile(r"\.(weight_(?:scale|zero|packed))")

# say nothing about the arithmetic of a trained model; pretraining_tp only cuts the same sums apart
_HARMLESS = frozenset(
    "architectures auto_map bos_token_id eos_token_id pad_token_id initializer_range use_cache "
    "transformers_version torch_dtype dtype return_dict output_attentions output_hidden_states "
    "torchscript id2label label2id problem_type is_encoder_decoder chunk_size_feed_forward "
    "finetuning_task task_specific_params is_decoder tie_encoder_decoder use_bfloat16 "
    "pretraining_tp quantization_config".split()
)
# change the arithmetic, here or in a relative of Llama: only these values are what the model page
# computes. A key that is not known at all is one that Llama's own config class does not read
# either, so it does nothing there, and is only told.
_FIXED = {
    "model_type": ("llama",),
    "hidden_act": ("silu", "swish"),
    "attention_bias": (False, None),
    "mlp_bias": (False, None),
    "attention_dropout": (0, None),
    "sliding_window": (None,),
    "use_sliding_window": (False, None),
    "partial_rotary_factor": (1, None),
    "rotary_dim": (None,),
    "qkv_bias": (False, None),
    "bias": (False, None),
    "use_qk_norm": (False, None),
    "qk_layernorm": (False, None),
    "attn_logit_softcapping": (None,),
    "final_logit_softcapping": (None,),
    "clip_qkv": (None,),
    "logit_scale": (1, None),
    "embedding_multiplier": (1, None),
    "attention_multiplier": (None,),
    "residual_multiplier": (1, None),
    "logits_scaling": (1, None),
    "query_pre_attn_scalar": (None,),
    "no_rope_layers": (None, []),
    "num_local_experts": (None, 0),
    "num_experts": (None, 0),
    "n_routed_experts": (None, 0),
}
_SIZES = {
    "hidden_size": "dim",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads",
    "intermediate_size": "ffn_dim",
    "vocab_size": "vocab_size",
}
# optional keys with the defaults of transformers' own config class
_OPTIONAL = {
    "num_key_value_heads": None,
    "head_dim": None,
    "rms_norm_eps": 1e-6,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
    "rope_theta": 10_000.0,
    "rope_scaling": None,
    "rope_parameters": None,
}
_ROPE_KEYS = {
    "factor": "factor",
    "low_freq_factor": "low_freq_factor",
    "high_freq_factor": "high_freq_factor",
    "original_max_position_embeddings": "original_max_seq_len",
}


def to_hf_name(name: str) -> str:
    """Hugging Face's name of one of our parameters, or of a part of a quantised one."""
    if part := _SUFFIX.search(name):
        return to_hf_name(f"{name[: part.start()]}.weight").removesuffix("weight") + part[1]
    if name in _TOP:
        return _TOP[name]
    layer, part = _LAYER.fullmatch(name).groups()
    return f"model.layers.{layer}.{_IN_LAYER[part]}.weight"


def from_hf_name(name: str) -> str | None:
    """Our name of a Hugging Face tensor, or None if Llama has no such tensor."""
    if part := _SUFFIX.search(name):
        ours = from_hf_name(f"{name[: part.start()]}.weight")
        return ours and ours.removesuffix("weight") + part[1]
    for ours, theirs in _TOP.items():
        if name == theirs:
            return ours
    found = _LAYER.fullmatch(name)
    if not found or found[2] not in _OURS:
        return None
    return f"layers.{found[1]}.{_OURS[found[2]]}.weight"


def to_hf_tensor(name: str, tensor: Tensor, args: ModelArgs) -> tuple[str, Tensor]:
    """Their name and layout of one of our tensors (a weight, or a gradient of the same shape)."""
    heads = _rotary_heads(name, args)
    return to_hf_name(name), interleaved_to_half(tensor, heads) if heads else tensor


def from_hf_tensor(name: str, tensor: Tensor, args: ModelArgs) -> Tensor:
    """Our layout of a tensor; `name` is ours."""
    heads = _rotary_heads(name, args)
    return half_to_interleaved(tensor, heads) if heads else tensor


def _rotary_heads(name: str, args: ModelArgs) -> int | None:
    if ".attention.wq." in name:
        return args.n_heads
    return args.n_kv_heads if ".attention.wk." in name else None


def config_to_args(config: dict, source: str = "config.json") -> ModelArgs:
    """Read a config in either spelling.

    Raises CheckpointError on a foreign model and on a value the model page does not compute. Keys
    that Llama does not have are let through; `unknown_keys` lists them.
    """
    if not isinstance(config, dict):
        raise CheckpointError(f"{source} is not a JSON object")
    for key, allowed in _FIXED.items():
        if config.get(key, allowed[0]) not in allowed:
            told = " or ".join(str(value) for value in allowed)
            raise CheckpointError(f"{source}: {key}={config[key]!r} is not supported: {told} is")
    if "model_type" not in config:
        raise CheckpointError(f"{source} has no model_type: a Llama config says 'llama'")
    _check_architecture(config, source)
    read_scheme(config, source)
    missing = [key for key in _SIZES if key not in config]
    if missing:
        raise CheckpointError(f"{source} lacks {', '.join(missing)}")
    value = {key: config.get(key, default) for key, default in _OPTIONAL.items()}
    theta, scaling = _read_rope(value, source)
    try:
        return ModelArgs(
            **{ours: config[theirs] for theirs, ours in _SIZES.items()},
            n_kv_heads=value["num_key_value_heads"] or config["num_attention_heads"],
            head_dim=value["head_dim"],
            norm_eps=value["rms_norm_eps"],
            rope_theta=float(theta),
            rope_scaling=scaling,
            max_seq_len=value["max_position_embeddings"],
            tie_embeddings=value["tie_word_embeddings"],
        )
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{source}: {error}") from None


def quantization_config(scheme: str) -> dict:
    """What config.json says of a model that `quantize_model` has made."""
    group = {"group_size": 32} if scheme == "int4" else {}
    return {"quant_method": _QUANT_METHOD, "scheme": scheme, **group}


def read_scheme(config: dict, source: str = "config.json") -> Scheme | None:
    """How the weights are quantised; None if they are not. Raises CheckpointError for others."""
    given = config.get("quantization_config")
    if given is None:
        return None
    scheme = given.get("scheme") if isinstance(given, dict) else None
    if scheme not in get_args(Scheme) or given != quantization_config(scheme):
        raise CheckpointError(
            f"{source}: quantization_config={given!r} is not supported: what save_hf writes for "
            f"{', '.join(get_args(Scheme))} is"
        )
    return scheme


def unknown_keys(config: dict) -> list[str]:
    """Keys that Llama's config does not have; those with an underscore are notes to oneself."""
    known = _HARMLESS | _FIXED.keys() | _SIZES.keys() | _OPTIONAL.keys()
    return sorted(key for key in config if key not in known and not key.startswith("_"))


def _check_architecture(config: dict, source: str) -> None:
    """A head for something else, or code of its own, makes another model of the same type."""
    named = config.get("architectures") or []
    plain = isinstance(named, list) and all(str(n).lower() == "llamaforcausallm" for n in named)
    if not plain:
        raise CheckpointError(
            f"{source}: architectures={named!r} is not supported: ['LlamaForCausalLM'] is"
        )
    kinds = config.get("layer_types") or []
    if not isinstance(kinds, list) or set(map(str, kinds)) - {"full_attention"}:
        raise CheckpointError(f"{source}: layer_types={kinds!r} is not supported: full_attention")


def _read_rope(value: dict, source: str) -> tuple[float, RopeScaling | None]:
    rope = value["rope_parameters"] or value["rope_scaling"]
    if rope is None:
        return value["rope_theta"], None
    if not isinstance(rope, dict):
        raise CheckpointError(f"{source}: rope_scaling={rope!r} is not a JSON object")
    rope = dict(rope)
    theta = rope.pop("rope_theta", value["rope_theta"])
    kinds = {rope.pop(key) for key in ("rope_type", "type") if key in rope}
    kind = kinds.pop() if len(kinds) == 1 else kinds or "default"
    if kind == "default" and not rope:
        return theta, None
    if kind != "llama3":
        raise CheckpointError(
            f"{source}: rope type {kind!r} is not supported: default or llama3 is"
        )
    if set(rope) != set(_ROPE_KEYS):
        wrong = sorted(set(rope) ^ set(_ROPE_KEYS))
        raise CheckpointError(f"{source}: rope type llama3 lacks or has too many of: {wrong}")
    return theta, RopeScaling(**{ours: rope[theirs] for theirs, ours in _ROPE_KEYS.items()})


def args_to_config(
    args: ModelArgs, dtype: torch.dtype, *, bos_id: int | None = None, eos_id: int | None = None
) -> dict:
    """The config in the published spelling, which old and new versions of transformers read."""
    scaling = args.rope_scaling
    rope = None
    if scaling is not None:
        rope = {theirs: getattr(scaling, ours) for theirs, ours in _ROPE_KEYS.items()}
        rope["rope_type"] = "llama3"
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": bos_id,
        "eos_token_id": eos_id,
        "head_dim": args.head_dim,
        "hidden_act": "silu",
        "hidden_size": args.dim,
        "initializer_range": 0.02,
        "intermediate_size": args.ffn_dim,
        "max_position_embeddings": args.max_seq_len,
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": args.n_heads,
        "num_hidden_layers": args.n_layers,
        "num_key_value_heads": args.n_kv_heads,
        "pretraining_tp": 1,
        "rms_norm_eps": args.norm_eps,
        "rope_scaling": rope,
        "rope_theta": args.rope_theta,
        "tie_word_embeddings": args.tie_embeddings,
        "torch_dtype": str(dtype).removeprefix("torch."),
        "use_cache": True,
        "vocab_size": args.vocab_size,
    }
