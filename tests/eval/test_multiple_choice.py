"""Choices by likelihood: a float64 loop, padding that changes nothing, transformers."""

import math

import pytest
import torch

from llama3lib.checkpoint import load_model, load_tokenizer, save_hf
from llama3lib.eval import (
    MultipleChoice,
    encode_pair,
    paired_difference,
    score_choices,
    score_continuations,
)
from llama3lib.inference import SamplingParams, generate_tokens
from llama3lib.model import Transformer

ITEMS = [
    MultipleChoice(
        prompt="One windy day Ada found three shells. Ada had three",
        choices=[" shells", " drums in a barn", " kites"],
        answer=0,
    ),
    MultipleChoice(
        prompt="Omar had a red kite. The kite was", choices=[" blue", " red", " 語"], answer=1
    ),
    MultipleChoice(
        prompt="Ben was in the garden.\n", choices=["He was sad.", "The end."], answer=1
    ),
    MultipleChoice.lettered("Which is an animal?", ["a pear", "a fox", "a lamp"], 1),
]


@pytest.fixture(scope="module")
def model():
    return load_model("tiny-base")


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("tiny-base")


def by_hand(model, prompt, continuation):
    """Log-probability in float64, and whether greedy: one token at a time, nothing padded."""
    truth = Transformer(model.args).double()
    truth.load_state_dict(model.state_dict())
    ids, total, greedy = list(prompt), 0.0, True
    with torch.no_grad():
        for token in continuation:
            logits = truth(torch.tensor([ids]))[0, -1]
            total += float(logits.log_softmax(0)[token])
            greedy = greedy and int(logits.argmax()) == token
            ids.append(token)
    return total, greedy


def random_pairs(vocab, n=9, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def draw(least, most):
        size = int(torch.randint(least, most, (1,), generator=generator))
        return torch.randint(vocab, (size,), generator=generator).tolist()

    return [(draw(1, 40), draw(1, 12)) for _ in range(n)]


def test_continuations_equal_the_float64_loop(model):
    pairs = random_pairs(768)
    pairs.append((pairs[0][0], pairs[0][1][:1]))  # shares nothing but the prompt
    made = score_continuations(model, pairs, batch_size=4)
    for pair, one in zip(pairs, made, strict=True):
        log_prob, greedy = by_hand(model, *pair)
        assert one.log_prob == pytest.approx(log_prob, abs=2e-5 * max(1, len(pair[1])))
        assert (one.greedy, one.n_tokens) == (greedy, len(pair[1]))


@pytest.mark.parametrize("batch_size", [1, 2, 5, 64])
def test_padding_and_order_change_nothing(model, batch_size):
    pairs = random_pairs(768, n=11, seed=1)
    alone = [score_continuations(model, [pair])[0] for pair in pairs]
    made = score_continuations(model, pairs, batch_size=batch_size)
    for one, want in zip(made, alone, strict=True):
        assert one.log_prob == pytest.approx(want.log_prob, abs=1e-4)
        assert one.n_tokens == want.n_tokens
    turned = score_continuations(model, pairs[::-1], batch_size=batch_size)
    assert [t.log_prob for t in turned[::-1]] == pytest.approx([m.log_prob for m in made], abs=1e-4)


def test_greedy_means_what_generation_would_write(model, tokenizer):
    prompt = tokenizer.encode("One sunny day Mina went to the", bos=True)
    written = list(generate_tokens(model, prompt, SamplingParams(max_tokens=8)))
    wrong = [*written[:-1], (written[-1] + 1) % 768]
    made = score_continuations(model, [(prompt, written), (prompt, wrong), (prompt, written[:3])])
    assert [one.greedy for one in made] == [True, False, True]


def test_one_token_choices_of_one_prompt_cost_one_row(model, monkeypatch):
    seen = []
    original = model.hidden_states
    monkeypatch.setattr(
        model, "hidden_states", lambda tokens: seen.append(len(tokens)) or original(tokens)
    )
    made = score_continuations(model, [([1, 2, 3], [t]) for t in range(40)])
    assert seen == [1]
    for token in (0, 17, 39):
        want, _ = by_hand(model, [1, 2, 3], [token])
        assert made[token].log_prob == pytest.approx(want, abs=1e-4)


def test_pieces_of_long_continuations_change_nothing(model, monkeypatch):
    pairs = random_pairs(768, n=3, seed=2)
    want = [one.log_prob for one in score_continuations(model, pairs)]
    monkeypatch.setattr("llama3lib.eval.perplexity._LOGITS", 768 * 3)
    got = [one.log_prob for one in score_continuations(model, pairs)]
    assert got == pytest.approx(want, abs=1e-4)


@pytest.mark.parametrize("normalise", ["none", "tokens", "bytes"])
def test_scores_of_choices_by_hand(model, tokenizer, normalise):
    report = score_choices(model, tokenizer, ITEMS, normalise=normalise, batch_size=3)
    losses = []
    for item, result in zip(ITEMS, report.items, strict=True):
        for choice, one, score in zip(
            item.choices, result.continuations, result.scores, strict=True
        ):
            prompt, continuation = encode_pair(tokenizer, item.prompt, choice)
            log_prob, _ = by_hand(model, prompt, continuation)
            assert one.log_prob == pytest.approx(log_prob, abs=1e-4)
            sizes = {"none": 1, "tokens": len(continuation), "bytes": len(choice.strip().encode())}
            assert score == pytest.approx(log_prob / sizes[normalise], abs=1e-4)
        assert result.right == (result.scores[item.answer] == max(result.scores))
        losses.append(-result.scores[item.answer])
    assert report.accuracy == sum(item.right for item in report.items) / len(ITEMS)
    assert report.interval.score == report.accuracy
    assert report.answer_loss == pytest.approx(sum(losses) / len(ITEMS))


def test_normalising_can_change_the_choice(model, tokenizer):
    item = MultipleChoice(
        prompt="Ada found three",
        choices=[" shells. Ada put the shells in a basket", " the"],
        answer=0,
    )
    plain, by_byte = (
        score_choices(model, tokenizer, [item], normalise=n).items[0] for n in ("none", "bytes")
    )
    assert not plain.right and by_byte.right  # a sum favours what is short


def test_equals_transformers(model, tokenizer, tmp_path):
    transformers = pytest.importorskip("transformers")
    save_hf(model, tmp_path / "m", tokenizer=tokenizer)
    theirs = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "m").eval()
    report = score_choices(model, tokenizer, ITEMS)
    for item, result in zip(ITEMS, report.items, strict=True):
        for choice, one in zip(item.choices, result.continuations, strict=True):
            prompt, continuation = encode_pair(tokenizer, item.prompt, choice)
            labels = torch.tensor([[-100] * len(prompt) + continuation])
            with torch.no_grad():
                loss = theirs(torch.tensor([prompt + continuation]), labels=labels).loss.item()
            assert one.log_prob == pytest.approx(-loss * len(continuation), abs=1e-4)


