"""Faster blocks, put in from outside: fewer and larger matrix products, weights packed for a CPU.

The model page stays plain; these functions replace the parts of each block by others that give
the same result. A fused model is for generating only: its parameters no longer have Meta's
names, so it can be neither trained nor saved. `unfuse_projections` makes it a plain one again.
"""

import platform
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Complex, Float, Int
from torch import Tensor, nn

from llama3lib.inference.kv_cache import CacheWindow
from llama3lib.model import FeedForward, Transformer, TransformerBlock
from llama3lib.model.rope import apply_rotary_emb
from llama3lib.quant.quantize import Maker, Scheme, check_plain, linear_maker, scheme_of
from llama3lib.quant.stored import StoredLinear


def fuse_projections(
    model: Transformer,
    *,
    pack: bool | None = None,
    scheme: Scheme | None = None,
    one_text: bool = False,
) -> Transformer:
    """Replace every block of `model` by a fused one, in place; returns the model.

    Queries, keys and values come from one product instead of three, gate and up from one
    instead of two, and in the last block only the last token of a text goes on after its keys
    and values are stored, because only its logits are wanted (`last_only` of `CacheWindow`).

    pack: also store each matrix in the order the CPU's kernels read (oneDNN). None packs if the
    model is on a CPU with such kernels, in float32 or bfloat16.
    scheme: also quantise the matrices that `quantize_model` would, to the very same numbers:
    each row is rounded by itself, wherever it stands. A model that is quantised keeps its numbers.
    one_text: the model will write one text at a time. In packed float32, wide matrices are then
    stored turned: quicker for one token, slower for many at once.
    Raises ValueError if packing is asked for where it cannot be done, for an unknown scheme, or
    if the model is fused already, or is to be quantised a second time.
    """
    weight = next(model.parameters())
    can_pack = _can_pack(weight)
    if pack and not can_pack:
        raise ValueError(
            f"pack=True is not allowed for {weight.dtype} on {weight.device}: "
            "float32 or bfloat16 on an x86 CPU with oneDNN is"
        )
    if any(isinstance(layer, FusedBlock) for layer in model.layers.values()):
        raise ValueError("model is fused already")
    if scheme is not None or scheme_of(model) is None:
        check_plain(model, scheme)
    full: Maker = PackedLinear if (can_pack if pack is None else pack) else PlainLinear
    if one_text and full is PackedLinear and weight.dtype == torch.float32:
        full = _turn_if_wide
    make = partial(linear_maker, scheme, full, model.args.n_layers)
    last = len(model.layers) - 1
    for i, (name, layer) in enumerate(model.layers.items()):
        attention, feed_forward = make("attention", int(name)), make("feed_forward", int(name))
        model.layers[name] = FusedBlock(layer, attention, feed_forward, is_last=i == last)
    if model.output is not None:
        model.output = _join(make("output", 0), model.output)
    return model.requires_grad_(False)


def unfuse_projections(model: Transformer) -> Transformer:
    """Put plain blocks back, in place, with the very weights of before; returns the model.

    Afterwards it can be trained and saved: all parameters have Meta's names and take gradients.
    Raises ValueError if the model is not fused, or if it was quantised: the weights of before
    are gone then.
    """
    if not all(isinstance(layer, FusedBlock) for layer in model.layers.values()):
        raise ValueError("model is not fused")
    if any(hasattr(part, "dequantized") for part in model.modules()):
        raise ValueError("model is quantised: its weights of before are gone")
    for name, layer in model.layers.items():
        with torch.device("meta"):  # shapes only: the weights are put in below
            block = TransformerBlock(model.args)
        for path, weight in layer.plain_weights().items():
            block.get_submodule(path).weight = nn.Parameter(weight.clone())
        block.attention.inner_attention = layer.attention.inner_attention
        block.attention_norm, block.ffn_norm = layer.attention_norm, layer.ffn_norm
        model.layers[name] = block.train(layer.training)
    if model.output is not None:
        args, fused = model.args, model.output
        with torch.device("meta"):
            model.output = nn.Linear(args.dim, args.vocab_size, bias=False)
        tied = args.tie_embeddings and model.tok_embeddings is not None
        weight = model.tok_embeddings.weight if tied else nn.Parameter(fused.weight.clone())
        model.output.weight = weight
        model.output.train(model.training)
    return model.requires_grad_(True)


