"""The engine writes what one text at a time would give, and loses no block on the way."""

import random

import pytest
import torch

from llama3lib.checkpoint import load_model, load_tokenizer
from llama3lib.inference import KVCache, SamplingParams, fuse_projections, generate, generate_tokens
from llama3lib.inference.llm_engine import LLMEngine
from llama3lib.model import ModelArgs, Transformer

STORY = "One sunny day Omar went to the mill. He found two pears there. "


@pytest.fixture(scope="module")
def model():
    """In float64, so that a batch of another shape cannot turn a close choice."""
    args = ModelArgs(
        dim=32, n_layers=2, n_heads=4, n_kv_heads=2, ffn_dim=64, vocab_size=97, max_seq_len=256
    )
    made = Transformer(args)
    made.init_weights(torch.Generator().manual_seed(0))
    for parameter in made.parameters():
        if parameter.dim() > 1:
            parameter.data.mul_(8)  # so that texts differ
    return made.double().eval()


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("tiny-base")


def some_requests(rng, room):
    """Prompts that share beginnings, of many lengths."""
    base = [rng.randrange(97) for _ in range(60)]
    requests = []
    for _ in range(rng.randint(1, 9)):
        prompt = base[: rng.randint(1, 60)] + [rng.randrange(97) for _ in range(rng.randint(0, 9))]
        most = rng.randint(1, 25)
        if len(prompt) + most <= room:
            requests.append((prompt, SamplingParams(max_tokens=most)))
    return requests


@pytest.mark.parametrize("seed", range(25))
def test_random_workloads_are_what_single_texts_give(model, seed):
    rng = random.Random(seed)
    blocks, size = rng.choice([(12, 4), (9, 16), (24, 8), (80, 4), (6, 16)])
    requests = some_requests(rng, blocks * size)
    want = [list(generate_tokens(model, *request)) for request in requests]
    settings = {
        "num_blocks": blocks,
        "block_size": size,
        "max_num_seqs": rng.randint(1, 6),
        "max_num_batched_tokens": rng.choice([1, 3, 17, 64]),
        "prefix_sharing": rng.random() < 0.7,
    }
    got, cancelled, ids = {}, set(), {}
    with LLMEngine(model, **settings) as engine:
        left = list(enumerate(requests))
        while left or engine.has_work:
            if left and (rng.random() < 0.4 or not engine.has_work):
                place, request = left.pop(0)
                ids[engine.add_request(*request)] = place
            if ids and rng.random() < 0.03:
                name = rng.choice(list(ids))
                if engine.abort_request(name):
                    cancelled.add(ids[name])
            for out in engine.step():
                got[ids[out.request_id]] = out.token_ids
            engine.blocks.check(engine.scheduler.running)
        assert engine.blocks.num_free_blocks == blocks
        assert not engine.requests
    for place, tokens in enumerate(want):
        if place in cancelled:
            assert got.get(place, []) == tokens[: len(got.get(place, []))]
        else:
            assert got[place] == tokens


def test_too_little_room_preempts_and_changes_nothing(model):
    prompts = [[n + 1] * 10 for n in range(6)]
    params = SamplingParams(max_tokens=30)
    want = [list(generate_tokens(model, prompt, params)) for prompt in prompts]
    with LLMEngine(model, num_blocks=20, block_size=4, max_num_batched_tokens=64) as engine:
        got = [out.token_ids for out in engine.generate(prompts, params)]
        assert engine.scheduler.num_preemptions > 0
    assert got == want


def test_a_prompt_that_was_read_before_is_not_read_again(model):
    prompt = list(range(50))
    with LLMEngine(model, num_blocks=32, block_size=8) as engine:
        first = engine.generate([prompt], SamplingParams(max_tokens=4))[0]
        again = engine.generate([prompt], SamplingParams(max_tokens=4))[0]
        other = engine.generate([[5, *prompt[1:]]], SamplingParams(max_tokens=4))[0]
    assert (first.num_cached_tokens, again.num_cached_tokens) == (0, 48)
    assert other.num_cached_tokens == 0  # the first token differs: nothing is shared
    assert first.token_ids == again.token_ids


