"""What a model costs before it is built: parameters, FLOPs, cache and training memory.

All closed forms over `ModelArgs`; the tests hold them against real modules, PyTorch's own FLOP
counter and the tensors autograd really keeps.
"""

from dataclasses import dataclass
from functools import cache

from llama3lib.model.args import ModelArgs
from llama3lib.utils.require import whole


@dataclass(frozen=True, kw_only=True)
class TensorShape:
    """One kind of weight: `copies` tensors of `shape`, one per layer or one in all."""

    name: str
    shape: tuple[int, ...]
    copies: int = 1

    @property
    def elements(self) -> int:
        """Numbers in all copies together."""
        size = self.copies
        for length in self.shape:
            size *= length
        return size


def tensor_shapes(args: ModelArgs) -> list[TensorShape]:
    """Every kind of weight tensor with Meta's name; `{i}` stands for the layer.

    A tied output matrix is left out, because it is the embedding matrix itself.
    """
    queries, keys = args.n_heads * args.head_dim, args.n_kv_heads * args.head_dim
    in_each_layer = {
        "attention_norm": (args.dim,),
        "attention.wq": (queries, args.dim),
        "attention.wk": (keys, args.dim),
        "attention.wv": (keys, args.dim),
        "attention.wo": (args.dim, queries),
        "ffn_norm": (args.dim,),
        "feed_forward.w1": (args.ffn_dim, args.dim),
        "feed_forward.w3": (args.ffn_dim, args.dim),
        "feed_forward.w2": (args.dim, args.ffn_dim),
    }
    shapes = [TensorShape(name="tok_embeddings", shape=(args.vocab_size, args.dim))]
    shapes += [
        TensorShape(name=f"layers.{{i}}.{name}", shape=shape, copies=args.n_layers)
        for name, shape in in_each_layer.items()
    ]
    shapes.append(TensorShape(name="norm", shape=(args.dim,)))
    if not args.tie_embeddings:
        shapes.append(TensorShape(name="output", shape=(args.vocab_size, args.dim)))
    return shapes


@dataclass(frozen=True, kw_only=True)
class ParameterCount:
    """Parameters of the whole model by part. `output` is 0 when it is tied to the embedding."""

    embedding: int
    attention: int
    feed_forward: int
    norms: int
    output: int

    @property
    def total(self) -> int:
        return self.embedding + self.attention + self.feed_forward + self.norms + self.output

    def share(self, part: str) -> float:
        """Fraction of the total held by that part, 0 to 1. Raises ValueError on unknown parts."""
        parts = ("embedding", "attention", "feed_forward", "norms", "output")
        if part not in parts:
            raise ValueError(f"part={part!r} is not known: use one of {', '.join(parts)}")
        return getattr(self, part) / self.total


@cache
def count_parameters(args: ModelArgs) -> ParameterCount:
    """Parameters from the shapes alone (Table 3).

    >>> from llama3lib.model import get_preset
    >>> count_parameters(get_preset("405B")).total
    405853388800
    """
    totals = dict.fromkeys(("embedding", "attention", "feed_forward", "norms", "output"), 0)
    for tensor in tensor_shapes(args):
        if "norm" in tensor.name:
            totals["norms"] += tensor.elements
        elif "attention" in tensor.name:
            totals["attention"] += tensor.elements
        elif "feed_forward" in tensor.name:
            totals["feed_forward"] += tensor.elements
        else:
            totals["output" if tensor.name == "output" else "embedding"] += tensor.elements
    return ParameterCount(**totals)


@dataclass(frozen=True, kw_only=True)
class TokenFlops:
    """Floating-point operations for one token of a sequence (a multiply-add counts as two)."""

    matrices: int
    """Products with weights: 2 for each weight used; looking up an embedding costs none."""
    attention: int
    """Scores and mixing, averaged over a causal sequence."""

    @property
    def forward(self) -> int:
        return self.matrices + self.attention

    @property
    def training(self) -> int:
        """Forward and backward: the backward pass costs twice the forward one."""
        return 3 * self.forward


