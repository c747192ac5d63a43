"""Two views of chapter 03 in JupyterLab: they appear, a control moves, the kernel agrees."""

import pytest
from view_tools import kernel_says

from llama3lib.scaling import read_runs, stored_path
from widgets.ch03.views.isoflop import IsoFlopExplorer
from widgets.ch03.views.law import FLAGSHIP, PAIRS, STOPS, LawSlider, tokens
from widgets.ch03.views.valleys import STOPS as SIZES
from widgets.ch03.views.valleys import amount

MADE = """from llama3lib.scaling import read_runs, stored_path
from widgets import IsoFlopExplorer
runs = [run for run in read_runs(stored_path("toy")) if run.seed == 0]
view = IsoFlopExplorer(runs, stored=read_runs(stored_path("toy-long")))
view"""


def becomes(page, root, name, want):
    page.page.wait_for_function(
        "([root, name, want]) => document.querySelector(root).dataset[name] === want",
        arg=[root, name, want],
    )


def said(page, root):
    return page.locator(f"{root} .l3-title").inner_text()


@pytest.mark.browser
def test_isoflop_in_jupyterlab(open_notebook):
    page = open_notebook([MADE], theme="dark")
    root = page.locator(".l3-isoflop")
    root.wait_for()
    page.screenshot("isoflop-dark", ".l3-isoflop")
    page.set_theme("light")
    page.screenshot("isoflop-light", ".l3-isoflop")
    runs = [run for run in read_runs(stored_path("toy")) if run.seed == 0]
    want = IsoFlopExplorer(runs, stored=read_runs(stored_path("toy-long")))
    assert said(page, ".l3-isoflop") == want.summary()
    assert page.locator(".l3-isoflop circle.run").count() == len(runs) + 1  # and the key
    assert page.locator(".l3-isoflop rect.stored").count() == 5 + 1
    assert page.locator(".l3-isoflop .lowest").count() == 5 + 1
    size = page.locator(".l3-isoflop input[data-trait=stop]")
    assert page.median_move_ms(size, "ArrowLeft", 20) <= 100
    want.stop = 28
    becomes(page, ".l3-isoflop", "loss", f"{want.dot().loss:.6f}")
    assert said(page, ".l3-isoflop") == want.summary()
    kernel_says(page, f"view.stop, view.summary() == {want.summary()!r}", "(28, True)")
    budget = page.locator(".l3-isoflop input[data-trait=budget]")
    budget.focus()
    page.page.keyboard.press("End")
    want.budget = 1e12
    becomes(page, ".l3-isoflop", "budget", "1e12")
    assert float(root.get_attribute("data-size")) == pytest.approx(want.dot().parameters, rel=1e-6)
    told = size.get_attribute("aria-valuetext")
    assert told == f"{amount(want.dot().parameters)} parameters"
    page.screenshot("isoflop-stored", ".l3-isoflop")
    axis = page.locator(".l3-isoflop select[data-trait=axis]")
    axis.focus()
    page.page.keyboard.press("ArrowDown")
    becomes(page, ".l3-isoflop", "axis", "tokens")
    want.axis = "tokens"
    becomes(page, ".l3-isoflop", "loss", f"{want.dot().loss:.6f}")
    assert said(page, ".l3-isoflop") == want.summary()
    size.focus()
    page.page.keyboard.press("End")
    want.stop = SIZES
    becomes(page, ".l3-isoflop", "loss", f"{want.dot().loss:.6f}")
    kernel_says(page, "view.budget, view.axis, view.stop", repr((1e12, "tokens", SIZES)))
    page.locator(".l3-isoflop summary").click()
    page.page.wait_for_function(
        """(words) => [...document.querySelectorAll('.l3-isoflop tbody td')]
        .some((cell) => cell.textContent === words)""",
        arg=f"{want.dot().above:.3f}",
    )
    assert page.locator(".l3-isoflop tbody tr").count() == len(want.table())
    page.screenshot("isoflop-tokens", ".l3-isoflop")


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
