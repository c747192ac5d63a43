"""The checkers of chapter 09: two different right answers pass, wrong ones are told why."""

import itertools
import time
from collections import Counter

import pytest
import torch
from exercise_tools import load_answers

from llama3lib.inference import SamplingParams
from llama3lib.inference.block_manager import BlockManager
from llama3lib.inference.model_runner import ModelRunner
from llama3lib.inference.sequence import Sequence
from llama3lib.inference.speculative import _verify
from llama3lib.model import Transformer, get_preset
from widgets import check
from widgets.ch09.exercises import CHECKS, HINTS
from widgets.ch09.exercises.guesses import RIGHT as RIGHT_STEP
from widgets.ch09.exercises.guesses import law_of
from widgets.ch09.exercises.plans import Call, Pace, best
from widgets.ch09.exercises.quiz import QUIZ
from widgets.ch09.exercises.speculative import WORLDS, p_value
from widgets.core.judge import Mistake, ch09_fp8, patience

A, B, C = (load_answers(name) for name in ("09", "09_serving", "09_guesses"))
RIGHT = {
    "09.1": [A.bytes_formula, A.bytes_counted],
    "09.2": [A.cached_sdpa, A.cached_loops],
    "09.3": [A.top_p_sorted, A.top_p_loop],
    "09.4": [B.write_pop, B.write_smallest],
    "09.5": [A.fp8_library, A.fp8_cut_first],
    "09.6": [B.plan_halving, B.plan_token_by_token],
    "09.7": [C.speculative_plain, C.speculative_at_once],
}
WRONG = {
    "09.1": A.BYTES_WRONG,
    "09.2": A.CACHED_WRONG,
    "09.3": A.TOP_P_WRONG,
    "09.4": B.WRITE_WRONG,
    "09.5": A.FP8_WRONG,
    "09.6": B.PLAN_WRONG,
    "09.7": C.SPECULATIVE_WRONG,
}
PLANTED = [
    pytest.param(exercise, name, wrong, id=f"{exercise}-{name}")
    for exercise, answers in WRONG.items()
    for name, wrong in answers.items()
]
JUNK = {
    "nothing": None,
    "text": "eight",
    "number": 3.5,
    "truth": True,
    "empty": [],
    "nested": [[1, 2], [3]],
    "tensor": torch.zeros(3, 2, 5),
    "object": object(),
}


@pytest.mark.parametrize("exercise", CHECKS)
@pytest.mark.parametrize("which", [0, 1])
def test_two_different_right_answers_pass(exercise, which):
    CHECKS[exercise](RIGHT[exercise][which])


@pytest.mark.parametrize(("exercise", "name", "wrong"), PLANTED)
def test_a_wrong_answer_is_told_its_mistake(exercise, name, wrong):
    with pytest.raises(Mistake) as caught:
        CHECKS[exercise](wrong)
    assert caught.value.name == name
    assert caught.value.shows


@pytest.mark.parametrize("counts, least", [*itertools.product((True, False), (0, 1, "the first"))])
def test_two_mistakes_of_a_plan_are_told_before_the_waiting_for_ever(counts, least):
    whole = "prompts are read whole or not at all"
    uncounted = "the tokens of the texts being written are not counted"
    wrongs = [(whole if counts else uncounted, B.whole_if_it_fits(counts, least))]
    for name, wrong in [*wrongs, (uncounted, B.uncounted)]:
        with pytest.raises(Mistake) as caught:
            CHECKS["09.6"](wrong)
        assert caught.value.name == name
        assert "decoding=0" not in caught.value.shows  # the call is one where the mistake is seen


@pytest.mark.parametrize("most, words", [(2, "times as long as it could"), (30, "% longer than")])
def test_a_slow_plan_is_told_in_times_or_in_percent(most, words):
    with pytest.raises(Mistake, match="fewer tokens are read than fit") as caught:
        CHECKS["09.6"](B.few(most))
    assert words in caught.value.why


@pytest.mark.parametrize("exercise", CHECKS)
def test_each_exercise_knows_at_least_three_mistakes_and_three_hints(exercise):
    assert len(WRONG[exercise]) >= 3
    assert len(set(HINTS[exercise])) == 3


@pytest.mark.parametrize("exercise", CHECKS)
def test_a_stub_counts_as_not_tried(exercise, capsys):
    def stub(*_):
        raise NotImplementedError("your turn")

    assert check(exercise, stub) is False
    assert "not tried yet" in capsys.readouterr().out


@pytest.mark.parametrize("exercise", CHECKS)
def test_an_answer_that_crashes_is_reported_not_raised(exercise):
    def crash(*_):
        raise ZeroDivisionError("oh")

    with pytest.raises(Mistake, match="your code stopped"):
        CHECKS[exercise](crash)


@pytest.mark.parametrize("exercise", CHECKS)
def test_something_else_than_a_function_is_told_so(exercise):
    with pytest.raises(Mistake, match="check needs the function"):
        CHECKS[exercise](7)


@pytest.mark.parametrize("exercise", CHECKS)
@pytest.mark.parametrize("kind", JUNK)
def test_a_result_of_another_kind_is_told_so(exercise, kind):
    with pytest.raises(Mistake) as caught:
        CHECKS[exercise](lambda *_: JUNK[kind])
    assert caught.value.shows


# Time ------------------------------------------------------------------------------------------

_ENDLESS = """
def endless(*_):
    n = 0
    while n >= 0:
        try:
            n += 1
        except Exception:
            pass
"""


