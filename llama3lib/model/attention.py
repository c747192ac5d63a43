"""The part of attention that has no weights: which position may look at which, and the mixing.

`Attention` in `transformer.py` calls one of these modules through its `inner_attention` seam.
Cached, paged and context-parallel attention are other modules with the same call.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


@runtime_checkable
class AttentionMask(Protocol):
    """What `ScaledDotProductAttention` needs of its metadata: a mask, True where one may look."""

    @property
    def mask(self) -> Bool[Tensor, "B 1 T S"]: ...


@dataclass(frozen=True)
class DocumentMask:
    """Packed documents must not see each other: causal, and block-diagonal by document (§3.2).

    document_ids [B, T]: which document each token belongs to. Equal neighbours form a document;
    ids may repeat later in the row only if they mean the same document.
    """

    document_ids: Int[Tensor, "B T"]

    def __post_init__(self) -> None:
        if self.document_ids.dim() != 2:
            shape = tuple(self.document_ids.shape)
            raise ValueError(f"document_ids has shape {shape}: (batch, tokens) is needed")

    @cached_property
    def mask(self) -> Bool[Tensor, "B 1 T T"]:
        """True where query t may look at key s: same document, and s not after t."""
        ids = self.document_ids
        same = ids.unsqueeze(2) == ids.unsqueeze(1)
        return (same & torch.ones_like(same).tril()).unsqueeze(1)

    def positions(self) -> Int[Tensor, "B T"]:
        """Positions that start again at 0 in each document.

        RoPE sees only distances, so the result changes by rounding alone; small positions
        round less.
        """
        ids = self.document_ids
        index = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        starts = torch.ones_like(ids, dtype=torch.bool)
        starts[:, 1:] = ids[:, 1:] != ids[:, :-1]
        return index - torch.where(starts, index, 0).cummax(dim=1).values


class ScaledDotProductAttention(nn.Module):
    """softmax(q·kᵀ / sqrt(H)) · v, causal unless the metadata brings its own mask."""

    def forward(
        self,
        q: Float[Tensor, "B T N H"],
        k: Float[Tensor, "B S K H"],
        v: Float[Tensor, "B S K H"],
        attn_metadata: AttentionMask | None = None,
    ) -> Float[Tensor, "B T N H"]:
        mask = None if attn_metadata is None else attn_metadata.mask
        mixed = F.scaled_dot_product_attention(
            q.transpose(1, 2),
            k.transpose(1, 2),
            v.transpose(1, 2),
            attn_mask=mask,
            is_causal=mask is None,
            enable_gqa=q.shape[2] != k.shape[2],
        )
        return mixed.transpose(1, 2)
