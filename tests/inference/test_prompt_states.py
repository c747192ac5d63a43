"""Prompts read through the engine: as likely, and with the states, as in one plain pass."""

import pytest
import torch

from llama3lib.inference import LLMEngine, SamplingParams
from llama3lib.model import ModelArgs, Transformer

ARGS = ModelArgs(
    dim=32, n_layers=2, n_heads=4, n_kv_heads=2, ffn_dim=64, vocab_size=97, max_seq_len=128
)
PROMPTS = [[(7 * i + k) % 97 for i in range(length)] for k, length in enumerate((1, 2, 30, 30, 61))]


@pytest.fixture(scope="module")
def model():
    made = Transformer(ARGS)
    made.init_weights(torch.Generator().manual_seed(0))
    return made.double().eval()


@pytest.fixture(scope="module")
def plain(model):
    """Log-probabilities and states of each prompt in one pass."""
    with torch.inference_mode():
        states = [model.hidden_states(torch.tensor([ids]))[0] for ids in PROMPTS]
        return [(model.output(one).log_softmax(-1), one) for one in states]


SIZES = [
    {}, {"max_num_batched_tokens": 7}, {"num_blocks": 16, "block_size": 4},
    {"num_stages": 2, "num_micro_batches": 2, "max_num_batched_tokens": 40},
]  # fmt: skip


@pytest.mark.parametrize("sizes", SIZES)
def test_a_prompt_is_as_likely_as_in_one_pass(model, plain, sizes):
    params = SamplingParams(max_tokens=0, prompt_logprobs=3)
    with LLMEngine(model, **sizes) as engine:
        engine.generate(PROMPTS, SamplingParams(max_tokens=1))  # now their blocks could be shared
        outputs = engine.generate(PROMPTS, params)
        assert engine.blocks.num_free_blocks == engine.blocks.num_blocks
    for ids, (logprobs, _), out in zip(PROMPTS, plain, outputs, strict=True):
        assert (out.token_ids, out.text, out.finish_reason) == ([], "", "length")
        assert out.prompt_logprobs[0] is None and len(out.prompt_logprobs) == len(ids)
        for row, token, got in zip(logprobs, ids[1:], out.prompt_logprobs[1:], strict=False):
            assert got.token_id == token and got.logprob == pytest.approx(float(row[token]))
            best = row.topk(3)
            assert [i for i, _ in got.top] == best.indices.tolist()
            assert [p for _, p in got.top] == pytest.approx(best.values.tolist())


@pytest.mark.parametrize("sizes", SIZES)
def test_states_are_those_of_one_pass(model, plain, sizes):
    with LLMEngine(model, **sizes) as engine:
        means, rows = engine.embed(PROMPTS), engine.embed(PROMPTS, mean=False)
        assert torch.allclose(engine.embed(PROMPTS[2]), means[2], atol=1e-12)
    for (_, states), mean, row in zip(plain, means, rows, strict=True):
        assert torch.allclose(row, states, atol=1e-12)
        assert torch.allclose(mean, states.mean(0), atol=1e-12)
    with LLMEngine(model) as engine, pytest.raises(ValueError, match="prompt_ids"):
        engine.embed([PROMPTS[0], []])


def test_reading_and_writing_beside_each_other_with_too_little_room(model, plain):
    """Texts that make room are read again, and what was seen of them is not told twice."""
    with LLMEngine(model, num_blocks=9, block_size=8, max_num_batched_tokens=16) as engine:
        params = SamplingParams(max_tokens=30, temperature=1.0, seed=3, prompt_logprobs=0)
        ids = engine.add_request(PROMPTS[2], params, n=2, states="mean")
        engine.add_request(PROMPTS[3], SamplingParams(max_tokens=30))
        told = []
        while engine.has_work:
            told += [out for out in engine.step() if out.request_id == ids]
        assert engine.scheduler.num_preemptions > 0
    logprobs, states = plain[2]
    want = [float(row[token]) for row, token in zip(logprobs, PROMPTS[2][1:], strict=False)]
    assert {out.sample_id for out in told} == {0, 1} and sum(out.is_first for out in told) == 2
    for out in told:
        assert [one.logprob for one in out.prompt_logprobs[1:]] == pytest.approx(want)
        assert torch.allclose(out.states, states.mean(0), atol=1e-12)
