"""DPO: worked numbers, every answer alone in plain Python, masks, gradients, and a rule learned."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llama3lib.model import ModelArgs, Transformer
from llama3lib.posttrain.collate import CutAccount
from llama3lib.posttrain.dialogs import Pair
from llama3lib.posttrain.dpo import (
    collate_pairs,
    dpo_loss,
    encode_pairs,
    formatting_ids,
    llama3_dpo_loss,
    sequence_logps,
    token_logps,
)
from llama3lib.tokenizer import ChatFormat, EncodedDialog, Message, Tokenizer
from llama3lib.train.loss import IGNORED

ARGS = ModelArgs(
    dim=32, n_layers=2, n_heads=4, n_kv_heads=2, ffn_dim=48, vocab_size=61, max_seq_len=64
)
END = 60


def make_model(seed, args=ARGS):
    model = Transformer(args)
    model.init_weights(torch.Generator().manual_seed(seed))
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.mul_(8)
    return model.double().eval()


@pytest.fixture(scope="module")
def models():
    return make_model(0), make_model(1)


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def draw_pairs(seed, count=4):
    """Prompts of 1 to 5 ids, answers of 1 to 7 that end with END."""
    gen = torch.Generator().manual_seed(seed)

    def ids(most):
        length = int(torch.randint(1, most + 1, (1,), generator=gen))
        return torch.randint(END, (length,), generator=gen).tolist()

    def encoded(prompt):
        answer = [*ids(6), END]
        return EncodedDialog(prompt + answer, [False] * len(prompt) + [True] * len(answer))

    prompts = [ids(5) for _ in range(count)]
    return [(encoded(prompt), encoded(prompt)) for prompt in prompts]


def logps_of(model, batch):
    return token_logps(model(batch.rows.ids), batch.rows.targets)


@torch.no_grad()
def alone(model, dialog):
    """Log-probability of each learned id, from a row of its own."""
    scores = model(torch.tensor([dialog.ids]))[0].log_softmax(1)
    places = [t for t, on in enumerate(dialog.loss_mask) if on]
    return {t: float(scores[t - 1, dialog.ids[t]]) for t in places}


def test_worked_numbers():
    """Log-ratios of +2 and -1 (margin 0.3), and two cases where only the difference is alike."""
    policy = tensor(2.0), tensor(-1.0)
    for one in policy:
        one.requires_grad_()
    told = dpo_loss(*policy, tensor(0.0), tensor(0.0))
    told.loss.backward()
    assert float(told.loss.detach()) == pytest.approx(0.5544, abs=5e-5)
    assert float(policy[0].grad) == pytest.approx(-0.0426, abs=5e-5)
    assert float(policy[1].grad) == pytest.approx(0.0426, abs=5e-5)
    assert float(told.chosen_rewards) == pytest.approx(0.2)
    assert float(told.rejected_rewards) == pytest.approx(-0.1)
    alike = dpo_loss(tensor(5.0), tensor(-3.0), tensor(5.0), tensor(-3.0))
    assert float(alike.loss) == pytest.approx(math.log(2)) and alike.accuracy == 0.5
    falls = dpo_loss(tensor(-1.0), tensor(-4.0), tensor(0.0), tensor(0.0))
    assert torch.equal(falls.loss, told.loss.detach())  # the chosen one got less likely here


@given(st.lists(st.tuples(*[st.floats(-50, 50)] * 4), min_size=1, max_size=6), st.floats(0, 0.5))
def test_it_is_the_formula(rows, smoothing):
    told = dpo_loss(*tensor(*rows).T, beta=0.3, label_smoothing=smoothing)
    total = 0.0
    for pc, pr, rc, rr in rows:
        x = 0.3 * ((pc - rc) - (pr - rr))
        total += (1 - smoothing) * math.log1p(math.exp(-x)) + smoothing * math.log1p(math.exp(x))
    assert float(told.loss) == pytest.approx(total / len(rows))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 999), st.booleans())
def test_a_batch_is_its_answers_alone(models, seed, masked):
    """Padding, the shift by one, both masks and both means, against one row at a time."""
    policy, reference = models
    pairs = draw_pairs(seed)
    batch = collate_pairs(pairs, 7, {END} if masked else ())
    with torch.no_grad():
        before = sequence_logps(logps_of(reference, batch), batch)
        told = llama3_dpo_loss(logps_of(policy, batch), before, batch, beta=0.4)
    total, nll, tokens = 0.0, 0.0, 0
    for better, worse in pairs:
        ratio = []
        for dialog in (better, worse):
            mine, theirs = alone(policy, dialog), alone(reference, dialog)
            places = [t for t in mine if not (masked and dialog.ids[t] == END)]
            ratio.append(sum(mine[t] - theirs[t] for t in places))
        total += math.log1p(math.exp(-0.4 * (ratio[0] - ratio[1])))
        chosen = alone(policy, better)
        nll, tokens = nll - sum(chosen.values()), tokens + len(chosen)
    assert float(told.nll) == pytest.approx(nll / tokens, abs=1e-9)
    assert float(told.loss) == pytest.approx(total / len(pairs) + 0.2 * nll / tokens, abs=1e-9)


def test_formatting_has_no_gradient_in_either_answer(models):
    policy, reference = models
    batch = collate_pairs(draw_pairs(3), 7, {END})
    with torch.no_grad():
        before = sequence_logps(logps_of(reference, batch), batch)
        logps = logps_of(policy, batch)
    logps.requires_grad_()
    llama3_dpo_loss(logps, before, batch, nll_weight=0).loss.backward()
    ends = batch.rows.targets == END
    assert int(ends.sum()) == 8 and bool((logps.grad[ends] == 0).all())
    assert bool((logps.grad[batch.compared] != 0).all())
    assert bool((logps.grad[batch.rows.targets == IGNORED] == 0).all())
    logps.grad = None
    llama3_dpo_loss(logps, before, batch).loss.backward()
    assert bool((logps.grad[:4][ends[:4]] < 0).all())  # the plain loss learns where to end
    assert bool((logps.grad[4:][ends[4:]] == 0).all())


def test_parts_of_a_batch_add_up(models):
    policy, reference = models
    pairs = draw_pairs(4, 5)

    def loss(some, **more):
        batch = collate_pairs(some, 7, {END})
        with torch.no_grad():
            before = sequence_logps(logps_of(reference, batch), batch)
            return float(llama3_dpo_loss(logps_of(policy, batch), before, batch, **more).loss)

    tokens = sum(sum(better.loss_mask) for better, _ in pairs)
    parts = [loss(some, valid_pairs=5, valid_tokens=tokens) for some in (pairs[:2], pairs[2:])]
    assert sum(parts) == pytest.approx(loss(pairs), abs=1e-12)


def test_log_probabilities_are_at_least_float32(models):
    batch = collate_pairs(draw_pairs(5), 7)
    with torch.no_grad():
        logits = models[0](batch.rows.ids)
    low = token_logps(logits.bfloat16(), batch.rows.targets)
    assert low.dtype == torch.float32
    full = token_logps(logits, batch.rows.targets)
    assert torch.allclose(low.double(), full, rtol=0.02, atol=0.02)
    assert bool((full[batch.rows.targets == IGNORED] == 0).all())


def message(role, text):
    return (Message(role=role, content=text),)


def pair(name, prompt, chosen, rejected, edited=""):
    return Pair(
        id=name,
        prompt=message("user", prompt),
        chosen=message("assistant", chosen),
        rejected=message("assistant", rejected),
        edited=message("assistant", edited) if edited else (),
    )


def test_pairs_become_ids_and_what_is_lost_is_told():
    chat, account = ChatFormat(Tokenizer.of_bytes()), CutAccount()
    pairs = [pair("a", "x?", "yes", "no", "Yes."), pair("b", "x?", "y" * 99, "no")]
    found = encode_pairs(pairs, chat, 60, account)
    assert account.dialogs == 4 and list(account.dropped) == ["b"]
    assert "60 are allowed" in account.dropped["b"]
    forms = formatting_ids(chat.tokenizer)
    batch = collate_pairs(found, chat.tokenizer.pad_id, forms)
    said = [bytes(batch.rows.targets[row][batch.compared[row]].tolist()).decode() for row in (0, 1)]
    assert said == ["Yes.", "no"]  # the edited answer is the best one
    ends = batch.rows.targets[0][batch.learned[0]].tolist()
    assert ends == [*b"Yes.", chat.tokenizer.eot_id]
    assert account.learned == len("Yes.") + len("no") + 2


def test_it_learns_to_prefer():
    """Answers of high ids are preferred; the reference stays where it was."""
    policy = make_model(2).float().train()
    reference = copy.deepcopy(policy)

    def pairs(seed):
        gen = torch.Generator().manual_seed(seed)
        made = []
        for _ in range(8):
            high = [*torch.randint(30, END, (4,), generator=gen).tolist(), END]
            low = [*torch.randint(30, (4,), generator=gen).tolist(), END]
            mask = [False] + [True] * 5
            made.append((EncodedDialog([1, *high], mask), EncodedDialog([1, *low], mask)))
        return collate_pairs(made, 0, {END})

    def loss(batch):
        with torch.no_grad():
            before = sequence_logps(logps_of(reference, batch), batch)
        return llama3_dpo_loss(logps_of(policy, batch), before, batch)

    assert loss(pairs(0)).accuracy == 0.5  # they are still the same
    optimizer = torch.optim.Adam(policy.parameters(), 1e-3)
    first = float(loss(pairs(0)).nll)
    for step in range(30):
        optimizer.zero_grad()
        loss(pairs(step)).loss.backward()
        optimizer.step()
    told = loss(pairs(1000))
    assert told.accuracy > 0.9 and float(told.nll) < first


NONE = EncodedDialog([1, END], [False, True])
ONE = tensor(0.0)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: dpo_loss(ONE, ONE, ONE, ONE, beta=0), "beta=0"),
        (lambda: dpo_loss(ONE, ONE, ONE, ONE, label_smoothing=0.6), "label_smoothing=0.6"),
        (lambda: collate_pairs([], 0), "dialogs="),
        (lambda: collate_pairs([(NONE, NONE)], 0, {END}), "chosen='answer of pair 0'"),
        (lambda: encode_pairs([], None, 1), "max_length=1"),
    ],
)
def test_wrong_values_are_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()
