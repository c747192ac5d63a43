"""The law in JupyterLab: it appears, a control moves, the kernel agrees."""

import pytest
from view_tools import kernel_says

from widgets.ch03.views.law import FLAGSHIP, PAIRS, STOPS, LawSlider, tokens


def becomes(page, root, name, want):
    page.page.wait_for_function(
        "([root, name, want]) => document.querySelector(root).dataset[name] === want",
        arg=[root, name, want],
    )


def said(page, root):
    return page.locator(f"{root} .l3-title").inner_text()


@pytest.mark.browser
def test_law_in_jupyterlab(open_notebook):
    page = open_notebook(["from widgets import LawSlider\nview = LawSlider()\nview"], theme="dark")
    root = page.locator(".l3-law")
    root.wait_for()
    page.screenshot("law-dark", ".l3-law")
    page.set_theme("light")
    page.screenshot("law-light", ".l3-law")
    want = LawSlider()
    assert said(page, ".l3-law") == want.summary()
    assert float(root.get_attribute("data-tokens")) == pytest.approx(want.tokens(), rel=1e-6)
    assert page.locator(".l3-law .budget").count() == 10
    pair = page.locator(".l3-law select[data-trait=pair]")
    pair.focus()
    page.page.keyboard.press("ArrowDown")
    becomes(page, ".l3-law", "pair", "figure")
    want.pair = "figure"
    assert said(page, ".l3-law") == want.summary()
    assert float(root.get_attribute("data-tokens")) == pytest.approx(want.tokens(), rel=1e-6)
    page.screenshot("law-figure", ".l3-law")
    nudge = page.locator(".l3-law input[data-trait=nudge]")
    assert page.median_move_ms(nudge, "ArrowRight", 10) <= 100
    assert nudge.get_attribute("aria-valuetext") == "+0.010"
    nudged = tokens(PAIRS["figure"], FLAGSHIP, 0.01)
    assert float(root.get_attribute("data-tokens")) == pytest.approx(nudged, rel=1e-6)
    kernel_says(page, "view.pair, view.nudge", "('figure', 0.01)")
    page.screenshot("law-nudged", ".l3-law")
    compute = page.locator(".l3-law input[data-trait=compute]")
    assert page.median_move_ms(compute, "ArrowLeft", 20) <= 100
    want.compute, want.nudge = STOPS[STOPS.index(FLAGSHIP) - 20], 0.01
    assert said(page, ".l3-law") == want.summary()
    kernel_says(page, "view.compute", repr(want.compute))
    kernel_says(page, f"view.summary() == {want.summary()!r}", "True")
    compute.focus()
    page.page.keyboard.press("Home")
    want.compute = 1e18
    page.page.wait_for_function(
        "(words) => document.querySelector('.l3-law .l3-title').textContent === words",
        arg=want.summary(),
    )
    page.locator(".l3-law summary").click()
    page.screenshot("law-table", ".l3-law")
