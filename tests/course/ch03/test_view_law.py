"""The law slider: the paper's arithmetic in all its digits, and the browser's."""

import itertools
import math
import random
import re

import pytest
import traitlets
from view_tools import run_js

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
    assert view.summary() == title and f"<title>{title}</title>" in view.static_svg()
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
    assert "below the smallest budget" in view.static_svg() and "image/svg+xml" in str(
        view._repr_mimebundle_()[0].keys()
    )


@pytest.mark.parametrize("name", PAIRS)
def test_what_is_drawn_lies_in_both_panels(name):
    for flops, nudge in itertools.product(STOPS, NUDGES):
        left, right, low, high = law.magnified(flops)
        assert left < flops < right
        assert law.LOW < tokens(PAIRS[name], flops, nudge) < law.HIGH
        assert low < tokens(PAIRS[name], left, nudge) < tokens(PAIRS[name], right, nudge) < high
        assert low < band(PAIRS[name], left)[0] and band(PAIRS[name], right)[1] < high


@pytest.mark.parametrize(
    "field, wrong", [("compute", 9e17), ("compute", 2e26), ("pair", "both"), ("nudge", 0.02)]
)
def test_the_state_is_checked(field, wrong):
    with pytest.raises(
        traitlets.TraitError, match=re.escape(f"{field}={wrong!r} is not allowed: ")
    ):
        setattr(LawSlider(), field, wrong)


def test_the_law_in_javascript(node, tmp_path):
    told = LawSlider().facts
    cases = list(itertools.product(PAIRS, STOPS, NUDGES))

    def js(function, some):
        return run_js(node, tmp_path, "law", function, *some)

    sent = [[told["pairs"][name], flops, nudge] for name, flops, nudge in cases]
    want = [tokens(PAIRS[name], flops, nudge) for name, flops, nudge in cases]
    assert js("tokensOf", sent) == pytest.approx(want, rel=1e-12)
    for name, pair in PAIRS.items():
        got = js("bandOf", [[told["pairs"][name], flops] for flops in STOPS])
        for ends, flops in zip(got, STOPS, strict=True):
            assert ends == pytest.approx(band(pair, flops), rel=1e-12)
    given = [[told, *case] for case in cases]
    assert js("headline", given) == [law.headline(*case) for case in cases]
    assert js("notes", given) == [law.notes(*case) for case in cases]
    assert js("tableRows", given[::29]) == [law.table_rows(*case) for case in cases[::29]]
    got = js("magnified", [[told, flops] for flops in STOPS])
    for ends, flops in zip(got, STOPS, strict=True):
        assert ends == pytest.approx(law.magnified(flops), rel=1e-12)
    spans = [(3e8, 2e14, (1,)), (2.5e25, 5.8e25, (1, 1.5, 2, 3, 4, 6))]
    assert js("marks", map(list, spans)) == [law.marks(*span) for span in spans]
