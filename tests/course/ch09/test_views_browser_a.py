"""Three views of chapter 09 in JupyterLab: they appear, a control moves, the kernel agrees."""

import inspect

import pytest
from view_samples import some_waits
from view_tools import kernel_says


def becomes(page, root, name, want):
    page.page.wait_for_function(
        "([root, name, want]) => document.querySelector(root).dataset[name] === want",
        arg=[root, name, want],
    )


@pytest.mark.browser
def test_latency_in_jupyterlab(open_notebook):
    made = f"{inspect.getsource(some_waits)}\nview = LatencyCurve(some_waits(), limit_ms=2.5)"
    cells = [f"from widgets import LatencyCurve\n{made}\nview", "LatencyCurve()"]
    page = open_notebook(cells, theme="dark")
    root = page.locator(".l3-latency").first
    root.wait_for()
    assert root.get_attribute("data-best") == "4"
    page.screenshot("latency-dark", ".l3-latency >> nth=1")
    page.set_theme("light")
    page.screenshot("latency-light", ".l3-latency >> nth=1")
    limit = page.locator(".l3-latency input[data-trait=limit_ms]").first
    limit.focus()
    page.page.keyboard.press("Home")
    becomes(page, ".l3-latency", "best", "none")
    kernel_says(page, "view.best()", "None")
    page.page.keyboard.press("End")
    becomes(page, ".l3-latency", "best", "8")
    assert page.median_move_ms(limit, "ArrowLeft", 10) <= 100
    page.page.keyboard.press("End")
    mix = page.locator(".l3-latency select[data-trait=mix]").first
    mix.focus()
    page.page.keyboard.press("ArrowDown")
    becomes(page, ".l3-latency", "mix", "long")
    becomes(page, ".l3-latency", "best", "4")
    kernel_says(page, "view.best()['limit']", "4")
    told = page.locator(".l3-latency ul").first.inner_text()
    assert "With more texts only the wait grows." in told
    judge = page.locator(".l3-latency select[data-trait=judge]").first
    judge.focus()
    page.page.keyboard.press("ArrowDown")
    kernel_says(page, "view.judge", "'median_ms'")
    stored = page.locator(".l3-latency select[data-trait=mix]").nth(1)
    stored.focus()
    page.page.keyboard.press("ArrowDown")
    page.screenshot("latency-long", ".l3-latency >> nth=1")
