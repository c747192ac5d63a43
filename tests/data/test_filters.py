"""Filters against closed forms and brute force; every reason; and the purity of all steps."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama3lib.data.document import Document, Drop
from llama3lib.data.extract import StripMarkdown
from llama3lib.data.filters import (
    DropOutliers,
    DropRepetition,
    DropWords,
    GopherRules,
    duplicated_ngram_coverage,
    top_ngram_share,
)
from llama3lib.data.language import IdentifyLanguage
from llama3lib.data.pii import MaskPII
from llama3lib.data.words import split_words

COVERAGE = [
    ("", 2, 0.0),
    ("a b", 3, 0.0),
    ("a b c d", 2, 0.0),
    ("a b a b", 2, 2 / 7),  # the first of two is no copy
    ("a a a", 2, 2 / 5),
    ("a a a a a", 2, 4 / 9),  # after a copy counting goes on behind it
    ("aa bb c aa bb", 2, 4 / 13),
    ("a b c x a b c", 3, 3 / 13),
    ("a b c x a b c", 2, 2 / 13),
    ("a b c x a b c", 4, 0.0),
    ("甲乙丙甲乙", 2, 2 / 5),
]
TOP = [
    ("", 2, 0.0),
    ("a", 2, 0.0),
    ("a b c", 2, 0.0),
    ("a b a b", 2, 6 / 7),
    ("aa b x aa b yyy", 2, 8 / 15),
    ("a b cc dd x cc dd y a b", 2, 10 / 23),  # of two as frequent ones the longer counts
]


@pytest.mark.parametrize(("text", "size", "share"), COVERAGE)
def test_coverage_by_repeated_ngrams(text, size, share):
    assert duplicated_ngram_coverage(text, size) == pytest.approx(share, abs=1e-12)


@pytest.mark.parametrize(("text", "size", "share"), TOP)
def test_share_of_the_top_ngram(text, size, share):
    assert top_ngram_share(text, size) == pytest.approx(share, abs=1e-12)


def test_repetition_is_counted_as_datatrove_counts_it(monkeypatch):
    """Given the same words, both drop the same texts, but for a lone n-gram: datatrove's "top" one
    may come only once, as in a text of three words."""
    peer = pytest.importorskip("datatrove.pipeline.filters.gopher_repetition_filter")
    from datatrove.data import Document as PeerDocument

    monkeypatch.setattr(peer, "split_into_words", lambda text, language: split_words(text))
    theirs, ours, rng = peer.GopherRepetitionFilter(), DropRepetition(), random.Random(0)
    seen = set()
    for place in range(300):
        pool = numbered(rng.choice((20, 60, 200, 2000))).split()
        lines = [" ".join(rng.choices(pool, k=rng.randint(3, 20))) for _ in range(12)]
        text = rng.choice(("\n", "\n\n")).join(lines + rng.choices(lines, k=rng.randint(0, 4)))
        kept = theirs.filter(PeerDocument(text=text, id=str(place))) is True
        assert kept == isinstance(ours.apply(Document(text, str(place))), Document)
        seen.add(kept)
    assert seen == {True, False}


def numbered(count, start=0):
    return " ".join(f"word{n}" for n in range(start, start + count))


def test_repetition_and_its_reasons():
    step = DropRepetition()
    fine = Document(numbered(200), "a")
    assert step.apply(fine) is fine and step.apply(Document("", "b")).text == ""
    lines = fine.but("\n".join([numbered(30), numbered(30), numbered(30)]))
    assert step.apply(lines) == Drop("duplicate lines", "0.67 > 0.3")
    top = fine.but(numbered(10) + " again and" * 10)
    assert step.apply(top).reason == "top n-gram" and step.apply(top).detail.startswith("2-gram")
    spread = fine.but(" ".join([numbered(20), numbered(50, 100), numbered(20)]))
    assert step.apply(spread).reason == "duplicate n-grams"
    assert step.apply(spread).detail == "5-grams 0.17 > 0.15"
    long = fine.but("\n".join([numbered(40), *"abcdef", numbered(40)]))
    assert step.apply(long) == Drop("duplicate lines", "characters 0.49 > 0.2")
    twice = fine.but("\n\n".join(["one\ntwo", "one\ntwo", "three\nfour", numbered(90)]))
    assert DropRepetition(lines=0.2).apply(twice) == Drop("duplicate paragraphs", "0.25 > 0.2")
    for wrong in ({"top": (2.0,)}, {"coverage": (-1.0,)}, {"lines": 3}, {"characters": -1}):
        with pytest.raises(ValueError, match="is not allowed: from 0 to 1"):
            DropRepetition(**wrong)


def test_word_lists():
    text = "Bad BAD bad words " + numbered(96)
    document = Document(text, "a")
    assert DropWords().apply(document) is document
    step = DropWords(words=("bad",), most=2, most_share=0.01)
    assert step.apply(document) == Drop("listed words", "3 of 100")
    assert DropWords(words=("bad",), most=3).apply(document) is document
    assert DropWords(words=("bad",), most_share=0.03).apply(document) is document
    assert DropWords(words=("ba",)).apply(document) is document  # whole words only
    phrase = DropWords(words=("bad  Words", "c++", "हिन्दी"), most=0, most_share=0)
    assert phrase.apply(document) == Drop("listed words", "1 of 100")
    assert phrase.apply(document.but("C++ हिन्दी")).detail == "2 of 2"
    assert phrase.apply(document.but("हिन्दीवाला")).text == "हिन्दीवाला"
    signs = DropWords(
        words=("赌场", "bad"), most=1
    )  # within a row of signs no word ends can be seen
    assert signs.apply(document.but("去赌场玩，最好的赌场 bad")) == Drop("listed words", "3 of 5")
    with pytest.raises(ValueError, match="most=-1"):
        DropWords(most=-1)
    with pytest.raises(ValueError, match="no empty ones"):
        DropWords(words=("bad", " "))


PROSE = "the mill and the river have seen many people come with grain to be ground of late "
GOPHER = [
    (PROSE * 4, None),
    (PROSE * 2, "too short"),
    (PROSE * 40, "too long"),
    ("a of " * 60, "word length"),
    ("extraordinarily unquestionable " * 40, "word length"),
    (PROSE * 4 + "明日雨" * 20, None),  # signs do not shorten the words that stand between them
    (PROSE * 4 + "#abc " * 20, "symbols"),
    (PROSE * 4 + "so... " * 20, "symbols"),
    ("\n".join(["- " + PROSE] * 5), "bullets"),
    ("\n".join([PROSE + "…"] * 5), "ellipses"),
    (PROSE * 2 + "123 456 " * 30, "no letters"),
    (numbered(60), "no stop words"),
    ("", "too short"),
]


@pytest.mark.parametrize(("text", "reason"), GOPHER)
def test_each_gopher_rule(text, reason):
    answer = GopherRules(most_words=400).apply(Document(text, "a"))
    assert (answer.reason if isinstance(answer, Drop) else None) == reason


def test_stop_words_are_english_and_an_empty_text_is_no_division():
    german = Document(numbered(60), "a", {"language": "de"})
    unknown = "Der Fluss war breit, die Mühle alt, und niemand wusste, wem sie einst gehört hatte. "
    assert isinstance(GopherRules().apply(Document(unknown * 4, "a")), Document)
    assert GopherRules().apply(german) is german
    assert GopherRules(stop_words=0).apply(german.but(language="en")).metadata["language"] == "en"
    assert GopherRules(least_words=0).apply(german.but("")).reason == "too short"


def corpus(seed=0):
    rng = random.Random(seed)
    common = ["the", "river", "mill", "town", "stone", "bridge", "grain", "market"]
    documents = [
        Document(" ".join(rng.choices(common, k=80)), f"d{n}", {"language": "en"})
        for n in range(40)
    ]
    odd = " ".join("".join(rng.choices("bcdfghjkz", k=4)) for _ in range(300))
    return [*documents, Document(odd, "odd", {"language": "en"})]


@pytest.mark.parametrize(("bins", "smoothing"), [(2, 0.5), (17, 100.0), (64, 3.0), (4096, 1.0)])
def test_divergence_against_a_sum_over_all_bins(bins, smoothing):
    step = DropOutliers(bins=bins, smoothing=smoothing)
    documents = corpus()
    decision = step.prepare(step.decide((d.id, step.collect(d)) for d in documents))
    spread, shares = decision["en"], decision["en"].shares
    assert sum(shares) == pytest.approx(1, abs=1e-12) and len(shares) == bins
    for document in [*documents[:5], documents[-1], Document("", "empty")]:
        counts = step._counts(document.text)
        total = sum(counts.values()) + smoothing
        own = [(counts[place] + smoothing * q) / total for place, q in enumerate(shares)]
        brute = math.fsum(p * math.log(p / q) for p, q in zip(own, shares, strict=True))
        # two sums of the same terms, one of them with all untouched bins taken together
        assert step.divergence(document.text, spread) == pytest.approx(brute, abs=1e-9)
        assert brute >= -1e-12


def test_the_outlier_falls_and_languages_do_not_mix():
    documents = corpus()
    fell = [one for one in DropOutliers()(documents) if not isinstance(one, Document)]
    assert [(one.document.id, one.reason) for one in fell] == [("odd", "outlier tokens")]
    alone = [*documents[:-1], documents[-1].but(language="xx")]
    assert all(isinstance(one, Document) for one in DropOutliers()(alone))
    none = [*documents[:-1], documents[-1].but(language="zxx")]  # no language: against all
    assert [one.document.id for one in DropOutliers()(none) if not isinstance(one, Document)]
    for wrong, told in (({"bins": 1}, "bins=1"), ({"sample": 0}, "sample=0")):
        with pytest.raises(ValueError, match=told):
            DropOutliers(**wrong)
    with pytest.raises(ValueError, match="'d0' is not allowed twice"):
        list(DropOutliers()([documents[0], documents[0]]))


def test_short_long_and_technical_pages_are_no_outliers():
    rng = random.Random(1)
    common = numbered(60).split()
    trades = [[f"{rng.randrange(16**5):05x}" for _ in range(40)] for _ in range(12)]
    documents = [
        Document(" ".join(rng.choices(common + 2 * trades[n % 12], k=size)), f"{n}-{size}")
        for n in range(60)
        for size in (12, 150, 1500)
    ]
    odd = " ".join(f"{rng.randrange(16**8):08x}" for _ in range(400))
    answers = list(DropOutliers()([*documents, Document(odd, "odd")]))
    assert [one.document.id for one in answers if not isinstance(one, Document)] == ["odd"]
    # the medians come from a sample that depends on the ids alone, not on their order
    step = DropOutliers(sample=20)
    notes = [(one.id, step.collect(one)) for one in documents]
    assert step.decide(notes) == step.decide(notes[::-1])


STEPS = [DropRepetition(), DropWords(words=("bad",)), GopherRules(least_words=3), MaskPII()]
STEPS += [StripMarkdown(), IdentifyLanguage(least=0)]
TEXT = st.lists(
    st.sampled_from([*PROSE.split(), "**bold**", "ada@example.com", "8.8.8.8", "bad", "#", "…",
                     "\n- ", "\n", "中文", "4111 1111 1111 1111", "\u2028", "\x00", "`x`"])
    | st.text(max_size=8),
    max_size=60,
).map(" ".join)  # fmt: skip


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
@given(texts=st.lists(TEXT, min_size=1, max_size=5), seed=st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_steps_are_pure(step, texts, seed):
    """The same document gives the same answer, whatever came before; and twice changes nothing."""
    documents = [Document(text, str(n), {"url": "u"}) for n, text in enumerate(texts)]
    first = dict(zip(texts, map(step.apply, documents), strict=True))
    mixed = random.Random(seed).sample(documents, len(documents))
    for document in mixed:
        again = step.apply(document)
        before = first[document.text]
        assert type(again) is type(before)
        if isinstance(again, Document):
            assert (again.text, again.metadata) == (before.text, before.metadata)
        else:
            assert again == before
        assert document.metadata == {"url": "u"}
