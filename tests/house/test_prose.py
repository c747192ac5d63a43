"""The prose of the chapters: sentences that connect, terms explained at their first use, numbers
that the page prints, and nothing above a reveal that gives it away.

A number that a cell prints is marked where the text repeats it: `6.66<!-- c812 -->` names the cell.
"""

import re
import statistics
import tomllib
from pathlib import Path

import nbformat
import pytest
from prose_tools import MARK, REWRITTEN, printed, sentences, texts

from widgets.core.progress import chapter_of
from widgets.core.reveal import whys_of

ROOT = Path(__file__).parents[2]
TERMS = tomllib.loads((Path(__file__).parent / "terms.toml").read_text(encoding="utf-8"))
_PLAIN = str.maketrans({"−": "-", ",": "", "\u00a0": " ", "\u202f": " "})


def chapters():
    return [p for p in sorted((ROOT / "chapters").glob("*.ipynb")) if p.name[:2] in REWRITTEN]


@pytest.fixture(params=chapters(), ids=lambda path: path.name[:2])
def book(request):
    return nbformat.read(request.param, as_version=4)


def lengths(book):
    return [len(s.split()) for c in texts(book) for s in sentences(c.source)]


def test_sentences_are_counted_as_told():
    source = (
        "# A title.\n\nOne two three four. Five six? $$x.$$\n\n* a b\n* a b c d e f\n\n| a | b |\n"
    )
    assert sentences(source) == ["One two three four.", "Five six?", "a b c d e f"]


def test_a_marked_number_is_one_with_a_cell():
    text = "The loss, 6.66<!-- c812 -->, and −0.41<!-- c075 --> or 57 %<!-- c1 --> of them"
    assert MARK.findall(text) == [("6.66", "c812"), ("−0.41", "c075"), ("57", "c1")]


def test_sentences_are_neither_clipped_nor_endless(book):
    found = lengths(book)
    short = sum(n < 9 for n in found) / len(found)
    assert 14 <= statistics.mean(found) <= 18, statistics.mean(found)
    assert short <= 0.2, short


def test_terms_are_explained_where_they_are_first_used(book):
    """The first use stands in a text, in bold; the promise and the imports may name what comes."""
    wrong = []
    for term, pattern in TERMS.items():
        word = re.compile(rf"(?<![\w.])(?:{pattern})(?![\w(])", re.IGNORECASE)
        for cell in book.cells[3:]:
            code = cell.cell_type == "code"
            if code and re.search(r"^(from|import) ", cell.source, re.MULTILINE):
                continue
            body = re.sub(r"^#+ .*$|^\|.*$|<!--.*?-->", "", cell.source, flags=re.MULTILINE)
            if found := word.search(body):
                # bold, within the same sentence
                bold = not code and re.search(rf"\*\*[^*\n]*(?:{pattern})[^*\n]*\*\*", body, re.I)
                if not bold:
                    wrong.append(f"{term}: {cell.id}: …{body[max(0, found.start() - 30) :][:70]!r}")
                break
    assert not wrong, "\n".join(wrong)


def test_numbers_in_the_text_are_those_that_cells_print(book):
    cells = {cell.id.split("-")[0]: cell for cell in book.cells}
    marked = [(c.id, *found) for c in texts(book) for found in MARK.findall(c.source)]
    assert len(marked) >= 20, len(marked)
    wrong = []
    for place, number, name in marked:
        plain = number.rstrip(".,").translate(_PLAIN)
        shown = printed(cells[name]).translate(_PLAIN) if name in cells else ""
        if not re.search(rf"(?<![\d.]){re.escape(plain)}(?!\d|\.\d)", shown):
            wrong.append(f"{place}: {number} is not printed by {name}")
    assert not wrong, "\n".join(wrong)


def test_no_text_gives_a_prediction_away(book):
    """Words of a right choice, or a number that is revealed, stand nowhere above their reveal."""
    for at, cell in enumerate(book.cells):
        for name in re.findall(r'reveal\("(P[\d.]+)"\)', cell.source):
            truth = whys_of(chapter_of(name))[name]["right"]
            above = [c.source for c in book.cells[:at] if c.cell_type == "markdown"]
            told = [text for text in above if len(truth) > 12 and truth in text]
            assert not told, (name, told)


def test_every_formula_has_a_number_beside_it(book):
    """A display formula stands in a cell with digits in its prose, or right before one."""
    wrong = []
    for at, cell in enumerate(book.cells):
        if cell.cell_type == "markdown" and "$$" in cell.source:
            near = cell.source.split("$$", 2)[2] + "".join(
                c.source for c in book.cells[at + 1 : at + 3]
            )
            if not re.search(r"\d", near):
                wrong.append(cell.id)
    assert not wrong


def test_plotting_takes_few_lines(book):
    for cell in book.cells:
        assert not re.search(r"\bgo\.\w+\(|\.update_[xy]axes\(", cell.source), cell.id
