"""A cache of keys and values through the model's `inner_attention` seam.

Without a cache every new token would compute the keys and values of all tokens before it again.
The model page does not know that it happens: for the time of a `with` block each block's inner
attention is replaced by one that first stores what it is given.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from llama3lib.inference.attend import attend
from llama3lib.model import Transformer
from llama3lib.model.attention import ScaledDotProductAttention
from llama3lib.utils.require import at_least, between, require


@dataclass(frozen=True)
class CacheWindow:
    """Where the tokens of this call stand: positions `start` to `end - 1` of each row."""

    start: int
    end: int
    last_only: bool = False
    """Only the last token's result is wanted, so the last block may skip the others'."""


class CachedAttention(nn.Module):
    """Stores keys and values of this call, then attends to all that are stored."""

    def __init__(self, keys: Float[Tensor, "B K S H"], values: Float[Tensor, "B K S H"]) -> None:
        super().__init__()
        self.keys, self.values = keys, values

    def forward(
        self,
        q: Float[Tensor, "B T N H"],
        k: Float[Tensor, "B U K H"],
        v: Float[Tensor, "B U K H"],
        attn_metadata: CacheWindow,
    ) -> Float[Tensor, "B T N H"]:
        start, end = attn_metadata.start, attn_metadata.end
        self.keys[:, :, start:end] = k.transpose(1, 2)
        self.values[:, :, start:end] = v.transpose(1, 2)
        n_queries = q.shape[1]
        causal, mask = start == 0 and n_queries == end > 1, None
        if n_queries > 1 and not causal:  # a later piece of a prompt sees all earlier ones
            seen = torch.ones(n_queries, end, dtype=torch.bool, device=q.device)
            mask = seen.tril(end - n_queries)
        keys, values = self.keys[:, :, :end], self.values[:, :, :end]
        return attend(q, keys, values, mask, causal=causal)


class KVCache:
    """Room for `max_seq_len` tokens of `batch_size` rows of the same length.

        with KVCache(model, max_seq_len=300) as cache:
            logits = cache.step(prompt)      # [1, T] -> scores of the next token, [1, V]
            logits = cache.step(next_token)  # [1, 1]

    The model is its old self again when the block ends, also after an error.
    Raises ValueError if the room is larger than the model's position table, or if the model has
    a cache already.
    """

    def __init__(self, model: Transformer, *, batch_size: int = 1, max_seq_len: int) -> None:
        args, weight = model.args, model.norm.weight
        ok = 0 < max_seq_len <= args.max_seq_len
        require(ok, "max_seq_len", max_seq_len, f"1 to the model's {args.max_seq_len}")
        at_least("batch_size", batch_size, 1)
        self.model, self.batch_size, self.max_seq_len = model, batch_size, max_seq_len
        self.length = 0
        shape = (len(model.layers), 2, batch_size, args.n_kv_heads, max_seq_len, args.head_dim)
        self._store = torch.empty(shape, dtype=weight.dtype, device=weight.device)
        self._positions = torch.arange(max_seq_len, device=weight.device).unsqueeze(0)
        self._originals: list[nn.Module] = []

    def __enter__(self) -> "KVCache":
        attentions = [layer.attention for layer in self.model.layers.values()]
        if not all(isinstance(a.inner_attention, ScaledDotProductAttention) for a in attentions):
            raise ValueError("the model has a cache already: end that generation first")
        self._originals = [a.inner_attention for a in attentions]
        for attention, (keys, values) in zip(attentions, self._store, strict=True):
            attention.inner_attention = CachedAttention(keys, values)
        return self

    def __exit__(self, *exc_info: object) -> None:
        layers = self.model.layers.values()
        for layer, original in zip(layers, self._originals, strict=True):
            layer.attention.inner_attention = original
        self._originals = []

    @property
    def nbytes(self) -> int:
        """Bytes of the whole store, used or not."""
        return self._store.nbytes

    @torch.no_grad()
    def step(self, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B V"]:
        """Read these tokens after those already stored; scores for the one that follows.

        Raises ValueError outside the `with` block, for another number of rows than batch_size,
        and if there is no token or no room.
        """
        h = self._read(tokens, last_only=True)
        return self.model.output(h[:, -1:]).squeeze(1)

    @torch.no_grad()
    def step_all(self, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B T V"]:
        """The same with the scores after each of the tokens, not only the last."""
        return self.model.output(self._read(tokens, last_only=False))

    def forget(self, length: int) -> None:
        """Keep only the first `length` tokens, as if the others had not been read.

        Raises ValueError if there are not so many.
        """
        between("length", length, 0, self.length)
        self.length = length

    def _read(self, tokens: Int[Tensor, "B T"], *, last_only: bool) -> Float[Tensor, "B T D"]:
        if not self._originals:
            raise ValueError("the cache is not in the model: use it inside `with KVCache(...)`")
        if tokens.shape[0] != self.batch_size:
            raise ValueError(
                f"tokens has {tokens.shape[0]} rows: batch_size={self.batch_size} is needed"
            )
        start, end = self.length, self.length + tokens.shape[1]
        room = self.max_seq_len - start
        if not start < end <= self.max_seq_len:
            raise ValueError(f"{end - start} tokens after {start} are not allowed: 1 to {room}")
        window = CacheWindow(start, end, last_only=last_only)
        h = self.model.hidden_states(tokens, self._positions[:, start:end], window)
        self.length = end
        return h
