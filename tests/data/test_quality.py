"""Quality classifiers: learning, storage, imitation, and a language model as judge."""

import json
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from llama3lib.data.document import Document, Drop, Dropped
from llama3lib.data.quality import (
    KeepBestPerLanguage,
    KeepQuality,
    NgramClassifier,
    TagKind,
    YesNoJudge,
    distill,
    train_classifier,
)
from llama3lib.model import Transformer, get_preset
from llama3lib.tokenizer import Tokenizer

GOOD = "the town river bridge founded council market history winter garden letter".split()
BAD = "buy cheap offer click now winner prize free discount bonus casino".split()
BYTES = Tokenizer.of_bytes()
BOTH = "and of a to in it was with for on".split()


def texts_of(rng, count, own_share=0.4):
    """Texts of which a share of the words tells what they are, and the labels."""
    out, labels = [], []
    for _ in range(count):
        label = rng.choice(("bad", "good"))
        own = GOOD if label == "good" else BAD
        words = [rng.choice(own if rng.random() < own_share else BOTH) for _ in range(30)]
        out.append(" ".join(words))
        labels.append(label)
    return out, labels


def auc(scores, labels):
    """Share of (good, bad) pairs in the right order."""
    good = [s for s, label in zip(scores, labels, strict=True) if label == "good"]
    bad = [s for s, label in zip(scores, labels, strict=True) if label == "bad"]
    return np.mean([(g > b) + 0.5 * (g == b) for g in good for b in bad])


@pytest.fixture(scope="module")
def trained():
    texts, labels = texts_of(random.Random(0), 600)
    return train_classifier(texts, labels, bins=4096, dim=8)


@pytest.fixture
def folder(trained, tmp_path):
    trained.save(tmp_path / "model")
    return tmp_path / "model"


def test_learns_a_separable_task(trained):
    texts, labels = texts_of(random.Random(1), 400, own_share=0.15)
    assert auc(trained.score(texts), labels) > 0.95
    texts, labels = texts_of(random.Random(2), 300)
    assert np.mean(np.array(trained.predict(texts)) == labels) > 0.98


def test_three_labels():
    rng = random.Random(4)
    words = {"code": ["def", "return"], "reasoning": ["because", "thus"], "other": ["rain", "sun"]}
    labels = [rng.choice(list(words)) for _ in range(300)]
    texts = [" ".join(rng.choices(words[label] + BOTH, k=20)) for label in labels]
    model = train_classifier(texts, labels, labels=tuple(words), bins=1024, dim=8)
    assert np.mean(np.array(model.predict(texts)) == labels) > 0.95
    total = sum(np.array(model.score(texts, label)) for label in words)
    assert np.allclose(total, 1, atol=1e-5)


