"""A model on a mesh: the one place that knows in which order its parallelisms are applied."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
import torch.distributed as dist
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.device_mesh import DeviceMesh

from llama3lib.model import DocumentMask, Transformer
from llama3lib.model.attention import AttentionMask
from llama3lib.parallel.activation import apply_activation_checkpointing
from llama3lib.parallel.context import apply_cp, cut_sequence
from llama3lib.parallel.data import apply_fsdp, let_go, sync_gradients
from llama3lib.parallel.dims import (
    ParallelDims,
    check_same_weights,
    device_of,
    dims_of,
    fsdp_mesh,
    same_on_all_ranks,
)
from llama3lib.parallel.gradients import sum_of_squares
from llama3lib.parallel.pipeline import Loss, PipelineRunner
from llama3lib.parallel.schedules import Action, Timeline, pipeline_order
from llama3lib.parallel.stages import split_pipeline
from llama3lib.parallel.tensor import apply_tp, vocab_parallel_loss
from llama3lib.utils.require import require, whole

IGNORED = -100
"""A target that is not asked for, as in the pre-training loss."""


@dataclass(frozen=True, kw_only=True)
class ParallelPlan:
    """How the dimensions of a mesh are used. The defaults are the paper's where it tells."""

    virtual: int = 1
    """V: pipeline stages on each rank."""
    run: int | None = None
    """N: micro-batches in a row on one stage (`pipeline_order`)."""
    schedule: str = "1f1b"
    """"1f1b" or "gpipe"."""
    context: str = "all-gather"
    """"all-gather" or "ring"."""
    loss_parallel: bool = True
    """Logits stay cut by vocabulary under TP; the loss is then `vocab_parallel_loss`."""
    recompute: bool = False
    """Activations are computed again in the backward pass."""
    reshard_after_forward: bool = False
    param_dtype: torch.dtype | None = None
    """Both as in `apply_fsdp`."""
    dtype: torch.dtype | None = None
    """Products in this dtype (autocast)."""
    compile: bool = False
    """Model and loss through `torch.compile`; in a pipeline each stage by itself."""


def parallelize(
    model: Transformer, mesh: DeviceMesh | None = None, plan: ParallelPlan | None = None
) -> "ParallelModel":
    """Cut a model, in place, for this rank of a mesh (`ParallelDims.build_mesh`); None: one rank.

    Every rank hands in the same whole model, so that the weights do not depend on the mesh; or
    one on the meta device, which gets them by `load_full_state`. The order: pipeline stages, then
    in each of them tensor, context, recomputation, and FSDP around all of it.

    Raises ValueError, before any rank waits for another, if a number does not divide; or if
    the ranks' weights differ.
    """
    plan = plan or ParallelPlan()
    dims = dims_of(mesh)
    dims.check(model.args)
    whole("virtual", plan.virtual)
    one_stage = dims.pp > 1 or plan.virtual == 1
    require(one_stage, "virtual", plan.virtual, "1 where pp=1: there is no pipeline")
    check_same_weights(model, dims.world)
    parts = [model]
    if dims.pp > 1:
        parts = split_pipeline(model, dims.pp, mesh["pp"].get_local_rank(), plan.virtual)
    for part in parts:
        if dims.tp > 1:
            apply_tp(part, mesh["tp"], loss_parallel=plan.loss_parallel)
        if dims.cp > 1:
            apply_cp(part, mesh["cp"].get_group(), plan.context)
        if plan.recompute:
            apply_activation_checkpointing(part)
        if plan.dtype is not None and dims.pp > 1:
            part.forward = torch.autocast(mesh.device_type, dtype=plan.dtype)(part.forward)
        if dims.dp * dims.cp > 1:
            apply_fsdp(
                part,
                fsdp_mesh(mesh),
                reshard_after_forward=plan.reshard_after_forward,
                param_dtype=plan.param_dtype,
            )
        if plan.compile and dims.pp > 1:
            part.compile()
    return ParallelModel(parts, mesh, dims, plan)


