"""Whatever happens in whatever order: no block is lost, shared wrongly, or read stale."""

import random
import time

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from llama3lib.inference import SamplingParams
from llama3lib.inference.block_manager import BlockManager
from llama3lib.inference.scheduler import Scheduler
from llama3lib.inference.sequence import Sequence, SequenceStatus

BLOCKS, SIZE = 10, 4
TIGHT = {"max_num_seqs": 5, "max_num_batched_tokens": 7}


class Blocks(RuleBasedStateMachine):
    """A model of the cache: which tokens each slot really holds, beside what the manager says."""

    def __init__(self):
        super().__init__()
        self.manager = BlockManager(BLOCKS, SIZE)
        self.live: list[Sequence] = []
        self.content = [[None] * SIZE for _ in range(BLOCKS)]  # whole prefixes, one a slot

    @rule(tokens=st.lists(st.integers(0, 2), min_size=1, max_size=24))
    def begin(self, tokens):
        sequence = Sequence(tokens, SamplingParams())
        saved = self.manager.share_prefix(sequence)
        assert saved == sequence.num_computed_tokens < len(tokens)
        self._holds(sequence)
        self.live.append(sequence)

    @precondition(lambda self: self.live)
    @rule(which=st.integers(0, 99), count=st.integers(1, 9))
    def compute(self, which, count):
        sequence = self.live[which % len(self.live)]
        count = min(count, sequence.num_uncomputed_tokens)
        if not count or not self.manager.can_reserve(sequence, count):
            return
        for copy in self.manager.reserve(sequence, count):
            self.content[copy.target] = list(self.content[copy.source])
        done = sequence.num_computed_tokens
        for place in range(done, done + count):
            block = sequence.block_table[place // SIZE]
            self.content[block][place % SIZE] = tuple(sequence.token_ids[: place + 1])
        self.manager.note_computed(sequence, count)
        for other in self.live:
            self._holds(other)  # nobody's own tokens were written over

    @precondition(lambda self: self.live)
    @rule(which=st.integers(0, 99), token=st.integers(0, 2))
    def write(self, which, token):
        self.live[which % len(self.live)].token_ids.append(token)

    @precondition(lambda self: 0 < len(self.live) < 6)
    @rule(which=st.integers(0, 99))
    def fork(self, which):
        parent = self.live[which % len(self.live)]
        child = parent.fork(1, None)
        self.manager.fork(parent, child)
        self.live.append(child)

    @precondition(lambda self: self.live)
    @rule(which=st.integers(0, 99), ends=st.booleans())
    def free(self, which, ends):
        sequence = self.live[which % len(self.live)]
        self.manager.free(sequence)
        if ends:
            self.live.remove(sequence)

    @invariant()
    def nothing_leaks(self):
        self.manager.check(self.live)

    def _holds(self, sequence):
        for place in range(sequence.num_computed_tokens):
            block = sequence.block_table[place // SIZE]
            assert self.content[block][place % SIZE] == tuple(sequence.token_ids[: place + 1])


class Texts(RuleBasedStateMachine):
    """The scheduler's whole life: texts come, are read in pieces, fork, end, are called off."""

    def __init__(self):
        super().__init__()
        self.scheduler = Scheduler(BlockManager(BLOCKS, SIZE), **TIGHT)
        self.live: list[Sequence] = []

    @rule(
        tokens=st.lists(st.integers(0, 2), min_size=1, max_size=24),
        most=st.integers(1, 16),
        samples=st.integers(1, 3),
    )
    def come(self, tokens, most, samples):
        sequence = Sequence(tokens, SamplingParams(max_tokens=most), num_samples=samples)
        self.scheduler.add(sequence)
        self.live.append(sequence)

    @precondition(lambda self: self.live)
    @rule(fails=st.sampled_from([False] * 9 + [True]), words=st.randoms(use_true_random=False))
    def step(self, fails, words):
        first = self.live[0]
        plan = self.scheduler.schedule()
        # the oldest text is never left out, so each comes to its end
        assert any(item.sequence is first for item in plan.scheduled)
        assert 0 < plan.num_tokens <= TIGHT["max_num_batched_tokens"]
        assert all(item.num_tokens > 0 for item in plan.scheduled)
        if fails:
            self.scheduler.restart()
            assert self.scheduler.blocks.num_free_blocks == BLOCKS
            return
        for item in plan.scheduled:
            writes, sequence = item.is_last_piece, item.sequence
            self.scheduler.blocks.note_computed(sequence, item.num_tokens)
            if writes:
                self._fork(sequence)
                for one in [s for s in self.live if s.num_uncomputed_tokens == 0]:
                    self._write(one, words.randrange(3))

    def _fork(self, parent):
        place = self.live.index(parent) + 1
        for sample_id in range(parent.num_samples - 1, 0, -1):
            child = parent.fork(sample_id, None)
            self.scheduler.fork(parent, child)
            self.live.insert(place, child)
        parent.num_samples = 1

    def _write(self, sequence, token):
        sequence.token_ids.append(token)
        if sequence.num_output_tokens == sequence.params.max_tokens:
            self.scheduler.finish(sequence, "length")
            self.live.remove(sequence)

    @precondition(lambda self: self.live)
    @rule(which=st.integers(0, 99))
    def call_off(self, which):
        sequence = self.live.pop(which % len(self.live))
        self.scheduler.finish(sequence, "abort")
        assert sequence.is_finished and not sequence.block_table

    @invariant()
    def nothing_leaks(self):
        running, waiting = self.scheduler.running, list(self.scheduler.waiting)
        self.scheduler.blocks.check(running)
        assert running + waiting == self.live  # first come, first served
        assert all(s.status is SequenceStatus.RUNNING for s in running)
        assert all(s.status is SequenceStatus.WAITING and not s.block_table for s in waiting)
        assert sum(s.num_samples for s in running) <= TIGHT["max_num_seqs"]


@pytest.mark.parametrize("machine", [Blocks, Texts])
def test_ten_thousand_steps_lose_no_block(machine):
    steps = 0

    class Counted(machine):
        def __init__(self):
            nonlocal steps
            super().__init__()
            steps -= 1  # the invariant is looked at once before the first step

        @invariant()
        def count(self):
            nonlocal steps
            steps += 1

    much = settings(
        max_examples=400,
        stateful_step_count=50,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Counted, settings=much)
    assert steps >= 10_000


def test_sizes_are_checked():
    for wrong in ({"num_blocks": 0}, {"num_blocks": 4, "block_size": 0}):
        with pytest.raises(ValueError, match="1 or more"):
            BlockManager(**wrong)


def test_reserving_too_much_changes_nothing():
    manager = BlockManager(2, 4)
    sequence = Sequence(list(range(12)), SamplingParams())
    with pytest.raises(ValueError, match="3 blocks are needed, 2 are free"):
        manager.reserve(sequence, 12)
    manager.check([sequence])
    assert manager.num_free_blocks == 2


def finish_all(scheduler, words):
    """Give every text made-up tokens until all are finished; how many went through a model."""
    computed = 0
    while scheduler.has_work:
        plan = scheduler.schedule()
        computed += plan.num_tokens
        for item in plan.scheduled:
            writes, sequence = item.is_last_piece, item.sequence
            scheduler.blocks.note_computed(sequence, item.num_tokens)
            if writes:
                sequence.token_ids.append(words.randrange(1000))
                if sequence.num_output_tokens == sequence.params.max_tokens:
                    scheduler.finish(sequence, "length")
    scheduler.blocks.check([])
    return computed


@pytest.mark.parametrize("sharing", [True, False])
def test_a_text_that_must_make_room_soon_is_not_let_in(sharing):
    """Letting in whoever fits for one step made this load six times dearer without sharing."""
    words = random.Random(1)
    scheduler = Scheduler(BlockManager(60, 16, sharing), max_num_batched_tokens=256)
    useful = 0
    for _ in range(60):
        prompt = [words.randrange(1000) for _ in range(words.randint(50, 500))]
        params = SamplingParams(max_tokens=words.randint(20, 200))
        useful += len(prompt) + params.max_tokens - 1
        scheduler.add(Sequence(prompt, params))
    computed = finish_all(scheduler, words)
    assert scheduler.num_preemptions > 0
    assert useful <= computed < 1.4 * useful


def test_a_text_that_waits_counts_no_saved_tokens():
    words = random.Random(0)
    scheduler = Scheduler(BlockManager(10, 4))
    first = Sequence(list(range(20)), SamplingParams(max_tokens=2))
    scheduler.add(first)
    finish_all(scheduler, words)
    large = Sequence([5] * 20, SamplingParams(max_tokens=10))
    again = Sequence(list(range(20)), SamplingParams(max_tokens=20))
    scheduler.add(large)
    scheduler.add(again)
    finish_all(scheduler, words)
    assert (first.num_cached_tokens, large.num_cached_tokens) == (0, 0)
    assert again.num_cached_tokens == scheduler.blocks.hits == 8


def test_what_is_known_of_old_texts_stays_bounded():
    words = random.Random(0)
    scheduler = Scheduler(BlockManager(12, 2), max_num_seqs=3)
    for _ in range(300):
        prompt = [words.randrange(50) for _ in range(words.randint(1, 12))]
        scheduler.add(Sequence(prompt, SamplingParams(max_tokens=4)))
    finish_all(scheduler, words)
    assert len(scheduler.blocks._by_prefix) == len(scheduler.blocks._prefix_of) <= 12


def step_seconds(count):
    """CPU time of a step in which so many texts come, and of one in which each writes a token."""
    blocks = BlockManager(4 * count, 4)
    scheduler = Scheduler(blocks, max_num_seqs=count, max_num_batched_tokens=10 * count)
    for n in range(count):
        scheduler.add(Sequence([1, 2, n], SamplingParams(max_tokens=9)))
    times = []
    for _ in range(4):
        start = time.process_time()
        plan = scheduler.schedule()
        times.append(time.process_time() - start)
        assert len(plan.scheduled) == count
        for item in plan.scheduled:
            blocks.note_computed(item.sequence, item.num_tokens)
            item.sequence.token_ids.append(1)
    return times[0], min(times[1:])


def test_planning_takes_time_in_proportion_to_the_texts():
    few = [min(times) for times in zip(*(step_seconds(125) for _ in range(5)), strict=True)]
    many = [min(times) for times in zip(*(step_seconds(2000) for _ in range(2)), strict=True)]
    for short, long in zip(few, many, strict=True):
        assert long < 40 * short  # 16 times as many texts; looking at all for each: 256 times
