"""Good examples by two opinions, and each thing said once: brute force, and planted copies."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llama3lib.posttrain.data_quality import (
    good_by_either,
    k_means,
    scores_of,
    semantic_dedup,
)


def directions(count, dim, seed=0):
    rows = torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))
    return (rows / rows.norm(dim=1, keepdim=True)).double()


def test_numbers_and_functions_are_scores():
    assert scores_of(["a", "bb"], len).tolist() == [1, 2]
    assert scores_of(["a", "bb"], [3, 4.5]).tolist() == [3, 4.5]
    with pytest.raises(ValueError, match=r"difficulty\[1\]=nan"):
        scores_of(["a", "bb"], [0, math.nan], "difficulty")
    with pytest.raises(ValueError, match="scores=1 is not allowed: 2, one an item"):
        scores_of(["a", "bb"], [1])


def test_either_opinion_is_enough():
    rewards = [0.9, 0.1, 0.8, 0.2, 0.3, 0.0, -1.0, 0.5]
    marks = [3, 3, 1, 2, 1, 3, 1, 1]
    good = good_by_either(rewards, marks)
    # the top quarter of 8 is 0 and 2; the highest mark have 0, 1 and 5
    assert good.kept == [0, 1, 2, 5]
    assert (good.by_both, good.by_reward_alone, good.by_judge_alone) == (1, 1, 2)
    assert good.agreement == 0.25


def test_equal_rewards_at_the_border_are_all_in():
    assert good_by_either([1, 1, 1, 0], [0, 0, 0, 1]).kept == [0, 1, 2, 3]
    assert good_by_either([1.0], [1.0]).kept == [0]


def brute_force(rows, worth, threshold):
    """Plain numpy, one pair at a time."""
    kept, like = [], {}
    for i in sorted(range(len(rows)), key=lambda i: (-worth[i], i)):
        cosines = [(float(np.dot(rows[i], rows[j])), j) for j in kept]
        near = max(cosines, default=(-1.0, None), key=lambda pair: pair[0])
        if near[0] < threshold:
            kept.append(i)
        else:
            like[i] = near[1]
    return sorted(kept), like


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 30), st.integers(2, 4), st.floats(0.05, 0.95), st.integers(0, 99), st.data())
def test_one_cluster_is_brute_force(count, dim, threshold, seed, data):
    rows = directions(count, dim, seed)
    numbers = st.lists(st.integers(0, 3), min_size=count, max_size=count)
    quality, difficulty = data.draw(numbers), data.draw(numbers)
    found = semantic_dedup(rows, quality, difficulty, threshold=threshold)
    worth = [q * d for q, d in zip(quality, difficulty, strict=True)]
    kept, like = brute_force(rows.numpy(), worth, threshold)
    assert found.kept == kept
    assert {copy.place: copy.like for copy in found.copies} == like


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 6), st.integers(0, 99))
def test_nothing_is_lost_and_each_copy_has_a_better_one(count, clusters, seed):
    rows = directions(count, 3, seed)
    clusters = min(clusters, count)
    quality = torch.rand(count, generator=torch.Generator().manual_seed(seed))
    found = semantic_dedup(rows, quality, [1] * count, threshold=0.8, clusters=clusters)
    assert sorted(found.kept + [copy.place for copy in found.copies]) == list(range(count))
    for copy in found.copies:
        assert copy.like in found.kept and quality[copy.like] >= quality[copy.place]
        assert found.clusters[copy.like] == found.clusters[copy.place]
        assert copy.cosine == pytest.approx(float(rows[copy.like] @ rows[copy.place]))
        assert copy.cosine >= 0.8
    for i in found.kept:
        for j in found.kept:
            if i < j and found.clusters[i] == found.clusters[j]:
                assert float(rows[i] @ rows[j]) < 0.8


def test_planted_copies_are_found_in_clusters():
    subjects, dim = 12, 32
    rows = directions(subjects, dim).repeat_interleave(20, 0)
    noise = directions(len(rows), dim, seed=1)
    examples = rows + 0.6 * noise  # cosine of about 0.73 within a subject
    copies = examples[::4] + 0.05 * directions(60, dim, seed=2)
    both = torch.cat([copies, examples]).float()
    quality = [1.0] * 60 + [2.0] * 240
    found = semantic_dedup(both, quality, [1.0] * 300, threshold=0.98, clusters=12)
    assert found.kept == list(range(60, 300))
    assert [copy.like for copy in found.copies] == list(range(60, 300, 4))
    again = semantic_dedup(both, quality, [1.0] * 300, threshold=0.98, clusters=12)
    assert again.kept == found.kept and torch.equal(again.clusters, found.clusters)


def test_clusters_are_the_groups_there_are():
    centres = torch.eye(6, dtype=torch.float64).repeat_interleave(15, 0)
    rows = centres + 0.2 * directions(90, 6, seed=3)
    rows /= rows.norm(dim=1, keepdim=True)
    right = 0
    for seed in range(20):
        found = k_means(rows, 6, seed=seed)
        means = torch.stack([rows[found == cluster].mean(0) for cluster in range(6)])
        means /= means.norm(dim=1, keepdim=True)
        assert torch.equal((rows @ means.T).argmax(1), found)  # nothing is left to move
        groups = {tuple(set(group.tolist())) for group in found.view(6, 15)}
        right += len(groups) == 6 and all(len(group) == 1 for group in groups)
    assert right >= 7  # the rest end in a worse optimum, as k-means may


def test_rows_that_are_all_alike_end_too():
    rows = directions(1, 4).repeat(9, 1)
    assert k_means(rows, 3).shape == (9,)
    found = semantic_dedup(rows, [1] * 9, [1] * 9, threshold=0.999999, clusters=1)
    assert found.kept == [0] and [copy.cosine for copy in found.copies] == pytest.approx([1] * 8)


TWO = torch.eye(2)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: semantic_dedup(TWO, [1, -1], [1, 1], threshold=0.5), r"quality\[1\]=-1.0"),
        (lambda: semantic_dedup(TWO, [1, 1], [1], threshold=0.5), "difficulty=1"),
        (lambda: semantic_dedup(TWO, [1, 1], [1, 1], threshold=1.0), "threshold=1.0"),
        (lambda: semantic_dedup(TWO, [1, 1], [1, 1], threshold=0.5, clusters=3), "clusters=3"),
        (lambda: semantic_dedup(0 * TWO, [1, 1], [1, 1], threshold=0.5), r"embeddings\[0\]"),
        (lambda: semantic_dedup(TWO / 0, [1, 1], [1, 1], threshold=0.5), "direction"),
        (lambda: semantic_dedup(TWO[0], [1, 1], [1, 1], threshold=0.5), r"embeddings=\(2,\)"),
        (lambda: good_by_either([1], [1], top=0), "top=0"),
        (lambda: good_by_either([], []), "examples=0"),
        (lambda: good_by_either([1, math.inf], [1, 1]), r"rewards\[1\]=inf"),
    ],
)
def test_wrong_values_are_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()
