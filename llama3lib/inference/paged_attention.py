"""Attention over a cache in blocks, through the model's `inner_attention` seam.

All tokens of a step stand in one row, [1, T]: matrices see one large product, whoever the tokens
belong to. Only here they are told apart: `slot_mapping` says where each token's key and value go,
and each sequence reads the blocks of its own table.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from llama3lib.inference.attend import attend, attend_once
from llama3lib.inference.scheduler import ScheduledSequence


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
    def of(
        cls, scheduled: list[ScheduledSequence], block_size: int, device: torch.device
    ) -> "PagedMetadata":
        """From what the scheduler chose, before the tokens are marked as computed."""
        slots: list[int] = []
        pieces: list[PromptPiece] = []
        rows, tables, lengths = [], [], []
        for item in scheduled:
            sequence, start = item.sequence, len(slots)
            done, end = sequence.num_computed_tokens, sequence.num_computed_tokens + item.num_tokens
            table = sequence.block_table
            for place in range(done, end):
                slots.append(table[place // block_size] * block_size + place % block_size)
            used = table[: -(-end // block_size)]
            if item.num_tokens == 1:
                rows.append(start)
                tables.append(used)
                lengths.append(end)
                continue
            mask = None
            if done:
                mask = torch.ones(item.num_tokens, end, dtype=torch.bool, device=device).tril(done)
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


def _gather(
    cache: Float[Tensor, "K M S H"], tables: Int[Tensor, "B L"]
) -> Float[Tensor, "K B R H"]:
    """The blocks of each table, one after the other: R = L * block_size rows for each head."""
    heads, _, _, head_dim = cache.shape
    # index_select copies whole blocks; cache[:, tables] would go number by number
    rows = cache.flatten(2).index_select(1, tables.flatten())
    return rows.view(heads, len(tables), -1, head_dim)