def test_few_shot_is_the_same_as_a_longer_prompt(model, tokenizer):
    shown = ITEMS[1]
    made = score_choices(model, tokenizer, ITEMS[:1], few_shot=[shown])
    prompt = "Omar had a red kite. The kite was red\n\n" + ITEMS[0].prompt
    want = score_choices(
        model, tokenizer, [MultipleChoice(prompt=prompt, choices=ITEMS[0].choices, answer=0)]
    )
    assert made.items[0].scores == want.items[0].scores
    with pytest.raises(ValueError, match="few_shot has item 1 itself"):
        score_choices(model, tokenizer, ITEMS[:2], few_shot=[shown])


def test_ties_go_to_the_first(tokenizer, model):
    item = MultipleChoice(prompt="Ada had a", choices=[" kite", " kite"], answer=1)
    assert score_choices(model, tokenizer, [item]).items[0].chosen == 0


def test_reports_can_be_paired(model, tokenizer):
    good = score_choices(model, tokenizer, ITEMS)
    blank = Transformer(model.args)
    torch.nn.init.zeros_(blank.output.weight)
    bad = score_choices(blank, tokenizer, ITEMS)
    assert paired_difference(good.right, bad.right).score == good.accuracy - bad.accuracy


def test_lettered_is_the_form_of_mmlu():
    item = MultipleChoice.lettered("2 + 2?", ["3", "4"], 1)
    assert item.prompt == "2 + 2?\nA. 3\nB. 4\nAnswer:"
    assert item.choices == (" A", " B") and item.answer == 1
    assert MultipleChoice.lettered("?", ["x", "y"], 0, labels="$&").choices == (" $", " &")
    with pytest.raises(ValueError, match="options has 3: 2 labels"):
        MultipleChoice.lettered("?", ["x", "y", "z"], 0, labels="AB")


@pytest.mark.parametrize(
    ("prompt", "continuation"),
    [("Ada had", " a kite"), ("Ada had ", "a kite"), ("Ada h", "ad a kite"), ("Ada\n\n", "Ben")],
)
def test_pairs_give_the_whole_text_back(tokenizer, prompt, continuation):
    before, after = encode_pair(tokenizer, prompt, continuation)
    assert before[0] == tokenizer.bos_id and after
    assert tokenizer.decode(before[1:] + after) == prompt + continuation
    assert tokenizer.decode(before[1:]) in (prompt, prompt.rstrip())


def test_wrong_input_is_named(model, tokenizer):
    item = ITEMS[0]
    cases = [
        (lambda: MultipleChoice(prompt="x", choices="AB", answer=0), "choices='AB'"),
        (lambda: MultipleChoice(prompt="x", choices=["A"], answer=0), "two texts or more"),
        (lambda: MultipleChoice(prompt="x", choices=["A", ""], answer=0), "must not be empty"),
        (lambda: MultipleChoice(prompt="", choices=["A", "B"], answer=0), "must not be empty"),
        (lambda: MultipleChoice(prompt="x", choices=["A", "B"], answer=2), "answer=2 .* 0 to 1"),
        (lambda: score_choices(model, tokenizer, []), "items is not allowed to be empty"),
        (lambda: score_choices(model, tokenizer, [item], normalise="x"), "normalise='x'"),
        (lambda: score_continuations(model, [([1], [2])], batch_size=0), "batch_size=0"),
        (lambda: score_continuations(model, [([1], [2]), ([], [2])]), "pair 1 is not allowed"),
        (lambda: score_continuations(model, [([1], [])]), "pair 0 is not allowed"),
        (lambda: score_continuations(model, [([1], [768])]), "pairs has id 768: 0 to 767"),
        (lambda: score_continuations(model, [([-1], [2])]), "pairs has id -1"),
        (lambda: score_continuations(model, [([1] * 512, [2, 3])]), "513 tokens .*max_seq_len=512"),
        (lambda: encode_pair(tokenizer, "x", ""), "continuation=''"),
        (lambda: encode_pair(tokenizer, "", "x", bos=False), "prompt=''"),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()
    assert score_continuations(model, [([1] * 512, [2])])  # the last token is not read
    broken = Transformer(model.args)
    torch.nn.init.constant_(broken.output.weight, math.nan)
    with pytest.raises(ValueError, match="gives nan"):
        score_continuations(broken, [([1], [2])])
