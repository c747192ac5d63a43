"""MinHash against exact sets, brute force and closed forms."""

import itertools
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama3lib.data import funnel
from llama3lib.data.dedup.minhash import (
    Clusters,
    DropNearDuplicates,
    MinHash,
    candidate_pairs,
    choose_bands,
    estimate_jaccard,
    exact_jaccard,
    keep_first,
    lsh_probability,
)
from llama3lib.data.document import Document, Dropped

WORDS = [f"word{i}" for i in range(2000)]


def hashes(rng, size):
    return rng.integers(0, 1 << 64, size, dtype=np.uint64)


def random_pair(rng):
    """Two sets of 64-bit numbers and their exact similarity."""
    shared, one, other = (int(rng.integers(10, 400)) for _ in range(3))
    both = hashes(rng, shared)
    first = np.concatenate([both, hashes(rng, one)])
    second = np.concatenate([both, hashes(rng, other)])
    return first, second, shared / (shared + one + other)


def grams_of(text, size):
    words = text.lower().split()
    size = min(size, len(words))
    return {tuple(words[i : i + size]) for i in range(len(words) - size + 1)} if size else set()


@pytest.fixture(scope="module")
def family():
    """Documents in families: an original, and copies with more and more words changed."""
    rng = random.Random(5)
    texts = []
    for _ in range(60):
        words = rng.choices(WORDS, k=rng.randint(60, 200))
        texts.append(" ".join(words))
        for changes in rng.choices((0, 1, 2, 4, 8, 16), k=rng.randint(1, 4)):
            copy = list(words)
            for _ in range(changes):
                copy[rng.randrange(len(copy))] = rng.choice(WORDS)
            texts.append(" ".join(copy))
    rng.shuffle(texts)
    return texts


def test_estimates_are_as_exact_as_theory_says_and_unbiased():
    # 3,000 pairs: the RMS itself is known to about 1 / sqrt(6,000) = 1.3 %, far within the 10 %
    rng = np.random.default_rng(0)
    minhash = MinHash(112)
    errors = []
    for _ in range(3000):
        one, other, jaccard = random_pair(rng)
        guess = estimate_jaccard(minhash.signature_of(one), minhash.signature_of(other))
        errors.append((guess - jaccard) / minhash.standard_error(jaccard))
    errors = np.array(errors)
    assert math.sqrt((errors**2).mean()) < 1.1
    assert abs(errors.mean()) < 4 / math.sqrt(len(errors))


@pytest.mark.parametrize("seed", [2, 3])
def test_other_seeds_and_short_sets_are_as_exact(seed):
    rng = np.random.default_rng(seed)
    minhash = MinHash(256, seed=seed)
    errors = []
    for _ in range(1500):
        both, one, other = (hashes(rng, n) for n in (6, 2, 4))
        first, second = np.concatenate([both, one]), np.concatenate([both, other])
        guess = estimate_jaccard(minhash.signature_of(first), minhash.signature_of(second))
        errors.append((guess - 0.5) / minhash.standard_error(0.5))
    assert math.sqrt(np.mean(np.square(errors))) < 1.1
    assert abs(np.mean(errors)) < 4 / math.sqrt(len(errors))


def test_texts_are_estimated_as_well_as_sets(family):
    minhash = MinHash(112)
    signatures = [minhash.signature(text) for text in family]
    errors = []
    for i, j in itertools.combinations(range(len(family)), 2):
        jaccard = exact_jaccard(family[i], family[j])
        if 0.02 < jaccard < 0.98:
            guess = estimate_jaccard(signatures[i], signatures[j])
            errors.append((guess - jaccard) / minhash.standard_error(jaccard))
    assert len(errors) > 100
    assert math.sqrt(np.mean(np.square(errors))) < 1.25  # few pairs, and they share documents


def test_standard_error_is_the_closed_form():
    assert MinHash(100).standard_error(0.5) == pytest.approx(0.05)
    assert MinHash(112).standard_error(0.8) == pytest.approx(math.sqrt(0.16 / 112))
    assert MinHash(7).standard_error(0) == MinHash(7).standard_error(1) == 0


def test_signature_is_the_least_value_of_each_permutation():
    minhash = MinHash(13, seed=9)
    shingles = hashes(np.random.default_rng(1), 2000)  # several blocks of 512
    a, b, _ = minhash._factors
    expected = [
        min((int(h >> 32) * int(x) + int(y)) % 2**32 for h in shingles.tolist())
        for x, y in zip(a, b, strict=True)
    ]
    assert minhash.signature_of(shingles).tolist() == expected
    assert (a % 2 == 1).all() and minhash.signature_of(shingles).dtype == np.uint32


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("ab c\u00e9\n")), st.integers(1, 6))
def test_shingles_stand_for_the_brute_force_sets(text, ngram):
    assert len(set(MinHash(ngram=ngram).shingles(text).tolist())) == len(grams_of(text, ngram))


