"""Every view in JupyterLab: it appears, each control moves, the picture is the one Python draws."""

import os
from pathlib import Path

import pytest
from view_samples import CHAPTERS, SAMPLES, sample

import widgets
from widgets.view.record import page as whole_page
from widgets.view.record import record

TESTS = Path(__file__).parents[1]
_WORDS = """(root) => [...root.querySelectorAll('.l3-picture text')].map((t) => t.textContent)"""
_PICTURE = (
    "(root) => root.querySelector('.l3-title').textContent + root.querySelector('svg').outerHTML"
)
_PYTHON = """
import re
from xml.etree import ElementTree
def words(view):
    page = ElementTree.fromstring("<svg>" + "".join(view.frame()["pieces"]) + "</svg>")
    return [t.text or "" for t in page.iter("text")]
"""
PROJECTOR = 600
"""Pixels that a projector leaves for a view and its controls."""
_KEYS = {"range": "ArrowRight", "select": "ArrowDown", "checkbox": " "}


def move(page, control):
    """Move a control by one key; the other way if it stands at its end."""
    kind = control.evaluate("(e) => e.tagName === 'SELECT' ? 'select' : e.type")
    if kind == "text":
        control.press_sequentially("x")
        return
    control.focus()
    at_end = control.evaluate("(e) => e.max ? e.value === e.max : e.selectedIndex === e.length - 1")
    back = {"range": "ArrowLeft", "select": "ArrowUp"}
    control.press(back[kind] if at_end and kind in back else _KEYS[kind])


@pytest.mark.browser
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_views_of_a_chapter(open_notebook, chapter):
    names = [n for n in SAMPLES if getattr(widgets, n).__module__.split(".")[1] == chapter]
    setup = f"import sys\nsys.path.insert(0, {str(TESTS)!r})\nfrom view_samples import sample"
    cells = [f"views = {{}}\n{_PYTHON}{setup}"]
    cells += [f"views[{n!r}] = sample({n!r})\nviews[{n!r}]" for n in names]
    page = open_notebook(cells)
    for name in names:
        root = page.locator(f".l3-view[data-view={name}]")
        root.scroll_into_view_if_needed()
        root.locator(".l3-picture text, .l3-picture rect").first.wait_for(state="attached")
        page.screenshot(f"{name}-light", f".l3-view[data-view={name}]")
        height = root.bounding_box()["height"]
        assert height <= PROJECTOR, f"{name}: {height:.0f} pixels high"
        shown = root.locator("[data-trait]:visible")
        # lists last: another choice may hide the other controls
        tags = shown.evaluate_all("all => all.map(e => [e.tagName === 'SELECT', e.dataset.trait])")
        for _, trait in sorted(tags, key=lambda pair: pair[0]):
            control = root.locator(f"[data-trait={trait}]")
            before = page.python(f"views[{name!r}].{trait}")
            move(page, control)
            deadline = 40
            while page.python(f"views[{name!r}].{trait}") == before and deadline:
                page.page.wait_for_timeout(50)
                deadline -= 1
            assert page.python(f"views[{name!r}].{trait}") != before, f"{name}.{trait} did not move"
            for _ in range(60):
                shown = root.evaluate(_WORDS)
                if page.python(f"words(views[{name!r}]) == {shown!r}") == "True":
                    break
                page.page.wait_for_timeout(50)
            else:
                pytest.fail(f"{name}: after a move of {trait} the page shows another picture")
            title = root.locator(".l3-title").inner_text()
            assert page.python(f"views[{name!r}].summary() == {title!r}") == "True"
        assert root.locator(".l3-bad:visible").count() == 0
    if not os.environ.get("LLAMA3_SCREENSHOTS"):
        return
    page.set_theme("dark")
    for name in names:
        page.locator(f".l3-view[data-view={name}]").scroll_into_view_if_needed()
        page.screenshot(f"{name}-dark", f".l3-view[data-view={name}]")


@pytest.mark.browser
@pytest.mark.long
def test_a_page_of_all_recordings_moves_without_a_kernel(chromium, tmp_path):
    views = {name: sample(name) for name in SAMPLES}
    recorded = {name: record(view) for name, view in views.items()}
    for name, html in recorded.items():
        print(f"{name}: {len(html) / 1000:.0f} kB")
    file = tmp_path / "all.html"
    file.write_text(whole_page(list(recorded.values()), title="All views"), encoding="utf-8")
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    errors, asked = [], []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    for name, view in views.items():
        root = page.locator(f".l3-view[data-view={name}]")
        root.wait_for()
        traits = root.locator("[data-trait]:visible").evaluate_all(
            "all => all.filter(e => e.type !== 'text').map(e => e.dataset.trait)"
        )
        for trait in traits:
            before = root.evaluate(_PICTURE)
            control = root.locator(f"[data-trait={trait}]")
            stops = control.evaluate("(e) => e.max ? Number(e.max) : e.length ?? 2")
            move(page, control)
            if stops > 1 and trait in view.drawn_by:
                assert root.evaluate(_PICTURE) != before, f"{name}.{trait} changes nothing"
            assert root.locator(".l3-bad:visible").count() == 0
    assert errors == []
    assert asked == [file.as_uri()]
    page.screenshot(path=str(tmp_path / "all.png"), full_page=True)
    page.close()
