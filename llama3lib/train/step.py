"""One step: forward, loss, backward, clip, update."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from llama3lib.data.loader import Batch
from llama3lib.model import DocumentMask, Transformer
from llama3lib.parallel import ParallelModel
from llama3lib.train.loss import count_valid, next_token_loss
from llama3lib.train.objective import NEXT_TOKEN, Objective


@dataclass(frozen=True)
class StepResult:
    """What a step tells: mean loss in nats per target, gradient norm before clipping, targets."""

    loss: float
    grad_norm: float
    targets: int


class DivergedError(RuntimeError):
    """The loss or the gradient is no finite number; the weights were not changed."""


def train_step(
    model: ParallelModel,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    *,
    micro_batch: int | None = None,
    clip: float = 1.0,
    document_mask: bool = True,
    objective: Objective = NEXT_TOKEN,
) -> StepResult:
    """Change the weights by one batch, `micro_batch` sequences at a time.

    On a mesh `batch` is this rank's share, and the result is that of the global batch. However it
    is cut, the gradient is that of the mean over all targets of the global batch.

    Raises DivergedError, on all ranks, if loss or gradient is not finite; the weights are then as
    before.
    """
    optimizer.zero_grad()
    loss, targets = backward(
        model,
        batch,
        micro_batch=micro_batch,
        document_mask=document_mask,
        objective=objective,
    )
    norm = model.clip_grad_norm_(clip)
    result = StepResult(float(loss), float(norm), targets)
    if not (math.isfinite(result.loss) and math.isfinite(result.grad_norm)):
        raise DivergedError(f"loss {result.loss}, gradient norm {result.grad_norm}")
    optimizer.step()
    return result


def backward(
    model: ParallelModel,
    batch: Batch,
    *,
    micro_batch: int | None = None,
    document_mask: bool = True,
    objective: Objective = NEXT_TOKEN,
) -> tuple[Float[Tensor, ""], int]:
    """Add the batch's gradient to `.grad`; the loss and the number of targets."""
    ids = batch.document_ids[:, :-1] if document_mask else None
    return model.backward(
        batch.inputs,
        batch.targets,
        ids,
        objective.loss,
        micro_batch=micro_batch,
        mask=objective.mask,
    )


def on_device(
    inputs: Tensor, document_ids: Tensor | None, device: torch.device
) -> tuple[Tensor, DocumentMask | None]:
    """Inputs and the mask between documents; none where each row is a single document."""
    inputs = inputs.to(device, non_blocking=True)
    if document_ids is None or bool((document_ids == document_ids[:, :1]).all()):
        return inputs, None
    return inputs, DocumentMask(document_ids.to(device, non_blocking=True))


@torch.no_grad()
def batch_loss(model: Transformer, batch: Batch) -> tuple[float, int]:
    """Sum of the losses of a batch in nats, and how many targets it has; nothing is trained."""
    device = next(model.parameters()).device
    inputs, mask = on_device(batch.inputs, batch.document_ids[:, :-1], device)
    positions = None if mask is None else mask.positions()
    loss = next_token_loss(model(inputs, positions, mask), batch.targets.to(device), 1)
    return loss.item(), int(count_valid(batch.targets))
