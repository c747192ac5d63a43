"""The engine writes what one text at a time would give, and loses no block on the way."""

import re

import pytest
import torch

from llama3lib.checkpoint import load_model, load_tokenizer
from llama3lib.inference import KVCache, SamplingParams, fuse_projections, generate, generate_tokens
from llama3lib.inference.llm_engine import LLMEngine
from llama3lib.model import ModelArgs, Transformer
from llama3lib.tokenizer import ChatFormat, Message

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


@pytest.mark.many_steps
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
        ([], {}, {}, "prompt_ids"),
        ([97], {}, {}, "ids are 0 to 96"),
        ([True], {}, {}, "True"),
        ("text", {}, {}, "no tokenizer"),
        ([1], {"max_tokens": 300}, {}, "max_tokens=300"),
        ([1], {"max_tokens": 100}, {}, "room for 64"),
        ([1], {"max_tokens": 4, "stop": ("x",)}, {}, "no tokenizer"),
        ([1], {"max_tokens": 4}, {"n": 0}, "n=0"),
        ([1], {"max_tokens": 4}, {"n": 9}, "n=9"),
        ([1], {"max_tokens": 4}, {"n": 2.5}, "n=2.5"),
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


def test_only_what_others_computed_counts_as_cached(model):
    """A prompt in pieces, and a text that had to make room, find tokens of their own."""
    params = SamplingParams(max_tokens=20)
    sizes = {"num_blocks": 9, "block_size": 8, "max_num_batched_tokens": 16}
    with LLMEngine(model, **sizes) as engine:
        outs = engine.generate([[n] * 30 for n in (1, 2, 3)], params)
        assert engine.scheduler.num_preemptions > 0
        assert [out.num_cached_tokens for out in outs] == [0, 0, 0]


def test_a_step_may_have_more_tokens_than_one_text(model):
    prompts = [[n] * 60 for n in range(9)]
    params = SamplingParams(max_tokens=3)
    with LLMEngine(model, max_num_batched_tokens=512) as engine:
        got = [out.token_ids for out in engine.generate(prompts, params)]
    assert got == [list(generate_tokens(model, prompt, params)) for prompt in prompts]


@pytest.mark.parametrize("broken", ["run", "draw"])
def test_after_an_error_in_a_step_the_texts_go_on(model, broken):
    """The copies of shared blocks are lost with the step; so are tokens that were not drawn."""
    prompt, params = list(range(13)), SamplingParams(max_tokens=12)
    want = list(generate_tokens(model, prompt, params))
    for at in range(1, 9):
        with LLMEngine(model, num_blocks=30, block_size=4) as engine:
            engine.add_request(prompt, params, n=3)
            engine.add_request([7, *prompt], params)
            for _ in range(at):
                engine.step()
            whole = getattr(engine.runner, broken)

            def fail(*_):
                raise RuntimeError("no memory")

            setattr(engine.runner, broken, fail)
            with pytest.raises(RuntimeError, match="no memory"):
                engine.step()
            setattr(engine.runner, broken, whole)
            engine.blocks.check(engine.scheduler.running)
            texts = []
            while engine.has_work:
                texts += [
                    o.token_ids for o in engine.step() if o.finished and o.request_id[-1] == "0"
                ]
            assert texts == [want] * 3
            assert engine.blocks.num_free_blocks == 30


def test_a_prompt_that_is_refused_fails_alone(model, caplog):
    params = SamplingParams(max_tokens=3)
    prompts = [[1, 2], [], [97], [3, 4], [5] * 255, None]
    want = [list(generate_tokens(model, prompts[i], params)) for i in (0, 3)]
    with LLMEngine(model, num_blocks=4) as engine:
        own = engine.add_request([4], SamplingParams(max_tokens=9))
        outputs = engine.generate(prompts, params)
        assert list(engine.requests) == [own]
        for place, said in ((1, "[]"), (2, "97"), (4, "max_seq_len"), (5, "None")):
            assert said in outputs[place].error and outputs[place].finish_reason == "error"
            assert outputs[place].text == "" and f"prompt {place} of 6" in caplog.text
            with pytest.raises(ValueError, match=re.escape(outputs[place].error)):
                engine.add_request(prompts[place], params)
        assert [outputs[i].error for i in (0, 3)] == [None, None]
        assert [outputs[i].token_ids for i in (0, 3)] == want
        with pytest.raises(ValueError, match="num_blocks=4 would have to be 5"):
            engine.add_request([1] * 60, SamplingParams(max_tokens=6))


