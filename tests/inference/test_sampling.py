"""From logits to a token: closed forms, brute force, and draws counted."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llama3lib.inference import SamplingParams, sample, sampling_probs
from llama3lib.inference.sampling import token_logprobs

LOGITS = torch.tensor([0.1, 0.4, 0.3, 0.2], dtype=torch.float64).log()


def probs(**options):
    return sampling_probs(LOGITS, SamplingParams(**{"temperature": 1.0} | options))


def close(got, expected):
    return torch.allclose(got, torch.tensor(expected, dtype=got.dtype), atol=1e-12)


def test_temperature_alone():
    assert close(probs(), [0.1, 0.4, 0.3, 0.2])
    squared = [0.01, 0.16, 0.09, 0.04]
    assert close(probs(temperature=0.5), [p / 0.3 for p in squared])


def test_greedy_is_one_hot_and_the_limit_of_small_temperatures():
    assert close(probs(temperature=0), [0, 1, 0, 0])
    assert close(probs(temperature=1e-30), [0, 1, 0, 0])


def test_top_k():
    assert close(probs(top_k=1), [0, 1, 0, 0])
    assert close(probs(top_k=2), [0, 4 / 7, 3 / 7, 0])
    assert close(probs(top_k=99), [0.1, 0.4, 0.3, 0.2])


@pytest.mark.parametrize(
    ("top_p", "kept"),
    [
        (1e-9, [1]),
        (0.39, [1]),
        (0.41, [1, 2]),  # the token that crosses p is kept
        (0.69, [1, 2]),
        (0.71, [1, 2, 3]),
        (0.95, [0, 1, 2, 3]),
    ],
)
def test_top_p_keeps_the_smallest_set_that_reaches_p(top_p, kept):
    base = [0.1, 0.4, 0.3, 0.2]
    mass = sum(base[i] for i in kept)
    expected = [base[i] / mass if i in kept else 0 for i in range(4)]
    assert close(probs(top_p=top_p), expected)


def test_min_p_is_relative_to_the_likeliest():
    assert close(probs(min_p=0.49), [0, 4 / 9, 3 / 9, 2 / 9])
    assert close(probs(min_p=0.6), [0, 4 / 7, 3 / 7, 0])


def test_order_is_top_k_then_top_p_of_what_is_left():
    # of the two that are left the first has 4/7 and reaches 0.5 alone; of the full row it has 0.4
    assert close(probs(top_k=2, top_p=0.5), [0, 1, 0, 0])
    assert close(probs(top_p=0.5), [0, 4 / 7, 3 / 7, 0])


def test_ties_keep_exactly_k_tokens():
    out = sampling_probs(torch.zeros(5), SamplingParams(temperature=1.0, top_k=2))
    assert sorted(out.tolist()) == [0, 0, 0, 0.5, 0.5]


@settings(max_examples=50, deadline=None)
@given(
    values=st.lists(st.integers(-300, 300), min_size=2, max_size=20),
    temperature=st.floats(0.05, 5),
    top_k=st.integers(0, 25),
    top_p=st.floats(0.01, 1),
    min_p=st.floats(0, 0.99),
)
def test_always_a_distribution_with_the_likeliest_in_it(values, temperature, top_k, top_p, min_p):
    logits = torch.tensor(values) / 10
    params = SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    out = sampling_probs(logits, params)
    assert out.min() >= 0
    assert out.sum().item() == pytest.approx(1, abs=1e-5)
    likeliest = logits == logits.max()  # with ties one of them may be cut off
    assert out[likeliest].max() == out.max() > 0
    if top_k:
        assert (out > 0).sum() <= top_k


def test_rows_do_not_touch_each_other_and_half_precision_is_widened():
    rows = torch.randn(3, 50, generator=torch.Generator().manual_seed(0)).bfloat16()
    params = SamplingParams(temperature=0.8, top_p=0.7)
    together = sampling_probs(rows, params)
    assert together.dtype == torch.float32
    for row, expected in zip(rows, together, strict=True):
        assert torch.equal(sampling_probs(row, params), expected)


def test_draws_follow_the_distribution():
    params = SamplingParams(temperature=0.7, top_k=3)
    expected = sampling_probs(LOGITS, params)
    n = 20_000
    generator = torch.Generator().manual_seed(5)
    draws = sample(LOGITS.expand(n, -1), params, generator)
    counts = torch.bincount(draws, minlength=4).double()
    assert counts[0] == 0  # cut off by top_k
    seen, wanted = counts[1:], n * expected[1:]
    chi_square = ((seen - wanted) ** 2 / wanted).sum().item()
    assert chi_square < 13.8  # 2 degrees of freedom: 1 in 1000 by chance


def test_draws_are_those_of_the_seed():
    params = SamplingParams(temperature=1.0)
    logits = torch.zeros(1, 1000)
    one, same, other = (sample(logits, params, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert one == same != other


@pytest.mark.parametrize(
    "bad",
    [
        {"temperature": -0.1},
        {"temperature": math.nan},
        {"temperature": math.inf},
        {"top_k": -1},
        {"top_k": 1.5},
        {"top_p": 0},
        {"top_p": 1.01},
        {"min_p": 1.0},
        {"min_p": -0.1},
        {"max_tokens": -1},
        {"min_tokens": 129},
        {"presence_penalty": 2.1},
        {"frequency_penalty": -2.1},
        {"repetition_penalty": 0},
        {"repetition_penalty": math.inf},
        {"logit_bias": {5: 101}},
        {"logit_bias": {"5": 1}},
        {"prompt_logprobs": -1},
        {"max_tokens": True},
        {"seed": "a"},
        {"seed": 2**64},
        {"stop": ("",)},
        {"stop_token_ids": (-1,)},
    ],
)
def test_wrong_values_are_named(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        SamplingParams(**bad)


def test_logprobs_are_those_of_the_raw_logits():
    logits = torch.randn(4, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    told = token_logprobs(logits, [3, 0, 8, 5], [2, None, 0, 99])
    assert told[1] is None and told[2].top == () and len(told[3].top) == 9
    for row, token in ((0, 3), (2, 8), (3, 5)):
        want = logits[row, token] - logits[row].exp().sum().log()
        assert told[row].token_id == token
        assert told[row].logprob == pytest.approx(float(want), abs=1e-12)
    order = logits[0].argsort(descending=True).tolist()
    assert [token for token, _ in told[0].top] == order[:2]
    assert math.fsum(math.exp(value) for _, value in told[3].top) == pytest.approx(1, abs=1e-12)
    assert token_logprobs(logits[:0], [], []) == []
    assert token_logprobs(logits, [0] * 4, [None] * 4) == [None] * 4


def test_infinite_logits_have_infinite_logprobs():
    logits = torch.tensor([[0.0, -math.inf]])
    (told,) = token_logprobs(logits, [0], [2])
    assert told.logprob == 0 and told.top == ((0, 0.0), (1, -math.inf))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_temperature_that_is_0_in_the_format_is_greedy(dtype):
    # float32 has no 1e-60: 0 / 0 would be no number
    got = sampling_probs(LOGITS.to(dtype), SamplingParams(temperature=5e-324))
    assert close(got, [0, 1, 0, 0])


@pytest.mark.parametrize("count", [-1, 1.5, True, "3"])
def test_logprobs_must_be_a_count(count):
    with pytest.raises(ValueError, match="logprobs="):
        SamplingParams(logprobs=count)
