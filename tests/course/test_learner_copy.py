"""The learner's copy: no answer before its question, new editions come in, nothing is lost."""

import json
import re
import shutil
import string
from pathlib import Path

import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from widgets.core.learner_copy import main, start_over, update
from widgets.core.merge_cells import merge

ROOT = Path(__file__).parents[2]
NAME = "03_laws.ipynb"
STUB = 'def rate(step):\n    """The rate of a step."""\n    raise NotImplementedError("your turn")'
ANSWER = STUB.replace('raise NotImplementedError("your turn")', "return 3 * step")


def text(name, source, **more):
    return new_markdown_cell(source, id=name, **more)


def code(name, source, *tags, shows=""):
    outputs = [new_output("stream", name="stdout", text=shows)] if shows else []
    metadata = {"tags": list(tags)} if tags else {}
    return new_code_cell(source, id=name, metadata=metadata, outputs=outputs)


def chapter():
    """A small chapter, as it is stored: with outputs."""
    return [
        text("title", "# Laws"),
        code("setup", "size = 8\nprint(size)", shows="8"),
        code("ask", 'predict("03.1", "?")'),
        code("show", 'reveal("03.1", 7)', shows="The answer is 7."),
        text("words", "Some words.\n\nMore words."),
        code("e1", STUB, "exercise:03.1"),
        code("check1", 'check("03.1", rate);', shows="… 03.1: not tried yet"),
        code("e2", "sums = {'steps': None}", "exercise:03.2"),
        code("check2", 'check("03.2", sums);'),
    ]


def write(path, cells):
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=cells), path)


@pytest.fixture
def root(tmp_path):
    write(tmp_path / "chapters" / NAME, chapter())
    return tmp_path


@pytest.fixture
def copied(root):
    """The root after the first `lab`."""
    list(update(root))
    return root


def mine(root):
    return nbformat.read(root / "my-course" / NAME, 4).cells


def sources(cells):
    return {cell.id: cell.source for cell in cells}


def learner(root, edit):
    """Save the copy as the learner's editor does after `edit` of the cells, a dict by id."""
    cells = mine(root)
    cells = edit({cell.id: cell for cell in cells}) or cells
    write(root / "my-course" / NAME, cells)


def edition(root, edit):
    """Store a new edition of the chapter."""
    cells = chapter()
    cells = edit({cell.id: cell for cell in cells}) or cells
    write(root / "chapters" / NAME, cells)


def test_a_copy_has_no_outputs_and_is_told_once(root):
    told = list(update(root))
    assert len(told) == 1 and "my-course/ is made" in told[0]
    assert sources(mine(root)) == sources(chapter())
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in mine(root))
    assert list(update(root)) == []


def test_no_answer_stands_before_its_question_in_the_real_course(tmp_path):
    shutil.copytree(ROOT / "chapters", tmp_path / "chapters")
    list(update(tmp_path))
    books = sorted((tmp_path / "my-course").glob("*.ipynb"))
    assert [b.name for b in books] == sorted(f.name for f in (ROOT / "chapters").glob("*.ipynb"))
    for file in books:
        for cell in json.loads(file.read_bytes())["cells"]:
            assert not cell.get("outputs") and cell.get("execution_count") is None


def test_links_of_chapters_lead_somewhere_from_the_copy_too():
    """Both folders lie in the root: a link goes up first, or to another chapter."""
    chapters = {file.name for file in (ROOT / "chapters").glob("*.ipynb")}
    for file in (ROOT / "chapters").glob("*.ipynb"):
        cells = nbformat.read(file, 4).cells
        words = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        for link in re.findall(r"(?:\]\(|src=\")([^)#\s\"]+)", words):
            near = link.startswith(("http", "mailto:", "data:", "attachment:"))
            assert near or link in chapters or (ROOT / "chapters" / link).resolve().exists()
            assert near or link in chapters or link.startswith("../")


