"""Pipeline decoding: the layers cut into stages, the texts of a step into micro-batches (§6.1).

In BF16 the 405B needs two machines, and each holds half of the layers. Without a backward pass
nothing has to be waited for at the end of a step, but a stage that has handed its result on still
has nothing to do until the next step. So the texts are cut into micro-batches: while the second
stage works on the first one, the first stage works on the next. That raises throughput and makes
each token wait longer.

Here a stage is a thread on this machine: PyTorch lets other threads go on while it multiplies.
Stages on several machines come later; what they need is another `Link`. A step ends before the
next one begins, because all its tokens are drawn together, so the stages wait for each other once
a step: two stages with two micro-batches save a quarter of the time at most. And each micro-batch
reads the weights again, which decoding on a CPU mostly waits for: there a small batch gains
nothing.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from queue import SimpleQueue
from threading import Barrier, Thread
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llama3lib.inference.block_manager import BlockCopy
from llama3lib.inference.model_runner import ModelRunner, end_to_end
from llama3lib.inference.paged_attention import PagedMetadata
from llama3lib.inference.prompt_states import show_prompts
from llama3lib.inference.scheduler import ScheduledSequence
from llama3lib.model import Transformer
from llama3lib.parallel.stages import make_stage
from llama3lib.utils.require import require


def split_stages(model: Transformer, num_stages: int) -> list[Transformer]:
    """Cut a model into stages that share its weights; each takes what the one before gives.

    Neighbouring layers stay together, the first stages have one more if the number does not
    divide. Only the first has `tok_embeddings`, only the last `norm` and `output`.

    Raises ValueError unless there is a layer for each stage.
    """
    names = list(model.layers)
    ok = type(num_stages) is int and 1 <= num_stages <= len(names)
    require(ok, "num_stages", num_stages, f"1 to {len(names)} layers")
    share, more = divmod(len(names), num_stages)
    stages, end = [], 0
    for i in range(num_stages):
        start, end = end, end + share + (i < more)
        is_first, is_last = i == 0, i == num_stages - 1
        stages.append(make_stage(model, names[start:end], is_first=is_first, is_last=is_last))
    return stages


def split_micro_batches(token_counts: list[int], num_micro_batches: int) -> list[list[int]]:
    """Places of the sequences in each micro-batch, with about equal numbers of tokens.

    The longest first, each into the micro-batch with the fewest tokens. Fewer sequences than
    micro-batches make fewer micro-batches; none is empty.
    """
    parts: list[list[int]] = [[] for _ in range(min(num_micro_batches, len(token_counts)))]
    tokens = [0] * len(parts)
    for place in sorted(range(len(token_counts)), key=lambda i: -token_counts[i]):
        lightest = tokens.index(min(tokens))
        parts[lightest].append(place)
        tokens[lightest] += token_counts[place]
    return [sorted(part) for part in parts]


@dataclass(frozen=True)
class StageSpan:
    """When a stage worked on a micro-batch; seconds since the step began."""

    stage: int
    micro_batch: int
    start: float
    end: float


@dataclass(eq=False)
class Parcel:
    """A micro-batch on its way: `content` is ids first, then the stream, then scores."""

    micro_batch: int
    content: Int[Tensor, "1 T"] | Float[Tensor, "1 T D"] | Float[Tensor, "B V"]
    positions: Int[Tensor, "1 T"]
    metadata: PagedMetadata
    last: list[int]
    """Row of each sequence's last token."""
    scheduled: list[ScheduledSequence]
    copies: list[BlockCopy]
    """Blocks that each stage copies first, in its part of the cache."""
    times: list[tuple[float, float]] = field(default_factory=list)
    """When each stage began and ended."""
    error: BaseException | None = None


class Link(Protocol):
    """What carries parcels from one stage to the next, in order; None: no more will come."""

    def put(self, parcel: Parcel | None) -> None: ...

    def get(self) -> Parcel | None: ...