def test_samples_of_one_prompt_share_it_and_go_their_own_ways(model):
    prompt = list(range(30))
    params = SamplingParams(max_tokens=12, temperature=1.0, seed=7)
    with LLMEngine(model, num_blocks=40, block_size=8) as engine:
        engine.add_request(prompt, params, n=5)
        texts, peak = {}, 0
        while engine.has_work:
            for out in engine.step():
                texts[out.sample_id] = out.token_ids
            engine.blocks.check(engine.scheduler.running)
            peak = max(peak, 40 - engine.blocks.num_free_blocks)
    assert len(texts) == 5 and len({tuple(text) for text in texts.values()}) > 1
    assert (
        peak <= 3 + 5 * 3
    )  # three full blocks are shared; each sample has at most three of its own
    alone = list(generate_tokens(model, prompt, params))
    assert texts[0] == alone  # the first sample has the request's own seed


def test_texts_stops_and_reasons_are_those_of_generate(tokenizer):
    net = load_model("tiny-base", dtype=torch.float64)
    cases = [
        SamplingParams(max_tokens=25),
        SamplingParams(max_tokens=60, stop=("there.", " mill")),
        SamplingParams(max_tokens=200),
        SamplingParams(max_tokens=40, temperature=0.9, seed=3),
    ]
    want = ["".join(generate(net, tokenizer, STORY, params)) for params in cases]
    with LLMEngine(net, tokenizer) as engine:
        names = [engine.add_request(STORY, params) for params in cases]
        text, new, reasons = {}, dict.fromkeys(names, ""), {}
        while engine.has_work:
            for out in engine.step():
                new[out.request_id] += out.new_text
                text[out.request_id] = out.text
                reasons[out.request_id] = out.finish_reason
    assert [text[name] for name in names] == want
    assert [new[name] for name in names] == want
    assert [reasons[name] for name in names] == ["length", "stop", "stop", "length"]


def test_a_fused_model_gives_the_same(model):
    prompts = [[1, 2, 3], list(range(40)), [9] * 17]
    params = SamplingParams(max_tokens=10)
    want = [list(generate_tokens(model, prompt, params)) for prompt in prompts]
    fused = Transformer(model.args).double().eval()
    fused.load_state_dict(model.state_dict())
    with LLMEngine(fuse_projections(fused), max_num_batched_tokens=16) as engine:
        assert [out.token_ids for out in engine.generate(prompts, params)] == want


def test_the_model_is_given_back(model):
    before = [layer.attention.inner_attention for layer in model.layers.values()]
    engine = LLMEngine(model)
    engine.add_request([1, 2], SamplingParams(max_tokens=3))
    with pytest.raises(ValueError, match="cache already"):
        LLMEngine(model)
    with pytest.raises(ValueError, match="cache already"):
        KVCache(model, max_seq_len=8).__enter__()
    engine.close()
    assert [layer.attention.inner_attention for layer in model.layers.values()] == before
    assert not engine.has_work


@pytest.mark.parametrize(
    ("prompt", "params", "options", "message"),
    [
        ([], {}, {}, "token_ids"),
        ([97], {}, {}, "ids are 0 to 96"),
        ([True], {}, {}, "True"),
        ("text", {}, {}, "no tokenizer"),
        ([1], {"max_tokens": 300}, {}, "max_tokens=300"),
        ([1], {"max_tokens": 100}, {}, "room for 64"),
        ([1], {"max_tokens": 4, "stop": ("x",)}, {}, "no tokenizer"),
        ([1], {"max_tokens": 4}, {"n": 0}, "n=0"),
        ([1], {"max_tokens": 4}, {"n": 9}, "n=9"),
    ],
)
def test_what_cannot_be_served_is_refused_at_once(model, prompt, params, options, message):
    with LLMEngine(model, num_blocks=8, block_size=8, max_num_seqs=8) as engine:
        with pytest.raises(ValueError, match=message):
            engine.add_request(prompt, SamplingParams(**params), **options)
        assert not engine.has_work and not engine.requests


def test_an_id_in_use_is_refused(model):
    with LLMEngine(model) as engine:
        engine.add_request([1], SamplingParams(max_tokens=2), request_id="a")
        with pytest.raises(ValueError, match="'a' is not allowed"):
            engine.add_request([1], SamplingParams(max_tokens=2), request_id="a")
        assert engine.abort_request("a") and not engine.abort_request("a")
