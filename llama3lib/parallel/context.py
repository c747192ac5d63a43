"""Context parallelism: the sequence cut between ranks (§3.3.2).

Causal attention costs more at the end of a sequence than at its beginning. So it is cut into
2·CP chunks, and rank i holds chunks i and 2·CP - 1 - i: together they cost the same everywhere.
The paper gathers all keys and values before attention, which are small with grouped queries, and
leaves the mask free: any query may ask for any key. `RingAttention` hands them round instead; it
is here for comparison.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from llama3lib.model import DocumentMask, Transformer
from llama3lib.utils.require import one_of, require


def cut_sequence(x: Tensor, rank: int, cp: int, dim: int = 1) -> Tensor:
    """The part of a sequence that a rank holds: chunks `rank` and 2·CP - 1 - `rank`.

    For tokens, positions and targets alike; a document mask stays whole. Raises ValueError if
    the length is no multiple of 2·CP.
    """
    if cp == 1:
        return x
    length = x.shape[dim]
    require(length % (2 * cp) == 0, "sequence", length, f"a multiple of 2·cp={2 * cp}")
    chunks = x.chunk(2 * cp, dim)
    return torch.cat((chunks[rank], chunks[2 * cp - 1 - rank]), dim)


def join_sequence(parts: Sequence[Tensor], dim: int = 1) -> Tensor:
    """The whole sequence again, from the parts of all ranks in their order."""
    if len(parts) == 1:
        return parts[0]
    halves = [part.chunk(2, dim) for part in parts]
    return torch.cat([h[0] for h in halves] + [h[1] for h in reversed(halves)], dim)


def apply_cp(model: Transformer, group: dist.ProcessGroup, method: str = "all-gather") -> None:
    """Give every block an attention that sees the whole sequence, of which the rank has a part.

    The model then takes tokens and positions as `cut_sequence` gives them, and as attn_metadata
    None or the `DocumentMask` of whole rows. method: "all-gather" or "ring".
    """
    one_of("method", method, tuple(_METHODS))
    for block in model.layers.values():
        attention = block.attention
        attention.inner_attention = _METHODS[method](attention.inner_attention, group)


@dataclass(frozen=True)
class PlacesMask:
    """Causal, and within documents, between places of the whole sequence.

    Raises ValueError unless the documents are those of whole rows, of `length` tokens.
    """

    queries: Int[Tensor, "T"]
    keys: Int[Tensor, "S"]
    documents: DocumentMask | None
    length: int

    @property
    def mask(self) -> Bool[Tensor, "B 1 T S"]:
        """True where a query may look at a key."""
        mask = (self.keys <= self.queries.unsqueeze(1)).unsqueeze(0)
        if self.documents is not None:
            ids = self.documents.document_ids
            whole = ids.shape[1] == self.length
            require(whole, "document_ids", tuple(ids.shape), f"{self.length} columns, whole rows")
            mask = mask & (ids[:, self.queries].unsqueeze(2) == ids[:, self.keys].unsqueeze(1))
        return mask.unsqueeze(1)


class AllGatherAttention(nn.Module):
    """The paper's way: one message gathers keys and values, then each rank has its queries.

    `received` counts the elements that came from other ranks in forward passes.
    """

    def __init__(self, inner: nn.Module, group: dist.ProcessGroup) -> None:
        super().__init__()
        self.inner, self.group, self.received = inner, group, 0

    def forward(
        self,
        q: Float[Tensor, "B T N H"],
        k: Float[Tensor, "B T K H"],
        v: Float[Tensor, "B T K H"],
        attn_metadata: DocumentMask | None = None,
    ) -> Float[Tensor, "B T N H"]:
        """T tokens of this rank. See `apply_cp` for attn_metadata."""
        rank, cp = dist.get_rank(self.group), dist.get_world_size(self.group)
        parts = _AllGather.apply(torch.stack((k, v)), self.group)  # [cp, 2, B, T, K, H]
        self.received += parts[0].numel() * (cp - 1)
        k, v = join_sequence(parts.unbind(0), dim=2).unbind(0)
        length, chunk = k.shape[1], k.shape[1] // (2 * cp)
        place = torch.arange(length, device=q.device)
        mixed = []
        for number, some in zip((rank, 2 * cp - 1 - rank), q.split(chunk, 1), strict=True):
            end = (number + 1) * chunk  # no query of this chunk looks further
            mask = PlacesMask(place[end - chunk : end], place[:end], attn_metadata, length)
            mixed.append(self.inner(some, k[:, :end], v[:, :end], mask))
        return torch.cat(mixed, 1)


class RingAttention(nn.Module):
    """The other way: keys and values go round, each rank adds up what it has seen (Liu 2023).

    As many elements travel as with a gather, in CP - 1 messages that each wait for the one
    before; only two parts of the keys are held at a time. `received` counts as above.
    """

    def __init__(self, inner: nn.Module, group: dist.ProcessGroup) -> None:
        super().__init__()
        self.group, self.received = group, 0

    def forward(
        self,
        q: Float[Tensor, "B T N H"],
        k: Float[Tensor, "B T K H"],
        v: Float[Tensor, "B T K H"],
        attn_metadata: DocumentMask | None = None,
    ) -> Float[Tensor, "B T N H"]:
        """As `AllGatherAttention`, the same result."""
        rank, cp = dist.get_rank(self.group), dist.get_world_size(self.group)
        length, shared = q.shape[1] * cp, q.shape[2] // k.shape[2]
        place = torch.arange(length, device=q.device)
        queries = cut_sequence(place, rank, cp, dim=0)
        travelling = torch.stack((k, v))
        top, total, mixed = None, 0.0, 0.0
        for turn in range(cp):  # the first keys are the rank's own: each query sees itself
            if turn:
                travelling = _PassOn.apply(travelling, self.group)
                self.received += travelling.numel()
            keys = cut_sequence(place, (rank - turn) % cp, cp, dim=0)
            allowed = PlacesMask(queries, keys, attn_metadata, length).mask
            k, v = travelling.repeat_interleave(shared, dim=3).unbind(0)
            scores = torch.einsum("btnh,bsnh->bnts", q, k) * q.shape[-1] ** -0.5
            scores = scores.masked_fill(~allowed, -torch.inf)
            highest = scores.detach().amax(-1, keepdim=True)
            new_top = highest if top is None else torch.maximum(top, highest)
            weights = torch.exp(scores - new_top)
            fade = 1.0 if top is None else torch.exp(top - new_top)
            total = total * fade + weights.sum(-1, keepdim=True)
            mixed = mixed * fade + torch.einsum("bnts,bsnh->bnth", weights, v)
            top = new_top
        return (mixed / total).transpose(1, 2)


class _AllGather(torch.autograd.Function):
    """[...] of every rank -> [CP, ...]; the gradients of all ranks are summed at the owner."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        parts = x.new_empty(dist.get_world_size(group), *x.shape)
        dist.all_gather(list(parts.unbind(0)), x.contiguous(), group=group)
        return parts

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        mine = torch.empty_like(grad[0])
        dist.reduce_scatter(mine, list(grad.contiguous().unbind(0)), group=ctx.group)
        return mine, None


class _PassOn(torch.autograd.Function):
    """To the next rank of the ring, from the one before; gradients go the other way."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        return _shift(x, group, 1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _shift(grad, ctx.group, -1), None


def _shift(x: Tensor, group: dist.ProcessGroup, step: int) -> Tensor:
    rank, size = dist.get_rank(group), dist.get_world_size(group)
    after = dist.get_global_rank(group, (rank + step) % size)
    before = dist.get_global_rank(group, (rank - step) % size)
    arrived = torch.empty_like(x, memory_format=torch.contiguous_format)
    sends = dist.P2POp(dist.isend, x.contiguous(), after, group)
    receives = dist.P2POp(dist.irecv, arrived, before, group)
    for work in dist.batch_isend_irecv([sends, receives]):
        work.wait()
    return arrived


_METHODS = {"all-gather": AllGatherAttention, "ring": RingAttention}
