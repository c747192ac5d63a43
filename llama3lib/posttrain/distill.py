"""Distillation from a teacher's logits (ours: the paper distils by data only, section 4.3).

Where the teacher is unsure its distribution says more than the one token that was drawn. The soft
loss is the KL divergence from the teacher's distribution to the student's, both at temperature
τ; times τ² its gradient stays as large as that of the hard loss, the plain one on the tokens.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llama3lib.train.loss import IGNORED, count_valid, next_token_loss
from llama3lib.utils.require import between, one_of, positive, require_all, whole


@dataclass(frozen=True, kw_only=True)
class SoftWeight:
    """The weight of the soft loss in each step, from `first` to `last`; the hard loss has the
    rest. With both the same it is fixed."""

    first: float = 0.5
    last: float = 0.5
    steps: int = 1
    """Steps until `last` is reached; it stays there."""
    shape: str = "linear"
    """linear or cosine."""

    def __post_init__(self) -> None:
        between("first", self.first, 0, 1)
        between("last", self.last, 0, 1)
        whole("steps", self.steps)
        one_of("shape", self.shape, ("linear", "cosine"))

    def at(self, step: int) -> float:
        """The weight in a step, counted from 0."""
        whole("step", step, 0)
        done = min(1.0, step / self.steps)
        if self.shape == "cosine":
            done = (1 - math.cos(math.pi * done)) / 2
        return self.first + (self.last - self.first) * done


def distillation_loss(
    logits: Float[Tensor, "B T V"],
    teacher: Float[Tensor, "B T V"],
    targets: Int[Tensor, "B T"],
    *,
    soft: float = 0.5,
    temperature: float = 1.0,
    valid: int | Tensor | None = None,
) -> Float[Tensor, ""]:
    """soft·τ²·KL(teacher || student) + (1 - soft)·cross-entropy, a mean over targets that count.

    Nats per target. No gradient goes to the teacher. valid: as of `next_token_loss`. Computed in
    float32 at least; a weight of 0 or 1 leaves the other part out.

    Raises ValueError for logits of different shape (another vocabulary), a weight outside 0 to 1,
    or a temperature that is not above 0.
    """
    shapes = {"logits": tuple(logits.shape), "teacher": tuple(teacher.shape)}
    require_all(logits.shape == teacher.shape, "the same shape", **shapes)
    between("soft", soft, 0, 1)
    positive("temperature", temperature)
    valid = count_valid(targets) if valid is None else valid
    hard = (1 - soft) * next_token_loss(logits, targets, valid) if soft < 1 else 0
    if soft == 0:
        return hard
    asked = targets != IGNORED
    return hard + soft * _divergence(logits[asked], teacher[asked], temperature) / valid


def _divergence(
    student: Float[Tensor, "M V"], teacher: Float[Tensor, "M V"], temperature: float
) -> Float[Tensor, ""]:
    """τ² times the sum of the KL divergences of all rows."""
    dtype = torch.promote_types(student.dtype, torch.float32)
    log_q = torch.log_softmax(student.to(dtype) / temperature, 1)
    log_p = torch.log_softmax(teacher.detach().to(dtype) / temperature, 1)
    p = log_p.exp()
    # a token that the teacher rules out adds nothing, whatever the logarithm of 0 is
    return temperature**2 * torch.where(p > 0, p * (log_p - log_q), 0).sum()
