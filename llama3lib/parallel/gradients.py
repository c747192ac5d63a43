"""The norm of a gradient that is spread over ranks."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributed.tensor import DTensor


def sum_of_squares(parameters: Sequence[nn.Parameter], device: torch.device) -> Float[Tensor, ""]:
    """This rank's share of the square of the norm: over all ranks it adds up to the whole.

    What several ranks have alike counts once in all. Sums over ranks that a gradient still lacks
    are made first.
    """
    by_copies: dict[int, list[Tensor]] = {}
    for parameter in parameters:
        if isinstance(parameter.grad, DTensor):  # that of a norm may be a sum not yet made
            parameter.grad = parameter.grad.redistribute(placements=parameter.placements)
        local, copies = _local(parameter.grad)
        by_copies.setdefault(copies, []).append(local)
    squares = torch.zeros((), device=device)
    for copies, grads in by_copies.items():
        squares = squares + nn.utils.get_total_norm(grads).square() / copies
    return squares


def _local(tensor: Tensor) -> tuple[Tensor, int]:
    """This rank's part of a tensor, and how many ranks have the same part."""
    if not isinstance(tensor, DTensor):
        return tensor, 1
    sizes = zip(tensor.placements, tensor.device_mesh.shape, strict=True)
    copies = math.prod(size for placement, size in sizes if placement.is_replicate())
    return tensor.to_local(), copies
