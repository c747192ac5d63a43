"""The two steps and the cost of over-training in JupyterLab: they appear, move, and tell."""

import pytest
from view_tools import kernel_says

from llama3lib.scaling import REPLICATION, cheapest, read_runs, stored_path
from widgets.ch03.views import overtraining, twosteps

CODE = """from llama3lib.scaling import read_runs, stored_path
from widgets import TwoStepsView
view = TwoStepsView(read_runs(stored_path("toy")), held_out=read_runs(stored_path("toy-held-out")))
view"""


def becomes(page, root, name, want):
    page.page.wait_for_function(
        "([root, name, want]) => document.querySelector(root).dataset[name] === want",
        arg=[root, name, want],
    )


def shot(page, name, tag=""):
    """The widget in both themes; ends in the light one."""
    for theme in ("dark", "light"):
        page.set_theme(theme)
        page.screenshot(f"{name}{tag}-{theme}", f".l3-{name}")


@pytest.mark.browser
def test_two_steps_in_jupyterlab(open_notebook):
    page = open_notebook([CODE])
    root = page.locator(".l3-twosteps")
    root.wait_for()
    runs, held = (read_runs(stored_path(name)) for name in ("toy", "toy-held-out"))
    view = twosteps.TwoStepsView(runs, held_out=held)

    def shows(limit, models, form):
        view.limit, view.models, view.form = limit, models, form
        told = view.entry()["told"][models].get(form)
        accuracy = "none" if told is None else f"{told['accuracy'][0]:.6f}"
        becomes(page, ".l3-twosteps", "accuracy", accuracy)
        assert page.locator(".l3-twosteps .l3-title").inner_text() == view.summary()
        kernel_says(page, "view.limit, view.models, view.form", repr((limit, models, form)))

    shows(3e11, "seen", "line")
    assert page.locator(".l3-twosteps circle.seen").count() == 60 + 12 + 1  # one in the key
    assert page.locator(".l3-twosteps rect.held").count() == 2 * 3 + 1
    shot(page, "twosteps")
    limit = page.locator(".l3-twosteps input[data-trait=limit]")
    limit.focus()
    page.page.keyboard.press("ArrowLeft")
    shows(1e11, "seen", "line")
    assert root.get_attribute("data-seen") == "45"
    assert page.locator(".l3-twosteps circle.away").count() == 15 + 3 + 1
    assert page.median_move_ms(limit, "ArrowLeft", 1) <= 100
    shows(3e10, "seen", "line")
    form = page.locator(".l3-twosteps select[data-trait=form]")
    form.focus()
    page.page.keyboard.press("ArrowDown")
    shows(3e10, "seen", "floor")
    assert "too few points" in page.locator(".l3-twosteps .l3-title").inner_text()
    shot(page, "twosteps", "-few")
    page.page.keyboard.press("ArrowUp")
    assert page.median_move_ms(form, "ArrowDown", 1) <= 100
    limit.focus()
    page.page.keyboard.press("ArrowRight")
    models = page.locator(".l3-twosteps select[data-trait=models]")
    models.focus()
    assert page.median_move_ms(models, "ArrowUp", 2) <= 100
    shows(1e11, "smallest", "floor")
    assert page.locator(".l3-twosteps polyline.top").count() == 2 + 1
    shot(page, "twosteps", "-smallest")
    page.locator(".l3-twosteps summary").press("Enter")
    page.locator(".l3-twosteps tbody tr").nth(11).wait_for()


@pytest.mark.browser
def test_over_training_in_jupyterlab(open_notebook):
    page = open_notebook(["from widgets import OvertrainingCost\nview = OvertrainingCost()\nview"])
    root = page.locator(".l3-overtraining")
    root.wait_for()
    view = overtraining.OvertrainingCost()

    def shows(target, served, size):
        view.target, view.served, view.size = target, served, size
        want = cheapest(REPLICATION, view.loss, served).parameters
        title = page.locator(".l3-overtraining .l3-title")
        title.filter(has_text=view.summary()).wait_for()
        assert title.inner_text() == view.summary()
        assert float(root.get_attribute("data-best")) == pytest.approx(want, rel=1e-4)
        own = overtraining.at_size(REPLICATION, size, view.loss, served)
        told = root.get_attribute("data-own")
        assert told == "none" if own is None else float(told) == pytest.approx(own.total, rel=1e-4)
        kernel_says(page, "view.target, view.served, view.size", repr((target, served, size)))

    steps = view.steps
    shows("8B", 1e13, view.size)
    shot(page, "overtraining")
    served = page.locator(".l3-overtraining input[data-trait=served]")
    served.focus()
    page.page.keyboard.press("ArrowRight")
    shows("8B", 3e13, view.size)
    assert page.median_move_ms(served, "ArrowRight", 3) <= 100
    shows("8B", 1e15, view.size)
    size = page.locator(".l3-overtraining input[data-trait=size]")
    assert page.median_move_ms(size, "ArrowRight", 20) <= 100
    page.page.keyboard.press("Home")
    shows("8B", 1e15, steps[0])
    assert "is too small" in root.inner_text()
    page.page.keyboard.press("End")
    target = page.locator(".l3-overtraining select[data-trait=target]")
    target.focus()
    page.page.keyboard.press("ArrowDown")
    shows("70B", 1e15, steps[-1])
    assert page.median_move_ms(target, "ArrowDown", 1) <= 100
    shows("405B", 1e15, steps[-1])
    assert page.locator(".l3-overtraining .named").count() == 1 + 1  # two never get there
    shot(page, "overtraining", "-405b")
    page.locator(".l3-overtraining summary").press("Enter")
    page.locator(".l3-overtraining tbody tr").nth(5).wait_for()