def test_a_learners_work_survives_a_new_edition(copied):
    """Two exercises solved, a cell added, a text edited; then a new edition of the chapter."""

    def works(cell):
        cell["e1"].source = ANSWER
        cell["e1"].outputs = [new_output("stream", name="stdout", text="tried")]
        cell["e2"].source = "sums = {'steps': 63}"
        cell["words"].source += "\n\nMy note."
        cells = list(cell.values())
        cells.insert(7, new_code_cell("rate(5)  # my own try", id="own1"))
        cells.insert(0, new_markdown_cell("Lent by Ada", id="own0"))
        return cells

    def changes(cell):
        cell["title"].source = "# Laws of scaling"
        cell["e1"].metadata.tags = ["exercise:03.2"]  # renumbered
        cell["check1"].source = 'check("03.2", rate);'
        cell["e2"].metadata.tags = ["exercise:03.3"]
        cell["check2"].source = 'check("03.3", sums);'
        cell["words"].source = "Some clearer words.\n\nMore words."
        cells = list(cell.values())
        cells.insert(5, code("e0", "first = None", "exercise:03.1"))
        cells.insert(2, text("more", "A new cell."))
        return cells

    learner(copied, works)
    edition(copied, changes)
    told = list(update(copied))
    cells = mine(copied)
    assert [cell.id for cell in cells] == [
        *("own0", "title", "setup", "more", "ask", "show", "words"),
        *("e0", "e1", "check1", "own1", "e2", "check2"),
    ]
    got = {cell.id: cell for cell in cells}
    assert (got["e1"].source, got["e1"].metadata.tags) == (ANSWER, ["exercise:03.2"])
    assert got["e2"].source == "sums = {'steps': 63}"
    assert got["e2"].metadata.tags == ["exercise:03.3"]
    assert got["own1"].source == "rate(5)  # my own try" and got["own0"].source == "Lent by Ada"
    assert got["words"].source == "Some clearer words.\n\nMore words.\n\nMy note."
    assert got["title"].source == "# Laws of scaling"
    assert got["check1"].source == 'check("03.2", rate);'
    assert len(told) == 2 and "new edition" in told[0]
    assert "joined" in told[1] and "Some clearer words" in told[1]
    assert list(update(copied)) == []


def test_an_answer_and_a_new_stub_that_meet_stand_together(copied):
    learner(copied, lambda cell: cell["e2"].update(source="sums = {'steps': 63}"))
    edition(copied, lambda cell: cell["e2"].update(source="sums = {'steps': None, 'b': None}"))
    told = list(update(copied))
    ids = [cell.id for cell in mine(copied)]
    below = mine(copied)[ids.index("e2") + 1]
    assert sources(mine(copied))["e2"] == "sums = {'steps': 63}"
    assert below.cell_type == "markdown" and "sums = {'steps': None, 'b': None}" in below.source
    assert "exercise 03.2: you and the new edition changed it; yours stays" in told[1]
    # an editor that was open all the while writes the old text again: nothing comes twice
    learner(copied, lambda cell: None)
    edition(copied, lambda cell: cell["e2"].update(source="sums = {'steps': None, 'c': None}"))
    list(update(copied))
    text = "\n".join(cell.source for cell in mine(copied))
    assert text.count("sums = {'steps': 63}") == 1 and "'b': None" in text and "'c': None" in text


def test_a_text_stays_the_learners_and_other_code_the_chapters(copied):
    def works(cell):
        cell["words"].source = "My words."
        cell["setup"].source = "size = 9  # ```mine```\nprint(size)"

    def changes(cell):
        cell["words"].source = "Better words."
        cell["setup"].source = "width = 8\nprint(width)"

    learner(copied, works)
    edition(copied, changes)
    told = list(update(copied))
    got = sources(mine(copied))
    assert got["words"] == "My words." and got["setup"] == "width = 8\nprint(width)"
    (other,) = [source for source in got.values() if "```mine```" in source]
    assert other.startswith("**Your version**") and "````python" in other
    (new,) = [source for source in got.values() if "Better words." in source]
    assert new.startswith("**The new edition")
    assert len(told) == 3 and "yours is in the cell below" in told[1]


