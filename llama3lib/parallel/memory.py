"""Bytes on one GPU while it trains, by part, before anything runs.

Mixed precision as in the paper: BF16 weights and activations; FP32 gradients, which are kept
whole while micro-batches add to them (§3.3.2); FP32 weights and moments of AdamW, sharded.
"""

from dataclasses import dataclass
from functools import cache

from llama3lib.model import ModelArgs
from llama3lib.model.flops import count_parameters
from llama3lib.parallel.layout import Layout, in_flight, stage_layers

BF16, FP32 = 2, 4
_STATE = 3 * FP32  # weights and both moments


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes on one rank. `working`: what only lives while one block or the loss is computed."""

    weights: float
    gradients: float
    optimizer: float
    residual: float
    """Activations: the stream, at the inputs and behind the norms of each block."""
    attention: float
    """Activations: queries, keys, values, and the mixed heads."""
    feed_forward: float
    """Activations: inside the feed-forward layer."""
    head: float
    """Activations: last norm and probabilities of all tokens."""
    working: float

    @property
    def activations(self) -> float:
        """All parts of them."""
        return self.residual + self.attention + self.feed_forward + self.head

    @property
    def total(self) -> float:
        state = self.weights + self.gradients + self.optimizer
        return state + self.activations + self.working


@cache
def kept_by_block(args: ModelArgs, recompute: str) -> tuple[int, int, int]:
    """Numbers that a block keeps for each token: of the stream, of attention, of feed-forward.

    All that autograd keeps, only results of products and attention, or only the block's input.
    """
    heads = 2 * args.n_heads * args.head_dim + 2 * args.n_kv_heads * args.head_dim
    if recompute == "none":
        return 4 * args.dim, heads, 4 * args.ffn_dim
    return (2 * args.dim, heads, 2 * args.ffn_dim) if recompute == "selective" else (args.dim, 0, 0)


def rank_parameters(args: ModelArgs, layout: Layout, rank: int) -> float:
    """Parameters on one GPU of a pipeline rank before FSDP shards them; norms are not cut by TP.

    A tied output matrix stands on the first and on the last rank.
    """
    count = count_parameters(args)
    layers = sum(stage_layers(args.n_layers, layout.pp, layout.stages)[rank])
    block = (count.attention + count.feed_forward) / args.n_layers / layout.tp + 2 * args.dim
    first, last = rank == 0, rank == layout.pp - 1
    tables = first + last - (first and last and args.tie_embeddings)
    return layers * block + tables * args.vocab_size * args.dim / layout.tp + last * args.dim


def rank_memory(args: ModelArgs, layout: Layout, sequence: int, rank: int) -> Memory:
    """Bytes of each part on one GPU of a pipeline rank; `layout.check` must have passed."""
    layers = stage_layers(args.n_layers, layout.pp, layout.stages)[rank]
    parameters = rank_parameters(args, layout, rank)
    largest = parameters / max(1, sum(layers))
    # one gathered layer and the next one; without micro-batches to add up, gradients go at once
    passing = min(parameters, parameters / layout.shards + 2 * largest)
    tokens = layout.sequences * sequence / layout.cp / layout.tp
    held = sum(n * flight for n, flight in zip(layers, in_flight(layout, rank), strict=True))
    stream, heads, inner = (
        BF16 * tokens * held * kept for kept in kept_by_block(args, layout.recompute)
    )
    last = rank == layout.pp - 1
    return Memory(
        weights=BF16 * (passing if layout.reshard else parameters),
        gradients=FP32 * (passing if layout.micro_batches == 1 else parameters),
        optimizer=_STATE * parameters / layout.shards,
        residual=stream,
        attention=heads,
        feed_forward=inner,
        head=tokens * (2 * args.dim * BF16 + FP32 * args.vocab_size) if last else 0.0,
        working=tokens * _working(args, layout, last=last),
    )


def _working(args: ModelArgs, layout: Layout, *, last: bool) -> float:
    """Bytes for each token while a block goes backward, or the loss does if that is more."""
    again = sum(kept_by_block(args, "none")) - sum(kept_by_block(args, layout.recompute))
    # TP gathers the stream of all its ranks before products; CP keys and values of the sequence
    gathered = args.dim * layout.tp if layout.tp > 1 else 0
    gathered += 2 * args.n_kv_heads * args.head_dim * layout.cp if layout.cp > 1 else 0
    block = BF16 * (again + gathered + 2 * args.ffn_dim)
    loss = BF16 * 2 * args.vocab_size if last else 0
    return max(block, loss)


def peak_memory(args: ModelArgs, layout: Layout, sequence: int) -> Memory:
    """That of the pipeline rank that needs most; `layout.check` must have passed."""
    # all but the first and the last have the same layers, and the earlier hold more micro-batches
    ranks = {0, min(1, layout.pp - 1), layout.pp - 1}
    return max((rank_memory(args, layout, sequence, r) for r in ranks), key=lambda m: m.total)
