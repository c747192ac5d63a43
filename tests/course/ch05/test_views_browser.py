"""The four views of chapter 05 in JupyterLab: they appear, a control moves, the kernel agrees."""

import inspect

import pytest
from view_samples import some_band, some_grids, some_losses, some_points
from view_tools import kernel_says

from widgets.ch05.views import band, schedule
from widgets.ch05.views.schedule import USED_UP


def cell(*functions, code):
    """A notebook's cell with these functions of this file in it."""
    return "\n".join([*map(inspect.getsource, functions), code])


def becomes(page, root, name, want):
    page.page.wait_for_function(
        "([root, name, want]) => document.querySelector(root).dataset[name] === want",
        arg=[root, name, want],
    )


@pytest.mark.browser
def test_schedule_in_jupyterlab(open_notebook):
    page = open_notebook(
        ["from widgets import ScheduleDesigner\nview = ScheduleDesigner()\nview"], theme="dark"
    )
    page.locator(".l3-schedule").wait_for()
    page.screenshot("schedule-dark", ".l3-schedule")
    page.set_theme("light")
    page.screenshot("schedule-light", ".l3-schedule")
    total = page.locator(".l3-schedule input[data-trait=total]")
    total.focus()
    page.page.keyboard.press("ArrowRight")
    want = schedule.rate(USED_UP, 8000, 1_400_000)
    got = page.locator(".l3-schedule").get_attribute("data-rate")
    assert float(got) == pytest.approx(want, rel=1e-6)
    kernel_says(page, "view.total, view.rate_at_end()", repr((1_400_000, want)))
    axis = page.locator(".l3-schedule select[data-trait=axis]")
    axis.focus()
    page.page.keyboard.press("ArrowDown")
    becomes(page, ".l3-schedule", "axis", "tokens")
    assert "252M of 79.7B tokens" in page.locator(".l3-schedule svg").text_content()
    warmup = page.locator(".l3-schedule input[data-trait=warmup]")
    assert page.median_move_ms(warmup, "ArrowRight", 3) <= 100
    page.screenshot("schedule-moved", ".l3-schedule")


@pytest.mark.browser
def test_band_in_jupyterlab(open_notebook):
    code = "from widgets import BandView\nfrom llama3lib.train import ReferenceCurve"
    # first with a message at every step, to see what one costs the kernel
    cost = "import time\nbegun = time.perf_counter()\nfor step in range(1, 201):\n"
    cost += "    view._sent = 0\n    view.on_step({'step': step, 'loss': 2.0})\n"
    cost += "cost = (time.perf_counter() - begun) / 200"
    live = "for step, loss in enumerate(some_losses(0.04)[:155], start=1):\n"
    live += "    view.on_step({'step': step, 'loss': loss, 'phase': 'warm'})\n    time.sleep(0.01)"
    view = cell(some_band, some_losses, code="view = BandView(some_band())\nview")
    page = open_notebook([f"{code}\n{view}", cost, live])
    root = page.locator(".l3-band")
    root.wait_for()
    becomes(page, ".l3-band", "points", "15")  # the last ones come when the cell has ended
    inside = band.judged(some_band(), band.block_means(some_losses(0.04)[:155], 10)).count(True)
    becomes(page, ".l3-band", "inside", str(inside))
    print(f"a message takes the kernel {1000 * float(page.python('cost')):.2f} ms")
    assert 5 * float(page.python("cost")) < 0.03  # of each second
    page.locator(".l3-band").filter(has_text="step 155 (warm)").wait_for()
    page.screenshot("band-light", ".l3-band")
    page.python("view.add('another <b>', some_losses())")
    becomes(page, ".l3-band", "points", "20")
    page.locator(".l3-band summary").click()
    page.screenshot("band-two", ".l3-band")
    run = page.locator(".l3-band select[data-trait=run]")
    run.focus()
    page.page.keyboard.press("ArrowUp")
    becomes(page, ".l3-band", "points", "15")
    kernel_says(
        page, "view.run, round(view.share_inside(), 2)", repr(("yours", round(inside / 15, 2)))
    )
    scale = page.locator(".l3-band select[data-trait=scale]")
    assert page.median_move_ms(scale, "ArrowDown", 1) <= 100
    becomes(page, ".l3-band", "scale", "linear")
    page.set_theme("dark")
    page.screenshot("band-dark", ".l3-band")


@pytest.mark.browser
def test_needles_in_jupyterlab(open_notebook):
    code = (
        "import numpy as np\nfrom llama3lib.eval import NeedleGrid\nfrom widgets import NeedleMap\n"
    )
    code += cell(some_grids, code="view = NeedleMap(some_grids(), threshold=90)\nview")
    page = open_notebook([code], theme="dark")
    root = page.locator(".l3-needles")
    root.wait_for()
    assert root.get_attribute("data-passed") == "2"
    page.screenshot("needles-dark", ".l3-needles")
    page.set_theme("light")
    threshold = page.locator(".l3-needles input[data-trait=threshold]")
    threshold.focus()
    page.page.keyboard.press("ArrowRight")
    becomes(page, ".l3-needles", "passed", "1")
    kernel_says(page, "view.threshold, view.passing()", "(95, 64)")
    assert page.median_move_ms(threshold, "ArrowLeft", 9) <= 100
    map_ = page.locator(".l3-needles .map")
    map_.focus()
    page.page.keyboard.press("ArrowRight")
    page.page.keyboard.press("ArrowDown")
    becomes(page, ".l3-needles", "cell", "1,1")
    page.screenshot("needles-light", ".l3-needles")
    told = page.locator(".l3-needles .detail").inner_text()
    kernel_says(page, f"view.cell == [1, 1] and view.cell_words() == {told!r}", "True")
    assert page.median_move_ms(map_, "ArrowRight", 2) <= 100
    page.locator(".l3-needles .cell").nth(4).click()
    becomes(page, ".l3-needles", "cell", "0,1")
    page.locator(".l3-needles select").select_option("short")
    becomes(page, ".l3-needles", "passed", "1")


@pytest.mark.browser
def test_averaging_in_jupyterlab(open_notebook):
    code = "from widgets import AveragingLine\n"
    code += cell(some_points, code="view = AveragingLine(some_points())\nview")
    page = open_notebook([code], theme="dark")
    page.locator(".l3-averaging").wait_for()
    page.screenshot("averaging-dark", ".l3-averaging")
    page.set_theme("light")
    page.screenshot("averaging-light", ".l3-averaging")
    count = page.locator(".l3-averaging input[data-trait=k]")
    count.focus()
    page.page.keyboard.press("ArrowLeft")
    want = 0.24 * (1 - 1 / 9)
    becomes(page, ".l3-averaging", "gain", f"{want:.6f}")
    kernel_says(page, "view.k, round(view.gain(), 6)", repr((9, round(want, 6))))
    assert page.median_move_ms(count, "ArrowLeft", 6) <= 100
    share = page.locator(".l3-averaging input[data-trait=share]")
    assert page.median_move_ms(share, "ArrowRight", 5) <= 100
    becomes(page, ".l3-averaging", "loss", f"{some_points()['constant rate']['line'][15][1]:.6f}")
    series = page.locator(".l3-averaging select")
    series.focus()
    page.page.keyboard.press("ArrowDown")
    page.page.wait_for_function(
        "() => document.querySelector('.l3-averaging h4').textContent.startsWith('rate to 0: no')"
    )
    page.screenshot("averaging-second", ".l3-averaging")
