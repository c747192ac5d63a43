"""K answers, the best kept: what is drawn, what is lost, and the curve against brute force."""

import dataclasses
import itertools
import math
import random

import numpy as np
import pytest
import torch

from llama3lib.inference import LLMEngine, SamplingParams
from llama3lib.model import ModelArgs, Transformer
from llama3lib.posttrain.rejection import Samples, best_of_n, keep_best, sample_answers

ARGS = ModelArgs(
    dim=32, n_layers=2, n_heads=4, n_kv_heads=2, ffn_dim=48, vocab_size=61, max_seq_len=64
)
WARM = SamplingParams(temperature=1.0)


@pytest.fixture(scope="module")
def model():
    made = Transformer(ARGS)
    made.init_weights(torch.Generator().manual_seed(0))
    return made.eval()


def test_answers_are_those_of_each_prompt_alone_and_pages_are_shared(model):
    prompts = [[i + k for i in range(33)] for k in range(3)]
    params = SamplingParams(max_tokens=5, seed=3, temperature=1.0)
    with LLMEngine(model, num_blocks=64, block_size=16) as engine:
        found = sample_answers(engine, prompts, 6, params)
        again = sample_answers(engine, prompts, 6, params)
        free = engine.blocks.num_free_blocks
        alone = []
        for i, prompt in enumerate(prompts):
            own = dataclasses.replace(params, seed=3 + 6 * i)
            alone += sample_answers(engine, [prompt], 6, own)
    assert free == 64
    assert [one.answers for one in found] == [one.answers for one in again]
    assert [one.answers for one in found] == [one.answers for one in alone]
    assert [one.prompt for one in found] == prompts
    for one in found:
        assert [len(answer) for answer in one.answers] == [5] * 6 and not any(one.finished)
        assert len({tuple(answer) for answer in one.answers}) == 6
    # 3 blocks a prompt and 1 for what follows; unshared they would be 18 times 3
    with LLMEngine(model, num_blocks=30, block_size=16) as engine:
        small = sample_answers(engine, prompts, 6, params)
        assert engine.scheduler.num_preemptions == 0
    assert [one.answers for one in small] == [one.answers for one in found]


@pytest.mark.parametrize(
    ("k", "params", "said"),
    [
        (0, WARM, "k=0"),
        (65, WARM, "at most max_num_seqs=64"),
        (2, SamplingParams(temperature=0), "temperature=0"),
        (2, SamplingParams(temperature=1.0, max_tokens=500), "max_seq_len|max_tokens"),
    ],
)
def test_what_cannot_be_drawn_is_refused_and_leaves_nothing(model, k, params, said):
    with LLMEngine(model) as engine:
        with pytest.raises(ValueError, match=said):
            sample_answers(engine, [[1, 2], [3]], k, params)
        assert not engine.has_work and not engine.requests


def test_the_best_is_kept_and_prompts_without_an_answer_are_told():
    samples = [
        Samples([1], [[5], [7, 7], [9]], [True, True, True]),
        Samples([2], [[5, 5, 5]], [False]),
        Samples([3], [[], [4]], [True, True]),
        Samples([4], [[]], [True]),
    ]

    def score(prompt, answers):
        return [sum(answer) for answer in answers]

    kept, without = keep_best(samples, score)
    assert [(one.place, one.answer, one.score) for one in kept] == [(0, [7, 7], 14), (2, [4], 4)]
    assert without == [1, 3] and kept[0].scores == [5, 14, 9]
    kept, without = keep_best(samples, score, unfinished=True)
    assert [one.place for one in kept] == [0, 1, 2] and without == [3]


@pytest.mark.parametrize("wrong", [lambda p, a: [1.0], lambda p, a: [math.nan] * len(a)])
def test_scores_that_are_none_are_refused(wrong):
    with pytest.raises(ValueError, match="scores="):
        keep_best([Samples([1], [[5], [6]], [True, True])], wrong)


@pytest.mark.parametrize("seed", range(5))
def test_the_curve_is_the_mean_over_all_choices(seed):
    rng = random.Random(seed)
    k = rng.randint(2, 7)
    rewards = [[rng.random() for _ in range(k)] for _ in range(4)]
    truths = [[rng.random() for _ in range(k)] for _ in range(4)]
    for one in best_of_n(rewards, truths, range(1, k + 1)):
        reward, truth = [], []
        for r, t in zip(rewards, truths, strict=True):
            for choice in itertools.combinations(range(k), one.n):
                best = max(choice, key=lambda i: r[i])
                reward.append(r[best])
                truth.append(t[best])
        assert one.reward == pytest.approx(np.mean(reward))
        assert one.truth == pytest.approx(np.mean(truth))
        assert one.truth_low <= one.truth <= one.truth_high


def test_a_reward_that_is_wrong_at_the_top_shows():
    """The truth rises with the reward, but for the rare answers with the highest rewards."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(300, 64))
    hack = rng.random((300, 64)) < 0.03
    reward = truth + rng.normal(size=truth.shape) + 6 * hack
    truth = np.where(hack, -3, truth)
    curve = best_of_n(reward, truth, [1, 2, 4, 8, 16, 32, 64])
    rewards, truths = [one.reward for one in curve], [one.truth for one in curve]
    assert rewards == sorted(rewards)
    top = truths.index(max(truths))
    assert 0 < top < 6 and truths[-1] < curve[top].truth_low


@pytest.mark.parametrize(
    ("rewards", "truths", "n", "said"),
    [
        ([[1.0, 2.0]], [[1.0]], 1, "rewards="),
        ([[1.0, 2.0]], [[1.0, 2.0]], 3, "n=3 is not allowed: 1 to K=2"),
        ([[1.0, math.inf]], [[1.0, 2.0]], 1, "finite"),
        ([], [], 1, "rewards="),
    ],
)
def test_wrong_curves_are_refused(rewards, truths, n, said):
    with pytest.raises(ValueError, match=said):
        best_of_n(rewards, truths, [n])
