"""A run in JupyterLab: the view follows while the training cell runs."""

import inspect

import pytest
from view_samples import some_band, some_losses

from widgets.ch05.views import band


def becomes(page, name, want):
    page.page.wait_for_function(
        "([name, want]) => document.querySelector('.l3-view').dataset[name] === want",
        arg=[name, want],
    )


@pytest.mark.browser
def test_band_follows_a_run(open_notebook):
    source = "\n".join(map(inspect.getsource, (some_band, some_losses)))
    code = "import time\nfrom widgets import BandView\nfrom llama3lib.train import ReferenceCurve\n"
    code += source
    live = """for step, loss in enumerate(some_losses(0.04)[:155], start=1):
    view.on_step({'step': step, 'loss': loss, 'phase': 'warm'})
    time.sleep(0.3 if step == 60 else 0.01)"""
    page = open_notebook([f"{code}\nview = BandView(some_band())\nview"])
    page.locator(".l3-view").wait_for()
    page.page.evaluate(
        """() => { window.l3seen = new Set(); const root = document.querySelector('.l3-view');
        new MutationObserver(() => window.l3seen.add(root.dataset.points)).observe(
          root, { attributes: true }); }"""
    )
    page.page.evaluate(
        """(code) => { window.jupyterapp.shell.currentWidget.context.sessionContext.session.kernel
        .requestExecute({ code }); }""",
        live,
    )
    becomes(page, "points", "15")  # the last ones come when the cell has ended
    assert len(page.page.evaluate("() => [...window.l3seen]")) >= 4, "not drawn while it ran"
    inside = band.judged(some_band(), band.block_means(some_losses(0.04)[:155], 10)).count(True)
    becomes(page, "inside", str(inside))
    page.locator(".l3-view").filter(has_text="step 155 (warm)").wait_for()
    page.screenshot("band-live", ".l3-view")
    page.python("view.add('another <b>', some_losses())")
    becomes(page, "points", "20")
    run = page.locator(".l3-view select[data-trait=run]")
    run.select_option("yours")
    becomes(page, "points", "15")
    page.python_becomes(
        "view.run, round(view.share_inside(), 2)", repr(("yours", round(inside / 15, 2)))
    )
