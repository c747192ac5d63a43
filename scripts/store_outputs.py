"""Run notebooks in a real JupyterLab and store what they show.

    python scripts/store_outputs.py chapters/01_*.ipynb solutions/01_*.ipynb

Lab itself adds a PNG to every plotly figure when it saves; this script adds one to every view
that has a picture, strips what changes from run to run, and writes the file whole. Readers
without a kernel (on a code-hosting site, in print) then see the pictures too. What stands between
a prediction and its answer is folded (`fold_outputs.py`).
"""

import argparse
import base64
import io
import sys
import tempfile
from pathlib import Path

import nbformat
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "scripts")]

from browser_tools import Browser, Lab  # noqa: E402
from fold_outputs import fold, write  # noqa: E402

VIEW = "application/vnd.jupyter.widget-view+json"
PLOTLY = "application/vnd.plotly.v1+json"
SVG = "image/svg+xml"
PANEL = "Widgets in a box: run this cell to use them"
_SAVE = """async () => {
  const context = window.jupyterapp.shell.currentWidget.context;
  await context.save(); return true; }"""
_DRAWN = """i => [...document.querySelectorAll(
  `.jp-Cell[data-windowed-list-index='${i}'] .l3-stage`)].every(
  (stage) => stage.querySelector('.l3-picture text, .l3-picture rect'))"""
_PLOTTED = """i => [...document.querySelectorAll(
  `.jp-Cell[data-windowed-list-index='${i}'] .jp-RenderedPlotly`)].every(
  (figure) => figure.querySelector('.main-svg'))"""
_SCROLL = "i => window.jupyterapp.shell.currentWidget.content.scrollToItem(i)"


def has_picture(output: dict) -> bool:
    """Whether an output is a view, or a panel of ordinary widgets with views in it."""
    return VIEW in output.get("data", {}) and (SVG in output["data"] or is_panel(output))


def lacks_picture(output: dict) -> bool:
    """Whether Lab has not yet added its PNG to a plotly figure."""
    data = output.get("data", {})
    return PLOTLY in data and "image/png" not in data


def is_panel(output: dict) -> bool:
    """Whether an output is a box of widgets."""
    return output["data"].get("text/plain", "").startswith(("VBox(", "HBox(", PANEL))


def pictures(page: object, cells: list) -> dict[int, list[str]]:
    """A PNG of each view, by the number of its cell. Cells are drawn only when they are seen."""
    found = {}
    for i, cell in enumerate(cells):
        if not any(map(has_picture, cell.get("outputs", []))):
            continue
        page.page.evaluate(_SCROLL, i)
        panel = any(is_panel(out) for out in cell.outputs if has_picture(out))
        kind = ".jp-OutputArea-output:has(.l3-view)" if panel else ".l3-view"
        views = page.locator(f".jp-Cell[data-windowed-list-index='{i}'] {kind}")
        views.first.wait_for()
        page.page.wait_for_function(_DRAWN, arg=i)
        page.page.wait_for_timeout(300)
        found[i] = [base64.b64encode(view.screenshot()).decode() for view in views.all()]
    return found


def shrunk(png: str) -> str:
    """The same picture with at most 96 colours: a third of the size, and no difference to see."""
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    few = picture.quantize(96, dither=Image.Dither.NONE)
    out = io.BytesIO()
    few.save(out, "PNG", optimize=True)
    return base64.b64encode(out.getvalue()).decode()


def stored(file: Path, lab: Lab, browser: object) -> nbformat.NotebookNode:
    """The notebook with the outputs of this run."""
    page = lab.open(browser, file)
    for i in range(len(nbformat.read(file, 4).cells)):  # draw every figure, so that it is saved
        page.page.evaluate(_SCROLL, i)
        page.page.wait_for_function(_PLOTTED, arg=i)
        page.page.wait_for_timeout(60)
    page.page.wait_for_timeout(1500)
    page.page.evaluate(_SAVE)
    book = nbformat.read(lab.root / page.name, 4)
    shown = pictures(page, book.cells)
    page.finish()
    bare = [o for c in book.cells for o in c.get("outputs", []) if lacks_picture(o)]
    assert not bare, f"{len(bare)} figures without a picture"
    wrong = [o.evalue for c in book.cells for o in c.get("outputs", []) if o.output_type == "error"]
    if wrong:
        raise RuntimeError(f"{file} is not stored, a cell failed: {wrong[0]}")
    for i, pngs in shown.items():
        views = [output for output in book.cells[i].outputs if has_picture(output)]
        for output, png in zip(views, pngs, strict=True):
            output.data["image/png"] = png
    return tidy(book)


def tried(file: Path, lab: Lab, browser: object, times: int = 3) -> nbformat.NotebookNode:
    """The same; on a busy machine a page may give up on a view, and another try helps."""
    for _ in range(times - 1):
        try:
            return stored(file, lab, browser)
        except AssertionError as error:
            print(f"{file}: once more, for the page said {error}", flush=True)
    return stored(file, lab, browser)


def tidy(book: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Drop what no reader needs and every run changes."""
    book.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in book.cells:
        for key in ("execution", "trusted", "scrolled"):
            cell.metadata.pop(key, None)
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = shrunk(output.data["image/png"])
            if VIEW in output.get("data", {}):
                output.data[VIEW]["model_id"] = "0" * 32  # no kernel of a stored page has it
                if is_panel(output):
                    output.data["text/plain"] = PANEL
        if "outputs" in cell:
            cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
    return book


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="+", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home, Browser.open() as browser:
        with Lab.start(Path(home)) as lab:
            for file in options.notebooks:
                book = tried(file, lab, browser)
                size = write(fold(book), file)
                print(f"{file}: {len(book.cells)} cells, {size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
