"""The Llama 3 model on one page (§3.2, Table 3).

A dense decoder-only Transformer: RMSNorm before each part, rotary positions, grouped-query
attention, SwiGLU, no biases. Weight names are those of Meta's released checkpoints.

Letters in shapes: B batch, T query tokens, S key tokens, D model, N query heads, K key/value
heads, H head size, F feed-forward, V vocabulary.

What this page does not know: caches, FP8, several GPUs. They come in through five seams.
1. `Attention.inner_attention` is a submodule that may be replaced.
2. `positions` and `attn_metadata` pass through untouched; the position table is read inside
   `Attention`, so a block may hold only some of the tokens.
3. Heads are counted with -1, so a block may hold only some of the heads; key/value heads stay
   ungrouped until the inner attention.
4. `layers` is a ModuleDict, and `tok_embeddings`, `norm`, `output` may be None, so a pipeline
   stage is this same class with parts missing.
5. Plain nn.Linear, nn.Embedding, nn.RMSNorm with weights set in `init_weights`, so a model of
   any size can be built on the meta device without memory.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Complex, Float, Int
from torch import Tensor, nn

from llama3lib.model.args import ModelArgs
from llama3lib.model.attention import ScaledDotProductAttention
from llama3lib.model.rope import apply_rotary_emb, precompute_freqs_cis


class Attention(nn.Module):
    """Grouped-query attention: N query heads share K key/value heads (§3.2)."""

    def __init__(self, args: ModelArgs) -> None:
        super().__init__()
        self.head_dim = args.head_dim
        self.wq = nn.Linear(args.dim, args.n_heads * args.head_dim, bias=False)
        self.wk = nn.Linear(args.dim, args.n_kv_heads * args.head_dim, bias=False)
        self.wv = nn.Linear(args.dim, args.n_kv_heads * args.head_dim, bias=False)
        self.wo = nn.Linear(args.n_heads * args.head_dim, args.dim, bias=False)
        self.inner_attention = ScaledDotProductAttention()

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        freqs_cis: Complex[Tensor, "P half"],
        positions: Int[Tensor, "#B T"],
        attn_metadata: object = None,
    ) -> Float[Tensor, "B T D"]:
        q = self.wq(x).unflatten(-1, (-1, self.head_dim))  # [B, T, N, H]
        k = self.wk(x).unflatten(-1, (-1, self.head_dim))  # [B, T, K, H]
        v = self.wv(x).unflatten(-1, (-1, self.head_dim))
        turn = freqs_cis[positions]
        q, k = apply_rotary_emb(q, turn), apply_rotary_emb(k, turn)
        mixed = self.inner_attention(q, k, v, attn_metadata)  # [B, T, N, H]
        return self.wo(mixed.flatten(-2))


class FeedForward(nn.Module):
    """SwiGLU: a gate decides, channel by channel, how much of `w3(x)` gets through (Table 3)."""

    def __init__(self, args: ModelArgs) -> None:
        super().__init__()
        self.w1 = nn.Linear(args.dim, args.ffn_dim, bias=False)  # gate
        self.w2 = nn.Linear(args.ffn_dim, args.dim, bias=False)  # down
        self.w3 = nn.Linear(args.dim, args.ffn_dim, bias=False)  # up

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class TransformerBlock(nn.Module):
    """Look at other tokens, then think about each one; both add to what was there."""

    def __init__(self, args: ModelArgs) -> None:
        super().__init__()
        self.attention = Attention(args)
        self.feed_forward = FeedForward(args)
        self.attention_norm = nn.RMSNorm(args.dim, eps=args.norm_eps)
        self.ffn_norm = nn.RMSNorm(args.dim, eps=args.norm_eps)

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        freqs_cis: Complex[Tensor, "P half"],
        positions: Int[Tensor, "#B T"],
        attn_metadata: object = None,
    ) -> Float[Tensor, "B T D"]:
        h = x + self.attention(self.attention_norm(x), freqs_cis, positions, attn_metadata)
        return h + self.feed_forward(self.ffn_norm(h))


class Transformer(nn.Module):
    """Token ids in, a score for every possible next token out (§3.2).

    >>> from llama3lib.model import Transformer, get_preset
    >>> with torch.device("meta"):
    ...     model = Transformer(get_preset("405B"))  # shapes only: takes no memory
    """

    def __init__(self, args: ModelArgs) -> None:
        super().__init__()
        self.args = args
        self.tok_embeddings = nn.Embedding(args.vocab_size, args.dim)
        self.layers = nn.ModuleDict({str(i): TransformerBlock(args) for i in range(args.n_layers)})
        self.norm = nn.RMSNorm(args.dim, eps=args.norm_eps)
        self.output = nn.Linear(args.dim, args.vocab_size, bias=False)
        if args.tie_embeddings:
            self.output.weight = self.tok_embeddings.weight
        self.register_buffer("freqs_cis", None, persistent=False)
        self._make_position_table()

    def forward(
        self,
        tokens: Int[Tensor, "B T"] | Float[Tensor, "B T D"],
        positions: Int[Tensor, "#B T"] | None = None,
        attn_metadata: object = None,
    ) -> Float[Tensor, "B T V"]:
        """Logits of every position, in the dtype of the weights.

        tokens: ids; the stream [B, T, D] where a stage without `tok_embeddings` goes on.
        positions: place of each token in its document; 0, 1, 2, ... if left out.
        attn_metadata: None for plain causal attention, a `DocumentMask` for packed documents, or
        whatever a replaced `inner_attention` understands.
        Raises ValueError on an empty row or a position outside the table of max_seq_len rows.
        """
        h = self.hidden_states(tokens, positions, attn_metadata)
        return self.output(h) if self.output is not None else h

    def hidden_states(
        self,
        tokens: Int[Tensor, "B T"] | Float[Tensor, "B T D"],
        positions: Int[Tensor, "#B T"] | None = None,
        attn_metadata: object = None,
    ) -> Float[Tensor, "B T D"]:
        """What the output matrix sees: the stream after the last block and the final norm."""
        if positions is None:
            positions = torch.arange(tokens.shape[1], device=tokens.device).unsqueeze(0)
        self._check_positions(positions)
        h = self.tok_embeddings(tokens) if self.tok_embeddings is not None else tokens
        for layer in self.layers.values():
            h = layer(h, self.freqs_cis, positions, attn_metadata)
        return self.norm(h) if self.norm is not None else h

    def _check_positions(self, positions: Int[Tensor, "#B T"]) -> None:
        rows, length = len(self.freqs_cis), positions.shape[1]
        if not 0 < length <= rows:
            raise ValueError(f"{length} tokens are not allowed: 1 to max_seq_len={rows}")
        if positions.device.type == "cpu" and not torch.compiler.is_compiling():
            low, high = (int(edge) for edge in positions.aminmax())  # on a GPU this would wait
            if low < 0 or high >= rows:
                bad = low if low < 0 else high
                raise ValueError(f"position {bad} is not allowed: 0 to {rows - 1} (max_seq_len)")

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """Draw all weights afresh; call it after `to_empty` when the model was built on meta.

        Normal with standard deviation 0.02, cut at three deviations; matrices that write into
        the residual stream are scaled down by sqrt(2·L) so that depth does not raise its size.
        The paper gives no initialisation: this choice is ours.
        """
        for name, parameter in self.named_parameters():
            if parameter.dim() == 1:
                nn.init.ones_(parameter)  # norms
                continue
            writes = name.endswith(("wo.weight", "w2.weight"))
            std = 0.02 / math.sqrt(2 * self.args.n_layers) if writes else 0.02
            nn.init.trunc_normal_(parameter, 0, std, -3 * std, 3 * std, generator=generator)

    def _make_position_table(self) -> None:
        weight = next(self.parameters())
        dtype = torch.complex128 if weight.dtype == torch.float64 else torch.complex64
        args = self.args
        self.freqs_cis = precompute_freqs_cis(
            args.head_dim,
            args.max_seq_len,
            args.rope_theta,
            args.rope_scaling,
            dtype=dtype,
            device=weight.device,
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Transformer":
        # .to(), .bfloat16(), .to_empty() all come through here: a rounded or empty position
        # table would be silently wrong, so it is not converted but made again
        self.freqs_cis = None
        super()._apply(fn, recurse)
        if self.args.tie_embeddings and None not in (self.tok_embeddings, self.output):
            self.output.weight = self.tok_embeddings.weight  # to_empty would break the tie
        self._make_position_table()
        return self
