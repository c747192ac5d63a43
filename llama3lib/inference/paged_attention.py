"""Attention over a cache in blocks, through the model's `inner_attention` seam.

All tokens of a step stand in one row, [1, T]: matrices see one large product, whoever the tokens
belong to. Only here they are told apart: `slot_mapping` says where each token's key and value go,
and each sequence reads the blocks of its own table.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from llama3lib.inference.attend import attend, attend_once
from llama3lib.inference.block_manager import BlockCopy
from llama3lib.inference.scheduler import StepRow
from llama3lib.model import Transformer
from llama3lib.model.attention import ScaledDotProductAttention


@dataclass(frozen=True)
class PromptPiece:
    """Several tokens of one sequence: rows `start` to `stop` of the step."""

    start: int
    stop: int
    blocks: Int[Tensor, "M"]
    num_tokens: int
    """Tokens of the sequence, this piece included."""
    mask: Bool[Tensor, "T S"] | None
    """Who may look where; None for a piece that begins its text: plain causal."""


@dataclass(frozen=True)
class PagedMetadata:
    """What `PagedAttention` has to know of a step.

    slot_mapping [T]: place of each token in the cache, block * block_size + offset.
    single [B]: rows of the sequences that have one token in this step; their block tables, padded
    with block 0, are in `tables` [B, M], and `mask` [B, 1, M * block_size] is True where there is
    a token.
    """

    slot_mapping: Int[Tensor, "T"]
    pieces: tuple[PromptPiece, ...]
    single: Int[Tensor, "B"]
    tables: Int[Tensor, "B M"]
    mask: Bool[Tensor, "B 1 S"]
    last_only: bool = False

    @classmethod
    def of(cls, step: Sequence[StepRow], block_size: int, device: torch.device) -> "PagedMetadata":
        """From what the scheduler chose."""
        slots: list[int] = []
        pieces: list[PromptPiece] = []
        rows, tables, lengths = [], [], []
        for row in step:
            start, table, end = len(slots), row.blocks, row.end
            for place in range(row.start, end):
                slots.append(table[place // block_size] * block_size + place % block_size)
            used = table[: -(-end // block_size)]
            if len(row.tokens) == 1:
                rows.append(start)
                tables.append(used)
                lengths.append(end)
                continue
            mask = None
            if row.start:
                mask = torch.ones(len(row.tokens), end, dtype=torch.bool, device=device)
                mask = mask.tril(row.start)
            blocks = torch.tensor(used, device=device)
            pieces.append(PromptPiece(start, len(slots), blocks, end, mask))
        width = max((len(table) for table in tables), default=0)
        padded = [table + [0] * (width - len(table)) for table in tables]
        reach = torch.tensor(lengths, device=device).view(-1, 1, 1)
        places = torch.arange(width * block_size, device=device)
        return cls(
            slot_mapping=torch.tensor(slots, device=device),
            pieces=tuple(pieces),
            single=torch.tensor(rows, dtype=torch.long, device=device),
            tables=torch.tensor(padded, dtype=torch.long, device=device).view(len(tables), width),
            mask=places < reach,
        )


class PagedAttention(nn.Module):
    """Stores keys and values of a step in their slots, then lets each sequence read its blocks.

    keys, values [K, num_blocks, block_size, H]: this layer's cache. Heads come first, so that the
    blocks of a text, put side by side, are what attention wants to read: nothing is turned.
    """

    def __init__(self, keys: Float[Tensor, "K M S H"], values: Float[Tensor, "K M S H"]) -> None:
        super().__init__()
        self.keys, self.values = keys, values

    def copy(self, copies: Sequence[BlockCopy]) -> None:
        """Copy blocks, one after the other."""
        for copy in copies:
            for cache in (self.keys, self.values):
                cache[:, copy.target] = cache[:, copy.source]

    def forward(
        self,
        q: Float[Tensor, "1 T N H"],
        k: Float[Tensor, "1 T K H"],
        v: Float[Tensor, "1 T K H"],
        attn_metadata: PagedMetadata,
    ) -> Float[Tensor, "1 T N H"]:
        self.keys.flatten(1, 2)[:, attn_metadata.slot_mapping] = k[0].transpose(0, 1)
        self.values.flatten(1, 2)[:, attn_metadata.slot_mapping] = v[0].transpose(0, 1)
        mixed = torch.empty_like(q)
        if len(attn_metadata.single):
            mixed[0, attn_metadata.single] = self._single(q[0, attn_metadata.single], attn_metadata)
        for piece in attn_metadata.pieces:
            mixed[0, piece.start : piece.stop] = self._piece(q[0, piece.start : piece.stop], piece)
        return mixed

    def _single(self, q: Float[Tensor, "B N H"], metadata: PagedMetadata) -> Float[Tensor, "B N H"]:
        """One query each, against all tokens of its sequence."""
        keys, values = _gather(self.keys, metadata.tables), _gather(self.values, metadata.tables)
        grouped = q.unflatten(1, (len(keys), -1)).transpose(0, 1)  # [K, B, N / K, H]
        return attend_once(grouped, keys, values, metadata.mask).transpose(0, 1).flatten(1, 2)

    def _piece(self, q: Float[Tensor, "T N H"], piece: PromptPiece) -> Float[Tensor, "T N H"]:
        blocks = piece.blocks.unsqueeze(0)
        keys = _gather(self.keys, blocks)[:, :, : piece.num_tokens].transpose(0, 1)
        values = _gather(self.values, blocks)[:, :, : piece.num_tokens].transpose(0, 1)
        causal = piece.mask is None
        return attend(q.unsqueeze(0), keys, values, piece.mask, causal=causal).squeeze(0)


class PagedCache:
    """Room for keys and values of all layers of a model, or of a part of one, in its seam.

    blocks [L, 2, K, num_blocks, block_size, H]. `close` gives the model back.

    Raises ValueError if another cache has the model.
    """

    def __init__(self, model: Transformer, *, num_blocks: int, block_size: int) -> None:
        args, weight = model.args, next(model.parameters())  # a norm, if matrices are quantised
        shape = (len(model.layers), 2, args.n_kv_heads, num_blocks, block_size, args.head_dim)
        # zeros: what stands in a slot nobody wrote is masked, but 0 times NaN would be NaN
        self.blocks = torch.zeros(shape, dtype=weight.dtype, device=weight.device)
        self._attentions = [layer.attention for layer in model.layers.values()]
        found = [attention.inner_attention for attention in self._attentions]
        if not all(isinstance(one, ScaledDotProductAttention) for one in found):
            raise ValueError("model is not allowed: it has a cache already")
        self._originals = found
        for attention, (keys, values) in zip(self._attentions, self.blocks, strict=True):
            attention.inner_attention = PagedAttention(keys, values)

    def copy(self, copies: Sequence[BlockCopy]) -> None:
        """Copy blocks in all layers."""
        for attention in self._attentions:
            attention.inner_attention.copy(copies)

    def close(self) -> None:
        """Give the model back; a second time does nothing."""
        for attention, original in zip(self._attentions, self._originals, strict=True):
            attention.inner_attention = original
        self._attentions, self._originals = [], []


def _gather(
    cache: Float[Tensor, "K M S H"], tables: Int[Tensor, "B L"]
) -> Float[Tensor, "K B R H"]:
    """The blocks of each table, one after the other: R = L * block_size rows for each head."""
    heads, _, _, head_dim = cache.shape
    # index_select copies whole blocks; cache[:, tables] would go number by number
    rows = cache.flatten(2).index_select(1, tables.flatten())
    return rows.view(heads, len(tables), -1, head_dim)
