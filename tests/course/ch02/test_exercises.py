"""The checkers of chapter 02: two different right answers pass, wrong ones are told why."""

import pytest
from exercise_tools import in_place_of, load_answers

from widgets.ch02.exercises import CHECKS, HINTS
from widgets.ch02.exercises.models import planted_runs, rank_share
from widgets.core.judge import Mistake

A = load_answers("02")
RIGHT = {
    "02.1": [A.lines_counter, A.lines_dict],
    "02.2": [
        {"signature": A.signature_min, "estimate": A.estimate_sum},
        {"signature": A.signature_loop, "estimate": A.estimate_numpy},
    ],
    "02.3": [A.choose_down, A.choose_logs],
    "02.4": [A.merges_index, A.merges_recount_changed],
    "02.5": [
        {"train": A.train_library, "harmed": A.harmed_share},
        {"train": A.train_log_odds, "harmed": A.harmed_counter},
    ],
    "02.6": [A.mix_library, A.mix_by_hand],
    "02.7": [A.clean_judged, A.clean_by_pairs],
}
WRONG = {
    ("02.1", None): A.LINES_WRONG,
    ("02.2", "signature"): A.SIGNATURE_WRONG,
    ("02.2", "estimate"): A.ESTIMATE_WRONG,
    ("02.3", None): A.CHOOSE_WRONG,
    ("02.4", None): A.MERGES_WRONG,
    ("02.5", "train"): A.TRAIN_WRONG,
    ("02.5", "harmed"): A.HARMED_WRONG,
    ("02.6", None): A.MIX_WRONG,
    ("02.7", None): A.CLEAN_WRONG,
}
PLANTED = [
    pytest.param(exercise, part, name, wrong, id=f"{exercise}-{name}")
    for (exercise, part), answers in WRONG.items()
    for name, wrong in answers.items()
]


@pytest.mark.parametrize("exercise", CHECKS)
@pytest.mark.parametrize("which", [0, 1])
def test_two_different_right_answers_pass(exercise, which):
    CHECKS[exercise](RIGHT[exercise][which])


@pytest.mark.parametrize(("exercise", "part", "name", "wrong"), PLANTED)
def test_a_wrong_answer_is_told_its_mistake(exercise, part, name, wrong):
    answer = wrong if part is None else {**RIGHT[exercise][0], part: wrong}
    with pytest.raises(Mistake) as caught:
        CHECKS[exercise](answer)
    assert caught.value.name == name


@pytest.mark.parametrize("exercise", CHECKS)
def test_each_exercise_knows_at_least_three_mistakes_and_three_hints(exercise):
    assert sum(len(names) for (number, _), names in WRONG.items() if number == exercise) >= 3
    assert len(set(HINTS[exercise])) == 3


@pytest.mark.parametrize("exercise", CHECKS)
def test_a_stub_counts_as_not_tried(exercise):
    def stub(*_):
        raise NotImplementedError

    right = RIGHT[exercise][0]
    with pytest.raises(NotImplementedError):
        CHECKS[exercise](in_place_of(right, stub))


@pytest.mark.parametrize("exercise", CHECKS)
def test_an_answer_that_crashes_is_reported_not_raised(exercise):
    def crash(*_):
        raise ZeroDivisionError("oh")

    right = RIGHT[exercise][0]
    with pytest.raises(Mistake, match="your code stopped"):
        CHECKS[exercise](in_place_of(right, crash))


def test_a_right_but_slow_answer_is_told_so():
    with pytest.raises(Mistake) as caught:
        CHECKS["02.4"](A.merges_slow)
    assert caught.value.name == "it is right, but slow"


def test_the_planted_laws_have_their_best_mix_inside():
    for seed in (5, 6, 7):
        mixes, _, laws = planted_runs(seed)
        best = A.mix_library(
            mixes, [{n: law.predict(m) for n, law in zip("abc", laws, strict=True)} for m in mixes]
        )
        assert max(best.values()) < 0.85 and best not in mixes


def test_rank_share_is_the_area_under_the_curve():
    assert rank_share([0.9, 0.8], [0.1]) == 1
    assert rank_share([0.5], [0.5, 0.6]) == 0.25
