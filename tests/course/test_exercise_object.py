"""The object behind an exercise: coercion, the order of diagnoses, parts, own rules, time."""

import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from widgets.core import time_limit
from widgets.core.exercise import Exercise
from widgets.core.forms import as_typed, like, same
from widgets.core.judge import Case, Mistake

HINTS = ("one", "two", "three")


def told(exercise, answer):
    with pytest.raises(Mistake) as caught:
        exercise.check(answer)
    return caught.value


def of(reference, *cases, **form):
    exercise = Exercise("99.1", "f", hints=HINTS, **form)
    exercise.reference(reference)
    exercise.cases(list(cases))
    return exercise


# What counts as a right answer ------------------------------------------------------------------


@pytest.mark.parametrize(
    "want, got",
    [
        (4, np.int64(4)),
        (4, torch.tensor(4)),
        (4, torch.tensor([4])),
        (4, np.array([4])),
        (0.5, np.float32(0.5)),
        (0.5, torch.tensor(0.5)),
        (2.0, 2),
        (0.3, 0.1 + 0.2),
        (True, np.True_),
        (True, torch.tensor(True)),
        ("a", np.str_("a")),
        ((1, 2.0), [1, 2.0]),
        ([1, 2], (np.int64(1), 2)),
        ([1, 2], np.array([1, 2])),
        ([0, 1, 2], range(3)),
        ([1, 2], torch.tensor([1, 2])),
        ({"a": 1.5, "b": 2}, {"b": np.int32(2), "a": np.float64(1.5)}),
        (torch.tensor(3.0), 3),
        (torch.tensor(3), np.int64(3)),
        (torch.tensor([1.0, 2.0]), np.array([1.0, 2.0])),
        (torch.tensor([1, 2]), torch.tensor([1, 2], dtype=torch.int32)),
        (float("inf"), np.inf),
    ],
)
def test_a_result_is_brought_to_the_form_that_is_wanted(want, got):
    of(lambda x: want, (1,)).check(lambda x: got)


@pytest.mark.parametrize(
    "want, got, name",
    [
        (4, 4.0, "a float, not a whole number"),
        ((4, 1), [4.0, 1], "a float, not a whole number"),
        (4, 4.5, "f: the values differ"),
        (1, True, "f: a number is needed"),
        (True, 1, "f: wrong type"),
        (0.5, "0.5", "f: a number is needed"),
        (0.5, float("nan"), "f: NaN, which is no number"),
        ((1, 2), 1, "f: 2 results are needed"),
        ((1, 2), "12", "f: 2 results are needed"),
        ((1, 2), (1, "2"), "f: a number is needed"),
        ({"a": 1}, {"b": 1}, "f: other keys"),
        (torch.tensor([1.0]), [1.0], "f: wrong type"),
        (torch.tensor([1.0]), torch.tensor([[1.0]]), "f: wrong shape"),
        (torch.tensor([1.0]), torch.tensor([1]), "f: wrong dtype"),
        (torch.tensor([True]), torch.tensor([1]), "f: wrong dtype"),
        (torch.tensor([1.0]), torch.tensor([2.0]), "f: the values differ"),
        (4, None, "f: nothing was returned"),
    ],
)
def test_what_loses_something_is_not_brought_to_it(want, got, name):
    mistake = told(of(lambda x: want, (1,)), lambda x: got)
    assert mistake.name == name
    assert mistake.shows.startswith("x=1")


def test_several_results_are_told_by_their_names():
    exercise = of(lambda x: (1.0, 2.0), (1,), results=("low", "high"))
    assert told(exercise, lambda x: (1.0, "two")).name == "f, high: a number is needed"
    assert told(exercise, lambda x: 1.0).why == "(low, high), in this order."


def test_the_tolerance_is_relative():
    assert same(1e12, 1e12 + 1, 1e-5) and not same(1e-8, 1.1e-8, 1e-5)
    assert like([1, [2]], [1, 2]) == [1, [2]]