def flops_per_token(args: ModelArgs, seq_len: int) -> TokenFlops:
    """FLOPs per token, averaged over a causal sequence of `seq_len` tokens.

    The well-known 6·N·D (§3.2.1) is `training` without the attention term and with the
    embedding counted as if it were multiplied.
    Raises ValueError if seq_len is below 1.
    """
    whole("seq_len", seq_len)
    count = count_parameters(args)
    used = count.attention + count.feed_forward + args.vocab_size * args.dim
    width = args.n_heads * args.head_dim
    # token t sees t + 1 keys, so (seq_len + 1) / 2 on average; 2 products of 2 FLOPs each
    return TokenFlops(matrices=2 * used, attention=2 * args.n_layers * width * (seq_len + 1))


def kv_cache_bytes(args: ModelArgs, tokens: int = 1, bytes_per_element: int = 2) -> int:
    """Bytes of keys and values kept for `tokens` tokens of one sequence (2 bytes: bfloat16).

    >>> from llama3lib.model import get_preset
    >>> kv_cache_bytes(get_preset("405B"))
    516096
    """
    whole("tokens", tokens)
    whole("bytes_per_element", bytes_per_element)
    return 2 * args.n_layers * args.n_kv_heads * args.head_dim * tokens * bytes_per_element


@dataclass(frozen=True, kw_only=True)
class MemoryEstimate:
    """Bytes on one device, without parallelism. Parts that do not apply are 0."""

    weights: int
    gradients: int = 0
    optimizer: int = 0
    activations: int = 0
    kv_cache: int = 0

    @property
    def total(self) -> int:
        parts = (self.weights, self.gradients, self.optimizer, self.activations, self.kv_cache)
        return sum(parts)


def inference_memory(
    args: ModelArgs, *, tokens: int, batch_size: int = 1, bytes_per_element: int = 2
) -> MemoryEstimate:
    """Bytes to serve: weights, and the cache of `batch_size` sequences of `tokens` tokens."""
    whole("batch_size", batch_size)
    return MemoryEstimate(
        weights=count_parameters(args).total * bytes_per_element,
        kv_cache=batch_size * kv_cache_bytes(args, tokens, bytes_per_element),
    )


def training_memory(
    args: ModelArgs,
    *,
    seq_len: int,
    batch_size: int = 1,
    mixed_precision: bool = True,
    checkpointing: bool = False,
) -> MemoryEstimate:
    """Bytes to train with AdamW: weights, gradients, both moments, and kept activations.

    mixed_precision: bfloat16 activations over float32 weights, gradients and moments;
    otherwise all float32.
    checkpointing: keep only each block's input and recompute the rest, one block at a time.
    """
    whole("batch_size", batch_size)
    weights = 4 * count_parameters(args).total
    return MemoryEstimate(
        weights=weights,
        gradients=weights,
        optimizer=2 * weights,
        activations=activation_bytes(
            args,
            seq_len=seq_len,
            batch_size=batch_size,
            bytes_per_element=2 if mixed_precision else 4,
            checkpointing=checkpointing,
        ),
    )


def activation_bytes(
    args: ModelArgs,
    *,
    seq_len: int,
    batch_size: int = 1,
    bytes_per_element: int = 2,
    checkpointing: bool = False,
) -> int:
    """Bytes autograd keeps between forward and backward, logits and loss included.

    Per token and block: the inputs of both norms and of the two groups of matrices (4·D);
    queries, keys, values and the mixed heads (2·N·H + 2·K·H); gate, its SiLU, up, and their
    product (4·F). Attention scores are not among them: the fused kernel computes them again.
    PyTorch's RMSNorm on the CPU keeps one more copy of its input (D a norm) than counted here.
    """
    whole("seq_len", seq_len)
    queries, keys = args.n_heads * args.head_dim, args.n_kv_heads * args.head_dim
    block = 4 * args.dim + 2 * queries + 2 * keys + 4 * args.ffn_dim
    if checkpointing:
        blocks = args.n_layers * args.dim + block
    else:
        blocks = args.n_layers * block
    head = 2 * args.dim  # input and result of the last norm
    loss = 4 * args.vocab_size  # log-probabilities are kept in float32
    return batch_size * seq_len * ((blocks + head) * bytes_per_element + loss)