def test_lines_that_both_added_are_joined_or_kept_apart():
    def joined(base, mine, new):
        cells, _ = merge([code("a", base)], [code("a", mine)], [code("a", new)])
        return cells[0].source if len(cells) == 1 else None

    assert joined("1\n2\n3", "1\n2\n3\nmine", "new\n2\n3") == "new\n2\n3\nmine"
    assert joined("1\n2\n3", "1\nmine\n3", "1\n2\nnew") == "1\nmine\nnew"  # neighbours, in order
    assert joined("1\n2", "1\n2\nmine", "1\n2\nnew") is None  # which goes first nobody knows
    assert joined("1\n2", "1\nmine", "1\n2\nnew") is None
    assert joined("1\n2\n3", "1\n3", "1\nnew\n3") is None
    assert joined("1\n2\n3", "1\nboth\n3", "0\n1\nboth\n3") == "0\n1\nboth\n3"
    assert joined("1", "2", "2") == "2"


def test_cells_that_one_side_removed(copied):
    def works(cell):
        cell["show"].source += "\nmine"
        return [c for name, c in cell.items() if name not in ("title", "ask", "check2")]

    def changes(cell):
        cell["ask"].source = 'predict("03.1", "how many?")'
        return [c for name, c in cell.items() if name not in ("show", "words")]

    learner(copied, works)
    edition(copied, changes)
    told = " | ".join(update(copied))
    ids = [cell.id for cell in mine(copied)]
    assert ids == ["setup", "show", "ask", "e1", "check1", "e2"]
    assert "you had deleted it; it is back" in told
    assert "the new edition no longer has it; yours is kept" in told


def test_cells_that_the_learner_moved_go_back_and_it_is_told(copied):
    def works(cell):
        cells = list(cell.values())
        return [*cells[4:], *cells[:4]]

    learner(copied, works)
    edition(copied, lambda cell: cell["title"].update(source="# New"))
    told = list(update(copied))
    assert [cell.id for cell in mine(copied)] == [cell.id for cell in chapter()]
    assert "cells that you moved stand in the chapter's order again" in told[1]


def test_outputs_stay_above_the_first_change_only(copied):
    """Below it they may answer a question that is new."""

    def works(cell):
        for one in cell.values():
            if one.cell_type == "code":
                one.outputs = [new_output("stream", name="stdout", text="out")]

    learner(copied, works)
    edition(copied, lambda cell: cell["ask"].update(source='predict("03.9", "?")'))
    list(update(copied))
    shown = [cell.id for cell in mine(copied) if cell.get("outputs")]
    assert shown == ["setup"]


def test_an_editor_that_drops_ids_and_doubles_them_loses_nothing(copied):
    file = copied / "my-course" / NAME
    book = json.loads(file.read_bytes())
    for cell in book["cells"]:
        if cell["id"] == "e1":
            cell["source"] = ANSWER
        del cell["id"]
    file.write_text(json.dumps(book | {"nbformat_minor": 4}), encoding="utf-8")
    edition(copied, lambda cell: cell["title"].update(source="# New"))
    list(update(copied))
    got = sources(mine(copied))
    assert len(got) == len(mine(copied)) == len(chapter()) and got["e1"] == ANSWER
    double = [code("a", "1"), code("a", "mine")]
    cells, _ = merge([code("a", "1")], double, [code("a", "2")])
    assert [cell.source for cell in cells] == ["2", "mine"]


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"cells": 3}', '{"cells": [{}]}', "\0"])
def test_a_damaged_notebook_is_kept_aside_and_a_new_one_made(copied, damage):
    file = copied / "my-course" / NAME
    for kept in ("03_laws.damaged.ipynb", "03_laws.damaged2.ipynb"):
        file.write_text(damage, encoding="utf-8")
        told = " ".join(update(copied))
        assert kept in told and "cannot be read" in told
        assert file.with_name(kept).read_text(encoding="utf-8") == damage
        assert sources(mine(copied)) == sources(chapter())


def test_without_its_base_every_difference_is_the_learners(copied):
    learner(copied, lambda cell: cell["e1"].update(source=ANSWER))
    (copied / "my-course" / ".base" / NAME).write_text("{", encoding="utf-8")
    edition(copied, lambda cell: cell["title"].update(source="# New"))
    list(update(copied))
    got = sources(mine(copied))
    assert got["e1"] == ANSWER and got["title"] == "# Laws"
    assert any("# New" in source for source in got.values())