def test_shingles_are_equal_just_where_ngrams_are(family):
    minhash = MinHash()
    known = {}
    for text in family:
        words = text.split()
        for place, shingle in enumerate(minhash.shingles(text).tolist()):
            gram = tuple(words[place : place + 5])
            assert known.setdefault(shingle, gram) == gram
    assert len(known) == len(set().union(*(grams_of(text, 5) for text in family)))


def test_exact_jaccard_against_sets(family):
    for one, other in itertools.islice(itertools.combinations(family, 2), 400):
        first, second = grams_of(one, 5), grams_of(other, 5)
        assert exact_jaccard(one, other) == len(first & second) / len(first | second)
    assert exact_jaccard("", "") == 0.0 and exact_jaccard("a", "A") == 1.0


def test_order_of_ngrams_and_repeats_do_not_matter_but_order_of_words_does():
    minhash = MinHash()
    words = WORDS[:12]
    turned = words[3:] + words[:3]  # the same ring of words
    ring = [" ".join((row + row)[:16]) for row in (words, turned)]
    assert exact_jaccard(*ring) == 1
    assert (minhash.signature(ring[0]) == minhash.signature(ring[1])).all()
    back = minhash.signature(" ".join(reversed(words)))
    assert estimate_jaccard(minhash.signature(" ".join(words)), back) < 0.05
    cased = [" ".join(words), "  ".join(words).upper() + "\n"]
    assert (minhash.signature(cased[0]) == minhash.signature(cased[1])).all()


def test_short_texts():
    minhash = MinHash()
    assert minhash.signature("") is None and minhash.signature(" \n\t") is None
    assert len(minhash.shingles("")) == 0
    assert len(minhash.shingles("one")) == 1 == len(minhash.shingles("one two three four five"))
    assert len(minhash.shingles("one two three four five six")) == 2
    one, two = minhash.signature("one"), minhash.signature("one one")
    assert estimate_jaccard(one, two) < 0.1
    assert (one == minhash.signature("ONE ")).all()


def test_word_cache_may_be_emptied_at_any_time(monkeypatch):
    monkeypatch.setattr("llama3lib.data.dedup.minhash._MOST_WORDS", 3)
    minhash = MinHash(16)
    for text in ("a b c d e f", "g h i j k l", "a b c d e f"):
        assert (minhash.signature(text) == MinHash(16).signature(text)).all()


def test_bad_settings_are_named():
    for make in (MinHash, DropNearDuplicates):
        with pytest.raises(ValueError, match="ngram=0"):
            make(ngram=0)
    with pytest.raises(ValueError, match="rows=-1"):
        DropNearDuplicates(rows=-1)
    with pytest.raises(ValueError, match="permutations=0"):
        MinHash(0)
    with pytest.raises(ValueError, match="cannot be compared"):
        estimate_jaccard(np.zeros(3, np.uint32), np.zeros(4, np.uint32))


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 25), st.integers(1, 4), st.integers(1, 4), st.integers(0, 2**32))
def test_candidate_pairs_join_what_brute_force_joins(documents, bands, rows, seed):
    rng = np.random.default_rng(seed)
    signatures = rng.integers(0, 3, (documents, bands * rows), dtype=np.uint32)
    pairs = candidate_pairs(signatures, bands, rows)
    truth = {
        (i, j)
        for i, j in itertools.combinations(range(documents), 2)
        for band in np.split(signatures, bands, axis=1)
        if (band[i] == band[j]).all()
    }
    assert pairs <= truth
    groups = [Clusters(documents), Clusters(documents)]
    for group, found in zip(groups, (pairs, truth), strict=True):
        for pair in found:
            group.join(*pair)
    ours, theirs = ([g.find(i) for i in range(documents)] for g in groups)
    assert ours == theirs


def test_clusters_are_led_by_their_first():
    clusters = Clusters(6)
    for one, other in ((5, 3), (3, 4), (2, 0), (1, 5)):
        clusters.join(one, other)
    assert [clusters.find(i) for i in range(6)] == [0, 1, 0, 1, 1, 1]
    assert keep_first("abc", [(2, 1)]) == {"c": "b"}


