"""The law slider: the paper's arithmetic in all its digits."""

import itertools
import math
import random

import pytest

from llama3lib.paper import scaling as facts
from widgets.ch03.views import law
from widgets.ch03.views.law import (
    FLAGSHIP,
    NUDGES,
    PAIRS,
    STOPS,
    LawSlider,
    band,
    parameters,
    tokens,
)

ROWS = {"printed": "text", "figure": "figure"}


@pytest.mark.parametrize("name", PAIRS)
def test_both_pairs_give_the_papers_table(name):
    pair = PAIRS[name]
    exponent, coefficient, trillions, billions = facts.LAW_TABLE.rows[ROWS[name]]
    assert (pair.exponent, pair.coefficient) == (exponent, coefficient)
    read = tokens(pair, FLAGSHIP)
    assert round(read / 1e12, 2) == trillions
    assert round(parameters(FLAGSHIP, read) / 1e9) == billions
    at_1e20 = tokens(pair, 1e20)
    told = [float(f"{v:.4g}") for v in (at_1e20, parameters(1e20, at_1e20))]
    assert told == list(facts.AT_1E20.rows[ROWS[name]])


def test_the_band_ends_at_the_corners_of_rounding():
    low, high = band(PAIRS["printed"], FLAGSHIP)
    assert round(low / 1e12, 2) == facts.LAW_TABLE.rows["lower corner of rounding"][2]
    assert round(high / 1e12, 2) == facts.LAW_TABLE.rows["upper corner of rounding"][2]
    assert high < facts.OPTIMAL_TOKENS.value
    low, high = band(PAIRS["figure"], FLAGSHIP)
    assert low < facts.OPTIMAL_TOKENS.value < high


@pytest.mark.parametrize("name", PAIRS)
def test_no_pair_that_rounds_alike_leaves_the_band(name):
    pair, rng = PAIRS[name], random.Random(1)
    digits = len(f"{pair.exponent:g}") - 2
    for flops in (1e18, 1e22, FLAGSHIP, 1e26):
        low, high = band(pair, flops)
        for _ in range(200):
            exponent = pair.exponent + rng.uniform(-pair.half, pair.half)
            coefficient = pair.coefficient + rng.uniform(-pair.half, pair.half)
            assert abs(round(exponent, digits) - pair.exponent) < 1e-9
            assert low <= facts.optimal_tokens(flops, exponent, coefficient) <= high


def test_a_nudge_multiplies_by_compute_to_that_power():
    assert round(law.sensitivity(FLAGSHIP), 1) == facts.SENSITIVITY.value
    for pair, nudge in itertools.product(PAIRS.values(), NUDGES):
        ratio = tokens(pair, FLAGSHIP, nudge) / tokens(pair, FLAGSHIP)
        assert math.log(ratio) == pytest.approx(nudge * facts.SENSITIVITY.value, abs=1e-3)
    shift = tokens(PAIRS["printed"], FLAGSHIP, 0.005) / tokens(PAIRS["printed"], FLAGSHIP) - 1
    assert round(shift, 2) == facts.SHIFT_OF_ALPHA.value
    assert round(law.orders_beyond(FLAGSHIP), 2) == facts.ORDERS.value


def test_the_stops_hold_the_papers_budgets():
    assert {*facts.BUDGETS.value, FLAGSHIP, 1e18, 1e20, 1e26} <= {*STOPS}
    assert list(STOPS) == sorted(STOPS) and 0.0 in NUDGES
    assert max(later / one for one, later in itertools.pairwise(STOPS)) < 1.35


def test_words_table_and_picture_tell_the_same():
    view = LawSlider()
    title = "At 3.8e25 FLOPs the printed pair says 10.5T tokens; the paper says 16.55T"
    assert view.summary() == title
    svg = view.static_svg()
    assert "7.66T to 14.3T tokens; 16.55T is out of their reach" in svg
    assert "3.58 orders to 3.8e25" in svg and "402B on 16.55T" in svg and "605B parameters" in svg
    assert "ln C = 58.9: 0.001 more in alpha is 6.1% more tokens." in svg
    view.pair = "figure"
    assert view.summary().startswith("At 3.8e25 FLOPs the figure's pair says 16.3T tokens")
    assert "16.55T is among them." in view.static_svg()
    view.nudge = -0.01
    assert "the figure's pair with alpha 0.527 says 9.04T" in view.summary()
    assert view.tokens() == facts.optimal_tokens(FLAGSHIP, 0.537 - 0.01, 0.299)
    assert view.frame()["facts"] == {"tokens": str(view.tokens())}
    assert "The nudge goes beyond that rounding." in view.static_svg()
    view.compute, view.nudge, view.pair = 1e20, 0.003, "printed"
    assert view.summary().endswith("says 13.3B tokens; the figure's pair says 16.4B")
    assert "beyond that rounding" not in view.static_svg()
    assert "This is within the budgets of Figure 2, 6e18 to 1e22 FLOPs." in view.static_svg()
    rows = {row["FLOPs"]: row for row in view.table()}
    assert len(rows) == 10 and rows["3.8e25"]["tokens (0.537, 0.299)"] == "16.3T"
    assert rows["1e20"]["tokens (0.53, 0.29)"] == "11.5B"
    assert rows["1e20"]["chosen, nudged"] == "13.3B"
    assert rows["3.8e25"]["beyond Figure 2"] == "3.58 orders"
    view.compute = 1e18
    assert "below the smallest budget" in view.static_svg()


@pytest.mark.parametrize("name", PAIRS)
def test_what_is_drawn_lies_in_both_panels(name):
    for flops, nudge in itertools.product(STOPS, NUDGES):
        left, right, low, high = law.magnified(flops)
        assert left < flops < right
        assert law.LOW < tokens(PAIRS[name], flops, nudge) < law.HIGH
        assert low < tokens(PAIRS[name], left, nudge) < tokens(PAIRS[name], right, nudge) < high
        assert low < band(PAIRS[name], left)[0] and band(PAIRS[name], right)[1] < high