def test_the_same_input_gives_the_same_weights_and_leaves_the_global_seed_alone():
    texts, labels = texts_of(random.Random(0), 60)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, two = (train_classifier(texts, labels, bins=64, dim=2, epochs=2) for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    other = train_classifier(texts, labels, bins=64, dim=2, epochs=2, seed=1)
    assert not torch.equal(one.embedding.weight, other.embedding.weight)


def test_forward_is_the_mean_embedding_by_hand(trained):
    text = "The river was cheap"
    rows = trained.embedding.weight[trained.features(text)].double().mean(0)
    logits = trained.output.weight.double() @ rows + trained.output.bias.double()
    found = trained([text, "", "other words here"])[0].double()
    assert torch.allclose(found, logits.log_softmax(0), atol=1e-6)  # float32 against float64


def test_features_are_words_and_pairs_of_the_first_400():
    model = NgramClassifier(bins=1 << 20)
    assert len(model.features("a b c")) == 5 and model.features("A b") == model.features("a  B")
    assert model.features("") == [0] == model.features(" \n")
    long = " ".join(map(str, range(1000)))
    assert len(model.features(long)) == 799
    assert model.features("\ud800")  # no text is a reason to stop


def test_scores_do_not_depend_on_the_batch(trained):
    texts, _ = texts_of(random.Random(3), 300)
    together = trained.score(texts)
    assert len(together) == 300 and trained.score([]) == [] and trained.predict([]) == []
    alone = [trained.score([text])[0] for text in texts]
    assert np.allclose(together, alone, atol=1e-6)  # sums in another order


def test_soft_labels_are_what_is_predicted():
    # one text, known to be good in 3 of 10 cases: cross-entropy is least just there
    model = train_classifier(["a b", "c d"] * 40, [(0.7, 0.3), (0.2, 0.8)] * 40, epochs=60, bins=64)
    assert model.score(["a b", "c d"]) == pytest.approx([0.3, 0.8], abs=0.02)


def test_hard_labels_are_soft_ones_of_one_and_nothing():
    texts, labels = texts_of(random.Random(0), 40)
    rows = [(float(label == "bad"), float(label == "good")) for label in labels]
    one, two = (train_classifier(texts, aim, bins=64, dim=2) for aim in (labels, rows))
    assert torch.equal(one.embedding.weight, two.embedding.weight)


@pytest.mark.parametrize(
    ("texts", "targets", "message"),
    [
        ([], [], "0 texts and 0 targets"),
        (["a"], ["good", "bad"], "1 texts and 2 targets"),
        (["a"], ["fine"], "target='fine'"),
        (["a"], [(0.5, 0.6)], "sum to 1"),
        (["a"], [(1.5, -0.5)], "sum to 1"),
        (["a"], [(1.0,)], "2 shares"),
        (["a"], [(float("nan"), 1.0)], "sum to 1"),
    ],
)
def test_bad_targets_are_named(texts, targets, message):
    with pytest.raises(ValueError, match=message):
        train_classifier(texts, targets, bins=8)


def test_bad_shapes_and_labels_are_named(trained):
    for labels in ((), ("a",), ("a", "a")):
        with pytest.raises(ValueError, match="labels="):
            NgramClassifier(labels)
    for shape in ({"bins": 1}, {"dim": 0}):
        with pytest.raises(ValueError, match=next(iter(shape))):
            NgramClassifier(**shape)
    with pytest.raises(ValueError, match="label='fine'"):
        trained.score(["a"], "fine")


def test_save_and_load_bit_for_bit(trained, folder):
    again = NgramClassifier.load(folder)
    for (name, a), (other, b) in zip(
        trained.state_dict().items(), again.state_dict().items(), strict=True
    ):
        assert name == other and torch.equal(a, b)
    assert again.labels == trained.labels and not again.training
    assert again.embedding.weight.requires_grad  # may be trained further
    texts, _ = texts_of(random.Random(9), 50)
    assert again.score(texts) == trained.score(texts)
    with pytest.raises(ValueError, match="not empty"):
        trained.save(folder)
    trained.save(folder, overwrite=True)
    assert sorted(p.name for p in folder.parent.iterdir()) == ["model"]


def test_missing_files_are_named(folder):
    for name in ("config.json", "model.safetensors"):
        (folder / name).rename(folder / "away")
        with pytest.raises(ValueError, match=name):
            NgramClassifier.load(folder)
        (folder / "away").rename(folder / name)
    with pytest.raises(ValueError, match="missing"):
        NgramClassifier.load(folder / "nowhere")


@pytest.mark.parametrize(
    "config",
    [
        "",
        "{",
        "[]",
        "null",
        '{"labels": ["bad", "good"]}',
        '{"labels": ["bad", "good", "odd"], "bins": 4096, "dim": 8}',
        '{"labels": ["bad", "good"], "bins": 4097, "dim": 8}',
        '{"labels": ["bad", "good"], "bins": 4096, "dim": 9}',
        '{"labels": ["bad", "good"], "bins": "many", "dim": 8}',
        '{"labels": ["bad", "good"], "bins": 1000000000000, "dim": 8}',
        '{"labels": ["bad", "good"], "bins": 2000000000, "dim": 1}',
        '{"labels": 5, "bins": 4096, "dim": 8}',
    ],
)
def test_damaged_config_is_a_value_error(folder, config):
    (folder / "config.json").write_text(config)
    with pytest.raises(ValueError, match="classifier"):
        NgramClassifier.load(folder)


def test_damaged_weights_are_a_value_error(folder):
    path = folder / "model.safetensors"
    raw = path.read_bytes()
    for size in (0, 7, 8, 100, len(raw) - 1):
        path.write_bytes(raw[:size])
        with pytest.raises(ValueError, match="damaged"):
            NgramClassifier.load(folder)
    path.write_bytes(b"PK\x03\x04" + raw)
    with pytest.raises(ValueError, match="damaged"):
        NgramClassifier.load(folder)


def test_distill_imitates_its_judge():
    rng = random.Random(7)
    texts = [
        " ".join(rng.choice(GOOD if rng.random() < share else BAD) for _ in range(40))
        for share in (rng.random() for _ in range(700))
    ]

    def judge(texts):
        return [np.mean([word in GOOD for word in text.split()]) for text in texts]

    model = distill(judge, texts[:500], bins=4096, dim=8, epochs=10)
    fresh = texts[500:]
    assert stats.spearmanr(model.score(fresh), judge(fresh)).statistic > 0.95


@pytest.mark.parametrize("verdict", [-0.1, 1.1, float("nan")])
def test_distill_refuses_verdicts_that_are_no_shares(verdict):
    with pytest.raises(ValueError, match="verdict="):
        distill(lambda texts: [verdict], ["a"], bins=8)


@pytest.fixture(scope="module")
def llama():
    model = Transformer(get_preset("tiny"))
    model.init_weights(torch.Generator().manual_seed(3))
    return model.eval()


def test_judge_reads_the_two_logits_after_the_prompt(llama):
    judge = YesNoJudge(llama, BYTES, prompt="Text: {text}\nGood?", yes="y", no="n")
    texts = ["a small town", "", "{text} {0}", "über"]
    verdicts = judge(texts)
    for text, verdict in zip(texts, verdicts, strict=True):
        ids = BYTES.encode("Text: " + text + "\nGood?", bos=True)
        with torch.no_grad():
            logits = llama(torch.tensor([ids]))[0, -1].double()
        yes, no = logits[ord("y")], logits[ord("n")]
        assert verdict == pytest.approx(float(yes.exp() / (yes.exp() + no.exp())), abs=1e-6)
    assert judge([]) == [] and 0 < min(verdicts) and max(verdicts) < 1


def test_judge_turns_round_and_cuts(llama):
    ask = YesNoJudge(llama, BYTES, prompt="{text}?", yes="y", no="n", most_characters=5)
    turned = YesNoJudge(llama, BYTES, prompt="{text}?", yes="n", no="y", most_characters=5)
    assert ask(["abcdefgh"]) == ask(["abcde"])
    assert ask(["abc"])[0] + turned(["abc"])[0] == pytest.approx(1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prompt": "no place"}, "prompt="),
        ({"yes": "no", "no": "nay"}, "same token"),
        ({"yes": ""}, "yes=''"),
        ({"no": ""}, "no=''.* has no token"),
    ],
)
def test_judge_refuses_what_it_cannot_ask(llama, settings, message):
    with pytest.raises(ValueError, match=message):
        YesNoJudge(llama, BYTES, **settings)


