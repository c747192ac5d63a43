"""Which part of a model each rank of an engine holds: some of the layers, some of the heads (§6.1).

Inside a stage each matrix is cut between its ranks: those that write heads or channels by rows,
those that read them by columns, so that a block needs two sums over ranks and nothing else. The
embedding stays whole, for a lookup costs no product.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn

from llama3lib.model import ModelArgs, Transformer
from llama3lib.parallel.stages import make_stage
from llama3lib.utils.require import require, whole

_ATTENTION, _FEED_FORWARD = ("wq", "wk", "wv", "wo"), ("w1", "w2", "w3")
_BY_COLUMNS = ("wo", "w2")


def split_layers(args: ModelArgs, num_stages: int) -> list[range]:
    """The layers of each stage, neighbours together, so that the largest stage has least to read.

    The last one has fewer layers where the output matrix is as large as some; of the others the
    first ones have one more if the number does not divide.
    Raises ValueError unless there is a layer for each stage.
    """
    count, one = args.n_layers, type(num_stages) is int and num_stages >= 1
    require(one and num_stages <= count, "num_stages", num_stages, f"1 to {count} layers")
    if num_stages == 1:
        return [range(count)]
    heads = (2 * args.n_heads + 2 * args.n_kv_heads) * args.head_dim
    output = args.vocab_size / (heads + 3 * args.ffn_dim)  # in layers; all have D columns
    others = num_stages - 1

    def largest(last: int) -> float:
        return max(-(-(count - last) // others), last + output)

    last = min(range(1, count - others + 1), key=largest)
    share, more = divmod(count - last, others)
    sizes = [share + (stage < more) for stage in range(others)] + [last]
    ends = [0, *accumulate(sizes)]
    return [range(*pair) for pair in pairwise(ends)]


@dataclass(frozen=True)
class Share:
    """What one of TP·PP ranks holds.

    Ranks count from the last stage backwards, so that rank 0 has the output matrix: scores are
    large, and so never travel. Raises ValueError for numbers below 1, or a rank that is not there.
    """

    tp: int = 1
    pp: int = 1
    rank: int = 0

    def __post_init__(self) -> None:
        whole("tp", self.tp)
        whole("pp", self.pp)
        ranks = self.tp * self.pp
        require(0 <= self.rank < ranks, "rank", self.rank, f"0 to {ranks - 1}")

    @property
    def stage(self) -> int:
        """Number of its stage; 0 is the first."""
        return self.pp - 1 - self.rank // self.tp

    def check(self, args: ModelArgs) -> None:
        """Raises ValueError if a model cannot be cut so."""
        split_layers(args, self.pp)
        for name in ("n_heads", "n_kv_heads", "ffn_dim"):
            size = getattr(args, name)
            require(size % self.tp == 0, "tp", self.tp, f"a divisor of {name}={size}")

    def cut(self, model: Transformer) -> Transformer:
        """This rank's part of a model, which may be on the meta device and is used up.

        Its `args` count the heads and channels that are here. Raises ValueError if the model
        cannot be cut so, or is fused or in few bits and tp is above 1.
        """
        args = model.args
        self.check(args)
        first, last = self.stage == 0, self.stage == self.pp - 1
        layers = [list(model.layers)[i] for i in split_layers(args, self.pp)[self.stage]]
        part = make_stage(model, layers, is_first=first, is_last=last)
        if self.tp > 1:
            self._cut_matrices(part)
        heads, kv_heads = args.n_heads // self.tp, args.n_kv_heads // self.tp
        part.args = args.replace(
            n_heads=heads,
            n_kv_heads=kv_heads,
            head_dim=args.head_dim,
            ffn_dim=args.ffn_dim // self.tp,
            # nothing is tied where one of the two is on another rank, or cut
            tie_embeddings=args.tie_embeddings and self.tp == self.pp == 1,
        )
        return part

    def _cut_matrices(self, part: Transformer) -> None:
        owners = [(layer.attention, name) for layer in part.layers.values() for name in _ATTENTION]
        layers = part.layers.values()
        owners += [(layer.feed_forward, name) for layer in layers for name in _FEED_FORWARD]
        owners += [(part, "output")] if part.output is not None else []
        for owner, name in owners:
            matrix = getattr(owner, name, None)
            plain = type(matrix) is nn.Linear
            require(plain, "tp", self.tp, "1 for a model that is fused, or stored in few bits")
            own = self._slice(name, matrix.weight)
            with torch.device("meta"):
                linear = nn.Linear(own.shape[1], own.shape[0], bias=False)
            linear.weight = nn.Parameter(own.detach().clone(), matrix.weight.requires_grad)
            setattr(owner, name, linear)

    def parts(
        self, name: str, tensor: Float[Tensor, "*O I"], *, tied: bool
    ) -> Iterator[tuple[str, Tensor]]:
        """What this rank may need of a tensor of the whole model, by its name here."""
        yield name, self._slice(name.split(".")[-2], tensor)
        if tied and name == "tok_embeddings.weight" and self.tp * self.pp > 1:
            yield "output.weight", self._slice("output", tensor)

    def _slice(self, kind: str, tensor: Tensor) -> Tensor:
        """Its rows or columns of a matrix of that name, or all of it."""
        # where the vocabulary does not divide, each rank has all of the output matrix
        in_part = kind == "output" and len(tensor) % self.tp == 0
        if self.tp == 1 or not (in_part or kind in _ATTENTION + _FEED_FORWARD):
            return tensor
        return tensor.chunk(self.tp, 1 if kind in _BY_COLUMNS else 0)[self.rank % self.tp]


def join_matrices(part: Transformer, group: dist.ProcessGroup) -> None:
    """Let the matrices of a part that was cut, fused or not, speak with those of its stage."""
    for layer in part.layers.values():
        layer.attention.wo = _SummedOverRanks(layer.attention.wo, group)
        layer.feed_forward.w2 = _SummedOverRanks(layer.feed_forward.w2, group)
    if part.output is not None and part.args.vocab_size % group.size() == 0:
        part.output = _GatheredOverRanks(part.output, group)


class _SummedOverRanks(nn.Module):
    """Each rank has some of the columns, and of what they read: the result is the sum."""

    def __init__(self, matrix: nn.Module, group: dist.ProcessGroup) -> None:
        super().__init__()
        self.matrix, self.group = matrix, group

    def forward(self, x: Float[Tensor, "*B part"]) -> Float[Tensor, "*B O"]:
        y = self.matrix(x)
        dist.all_reduce(y, group=self.group)
        return y


class _GatheredOverRanks(nn.Module):
    """Each rank has some of the rows: the result is all of theirs side by side."""

    def __init__(self, matrix: nn.Module, group: dist.ProcessGroup) -> None:
        super().__init__()
        self.matrix, self.group = matrix, group

    def forward(self, x: Float[Tensor, "*B I"]) -> Float[Tensor, "*B V"]:
        y = self.matrix(x).contiguous()
        parts = [torch.empty_like(y) for _ in range(self.group.size())]
        dist.all_gather(parts, y, group=self.group)
        return torch.cat(parts, -1)
