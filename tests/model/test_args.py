"""Presets against the published shapes; bad fields are named."""

import dataclasses

import pytest

from llama3lib.model import PRESETS, ModelArgs, RopeScaling, ffn_dim_from_rule, get_preset

GOOD = dict(dim=64, n_layers=2, n_heads=4, n_kv_heads=2, ffn_dim=128, vocab_size=100)


@pytest.mark.parametrize(
    "field, value, allowed",
    [
        ("dim", 0, "above 0"),
        ("dim", 64.0, "whole number"),
        ("dim", 66, "multiple of 4"),
        ("n_layers", -1, "above 0"),
        ("n_heads", True, "whole number"),
        ("n_kv_heads", 3, "divisor of n_heads=4"),
        ("head_dim", 15, "even"),
        ("vocab_size", None, "above 0"),
        ("rope_theta", 0.0, "above 0"),
        ("rope_theta", float("inf"), "finite"),
        ("norm_eps", float("nan"), "finite"),
        ("rope_scaling", {"factor": 8}, "RopeScaling"),
        ("max_seq_len", 0, "above 0"),
        ("tie_embeddings", 1, "bool"),
    ],
)
def test_bad_field_is_named_with_value_and_allowed(field, value, allowed):
    with pytest.raises(ValueError) as error:
        ModelArgs(**(GOOD | {field: value}))
    assert f"{field}={value!r}" in str(error.value) and allowed in str(error.value)


@pytest.mark.parametrize(
    "field, value",
    [("factor", 0.5), ("high_freq_factor", 1.0), ("original_max_seq_len", 0), ("factor", "8")],
)
def test_bad_scaling_is_named(field, value):
    with pytest.raises(ValueError, match=f"{field}="):
        RopeScaling(**{field: value})


def test_args_are_frozen_and_replace_checks_again():
    args = ModelArgs(**GOOD)
    assert args.head_dim == 16 and args.queries_per_kv_head == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        args.dim = 65
    assert args.replace(n_layers=3).n_layers == 3
    with pytest.raises(ValueError, match="n_layers=0"):
        args.replace(n_layers=0)


@pytest.mark.parametrize(
    "name, multiplier, multiple_of",
    [
        ("llama3-8b", 1.3, 1024),
        ("llama3-70b", 1.3, 4096),
        ("llama3.1-405b", 1.2, 4096),
        ("llama3.2-1b", 1.5, 256),
        ("llama3.2-3b", 1.0, 256),
    ],
)
def test_published_ffn_widths_follow_the_released_rule(name, multiplier, multiple_of):
    args = PRESETS[name]
    assert ffn_dim_from_rule(args.dim, multiplier, multiple_of) == args.ffn_dim


def test_head_size_and_context_of_the_published_models():
    for name in ("llama3-8b", "llama3-70b", "llama3.1-8b", "llama3.1-70b", "llama3.1-405b"):
        assert PRESETS[name].head_dim == 128 and PRESETS[name].n_kv_heads == 8
    assert PRESETS["llama3-8b"].max_seq_len == 8192 and PRESETS["llama3-8b"].rope_scaling is None
    assert PRESETS["llama3.1-8b"].max_seq_len == 131_072
    assert PRESETS["llama3.2-1b"].head_dim == 64 and PRESETS["llama3.2-1b"].tie_embeddings


def test_get_preset_takes_aliases_and_lists_names():
    assert get_preset("405b") is get_preset("405B") is PRESETS["llama3.1-405b"]
    assert get_preset("1B") is PRESETS["llama3.2-1b"]
    with pytest.raises(ValueError, match=r"'7B' is not known.*405B.*llama3-8b"):
        get_preset("7B")
