"""check, hint and fill: whatever a learner's code does, the notebook goes on."""

import sys

import nbformat
import pytest

import widgets
from widgets import check, fill, hint, solutions_from
from widgets.core.check import exercises
from widgets.core.progress import ledger


class Spiteful(Exception):
    """An error whose own message fails."""

    def __str__(self):
        raise RuntimeError("no")


SQUARE = """
from widgets.core.exercise import Exercise

E = Exercise("99.1", "square", hints=("the idea of it", "the shape of it", "x * x"))
E.reference(lambda x, *, power=2: x**power)
E.mistake("the cube, not the square", power=3).why("One factor less.")
E.mistake("x is doubled", lambda x: 2 * x)
E.cases([(2,), (3,), (-1,)])
"""


@pytest.fixture(autouse=True)
def folder_99(monkeypatch, tmp_path):
    """A chapter 99 as an author would write it: one file an exercise, nothing else."""
    folder = tmp_path / "widgets" / "ch99" / "exercises"
    folder.mkdir(parents=True)
    for place in (folder.parent, folder):
        (place / "__init__.py").touch()
    (folder / "e1_square.py").write_text(SQUARE, encoding="utf-8")
    monkeypatch.setattr(widgets, "__path__", [*widgets.__path__, str(tmp_path / "widgets")])
    yield folder
    for name in [name for name in sys.modules if name.startswith("widgets.ch99")]:
        del sys.modules[name]


def raises(error):
    def answer(x):
        raise error

    return answer


def endless(x):
    return endless(x)


def test_right_answer_is_told_and_kept(capsys):
    assert check("99.1", lambda x: x * x) is True
    assert capsys.readouterr().out == "✓ 99.1: right\n"
    assert ledger().read()["checks"]["99.1"]["passed_at"]


def test_mistake_is_named_with_the_smallest_input(capsys):
    assert check("99.1", lambda x: x + 3) is False
    out = capsys.readouterr().out
    assert out.startswith("✗ 99.1: square: the values differ.")
    assert "x=2" in out and "Yours gives 5" in out
    assert "4" not in out
    assert ledger().read()["checks"]["99.1"] == {"tries": 1, "passed_at": None}


@pytest.mark.parametrize("answer", [None, ..., raises(NotImplementedError("your turn"))])
def test_a_stub_is_not_tried_yet(capsys, answer):
    assert check("99.1", answer) is False
    assert capsys.readouterr().out.startswith("… 99.1: not tried yet")
    assert ledger().read()["checks"] == {}


@pytest.mark.parametrize(
    "answer, told",
    [
        (raises(ZeroDivisionError("division by zero")), "ZeroDivisionError: division by zero"),
        (raises(SystemExit(1)), "SystemExit"),
        (raises(AssertionError()), "AssertionError"),
        (raises(Spiteful()), "its message cannot be shown"),
        (raises(GeneratorExit()), "GeneratorExit"),
        (endless, "RecursionError"),
        (5, "check needs the function"),
        ("words", "check needs the function"),
        (lambda: 1, "TypeError"),
        (lambda x: float("nan"), "NaN, which is no number"),
        (lambda x: float("inf"), "the values differ"),
        (lambda x: Spiteful(), "a number is needed"),
    ],
)
def test_no_answer_stops_the_notebook(capsys, answer, told):
    assert check("99.1", answer) is False
    out = capsys.readouterr().out
    assert out.startswith("✗ 99.1")
    assert told in out
    assert len(out.splitlines()) <= 3


def test_the_learners_own_line_is_shown(capsys):
    source = "def f(x):\n    y = x / 0\n    return y\n"
    space = {}
    exec(compile(source, "<cell 7>", "exec"), space)
    check("99.1", space["f"])
    assert "In f, line 2" in capsys.readouterr().out


def test_interrupting_works():
    with pytest.raises(KeyboardInterrupt):
        check("99.1", raises(KeyboardInterrupt()))


def test_strict_mode_raises_for_all_but_right(monkeypatch, capsys):
    monkeypatch.setenv("LLAMA3LIB_STRICT", "1")
    assert check("99.1", lambda x: x * x)
    for answer in (None, lambda x: x + 3):
        with pytest.raises(AssertionError, match=r"99\.1 is not solved"):
            check("99.1", answer)


def test_exercises_are_found_by_their_files_in_the_order_of_their_numbers(folder_99):
    (folder_99 / "helper.py").touch()
    for number in (10, 2):
        (folder_99 / f"e{number}_more.py").touch()
    assert list(exercises("99")) == ["99.1", "99.2", "99.10"]
    assert exercises("99")["99.1"] == "widgets.ch99.exercises.e1_square"
    assert exercises("98") == {}
    (folder_99 / "e2_again.py").touch()
    with pytest.raises(ValueError, match=r"two files for exercise 99\.2"):
        exercises("99")


@pytest.mark.parametrize("name", ["99.2", "98.1", "1.1", "x", "99.1.2"])
def test_unknown_names_are_named(name):
    for use in (lambda: check(name, len), lambda: hint(name)):
        with pytest.raises(ValueError, match=name.replace(".", r"\.")):
            use()


def test_hints_come_in_three_steps_and_are_kept(capsys):
    hint("99.1")
    hint("99.1", 3)
    hint("99.1", 2)
    out = capsys.readouterr().out
    assert "the idea of it" in out
    assert "x * x" in out
    assert ledger().read()["hints"] == {"99.1": 3}
    with pytest.raises(ValueError, match="level=4"):
        hint("99.1", 4)


def _book(*cells):
    book = nbformat.v4.new_notebook()
    for source, *tags in cells:
        book.cells.append(nbformat.v4.new_code_cell(source, metadata={"tags": tags}))
    return book


def test_fill_puts_solutions_in_a_copy():
    book = _book(("stub", "exercise:99.1"), ("other", "nbval-skip"))
    solved = solutions_from(_book(("right", "solution:99.1"), ("words",)))
    filled = fill(book, solved)
    assert [cell.source for cell in filled.cells] == ["right", "other"]
    assert book.cells[0].source == "stub"


def test_fill_and_solutions_refuse_what_does_not_match():
    book = _book(("stub", "exercise:99.1"))
    with pytest.raises(ValueError, match=r"99\.1.*no solution"):
        fill(book, {})
    with pytest.raises(ValueError, match=r"without an exercise: 99\.2"):
        fill(book, {"99.1": "a", "99.2": "b"})
    with pytest.raises(ValueError, match="twice"):
        solutions_from(_book(("a", "solution:99.1"), ("b", "solution:99.1")))
