"""Pipeline decoding: the layers cut into stages, the texts into micro-batches (§6.1).

In BF16 the 405B needs two machines, and each holds half of the layers. A stage that has handed its
result on has nothing to do until it comes round again with new tokens. So the texts are cut into
micro-batches: while the second stage works on the first one, the first stage works on the next.

Several micro-batches are under way, each a step of its own (`submit`); the oldest comes back first
(`collect`), its tokens are drawn, and it sets out again while the others are still on their way.
With as many micro-batches as stages all stages work all the time. But each micro-batch reads the
weights again, and each token waits for the micro-batches before it.

Here a stage is a thread of this process: PyTorch lets other threads go on while it multiplies. On
several processes or machines it is a rank (`ranks.py`): the same loop with another `Link`.
"""

import time
from collections import deque
from dataclasses import dataclass
from itertools import pairwise
from queue import SimpleQueue
from threading import Barrier, Thread
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from llama3lib.inference.block_manager import BlockCopy
from llama3lib.inference.model_runner import MicroBatch, ModelRunner, advance
from llama3lib.inference.paged_attention import PagedCache
from llama3lib.inference.prompt_states import show_prompts
from llama3lib.inference.scheduler import ScheduledSequence, StepRow
from llama3lib.inference.shares import split_layers
from llama3lib.model import Transformer
from llama3lib.parallel.stages import make_stage
from llama3lib.utils.require import whole

_SPANS = 1024  # the latest ones are kept


def split_stages(model: Transformer, num_stages: int) -> list[Transformer]:
    """Cut a model into stages that share its weights; each takes what the one before gives.

    Only the first has `tok_embeddings`, only the last `norm` and `output`.

    Raises ValueError unless there is a layer for each stage.
    """
    names, last = list(model.layers), num_stages - 1
    return [
        make_stage(model, [names[i] for i in part], is_first=stage == 0, is_last=stage == last)
        for stage, part in enumerate(split_layers(model.args, num_stages))
    ]


@dataclass(frozen=True)
class StageSpan:
    """When a stage worked on a micro-batch; seconds of `time.perf_counter`."""

    stage: int
    micro_batch: int
    """Number of the step."""
    start: float
    end: float


class Link(Protocol):
    """Where a stage takes micro-batches from, or hands them on to; None: no more will come."""

    def put(self, batch: MicroBatch | None) -> None: ...

    def get(self) -> MicroBatch | None: ...


def work(stage: Transformer, source: Link, target: Link) -> None:
    """The life of a stage: take a micro-batch, bring it one stage further, hand it on."""
    with torch.inference_mode():
        while (batch := source.get()) is not None:
            start = time.perf_counter()
            try:
                if batch.error is None:
                    advance(stage, batch)
            except BaseException as error:  # whoever waits for the micro-batch shall get it
                batch.error = error
            batch.times.append((start, time.perf_counter()))
            target.put(batch)
    target.put(None)


class PipelineRunner:
    """A `ModelRunner` of several stages: same cache, same calls, same scores up to rounding.

    num_stages: at most one for each layer. num_micro_batches: how many may be submitted before the
    first is collected; with 1, only one stage works at a time.

    The model is its old self again after `close`.

    Raises ValueError for numbers that are not allowed, or if another runner or cache has the
    model.
    """

    def __init__(
        self,
        model: Transformer,
        *,
        num_blocks: int,
        block_size: int,
        num_stages: int = 2,
        num_micro_batches: int = 2,
    ) -> None:
        whole("num_micro_batches", num_micro_batches)
        stages = split_stages(model, num_stages)
        self._paged = PagedCache(model, num_blocks=num_blocks, block_size=block_size)
        self.device, self.block_size = self._paged.blocks.device, block_size
        self.num_stages, self.num_micro_batches = num_stages, num_micro_batches
        self.spans: deque[StageSpan] = deque(maxlen=_SPANS)
        """Who worked on what, for drawing."""
        self._sent: deque[tuple[MicroBatch, list[StepRow], list[ScheduledSequence]]] = deque()
        self._steps = 0
        self._links: list[Link] = [SimpleQueue() for _ in range(num_stages + 1)]
        ready = Barrier(num_stages + 1)
        self._threads = [
            Thread(target=_thread, args=(stage, *ends, ready), name=f"stage-{i}", daemon=True)
            for i, (stage, ends) in enumerate(zip(stages, pairwise(self._links), strict=True))
        ]
        for thread in self._threads:
            thread.start()
        ready.wait()
        # what a stage sets for itself becomes the start value of all later threads, too: put back
        torch.set_num_threads(torch.get_num_threads())

    draw = staticmethod(ModelRunner.draw)

    def close(self) -> None:
        """End the threads and give the model back; a second time does nothing."""
        if self._threads:
            self._links[0].put(None)
            for thread in self._threads:
                thread.join()
            self._threads = []
        self._paged.close()

    def submit(self, scheduled: list[ScheduledSequence], copies: list[BlockCopy]) -> None:
        """Send a micro-batch on its way. Raises ValueError after `close`."""
        if not self._threads:
            raise ValueError("the runner is closed: make another one")
        rows = [item.row for item in scheduled]
        batch = MicroBatch.of(rows, copies, self.block_size, self.device)
        self._links[0].put(batch)
        self._sent.append((batch, rows, scheduled))

    def collect(self) -> Float[Tensor, "B V"]:
        """Wait for the oldest: scores of the token that follows each sequence's last one.

        An error in a stage is raised here; the other micro-batches go on.
        """
        batch, rows, scheduled = self._sent.popleft()
        while self._links[-1].get() is not batch:
            pass  # one that was forgotten
        for stage, (start, end) in enumerate(batch.times):
            self.spans.append(StageSpan(stage, self._steps, start, end))
        self._steps += 1
        if batch.error is not None:
            raise batch.error
        with torch.inference_mode():
            show_prompts(batch.hidden, rows, scheduled)
        return batch.content

    def forget(self) -> None:
        """Leave what was submitted and not collected. Its blocks may be given to others at once:
        stages work in order, so whoever gets them writes later."""
        self._sent.clear()


def _thread(stage: Transformer, source: Link, target: Link, ready: Barrier) -> None:
    torch.set_num_threads(1)  # for this thread: the stages share the processor's cores
    ready.wait()
    work(stage, source, target)
