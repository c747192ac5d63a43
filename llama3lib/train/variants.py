"""What does each part of the Llama block buy? The byte model with one part put back (§3.2).

Each variant is the model page's own `Transformer` with submodules replaced. All have the same
number of parameters (without norms 0.3 % fewer), so that a difference in loss comes from the part
and not from the size.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llama3lib.model import ModelArgs, Transformer, TransformerBlock
from llama3lib.model.transformer import Attention
from llama3lib.train.byte_model import ByteRun, loss_on_texts, train_byte_model
from llama3lib.utils.require import one_of

BASE = ModelArgs(
    dim=48, n_layers=3, n_heads=4, n_kv_heads=2, ffn_dim=128, vocab_size=256, max_seq_len=128
)


class ReLUFeedForward(nn.Module):
    """Two matrices without a gate, 1.5 times as wide: as many parameters as SwiGLU."""

    def __init__(self, args: ModelArgs) -> None:
        super().__init__()
        self.w1 = nn.Linear(args.dim, 3 * args.ffn_dim // 2, bias=False)
        self.w2 = nn.Linear(3 * args.ffn_dim // 2, args.dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        return self.w2(F.relu(self.w1(x)))


class UnrotatedAttention(Attention):
    """Queries and keys meet as they are; order is known from the causal mask alone."""

    def forward(
        self, x: Tensor, freqs_cis: Tensor, positions: Tensor, attn_metadata: object = None
    ) -> Tensor:
        """[B, T, D] -> [B, T, D]; the positions are not read."""
        return super().forward(x, torch.ones_like(freqs_cis), positions, attn_metadata)


class PostNormBlock(TransformerBlock):
    """The block of 2017: each norm comes after the addition, on the residual stream itself."""

    def forward(
        self, x: Tensor, freqs_cis: Tensor, positions: Tensor, attn_metadata: object = None
    ) -> Tensor:
        """[B, T, D] -> [B, T, D], of size 1 at every token."""
        h = self.attention_norm(x + self.attention(x, freqs_cis, positions, attn_metadata))
        return self.ffn_norm(h + self.feed_forward(h))


def _relu(block: TransformerBlock, args: ModelArgs) -> TransformerBlock:
    block.feed_forward = ReLUFeedForward(args)
    return block


def _layer_norm(block: TransformerBlock, args: ModelArgs) -> TransformerBlock:
    for name in ("attention_norm", "ffn_norm"):
        setattr(block, name, nn.LayerNorm(args.dim, eps=args.norm_eps, bias=False))
    return block


def _no_norm(block: TransformerBlock, args: ModelArgs) -> TransformerBlock:
    block.attention_norm, block.ffn_norm = nn.Identity(), nn.Identity()
    return block


def _no_rope(block: TransformerBlock, args: ModelArgs) -> TransformerBlock:
    block.attention = UnrotatedAttention(args)
    return block


def _post_norm(block: TransformerBlock, args: ModelArgs) -> TransformerBlock:
    return PostNormBlock(args)


@dataclass(frozen=True)
class Variant:
    """One change: a part of every block, or the number of key/value heads."""

    change: Callable[[TransformerBlock, ModelArgs], TransformerBlock] | None = None
    n_kv_heads: int = BASE.n_kv_heads

    def args(self, base: ModelArgs = BASE) -> ModelArgs:
        """What fewer key/value heads save goes to the feed-forward layer, as 3·D·F = 2·D·K·H."""
        saved = 2 * (base.n_kv_heads - self.n_kv_heads) * base.head_dim
        return base.replace(n_kv_heads=self.n_kv_heads, ffn_dim=base.ffn_dim + saved // 3)

    def build(self, args: ModelArgs) -> Transformer:
        """The changed model, its weights not yet drawn."""
        model = Transformer(args)
        for name, block in model.layers.items():
            model.layers[name] = self.change(block, args) if self.change else block
        return model


VARIANTS = {
    "Llama (GQA)": Variant(),
    "MHA": Variant(n_kv_heads=4),
    "MQA": Variant(n_kv_heads=1),
    "LayerNorm": Variant(_layer_norm),
    "ReLU": Variant(_relu),
    "post-norm": Variant(_post_norm),
    "no RoPE": Variant(_no_rope),
    "no norms": Variant(_no_norm),
}


def variant_loss(
    name: str,
    texts: Sequence[str],
    held_out: Sequence[str],
    run: ByteRun | None = None,
    n_layers: int = BASE.n_layers,
) -> float:
    """Train one of `VARIANTS` on texts; its loss on held-out ones, in nats per byte.

    Raises ValueError for a name that is none.
    """
    one_of("name", name, tuple(VARIANTS))
    variant, run = VARIANTS[name], run or ByteRun()
    run = replace(run, args=variant.args(BASE.replace(n_layers=n_layers)))
    return loss_on_texts(train_byte_model(texts, run, build=variant.build), held_out, run.length)
