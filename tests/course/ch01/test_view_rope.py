"""The RoPE explorer: the library's frequencies, an attention score by hand, Node, JupyterLab."""

import math

import pytest
import torch
import traitlets
from view_tools import kernel_says, run_js

from llama3lib.model.rope import apply_rotary_emb, precompute_freqs_cis
from widgets.ch01.views.rope import (
    BASES,
    MAX_POSITION,
    RopeExplorer,
    bands,
    base_stops,
    distances,
    draw_rope,
    frequencies,
    hand_angles,
    headline,
    legend,
    position_stops,
    score_at,
    score_curve,
)

CASES = [(128, base, scaled) for base in (*BASES, 70_000.0) for scaled in (False, True)]
CASES += [(64, 500_000.0, True)]


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
    for field, wrong in (("head_dim", 63), ("position", -1), ("base", 1.0), ("base", 8e6)):
        with pytest.raises(traitlets.TraitError):
            setattr(view, field, wrong)


def test_static_picture_and_table():
    svg = draw_rope(128, 500_000.0, True, 8192)
    assert "29 kept, 6 blended, 29 divided by 8" in svg and svg.count("<circle") >= 64
    rows = RopeExplorer(8192, scaled=True).table()
    assert len(rows) == 64
    assert (rows[0]["tokens for one turn"], rows[63]["scaling"]) == ("6.3", "divided")
    longest = float(RopeExplorer().table()[63]["tokens for one turn"].replace(",", ""))
    assert longest == pytest.approx(2.56e6, rel=0.01)


def test_javascript_agrees_with_python(node, tmp_path):
    got = run_js(node, tmp_path, "rope", "frequencies", *map(list, CASES))
    for case, found in zip(CASES, got, strict=True):
        assert found == pytest.approx(frequencies(*case).tolist(), rel=1e-12)
    spots = [0, 1, 7, 1024, 131_072]
    scores = run_js(node, tmp_path, "rope", "scoreAt", *[[f, d] for f in got for d in spots])
    want = [score_at(*case, d) for case in CASES for d in spots]
    assert scores == pytest.approx(want, abs=1e-8)  # angles of 131,072 radians: 1e-11 each
    titles = run_js(node, tmp_path, "rope", "headline", *[[f, d] for f in got for d in spots])
    assert titles == [headline(*case, d) for case in CASES for d in spots]
    assert run_js(node, tmp_path, "rope", "bands", *[[c[0], c[1]] for c in CASES]) == [
        bands(c[0], c[1]) for c in CASES
    ]
    lines = run_js(node, tmp_path, "rope", "legend", *map(list, CASES))
    assert [[tuple(line) for line in lines_] for lines_ in lines] == [legend(*c) for c in CASES]
    assert run_js(node, tmp_path, "rope", "positionStops", []) == [position_stops()]
    assert run_js(node, tmp_path, "rope", "distances", []) == [distances()]
    assert run_js(node, tmp_path, "rope", "baseStops", [])[0] == pytest.approx(base_stops())


@pytest.mark.browser
def test_in_jupyterlab(open_notebook):
    page = open_notebook(["from widgets import RopeExplorer\nview = RopeExplorer(3)\nview"])
    root = page.locator(".l3-rope")
    root.wait_for()
    assert page.locator(".l3-rope .hand").count() == 64
    page.screenshot("rope-light", ".l3-rope")

    position = page.locator(".l3-rope input[data-trait=position]")
    position.focus()
    for _ in range(5):
        page.page.keyboard.press("ArrowRight")
    page.page.wait_for_function(
        "() => document.querySelector('.l3-rope .l3-title').textContent.includes('position 8,')"
    )
    assert float(root.get_attribute("data-score")) == pytest.approx(
        score_at(128, 500_000.0, False, 8), abs=1e-6
    )
    hand = page.locator(".l3-rope .hand").nth(1)
    angle = hand_angles(128, 500_000.0, False, 8)[1]
    reach = float(hand.get_attribute("x2")) - float(hand.get_attribute("x1"))
    assert reach == pytest.approx(16.5 * math.cos(angle), abs=1e-6)

    page.locator(".l3-rope input[data-trait=scaled]").focus()
    page.page.keyboard.press("Space")
    page.page.wait_for_function(
        "() => document.querySelector('.l3-rope svg').textContent.includes('6 blended')"
    )
    page.locator(".l3-rope input[data-trait=base]").focus()
    page.page.keyboard.press("Home")
    page.page.wait_for_function(
        "() => document.querySelector('.l3-rope svg').textContent.includes('base 10,000, scaled')"
    )
    kernel_says(page, "view.position, view.base, view.scaled", "(8, 10000.0, True)")
    assert float(root.get_attribute("data-score")) == pytest.approx(
        score_at(128, 10_000.0, True, 8), abs=1e-6
    )
    assert page.median_move_ms(position) <= 100
    assert page.median_move_ms(page.locator(".l3-rope input[data-trait=base]")) <= 100


@pytest.mark.browser
def test_dark_theme(open_notebook):
    page = open_notebook(
        ["from widgets import RopeExplorer\nRopeExplorer(8192, scaled=True)"],
        theme="dark",
    )
    page.locator(".l3-rope .hand").first.wait_for(state="attached")
    page.screenshot("rope-dark", ".l3-rope")
    light = "getComputedStyle(document.querySelector('.l3-rope .hand')).stroke"
    assert page.page.evaluate(f"() => {light}").startswith("rgba(255, 255, 255")