class PlainLinear(nn.Module):
    """x · Wᵀ."""

    def __init__(self, weight: Float[Tensor, "O I"]) -> None:
        super().__init__()
        self.register_buffer("weight", weight.detach(), persistent=False)

    def forward(self, x: Float[Tensor, "*B I"]) -> Float[Tensor, "*B O"]:
        return F.linear(x, self.weight)


class PackedLinear(nn.Module):
    """x · Wᵀ with W in oneDNN's own order, which only its kernel can read."""

    # the order is chosen for this many rows at once; measured best over 1 to 256
    ROWS = 64
    # its kernel for one row reads weights slower than the one for several, so one row is repeated
    REPEAT = 5

    def __init__(self, weight: Float[Tensor, "O I"]) -> None:
        super().__init__()
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), self.ROWS)
        self.packed = packed

    @property
    def weight(self) -> Float[Tensor, "O I"]:
        """W in the usual order, made anew each time."""
        return self.packed.to_dense()

    def forward(self, x: Float[Tensor, "*B I"]) -> Float[Tensor, "*B O"]:
        if x.numel() == x.shape[-1]:
            repeated = x.reshape(1, -1).expand(self.REPEAT, -1)
            return self._multiply(repeated)[:1].view(*x.shape[:-1], -1)
        return self._multiply(x)

    def _multiply(self, x: Float[Tensor, "*B I"]) -> Float[Tensor, "*B O"]:
        return torch.ops.mkldnn._linear_pointwise(x, self.packed, None, "none", [], "")


class TurnedLinear(nn.Module):
    """x · Wᵀ with Wᵀ stored as it is read: for one row, a sum of rows of Wᵀ."""

    def __init__(self, weight: Float[Tensor, "O I"]) -> None:
        super().__init__()
        self.register_buffer("turned", weight.detach().t().contiguous(), persistent=False)

    @property
    def weight(self) -> Float[Tensor, "O I"]:
        """W in the usual order, made anew each time."""
        return self.turned.t().contiguous()

    def forward(self, x: Float[Tensor, "*B I"]) -> Float[Tensor, "*B O"]:
        return x @ self.turned


def _turn_if_wide(weight: Float[Tensor, "O I"]) -> nn.Module:
    # short rows of Wᵀ gain nothing: measured
    return (TurnedLinear if weight.shape[0] > weight.shape[1] else PackedLinear)(weight)


def _num_rows(part: nn.Module) -> int:
    return part.num_rows if isinstance(part, StoredLinear) else part.weight.shape[0]


def _join(make: Maker, *parts: nn.Module) -> nn.Module:
    """One matrix of the rows of all; those that have few bits already keep them."""
    if isinstance(parts[0], StoredLinear):
        return parts[0] if len(parts) == 1 else type(parts[0]).joined(parts)
    return make(torch.cat([part.weight for part in parts]) if parts[1:] else parts[0].weight)


class FusedAttention(nn.Module):
    """`Attention` with one product for queries, keys and values, and one turn for both."""

    def __init__(self, attention: nn.Module, make: Maker) -> None:
        super().__init__()
        self.head_dim = attention.head_dim
        self.inner_attention = attention.inner_attention
        parts = [attention.wq, attention.wk, attention.wv]
        self.n_heads, self.n_kv_heads = (_num_rows(part) // self.head_dim for part in parts[:2])
        self.wqkv = _join(make, *parts)
        self.wo = _join(make, attention.wo)

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        freqs_cis: Complex[Tensor, "P half"],
        positions: Int[Tensor, "#B T"],
        attn_metadata: object = None,
    ) -> Float[Tensor, "B T D"]:
        heads = self.wqkv(x).unflatten(-1, (-1, self.head_dim))  # [B, T, N + 2K, H]
        turning = self.n_heads + self.n_kv_heads
        turned = apply_rotary_emb(heads[:, :, :turning], freqs_cis[positions])
        q, k = turned[:, :, : self.n_heads], turned[:, :, self.n_heads :]
        mixed = self.inner_attention(q, k, heads[:, :, turning:], attn_metadata)
        return self.wo(mixed.flatten(-2))

    def plain_weights(self) -> dict[str, Tensor]:
        """Each matrix of the plain attention by its name there."""
        heads = (self.n_heads, self.n_kv_heads, self.n_kv_heads)
        parts = self.wqkv.weight.split([n * self.head_dim for n in heads])
        return dict(zip(("wq", "wk", "wv", "wo"), (*parts, self.wo.weight), strict=True))


