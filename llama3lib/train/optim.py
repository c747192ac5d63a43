"""Learning rate and optimizer as in the paper's recipe (section 3.4.1)."""

import math

import torch
from torch import nn

from llama3lib.parallel import ParallelModel
from llama3lib.utils.require import require_all


def lr_at(step: int, peak: float, warmup: int, total: int, minimum: float = 0.0) -> float:
    """The learning rate of a step: linear warm-up to `peak`, then a cosine down to `minimum`.

    Step 0 has rate 0, step `warmup` has `peak`, step `total` and later ones have `minimum`.

    Raises ValueError for a negative step or warm-up, or a total that is not above the warm-up.
    """
    ok = step >= 0 and warmup >= 0 and total > warmup
    require_all(ok, "0 or more, and total above warmup", step=step, warmup=warmup, total=total)
    if step < warmup:
        return peak * step / warmup
    way = min(1.0, (step - warmup) / (total - warmup))
    return minimum + (peak - minimum) * 0.5 * (1 + math.cos(math.pi * way))


def make_adamw(
    model: nn.Module | ParallelModel,
    lr: float,
    *,
    betas: tuple[float, float] = (0.9, 0.95),
    eps: float = 1e-8,
    weight_decay: float = 0.1,
) -> torch.optim.AdamW:
    """Fused AdamW that decays matrices and leaves norms alone.

    The paper gives no betas and no decay; these are common values (ours).
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr, betas=betas, eps=eps, fused=True)
