"""check, hint and fill: whatever a learner's code does, the notebook goes on."""

import sys
import types

import nbformat
import pytest

from widgets import check, fill, hint, solutions_from
from widgets.core.judge import Mistake
from widgets.core.progress import ledger


class Spiteful(Exception):
    """An error whose own message fails."""

    def __str__(self):
        raise RuntimeError("no")


def _checker(answer):
    if answer(2) != 4:
        raise Mistake("the square is wrong", shows="square(2)", why="Multiply x by itself.")


@pytest.fixture(autouse=True)
def _chapter_99(monkeypatch):
    module = types.ModuleType("widgets.ch99.exercises")
    module.CHECKS = {"99.1": _checker}
    module.HINTS = {"99.1": ("the idea of it", "the shape of it", "x * x")}
    monkeypatch.setitem(sys.modules, "widgets.ch99.exercises", module)


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
    assert out.startswith("✗ 99.1: the square is wrong.")
    assert "square(2)" in out
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
        (5, "TypeError"),
        ("words", "TypeError"),
        (lambda: 1, "TypeError"),
        (lambda x: float("nan"), "the square is wrong"),
        (lambda x: float("inf"), "the square is wrong"),
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
