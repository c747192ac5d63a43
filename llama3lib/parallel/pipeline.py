"""Pipeline parallelism: the layers cut into stages, and a schedule executed on real ranks (§3.3.2).

Which action comes when is ours (`schedules.py`); sending, receiving and the backward pass through
a cut are torch.distributed.pipelining's.
"""

from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.distributed.pipelining import PipelineStage
from torch.distributed.pipelining.schedules import _Action, _PipelineScheduleRuntime

from llama3lib.model import DocumentMask, Transformer
from llama3lib.parallel.schedules import Action
from llama3lib.utils.require import require, require_all

Loss = Callable[[Tensor, Tensor, int], Tensor]
"""(logits, targets, targets of the whole batch) -> these targets' share of the loss."""


def split_layers(n_layers: int, stages: int) -> list[range]:
    """Which layers each stage has.

    All the same number if that divides. Else the first and the last stage have one fewer, if
    *that* divides: the embedding and the output matrix are their share of work and memory. So do
    the 126 layers of the 405B on 16 stages: 7, 8, ..., 8, 7.

    Raises ValueError if neither does.
    """
    fewer = 0 if n_layers % stages == 0 else 1
    each, rest = divmod(n_layers + 2 * fewer, stages)
    fits = rest == 0 and each > fewer
    require_all(
        fits, "layers, or layers + 2, must be a multiple of stages", layers=n_layers, stages=stages
    )
    ends = [min(max(each * i - fewer, 0), n_layers) for i in range(stages + 1)]
    return [range(start, end) for start, end in zip(ends, ends[1:], strict=False)]


def split_pipeline(model: Transformer, pp: int, rank: int, virtual: int = 1) -> list[Transformer]:
    """The `virtual` stages of a rank, which share their weights with the model.

    Stage s of PP·V is on rank s mod PP. Only the first has `tok_embeddings`, only the last `norm`
    and `output`; names of weights stay as they are.

    Raises ValueError for numbers that don't divide, or a tied output matrix.
    """
    tied = model.args.tie_embeddings and pp > 1
    require(not tied, "pp", pp, "1 where tie_embeddings=True: one matrix can't be on two stages")
    layers, stages = split_layers(model.args.n_layers, pp * virtual), pp * virtual
    return [
        make_stage(model, [str(i) for i in layers[s]], is_first=s == 0, is_last=s == stages - 1)
        for s in range(rank, stages, pp)
    ]


def make_stage(
    model: Transformer, layers: Sequence[str], *, is_first: bool, is_last: bool
) -> Transformer:
    """A model with some of another's layers, and of its ends only what belongs there."""
    with torch.device("meta"):  # the frame only: what is in it comes from the model
        stage = Transformer(model.args.replace(n_layers=1))
    stage.args, stage.freqs_cis = model.args, model.freqs_cis
    stage.layers = nn.ModuleDict({name: model.layers[name] for name in layers})
    stage.tok_embeddings = model.tok_embeddings if is_first else None
    stage.norm = model.norm if is_last else None
    stage.output = model.output if is_last else None
    return stage.train(model.training)


class PipelineRunner:
    """Takes micro-batches through the stages of this rank in a given order, and back."""

    def __init__(
        self, stages: list[Transformer], group: dist.ProcessGroup, device: torch.device, loss: Loss
    ) -> None:
        self.stages, self.group, self.device, self.loss = stages, group, device, loss
        self._schedule: _Schedule | None = None
        self._made_for: object = None
        self._valid = 1

    def run(
        self,
        order: list[list[Action]],
        inputs: Sequence[Int[Tensor, "b T"]],
        positions: Sequence[Int[Tensor, "#b T"]],
        masks: Sequence[DocumentMask | None],
        targets: Sequence[Int[Tensor, "b T"]],
        valid: int,
        *,
        train: bool = True,
    ) -> Float[Tensor, ""]:
        """Sum of the losses, on the ranks of the last stage; 0 elsewhere.

        One element a micro-batch in each list, all of one shape. Adds to `.grad` if `train`.
        """
        self._valid, key = valid, (order, inputs[0].shape, train)
        if self._made_for != key:  # buffers are made for one shape
            self._schedule, self._made_for = self._make(order, len(inputs), train), key
        losses: list[Tensor] = []
        with torch.set_grad_enabled(train):
            self._schedule.run(
                [(part,) for part in inputs],
                [
                    {"positions": place, "attn_metadata": mask}
                    for place, mask in zip(positions, masks, strict=True)
                ],
                list(targets),
                losses,
            )
        return torch.stack([loss.detach() for loss in losses]).sum() if losses else torch.zeros(())

    def _make(self, order: list[list[Action]], micro_batches: int, train: bool) -> "_Schedule":
        pp, rank = dist.get_world_size(self.group), dist.get_rank(self.group)
        count = pp * len(self.stages)
        stages = [
            PipelineStage(stage, rank + i * pp, count, self.device, group=self.group)
            for i, stage in enumerate(self.stages)
        ]
        loss = lambda logits, targets: self.loss(logits, targets, self._valid)  # noqa: E731
        return _Schedule(stages, order, micro_batches, loss, train)


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
