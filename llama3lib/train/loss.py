"""The pre-training loss: how surprised the model is by the next token, in nats."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

IGNORED = -100
"""A target that is not asked for: padding, or the step from one document to the next."""


def next_token_loss(
    logits: Float[Tensor, "B T V"], targets: Int[Tensor, "B T"], valid: int | Tensor | None = None
) -> Float[Tensor, ""]:
    """Sum of -log p(target) over the targets that count, divided by `valid`.

    `valid` is the number of such targets in the whole batch. A batch that goes through the model
    in parts (accumulation, several GPUs) is divided by the same number everywhere: a mean of the
    parts' means would weigh the tokens of short parts more. If left out, it is counted here.

    Computed in float32 at least, whatever the logits are: sums over a large vocabulary need it.
    """
    valid = count_valid(targets) if valid is None else valid
    if torch.compiler.is_compiling():  # the compiler fuses the plain form, and knows no in-place p
        total = F.cross_entropy(
            logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORED, reduction="sum"
        )
        return total / valid
    return _CrossEntropy.apply(logits.flatten(0, 1), targets.flatten()) / valid


def count_valid(targets: Int[Tensor, "*B"]) -> Int[Tensor, ""]:
    """How many targets count; 1 if none does, so that one may divide by it."""
    return torch.count_nonzero(targets != IGNORED).clamp(min=1)


class _CrossEntropy(torch.autograd.Function):
    """Summed cross-entropy whose gradient, p - 1 at the target and p elsewhere, is written over p.

    PyTorch's own writes three arrays of the size of the logits where one is enough; with a
    vocabulary of 128,256 the logits are the largest array of a step.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: Float[Tensor, "M V"], targets: Int[Tensor, "M"]
    ) -> Float[Tensor, ""]:
        dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
        asked = targets != IGNORED
        column = torch.where(asked, targets, 0).unsqueeze(1)
        p = torch.softmax(logits, dim=1, dtype=dtype)
        # log of the denominator, from the largest entry: its p is at least 1/V, never 0
        top, where = logits.max(dim=1, keepdim=True)
        log_sum = top.to(dtype) - p.gather(1, where).log()
        losses = (log_sum - logits.gather(1, column).to(dtype)).squeeze(1)
        ctx.save_for_backward(p, column, asked)
        ctx.dtype = logits.dtype
        return torch.where(asked, losses, 0).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Float[Tensor, ""]) -> tuple[Float[Tensor, "M V"], None]:
        p, column, asked = ctx.saved_tensors
        p.scatter_add_(1, column, p.new_full((), -1).expand(column.shape))
        p.mul_(torch.where(asked, grad, 0).unsqueeze(1))
        return p.to(ctx.dtype), None
