"""The pre-training loss: how surprised the model is by the next token, in nats."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

IGNORED = -100
"""A target that is not asked for: padding, or the step from one document to the next."""


def next_token_loss(
    logits: Float[Tensor, "B T V"], targets: Int[Tensor, "B T"], valid: int | Tensor | None = None
) -> Float[Tensor, ""]:
    """Sum of -log p(target) over the targets that count, divided by `valid`.

    `valid` is the number of such targets in the whole batch. A batch that goes through the model
    in parts (accumulation, several GPUs) is divided by the same number everywhere: a mean of the
    parts' means would weigh the tokens of short parts more. If left out, it is counted here.

    Computed in float32 whatever the logits are: sums over a large vocabulary need it.
    """
    total = F.cross_entropy(
        logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    return total / (count_valid(targets) if valid is None else valid)


def count_valid(targets: Int[Tensor, "*B"]) -> Int[Tensor, ""]:
    """How many targets count; 1 if none does, so that one may divide by it."""
    return torch.count_nonzero(targets != IGNORED).clamp(min=1)
