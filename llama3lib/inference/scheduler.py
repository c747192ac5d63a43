"""Who goes through the model next: continuous batching, chunked prefill, preemption.

Every step takes whatever is there: one token of each text that is being written, and as many prompt
tokens of new ones as fit. Nobody waits for the longest text of a batch to end.
"""

from collections import deque
from dataclasses import dataclass, field

from llama3lib.inference.block_manager import BlockCopy, BlockManager
from llama3lib.inference.sequence import Sequence, SequenceStatus
from llama3lib.utils.require import require, whole


@dataclass(frozen=True)
class StepRow:
    """What the model has to know of a sequence for one step: no more travels to other ranks."""

    tokens: list[int]
    start: int
    """Place of the first of them in the text."""
    blocks: list[int]

    @property
    def end(self) -> int:
        """Tokens of the sequence after the step."""
        return self.start + len(self.tokens)


@dataclass(frozen=True)
class ScheduledSequence:
    """The next `num_tokens` tokens of a sequence."""

    sequence: Sequence
    num_tokens: int

    @property
    def is_last_piece(self) -> bool:
        """Whether a token can be drawn after this step."""
        return self.num_tokens == self.sequence.num_uncomputed_tokens

    @property
    def row(self) -> StepRow:
        """As the model needs it."""
        sequence, start = self.sequence, self.sequence.num_computed_tokens
        tokens = sequence.token_ids[start : start + self.num_tokens]
        return StepRow(tokens, start, list(sequence.block_table))


@dataclass
class SchedulerOutput:
    """One step: who takes part, blocks to copy first, who had to make room."""

    scheduled: list[ScheduledSequence] = field(default_factory=list)
    copies: list[BlockCopy] = field(default_factory=list)
    preempted: list[Sequence] = field(default_factory=list)

    @property
    def num_tokens(self) -> int:
        """Tokens that go through the model."""
        return sum(item.num_tokens for item in self.scheduled)


