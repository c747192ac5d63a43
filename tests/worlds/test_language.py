"""The invented language: the same for a seed, with a long tail, and questions that can be asked."""

from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch

from llama3lib.model import ModelArgs, Transformer
from llama3lib.scaling import read_runs, stored_path
from llama3lib.scaling.task import answer
from llama3lib.worlds import InventedLanguage


@pytest.fixture(scope="module")
def language():
    return InventedLanguage()


def test_the_same_seed_gives_the_same_words_and_texts(language):
    again = InventedLanguage()
    assert again.words == language.words and len(set(language.words)) == 2047
    first, same, other = (list(islice(language.documents(seed), 5)) for seed in (0, 0, 1))
    assert first == same != other
    assert all(20 <= len(ids) <= 80 for ids in first)
    assert language.written(first[0][:2]) == " ".join(language.words[n] for n in first[0][:2])
    assert InventedLanguage(seed=1).words != language.words


def test_words_have_a_long_tail(language):
    ids = [n for text in islice(language.documents(0), 4000) for n in text]
    counts = np.sort(list(Counter(ids).values()))[::-1]
    slope, _ = np.polyfit(np.log(np.arange(10, 1000)), np.log(counts[9:999]), 1)
    assert -1.5 < slope < -0.5
    assert len(counts) > 1900  # nearly all occur


def test_who_knows_the_language_gives_all_words_together_chance_one():
    small = InventedLanguage(seed=3, words=64)
    text = next(small.documents(5))
    for place in (0, 1, 7, 25):
        chances = 0.0
        for word in range(64):
            try:
                cost = small.nats([*text[:place], word, *text[place + 1 :]])[place]
            except ValueError:  # the next word cannot follow this one
                continue
            chances += np.exp(-cost)
        ending = 1 / (81 - place) if place >= 20 else 0.0
        assert chances == pytest.approx(1 - ending, abs=1e-9)
    ends = sum(np.exp(-small.nats((text * 4)[:n])[-1]) for n in (80,))
    assert ends == 1.0  # none is longer


def test_no_stored_model_has_a_lower_loss_than_who_knows_the_language(language):
    least = language.least_loss(600, 1_000_003)  # the documents held out
    names = ("toy", "toy-long", "toy-held-out", "toy-ten-times", "toy-unfinished")
    assert 2 < least < min(run.loss for n in names for run in read_runs(stored_path(n)))
    assert least == pytest.approx(language.least_loss(600, 5), rel=0.02)


def test_a_slightly_wrong_reader_loses_more(language, monkeypatch):
    texts = list(islice(language.documents(9), 300))
    least = sum(language.nats(text).sum() for text in texts)
    for name, value in (("_FOLLOW", 0.8), ("_FOLLOW", 0.88), ("_TOPIC", 0.12), ("_TOPIC", 0.07)):
        with monkeypatch.context() as patch:
            patch.setattr(f"llama3lib.worlds.language.{name}", value)
            assert sum(language.nats(text).sum() for text in texts) > least


def test_what_the_language_cannot_write_is_refused(language):
    text = next(language.documents(1))
    for wrong, named in (
        ([*text, 5000], "0 to 2046"),
        (text[:10], "10 words, but none ends there"),
        ((text * 5)[:90], "cannot be at 80"),
    ):
        with pytest.raises(ValueError, match=named):
            language.nats(wrong)


def test_pairs_tell_more_than_words(language):
    texts = list(islice(language.documents(0), 4000))
    pairs = Counter((a, b) for text in texts for a, b in zip(text, text[1:], strict=False))
    firsts = Counter(a for text in texts for a in text[:-1])
    top = {}
    for (a, b), n in pairs.items():
        if n > top.get(a, (0, 0))[0]:
            top[a] = (n, b)
    frequent = [a for a, _ in firsts.most_common(50)]
    share = sum(top[a][0] for a in frequent) / sum(firsts[a] for a in frequent)
    assert 0.45 < share < 0.65


def test_questions_have_one_right_answer_and_guessing_gives_a_quarter(language):
    asked = language.questions(400, 7)
    assert asked == language.questions(400, 7)
    assert Counter(q.answer for q in asked).keys() == {0, 1, 2, 3}
    assert all(len(set(q.choices)) == 4 for q in asked)
    args = ModelArgs(
        dim=8, n_layers=1, n_heads=1, n_kv_heads=1, ffn_dim=16, vocab_size=2048, max_seq_len=64
    )
    model = Transformer(args)
    model.init_weights(torch.Generator().manual_seed(0))
    told = answer(model, language, 400, 7)
    assert 0.15 < told["accuracy"] < 0.35
    lengths = [len(language.words[q.choices[q.answer]]) + 1 for q in asked]
    assert told["nll"] == pytest.approx(np.log(2048) * np.mean(1 / np.array(lengths)), rel=0.1)


def test_who_knows_the_followers_is_always_right(language):
    for question in language.questions(50, 3):
        known = language._followers[question.prompt[-1]]
        ranks = [known.index(n) if n in known else 99 for n in question.choices]
        assert int(np.argmin(ranks)) == question.answer


def test_too_few_are_refused(language):
    with pytest.raises(ValueError, match="words=10"):
        InventedLanguage(words=10)
    with pytest.raises(ValueError, match="count=0"):
        language.questions(0, 0)
    with pytest.raises(ValueError, match="choices=1"):
        language.questions(1, 0, choices=1)
