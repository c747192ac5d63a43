"""Mixtures: arithmetic of the paper's mix, mixing laws, and down-sampling."""

import itertools
import math
import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama3lib.data import funnel
from llama3lib.data.document import Document
from llama3lib.data.mixture import (
    DownsampleKinds,
    MixLaw,
    annealing_mix,
    best_mix,
    epochs,
    fit_mix_law,
)

PAPER = {"general": 0.50, "reasoning": 0.25, "code": 0.17, "multilingual": 0.08}
NAN = float("nan")


def test_epochs_of_the_papers_mix():
    tokens = {"general": 10e12, "reasoning": 2e12, "code": 1.5e12, "multilingual": 3e12}
    found = epochs(PAPER, tokens, 15.6e12)
    assert found == pytest.approx(
        {"general": 0.78, "reasoning": 1.95, "code": 1.768, "multilingual": 0.416}
    )
    assert sum(found[name] * tokens[name] for name in PAPER) == pytest.approx(15.6e12)


def test_a_source_without_a_share_needs_no_tokens():
    assert epochs({"a": 1.0, "b": 0.0}, {"a": 4.0}, 8) == {"a": 2.0, "b": 0.0}
    for tokens in ({}, {"a": 0}, {"a": -1}, {"a": NAN}):
        with pytest.raises(ValueError, match=r"source_tokens\['a'\]"):
            epochs({"a": 1.0}, tokens, 8)


@pytest.mark.parametrize("shares", [{}, {"a": 0.5}, {"a": 1.5, "b": -0.5}, {"a": NAN}, {"a": 1.1}])
def test_shares_that_are_none_are_refused(shares):
    with pytest.raises(ValueError, match="shares="):
        epochs(shares, {"a": 1, "b": 1}, 1)


def test_annealing_mix_of_the_paper():
    mix = annealing_mix(PAPER, "new")
    assert mix["new"] == 0.3 and sum(mix.values()) == pytest.approx(1)
    assert {name: mix[name] / 0.7 for name in PAPER} == pytest.approx(PAPER)
    with pytest.raises(ValueError, match="new='code'"):
        annealing_mix(PAPER, "code")
    for share in (0, 1, -0.1, NAN):
        with pytest.raises(ValueError, match="share="):
            annealing_mix(PAPER, "new", share)


def mixes_of(rng, names, count):
    rows = rng.dirichlet(np.ones(len(names)), count)
    return [dict(zip(names, (row / row.sum()).tolist(), strict=True)) for row in rows]


@pytest.mark.parametrize("floor", [0.0, 1.0, 1.4142, 1.7])
def test_fit_recovers_what_was_planted(floor):
    rng = np.random.default_rng(0)
    law = MixLaw(("code", "text", "web"), floor, (0.9, -0.7, 0.2))
    mixes = mixes_of(rng, law.names, 40)
    found = fit_mix_law(mixes, [law.predict(mix) for mix in mixes])
    assert found.names == law.names
    assert found.floor == pytest.approx(floor, abs=0.01)
    assert found.weights == pytest.approx(law.weights, abs=0.01)


def test_fit_predicts_mixes_it_has_not_seen_in_spite_of_noise():
    rng = np.random.default_rng(1)
    law = MixLaw(("a", "b", "c"), 1.5, (0.5, -0.5, 0.0))
    mixes = mixes_of(rng, law.names, 60)
    losses = [law.predict(mix) + rng.normal(0, 0.005) for mix in mixes]
    found = fit_mix_law(mixes, losses)
    fresh = mixes_of(rng, law.names, 100)
    errors = [found.predict(mix) - law.predict(mix) for mix in fresh]
    assert math.sqrt(np.mean(np.square(errors))) < 0.005


