"""Reference curves: what they hold, what is inside, and what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama3lib.train import reference_curves
from llama3lib.train.reference_curves import (
    ReferenceCurve,
    blocks,
    load_reference_curve,
    make_reference_curve,
    reference_curve_names,
    save_reference_curve,
)

CURVES = [[4.0, 3.0, 2.0, 2.0, 1.0], [5.0, 3.0, 2.5, 1.5, 1.0], [3.0, 3.0, 2.0, 3.0, 9.0]]


def test_blocks_by_hand():
    band = make_reference_curve("x", CURVES, (1, 2, 3), 2, "here")
    assert band.steps == (2, 4)  # the fifth step is no whole block
    assert band.low == (3.0, 2.0) and band.high == (4.0, 2.5)
    assert band.mean == (pytest.approx(10.5 / 3, abs=1e-4), pytest.approx(6.5 / 3, abs=1e-4))
    assert (band.recipe, band.seeds, band.machine) == ("x", (1, 2, 3), "here")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 10), max_size=30), st.integers(1, 7))
def test_blocks_are_means_of_whole_blocks(losses, size):
    found = blocks(losses, size)
    assert len(found) == len(losses) // size
    for n, mean in enumerate(found):
        assert mean == pytest.approx(sum(losses[n * size : (n + 1) * size]) / size)


def test_inside_is_within_half_a_width_of_it():
    band = ReferenceCurve("x", (1, 2), (1, 2, 3), (2.0, 2.0, 2.0), (2.1, 2.1, 2.0), (2.2, 2.2, 2.0))
    found = band.compare([1.91, 2.29, 2.009])
    assert found.inside == (True, True, True) and found.share == 1.0
    assert found.losses == (1.91, 2.29, 2.009)
    assert band.compare([1.89, 2.31, 2.011]).inside == (False, False, False)
    assert band.compare([2.1, 5.0, 2.0]).share == pytest.approx(2 / 3)
    assert band.compare([2.1]).inside == (True,)  # a run that has only begun
    assert len(band.compare([2.1] * 50).inside) == 3  # one that is longer
    assert not band.compare([float("nan")]).inside[0]


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 5), st.integers(4, 20), st.integers(1, 4), st.integers(0, 1000))
def test_the_runs_a_band_is_made_of_are_inside(count, length, block, seed):
    curves = np.random.default_rng(seed).uniform(1, 5, (count, length)).tolist()
    band = make_reference_curve("x", curves, range(count), block, "")
    for curve in curves:
        assert band.compare(curve).share == 1.0
    for low, mean, high in zip(band.low, band.mean, band.high, strict=True):
        assert low <= mean <= high


def test_what_is_no_band_is_refused():
    for curves in ([], [[1.0, 2.0]], [[1.0, 2.0], [1.0]]):
        with pytest.raises(ValueError, match="curves is not allowed"):
            make_reference_curve("x", curves, (1,), 1, "")
    with pytest.raises(ValueError, match="block=9"):
        make_reference_curve("x", CURVES, (1, 2, 3), 9, "")
    with pytest.raises(ValueError, match="losses has 1 steps, a block needs 2"):
        make_reference_curve("x", CURVES, (1, 2, 3), 2, "").compare([3.0])


def test_written_and_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr(reference_curves, "REFERENCE_CURVES", tmp_path)
    band = make_reference_curve("x", CURVES, (1, 2, 3), 2, "here")
    save_reference_curve(band, tmp_path / "mine.json")
    assert reference_curve_names() == ["mine"] and load_reference_curve("mine") == band
    with pytest.raises(ValueError, match=r"name='other' is not allowed: one of \['mine'\]"):
        load_reference_curve("other")


@pytest.mark.parametrize("name", reference_curve_names())
def test_the_bands_that_come_along_are_sound(name):
    band = load_reference_curve(name)
    lengths = {len(row) for row in (band.steps, band.low, band.mean, band.high)}
    assert len(lengths) == 1 and len(band.seeds) >= 2
    assert all(a <= b <= c for a, b, c in zip(band.low, band.mean, band.high, strict=True))
    assert band.mean[-1] < band.mean[0] - 1
