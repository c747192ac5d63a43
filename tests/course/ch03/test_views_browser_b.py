"""The two steps in JupyterLab: they appear, move, and tell."""

import pytest
from view_tools import kernel_says

from llama3lib.scaling import read_runs, stored_path
from widgets.ch03.views import twosteps

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
