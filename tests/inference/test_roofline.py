"""The roofline: closed forms, PyTorch's counter, real modules, and the numbers of the paper."""

import time

import pytest
import torch
from timing_tools import deadline
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from llama3lib.inference import roofline
from llama3lib.inference.roofline import (
    H100,
    Chip,
    bound_by,
    chips_needed,
    compute_seconds,
    fits,
    gain_bound,
    measure_chip,
    memory_seconds,
    predict_seconds,
    step_cost,
    weight_bytes,
)
from llama3lib.model import Transformer, get_preset
from llama3lib.model.flops import flops_per_token, kv_cache_bytes
from llama3lib.paper import inference as facts
from llama3lib.quant import quantize_model


def on_meta(name):
    with torch.device("meta"):
        return Transformer(get_preset(name))


def stored_bytes(model):
    """Bytes of what a checkpoint holds, in bfloat16 where nothing else is said."""
    parameters = sum(2 * p.numel() for p in model.parameters())
    buffers = dict(model.named_buffers())
    return parameters + sum(b.nbytes for n, b in buffers.items() if n.endswith((".q", ".scale")))


# ---- what a step costs


@pytest.mark.parametrize("name", ["tiny", "110m"])
@pytest.mark.parametrize("sequences, length", [(1, 64), (3, 17)])
def test_reading_prompts_costs_what_the_counter_counts(name, sequences, length):
    args = get_preset(name)
    model = Transformer(args)
    tokens = torch.zeros(sequences, length, dtype=torch.long)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        hidden = model.hidden_states(tokens)
        model.output(hidden[:, -1:])  # as the engine: one row of scores for each text
    cost = step_cost(
        args, num_tokens=sequences * length, context_tokens=length, num_sequences=sequences
    )
    # the plain kernel takes all T·T scores, a causal one needs T·(T + 1) / 2
    one_pair = 4 * args.n_layers * args.n_heads * args.head_dim
    unseen = one_pair * sequences * length * (length - 1) // 2
    assert cost.flops + unseen == counter.get_total_flops()


def test_the_pieces_of_a_prompt_cost_what_the_whole_costs():
    args = get_preset("8B")
    whole = step_cost(args, num_tokens=1000, context_tokens=1000)
    ends = (1, 300, 301, 640, 1000)
    pieces = [
        step_cost(args, num_tokens=end - begin, context_tokens=end)
        for begin, end in zip((0, *ends), ends, strict=False)
    ]
    extra_heads = (len(ends) - 1) * 2 * args.vocab_size * args.dim
    assert sum(piece.flops for piece in pieces) == whole.flops + extra_heads
    per_token = flops_per_token(args, 1000)
    heads = 2 * args.vocab_size * args.dim
    assert whole.flops == 1000 * (per_token.forward - heads) + heads


def test_decoding_by_hand():
    args = get_preset("8B")
    cost = step_cost(args, num_tokens=16, num_sequences=16, context_tokens=2048)
    attention = 2 * 4096 * 4096 + 2 * 4096 * 1024
    parameters = 32 * (attention + 3 * 4096 * 14_336) + 128_256 * 4096
    assert cost.flops == 16 * (2 * parameters + 4 * 32 * 4096 * 2048)
    norms = (2 * 32 + 1) * 4096
    assert cost.weight_bytes == 2 * (parameters + norms + 16 * 4096)  # 16 rows of the embedding
    assert cost.cache_bytes == 16 * 2048 * 131_072 == 16 * 2048 * kv_cache_bytes(args)
    assert cost.intensity == cost.flops / (cost.weight_bytes + cost.cache_bytes)
    half = step_cost(
        args, num_tokens=16, num_sequences=16, context_tokens=2048, bytes_per_weight=1,
        bytes_per_value=1,
    )  # fmt: skip
    assert (2 * half.weight_bytes, 2 * half.cache_bytes) == (cost.weight_bytes, cost.cache_bytes)


