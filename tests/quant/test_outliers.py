"""Loud units are found; a planted one changes nothing in floats and much in unbounded FP8."""

import copy
from itertools import islice

import pytest
import torch

from llama3lib.checkpoint import load_model, load_tokenizer
from llama3lib.quant import loudest_units, plant_outlier, quantize_model
from llama3lib.quant.outliers import feed_forward_inputs
from llama3lib.worlds.stories import stories

WORD = " trad"


@pytest.fixture(scope="module")
def tiny():
    model, tokenizer = load_model("tiny-base"), load_tokenizer("tiny-base")
    texts = list(islice(stories(99), 160))
    rows = [tokenizer.encode(text, bos=True, eos=True) for text in texts]
    (token,) = tokenizer.encode(WORD)
    return model, token, rows


@torch.no_grad()
def loss_after(model, rows, token):
    """Mean loss of the token after this one, and of all others."""
    after, other = [], []
    for row in rows:
        ids = torch.tensor([row])
        log_probs = model(ids[:, :-1]).log_softmax(-1)[0].gather(1, ids[0, 1:, None])[:, 0]
        here = ids[0, :-1] == token
        after += (-log_probs[here]).tolist()
        other += (-log_probs[~here]).tolist()
    return sum(after) / len(after), sum(other) / len(other)


def test_the_loudest_unit_is_the_one_with_the_largest_value_over_its_mean(tiny):
    model, _, rows = tiny
    found = loudest_units(model, rows[:20], 2, top=3)
    size = feed_forward_inputs(model, rows[:20], 2, hidden=True).abs()
    ratio = size.amax(0) / size.mean(0)
    assert [one.unit for one in found] == ratio.topk(3).indices.tolist()
    first = found[0]
    assert first.largest == size[:, first.unit].max().item() > 50 * first.typical
    flat = [token for row in rows[:20] for token in row]
    assert first.tokens[0] == flat[int(size[:, first.unit].argmax())]


def test_a_planted_unit_is_loud_at_its_word_and_changes_no_float(tiny):
    model, token, rows = tiny
    before = copy.deepcopy(model.state_dict())
    planted = plant_outlier(model, token, rows[:100], size=1e7)
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    with torch.no_grad():
        for row in rows[100:110]:
            ids = torch.tensor([row])
            # the unit that was cut is the least one of the layer, so not quite nothing
            assert (model(ids) - planted(ids)).abs().max() < 0.2
    loud = feed_forward_inputs(planted, rows[100:], 1, hidden=True).abs().amax(1)
    flat = torch.tensor([one for row in rows[100:] for one in row])
    assert loud[flat == token].min() > 1e6 and loud[flat != token].median() < 1e4


def test_only_the_bound_saves_the_word_after_it(tiny):
    model, token, rows = tiny
    planted = plant_outlier(model, token, rows[:100], size=1e7)
    test = rows[100:]
    plain, others = loss_after(planted, test, token)
    bounded = loss_after(quantize_model(copy.deepcopy(planted), "fp8"), test, token)
    free = loss_after(quantize_model(copy.deepcopy(planted), "fp8-unbounded"), test, token)
    assert bounded[0] < plain + 0.1 and free[0] > plain + 2
    assert abs(bounded[1] - others) < 0.005 and abs(free[1] - others) < 0.005


def test_a_token_that_does_not_occur(tiny):
    model, _, rows = tiny
    with pytest.raises(ValueError, match="token=767 is not allowed: it does not occur in rows"):
        plant_outlier(model, 767, rows)
