"""Penalties, bias and min_tokens, against their definitions written out number by number."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llama3lib.checkpoint import load_model, load_tokenizer
from llama3lib.inference import LLMEngine, SamplingParams, generate, generate_tokens
from llama3lib.inference.logits import adjust_row, unpacked
from llama3lib.inference.speculative import speculative_tokens
from llama3lib.model import ModelArgs, Transformer

V = 11
ids = st.lists(st.integers(0, V - 1), max_size=12)
penalty = st.floats(-2, 2)


def by_hand(row, params, prompt, written, ends):
    """One token at a time, in plain numbers."""
    changed = []
    for token, score in enumerate(row):
        if token in ends and len(written) < params.min_tokens:
            score = -float("inf")
        score += params.logit_bias.get(token, 0)
        if token in prompt or token in written:
            by = params.repetition_penalty
            score = score / by if score > 0 else score * by
        times = written.count(token)
        score -= params.frequency_penalty * times
        score -= params.presence_penalty if times else 0
        changed.append(score)
    return changed


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-20, 20), min_size=V, max_size=V), ids, ids, penalty, penalty,
    st.floats(0.1, 3), st.dictionaries(st.integers(0, V - 1), st.floats(-100, 100)),
    st.integers(0, 5),
)  # fmt: skip
def test_scores_are_those_of_the_definitions(row, prompt, written, a, b, c, bias, least):
    params = SamplingParams(
        presence_penalty=a, frequency_penalty=b, repetition_penalty=c, logit_bias=bias,
        min_tokens=least,
    )  # fmt: skip
    got = torch.tensor(row, dtype=torch.float64)
    adjust_row(got, params, prompt, written, {3, 7, 99})
    want = torch.tensor(by_hand(row, params, prompt, written, {3, 7}), dtype=torch.float64)
    assert torch.allclose(got, want, rtol=1e-12, atol=1e-12)


def test_an_end_that_alone_may_come_comes_in_spite_of_min_tokens():
    row = torch.full((V,), -torch.inf)
    row[3] = 0.5
    adjust_row(row, SamplingParams(min_tokens=4), [1], [], {3})
    assert int(row.argmax()) == 3 and float(row[3]) == 0.5


def test_bits_of_words():
    words = torch.tensor([[0b101, -(2**31)], [-1, 0]], dtype=torch.int32)
    got = unpacked(words, 70)
    assert [row.nonzero().flatten().tolist() for row in got] == [[0, 2, 63], list(range(32))]
    assert unpacked(words, 40).shape == (2, 40)


@pytest.fixture(scope="module")
def model():
    made = Transformer(
        ModelArgs(
            dim=32, n_layers=2, n_heads=4, n_kv_heads=2, ffn_dim=64, vocab_size=97, max_seq_len=256
        )
    )
    made.init_weights(torch.Generator().manual_seed(0))
    return made.double().eval()


KINDS = [
    {}, {"presence_penalty": 2.0}, {"frequency_penalty": 1.5}, {"repetition_penalty": 1.7},
    {"logit_bias": {5: 100, 6: -100}}, {"min_tokens": 9, "stop_token_ids": tuple(range(60))},
]  # fmt: skip


def written(model, prompt, params):
    """Greedy, the whole text through the model for every token."""
    out, rest = [], dataclasses.replace(params, stop_token_ids=())
    for _ in range(params.max_tokens):
        with torch.inference_mode():
            row = model(torch.tensor([prompt + out]))[0, -1].tolist()
        row = by_hand(row, params, prompt, out, params.stop_token_ids)
        token = max(range(len(row)), key=row.__getitem__)
        if token in params.stop_token_ids and len(out) >= rest.min_tokens:
            break
        out.append(token)
    return out


@pytest.mark.many_steps
def test_both_ways_to_write_follow_the_definitions_beside_plain_texts(model):
    prompts = [list(range(i, i + 9)) for i in range(len(KINDS))]
    params = [SamplingParams(max_tokens=16, **kind) for kind in KINDS]
    want = [written(model, p, one) for p, one in zip(prompts, params, strict=True)]
    assert want[4] == [5] * 16 and len(want[5]) >= 9
    one_by_one = zip(prompts, params, strict=True)
    assert [list(generate_tokens(model, p, one)) for p, one in one_by_one] == want
    with LLMEngine(model, num_blocks=16, block_size=4) as engine:  # some make room
        assert [out.token_ids for out in engine.generate(prompts, params)] == want
        assert engine.scheduler.num_preemptions > 0
    with LLMEngine(model, num_stages=2, num_micro_batches=2) as engine:
        assert [out.token_ids for out in engine.generate(prompts, params)] == want


@pytest.mark.many_steps
def test_a_stop_string_waits_for_min_tokens():
    model, tokenizer = load_model("tiny-base"), load_tokenizer("tiny-base")
    story = "One sunny day Omar went to the mill. "
    free = "".join(generate(model, tokenizer, story, SamplingParams(max_tokens=40)))
    stop = free[2:4]
    cut = SamplingParams(max_tokens=40, stop=stop)
    assert "".join(generate(model, tokenizer, story, cut)) == free[: free.index(stop)]
    late = dataclasses.replace(cut, min_tokens=20)
    text = "".join(generate(model, tokenizer, story, late))
    assert free.startswith(text) and len(text) >= len(free[: free.index(stop)]) + 20


def test_what_cannot_be_is_refused(model):
    with pytest.raises(ValueError, match="logit_bias has 97"):
        generate_tokens(model, [1], SamplingParams(logit_bias={97: 1}))
    with pytest.raises(ValueError, match="draft"):
        speculative_tokens(model, model, [1], SamplingParams(presence_penalty=1))