def test_keep_quality_and_tag_kind(folder):
    step = KeepQuality(model=str(folder))
    good, bad = (Document(" ".join(words), "d", {"x": 1}) for words in (GOOD, BAD))
    kept, dropped = step.apply(good), step.apply(bad)
    assert kept.metadata == {"x": 1, "quality": step.score(good.text)} and kept.text == good.text
    assert isinstance(dropped, Drop) and dropped.reason == "low quality"
    assert isinstance(KeepQuality(model=str(folder), label="bad").apply(good), Drop)
    assert [TagKind(model=str(folder)).apply(d).metadata["kind"] for d in (good, bad)] == [
        "good",
        "bad",
    ]
    with pytest.raises(ValueError, match="missing"):
        KeepQuality(model="nowhere").apply(good)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 9)), max_size=20), st.data())
def test_best_per_language_against_sorting(rows, data):
    share = data.draw(st.sampled_from([0.1, 0.34, 0.5, 1.0]))
    step = KeepBestPerLanguage(model="unused", share=share)
    notes = [(f"d{n}", [language, score / 10]) for n, (language, score) in enumerate(rows)]
    decision = json.loads(json.dumps(step.decide(notes)))
    for language in {language for language, _ in rows}:
        scores = sorted((s / 10 for lang, s in rows if lang == language), reverse=True)
        wanted = max(1, round(share * len(scores)))
        kept = [s for s in scores if s >= decision[language]]
        assert kept[:wanted] == scores[:wanted]
        assert all(s == scores[wanted - 1] for s in kept[wanted:])  # more only if they tie


def test_best_per_language_on_documents(folder):
    texts, _ = texts_of(random.Random(11), 40)
    documents = [
        Document(text, f"d{n}", {"language": "en" if n % 4 else "de"})
        for n, text in enumerate(texts)
    ]
    step = KeepBestPerLanguage(model=str(folder), share=0.5)
    items = list(step(documents))
    for language, count in (("en", 15), ("de", 5)):
        mine = [i for i in items if isinstance(i, Document) and i.metadata["language"] == language]
        gone = [
            step.score(i.document.text)
            for i in items
            if isinstance(i, Dropped) and i.document.metadata["language"] == language
        ]
        assert len(mine) >= count and min(i.metadata["quality"] for i in mine) > max(gone)
    for share in (0, 1.5, -1, float("nan")):
        with pytest.raises(ValueError, match="share="):
            KeepBestPerLanguage(model="x", share=share)
