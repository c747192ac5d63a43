"""Every exercise of every chapter: its mistakes are named, and no answer stops a notebook.

`tests/course/chNN/answers.py` holds by hand, in a learner's style, RIGHT answers (two or more that
differ) and WRONG ones by the name they must be told, three or more, and one for each name that only
an exercise's own rules raise. An answer of several functions may give the wrong one alone.
"""

import ast
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from exercise_tools import load_answers

from widgets import check
from widgets.core import time_limit
from widgets.core.check import exercises, find_exercise
from widgets.core.forms import same
from widgets.core.judge import Mistake

WIDGETS = Path(__file__).parents[2] / "widgets"
CHAPTERS = [name for one in sorted(WIDGETS.glob("ch??")) if exercises(name := one.name[2:])]
ANSWERS = {chapter: load_answers(chapter) for chapter in CHAPTERS}
ALL = {number: find_exercise(number) for chapter in CHAPTERS for number in exercises(chapter)}
JUNK = {
    "nothing": None,
    "text": "eight",
    "truth": True,
    "number": 3.5,
    "not a number": float("nan"),
    "empty": [],
    "nested": [[1, 2], [3]],
    "two": (float("nan"), float("nan")),
    "three": (float("nan"), float("nan"), float("nan")),
    "dict": {"a": 1},
    "tensor": torch.zeros(3, 2, 5),
    "array": np.zeros((3, 2)),
    "object": object(),
}


def _answers(number, kind):
    return getattr(ANSWERS[number[:2]], kind)[number]


def _right(number):
    return _answers(number, "RIGHT")[0]


def _marks(number, *names):
    slow = getattr(ANSWERS[number[:2]], "SLOW", ())
    return [pytest.mark.slow] if any(name in slow for name in names) else []


def _whole(number, wrong):
    """A wrong part of an answer put into a right one."""
    is_part = isinstance(wrong, dict) and isinstance(_right(number), dict)
    return {**_right(number), **wrong} if is_part else wrong


def _rows(*tables):
    return [
        pytest.param(number, name, answer, id=f"{number}-{name}", marks=_marks(number, name))
        for table in tables
        for number, name, answer in table
    ]


DECLARED = [(n, *row) for n, e in ALL.items() for row in e.wrong_answers(_right(n))]
BY_HAND = [(n, name, _whole(n, a)) for n in ALL for name, a in _answers(n, "WRONG").items()]
RIGHT = [
    pytest.param(number, answer, id=f"{number}-{place}", marks=marks)
    for number in ALL  # where one takes long, the chapter filled with its solutions has one too
    for marks in [_marks(number, number) and [pytest.mark.slow, pytest.mark.long]]
    for place, answer in enumerate(_answers(number, "RIGHT"))
]
FUNCTIONS = [
    pytest.param(number, key, id=f"{number}-{key}" if key else number)
    for number, exercise in ALL.items()
    if not exercise.values
    for key in exercise.functions or [None]
]


def _with(number, key, function):
    """A right answer with this function in the place of its own."""
    return function if key is None else {**_right(number), key: function}


# Right and wrong answers ------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "answer"), RIGHT)
def test_different_right_answers_pass(number, answer):
    ALL[number].check(answer)


@pytest.mark.parametrize(("number", "name", "answer"), _rows(DECLARED, BY_HAND))
def test_a_mistake_is_told_by_its_name(number, name, answer):
    with pytest.raises(Mistake) as caught:
        ALL[number].check(answer)
    assert caught.value.name == name
    assert caught.value.shows or ALL[number].values, "the smallest failing input is missing"


@pytest.mark.parametrize("number", ALL)
def test_an_exercise_has_its_measure(number):
    assert ALL[number].number == number
    assert len(_answers(number, "RIGHT")) >= 2
    assert len(_answers(number, "WRONG")) >= 3
    assert len(set(ALL[number].hints)) == 3 and all(ALL[number].hints)


@pytest.mark.parametrize("number", ALL)
def test_what_has_the_knobs_is_right_with_none_of_them_turned(number):
    for part in (ALL[number], *ALL[number].parts):
        if part.model is not part.right:
            for case in part.inputs:
                pair = (part.used(f)(*case.inputs) for f in (part.model, part.right))
                assert same(*pair), case.shows


def _raised(source):
    """Patterns of the names that stand in `raise Mistake(...)`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Mistake" and node.args:
            if isinstance(text := node.args[0], ast.Constant):
                yield re.escape(text.value)
            elif isinstance(text, ast.JoinedStr):
                parts = (getattr(part, "value", None) for part in text.values)
                yield "".join(re.escape(p) if isinstance(p, str) else ".+" for p in parts)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_name_that_a_rule_raises_has_an_answer_that_is_told_it(chapter):
    told = [name for number, name, _ in DECLARED + BY_HAND if number.startswith(chapter)]
    folder = WIDGETS / f"ch{chapter}" / "exercises"
    for file in sorted(folder.glob("*.py")):
        for pattern in _raised(file.read_text(encoding="utf-8")):
            assert any(re.fullmatch(pattern, name) for name in told), f"{file.name}: {pattern}"


# Whatever a learner hands over ------------------------------------------------------------------


@pytest.mark.parametrize(("number", "key"), FUNCTIONS)
def test_a_stub_is_not_tried_yet(number, key, capsys):
    def stub(*_):
        raise NotImplementedError("your turn")

    assert check(number, _with(number, key, stub)) is False
    assert "not tried yet" in capsys.readouterr().out


@pytest.mark.parametrize(("number", "key"), FUNCTIONS)
def test_code_that_crashes_is_told_so(number, key):
    def crash(*_):
        raise ZeroDivisionError("oh")

    with pytest.raises(Mistake, match="your code stopped"):
        ALL[number].check(_with(number, key, crash))


@pytest.mark.parametrize(("number", "key"), FUNCTIONS)
def test_an_endless_loop_is_ended_and_told(number, key, monkeypatch, capsys):
    monkeypatch.setattr(time_limit, "SECONDS_PER_CALL", 0.3)

    def endless(*_):
        n = 0
        while n >= 0:
            try:
                n += 1
            except Exception:
                pass

    assert check(number, _with(number, key, endless)) is False
    told = capsys.readouterr().out
    assert "your code does not end" in told and "Which loop" in told


@pytest.mark.parametrize("kind", JUNK)
@pytest.mark.parametrize(("number", "key"), FUNCTIONS)
def test_a_result_of_another_kind_is_told_so(number, key, kind):
    with pytest.raises(Mistake) as caught:
        ALL[number].check(_with(number, key, lambda *_: JUNK[kind]))
    assert caught.value.shows


@pytest.mark.parametrize("number", ALL)
@pytest.mark.parametrize("kind", [kind for kind in JUNK if kind != "nothing"])
def test_an_answer_of_another_kind_is_told_so(number, kind):
    with pytest.raises(Mistake):
        ALL[number].check(JUNK[kind])


@pytest.mark.parametrize("number", [n for n, exercise in ALL.items() if exercise.functions])
def test_all_functions_are_asked_for(number):
    some = dict(list(_right(number).items())[1:])
    for answer in (some, {**_right(number), "more": len}):
        with pytest.raises(Mistake, match="check needs all functions"):
            ALL[number].check(answer)


@pytest.mark.parametrize("number", [n for n, exercise in ALL.items() if exercise.values])
def test_values_that_are_all_open_are_not_tried_yet(number, capsys):
    assert check(number, dict.fromkeys(ALL[number].values)) is False
    assert "not tried yet" in capsys.readouterr().out
