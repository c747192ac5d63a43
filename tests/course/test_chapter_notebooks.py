"""Chapters run twice: as shipped, by nbval, and here what their exercises need, with solutions.

The solutions' own notebooks leave the checks to this run: a check that is not strict fails nothing.
"""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from needed_cells import cells_for, needed_cells
from timing_tools import patient

from widgets import fill, solutions_from
from widgets.core.check import exercises

ROOT = Path(__file__).parents[2]
# chapter: the last section that has something to find out
LAST_ASKING = {
    "01_the_herd_and_its_architecture": 15,
    "02_from_web_pages_to_tokens": 15,
    "03_scaling_laws": 12,
    "04_four_dimensions_of_parallelism": 10,
    "05_the_pre_training_recipe": 10,
    "09_inference": 13,
}
assert sorted(LAST_ASKING) == sorted(file.stem for file in ROOT.glob("chapters/*.ipynb"))


@pytest.fixture(params=sorted(LAST_ASKING), ids=lambda name: name[:2])
def name(request):
    return request.param


@pytest.fixture
def checks(name):
    """Numbers of the chapter's exercises."""
    return list(exercises(name[:2]))


@pytest.fixture
def chapter(name):
    return nbformat.read(ROOT / "chapters" / f"{name}.ipynb", as_version=4)


@pytest.fixture
def solutions(name):
    return solutions_from(nbformat.read(ROOT / "solutions" / f"{name}.ipynb", as_version=4))


def _run(notebook, folder):
    resources = {"metadata": {"path": str(folder)}}
    client = NotebookClient(
        notebook, timeout=round(patient(180)), kernel_name="python3", resources=resources
    )
    client.execute()
    return notebook


def _printed(notebook):
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", ())]
    return "".join(o.text for o in outputs if o.output_type == "stream")


@pytest.mark.notebook
def test_filled_with_the_solutions_every_check_passes(
    chapter, checks, solutions, tmp_path, monkeypatch
):
    monkeypatch.setenv("LLAMA3LIB_STRICT", "1")
    filled = fill(chapter, solutions)
    filled.cells = [filled.cells[number] for number in needed_cells(filled)]
    printed = _printed(_run(filled, tmp_path))
    for exercise in checks:
        assert f"✓ {exercise}: right" in printed


@pytest.mark.notebook
def test_a_strict_run_fails_while_an_exercise_is_open(tmp_path, monkeypatch):
    monkeypatch.setenv("LLAMA3LIB_STRICT", "1")
    first = ROOT / "chapters" / "01_the_herd_and_its_architecture.ipynb"
    chapter = nbformat.read(first, as_version=4)
    chapter.cells = [chapter.cells[number] for number in needed_cells(chapter)[:3]]
    with pytest.raises(CellExecutionError, match=re.escape("01.1 is not solved")):
        _run(chapter, tmp_path)


@pytest.mark.long
def test_the_sweep_of_chapter_03_is_short_on_a_slow_machine(tmp_path):
    book = nbformat.read(ROOT / "chapters" / "03_scaling_laws.ipynb", as_version=4)
    book.cells = [book.cells[number] for number in cells_for(book, "sweep_seconds(")]
    slow = "sweep_seconds = lambda config, processes: 999.0\n"
    book.cells[-1].source = book.cells[-1].source.replace("stored =", slow + "stored =", 1)
    assert "five runs here" in _printed(_run(book, tmp_path))


def test_every_exercise_has_a_stub_a_check_a_solution_and_its_marks(chapter, checks, solutions):
    stubs = [tag for c in chapter.cells for tag in c.metadata.get("tags", ()) if "exercise:" in tag]
    assert sorted(stubs) == [f"exercise:{exercise}" for exercise in checks]
    assert sorted(solutions) == sorted(checks)
    text = "\n".join(cell.source for cell in chapter.cells)
    for exercise in checks:
        assert f'check("{exercise}"' in text
        assert f'hint("{exercise}")' in text
        marks = rf"\*\*Exercise {exercise}\D*\*\* · difficulty ●+ · importance ●+ · .+"
        assert re.search(marks, text), f"{exercise} has no difficulty, importance and minutes"


def test_each_section_asks_for_a_prediction_before_it_is_revealed(chapter, name):
    """Sections with something to find out hold a predict, and its reveal comes after it."""
    sources, asked, section = [cell.source for cell in chapter.cells], {}, 0
    call = rf'\(\s*"(P{name[:2]}\.\d+)"'
    for number, source in enumerate(sources):
        if headings := re.findall(r"^## (\d+) ·", source, re.MULTILINE):
            section = int(headings[-1])
        for prediction in re.findall("predict" + call, source):
            asked[prediction] = (number, section)
    assert {section for _, section in asked.values()} >= set(range(1, LAST_ASKING[name] + 1))
    shown = {n: i for i, s in enumerate(sources) for n in re.findall("reveal" + call, s)}
    assert set(shown) == set(asked)
    assert all(shown[prediction] > asked[prediction][0] for prediction in asked)
