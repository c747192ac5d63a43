"""What the exercises of chapter 09 hold to be right; their mistakes: `test_all_exercises.py`."""

import itertools
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
from llama3lib.model.attention import ScaledDotProductAttention
from llama3lib.paper import inference as facts
from widgets.ch09.exercises import e2_cached_attention, e5_plan_step, e6_fp8_rows
from widgets.ch09.exercises import e7_speculative_step as speculative
from widgets.ch09.exercises.laws import law_of, p_value
from widgets.ch09.exercises.servers import Call, Pace
from widgets.core.judge import Mistake
from widgets.core.quiz import questions_of

A = load_answers("09")
PLAN, STEP = e5_plan_step.E, speculative.E


@pytest.mark.parametrize("counts, least", [*itertools.product((True, False), (0, 1, "the first"))])
def test_two_mistakes_of_a_plan_are_told_before_the_waiting_for_ever(counts, least):
    whole = "prompts are read whole or not at all"
    uncounted = "the tokens of the texts being written are not counted"
    wrongs = [(whole if counts else uncounted, A.whole_if_it_fits(counts, least))]
    for name, wrong in [*wrongs, (uncounted, A.uncounted)]:
        with pytest.raises(Mistake) as caught:
            PLAN.check(wrong)
        assert caught.value.name == name
        assert "decoding=0" not in caught.value.shows  # the call is one where the mistake is seen


@pytest.mark.parametrize("most, words", [(2, "times as long as it could"), (30, "% longer than")])
def test_a_slow_plan_is_told_in_times_or_in_percent(most, words):
    with pytest.raises(Mistake, match="fewer tokens are read than fit") as caught:
        PLAN.check(A.few(most))
    assert words in caught.value.why


@pytest.mark.parametrize(("tokens", "size"), [(1, 16), (16, 16), (17, 4)])
def test_the_bytes_are_those_of_the_engines_cache(tokens, size):
    args = get_preset("tiny")
    runner = ModelRunner(Transformer(args), num_blocks=-(-tokens // size), block_size=size)
    assert A.bytes_formula(args, tokens, size, 4) == runner.cache.nbytes


def test_attention_in_pieces_is_that_of_the_library_over_the_whole_text():
    for case in e2_cached_attention.E.inputs:
        whole = ScaledDotProductAttention()(*case.inputs[:3])
        pieces = e2_cached_attention.play(e2_cached_attention.E.right, *case.inputs)
        assert torch.allclose(whole, pieces, atol=1e-5), case.shows


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
        pair = A.write_pop(tables, readers, free, answer, position, size)
        assert (pair is None) == (not copies)
        assert [len(t) for t in tables] == [len(s.block_table) for s in (parent, child)]
    manager.check([parent, child])


def test_no_fp8_case_hangs_on_the_last_bit():
    cases = e6_fp8_rows._cases()
    assert all(e6_fp8_rows._is_certain(*case.inputs) for case in cases)
    assert any((case.inputs[0] == 0).all(-1).any() for case in cases)


@pytest.mark.parametrize("prompts", [(1,), (3, 2), (1, 4, 2)])
def test_no_plan_within_the_limit_reads_more_than_the_best(prompts):
    for decoding, limit, roof in itertools.product(range(4), (0.5, 3.5, 5.5), (False, True)):
        call = Call(decoding, prompts, Pace(1.0, 1.0, roof), limit)
        plans = itertools.product(*(range(p + 1) for p in prompts))
        most = max([0, *(sum(p) for p in plans if call.fits(decoding + sum(p)))])
        read = PLAN.right(decoding, list(prompts), call.pace, limit)
        assert sum(read) == max(most, int(decoding == 0))


def test_the_law_of_a_right_step_is_the_targets():
    """Summed over all guesses, the first token is distributed as the target's first row."""
    for world in speculative.WORLDS:
        first = torch.zeros(world.size)
        for guesses in world.texts(world.num_guesses):
            rows = (world.rows(m, guesses).tolist() for m in (world.draft, world.target))
            parts = speculative._RIGHT.values()
            for result, chance in law_of(guesses, *rows, *parts).items():
                first[result[0]] += chance * world.chance(world.draft, guesses)
        assert torch.allclose(first, world.target[0], atol=1e-6)


def test_the_librarys_own_step_passes():
    STEP.check(lambda guesses, q, p, dice: _verify(guesses, list(q), p, dice))


def test_a_right_step_passes_with_other_dice_too():
    """Not only with the seeds at hand: the dice are thrown some times before."""

    def shifted(guesses, draft_probs, target_probs, generator):
        torch.rand(3, generator=generator)
        return A.speculative_plain(guesses, draft_probs, target_probs, generator)

    STEP.check(shifted)


def test_dice_of_python_are_found_out():
    with pytest.raises(Mistake, match="other dice than the generator's"):
        STEP.check(A.python_dice)


def test_chi_square_equals_scipys():
    stats = pytest.importorskip("scipy.stats")
    counts, law = Counter(a=480, b=310, c=210), {"a": 0.5, "b": 0.3, "c": 0.2}
    want = stats.chisquare([480, 310, 210], [500, 300, 200]).pvalue
    assert p_value(counts, law) == pytest.approx(float(want), rel=1e-9)
    assert p_value(Counter(a=5, d=1), law) == 0.0
    assert p_value(Counter(a=500, b=300, c=200), law) == pytest.approx(1.0)


def test_the_quiz_reckons_as_the_paper_does():
    text = "\n".join(
        f"{q.prompt} {[o.text + o.why for o in q.options]}" for q in questions_of("09")
    )
    half = facts.BF16_GIGABYTES.value / 2  # what FP8 would need for all weights
    assert f"of {facts.SERVER_GIGABYTES.value // 8} GB was it served" in text
    assert f"{facts.FP8_PARAMETERS.value / half:.0%} of all" in text
