"""Tensor parallelism: matrices cut between ranks, and with sequence parallelism what lies between
them too (§3.3.2).

A block gathers the tokens before attention and before the feed-forward layer; each rank computes
its heads and its columns, and the sum over ranks is cut by tokens again. So norms and the
residual stream cost 1/TP of the memory.
"""

from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import Replicate, Shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    PrepareModuleInput,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)

from llama3lib.model import Transformer


def apply_tp(model: Transformer, mesh: DeviceMesh, *, loss_parallel: bool = True) -> None:
    """Cut the matrices of a model, or of a stage of it, along a mesh of one dimension.

    Between blocks each rank has T/TP of the tokens; a stage takes and gives them so. Positions
    must be handed in, for a stage can't count tokens that it doesn't have. Every parameter has a
    plan, norms too: the norm of all gradients needs them on one mesh.

    loss_parallel: logits are [B, T, V/TP], for `vocab_parallel_loss`; else whole on every rank.
    """
    everywhere, by_tokens = Replicate(), Shard(1)
    ends: dict[str, ParallelStyle] = {
        "tok_embeddings": RowwiseParallel(input_layouts=everywhere, output_layouts=by_tokens),
        "norm": SequenceParallel(),
        "output": ColwiseParallel(
            input_layouts=by_tokens, output_layouts=Shard(-1) if loss_parallel else everywhere
        ),
    }
    here = {name: style for name, style in ends.items() if getattr(model, name) is not None}
    parallelize_module(model, mesh, here)
    gather = dict(input_layouts=by_tokens, desired_input_layouts=everywhere)
    for block in model.layers.values():
        plan = {
            "attention_norm": SequenceParallel(),
            "attention": PrepareModuleInput(
                input_layouts=(by_tokens, None, None, None),
                desired_input_layouts=(everywhere, None, None, None),
            ),
            "attention.wq": ColwiseParallel(),
            "attention.wk": ColwiseParallel(),
            "attention.wv": ColwiseParallel(),
            "attention.wo": RowwiseParallel(output_layouts=by_tokens),
            "ffn_norm": SequenceParallel(),
            "feed_forward": PrepareModuleInput(**gather),
            "feed_forward.w1": ColwiseParallel(),
            "feed_forward.w3": ColwiseParallel(),
            "feed_forward.w2": RowwiseParallel(output_layouts=by_tokens),
        }
        parallelize_module(block, mesh, plan)
    if model.args.tie_embeddings:
        model.output.weight = model.tok_embeddings.weight  # both are cut by rows of V


def vocab_parallel_loss(
    logits: Float[Tensor, "B T part"],
    targets: Int[Tensor, "B T"],
    valid: int | Tensor,
    group: dist.ProcessGroup,
    ignored: int = -100,
) -> Float[Tensor, ""]:
    """Sum of -log p(target) over `valid`, where each rank has the logits of its part of V.

    The same on all ranks of the group. Three numbers a token travel: the largest logit, the sum
    of exponentials and the target's logit; gathered logits would be V.
    """
    total = _VocabParallelLoss.apply(logits.flatten(0, 1), targets.flatten(), group, ignored)
    return total / valid


class _VocabParallelLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        logits: Float[Tensor, "M part"],
        targets: Int[Tensor, "M"],
        group: dist.ProcessGroup,
        ignored: int,
    ) -> Float[Tensor, ""]:
        dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
        shares = logits.to(dtype)
        top = shares.amax(-1)
        dist.all_reduce(top, dist.ReduceOp.MAX, group=group)
        column = targets - dist.get_rank(group) * shares.shape[1]
        mine = (column >= 0) & (column < shares.shape[1]) & (targets != ignored)
        column = torch.where(mine, column, 0).unsqueeze(1)
        p = (shares - top.unsqueeze(1)).exp_()
        wanted = torch.where(mine, shares.gather(1, column).squeeze(1) - top, 0)
        sums = torch.stack((p.sum(1), wanted))
        dist.all_reduce(sums, group=group)
        p /= sums[0].unsqueeze(1)
        asked = targets != ignored
        ctx.save_for_backward(p, column, mine, asked)
        ctx.dtype = logits.dtype
        return torch.where(asked, sums[0].log() - sums[1], 0).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Float[Tensor, ""]) -> tuple[Tensor, None, None, None]:
        p, column, mine, asked = ctx.saved_tensors
        p.scatter_add_(1, column, -mine.to(p.dtype).unsqueeze(1))
        p.mul_(torch.where(asked, grad, 0).unsqueeze(1))
        return p.to(ctx.dtype), None, None, None