def test_one_prompt_has_one_answer_and_each_prompt_may_have_its_settings(model, tokenizer):
    big = load_model("tiny-base", dtype=torch.float64)
    with LLMEngine(big, tokenizer) as engine:
        short, long = SamplingParams(max_tokens=3), SamplingParams(max_tokens=9)
        ids = tokenizer.encode(STORY, bos=True)
        alone = load_model("tiny-base", dtype=torch.float64)  # the engine has the other one
        want = "".join(generate(alone, tokenizer, STORY, long))
        assert engine.generate(STORY, long).text == engine.generate(ids, long).text == want
        outputs = engine.generate([STORY, ids], [short, long])
        assert [len(out.token_ids) for out in outputs] == [3, 9]
        assert engine.generate([]) == []
        with pytest.raises(ValueError, match="one for each prompt"):
            engine.generate([STORY, STORY], [short])
        with pytest.raises(ValueError, match="prompts=5"):
            engine.generate(5)
        said = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Who?"}]
        dialog = [Message(**message) for message in said]
        ids = ChatFormat(tokenizer).encode_dialog(dialog, add_generation_prompt=True).ids
        want = "".join(generate(alone, tokenizer, ids, long))
        assert engine.chat(said, long).text == engine.chat(dialog, long).text == want
        with pytest.raises(ValueError, match=r"messages\[0\].*name"):
            engine.chat([{"role": "user", "content": "a", "name": "Ada"}])


def test_ids_of_its_own_keep_clear_of_those_in_use(model):
    with LLMEngine(model) as engine:
        for name in ("request-0", "request-1", None, "request-3", None):
            engine.add_request([1], request_id=name)
        assert len(engine.requests) == 5


def test_a_closed_engine_takes_nothing(model):
    engine = LLMEngine(model)
    engine.close()
    engine.close()
    with pytest.raises(ValueError, match="closed"):
        engine.add_request([1], SamplingParams(max_tokens=2))


@pytest.mark.many_steps
def test_a_request_is_called_off_whatever_its_samples_do(model):
    """Some still read, some made room, some ended: whenever it goes, all of its blocks go."""
    dice = SamplingParams(max_tokens=25, temperature=2.0, seed=1, stop_token_ids=tuple(range(3)))
    steps, seen = 0, set()
    while True:
        with LLMEngine(model, num_blocks=12, block_size=4, max_num_batched_tokens=9) as engine:
            engine.add_request(list(range(20)), dice, n=4, request_id="a")
            engine.add_request(list(range(24)), SamplingParams(max_tokens=5), n=2)
            for _ in range(steps):
                engine.step()
            if "a" not in engine.requests:
                break
            seen.add(frozenset(one.status.name for one in engine.requests["a"].sequences))
            assert engine.abort_request("a")
            engine.blocks.check(engine.scheduler.running)
            while engine.has_work:
                engine.step()
            assert engine.blocks.num_free_blocks == 12 and not engine.requests
        steps += 1
    assert frozenset({"WAITING", "RUNNING", "FINISHED"}) in seen
    assert frozenset({"WAITING", "RUNNING"}) in seen


def test_a_text_may_fill_the_cache_to_the_last_place(model):
    params = SamplingParams(max_tokens=13)
    want = list(generate_tokens(model, list(range(20)), params))
    for samples in (1, 3):
        with LLMEngine(model, num_blocks=8, block_size=4) as engine:
            engine.add_request(list(range(20)), params, n=samples)
            texts, peak = [], 0
            while engine.has_work:
                texts += [out.token_ids for out in engine.step() if out.finished]
                peak = max(peak, 8 - engine.blocks.num_free_blocks)
        assert texts == [want] * samples


def drawn(model, requests, **sizes):
    with LLMEngine(model, **sizes) as engine:
        names = [engine.add_request(prompt, params, n=n) for prompt, params, n in requests]
        texts = {}
        while engine.has_work:
            texts |= {(o.request_id, o.sample_id): o.token_ids for o in engine.step()}
        return engine.scheduler.num_preemptions, [
            [texts[name, i] for i in range(n)]
            for name, (_, _, n) in zip(names, requests, strict=True)
        ]


@pytest.mark.many_steps
def test_a_seed_gives_its_text_whatever_runs_beside_it(model):
    kinds = [{}, {"top_p": 0.8}, {"top_k": 5}, {"min_p": 0.05}, {"temperature": 2.0}]
    requests = [
        (list(range(i, 3 * i + 4)), SamplingParams(**({"temperature": 1.0} | kind), max_tokens=30,
                                                  seed=i), 1 + i % 3)
        for i, kind in enumerate(kinds * 2)
    ]  # fmt: skip
    alone = [drawn(model, [request], num_blocks=99)[1][0] for request in requests]
    firsts = [list(generate_tokens(model, prompt, params)) for prompt, params, _ in requests]
    assert [texts[0] for texts in alone] == firsts
    for blocks, size, budget in ((80, 4, 512), (18, 4, 50), (9, 8, 7), (60, 1, 13)):
        preempted, together = drawn(
            model, requests, num_blocks=blocks, block_size=size, max_num_batched_tokens=budget
        )
        assert together == alone
        assert preempted > 0 or blocks == 80
