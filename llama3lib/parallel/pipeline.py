"""Pipeline parallelism: a schedule executed on real ranks (§3.3.2).

Stages (`stages.py`) and which action comes when (`schedules.py`) are ours; sending, receiving and
the backward pass through a cut are torch.distributed.pipelining's.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float, Int
from torch import Tensor
from torch.distributed.pipelining import PipelineStage
from torch.distributed.pipelining.schedules import _Action, _PipelineScheduleRuntime

from llama3lib.model import DocumentMask, Transformer
from llama3lib.parallel.schedules import Action, Span, Timeline

Loss = Callable[[Tensor, Tensor, int], Tensor]
"""(logits, targets, targets of the whole batch) -> these targets' share of the loss."""


class PipelineRunner:
    """Takes micro-batches through the stages of this rank and back, in the order of `order_of`.

    order_of: what each rank does for a number of micro-batches, see `pipeline_order`.
    """

    def __init__(
        self,
        stages: list[Transformer],
        group: dist.ProcessGroup,
        order_of: Callable[[int], list[list[Action]]],
    ) -> None:
        self.stages, self.group, self.order_of = stages, group, order_of
        self.spans: list[Span] = []
        """When this rank computed each pass of the last run, by the machine's clock."""
        self.device = next(stages[0].parameters()).device
        self._schedules: dict[bool, tuple[object, _Schedule]] = {}
        self._loss: Callable[[Tensor, Tensor], Tensor] | None = None

    def run(
        self,
        inputs: Sequence[Int[Tensor, "b T"]],
        positions: Sequence[Int[Tensor, "#b T"]],
        masks: Sequence[DocumentMask | None],
        targets: Sequence[Int[Tensor, "b T"]],
        valid: int,
        loss: Loss,
        *,
        train: bool = True,
    ) -> Float[Tensor, ""]:
        """Sum of the losses, on the ranks of the last stage; 0 elsewhere.

        One element a micro-batch in each list, all of one shape. Adds to `.grad` if `train`.
        """
        self._loss = lambda logits, wanted: loss(logits, wanted, valid)
        kwargs = [
            {"positions": place, "attn_metadata": mask}
            for place, mask in zip(positions, masks, strict=True)
        ]
        shape = (len(inputs), *inputs[0].shape)
        made_for, schedule = self._schedules.get(train, (None, None))
        if made_for != shape:  # buffers are made for one shape
            schedule = self._make(len(inputs), train)
            self._schedules[train] = (shape, schedule)
        losses: list[Tensor] = []
        self.spans.clear()
        with torch.set_grad_enabled(train):
            schedule.run([(part,) for part in inputs], kwargs, list(targets), losses)
        zero = torch.zeros((), device=self.device)
        return torch.stack([loss.detach() for loss in losses]).sum() if losses else zero

    def timeline(self) -> Timeline:
        """The last run as all ranks saw it, from its first pass on. Called on all of them.

        Ranks of one machine share a clock; a GPU works on after a pass has been given to it.
        """
        found: list[list[Span]] = [[]] * dist.get_world_size(self.group)
        dist.all_gather_object(found, self.spans, group=self.group)
        begun = min(span.start for spans in found for span in spans)
        moved = [s._replace(start=s.start - begun, end=s.end - begun) for ss in found for s in ss]
        return Timeline(len(found), tuple(moved))

    def _make(self, micro_batches: int, train: bool) -> "_Schedule":
        pp, rank = dist.get_world_size(self.group), dist.get_rank(self.group)
        count = pp * len(self.stages)
        stages = [
            _TimedStage(stage, rank + i * pp, count, self.device, group=self.group)
            for i, stage in enumerate(self.stages)
        ]
        for stage in stages:
            stage.spans = self.spans
        order = self.order_of(micro_batches)
        return _Schedule(stages, order, micro_batches, lambda *pair: self._loss(*pair), train)


class _TimedStage(PipelineStage):
    """Notes when each of its passes is computed; what it waits for comes before."""

    spans: list[Span]

    def forward_one_chunk(self, micro_batch: int, *args: Any, **kwargs: Any) -> Any:
        return self._timed("F", micro_batch, super().forward_one_chunk, *args, **kwargs)

    def backward_one_chunk(self, micro_batch: int, *args: Any, **kwargs: Any) -> Any:
        return self._timed("B", micro_batch, super().backward_one_chunk, *args, **kwargs)

    def _timed(self, kind: str, micro_batch: int, work: Callable, *args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        result = work(micro_batch, *args, **kwargs)
        action = Action(kind, self.stage_index, micro_batch)
        self.spans.append(Span(self.group_rank, action, start, time.perf_counter()))
        return result


class _Schedule(_PipelineScheduleRuntime):
    """PyTorch's runtime with our order; it adds the messages between actions itself."""

    def __init__(
        self,
        stages: list[PipelineStage],
        order: list[list[Action]],
        micro_batches: int,
        loss: Callable[[Tensor, Tensor], Tensor],
        train: bool,
    ) -> None:
        super().__init__(stages, micro_batches, loss_fn=loss, scale_grads=False)
        self._has_backward = train
        actions = {r: [_Action.from_str(str(a)) for a in some] for r, some in enumerate(order)}
        self._prepare_schedule_with_comms(actions)

    def run(self, inputs: list, kwargs: list, targets: list, losses: list) -> None:
        """`step` without its cutting of the batch, which knows no masks."""
        for stage in self._stages:
            stage.has_backward = self._has_backward
            stage.clear_runtime_states()
        self._step_microbatches(inputs, kwargs, targets, losses, return_outputs=False)
