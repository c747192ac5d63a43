"""The checkers of chapter 03: different right answers pass, wrong ones are told why."""

import math
import time

import numpy as np
import pytest
from exercise_tools import in_place_of, load_answers

from llama3lib.paper import herd, scaling
from llama3lib.scaling import by_budget, fit_isoflop, fit_parabola
from widgets import check
from widgets.ch03.exercises import CHECKS, HINTS
from widgets.ch03.exercises.quiz import QUIZ
from widgets.core.judge import (
    Mistake,
    ch03_beyond,
    ch03_parabola,
    ch03_serving,
    ch03_spoilt,
    patience,
)

A, B = load_answers("03"), load_answers("03_budgets")
RIGHT = {
    "03.1": [A.match_plain, A.match_ratios],
    "03.2": [
        A.lowest_residuals,
        A.lowest_normal,
        A.lowest_cases,
        A.lowest_library,
        A.lowest_spread,
    ],
    "03.3": [A.PAIR_PLAIN, A.PAIR_LOGS],
    "03.4": [B.spoilt_left_out, B.spoilt_by_floor, B.spoilt_by_bend, B.spoilt_by_size],
    "03.5": [B.served_library, B.served_halving],
    "03.6": [B.predict_library, B.predict_by_hand],
}
WRONG = {
    "03.1": A.MATCH_WRONG,
    "03.2": A.LOWEST_WRONG,
    "03.3": A.PAIR_WRONG,
    "03.4": B.SPOILT_WRONG,
    "03.5": B.SERVED_WRONG,
    "03.6": B.BEYOND_WRONG,
}
ANSWERS = [
    pytest.param(exercise, right, id=f"{exercise}-{number}")
    for exercise, answers in RIGHT.items()
    for number, right in enumerate(answers)
]
PLANTED = [
    pytest.param(exercise, name, wrong, id=f"{exercise}-{name}")
    for exercise, answers in WRONG.items()
    for name, wrong in answers.items()
]
JUNK = {
    "nothing": None,
    "text": "eight",
    "truth": True,
    "empty": [],
    "nested": [[1, 2], [3]],
    "not a number": math.nan,
    "two of them": (math.nan, math.nan),
    "three of them": (math.nan, math.nan, math.nan),
    "array": np.zeros((3, 2)),
    "object": object(),
}


@pytest.mark.parametrize(("exercise", "right"), ANSWERS)
def test_different_right_answers_pass(exercise, right):
    CHECKS[exercise](right)


@pytest.mark.parametrize(("exercise", "name", "wrong"), PLANTED)
def test_a_wrong_answer_is_told_its_mistake(exercise, name, wrong):
    with pytest.raises(Mistake) as caught:
        CHECKS[exercise](wrong)
    assert caught.value.name == name
    assert caught.value.shows


@pytest.mark.parametrize("exercise", CHECKS)
def test_each_exercise_knows_at_least_five_mistakes_and_three_hints(exercise):
    assert len(WRONG[exercise]) >= 5
    assert len(set(HINTS[exercise])) == 3


@pytest.mark.parametrize("exercise", CHECKS)
def test_a_stub_counts_as_not_tried(exercise, capsys):
    def stub(*_):
        raise NotImplementedError("your turn")

    assert check(exercise, in_place_of(RIGHT[exercise][0], stub)) is False
    assert "not tried yet" in capsys.readouterr().out


@pytest.mark.parametrize("exercise", CHECKS)
def test_an_answer_that_crashes_is_reported_not_raised(exercise):
    def crash(*_):
        raise ZeroDivisionError("oh")

    with pytest.raises(Mistake, match="your code stopped"):
        CHECKS[exercise](in_place_of(RIGHT[exercise][0], crash))


@pytest.mark.parametrize("exercise", CHECKS)
def test_an_endless_loop_is_ended_and_told(exercise, monkeypatch):
    monkeypatch.setattr(patience, "A_CALL", 0.3)

    def endless(*_):
        while True:
            pass

    with pytest.raises(Mistake, match="your code does not end"):
        CHECKS[exercise](in_place_of(RIGHT[exercise][0], endless))


@pytest.mark.parametrize("exercise", CHECKS)
def test_something_else_than_a_function_is_told_so(exercise):
    with pytest.raises(Mistake, match="check needs"):
        CHECKS[exercise](7)


@pytest.mark.parametrize("exercise", CHECKS)
@pytest.mark.parametrize("kind", JUNK)
def test_a_result_of_another_kind_is_told_so(exercise, kind):
    with pytest.raises(Mistake) as caught:
        CHECKS[exercise](in_place_of(RIGHT[exercise][0], lambda *_: JUNK[kind]))
    assert caught.value.shows


def test_each_function_of_the_pair_is_judged_by_itself():
    def stub(*_):
        raise NotImplementedError

    with pytest.raises(NotImplementedError):
        CHECKS["03.3"](A.PAIR_PLAIN | {"box": stub})
    with pytest.raises(Mistake, match="all functions"):
        CHECKS["03.3"]({"law": A.PAIR_PLAIN["law"]})


@pytest.mark.parametrize("exercise", CHECKS)
def test_a_check_is_quick(exercise):
    begun = time.process_time()
    CHECKS[exercise](RIGHT[exercise][0])
    assert time.process_time() - begun < 4


def test_an_answer_that_writes_into_its_inputs_spoils_nothing():
    def greedy(models, budget):
        result = A.match_plain(models, budget)
        models.clear()
        return result

    CHECKS["03.1"](greedy)

    def sorting(runs):
        result = B.spoilt_by_bend(runs)
        runs.clear()
        return result

    CHECKS["03.4"](sorting)