def test_best_against_brute_force():
    rng = np.random.default_rng(2)
    for _ in range(20):
        laws = [
            MixLaw(("a", "b", "c"), 1.0, tuple(rng.normal(0, 1, 3).tolist()))
            for _ in range(rng.integers(1, 4))
        ]
        grid = [
            dict(zip("abc", (i / 10, j / 10, (10 - i - j) / 10), strict=True))
            for i, j in itertools.product(range(1, 10), repeat=2)
            if i + j < 10
        ]
        best = best_mix(laws, 0.1)
        losses = [sum(law.predict(mix) for law in laws) for mix in [best, *grid]]
        assert losses[0] == pytest.approx(min(losses[1:]), rel=1e-12)
        assert min(best.values()) >= 0.1 - 1e-12 and sum(best.values()) == pytest.approx(1)
    assert best_mix([MixLaw(("a",), 0, (1,))]) == {"a": 1.0}
    for bad in ([], [MixLaw(("a",), 0, (1,)), MixLaw(("b",), 0, (1,))]):
        with pytest.raises(ValueError, match="laws"):
            best_mix(bad)


@pytest.mark.parametrize("step", [0, -0.1, 0.5, 2, NAN])
def test_a_grid_without_a_mix_is_refused(step):
    with pytest.raises(ValueError, match="step="):
        best_mix([MixLaw(("a", "b", "c"), 1, (0, 0, 1))], step)


@pytest.mark.parametrize(
    ("mixes", "losses", "message"),
    [
        ([], [], "0 mixes"),
        ([{"a": 1.0}], [1, 2], "2 losses"),
        ([{"a": 1.0}], [1.0], "too few"),
        ([{"a": 1.0}, {"b": 1.0}], [1, 1], "sources"),
        ([{"a": 1.0}] * 2, [1, 0], "losses="),
        ([{"a": 1.0}] * 2, [1, NAN], "losses="),
        ([{"a": 0.5}] * 2, [1, 1], "shares="),
    ],
)
def test_runs_that_cannot_be_fitted_are_named(mixes, losses, message):
    with pytest.raises(ValueError, match=message):
        fit_mix_law(mixes, losses)


def share_kept(counts, most_share):
    step = DownsampleKinds(most_share=most_share)
    notes = [(f"{kind}{n}", kind) for kind, count in counts.items() for n in range(count)]
    decision = step.decide(notes)
    return {kind: decision[kind] * count for kind, count in counts.items()}


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 3000), min_size=1),
    st.sampled_from([0.05, 0.2, 0.3, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0]),
)
def test_no_kind_has_more_than_its_share_and_no_more_is_taken_than_needed(counts, most):
    kept = share_kept(counts, most)
    total = sum(kept.values())
    if len(counts) * most < 1:  # out of reach
        assert max(kept.values()) == pytest.approx(min(counts.values()))
        return
    for kind, count in counts.items():
        assert kept[kind] <= count * (1 + 1e-9)
        assert kept[kind] <= most * total * (1 + 1e-9)
        full = kept[kind] == pytest.approx(count)
        assert full or kept[kind] == pytest.approx(most * total)


def test_downsampling_by_hand():
    assert share_kept({"a": 900, "b": 60, "c": 40}, 0.5) == pytest.approx(
        {"a": 100, "b": 60, "c": 40}
    )
    assert share_kept({"a": 49, "b": 1}, 0.9) == pytest.approx({"a": 9, "b": 1})
    assert share_kept({"a": 3000, "b": 1}, 0.99) == pytest.approx({"a": 99, "b": 1})


def test_documents_are_taken_by_a_hash_of_their_id():
    rng = random.Random(0)
    documents = [
        Document("t", f"d{n}", {"kind": rng.choices("abc", (80, 15, 5))[0]}) for n in range(4000)
    ]
    step = DownsampleKinds(most_share=0.5)
    kept = list(funnel.run(documents, [step]))
    counts = Counter(d.metadata["kind"] for d in kept)
    before = Counter(d.metadata["kind"] for d in documents)
    assert counts["b"] == before["b"] and counts["c"] == before["c"]
    # the share of a is random: 800 of 3,200 documents, standard deviation 25
    assert abs(counts["a"] - counts["b"] - counts["c"]) < 100
    rng.shuffle(documents)
    assert {d.id for d in funnel.run(documents, [step])} == {d.id for d in kept}


def test_downsampling_settings_and_odd_input():
    for share in (0, 1.1, -1, NAN):
        with pytest.raises(ValueError, match="most_share="):
            DownsampleKinds(most_share=share)
    assert list(DownsampleKinds()([])) == []
    one = [Document("t", "a"), Document("t", "b", {"kind": None})]
    assert len(list(funnel.run(one, [DownsampleKinds(most_share=1.0)]))) == 2
