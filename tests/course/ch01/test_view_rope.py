"""The RoPE explorer: the library's frequencies, an attention score by hand, the picture."""

import math
import re

import pytest
import torch

from llama3lib.model.rope import apply_rotary_emb, precompute_freqs_cis
from widgets.ch01.views import hands
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
    view.shows = "clocks"
    assert ">all 64 frequencies as the base gives them<" in "".join(view.frame()["pieces"])


def test_table():
    rows = RopeExplorer(8192, scaled=True).table()
    assert len(rows) == 64
    assert (rows[0]["tokens for one turn"], rows[63]["scaling"]) == ("6.3", "divided")
    longest = float(
        RopeExplorer(shows="clocks").table()[63]["tokens for one turn"].replace(",", "")
    )
    assert longest == pytest.approx(2.56e6, rel=0.01)


@pytest.mark.parametrize("position, distance", [(5, 5), (12, 5), (64, 5), (40, 0), (33, 32)])
def test_hands_are_the_librarys_rotation(position, distance):
    table = precompute_freqs_cis(128, 65, BASES[1], None, dtype=torch.complex128)

    def turned(hand, at):
        x = torch.tensor([hand.real, hand.imag], dtype=torch.float64).repeat(64)
        return apply_rotary_emb(x[None, None, None], table[None, [at]]).reshape(64, 2)

    query, key = turned(hands.QUERY, position), turned(hands.KEY, position - distance)
    shown = hands.pairs_shown(128)
    assert shown == [0, 8, 16, 24]
    found = hands.hands_at(128, BASES[1], position, hands.QUERY)
    assert [part for z in found for part in (z.real, z.imag)] == pytest.approx(
        query[shown].flatten().tolist()
    )
    scores = (query * key).sum(-1)[shown]
    state = 128, BASES[1], position, distance
    assert hands.pair_scores(*state) == pytest.approx(scores.tolist())
    cosines = [math.cos(math.radians(angle)) for angle in hands.angles_between(*state)]
    assert cosines == pytest.approx(scores.tolist())


def test_hands_that_move_together_keep_angles_and_score():
    view = RopeExplorer(12, distance=5)
    assert view.shows == "hands" and "only the distance of 5 counts" in view.summary()
    told = {(view.score(), *(r["angle between"] for r in view.table()))}
    first = view.frame()["pieces"]
    for position in (5, 30, 64):
        view.position = position
        told.add((round(view.score(), 9), *(r["angle between"] for r in view.table())))
        assert view.frame()["pieces"] != first
    assert len({(round(one[0], 9), *one[1:]) for one in told}) == 1
    before = view.score()
    view.distance = 6
    assert abs(view.score() - before) > 0.1 and view.position == 64


def test_hands_of_the_picture_point_where_the_numbers_say():
    picture = "".join(RopeExplorer(20, distance=7).frame()["pieces"])
    degrees = [float(one) for one in re.findall(r"rotate\(([-\d.]+)\)", picture)]
    want = []
    for key, query in zip(
        hands.hands_at(128, BASES[1], 13, hands.KEY),
        hands.hands_at(128, BASES[1], 20, hands.QUERY),
        strict=True,
    ):
        want += [key, query]  # the query lies above
    for turned, hand in zip(degrees, want, strict=True):
        there = math.radians(-turned)
        assert (math.cos(there), math.sin(there)) == pytest.approx((hand.real, hand.imag), abs=2e-3)


def test_faces_show_their_own_controls():
    view = RopeExplorer()
    for shows, hidden in (("hands", ["base"]), ("clocks", ["distance"]), ("scaled", ["distance"])):
        view.shows = shows
        stops = view.frame()["stops"]
        assert [name for name, options in stops.items() if not options] == hidden
    view.shows = "hands"
    with pytest.raises(ValueError, match="base=1.0 is not allowed: hidden at the other values"):
        view.base = 1.0
    assert RopeExplorer(base=10_000.0).shows == "clocks"
    assert hands.pairs_shown(2) == [0] and RopeExplorer(head_dim=2).summary()