def test_at_long_context_more_texts_do_not_help():
    """The cache is nobody else's: intensity ends at query heads a KV head, FLOPs a byte."""
    args = get_preset("405B")
    found = []
    for context in (2**13, 2**17, 2**23):
        many = step_cost(args, num_tokens=2**24, num_sequences=2**24, context_tokens=context)
        found.append(many.intensity)
    assert found == sorted(found, reverse=True) and found[1] < 30 < H100.ridge
    assert found[2] == pytest.approx(128 / 8, rel=0.02)


def test_a_tied_embedding_is_read_once_as_the_output_matrix():
    args = get_preset("1B")
    assert step_cost(args, num_tokens=1, context_tokens=1).weight_bytes == weight_bytes(args)
    assert weight_bytes(args) == 2 * 1_235_814_400


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"num_tokens": 0}, "num_tokens=0 is not allowed"),
        ({"num_tokens": 5, "num_sequences": 2}, "a multiple of num_sequences=2"),
        ({"context_tokens": 3}, "context_tokens=3 is not allowed: 4 or more"),
        ({"num_sequences": 1.0}, "num_sequences=1.0"),
        ({"bytes_per_value": 0}, "bytes_per_value=0"),
    ],
)
def test_wrong_steps_are_refused(wrong, words):
    with pytest.raises(ValueError, match=words):
        step_cost(get_preset("8B"), **({"num_tokens": 4, "context_tokens": 8} | wrong))


# ---- weights, and where they fit


@pytest.mark.parametrize("name", ["tiny", "small", "8B", "405B"])
def test_weights_are_those_of_real_modules(name):
    model = on_meta(name)
    assert weight_bytes(model.args) == stored_bytes(model)
    assert weight_bytes(model.args, fp8_ffn=True) == stored_bytes(quantize_model(model, "fp8"))


