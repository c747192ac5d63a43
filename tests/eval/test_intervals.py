"""Intervals: the printed ones of the paper, SciPy, and how often the truth is inside."""

import math

import numpy as np
import pytest

from llama3lib.eval import (
    bootstrap_interval,
    confidence_interval,
    paired_difference,
    wilson_interval,
)
from llama3lib.paper.results import interval


@pytest.mark.parametrize(("score", "n"), [(0.952, 21), (0.81, 21), (0.5, 100), (0.0, 7), (1.0, 7)])
def test_the_papers_formula_and_its_printed_values(score, n):
    made = confidence_interval(score, n)
    assert made.half_width == pytest.approx(1.96 * math.sqrt(score * (1 - score) / n), abs=1e-15)
    assert 100 * made.half_width == pytest.approx(interval(100 * score, n))
    assert made.level == 0.95 and made.holds(score)


def test_quality_is_printed_and_passes_one():
    made = confidence_interval(0.952, 21)  # 405B on QuALITY, Table 21: 95.2 ± 9.1
    assert round(100 * made.half_width, 1) == 9.1 and made.high > 1
    assert wilson_interval(0.952, 21).high < 1


@pytest.mark.parametrize("n", [1, 8, 50, 14_042])
@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_wilson_equals_scipy(n, level):
    stats = pytest.importorskip("scipy.stats")
    for right in {0, 1, n // 2, n}:
        want = stats.binomtest(right, n).proportion_ci(level, method="wilson")
        made = wilson_interval(right / n, n, level)
        assert (made.low, made.high) == pytest.approx((want.low, want.high), abs=1e-12)
        assert made.holds(right / n)


def coverage(make, share, n):
    """Exact probability that the interval of a sample holds the true share."""
    weights = [math.comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(n + 1)]
    return sum(w for k, w in enumerate(weights) if make(k / n, n).holds(share))


def test_the_normal_interval_is_bad_near_one_and_wilson_is_not():
    assert coverage(confidence_interval, 0.97, 50) < 0.80  # it promises 0.95
    assert coverage(wilson_interval, 0.97, 50) > 0.93
    assert coverage(confidence_interval, 0.5, 400) > 0.93  # in the middle both are good
    assert confidence_interval(1.0, 50).half_width == 0
    assert wilson_interval(1.0, 50).low == pytest.approx(50 / (50 + 1.959964**2), abs=1e-6)


def test_bootstrap_comes_near_the_closed_form_and_repeats():
    values = np.random.default_rng(0).normal(3.0, 2.0, 400)
    made = bootstrap_interval(values, resamples=4000, seed=1)
    assert made.score == pytest.approx(values.mean())
    assert made.half_width == pytest.approx(1.96 * values.std() / 20, rel=0.06)
    assert made == bootstrap_interval(values, resamples=4000, seed=1)
    assert made != bootstrap_interval(values, resamples=4000, seed=2)


def test_bootstrap_in_blocks_is_bootstrap(monkeypatch):
    values = np.random.default_rng(0).random(50)
    whole = bootstrap_interval(values, resamples=5000)
    monkeypatch.setattr("llama3lib.eval.intervals._BLOCK", 50 * 7)
    pieces = bootstrap_interval(values, resamples=5000)
    assert pieces.low == pytest.approx(whole.low, abs=0.01)
    assert pieces.high == pytest.approx(whole.high, abs=0.01)


def test_bootstrap_equals_scipys():
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(3).exponential(size=80)
    want = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    made = bootstrap_interval(values, resamples=20_000)
    assert made.low == pytest.approx(want.low, abs=0.01)
    assert made.high == pytest.approx(want.high, abs=0.01)


def test_paired_difference_is_the_interval_of_the_differences():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    hard = rng.random(500)
    a, b = (hard < 0.70).astype(float), (hard + rng.normal(0, 0.02, 500) < 0.65).astype(float)
    made = paired_difference(a, b)
    want = stats.norm.interval(0.95, (a - b).mean(), stats.sem(a - b))
    assert (made.low, made.high) == pytest.approx(want)
    assert made.low > 0  # the pairs tell the two apart ...
    first, second = confidence_interval(a.mean(), 500), confidence_interval(b.mean(), 500)
    assert first.low < second.high  # ... where two separate intervals overlap
    assert paired_difference(a.tolist(), b.tolist()) == made
    back = paired_difference(b, a)
    assert (back.low, back.high) == pytest.approx((-made.high, -made.low))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: confidence_interval(1.2, 5), r"score=1.2 is not allowed: a fraction, 0 to 1"),
        (lambda: confidence_interval(math.nan, 5), "score=nan"),
        (lambda: confidence_interval(0.5, 0), "n=0 is not allowed"),
        (lambda: wilson_interval(0.5, 2.5), "n=2.5 is not allowed"),
        (lambda: wilson_interval(0.5, 5, level=1), "level=1 is not allowed"),
        (lambda: bootstrap_interval([1.0]), r"values has shape \(1,\)"),
        (lambda: bootstrap_interval([1.0, math.nan]), "values has nan"),
        (lambda: bootstrap_interval([1, 2], resamples=0), "resamples=0 is not allowed"),
        (lambda: paired_difference([1, 0], [1, 0, 1]), "second has 3 values: the 2 of first"),
        (lambda: paired_difference([1, math.inf], [1, 0]), "first has inf"),
    ],
)
def test_wrong_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