class ParallelModel:
    """This rank's share of a model: one part, or the V stages that it has of a pipeline.

    One rank without a mesh is the plain case, so one training loop serves all.
    """

    def __init__(
        self,
        parts: list[Transformer],
        mesh: DeviceMesh | None,
        dims: ParallelDims,
        plan: ParallelPlan,
    ) -> None:
        self.parts, self.mesh, self.dims, self.plan = parts, mesh, dims, plan
        self._runner: PipelineRunner | None = None
        self._cut_loss: Loss | None = None
        self._share = torch.compile(_share) if plan.compile else _share

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """What this rank trains, by the names that the whole model has."""
        for part in self.parts:
            yield from part.named_parameters()

    def parameters(self) -> Iterator[nn.Parameter]:
        """The same without names."""
        return (parameter for _, parameter in self.named_parameters())

    @property
    def device(self) -> torch.device:
        """Where this rank computes."""
        return next(self.parameters()).device

    @property
    def dp_rank(self) -> int:
        """Which of the `dims.dp` shares of a global batch this rank is given."""
        if self.mesh is None:
            return 0
        place = self.dims.coordinates(dist.get_rank())
        return place["dp_replicate"] * self.dims.dp_shard + place["dp_shard"]

    def backward(
        self,
        inputs: Int[Tensor, "B T"],
        targets: Int[Tensor, "B T"],
        document_ids: Int[Tensor, "B T"] | None,
        loss: Loss,
        *,
        micro_batch: int | None = None,
        train: bool = True,
        mask: Callable[[Tensor], AttentionMask] = DocumentMask,
    ) -> tuple[Float[Tensor, ""], int]:
        """Add the batch's gradient to `.grad`; the loss of the global batch and its targets.

        B rows of this rank's share, T whole: the ranks of one share are given the same rows. They
        go through `micro_batch` at a time. However batch and model are cut, the gradient is that
        of the mean over all targets of the global batch.
        loss: as `next_token_loss`. Not used if logits are cut by vocabulary.
        train: False for the loss alone. mask: what document ids mean.

        Raises ValueError, on every rank, if the numbers do not divide or differ between ranks.
        """
        rows, length = inputs.shape
        size = rows if micro_batch is None else micro_batch
        whole("micro_batch", size)
        self.dims.check(self.parts[0].args, sequence=length)
        sizes = rows, length, size
        same = self.mesh is None or same_on_all_ranks(torch.tensor(sizes, device=self.device))
        require(same, "rows, tokens, micro_batch", sizes, "the same on every rank")
        valid = max(1, int(self._sum(torch.count_nonzero(targets != IGNORED), "cp", "pp", "tp")))
        loss = self._loss(loss)
        pieces = [
            self._piece(inputs, targets, document_ids, slice(start, start + size), mask)
            for start in range(0, rows, size)
        ]
        if self.dims.pp > 1:
            total = self._run_pipeline(pieces, rows, size, valid, loss, train)
        else:
            total = self._run_plain(pieces, valid, loss, train)
        return self._sum(total, "tp"), valid

    def _run_plain(self, pieces: list, valid: int, loss: Loss, train: bool) -> Tensor:
        model, total = self.parts[0], 0.0
        for i, (inputs, positions, mask, targets) in enumerate(pieces):
            sync_gradients(model, last=i == len(pieces) - 1)
            with torch.set_grad_enabled(train), self._autocast():
                share = self._share(model, loss, inputs, positions, mask, targets, valid)
            if train:
                share.backward()
            total += share.detach()
        if not train:
            let_go(model)
        return total

    def _autocast(self) -> contextlib.AbstractContextManager:
        dtype = self.plan.dtype
        return torch.autocast(self.device.type, dtype=dtype) if dtype else contextlib.nullcontext()

    def _run_pipeline(
        self, pieces: list, rows: int, size: int, valid: int, loss: Loss, train: bool
    ) -> Tensor:
        allowed = f"a divisor of the {rows} sequences of each rank"
        require(rows % size == 0, "micro_batch", size, allowed)
        if self._runner is None:
            self._runner = PipelineRunner(self.parts, self.mesh["pp"].get_group(), self._order)
        return self._runner.run(*zip(*pieces, strict=True), valid, loss, train=train)

    def timeline(self) -> Timeline:
        """When each rank of this pipeline worked in the last batch. Called on all of them.

        Raises ValueError without a pipeline, and before the first batch.
        """
        ran = self._runner is not None
        require(ran, "pp", self.dims.pp, "2 or more, and a batch that went through")
        return self._runner.timeline()

    def _order(self, micro_batches: int) -> list[list[Action]]:
        plan, pp = self.plan, self.dims.pp
        return pipeline_order(
            pp, micro_batches, virtual=plan.virtual, run=plan.run, kind=plan.schedule
        )

    def _piece(
        self,
        inputs: Tensor,
        targets: Tensor,
        ids: Tensor | None,
        rows: slice,
        mask_of: Callable[[Tensor], AttentionMask],
    ) -> tuple[Tensor, Tensor, AttentionMask | None, Tensor]:
        """One micro-batch: this rank's tokens and their positions, the mask of whole rows."""
        device, (_, length) = self.device, inputs.shape
        mask = None
        if ids is not None and bool((ids[rows] != ids[rows, :1]).any()):
            mask = mask_of(ids[rows].to(device, non_blocking=True))
        flat = torch.arange(length, device=device).unsqueeze(0)
        positions = flat if mask is None else mask.positions()
        cp = self.dims.cp
        rank = self.mesh["cp"].get_local_rank() if cp > 1 else 0
        mine = (
            cut_sequence(part.to(device, non_blocking=True), rank, cp)
            for part in (inputs[rows], positions, targets[rows])
        )
        tokens, positions, wanted = mine
        return tokens, positions, mask, wanted

    def _loss(self, loss: Loss) -> Loss:
        if self.dims.tp == 1 or not self.plan.loss_parallel:
            return loss
        if self._cut_loss is None:
            group = self.mesh["tp"].get_group()
            self._cut_loss = lambda logits, targets, valid: vocab_parallel_loss(
                logits, targets, valid, group, IGNORED
            )
        return self._cut_loss

    def _sum(self, value: Tensor, *copies: str) -> Tensor:
        """Over all ranks, of which those along `copies` have the same value."""
        if self.mesh is None:
            return value
        total = value.detach().to(self.device, torch.float64)
        dist.all_reduce(total)
        for name in copies:
            total /= getattr(self.dims, name)
        return total

    @torch.no_grad()
    def clip_grad_norm_(self, max_norm: float) -> Float[Tensor, ""]:
        """Scale the gradients so that their norm over all ranks is at most `max_norm`.

        Returns the norm before, the same on every rank and every mesh. Sums over ranks that are
        still to be made are made here, so this comes before the optimizer's step.
        """
        parameters = [p for p in self.parameters() if p.grad is not None]
        if self.mesh is None:
            return nn.utils.clip_grad_norm_(parameters, max_norm)
        norm = self._sum(sum_of_squares(parameters, self.device)).sqrt()
        nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)
        return norm

    def load_full_state(self, state: Mapping[str, Tensor]) -> None:
        """Give each rank its share of the weights of a whole model, by name.

        Raises ValueError for missing names or other shapes; names of other stages are left alone.
        """
        options = StateDictOptions(full_state_dict=True)
        for part in self.parts:
            if next(part.parameters()).is_meta:
                part.to_empty(device=device_of(self.mesh))
            own = {}
            for name, parameter in part.named_parameters():
                shape = tuple(state[name].shape) if name in state else None
                require(shape == parameter.shape, name, shape, f"shape {tuple(parameter.shape)}")
                own[name] = state[name]
            set_model_state_dict(part, own, options=options)


def _share(
    model: Transformer,
    loss: Loss,
    inputs: Tensor,
    positions: Tensor,
    mask: AttentionMask | None,
    targets: Tensor,
    valid: int,
) -> Tensor:
    """The share of the loss that some sequences have in a batch of `valid` targets."""
    return loss(model(inputs, positions, mask), targets, valid)
