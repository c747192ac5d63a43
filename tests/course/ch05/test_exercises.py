"""What the exercises of chapter 05 rest on; their mistakes: `test_all_exercises.py`."""

import json
import math

import pytest
from exercise_tools import load_answers

from llama3lib.checkpoint import bundled_path, load_model
from llama3lib.paper import training
from llama3lib.utils.files import sha256_file
from widgets.ch05.exercises.e2_sums import SUMS
from widgets.ch05.exercises.e4_buggy_curves import BUGS, buggy_curves
from widgets.ch05.exercises.e4_buggy_curves import E as CURVES
from widgets.ch05.exercises.e7_speed_run import BUDGET, cost, house_recipe
from widgets.core.judge import Mistake

A = load_answers("05")


def test_the_sums_and_the_quiz_are_those_of_the_paper():
    batches = [n / 1e6 for n in training.BATCH_TOKENS.value]
    changes, last = training.BATCH_CHANGES.value, training.ANNEALING_TOKENS.value / 1e6
    assert batches == [4, 8, 16] and changes == (252e6, 2.87e12) and last == 40
    steps = changes[0] / 1e6 / batches[0]
    assert [*SUMS.values()] == [steps, steps / training.WARM_UP.value, last / batches[2]]
    assert [steps, last / batches[2]] == [
        training.FIRST_BATCH_STEPS.value,
        training.ANNEALING_STEPS.value,
    ]


def test_a_wrong_letter_is_never_told_the_right_bug():
    for letter, right in A.BUGS.items():
        for bug in BUGS:
            if bug == right:
                continue
            with pytest.raises(Mistake) as caught:
                CURVES.check(A.BUGS | {letter: bug})
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