def test_the_405b_and_its_machines():
    args = get_preset("405B")
    whole, fp8 = weight_bytes(args) / 1e9, weight_bytes(args, fp8_ffn=True) / 1e9
    assert round(whole, 1) == facts.BF16_GIGABYTES.value
    assert abs(fp8 - facts.FP8_GIGABYTES.value) < 0.5
    assert [fits(args, H100, n) for n in (8, 10, 11, 16)] == [False, False, True, True]
    assert [fits(args, H100, n, fp8_ffn=True) for n in (4, 6, 7, 8)] == [False, False, True, True]
    assert chips_needed(args, H100) == facts.GPUS_BF16.value
    assert chips_needed(args, H100, fp8_ffn=True) == facts.GPUS_BF16.value / 2
    room = 8 * 80e9 - weight_bytes(args, fp8_ffn=True)
    most = int(room // kv_cache_bytes(args))
    assert fits(args, H100, 8, fp8_ffn=True, cache_tokens=most)
    assert not fits(args, H100, 8, fp8_ffn=True, cache_tokens=most + 1)
    assert chips_needed(args, H100, fp8_ffn=True, cache_tokens=most + 1) == 16
    assert [chips_needed(get_preset(n), H100) for n in ("8B", "70B")] == [1, 2]
    with pytest.raises(ValueError, match="cache_tokens=-1"):
        fits(args, H100, 8, cache_tokens=-1)


# ---- time


def test_time_is_the_larger_of_both():
    chip = Chip(name="c", flops=100, fp8_flops=200, bytes_per_second=10, memory_bytes=1, source="")
    assert chip.ridge == 10
    args = get_preset("small")
    for batch in (1, 4, 16, 64, 256):
        cost = step_cost(args, num_tokens=batch, num_sequences=batch, context_tokens=4)
        want = max(cost.flops / 100, cost.total_bytes / 10)
        assert predict_seconds(cost, chip) == want == 4 * predict_seconds(cost, chip, 4)
        assert bound_by(cost, chip) == ("compute" if cost.intensity >= 10 else "memory")
    assert bound_by(step_cost(args, num_tokens=1, context_tokens=4), chip) == "memory"
    assert bound_by(cost, chip) == "compute"


def test_fp8_products_run_at_their_own_rate():
    args = get_preset("405B")
    plain = step_cost(args, num_tokens=4096, context_tokens=4096)
    fp8 = step_cost(args, num_tokens=4096, context_tokens=4096, fp8_ffn=True)
    assert fp8.flops == plain.flops and plain.fp8_flops == 0
    assert fp8.fp8_flops == 2 * 4096 * 124 * 3 * 16_384 * 53_248
    assert abs(fp8.fp8_flops / 2 / 4096 / 1e9 - facts.FP8_PARAMETERS.value) < 0.1
    share = fp8.fp8_flops / fp8.flops
    gain = compute_seconds(plain, H100) / compute_seconds(fp8, H100)
    assert gain == pytest.approx(gain_bound(share, 1979 / 989.4))
    without = Chip(**vars(H100) | {"fp8_flops": None})
    assert compute_seconds(fp8, without) == compute_seconds(plain, without)
    assert memory_seconds(fp8, H100) < memory_seconds(plain, H100)


def test_the_h100_in_the_serving_of_the_paper():
    """Reading 4,096 tokens is bound by arithmetic, writing one by one by memory."""
    args = get_preset("405B")
    prefill = step_cost(args, num_tokens=facts.INPUT_TOKENS.value, context_tokens=4096)
    decode = step_cost(args, num_tokens=1, context_tokens=4096)
    assert bound_by(prefill, H100) == "compute" and bound_by(decode, H100) == "memory"
    assert H100.ridge == pytest.approx(295.3, abs=0.1)
    assert decode.intensity == pytest.approx(1, rel=0.05)  # 2 FLOPs for each 2 bytes
    assert predict_seconds(decode, H100, 16) == pytest.approx(811e9 / 3.35e12 / 16, rel=0.02)


def test_what_a_faster_half_can_bring():
    assert gain_bound() == pytest.approx(4 / 3)
    assert gain_bound() - 1 < facts.PREFILL_GAIN.value  # which compares other machines
    assert gain_bound(0.0) == 1 and gain_bound(1.0, 3) == 3
    for share, speedup in ((0.3, 2.0), (0.9, 0.5)):
        assert gain_bound(share, speedup) == pytest.approx(1 / ((1 - share) + share / speedup))
    with pytest.raises(ValueError, match=r"share=1\.5"):
        gain_bound(1.5)
    with pytest.raises(ValueError, match="speedup=0"):
        gain_bound(0.5, 0)


def test_a_chip_needs_numbers_above_zero():
    with pytest.raises(ValueError, match="bytes_per_second=0 is not allowed: above 0"):
        Chip(**vars(H100) | {"bytes_per_second": 0})


def test_this_machine_is_measured_and_its_roof_is_a_bound(monkeypatch):
    monkeypatch.setattr(roofline.time, "perf_counter", time.process_time)  # whatever else runs here
    with deadline(8):  # 1.3 s on a quiet machine
        chip = measure_chip()
    assert 1e8 < chip.flops < 1e14 and 1e8 < chip.bytes_per_second < 1e13
    assert chip.memory_bytes > 1e9 and chip.fp8_flops is None
    assert chip.source.startswith("measured here in float32")
    # a real step of a model that no cache holds cannot be much faster than the bound
    args = get_preset("110m")
    model = Transformer(args).eval()
    cost = step_cost(args, num_tokens=128, context_tokens=128, bytes_per_weight=4,
                     bytes_per_value=4)  # fmt: skip
    tokens, times = torch.zeros(1, 128, dtype=torch.long), []
    with torch.inference_mode():
        for _ in range(3):
            begun = time.process_time()
            model.output(model.hidden_states(tokens)[:, -1:])
            times.append(time.process_time() - begun)
    assert min(times) > 0.5 * predict_seconds(cost, chip)
    with pytest.raises(ValueError, match="device='abacus'"):
        measure_chip("abacus")
