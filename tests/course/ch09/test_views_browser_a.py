"""Three views of chapter 09 in JupyterLab: they appear, a control moves, the kernel agrees."""

import inspect

import pytest
from view_samples import some_waits
from view_tools import kernel_says

from widgets.ch09.views.batching import BatchingTimeline
from widgets.ch09.views.paging import headline, room, tell


def becomes(page, root, name, want):
    page.page.wait_for_function(
        "([root, name, want]) => document.querySelector(root).dataset[name] === want",
        arg=[root, name, want],
    )


@pytest.mark.browser
def test_paging_in_jupyterlab(open_notebook):
    page = open_notebook(
        ["from widgets import PagingBoard\nview = PagingBoard(3)\nview"], theme="dark"
    )
    root = page.locator(".l3-paging")
    root.wait_for()
    page.screenshot("paging-dark", ".l3-paging")
    page.set_theme("light")
    page.screenshot("paging-light", ".l3-paging")
    assert root.get_attribute("data-copies") == "1"
    assert page.locator(".l3-paging .copy").count() == 1
    assert page.locator(".l3-paging .block.taken").count() == 3
    assert page.locator(".l3-paging .block.free").count() == 13
    step = page.locator(".l3-paging input[data-trait=step]")
    step.focus()
    for _ in range(5):
        page.page.keyboard.press("ArrowRight")
    moment = tell(16, True)[8]
    becomes(page, ".l3-paging", "taken", str(room(moment, 16).taken_blocks))
    assert page.locator(".l3-paging .l3-title").inner_text() == headline(moment, 16)
    assert page.locator(".l3-paging .happened").inner_text() == moment.words
    assert page.locator(".l3-paging .who").first.text_content() == "ABCD"
    kernel_says(page, "view.step, view.room().stored", repr((8, room(moment, 16).stored)))
    page.screenshot("paging-four", ".l3-paging")
    share = page.locator(".l3-paging input[data-trait=sharing]")
    share.focus()
    page.page.keyboard.press("Space")
    becomes(page, ".l3-paging", "taken", str(room(tell(16, False)[8], 16).taken_blocks))
    page.page.keyboard.press("Space")
    size = page.locator(".l3-paging input[data-trait=block_size]")
    assert page.median_move_ms(size, "ArrowLeft", 2) <= 100
    becomes(page, ".l3-paging", "taken", str(room(tell(4, True)[8], 4).taken_blocks))
    kernel_says(page, "view.block_size, view.sharing", "(4, True)")
    page.screenshot("paging-small", ".l3-paging")
    assert page.median_move_ms(step, "ArrowRight", 6) <= 100  # 64 blocks: the most to draw
    assert page.locator(".l3-paging .block.kept").count() > 5
    page.locator(".l3-paging summary").click()
    page.screenshot("paging-end", ".l3-paging")


@pytest.mark.browser
def test_batching_in_jupyterlab(open_notebook):
    page = open_notebook(
        ["from widgets import BatchingTimeline\nview = BatchingTimeline()\nview"], theme="dark"
    )
    root = page.locator(".l3-batching")
    root.wait_for()
    page.screenshot("batching-dark", ".l3-batching")
    page.set_theme("light")
    page.screenshot("batching-light", ".l3-batching")
    want = BatchingTimeline()
    padding = [span for span in want.cells()["static"]["spans"] if span[2] == 2]
    assert page.locator(".l3-batching .span.padding").count() == len(padding) + 1  # and the key
    mode = page.locator(".l3-batching select[data-trait=mode]")
    mode.focus()
    page.page.keyboard.press("ArrowDown")
    becomes(page, ".l3-batching", "mode", "continuous")
    want.mode = "continuous"
    becomes(page, ".l3-batching", "end", f"{want.cells()['continuous']['end']:g}")
    assert page.locator(".l3-batching .l3-title").inner_text() == want.summary()
    kernel_says(page, f"view.mode == 'continuous' and view.summary() == {want.summary()!r}", "True")
    page.screenshot("batching-continuous", ".l3-batching")
    page.page.keyboard.press("ArrowDown")
    becomes(page, ".l3-batching", "mode", "pieces")
    seats = page.locator(".l3-batching input[data-trait=seats]")
    assert page.median_move_ms(seats, "ArrowRight", 2) <= 100
    spread = page.locator(".l3-batching input[data-trait=spread]")
    assert page.median_move_ms(spread, "ArrowRight", 1) <= 100
    assert spread.get_attribute("aria-valuetext") == "2 to 202 tokens"
    kernel_says(page, "view.seats, view.spread", "(8, 1.0)")
    page.screenshot("batching-eight", ".l3-batching")


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
