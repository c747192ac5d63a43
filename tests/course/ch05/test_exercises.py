"""The checkers of chapter 05: two different right answers pass, wrong ones are told why."""

import json
import math

import pytest
from exercise_tools import load_answers

from llama3lib.checkpoint import bundled_path, load_model
from llama3lib.utils.files import sha256_file
from widgets.ch05.exercises import CHECKS, HINTS
from widgets.ch05.exercises.races import BUDGET, cost, house_recipe
from widgets.ch05.exercises.runs import BUGS, buggy_curves
from widgets.core.judge import Mistake

A = load_answers("05")
RIGHT = {
    "05.1": [A.rate_library, A.rate_wave],
    "05.2": [A.SUMS, A.SUMS_DIVIDED],
    "05.3": [A.losses_library, A.losses_by_hand],
    "05.4": [A.BUGS, dict(reversed(A.BUGS.items()))],
    "05.5": [A.STAGES_THREE, A.STAGES_TWO],
    "05.6": [A.rank_sorted, A.rank_against_none],
    "05.7": [A.recipe_small, A.recipe_annealed],
}
WRONG = {
    "05.1": A.RATE_WRONG,
    "05.2": A.SUMS_WRONG,
    "05.3": A.LOSSES_WRONG,
    "05.4": A.BUGS_WRONG,
    "05.5": A.STAGES_WRONG,
    "05.6": A.RANK_WRONG,
    "05.7": A.RECIPE_WRONG,
}
TRAINED = ("05.5", "05.6", "05.7")
TRAINED_WRONG = ("short strings are forgotten", "the default data are missing in the mix")


def _marks(long):
    return [pytest.mark.slow] if long else []


ANSWERS = [
    pytest.param(exercise, which, id=f"{exercise}-{which}", marks=_marks(exercise in TRAINED))
    for exercise in CHECKS
    for which in (0, 1)
]
PLANTED = [
    pytest.param(
        exercise, name, wrong, id=f"{exercise}-{name}", marks=_marks(name in TRAINED_WRONG)
    )
    for exercise, answers in WRONG.items()
    for name, wrong in answers.items()
]
FUNCTIONS = [exercise for exercise in CHECKS if callable(RIGHT[exercise][0])]


@pytest.mark.parametrize(("exercise", "which"), ANSWERS)
def test_two_different_right_answers_pass(exercise, which):
    CHECKS[exercise](RIGHT[exercise][which])


@pytest.mark.parametrize(("exercise", "name", "wrong"), PLANTED)
def test_a_wrong_answer_is_told_its_mistake(exercise, name, wrong):
    with pytest.raises(Mistake) as caught:
        CHECKS[exercise](wrong)
    assert caught.value.name == name


@pytest.mark.parametrize("exercise", CHECKS)
def test_each_exercise_knows_at_least_three_mistakes_and_three_hints(exercise):
    assert len(WRONG[exercise]) >= 3
    assert len(set(HINTS[exercise])) == 3


@pytest.mark.parametrize("exercise", CHECKS)
def test_a_stub_counts_as_not_tried(exercise):
    def stub(*_):
        raise NotImplementedError

    right = RIGHT[exercise][0]
    with pytest.raises(NotImplementedError):
        CHECKS[exercise](stub if callable(right) else dict.fromkeys(right))


@pytest.mark.parametrize("exercise", FUNCTIONS)
def test_an_answer_that_crashes_is_reported_not_raised(exercise):
    def crash(*_):
        raise ZeroDivisionError("oh")

    with pytest.raises(Mistake, match="your code stopped"):
        CHECKS[exercise](crash)


@pytest.mark.parametrize("exercise", CHECKS)
def test_an_answer_of_another_kind_is_told_so(exercise):
    with pytest.raises(Mistake):
        CHECKS[exercise](7)


def test_a_wrong_letter_is_never_told_the_right_bug():
    for letter, right in A.BUGS.items():
        for bug in BUGS:
            if bug == right:
                continue
            with pytest.raises(Mistake) as caught:
                CHECKS["05.4"](A.BUGS | {letter: bug})
            assert right not in str(caught.value)


def test_the_curves_are_six_and_a_healthy_one_and_show_what_the_diagnoses_say():
    curves = buggy_curves()
    assert sorted(curves) == [*"ABCDEF", "healthy"]
    assert set(A.BUGS.values()) == set(BUGS)
    by_bug = {A.BUGS[letter]: curves[letter] for letter in "ABCDEF"}
    assert all(len(c["train"]) == len(c["held-out"]) == 40 for c in curves.values())
    healthy, last = curves["healthy"]["train"], {b: c["train"][-1] for b, c in by_bug.items()}
    assert by_bug["labels not shifted"]["train"][6] < 0.1
    future = by_bug["the future is visible"]["train"]
    assert abs(future[4] - healthy[4]) < 0.2 and future[20] < healthy[20] - 1
    same = by_bug["the same batch again and again"]
    assert same["train"][-1] < 0.1 and same["held-out"][-1] > min(same["held-out"]) + 2
    up = by_bug["gradients never cleared"]["train"]
    assert max(up[5:]) > min(up[:10]) + 1
    assert 2.5 < last["no warm-up and too high a rate"] < 3.5
    half = by_bug["the rate reaches 0 half-way"]["held-out"]
    assert max(half[22:]) - min(half[22:]) < 0.02 and half[-1] > healthy[-1] + 0.5
    assert math.isclose(healthy[0], by_bug["the rate reaches 0 half-way"]["train"][0], abs_tol=0.1)


@pytest.mark.parametrize("name", ["tiny-copier", "tiny-half"])
def test_a_lesson_model_is_the_one_its_provenance_tells_of(name):
    folder = bundled_path(name)
    told = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    assert sha256_file(folder / "model.safetensors") == told["weights_sha256"]
    assert (folder / "model.safetensors").stat().st_size < 500_000
    assert sum(p.numel() for p in load_model(name).parameters()) == told["parameters"]


def test_the_house_recipe_uses_its_budget():
    assert 0.97 * BUDGET < cost(house_recipe(BUDGET)) <= BUDGET
