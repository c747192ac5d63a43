"""One step: forward, loss, backward, clip, update."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llama3lib.data.loader import Batch
from llama3lib.model import DocumentMask, Transformer
from llama3lib.train.loss import count_valid, next_token_loss


@dataclass(frozen=True)
class StepResult:
    """What a step tells: mean loss in nats per target, gradient norm before clipping, targets."""

    loss: float
    grad_norm: float
    targets: int


class DivergedError(RuntimeError):
    """The loss or the gradient is no finite number; the weights were not changed."""


def train_step(
    model: Transformer,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    *,
    micro_batch: int | None = None,
    clip: float = 1.0,
    dtype: torch.dtype = torch.float32,
    document_mask: bool = True,
    loss_of: "LossOf | None" = None,
) -> StepResult:
    """Change the weights by one batch, `micro_batch` sequences at a time.

    However the batch is cut, the gradient is that of the mean over all targets of the whole batch.
    `dtype` bfloat16 computes products in it (autocast); weights and gradients keep theirs.
    `loss_of`: `part_loss`, or what `torch.compile` makes of it.

    Raises DivergedError if loss or gradient is not finite; the weights are then as before.
    """
    optimizer.zero_grad()
    loss, targets = backward(
        model,
        batch,
        micro_batch=micro_batch,
        dtype=dtype,
        document_mask=document_mask,
        loss_of=loss_of,
    )
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
    result = StepResult(float(loss), float(norm), targets)
    if not (torch.isfinite(loss) and torch.isfinite(norm)):
        raise DivergedError(f"loss {result.loss}, gradient norm {result.grad_norm}")
    optimizer.step()
    return result


def backward(
    model: Transformer,
    batch: Batch,
    *,
    micro_batch: int | None = None,
    dtype: torch.dtype = torch.float32,
    document_mask: bool = True,
    loss_of: "LossOf | None" = None,
) -> tuple[Tensor, int]:
    """Add the batch's gradient to `.grad`; the loss and the number of targets."""
    device = next(model.parameters()).device
    rows, targets = len(batch.tokens), batch.targets
    valid = int(count_valid(targets))
    total = torch.zeros((), device=device)
    for start in range(0, rows, micro_batch or rows):
        part = slice(start, start + (micro_batch or rows))
        owners = batch.document_ids[part, :-1] if document_mask else None
        inputs, mask = on_device(batch.inputs[part], owners, device)
        wanted = targets[part].to(device, non_blocking=True)
        with autocast(device, dtype):
            loss = (loss_of or part_loss)(model, inputs, mask, wanted, valid)
        loss.backward()
        total += loss.detach()
    return total, valid


LossOf = Callable[[Transformer, Tensor, DocumentMask | None, Tensor, int], Tensor]


def part_loss(
    model: Transformer,
    inputs: Int[Tensor, "B T"],
    mask: DocumentMask | None,
    targets: Int[Tensor, "B T"],
    valid: int,
) -> Float[Tensor, ""]:
    """The share of the loss that some sequences have in a batch of `valid` targets."""
    positions = None if mask is None else mask.positions()
    return next_token_loss(model(inputs, positions, mask), targets, valid)


def on_device(
    inputs: Tensor, document_ids: Tensor | None, device: torch.device
) -> tuple[Tensor, DocumentMask | None]:
    """Inputs and the mask between documents; none where each row is a single document."""
    inputs = inputs.to(device, non_blocking=True)
    if document_ids is None or bool((document_ids == document_ids[:, :1]).all()):
        return inputs, None
    return inputs, DocumentMask(document_ids.to(device, non_blocking=True))


def autocast(device: torch.device, dtype: torch.dtype) -> contextlib.AbstractContextManager:
    """Products in `dtype` where that is not float32."""
    if dtype == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=dtype)


@torch.no_grad()
def batch_loss(model: Transformer, batch: Batch) -> tuple[float, int]:
    """Sum of the losses of a batch in nats, and how many targets it has; nothing is trained."""
    device = next(model.parameters()).device
    inputs, mask = on_device(batch.inputs, batch.document_ids[:, :-1], device)
    loss = part_loss(model, inputs, mask, batch.targets.to(device), 1)
    return loss.item(), int(count_valid(batch.targets))
