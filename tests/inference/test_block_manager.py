"""Whatever happens in whatever order: no block is lost, shared wrongly, or read stale."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from llama3lib.inference import SamplingParams
from llama3lib.inference.block_manager import BlockManager
from llama3lib.inference.sequence import Sequence

BLOCKS, SIZE = 10, 4


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


Blocks.TestCase.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
TestBlocks = Blocks.TestCase  # 10,000 steps


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
