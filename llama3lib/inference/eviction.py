"""A cache that forgets: whole blocks are given back while the text is still being read.

Not in the paper, whose caches keep every token. The three policies are those of the literature: a
sliding window, a window with attention sinks (Xiao and others, 2023), and heavy hitters chosen by
the attention they got (H2O: Zhang and others, 2023).
"""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from llama3lib.model import Transformer
from llama3lib.model.attention import ScaledDotProductAttention
from llama3lib.utils.require import at_least, one_of

Policy = Literal["window", "sinks", "scores"]


class EvictingAttention(nn.Module):
    """Keeps at most `max_blocks` blocks of each row's keys and values, in the order of the text.

    keys, values [B, K, S, H] of what is kept; scores [B, S], the attention each token has got, over
    all heads and all later tokens. The keys are rotated already, so positions stay what they were.
    """

    def __init__(self, policy: Policy, max_blocks: int, block_size: int) -> None:
        super().__init__()
        self.policy, self.max_blocks, self.block_size = policy, max_blocks, block_size
        self.keys: Tensor | None = None

    def forward(
        self,
        q: Float[Tensor, "B T N H"],
        k: Float[Tensor, "B T K H"],
        v: Float[Tensor, "B T K H"],
        attn_metadata: object = None,
    ) -> Float[Tensor, "B T N H"]:
        """Make room for a piece of each row; it attends to what is kept and to itself, causally."""
        k, v = k.transpose(1, 2), v.transpose(1, 2)
        if self.keys is None:
            self.keys, self.values = k[:, :, :0], v[:, :, :0]
            self.scores = torch.zeros(k.shape[0], 0, device=k.device)
        self._evict(coming=k.shape[2])
        self.keys, self.values = torch.cat([self.keys, k], 2), torch.cat([self.values, v], 2)
        tokens, stored = q.shape[1], self.keys.shape[2]
        grouped = q.transpose(1, 2).unflatten(1, (k.shape[1], -1))  # [B, K, N / K, T, H]
        scores = grouped @ self.keys.unsqueeze(2).transpose(-1, -2) * q.shape[-1] ** -0.5
        seen = torch.ones(tokens, stored, dtype=torch.bool, device=q.device).tril(stored - tokens)
        wide = torch.promote_types(q.dtype, torch.float32)
        shares = scores.masked_fill(~seen, -torch.inf).softmax(-1, dtype=wide)
        mixed = shares.to(v.dtype) @ self.values.unsqueeze(2)
        self.scores = F.pad(self.scores, (0, tokens)) + shares.sum((1, 2, 3))
        return mixed.flatten(1, 2).transpose(1, 2)

    def _evict(self, coming: int) -> None:
        """Give back one block of each row at a time until those that come fit as well."""
        while -(-(self.keys.shape[2] + coming) // self.block_size) > self.max_blocks:
            going = self._choose() * self.block_size  # [B]
            places = torch.arange(self.keys.shape[2] - self.block_size, device=going.device)
            kept = places + self.block_size * (places >= going[:, None])
            index = kept[:, None, :, None].expand(-1, self.keys.shape[1], -1, self.keys.shape[3])
            self.keys, self.values = self.keys.gather(2, index), self.values.gather(2, index)
            self.scores = self.scores.gather(1, kept)

    def _choose(self) -> Int[Tensor, "B"]:
        """Which of each row's blocks goes. By scores, never one of the newest half."""
        rows, old = self.scores.shape[0], self.max_blocks - self.max_blocks // 2
        if self.policy == "scores":
            by_block = self.scores[:, : old * self.block_size].unflatten(1, (old, self.block_size))
            return by_block.sum(2).argmin(1)
        return torch.full((rows,), int(self.policy == "sinks"), device=self.scores.device)


class EvictingCache:
    """A KV cache of at most `max_blocks` blocks in each layer, however long the text is.

        with EvictingCache(model, policy="sinks", max_blocks=4) as cache:
            logits = cache.read(tokens)  # [B, T] -> [B, T, V]

    policy: "window" keeps the newest blocks; "sinks" the first block and the newest; "scores" the
    newest half and, of the older ones, those that got most attention so far.

    Raises ValueError for another policy, a block size below 1, or fewer than 2 blocks.
    """

    def __init__(
        self, model: Transformer, *, policy: Policy, max_blocks: int, block_size: int = 8
    ) -> None:
        one_of("policy", policy, get_args(Policy))
        at_least("max_blocks", max_blocks, 2)
        at_least("block_size", block_size, 1)
        self.model, self.policy = model, policy
        self.max_blocks, self.block_size = max_blocks, block_size
        self.length = 0
        self._originals: list[nn.Module] = []

    def __enter__(self) -> "EvictingCache":
        attentions = [layer.attention for layer in self.model.layers.values()]
        if not all(isinstance(a.inner_attention, ScaledDotProductAttention) for a in attentions):
            raise ValueError("the model has a cache already: end that generation first")
        self._originals = [a.inner_attention for a in attentions]
        for attention in attentions:
            attention.inner_attention = EvictingAttention(
                self.policy, self.max_blocks, self.block_size
            )
        return self

    def __exit__(self, *exc_info: object) -> None:
        for layer, original in zip(self.model.layers.values(), self._originals, strict=True):
            layer.attention.inner_attention = original
        self._originals = []

    @property
    def tokens_kept(self) -> int:
        """Tokens of each row whose keys and values a layer holds now."""
        if not self._originals:
            return 0
        kept = self.model.layers["0"].attention.inner_attention.keys
        return 0 if kept is None else kept.shape[2]

    @torch.no_grad()
    def read(self, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B T V"]:
        """Read tokens after those before, block by block; the scores after each of them.

        Raises ValueError outside the `with` block, or beyond the model's position table.
        """
        if not self._originals:
            raise ValueError(
                "the cache is not in the model: use it inside `with EvictingCache(...)`"
            )
        logits = []
        while tokens.shape[1]:
            room = self.block_size - self.length % self.block_size
            piece, tokens = tokens[:, :room], tokens[:, room:]
            positions = torch.arange(self.length, self.length + piece.shape[1])
            hidden = self.model.hidden_states(piece, positions.to(piece.device)[None])
            logits.append(self.model.output(hidden))
            self.length += piece.shape[1]
        return torch.cat(logits, 1)