def _cell(source):
    """A function as if written in a cell."""
    space = {}
    exec(compile(source, "<cell>", "exec"), space)
    return next(value for name, value in space.items() if not name.startswith("__"))


@pytest.mark.parametrize("exercise", CHECKS)
def test_an_endless_loop_is_ended_and_told(exercise, monkeypatch, capsys):
    monkeypatch.setattr(patience, "A_CALL", 0.3)
    assert check(exercise, _cell(_ENDLESS)) is False
    told = capsys.readouterr().out
    assert "your code does not end" in told and "Which loop" in told and "In endless" in told


def test_many_slow_calls_are_ended_and_nothing_comes_after(monkeypatch):
    monkeypatch.setattr(patience, "IN_ALL", 0.8)
    monkeypatch.setattr(patience, "A_CALL", 0.6)

    def slow(*given):
        time.sleep(0.05)
        return C.speculative_plain(*given)

    with pytest.raises(Mistake, match="your code is too slow"):
        CHECKS["09.7"](slow)
    time.sleep(0.5)  # the second thread is gone: nothing is raised here


# What the checkers hold to be right -------------------------------------------------------------


@pytest.mark.parametrize(("tokens", "size"), [(1, 16), (16, 16), (17, 4)])
def test_the_bytes_are_those_of_the_engines_cache(tokens, size):
    args = get_preset("tiny")
    runner = ModelRunner(Transformer(args), num_blocks=-(-tokens // size), block_size=size)
    assert A.bytes_formula(args, tokens, size, 4) == runner.cache.nbytes


def test_blocks_are_copied_when_the_engine_copies_them():
    """The same writes through `BlockManager`: two texts on one prompt of three tokens."""
    manager, size = BlockManager(num_blocks=8, block_size=2, prefix_sharing=False), 2
    parent = Sequence([1, 2, 3], SamplingParams())
    manager.reserve(parent, 3)
    manager.note_computed(parent, 3)
    child = parent.fork(1, None)
    manager.fork(parent, child)
    tables, readers = [[0, 1], [0, 1]], [2, 2, 0, 0, 0, 0, 0, 0]
    free = list(range(2, 8))
    for answer, position in ((0, 3), (1, 3), (1, 4), (0, 4), (0, 5)):
        sequence = (parent, child)[answer]
        copies = manager.reserve(sequence, 1)
        sequence.token_ids.append(9)
        manager.note_computed(sequence, 1)
        pair = B.write_pop(tables, readers, free, answer, position, size)
        assert (pair is None) == (not copies)
        assert [len(t) for t in tables] == [len(s.block_table) for s in (parent, child)]
    manager.check([parent, child])


def test_no_fp8_case_hangs_on_the_last_bit():
    cases = ch09_fp8._cases()
    assert all(ch09_fp8._is_certain(*case.inputs) for case in cases)
    assert any((case.inputs[0] == 0).all(-1).any() for case in cases)


@pytest.mark.parametrize("prompts", [(1,), (3, 2), (1, 4, 2)])
def test_no_plan_within_the_limit_reads_more_than_the_best(prompts):
    for decoding, limit, roof in itertools.product(range(4), (0.5, 3.5, 5.5), (False, True)):
        call = Call(decoding, prompts, Pace(1.0, 1.0, roof), limit)
        plans = itertools.product(*(range(p + 1) for p in prompts))
        most = max([0, *(sum(p) for p in plans if call.fits(decoding + sum(p)))])
        read = best(decoding, list(prompts), call.pace, limit)
        assert sum(read) == max(most, int(decoding == 0))


def test_the_law_of_a_right_step_is_the_targets():
    """Summed over all guesses, the first token is distributed as the target's first row."""
    for world in WORLDS:
        first = torch.zeros(world.size)
        for guesses in world.texts(world.num_guesses):
            rows = (world.rows(m, guesses).tolist() for m in (world.draft, world.target))
            for result, chance in law_of(guesses, *rows, *RIGHT_STEP).items():
                first[result[0]] += chance * world.chance(world.draft, guesses)
        assert torch.allclose(first, world.target[0], atol=1e-6)


def test_the_librarys_own_step_passes():
    CHECKS["09.7"](lambda guesses, q, p, dice: _verify(guesses, list(q), p, dice))


def test_a_right_step_passes_with_other_dice_too():
    """Not only with the seeds at hand: the dice are thrown some times before."""

    def shifted(guesses, draft_probs, target_probs, generator):
        torch.rand(3, generator=generator)
        return C.speculative_plain(guesses, draft_probs, target_probs, generator)

    CHECKS["09.7"](shifted)


def test_dice_of_python_are_found_out():
    with pytest.raises(Mistake, match="other dice than the generator's"):
        CHECKS["09.7"](C.python_dice)


def test_chi_square_equals_scipys():
    stats = pytest.importorskip("scipy.stats")
    counts, law = Counter(a=480, b=310, c=210), {"a": 0.5, "b": 0.3, "c": 0.2}
    want = stats.chisquare([480, 310, 210], [500, 300, 200]).pvalue
    assert p_value(counts, law) == pytest.approx(float(want), rel=1e-9)
    assert p_value(Counter(a=5, d=1), law) == 0.0
    assert p_value(Counter(a=500, b=300, c=200), law) == pytest.approx(1.0)


def test_every_choice_of_the_quiz_has_its_explanation():
    assert len(QUIZ) >= 9
    for question in QUIZ:
        assert len(question.options) >= 3
        assert all(len(option.why) > 20 for option in question.options)
    places = {[o.correct for o in q.options].index(True) for q in QUIZ}
    assert len(places) >= 3
