"""The reward model: closed forms, one row for several answers, and how far it can be trusted."""

import math
import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llama3lib.data.tokens import SEGMENTS
from llama3lib.model import ModelArgs, Transformer
from llama3lib.posttrain.reliability import length_slope, reliability
from llama3lib.posttrain.reward import (
    AnswerMask,
    make_reward_model,
    pair_loss,
    ranked_row,
    ranking_loss,
    rewards_of,
)
from llama3lib.train.loss import IGNORED

ARGS = ModelArgs(
    dim=32, n_layers=2, n_heads=4, n_kv_heads=2, ffn_dim=48, vocab_size=61, max_seq_len=64
)


@pytest.fixture(scope="module")
def model():
    made = Transformer(ARGS.replace(tie_embeddings=True))
    made.init_weights(torch.Generator().manual_seed(0))
    for parameter in made.parameters():
        if parameter.dim() > 1:
            parameter.data.mul_(8)
    return make_reward_model(made.double().eval())


def ids(rng, count):
    return [rng.randrange(61) for _ in range(count)]


@pytest.mark.parametrize("seed", range(8))
def test_one_row_gives_the_rewards_of_separate_rows(model, seed):
    rng = random.Random(seed)
    prompts = [ids(rng, rng.randint(1, 9)) for _ in range(5)]
    answers = [[ids(rng, rng.randint(1, 9)) for _ in range(rng.randint(1, 5))] for _ in prompts]
    rows, alone = [], []
    for prompt, some in zip(prompts, answers, strict=True):
        order = rng.sample(range(len(some)), len(some))
        rows.append(ranked_row(prompt, some, order))
        with torch.no_grad():
            alone.append([float(model(torch.tensor([prompt + a]))[0, -1, 0]) for a in some])
    found = rewards_of(model, rows, batch_size=3)
    for got, want in zip(found, alone, strict=True):
        assert got == pytest.approx(want, abs=1e-6)  # rewards are handed out in float32


def test_several_prompts_in_one_row_do_not_see_one_another(model):
    rng = random.Random(1)
    rows = [ranked_row(ids(rng, 4), [ids(rng, 3), ids(rng, 5)]) for _ in range(2)]
    together = torch.tensor([rows[0].ids + rows[1].ids])
    segments = rows[0].segments + [SEGMENTS + segment for segment in rows[1].segments]
    mask = AnswerMask(torch.tensor([segments]))
    with torch.no_grad():
        rewards = model(together, mask.positions(), mask)[0, :, 0]
    start = len(rows[0].ids)
    got = [float(rewards[end]) for end in rows[0].ends]
    got += [float(rewards[start + end]) for end in rows[1].ends]
    want = [reward for row in rewards_of(model, rows) for reward in row]
    assert got == pytest.approx(want, abs=1e-6)


def test_the_loss_is_the_formula():
    chosen, rejected = torch.tensor([2.0, 0.0, 1e4]), torch.tensor([1.0, 0.0, 0.0])
    want = [math.log(1 + math.exp(-1)), math.log(2), 0]
    assert float(pair_loss(chosen, rejected)) == pytest.approx(sum(want) / 3)
    assert float(pair_loss(rejected, chosen)) == pytest.approx((1 + want[0] + want[1] + 1e4) / 3)
    margin = torch.tensor([1.0, 1.0, 0.0])
    want = [math.log(2), math.log(1 + math.e), 0]
    assert float(pair_loss(chosen, rejected, margin)) == pytest.approx(sum(want) / 3)


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=4), min_size=1, max_size=4))
def test_rankings_are_all_their_pairs(ranks):
    draw = torch.Generator().manual_seed(len(ranks))
    rewards = torch.randn(len(ranks), 8, 1, generator=draw, dtype=torch.float64)
    targets = torch.full((len(ranks), 8), IGNORED)
    total, valid = 0.0, 0
    for row, mine in enumerate(ranks):
        places = [2 * i for i in range(len(mine))]
        targets[row, places] = torch.tensor(mine)
        r = [float(rewards[row, place, 0]) for place in places]
        pairs = [
            math.log1p(math.exp(r[j] - r[i]))
            for i in range(len(mine))
            for j in range(len(mine))
            if mine[i] < mine[j]
        ]
        total += len(mine) * sum(pairs) / len(pairs) if pairs else 0.0
        valid += len(mine)
    assert float(ranking_loss(rewards, targets, valid)) == pytest.approx(total / valid)
    halves = [
        ranking_loss(rewards[i : i + 1], targets[i : i + 1], valid) for i in range(len(ranks))
    ]
    assert float(sum(halves)) == pytest.approx(total / valid)  # however the batch is cut