# What the checkers hold to be right -------------------------------------------------------------


def test_the_flagship_is_the_one_that_matches_its_bill():
    table = scaling.SIX_ND
    models = {n: (table.cell(n, "parameters"), table.cell(n, "tokens")) for n in table.rows}
    costs, name = A.match_plain(models, herd.FLOPS.value)
    assert name == "405B"
    for model in table.rows:
        assert costs[model] == pytest.approx(table.cell(model, "FLOPs"), rel=2e-3)


def test_the_box_of_the_text_ends_below_the_printed_tokens():
    pair = scaling.EXPONENT.value, scaling.COEFFICIENT.value
    low, high = A.PAIR_PLAIN["box"](*pair, 2, herd.FLOPS.value)
    ends = [
        scaling.LAW_TABLE.cell(f"{end} corner of rounding", "tokens (T)")
        for end in ("lower", "upper")
    ]
    assert [round(low / 1e12, 2), round(high / 1e12, 2)] == ends
    assert high < scaling.OPTIMAL_TOKENS.value


def test_standard_error_agrees_with_the_scatter_of_fits():
    """The delta method against two thousand new draws of noise."""
    one = ch03_parabola.plant(11, 30, 0.006)
    x = np.log(one.sizes)
    curve = fit_parabola(one.sizes, one.losses)
    _, error = ch03_parabola.standard_error(one)
    fitted = np.array([curve.predict(size) for size in one.sizes])
    left = one.losses - fitted
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(2000, len(x))) * math.sqrt(left @ left / (len(x) - 3))
    bend, slope, _ = np.polyfit(x - x.mean(), (fitted + noise).T, 2)
    assert np.std(-slope / (2 * bend)) == pytest.approx(error, rel=0.08)


@pytest.mark.parametrize("right", [A.lowest_normal, A.lowest_library], ids=["normal", "library"])
@pytest.mark.parametrize("throw", [1000, 2000, 3000])
def test_an_honest_bootstrap_passes_with_any_dice(right, throw):
    results = [
        [one.call(right, resamples, throw + i) for i, one in enumerate(group)]
        for resamples, group in zip(ch03_parabola.RESAMPLES, ch03_parabola.groups(), strict=True)
    ]
    ch03_parabola.judge(results)


@pytest.mark.parametrize("throw", [1000, 2000, 3000])
def test_ninety_percent_are_never_enough(throw):
    wrong = A.LOWEST_WRONG["an interval of about 90 %"]
    results = [
        [one.call(wrong, resamples, throw + i) for i, one in enumerate(group)]
        for resamples, group in zip(ch03_parabola.RESAMPLES, ch03_parabola.groups(), strict=True)
    ]
    with pytest.raises(Mistake, match="90 %"):
        ch03_parabola.judge(results)


def test_losses_torn_from_their_sizes_do_not_pass():
    with pytest.raises(Mistake):
        CHECKS["03.2"](A.LOWEST_TORN)


def test_the_spoilt_budget_stands_out_by_the_law_and_not_by_its_parabola():
    places = set()
    for one in ch03_spoilt.cases():
        groups = by_budget(one.runs)
        places.add(list(groups).index(one.spoilt))
        scatter = {budget: ch03_spoilt._scatter(found) for budget, found in groups.items()}
        assert max(scatter, key=scatter.get) != one.spoilt
        clean = fit_isoflop(one.clean, resamples=10).size.law.exponent
        assert abs(clean - one.exponent) < 0.01
        assert abs(ch03_spoilt.exponent_of(one.runs) - clean) > 2 * ch03_spoilt.TOLERANCE
    assert len(places) >= 5


@pytest.mark.parametrize("seed", range(100, 106))
@pytest.mark.parametrize("place", range(6))
def test_honest_methods_find_the_spoilt_budget_wherever_it_is(seed, place):
    one = ch03_spoilt.plant(seed, place, 0.5)
    for method in RIGHT["03.4"]:
        assert method(list(one.runs))[0] == one.spoilt


def test_served_cases_hold_every_kind_of_end():
    told = [float(ch03_serving._right(*case.inputs)) for case in ch03_serving._cases()]
    assert told.count(0.0) > 3 and told.count(math.inf) > 3
    assert sum(0 < value < math.inf for value in told) > 10
    larger = [c for c in ch03_serving._cases() if c.inputs[2] > c.inputs[1][0]]
    ends = [float(ch03_serving._right(*case.inputs)) for case in larger]
    assert all(math.isfinite(value) for value in ends) and 0.0 in ends


def test_the_runs_to_predict_lie_four_and_ten_times_beyond():
    made = [one for one in ch03_beyond.cases() if one.made]
    beyond = [one.flops / max(by_budget(one.runs)) for one in made]
    assert sorted({round(times) for times in beyond}) == [4, 10]
    assert len(made) == 6 and len(ch03_beyond.cases()) == 10
    assert all(len(by_budget(one.runs)) == 4 and len(one.runs) == 20 for one in made)


def test_every_choice_of_the_quiz_has_its_explanation():
    assert len(QUIZ) >= 8
    for question in QUIZ:
        assert len(question.options) >= 3
        assert all(len(option.why) > 20 for option in question.options)
    places = {[o.correct for o in q.options].index(True) for q in QUIZ}
    assert len(places) >= 3


def test_the_quiz_reads_its_numbers_from_the_paper():
    told = "\n".join(f"{q.prompt} {[o.text + o.why for o in q.options]}" for q in QUIZ)
    for number in ("16.55T", "1,875", "38.5", "3.58", "10.46T", "16.29T", "34%", "8.1T", "3,800"):
        assert number in told
