"""The RoPE explorer: the library's frequencies, an attention score by hand, the picture."""

import math
import re

import pytest
import torch

from llama3lib.model.rope import apply_rotary_emb, precompute_freqs_cis
from widgets.ch01.views.rope import (
    BASES,
    MAX_POSITION,
    RopeExplorer,
    bands,
    base_stops,
    distances,
    frequencies,
    hand_angles,
    position_stops,
    score_at,
    score_curve,
)


def test_released_scaling_keeps_29_blends_6_divides_29():
    found = bands(128, 500_000.0)
    assert [found.count(band) for band in ("kept", "blended", "divided")] == [29, 6, 29]
    assert [i for i, band in enumerate(found) if band == "blended"] == list(range(29, 35))


@pytest.mark.parametrize("base", [10_000.0, 70_000.0, 500_000.0])
def test_bands_say_what_happens_to_the_frequency(base):
    before, after = frequencies(128, base, False), frequencies(128, base, True)
    for band, ratio in zip(bands(128, base), (before / after).tolist(), strict=True):
        if band == "blended":
            assert 1 < ratio < 8
        else:
            assert ratio == pytest.approx(1 if band == "kept" else 8)


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("distance", [0, 1, 17, 400])
def test_score_is_that_of_a_key_equal_to_its_query(scaled, distance):
    from llama3lib.model import RopeScaling

    rule = RopeScaling() if scaled else None
    table = precompute_freqs_cis(32, 512, 500_000.0, rule, dtype=torch.complex128)
    x = torch.ones(1, 1, 1, 32, dtype=torch.float64)  # the same length in every pair
    at_500, before = (apply_rotary_emb(x, table[None, [p]]) for p in (500, 500 - distance))
    share = float((at_500 * before).sum() / (x * x).sum())
    assert score_at(32, 500_000.0, scaled, distance) == pytest.approx(share, abs=1e-9)


def test_hands_turn_with_the_position():
    assert hand_angles(4, 10_000.0, False, 3) == pytest.approx([3.0, 3 * 10_000**-0.5])
    assert hand_angles(128, 500_000.0, True, 0) == [0.0] * 64


def test_stops_hold_the_marked_values():
    bases, positions = base_stops(), position_stops()
    assert (bases[0], bases[-1], len(bases)) == (10_000.0, 500_000.0, 21)
    ratios = [b / a for a, b in zip(bases, bases[1:], strict=False)]
    assert max(ratios) == pytest.approx(min(ratios))
    assert positions[:18] == [*range(17), 17] and positions[-1] == MAX_POSITION
    assert sorted(set(positions)) == positions
    assert {64, 1024, 8192} <= set(positions)


def test_curve_belongs_to_its_distances():
    assert (distances()[0], distances()[-1]) == (1, MAX_POSITION)
    curve = score_curve(128, 500_000.0, True)
    at = distances().index(MAX_POSITION)
    assert curve[at] == pytest.approx(score_at(128, 500_000.0, True, MAX_POSITION))
    assert -1 <= min(curve) and max(curve) <= 1


def test_a_larger_base_holds_far_scores_up():
    far = [d for d in distances() if d > 1000]
    mean = {base: sum(score_at(128, base, False, d) for d in far) / len(far) for base in BASES}
    assert mean[500_000.0] > mean[10_000.0] + 0.1


def test_state_is_checked():
    view = RopeExplorer(8192, scaled=True)
    assert "32 of 64 hands" in view.summary()
    assert view.score() == pytest.approx(score_at(128, 500_000.0, True, 8192))
    assert float(view.frame()["facts"]["score"]) == pytest.approx(view.score(), abs=1e-6)
    for field, wrong in (("position", -1), ("base", 1.0), ("base", 8e6)):
        with pytest.raises(ValueError, match=f"{field}={wrong} is not allowed"):
            setattr(view, field, wrong)
    for wrong in (63, 0, 130):
        with pytest.raises(ValueError, match=f"head_dim={wrong} is not allowed: an even whole"):
            RopeExplorer(head_dim=wrong)


def test_hands_and_rims_of_the_picture():
    view = RopeExplorer(8192, scaled=True)
    picture = "".join(view.frame()["pieces"])
    turned = [float(degrees) for degrees in re.findall(r"rotate\(([-\d.]+)\)", picture)]
    angles = hand_angles(128, 500_000.0, True, 8192)
    assert turned == pytest.approx([-math.degrees(angle) for angle in angles], abs=0.06)
    dashes = re.findall(r'stroke-dasharray="(5 3|1.5 2.5)"', picture)
    assert [dashes.count(dash) for dash in ("5 3", "1.5 2.5")] == [6 + 1, 29 + 1]  # and the legend
    for words in ("29 kept", "6 blended", "29 divided by 8", "solid: base 500,000, scaled"):
        assert f">{words}" in picture
    view.scaled = False
    assert ">all 64 frequencies as the base gives them<" in "".join(view.frame()["pieces"])


def test_table():
    rows = RopeExplorer(8192, scaled=True).table()
    assert len(rows) == 64
    assert (rows[0]["tokens for one turn"], rows[63]["scaling"]) == ("6.3", "divided")
    longest = float(RopeExplorer().table()[63]["tokens for one turn"].replace(",", ""))
    assert longest == pytest.approx(2.56e6, rel=0.01)
