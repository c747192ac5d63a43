"""A lecture can be made from the notebook itself: each cell says its place on the slides."""

import re
from pathlib import Path

import nbformat
import pytest

CHAPTERS = sorted((Path(__file__).parents[2] / "chapters").glob("*.ipynb"))
KINDS = {"slide", "subslide", "fragment", "skip"}
HOMEWORK = re.compile("report|further reading", re.IGNORECASE)  # no lecture shows these sections
PLOTS = re.compile(r"\b(curves|bars|boxes|panels|timeline)\(")
BUILT = re.compile(r"from ipywidgets import .*interactive")


def kind_of(cell):
    return cell.metadata.get("slideshow", {}).get("slide_type")


@pytest.fixture(params=CHAPTERS, ids=lambda file: file.stem[:2])
def cells(request):
    return nbformat.read(request.param, 4).cells


def test_every_cell_has_a_place_on_the_slides(cells):
    assert not [cell.id for cell in cells if kind_of(cell) not in KINDS]


def test_a_section_is_a_slide_with_a_note_for_the_speaker(cells):
    for cell in cells:
        if cell.cell_type != "markdown":
            continue
        assert "\n## " not in cell.source, f"{cell.id}: a section begins a cell of its own"
        head = cell.source.split("\n")[0]
        if head.startswith(("# ", "## ")) and not HOMEWORK.search(head):
            assert kind_of(cell) == "slide", cell.id
            words = cell.metadata["slideshow"].get("notes", "").split()
            assert 15 <= len(words) <= 80, f"{cell.id}: a speaker's note of {len(words)} words"


def test_an_answer_is_never_on_the_slide_of_its_question(cells):
    asked = set()  # on the present slide
    for cell in cells:
        if kind_of(cell) in ("slide", "subslide"):
            asked.clear()
        if cell.cell_type == "code" and kind_of(cell) != "skip":
            assert not asked & set(re.findall(r'reveal\(\s*"(P\S+?)"', cell.source)), cell.id
            asked |= set(re.findall(r'predict\(\s*"(P\S+?)"', cell.source))


def test_exercises_are_left_for_the_lab(cells):
    tagged = [cell for cell in cells if "exercise:" in "".join(cell.metadata.get("tags", []))]
    assert tagged
    assert {kind_of(cell) for cell in tagged} == {"skip"}


def test_measured_curves_and_one_panel_of_ordinary_widgets(cells):
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    assert any(PLOTS.search(source) for source in code)
    assert [source for source in code if BUILT.search(source) and "Box(" in source]
