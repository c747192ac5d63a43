"""An engine on several processes: tensor and pipeline parallel, one rank each (§6.1).

Rank 0 schedules, draws tokens and has the last stage; it tells all others what is in each
micro-batch, as lists of numbers. The stream goes from stage to stage between ranks of the same
place, and inside a stage the ranks sum what they have (`shares.py`).

    ranks = EngineRanks.meet(tp=1, pp=2)         # on each rank, which torchrun has started
    part = load_model(folder, share=ranks.share)
    if ranks.share.rank:
        ranks.work(part)                          # until rank 0 closes its engine
    else:
        with LLMEngine(part, tokenizer, ranks=ranks, num_micro_batches=2) as engine: ...
"""

import contextlib
import json
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import astuple
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from llama3lib.inference.block_manager import BlockCopy
from llama3lib.inference.model_runner import MicroBatch, ModelRunner, advance
from llama3lib.inference.paged_attention import PagedCache
from llama3lib.inference.pipeline import StageSpan, work
from llama3lib.inference.prompt_states import scored_rows, show_prompts
from llama3lib.inference.scheduler import ScheduledSequence, StepRow
from llama3lib.inference.shares import Share, join_matrices
from llama3lib.model import Transformer
from llama3lib.utils.require import positive, require, whole

_FOREVER = timedelta(days=365)  # a server may have nothing to do for long
_AHEAD = 8  # parts of the stream that a stage may have handed on and nobody has taken
_SPANS = 1024  # the latest ones are kept


class RankLostError(RuntimeError):
    """Another rank is gone or gives no answer: nothing can be computed any more."""


