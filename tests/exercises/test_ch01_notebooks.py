"""Chapter 01 as shipped runs with open exercises; filled with the solutions it runs strictly."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from widgets import fill, solutions_from
from widgets.checks.ch01 import CHECKS
from widgets.checks.ch01_quiz import QUIZ

ROOT = Path(__file__).parents[2]
NAME = "01_the_herd_and_its_architecture.ipynb"


@pytest.fixture
def chapter():
    return nbformat.read(ROOT / "chapters" / NAME, as_version=4)


@pytest.fixture
def solutions():
    return solutions_from(nbformat.read(ROOT / "solutions" / NAME, as_version=4))


def _run(notebook, folder):
    resources = {"metadata": {"path": str(folder)}}
    client = NotebookClient(notebook, timeout=120, kernel_name="python3", resources=resources)
    client.execute()
    return notebook


def _printed(notebook):
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", ())]
    return "".join(o.text for o in outputs if o.output_type == "stream")


@pytest.mark.notebook
def test_filled_with_the_solutions_every_check_passes(chapter, solutions, tmp_path, monkeypatch):
    monkeypatch.setenv("LLAMA3LIB_STRICT", "1")
    printed = _printed(_run(fill(chapter, solutions), tmp_path))
    for name in CHECKS:
        assert f"✓ {name}: right" in printed


@pytest.mark.notebook
def test_a_strict_run_fails_while_an_exercise_is_open(chapter, tmp_path, monkeypatch):
    monkeypatch.setenv("LLAMA3LIB_STRICT", "1")
    ends = next(i for i, cell in enumerate(chapter.cells) if 'check("01.1"' in cell.source)
    chapter.cells = chapter.cells[: ends + 1]
    with pytest.raises(CellExecutionError, match=re.escape("01.1 is not solved")):
        _run(chapter, tmp_path)


def test_every_exercise_has_a_stub_a_check_a_solution_and_its_marks(chapter, solutions):
    stubs = [tag for c in chapter.cells for tag in c.metadata.get("tags", ()) if "exercise:" in tag]
    assert sorted(stubs) == [f"exercise:{name}" for name in CHECKS]
    assert sorted(solutions) == sorted(CHECKS)
    text = "\n".join(cell.source for cell in chapter.cells)
    for name in CHECKS:
        assert f'check("{name}"' in text
        assert f'hint("{name}")' in text
        marks = re.search(rf"\*\*Exercise {name}\D*\*\* · difficulty ●+ · importance ●+ · .+", text)
        assert marks, f"{name} has no difficulty, importance and minutes"


def test_each_section_asks_for_a_prediction_before_it_is_revealed(chapter):
    """Sections with something to find out (1 to 13) hold a predict, and reveal comes after it."""
    sources, asked, section = [cell.source for cell in chapter.cells], {}, 0
    for number, source in enumerate(sources):
        if heading := re.search(r"^## (\d+) ·", source, re.MULTILINE):
            section = int(heading[1])
        for name in re.findall(r'predict\(\s*"(01\.\d+)"', source):
            asked[name] = (number, section)
    assert {section for _, section in asked.values()} >= set(range(1, 14))
    shown = {n: i for i, s in enumerate(sources) for n in re.findall(r'reveal\(\s*"(01\.\d+)"', s)}
    assert set(shown) == set(asked)
    assert all(shown[name] > asked[name][0] for name in asked)


def test_the_quiz_explains_every_choice():
    assert len(QUIZ) >= 8
    for question in QUIZ:
        assert len(question.options) >= 3
        assert all(len(option.why) > 20 for option in question.options)
    places = [[o.correct for o in q.options].index(True) for q in QUIZ]
    assert len(set(places)) > 1
