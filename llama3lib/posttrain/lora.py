"""LoRA: instead of a matrix, two thin ones beside it are trained (ours; the paper trains all).

W·x becomes W·x + (alpha / rank)·B·A·x, where B begins as zeros, so that nothing changes at first.
Only A and B get gradients and moments, which is most of what training keeps in memory.
"""

import math
from collections.abc import Collection, Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn

from llama3lib.model import Transformer
from llama3lib.utils.require import positive, require, whole

MATRICES = ("wq", "wk", "wv", "wo", "w1", "w2", "w3")


class LoraLinear(nn.Module):
    """A matrix that is left alone, and what is learned beside it."""

    def __init__(self, base: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        weight, self.base, self.scale = base.weight, base, alpha / rank
        self.lora_a = nn.Parameter(weight.new_empty(rank, weight.shape[1]))
        self.lora_b = nn.Parameter(weight.new_zeros(weight.shape[0], rank))

    def forward(self, x: Float[Tensor, "*B I"]) -> Float[Tensor, "*B O"]:
        return self.base(x) + x @ self.lora_a.T @ self.lora_b.T * self.scale

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """One matrix that gives the same."""
        self.base.weight += self.scale * self.lora_b @ self.lora_a
        return self.base


def add_lora(
    model: Transformer,
    rank: int = 16,
    alpha: float = 32.0,
    targets: Collection[str] = MATRICES,
    seed: int = 0,
) -> Transformer:
    """Put adapters beside the matrices named in `targets`, in place; nothing else is trained then.

    Raises ValueError for a rank below 1, an alpha that is not above 0, an unknown target, or a
    model whose matrices are no plain ones: fused, in few bits, or with adapters already.
    """
    whole("rank", rank)
    positive("alpha", alpha)
    known = bool(targets) and set(targets) <= set(MATRICES)
    require(known, "targets", sorted(targets), f"some of {', '.join(MATRICES)}")
    places = [
        (part, name)
        for layer in model.layers.values()
        for part in (layer.attention, layer.feed_forward)
        for name in MATRICES
        if name in targets and (part is layer.attention) == (name in MATRICES[:4])
    ]
    plain = all(type(getattr(part, name, None)) is nn.Linear for part, name in places)
    require(plain, "model", "no plain matrices", "one that is not fused, in few bits or adapted")
    model.requires_grad_(False)
    draw = torch.Generator().manual_seed(seed)
    for part, name in places:
        adapted = LoraLinear(getattr(part, name), rank, alpha)
        bound = 1 / math.sqrt(adapted.lora_a.shape[1])  # as nn.Linear begins
        start = torch.rand(adapted.lora_a.shape, generator=draw) * 2 * bound - bound
        adapted.lora_a.data.copy_(start)
        setattr(part, name, adapted)
    return model


def lora_places(model: Transformer) -> Iterator[tuple[str, nn.Module, str, LoraLinear]]:
    """Every adapter: its name in the model, and the module and attribute that hold it."""
    for path, module in list(model.named_modules()):
        if isinstance(module, LoraLinear):
            parent, _, name = path.rpartition(".")
            yield path, model.get_submodule(parent), name, module


def merged_state(state: dict[str, Tensor], scale: float) -> dict[str, Tensor]:
    """The weights of a model with adapters as those of the plain model that gives the same.

    scale: alpha / rank. Raises ValueError if there are no adapters.
    """
    plain, places = dict(state), [n.removesuffix(".lora_a") for n in state if n.endswith(".lora_a")]
    require(places, "state", "without adapters", "one with LoRA")
    for place in places:
        a, b = plain.pop(f"{place}.lora_a"), plain.pop(f"{place}.lora_b")
        plain[f"{place}.weight"] = plain.pop(f"{place}.base.weight") + scale * b @ a
    return plain


def merge_lora(model: Transformer) -> Transformer:
    """Add what was learned to the matrices, in place: a plain model that gives the same.

    Raises ValueError if there are no adapters.
    """
    found = list(lora_places(model))
    require(found, "model", "without adapters", "one with LoRA")
    for _, parent, name, adapted in found:
        setattr(parent, name, adapted.merged())
    return model.requires_grad_(True)