class LastAttention(nn.Module):
    """`Attention` of the last block: keys and values of all tokens, the query of the last."""

    def __init__(self, attention: nn.Module, make: Maker) -> None:
        super().__init__()
        self.head_dim = attention.head_dim
        self.inner_attention = attention.inner_attention
        self.wq, self.wo = _join(make, attention.wq), _join(make, attention.wo)
        self.wkv = _join(make, attention.wk, attention.wv)

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        freqs_cis: Complex[Tensor, "P half"],
        positions: Int[Tensor, "#B T"],
        attn_metadata: object = None,
    ) -> Float[Tensor, "B U D"]:
        asking = slice(-1, None) if _last_only(attn_metadata) else slice(None)
        turn = freqs_cis[positions]
        q = self.wq(x[:, asking]).unflatten(-1, (-1, self.head_dim))
        k, v = self.wkv(x).unflatten(-1, (2, -1, self.head_dim)).unbind(2)
        q, k = apply_rotary_emb(q, turn[:, asking]), apply_rotary_emb(k, turn)
        return self.wo(self.inner_attention(q, k, v, attn_metadata).flatten(-2))

    def plain_weights(self) -> dict[str, Tensor]:
        """Each matrix of the plain attention by its name there."""
        parts = (self.wq.weight, *self.wkv.weight.chunk(2), self.wo.weight)
        return dict(zip(("wq", "wk", "wv", "wo"), parts, strict=True))


class FusedFeedForward(nn.Module):
    """`FeedForward` with one product for gate and up."""

    def __init__(self, feed_forward: FeedForward, make: Maker) -> None:
        super().__init__()
        self.w13 = _join(make, feed_forward.w1, feed_forward.w3)
        self.w2 = _join(make, feed_forward.w2)

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        gate, up = self.w13(x).chunk(2, -1)
        return self.w2(F.silu(gate) * up)


class FusedBlock(nn.Module):
    """`TransformerBlock` of fused parts.

    The last one computes only the last token where no other is wanted; the other rows of its
    result then repeat that one.
    """

    def __init__(
        self, block: TransformerBlock, attention: Maker, feed_forward: Maker, *, is_last: bool
    ) -> None:
        super().__init__()
        self.is_last = is_last
        self.attention = (LastAttention if is_last else FusedAttention)(block.attention, attention)
        self.feed_forward = FusedFeedForward(block.feed_forward, feed_forward)
        self.attention_norm, self.ffn_norm = block.attention_norm, block.ffn_norm

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        freqs_cis: Complex[Tensor, "P half"],
        positions: Int[Tensor, "#B T"],
        attn_metadata: object = None,
    ) -> Float[Tensor, "B T D"]:
        mixed = self.attention(self.attention_norm(x), freqs_cis, positions, attn_metadata)
        h = x[:, -mixed.shape[1] :] + mixed
        h = h + self.feed_forward(self.ffn_norm(h))
        return h.expand_as(x)  # a view: repeats the row without storing it again

    def plain_weights(self) -> dict[str, Tensor]:
        """Each matrix of the plain block by its name there."""
        w1, w3 = self.feed_forward.w13.weight.chunk(2)
        return {
            **{f"attention.{name}": w for name, w in self.attention.plain_weights().items()},
            "feed_forward.w1": w1,
            "feed_forward.w3": w3,
            "feed_forward.w2": self.feed_forward.w2.weight,
        }


def _last_only(attn_metadata: object) -> bool:
    return isinstance(attn_metadata, CacheWindow) and attn_metadata.last_only


def _can_pack(weight: Tensor) -> bool:
    # other processors' kernels keep another order, and nothing was measured there
    intel = platform.machine().lower() in ("x86_64", "amd64")
    if weight.device.type != "cpu" or not intel or not torch.backends.mkldnn.is_available():
        return False
    if weight.dtype == torch.bfloat16:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return weight.dtype == torch.float32