class Scheduler:
    """Chooses the sequences of each step, first come first served.

    max_num_seqs: texts that are written at the same time.
    max_num_batched_tokens: tokens of one step; a longer prompt is read in pieces.
    num_micro_batches: steps that are under way at the same time; each takes its share of the
    sequences, and none of another's.

    Raises ValueError if one is below 1.
    """

    def __init__(
        self,
        block_manager: BlockManager,
        *,
        max_num_seqs: int = 64,
        max_num_batched_tokens: int = 512,
        num_micro_batches: int = 1,
    ) -> None:
        sizes = {"max_num_seqs": max_num_seqs, "max_num_batched_tokens": max_num_batched_tokens}
        for name, value in (sizes | {"num_micro_batches": num_micro_batches}).items():
            whole(name, value)
        self.blocks = block_manager
        self.max_num_seqs, self.max_num_batched_tokens = max_num_seqs, max_num_batched_tokens
        self.num_micro_batches = num_micro_batches
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.num_preemptions = 0

    def add(self, sequence: Sequence) -> None:
        """Queue a new sequence.

        Raises ValueError if it could never be finished: too long for all blocks together, or more
        samples than may run.
        """
        most = len(sequence) + max(sequence.params.max_tokens, 1) - 1
        needed, blocks = self.blocks.blocks_for(most), self.blocks.num_blocks
        if needed > blocks:
            room = blocks * self.blocks.block_size
            raise ValueError(
                f"{most} tokens are not allowed: the cache has room for {room}; "
                f"num_blocks={blocks} would have to be {needed}, or max_tokens less"
            )
        ok = sequence.num_samples <= self.max_num_seqs
        require(ok, "n", sequence.num_samples, f"1 to max_num_seqs={self.max_num_seqs}")
        self.waiting.append(sequence)

    def schedule(self) -> SchedulerOutput:
        """The next step. Empty only if there is nothing to do, or all of it is under way."""
        out, budget, share = SchedulerOutput(), self.max_num_batched_tokens, self._share()
        for sequence in list(self.running):
            if budget < 1 or len(out.scheduled) == share:
                break
            # it may have made room for another
            if sequence.status is SequenceStatus.RUNNING and not sequence.in_flight:
                budget -= self._schedule_running(sequence, budget, out)
        seats = self.max_num_seqs - sum(sequence.num_samples for sequence in self.running)
        while self.waiting and budget > 0 and not out.preempted and len(out.scheduled) < share:
            sequence = self.waiting[0]
            if sequence.num_samples > seats or not self._admit(sequence):
                break
            seats -= sequence.num_samples
            budget -= self._schedule_running(sequence, budget, out)
        self.num_preemptions += len(out.preempted)
        return out

    def _share(self) -> int:
        """Most sequences of one step: with two micro-batches, half of all that could run."""
        unfinished = min(len(self.running) + len(self.waiting), self.max_num_seqs)
        return -(-unfinished // self.num_micro_batches)

    def _schedule_running(self, sequence: Sequence, budget: int, out: SchedulerOutput) -> int:
        """Take its next tokens into the step; how many they are."""
        num_tokens = min(sequence.num_uncomputed_tokens, budget)
        while not self.blocks.can_reserve(sequence, num_tokens):
            out.preempted.append(self._preempt())
            if out.preempted[-1] is sequence:
                return 0
        out.copies += self.blocks.reserve(sequence, num_tokens)
        out.scheduled.append(ScheduledSequence(sequence, num_tokens))
        return num_tokens

    def _preempt(self) -> Sequence:
        """Free the blocks of the one that came last: it has least to lose.

        What it has written stays and will be read again like a prompt. One that is in flight
        keeps its blocks: they are being written to.
        """
        sequence = next(one for one in reversed(self.running) if not one.in_flight)
        self.running.remove(sequence)
        self.blocks.free(sequence)
        sequence.status = SequenceStatus.WAITING
        self.waiting.appendleft(sequence)
        return sequence

    def _admit(self, sequence: Sequence) -> bool:
        """Let the first in the queue in, if it need not make room again at once.

        All of it must fit, not only the piece that is read next, and each running text must find
        one block more; otherwise it would be read, thrown out and read again.
        """
        if not self.blocks.num_free_blocks:
            return False
        if not sequence.readers:  # they want to see all of it
            self.blocks.share_prefix(sequence)
        todo, spare = sequence.num_uncomputed_tokens, len(self.running)
        if not self.blocks.can_reserve(sequence, todo, spare=spare):
            self.blocks.free(sequence)
            return False
        self.blocks.hits += sequence.num_computed_tokens
        if sequence.num_cached_tokens is None:
            sequence.num_cached_tokens = sequence.num_computed_tokens
        self.waiting.popleft()
        self.running.append(sequence)
        sequence.status = SequenceStatus.RUNNING
        return True

    def restart(self) -> None:
        """Let every text be read again, for instance after a step that failed half-way.

        Nothing is lost but time: what was computed before that step is still found by its prefix.
        """
        for sequence in self.running:
            sequence.in_flight = False
        while self.running:
            self._preempt()

    def fork(self, parent: Sequence, child: Sequence) -> None:
        """Let a child run beside its parent, on the same blocks."""
        self.blocks.fork(parent, child)
        self.running.insert(self.running.index(parent) + 1, child)

    def finish(self, sequence: Sequence, reason: str) -> None:
        """End a sequence, wherever it is, and take back its blocks."""
        if sequence.status is SequenceStatus.RUNNING:
            self.running.remove(sequence)
        elif sequence.status is SequenceStatus.WAITING:
            self.waiting.remove(sequence)
        self.blocks.free(sequence)
        sequence.status, sequence.finish_reason = SequenceStatus.FINISHED, reason

    @property
    def has_work(self) -> bool:
        """Whether any sequence is not finished."""
        return bool(self.waiting or self.running)