class EngineRanks:
    """The ranks of an engine, and what they tell each other. Made on all of them together.

    timeout: seconds that a rank may take for its part of a step.

    Raises ValueError on every rank if other than TP·PP of them run.
    """

    def __init__(self, tp: int = 1, pp: int = 1, timeout: float = 300.0) -> None:
        positive("timeout", timeout)
        if not dist.is_initialized():
            dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
        whole("tp", tp)
        whole("pp", pp)
        world = dist.get_world_size()
        require(world == tp * pp, "tp * pp", tp * pp, f"{world}, for so many ranks run")
        self.share = Share(tp, pp, dist.get_rank())
        self._orders = dist.new_group(backend="gloo", timeout=_FOREVER)
        limit = timedelta(seconds=timeout)
        self._stream = dist.new_group(timeout=limit)
        stages = [list(range(first, first + tp)) for first in range(0, world, tp)]
        self._stage = [dist.new_group(stage, timeout=limit) for stage in stages]
        self._handed: deque[tuple[dist.Work, Tensor]] = deque()

    def join(self, part: Transformer) -> None:
        """Let the matrices of this rank's part, fused or not, speak with those of its stage."""
        if self.share.tp > 1:
            join_matrices(part, self._stage[self.share.rank // self.share.tp])

    def work(self, part: Transformer) -> None:
        """What every rank but 0 does until rank 0 closes its engine.

        Raises RankLostError if another rank is gone, and whatever goes wrong here.
        """
        link = _RankLink(self, part)
        try:
            work(part, link, link)
        finally:
            link.close()

    # ---- messages

    def order(self, message: dict[str, Any]) -> list[tuple[dist.Work, Tensor]]:
        """From rank 0 to all others; does not wait. To be kept until they must have it."""
        ranks = range(1, dist.get_world_size())
        return [sending for rank in ranks for sending in self._send(message, rank)]

    def next_order(self) -> dict[str, Any]:
        """The next of rank 0's messages; waits for it."""
        return self._receive(0)

    def answer(self, found: Any) -> None:
        """From another rank to rank 0, when it asks."""
        for sending, _ in self._send(found, 0):
            sending.wait()

    def answers(self) -> list[Any]:
        """What the first rank of each stage answers, from the first stage on, but for rank 0."""
        tp, world = self.share.tp, dist.get_world_size()
        return [self._receive(rank) for rank in range(world - tp, 0, -tp)]

    def hand_on(self, stream: Float[Tensor, "1 T D"]) -> None:
        """To the rank of the same place in the next stage; does not wait."""
        stream = stream.contiguous()
        next_rank = self.share.rank - self.share.tp
        self._handed.append((dist.isend(stream, next_rank, group=self._stream), stream))
        while len(self._handed) > _AHEAD:
            with _reaching(next_rank):
                self._handed.popleft()[0].wait()

    def take(self, stream: Float[Tensor, "1 T D"]) -> Float[Tensor, "1 T D"]:
        """What the stage before hands on, into `stream`; waits for it."""
        rank = self.share.rank + self.share.tp
        with _reaching(rank):
            dist.recv(stream, rank, group=self._stream)
        return stream

    def _send(self, message: Any, rank: int) -> list[tuple[dist.Work, Tensor]]:
        data = torch.frombuffer(bytearray(json.dumps(message).encode()), dtype=torch.uint8)
        parts = torch.tensor([len(data)]), data
        return [(dist.isend(part, rank, group=self._orders), part) for part in parts]

    def _receive(self, rank: int) -> Any:
        size = torch.zeros(1, dtype=torch.long)
        with _reaching(rank):
            dist.recv(size, rank, group=self._orders)
            data = torch.empty(int(size), dtype=torch.uint8)
            dist.recv(data, rank, group=self._orders)
        return json.loads(data.numpy().tobytes())


@contextlib.contextmanager
def _reaching(rank: int | str) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        told = str(error).strip().splitlines()[0][:300]
        message = f"rank {rank} is gone or gives no answer: lost connection ({told})"
        raise RankLostError(message) from error


class RankRunner:
    """A `ModelRunner` on rank 0, whose model is a part: the other ranks have theirs (`work`).

    Raises ValueError on a rank other than 0, for wrong numbers, or if another cache has the part.
    """

    def __init__(
        self,
        part: Transformer,
        ranks: EngineRanks,
        *,
        num_blocks: int,
        block_size: int,
        num_micro_batches: int,
    ) -> None:
        require(ranks.share.rank == 0, "rank", ranks.share.rank, "0; the others call `work`")
        whole("num_micro_batches", num_micro_batches)
        cache = {"num_blocks": num_blocks, "block_size": block_size}
        self._paged = PagedCache(part, **cache)
        self.part, self.ranks, self.block_size = part, ranks, block_size
        self.device, self.num_micro_batches = self._paged.blocks.device, num_micro_batches
        self._spans: deque[tuple[int, float, float]] = deque(maxlen=_SPANS)
        self._sent: deque[tuple[Any, ...]] = deque()
        self._steps, self._open, self._is_lost = 0, True, False
        self._kept = ranks.order({"cache": cache})

    draw = staticmethod(ModelRunner.draw)

    def close(self) -> None:
        """End the other ranks' work and give the part back; a second time does nothing."""
        if self._open:
            self.forget()
            self._open = False
            for sending, _ in () if self._is_lost else self.ranks.order({"end": True}):
                sending.wait()
            self._paged.close()

    def submit(self, scheduled: list[ScheduledSequence], copies: list[BlockCopy]) -> None:
        """Send a micro-batch on its way.

        Raises ValueError after `close`, RankLostError after a rank was lost.
        """
        self._check()
        rows = [item.row for item in scheduled]
        order = {
            "rows": [astuple(row) for row in rows],
            "copies": [astuple(copy) for copy in copies],
            "scored": scored_rows(rows, scheduled),
        }
        self._sent.append((rows, copies, scheduled, self.ranks.order(order)))

    def collect(self) -> Float[Tensor, "B V"]:
        """Wait for the oldest, and bring it through the last stage.

        Raises RankLostError if that takes another rank too long; so does every call after an
        error in here, for the other ranks are then somewhere else.
        """
        self._check()
        rows, copies, scheduled, _ = self._sent.popleft()
        self._is_lost = True
        batch = MicroBatch.of(rows, copies, self.block_size, self.device)
        if self.ranks.share.pp > 1:
            batch.content = self.ranks.take(_room(self.part, batch))
        start = time.perf_counter()
        alone = self.ranks.share.tp == 1
        with torch.inference_mode(), contextlib.nullcontext() if alone else _reaching("beside 0"):
            advance(self.part, batch)
            self._spans.append((self._steps, start, time.perf_counter()))
            show_prompts(batch.hidden, rows, scheduled)
        self._is_lost = False
        self._steps += 1
        return batch.content

    def forget(self) -> None:
        """Let what was submitted come to its end, and leave it."""
        while self._sent and not self._is_lost:
            with contextlib.suppress(RankLostError):
                self.collect()
        self._sent.clear()

    @property
    def spans(self) -> list[StageSpan]:
        """Who worked on what of late; asks the other ranks, whose clock must be the same."""
        self._check()
        self._kept = self.ranks.order({"times": True})
        found = [*self.ranks.answers(), self._spans]
        return [StageSpan(stage, *span) for stage, spans in enumerate(found) for span in spans]

    def _check(self) -> None:
        if not self._open:
            raise ValueError("the runner is closed: make another one")
        if self._is_lost:
            raise RankLostError("lost connection: the ranks have to be started again")


class _RankLink:
    """Both ends of a stage on another rank than 0: rank 0 says what comes, neighbours bring it."""

    def __init__(self, ranks: EngineRanks, part: Transformer) -> None:
        self.ranks, self.part = ranks, part
        cache = ranks.next_order()["cache"]
        self._cache = PagedCache(part, **cache)
        self._block_size, self._device = cache["block_size"], self._cache.blocks.device
        self._spans: deque[tuple[int, float, float]] = deque(maxlen=_SPANS)
        self._order: dict[str, Any] = {}
        self._steps = 0

    def get(self) -> MicroBatch | None:
        """The next micro-batch; None when rank 0 has closed its engine."""
        while "times" in (order := self.ranks.next_order()):
            if self.ranks.share.rank % self.ranks.share.tp == 0:
                self.ranks.answer(list(self._spans))
        if "end" in order:
            return None
        self._order = order
        rows = [StepRow(*row) for row in order["rows"]]
        copies = [BlockCopy(*copy) for copy in order["copies"]]
        batch = MicroBatch.of(rows, copies, self._block_size, self._device)
        if self.ranks.share.stage > 0:
            batch.content = self.ranks.take(_room(self.part, batch))
        return batch

    def put(self, batch: MicroBatch | None) -> None:
        """Hand the stream on. In the last stage rank 0 alone goes on with the scores."""
        if batch is None:
            return
        if batch.error is not None:
            raise batch.error
        self._spans.append((self._steps, *batch.times[0]))
        self._steps += 1
        if self.part.output is None:
            self.ranks.hand_on(batch.content)
            return
        for first, behind in self._order["scored"]:
            self.part.output(batch.hidden[first:behind])  # rank 0 needs our rows of the matrix

    def close(self) -> None:
        """Give the part back."""
        self._cache.close()


def _room(part: Transformer, batch: MicroBatch) -> Float[Tensor, "1 T D"]:
    """For the stream of a micro-batch."""
    like = next(part.parameters())
    return like.new_empty((*batch.content.shape, part.args.dim))
