"""Data parallelism: each rank has other sequences, and keeps a share of weights, gradients and
optimizer state (FSDP, §3.3.2)."""

import torch
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from llama3lib.model import Transformer


def apply_fsdp(
    model: Transformer,
    mesh: DeviceMesh,
    *,
    reshard_after_forward: bool = False,
    param_dtype: torch.dtype | None = None,
) -> None:
    """Shard a model, or a stage of it, over a mesh: one dimension, or replicas times shards (HSDP).

    The weights of a block are gathered before it computes, and the gradients of all ranks summed,
    in float32 at least, into the shards. They are sums, not means: each rank's loss is divided by
    the targets of the whole batch.

    reshard_after_forward: False keeps gathered weights until the backward pass, as the paper does,
    which saves a second gathering; True lets go of them, for less memory.
    param_dtype: what the gathered weights are and products are computed in; None as they are.
    """
    stored = next(model.parameters()).dtype
    reduce = None if stored == torch.float64 else torch.float32
    policy = MixedPrecisionPolicy(param_dtype=param_dtype, reduce_dtype=reduce)
    for part in (*model.layers.values(), model):  # a block is one unit, and what is left another
        fully_shard(part, mesh=mesh, mp_policy=policy, reshard_after_forward=reshard_after_forward)
        part.set_gradient_divide_factor(1.0)
        part.set_force_sum_reduction_for_comms(True)


def sync_gradients(model: Transformer, last: bool) -> None:
    """Whether the next backward pass is the last of a step, after which gradients are summed.

    Between micro-batches they are kept whole, in float32, and weights stay gathered.
    """
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(last)
        model.set_reshard_after_backward(last)
        model.set_is_last_backward(last)


def let_go(model: Transformer) -> None:
    """Back to shards, where no backward pass came after a forward pass."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