class PipelineRunner:
    """A `ModelRunner` of several stages: same cache, same calls, same scores up to rounding.

    num_stages: at most one for each layer. num_micro_batches: with 1, only one stage works at a
    time. make_link: what connects two stages; a queue between threads if left out.

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
        make_link: Callable[[], Link] = SimpleQueue,
    ) -> None:
        ok = type(num_micro_batches) is int and num_micro_batches >= 1
        require(ok, "num_micro_batches", num_micro_batches, "1 or more")
        stages = split_stages(model, num_stages)
        self._whole = ModelRunner(model, num_blocks=num_blocks, block_size=block_size)
        self.device, self.block_size = self._whole.device, block_size
        self.num_stages, self.num_micro_batches = num_stages, num_micro_batches
        self.draw = self._whole.draw
        self.spans: list[StageSpan] = []
        """Who worked on what in the last step, for drawing."""
        self._links = [make_link() for _ in range(num_stages + 1)]
        ready = Barrier(num_stages + 1)
        self._threads = [
            Thread(target=_work, args=(stage, *ends, ready), name=f"stage-{i}", daemon=True)
            for i, (stage, ends) in enumerate(zip(stages, pairwise(self._links), strict=True))
        ]
        for thread in self._threads:
            thread.start()
        ready.wait()
        # what a stage sets for itself becomes the start value of all later threads, too: put back
        torch.set_num_threads(torch.get_num_threads())

    def close(self) -> None:
        """End the threads and give the model back; a second time does nothing."""
        if self._threads:
            self._links[0].put(None)
            for thread in self._threads:
                thread.join()
            self._threads = []
        self._whole.close()

    @torch.inference_mode()
    def run(
        self, scheduled: list[ScheduledSequence], copies: list[BlockCopy]
    ) -> Float[Tensor, "B V"]:
        """Scores of the token that follows each sequence's last one of this step.

        An error in a stage is raised here, when all micro-batches are through.
        Raises ValueError after `close`.
        """
        if not self._threads:
            raise ValueError("the runner is closed: make another one")
        parts = split_micro_batches([item.num_tokens for item in scheduled], self.num_micro_batches)
        parcels = [self._pack(i, [scheduled[place] for place in p]) for i, p in enumerate(parts)]
        parcels[0].copies = copies
        began = time.perf_counter()
        for parcel in parcels:
            self._links[0].put(parcel)
        missing = set(parcels)
        while missing:  # those of a step that was interrupted may come first
            missing.discard(self._links[-1].get())
        self.spans = [
            StageSpan(stage, parcel.micro_batch, start - began, end - began)
            for parcel in parcels
            for stage, (start, end) in enumerate(parcel.times)
        ]
        for parcel in parcels:
            if parcel.error is not None:
                raise parcel.error
        came = torch.tensor([place for part in parts for place in part], device=self.device)
        return torch.cat([parcel.content for parcel in parcels])[came.argsort()]

    def _pack(self, micro_batch: int, scheduled: list[ScheduledSequence]) -> Parcel:
        tokens, positions, last = end_to_end(scheduled)
        return Parcel(
            micro_batch,
            content=torch.tensor([tokens], device=self.device),
            positions=torch.tensor([positions], device=self.device),
            metadata=PagedMetadata.of(scheduled, self.block_size, self.device),
            last=last,
            scheduled=scheduled,
            copies=[],
        )


def _work(stage: Transformer, source: Link, target: Link, ready: Barrier) -> None:
    """The life of a stage's thread: take a parcel, bring it one stage further, hand it on."""
    torch.set_num_threads(1)  # for this thread: the stages share the processor's cores
    ready.wait()
    with torch.inference_mode():
        while (parcel := source.get()) is not None:
            start = time.perf_counter()
            try:
                if parcel.error is None:
                    _advance(stage, parcel)
            except BaseException as error:  # whoever waits for the parcel shall get it
                parcel.error = error
            parcel.times.append((start, time.perf_counter()))
            target.put(parcel)
    target.put(None)


def _advance(stage: Transformer, parcel: Parcel) -> None:
    for layer in stage.layers.values():
        paged = layer.attention.inner_attention
        for copy in parcel.copies:
            for cache in (paged.keys, paged.values):
                cache[:, copy.target] = cache[:, copy.source]
    h = stage.hidden_states(parcel.content, parcel.positions, parcel.metadata)
    if stage.output is None:
        parcel.content = h
    else:
        show_prompts(h[0], parcel.scheduled)
        parcel.content = stage.output(h[0, parcel.last])