def test_clusters_of_documents_are_the_exact_ones_or_the_s_curve_explains_why(family):
    step = DropNearDuplicates()
    signatures = np.stack([step.minhash.signature(text) for text in family])
    found, exact = Clusters(len(family)), Clusters(len(family))
    for pair in candidate_pairs(signatures, step.bands, step.rows):
        found.join(*pair)
        # of 26,000 pairs, none with a chance below 1 in 10,000,000 should be among them
        assert lsh_probability(exact_jaccard(*(family[i] for i in pair)), 14, 8) > 1e-7
    apart, expected = 0, 0.0
    for i, j in itertools.combinations(range(len(family)), 2):
        if (jaccard := exact_jaccard(family[i], family[j])) >= 0.8:
            exact.join(i, j)
            expected += 1 - lsh_probability(jaccard, 14, 8)
            if found.find(i) != found.find(j):
                apart += 1
                assert lsh_probability(jaccard, 14, 8) < 0.9995
    groups = len({exact.find(i) for i in range(len(family))})
    assert apart <= expected + 4 * math.sqrt(expected)
    assert 60 <= groups < len(family) - 50


@pytest.mark.parametrize("jaccard", [0.5, 0.7, 0.8, 0.9])
def test_the_s_curve_is_what_happens(jaccard):
    # 600 pairs: a share of p is known to sqrt(p (1 - p) / 600), at most 2 points
    rng = np.random.default_rng(int(100 * jaccard))
    minhash, found, shared = MinHash(112), 0, 300
    rest = round(shared / jaccard) - shared
    for _ in range(600):
        both = hashes(rng, shared)
        parts = (both, np.concatenate([both, hashes(rng, rest)]))
        rows = np.stack([minhash.signature_of(part) for part in parts])
        found += bool(candidate_pairs(rows, 14, 8))
    expected = lsh_probability(shared / (shared + rest), 14, 8)
    assert abs(found / 600 - expected) < 4 * math.sqrt(expected * (1 - expected) / 600) + 1e-3


def test_lsh_probability_closed_form():
    assert lsh_probability(0.8, 14, 8) == pytest.approx(1 - (1 - 0.8**8) ** 14)
    assert lsh_probability(0, 3, 2) == 0 and lsh_probability(1, 3, 2) == 1
    assert round(lsh_probability(0.8, 14, 8), 2) == 0.92
    assert round(lsh_probability(0.9, 14, 8), 4) == 0.9996


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 150), st.floats(0.05, 1), st.floats(0.01, 0.99))
def test_choose_bands_takes_the_most_rows_that_reach_the_recall(permutations, jaccard, recall):
    good = [
        rows
        for rows in range(1, permutations + 1)
        if lsh_probability(jaccard, permutations // rows, rows) >= recall
    ]
    if not good:
        with pytest.raises(ValueError, match="out of reach"):
            choose_bands(permutations, jaccard, recall)
        return
    assert choose_bands(permutations, jaccard, recall) == (permutations // max(good), max(good))


def documents_of(texts, **metadata):
    return [Document(text, f"d{place}", metadata) for place, text in enumerate(texts)]


def test_step_keeps_the_first_of_each_group_and_names_it():
    text = " ".join(WORDS[:80])
    given_texts = [" ".join(WORDS[100:200]), text, "", text.upper(), "", "a", "A", text]
    items = list(DropNearDuplicates()(documents_of(given_texts)))
    fallen = {item.document.id: item.detail for item in items if isinstance(item, Dropped)}
    assert fallen == {"d3": "of d1", "d6": "of d5", "d7": "of d1"}
    assert {item.reason for item in items if isinstance(item, Dropped)} == {"near-duplicate"}


def test_per_language_compares_within_languages_only():
    text = " ".join(WORDS[:80])
    docs = [Document(text, f"{n}{lang}", {"language": lang}) for n in "12" for lang in ("en", "de")]
    kept = [d.id for d in funnel.run(docs, [DropNearDuplicates(per_language=True)])]
    assert kept == ["1en", "1de"]
    assert [d.id for d in funnel.run(docs, [DropNearDuplicates()])] == ["1en"]
    unknown = documents_of([text, text])
    assert len(list(funnel.run(unknown, [DropNearDuplicates(per_language=True)]))) == 1


def test_no_documents_and_no_words():
    step = DropNearDuplicates()
    assert step.decide([]) == {} and step.decide([("a", None)]) == {}
    assert list(step([])) == []


def test_an_id_may_not_come_twice():
    with pytest.raises(ValueError, match="'d' is not allowed twice"):
        list(DropNearDuplicates()([Document("a", "d"), Document("b", "d")]))
