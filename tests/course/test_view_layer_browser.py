"""The layer under all views, in JupyterLab and on a page without a kernel."""

import pytest

DEMO = """
from widgets.view import Choice, Linear, Pick, Scene, Slider, View

class Demo(View):
    n = Slider(range(1, 41), "number", start=3, play=60)
    kind = Choice({"a": "first", "b": "second"}, "kind")
    spot = Pick(range(5))

    def scene(self, paper, *, n, kind):
        plot = paper.plot(Linear(0, 40, "n"), Linear(0, 10, "height"))
        plot.mark("diamond", (n, 5), "chosen", key="dot", tip=f"<b>{n}</b>")
        for i in range(5):
            paper.rect(100 + 40 * i, 380, 30, 20, put=("spot", i), tip=f"spot {i}")
        return Scene(title=f"n is {n}, {kind} & <i>", table=[{"n": n}], facts={"n": n})

view = Demo()
view
"""


def shows(page, n):
    page.page.wait_for_function(
        "(n) => document.querySelector('.l3-view').dataset.n === n", arg=str(n), timeout=12_000
    )


@pytest.mark.browser
def test_moves_by_keyboard_and_keeps_frames(open_notebook):
    page = open_notebook([DEMO])
    root = page.locator(".l3-view")
    root.wait_for()
    assert root.locator(".l3-title").inner_text() == "n is 3, a & <i>"
    slider = root.locator("input[data-trait=n]")
    slider.focus()
    page.page.keyboard.press("ArrowRight")
    shows(page, 4)
    page.python_becomes("view.n", "4")
    # the element travels: it is the same one at another place
    page.page.evaluate("() => { window.l3dot = document.querySelector('[data-key=dot]'); }")
    page.page.keyboard.press("ArrowRight")
    shows(page, 5)
    assert (
        page.page.evaluate("() => window.l3dot.isConnected && window.l3dot.dataset.tip")
        == "<b>5</b>"
    )
    page.median_move_ms(slider, "ArrowRight", 20)  # printed: a clock is no assert
    select = root.locator("select[data-trait=kind]")
    select.select_option("second")
    root.filter(has_text="n is 25, b & <i>").wait_for()
    root.locator("[data-tip='spot 2']").click()
    page.python_becomes("view.spot", "2")
    page.page.keyboard.press("ArrowRight")
    page.python_becomes("view.spot", "3")
    assert root.locator(".l3-tip").inner_text() == "spot 3"
    assert page.python("view.move(n=7)") == "None"
    shows(page, 7)


@pytest.mark.browser
def test_answers_while_a_cell_runs(open_notebook):
    page = open_notebook([DEMO])
    root = page.locator(".l3-view")
    root.wait_for()
    page.page.evaluate(
        """() => { const panel = window.jupyterapp.shell.currentWidget;
        panel.context.sessionContext.session.kernel.requestExecute(
          { code: 'import time\\ntime.sleep(20)' }); }"""
    )
    page.page.wait_for_timeout(300)
    slider = root.locator("input[data-trait=n]")
    slider.focus()
    for n in range(4, 10):
        page.page.keyboard.press("ArrowRight")
        shows(page, n)


@pytest.mark.browser
def test_a_picture_fetched_ahead_that_comes_late_leaves_no_complaint(open_notebook):
    late = "        if n == 5:\n            import time\n            time.sleep(1.8)\n"
    slow = DEMO.replace("        plot = paper.plot", late + "        plot = paper.plot")
    page = open_notebook([slow])
    root = page.locator(".l3-view")
    root.wait_for()
    root.locator("input[data-trait=n]").focus()
    page.page.keyboard.press("ArrowRight")
    shows(page, 4)
    complaint = root.locator(".l3-bad")
    complaint.wait_for(state="visible")  # the picture one move on takes longer than one may wait
    complaint.wait_for(state="hidden")
    shows(page, 4)


@pytest.mark.browser
def test_a_recording_moves_without_a_kernel(chromium, tmp_path):
    space: dict = {}
    exec(DEMO, space)
    from widgets.view.record import page as whole_page
    from widgets.view.record import record

    file = tmp_path / "page.html"
    file.write_text(whole_page([record(space["view"])], title="Demo"), encoding="utf-8")
    page = chromium.new_page()
    errors, asked = [], []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    page.locator(".l3-view input[data-trait=n]").focus()
    for n in range(4, 41):
        page.keyboard.press("ArrowRight")
        page.wait_for_function(
            "(n) => document.querySelector('.l3-view').dataset.n === n", arg=str(n), timeout=10_000
        )
    page.locator("select").select_option("second")
    page.locator(".l3-title", has_text="n is 40, b").wait_for()
    assert errors == []
    assert asked == [file.as_uri()]
    page.close()