def test_it_learns_a_rule(model):
    """The answer with more tokens above 30 is the better one."""
    made = Transformer(ARGS)
    made.init_weights(torch.Generator().manual_seed(1))
    made = make_reward_model(made).train()
    rng = random.Random(0)

    def pair():
        both = [ids(rng, 4), ids(rng, 4)]
        both.sort(key=lambda a: -sum(t > 30 for t in a))
        return ranked_row(ids(rng, 3), both)

    optimizer = torch.optim.Adam(made.parameters(), 3e-3)
    for _ in range(80):
        rows = [pair() for _ in range(16)]
        tokens, segments = torch.tensor([r.ids for r in rows]), [r.segments for r in rows]
        mask = AnswerMask(torch.tensor(segments))
        ranks = torch.full(tokens.shape, IGNORED)
        for i, row in enumerate(rows):
            ranks[i, row.ends[0]], ranks[i, row.ends[1]] = 0, 1
        loss = ranking_loss(made(tokens, mask.positions(), mask), ranks, 32)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    rows = [pair() for _ in range(200)]
    found = rewards_of(made.eval(), rows)
    told = reliability([r[0] for r in found], [r[1] for r in found], [(4, 4)] * 200)
    assert told.accuracy.low > 0.65 and told.margin > 0
    assert told.shorter_better is None is told.longer_better


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ranked_row([1], []), "answers=0"),
        (lambda: ranked_row([1], [[2], []]), r"answers\[1\]=0"),
        (lambda: ranked_row([1], [[2]] * SEGMENTS), "answers=16"),
        (lambda: ranked_row([1], [[2], [3]], [0, 0]), r"order=\[0, 0\]"),
        (lambda: reliability([1.0], [], []), "as many"),
        (lambda: reliability([math.nan], [0.0], [(1, 1)]), r"rewards=\[nan\]"),
        (lambda: reliability([1.0], [0.0], []), "lengths=0"),
        (lambda: length_slope([1.0, 2.0], [3, 3]), "not all alike"),
    ],
)
def test_wrong_values_are_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_a_language_model_has_no_rewards():
    with pytest.raises(ValueError, match="without a head"):
        rewards_of(Transformer(ARGS), [ranked_row([1], [[2]])])


def test_a_love_of_length_is_seen():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 50, (400, 2))
    truth = rng.normal(size=(400, 2))
    reward = 0.3 * truth + 0.05 * lengths
    better = truth.argmax(1)
    rows = np.arange(400)
    chosen, rejected = reward[rows, better], reward[rows, 1 - better]
    pairs = list(zip(lengths[rows, better], lengths[rows, 1 - better], strict=True))
    told = reliability(chosen, rejected, pairs)
    assert told.longer_better.low > 0.8 > 0.5 > told.shorter_better.high
    assert length_slope(reward.ravel(), lengths.ravel()) == pytest.approx(0.05, abs=0.005)


def test_probabilities_of_a_true_model_are_met():
    rng = np.random.default_rng(1)
    distance = rng.normal(0, 2, 20_000)
    truth = rng.random(20_000) < 1 / (1 + np.exp(-distance))
    chosen, rejected = np.where(truth, distance, -distance), np.zeros(20_000)
    good = reliability(chosen, rejected, [(1, 1)] * 20_000)
    assert good.calibration_error < 0.02 and len(good.calibration) == 10
    sure = reliability(5 * chosen, rejected, [(1, 1)] * 20_000)
    assert sure.calibration_error > 0.1
    assert sure.accuracy == good.accuracy