def test_inputs_are_told_by_the_names_in_the_signature():
    inputs = (torch.tensor([3.0, 4.0]), torch.zeros(3, 3), 1e-5, [1] * 20)
    words = as_typed(("x", "y", "eps", "many"), inputs)
    assert words.startswith("x=[3, 4], y of shape [3, 3], eps=1e-05, many=[1, 1")
    assert len(words) < 100
    shown = told(of(lambda a, b, *, knob=1: a + b, (1, 2), Case((3, 4), "mine")), lambda a, b: 3)
    assert shown.shows.startswith("mine")


# Which mistake is named -------------------------------------------------------------------------


def _sums():
    exercise = Exercise("99.1", "f", hints=HINTS)
    exercise.reference(lambda a, b, *, sign=1: a + sign * b)
    exercise.mistake("b is subtracted", sign=-1).why("Add.")
    exercise.mistake("a product", lambda a, b: a * b)
    exercise.mistake("it stops", lambda a, b: 1 / 0)
    exercise.cases([(0, 0), (2, 2), (2, 1)])
    return exercise


def test_the_mistake_that_explains_every_case_comes_first():
    exercise = _sums()
    product = told(exercise, lambda a, b: a * b)
    assert (product.name, product.shows) == ("a product", "a=2, b=1")
    half = told(exercise, lambda a, b: a - b if b != 1 else 17)
    assert (half.name, half.shows) == ("b is subtracted", "a=2, b=2")
    assert told(exercise, lambda a, b: 17 * a).name == "f: the values differ"


def test_a_mistake_that_nothing_makes_is_refused():
    with pytest.raises(ValueError, match="'sing' is no knob"):
        _sums().mistake("typing error", sing=-1)
    for wrong in ((), ("One factor less.",)):
        with pytest.raises(ValueError, match="'none': knobs of the reference, or functions"):
            _sums().mistake("none", *wrong)
    with pytest.raises(ValueError, match="'both': knobs of the reference, or functions"):
        _sums().mistake("both", max, sign=-1)


def test_what_nothing_explains_may_have_a_name_of_its_own():
    exercise = of(lambda x: x, (1,), otherwise=("another way", "Look again."))
    assert told(exercise, lambda x: 7).name == "another way"


def test_an_input_that_is_written_into_spoils_nothing():
    def greedy(rows, x, table):
        total = sum(rows) + float(x.sum()) + len(table)
        rows.clear(), x.zero_(), table.clear()
        return total

    case = ([1, 2], torch.ones(2), {"a": 1})
    exercise = of(lambda rows, x, table: sum(rows) + float(x.sum()) + len(table), case, case)
    exercise.check(greedy)
    exercise.check(greedy)


# Several functions, sides of one, values, rules -------------------------------------------------


def test_parts_and_rules_are_judged_in_the_order_of_the_file():
    exercise, seen = Exercise("99.2", hints=HINTS), []
    one, two = exercise.part("one"), exercise.part("two")
    exercise.rule(lambda one, two: seen.append("both"))
    two.rule(lambda two: seen.append(two()))
    one.reference(lambda: 1)
    one.cases([()])
    one.mistake("none", lambda: 0)
    exercise.check({"one": lambda: 1, "two": lambda: 2})
    assert seen == ["both", 2]
    assert told(exercise, {"one": lambda: 0, "two": lambda: 2}).name == "none"
    assert told(exercise, {"one": len}).name == "check needs all functions"
    assert told(exercise, {"one": 1, "two": len}).name == "check needs the function"
    wrong = dict(exercise.wrong_answers({"one": len, "two": max}))
    assert wrong["none"]["two"] is max and wrong["none"]["one"]() == 0