def test_a_crash_between_notebook_and_base_changes_nothing_the_second_time(copied):
    learner(copied, lambda cell: cell["e2"].update(source="sums = {'steps': 63}"))
    edition(copied, lambda cell: cell["e2"].update(source="sums = {'other': None}"))
    base = copied / "my-course" / ".base" / NAME
    before = base.read_bytes()
    list(update(copied))
    once = mine(copied)
    base.write_bytes(before)
    list(update(copied))
    assert mine(copied) == once


def test_one_chapter_that_cannot_be_written_does_not_stop_the_others(copied):
    write(copied / "chapters" / "04_more.ipynb", chapter())
    (copied / "chapters" / NAME).write_text("{", encoding="utf-8")
    told = list(update(copied))
    assert len(told) == 1 and f"my-course/{NAME} is left as it was" in told[0]
    assert (copied / "my-course" / "04_more.ipynb").exists()


def test_start_over_keeps_the_old_one_beside(copied, capsys):
    learner(copied, lambda cell: cell["e1"].update(source=ANSWER))
    told = list(start_over("03", copied))
    assert "kept as my-course/03_laws.old.ipynb" in told[0]
    old = nbformat.read(copied / "my-course" / "03_laws.old.ipynb", 4)
    assert sources(old.cells)["e1"] == ANSWER and sources(mine(copied))["e1"] == STUB
    list(start_over("03", copied))
    assert (copied / "my-course" / "03_laws.old2.ipynb").exists()
    with pytest.raises(ValueError, match="chapter='07' is not allowed: use one of 03"):
        list(start_over("07", copied))
    assert main(["start-over"]) == 2 and "start-over 03" in capsys.readouterr().out
    assert main(["start-over", "77"]) == 1 and "use one of 01, 02" in capsys.readouterr().out


NAMES = "abcdef"
LINES = st.lists(st.sampled_from(["1", "2", "x = 3", ""]), max_size=3).map("\n".join)


def editions(prefix):
    """Cells with some of six ids, in any order; their lines may bear a mark."""

    def make(names, texts):
        made = []
        for name, (source, mark, is_text) in zip(names, texts, strict=False):
            words = f"{source}\n{prefix}{name}" if mark else source
            tags = ["exercise:03.1"] if name == "b" else []
            made.append(text(name, words) if is_text else code(name, words, *tags))
        return made

    names = st.permutations(NAMES).flatmap(lambda p: st.integers(0, 6).map(lambda n: p[:n]))
    each = st.tuples(LINES, st.booleans(), st.booleans())
    return st.builds(make, names, st.lists(each, min_size=6, max_size=6))


@settings(max_examples=60, deadline=None)
@given(editions("base "), editions("mine "), editions("new "), st.lists(LINES, max_size=3))
def test_whatever_changed_no_line_of_the_learner_is_lost(base, mine, new, added):
    """Nor is one of the new edition; the ids are single, and a second time changes nothing."""
    for place, words in enumerate(added):
        mine.insert(2 * place, code(f"own{place}", f"{words}\nown {place}"))
    cells, _ = merge(base, mine, new)
    lines = {line for cell in cells for line in cell.source.split("\n")}
    marks = {
        line for cell in mine for line in cell.source.split("\n") if line[:4] in ("mine", "own ")
    }
    marks |= {
        line
        for cell in new
        if cell.id in sources(mine) or cell.id not in sources(base)
        for line in cell.source.split("\n")
        if line.startswith("new ")
    }
    assert marks <= lines
    assert len({cell.id for cell in cells}) == len(cells)
    assert all(set(cell.id) <= set(string.ascii_letters + string.digits + "-_") for cell in cells)
    again, _ = merge(new, cells, new)
    assert [cell.source for cell in again] == [cell.source for cell in cells]
    resumed, _ = merge(base, cells, new)
    assert marks <= {line for cell in resumed for line in cell.source.split("\n")}
