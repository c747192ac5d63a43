"""Cost formulas against real modules, PyTorch's FLOP counter, and what autograd really keeps."""

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from llama3lib.model import ModelArgs, Transformer, get_preset
from llama3lib.model.flops import (
    activation_bytes,
    count_parameters,
    flops_per_token,
    inference_memory,
    kv_cache_bytes,
    tensor_shapes,
    training_memory,
)

ODD = ModelArgs(
    dim=96, n_layers=3, n_heads=6, n_kv_heads=6, ffn_dim=256, vocab_size=300, head_dim=20
)


@pytest.mark.parametrize("args", [get_preset("tiny"), get_preset("110m"), ODD])
def test_shapes_are_those_of_the_module(args):
    with torch.device("meta"):
        model = Transformer(args)
    real = {name.removesuffix(".weight"): tuple(p.shape) for name, p in model.named_parameters()}
    told = {}
    for tensor in tensor_shapes(args):
        for i in range(tensor.copies):
            told[tensor.name.replace("{i}", str(i))] = tensor.shape
    assert told == real


@pytest.mark.parametrize(
    "name, total, kv, at_131072_gib",
    [
        ("8B", 8_030_261_248, 131_072, 16.0),
        ("70B", 70_553_706_496, 327_680, 40.0),
        ("405B", 405_853_388_800, 516_096, 63.0),
        ("1B", 1_235_814_400, 32_768, 4.0),
        ("3B", 3_212_749_824, 114_688, 14.0),
    ],
)
def test_published_totals(name, total, kv, at_131072_gib):
    args = get_preset(name)
    assert count_parameters(args).total == total
    assert kv_cache_bytes(args) == kv
    assert kv_cache_bytes(args, 131_072) / 2**30 == at_131072_gib


def test_shares_of_the_405b():
    count = count_parameters(get_preset("405B"))
    assert round(100 * count.share("feed_forward"), 1) == 81.3
    assert round(100 * count.share("attention"), 1) == 17.7
    with pytest.raises(ValueError, match="part='mlp'"):
        count.share("mlp")


@pytest.mark.parametrize("args", [get_preset("tiny"), ODD])
def test_flops_equal_the_counter(args):
    tokens = torch.zeros(2, 64, dtype=torch.long)
    model = Transformer(args)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(tokens)
    cost = flops_per_token(args, 64)
    # the plain kernel computes all T·T scores, we count the causal T·(T + 1) / 2
    full_attention = cost.attention * 2 * 64 // 65
    assert counter.get_total_flops() == tokens.numel() * (cost.matrices + full_attention)
    assert cost.training == 3 * cost.forward


def test_six_n_d_is_the_matrix_part_and_matches_the_stated_budget():
    args = get_preset("405B")
    six_n = 6 * count_parameters(args).total
    assert abs(six_n * 15.6e12 / 3.8e25 - 1) < 0.01  # §1: 3.8e25 FLOPs on 15.6T tokens
    embedding = 6 * args.vocab_size * args.dim
    norms = 6 * count_parameters(args).norms
    assert 3 * flops_per_token(args, 1).matrices == six_n - embedding - norms


@pytest.mark.parametrize("args", [get_preset("tiny"), get_preset("small"), ODD])
def test_activation_bytes_are_what_autograd_keeps(args):
    batch, length = 2, 128
    model = Transformer(args)
    tokens = torch.zeros(batch, length, dtype=torch.long)
    own = {p.untyped_storage().data_ptr() for p in (*model.parameters(), model.freqs_cis)}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        F.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten())
    told = activation_bytes(args, seq_len=length, batch_size=batch, bytes_per_element=4)
    extra = (2 * args.n_layers + 1) * batch * length * args.dim * 4  # the CPU norm's second copy
    assert abs(sum(kept.values()) / (told + extra) - 1) < 0.03


def test_memory_estimates_add_up():
    args = get_preset("8B")
    serve = inference_memory(args, tokens=8192, batch_size=2)
    assert serve.weights == 2 * 8_030_261_248 and serve.kv_cache == 2 * 8192 * 131_072
    train = training_memory(args, seq_len=8192)
    assert train.weights == train.gradients == train.optimizer // 2 == 4 * 8_030_261_248
    assert training_memory(args, seq_len=8192, checkpointing=True).activations < train.activations
    assert train.total == train.weights * 4 + train.activations


@pytest.mark.parametrize("bad", [0, -1, 1.5, True])
def test_bad_lengths_are_refused(bad):
    with pytest.raises(ValueError, match="seq_len="):
        flops_per_token(get_preset("tiny"), bad)
    with pytest.raises(ValueError, match="tokens="):
        kv_cache_bytes(get_preset("tiny"), bad)