def test_a_side_of_a_function_is_compared_alone():
    exercise = Exercise("99.3", "f", hints=HINTS)
    exercise.reference(lambda x, *, up=1: (x + up, x - 1))
    exercise.mistake("never compared", up=2)
    first = exercise.part("first", through=lambda f, x: f(x)[0])
    first.mistake("two up", up=2)
    first.cases([(1,), (5,)])
    exercise.check(lambda x: (x + 1, "whatever"))
    assert told(exercise, lambda x: (x + 2, "whatever")).name == "two up"
    assert told(exercise, lambda x: (0, 0)).name == "f, first: the values differ"


def test_values_are_asked_for_by_their_keys():
    exercise = Exercise("99.4", values=("a", "b"), hints=HINTS)
    exercise.rule(lambda given: exec("raise ValueError") if given["a"] != 1 else None)
    exercise.check({"a": 1, "b": None})
    with pytest.raises(NotImplementedError):
        exercise.check({"a": None, "b": None})
    assert told(exercise, 7).name == "check needs the dict"
    assert told(exercise, {"a": 1}).name == "'b' is missing"
    assert told(exercise, {"a": 1, "c": 2}).name == "'c' is not one of the keys"


# Time -------------------------------------------------------------------------------------------


def _endless():
    n = 0
    while n >= 0:
        try:
            n += 1
        except BaseException:
            pass


def _ruled(rule):
    exercise = Exercise("99.5", "f", hints=HINTS)
    exercise.rule(rule)
    return exercise


def test_a_call_that_does_not_end_is_ended_even_if_it_swallows_errors(monkeypatch):
    monkeypatch.setattr(time_limit, "SECONDS_PER_CALL", 0.2)
    assert told(_ruled(lambda f: f()), _endless).name == "your code does not end"
    assert told(_ruled(lambda f: f()()), lambda: _endless).name == "your code does not end"


_UNDER_A_PROFILER = """
import sys
from widgets.core import time_limit
from widgets.core.exercise import Exercise

time_limit.SECONDS_PER_CALL = 0.3
E = Exercise("99.1", "f", hints=("", "", ""))
E.rule(lambda f: f())
E.check(int)
try:
    E.check(lambda: [0 for _ in iter(int, 1)])
except AssertionError as mistake:
    print(mistake)
sys.setprofile(lambda *_: None)
print([n for n in range(3)])
"""


def test_a_profiler_or_debugger_works_after_a_check():
    command = [sys.executable, "-c", _UNDER_A_PROFILER]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=120)
    assert done.returncode == 0, done.stderr
    assert "does not end" in done.stdout and "[0, 1, 2]" in done.stdout


def test_many_slow_calls_are_ended_and_nothing_comes_after(monkeypatch):
    monkeypatch.setattr(time_limit, "SECONDS_IN_ALL", 0.5)
    rule = _ruled(lambda f: [f(0.02) for _ in range(1000)])
    assert told(rule, time.sleep).name == "your code is too slow"
    time.sleep(0.5)  # the second thread is gone: nothing is raised here


def test_what_the_exercise_itself_does_inside_a_call_is_not_counted(monkeypatch):
    monkeypatch.setattr(time_limit, "SECONDS_PER_CALL", 0.4)
    _ruled(lambda f: f(f.uncounted(lambda: time.sleep(2.5)))).check(lambda help: help())
    with pytest.raises(Mistake, match="does not end"):
        _ruled(lambda f: f(f.uncounted(int))).check(lambda help: [help(), time.sleep(2.5)])


def test_a_rule_may_set_a_limit_of_its_own():
    def rule(f):
        with f.limit.within(0.3, Mistake("right, but slow", shows="much")):
            f()

    assert told(_ruled(rule), _endless).name == "right, but slow"
    _ruled(rule).check(lambda: 1)


def test_a_call_that_trains_may_take_longer(monkeypatch):
    monkeypatch.setattr(time_limit, "SECONDS_PER_CALL", 0.2)

    def rule(f):
        with f.limit.longer(4):
            f()

    _ruled(rule).check(lambda: time.sleep(0.5))
    assert "stopped after 0.8 seconds" in str(told(_ruled(rule), _endless))
