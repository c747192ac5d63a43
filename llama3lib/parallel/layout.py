"""How a batch is laid out over GPUs: the four dimensions, the pipeline's stages and its schedule.

Arithmetic alone; nothing here starts a process.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

from llama3lib.model import ModelArgs
from llama3lib.utils.require import one_of, require, whole

Recompute = Literal["none", "selective", "full"]
"""What is computed again in the backward pass: nothing; all but products and attention, which
costs hardly any time (fused kernels do the same); or each block from its input."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One way to put a batch on GPUs (§3.3.2). Raises ValueError for a number below 1."""

    tp: int = 1
    """Tensor parallelism, with the stream between blocks cut by tokens (sequence parallelism)."""
    cp: int = 1
    """Context parallelism, in 2·CP chunks."""
    pp: int = 1
    """Pipeline ranks."""
    dp: int = 1
    """Replicas of the model, over which (times cp) FSDP shards."""
    stages: int = 1
    """V: stages for each pipeline rank."""
    micro_batches: int = 1
    """M: through the pipeline in each step."""
    sequences: int = 1
    """In one micro-batch."""
    recompute: Recompute = "none"
    reshard: bool = False
    """Gathered weights are given up after use and gathered again; the paper keeps them."""

    def __post_init__(self) -> None:
        for name in ("tp", "cp", "pp", "dp", "stages", "micro_batches", "sequences"):
            whole(name, getattr(self, name))
        one_of("recompute", self.recompute, get_args(Recompute))

    @property
    def gpus(self) -> int:
        """Product of the four dimensions."""
        return self.tp * self.cp * self.pp * self.dp

    @property
    def shards(self) -> int:
        """Ranks that FSDP shards over."""
        return self.dp * self.cp

    @property
    def batch_sequences(self) -> int:
        """Sequences of the whole step."""
        return self.dp * self.micro_batches * self.sequences

    @property
    def bubble(self) -> float:
        """Idle time over useful time of balanced stages: (PP - 1) / (V · M) (§3.3.2)."""
        return (self.pp - 1) / (self.stages * self.micro_batches)

    @property
    def reach(self) -> Mapping[str, int]:
        """Neighbours within which the group of each dimension lies; TP is innermost (§3.3.2)."""
        tp, cp = self.tp, self.tp * self.cp
        return {"TP": tp, "CP": cp, "PP": cp * self.pp, "DP": self.gpus}

    def check(self, args: ModelArgs, sequence: int) -> None:
        """Raises ValueError unless model and sequence can be cut in this way."""
        check_cut(args, tp=self.tp, cp=self.cp, sequence=sequence)
        stage_layers(args.n_layers, self.pp, self.stages)
        if self.stages > 1:
            require(self.pp > 1, "stages", self.stages, "1 without a pipeline")
            m, least = self.micro_batches, f"pp={self.pp} or more if stages > 1"
            require(m >= self.pp, "micro_batches", m, least)


def check_cut(args: ModelArgs, *, tp: int, cp: int, sequence: int | None = None) -> None:
    """Raises ValueError unless heads, widths and tokens can be cut between ranks."""
    for name in ("n_heads", "n_kv_heads", "ffn_dim", "vocab_size"):
        size = getattr(args, name)
        require(size % tp == 0, "tp", tp, f"a divisor of {name}={size}")
    if sequence is not None:
        whole("sequence", sequence)
        pieces = math.lcm(2 * cp, cp * tp) if cp > 1 else tp
        allowed = f"a multiple of {pieces}, for tp={tp} and 2·cp chunks, cp={cp}"
        require(sequence % pieces == 0, "sequence", sequence, allowed)


@cache
def stage_layers(n_layers: int, pp: int, stages: int) -> tuple[tuple[int, ...], ...]:
    """Layers of each stage, [rank][stage]; rank r has stages r, r + PP, r + 2·PP, ...

    Where the layers do not divide, but would with two more, the first and the last stage have one
    fewer, as in the paper. Raises ValueError where neither holds.
    """
    count = pp * stages
    fewer = 0 if n_layers % count == 0 else 1
    even = (n_layers + 2 * fewer) % count == 0
    what = f"n_layers={n_layers}, or n_layers + 2, must be a multiple of pp · stages={count}"
    require(even and n_layers >= count - 2 * fewer and (count > 1 or not fewer), "pp", pp, what)
    each = (n_layers + 2 * fewer) // count
    layers = [[each] * stages for _ in range(pp)]
    layers[0][0] -= fewer
    layers[-1][-1] -= fewer
    return tuple(map(tuple, layers))


def stage_choices(n_layers: int, pp: int) -> list[int]:
    """V that cut the layers evenly, or with one fewer at both ends; 1 without a pipeline."""
    possible = []
    for stages in range(1, (n_layers + 2) // pp + 1 if pp > 1 else 2):
        try:
            stage_layers(n_layers, pp, stages)
        except ValueError:
            continue
        possible.append(stages)
    return possible


def in_flight(layout: Layout, rank: int) -> list[int]:
    """Most micro-batches of each of a rank's stages whose backward pass is still to come.

    One forward, one backward: earlier ranks begin earlier and hold more. With several stages a
    rank, rounds of N >= PP micro-batches go through one stage after the other.
    """
    pp, v, m = layout.pp, layout.stages, layout.micro_batches
    if v == 1:
        return [min(m, pp - rank)]
    round_size = -(-m // (m // pp))  # N: as even as the micro-batches allow
    ahead = 2 * (pp - 1 - rank) + (v - 1) * round_size + 1
    rounds, rest = divmod(min(ahead, m * v), round_size * v)
    held = [rounds * round_size + min(max(rest - n * round_size, 0), round_size) for n in range(v)]
    return [min(m, one) for one in held]
