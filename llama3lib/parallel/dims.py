"""The four dimensions of parallelism and who sits where (§3.3.2, Figure 5)."""

import math
from dataclasses import dataclass
from itertools import product

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from llama3lib.model import ModelArgs, Transformer
from llama3lib.parallel.layout import check_cut
from llama3lib.utils.require import require, require_all, whole

ORDER = ("tp", "cp", "pp", "dp_shard", "dp_replicate")
"""Innermost first: neighbours in TP talk most and sit closest, those in DP can wait longest."""


@dataclass(frozen=True, kw_only=True)
class ParallelDims:
    """How many ranks share each kind of work; their product is the number of ranks.

    tp cuts matrices, cp the sequence, pp the layers. dp_shard (FSDP) cuts the batch, and weights,
    gradients and optimizer state with it; dp_replicate cuts the batch between whole copies of
    that (HSDP).

    Raises ValueError naming the field, its value and what is allowed.
    """

    tp: int = 1
    cp: int = 1
    pp: int = 1
    dp_shard: int = 1
    dp_replicate: int = 1

    def __post_init__(self) -> None:
        for field in ORDER:
            whole(field, getattr(self, field))

    @property
    def dp(self) -> int:
        """Ranks, or groups of ranks, that see different sequences."""
        return self.dp_shard * self.dp_replicate

    @property
    def world(self) -> int:
        """All ranks."""
        return math.prod(getattr(self, field) for field in ORDER)

    def coordinates(self, rank: int) -> dict[str, int]:
        """Where a rank sits in each dimension.

        >>> ParallelDims(tp=2, cp=2, pp=2, dp_shard=2).coordinates(5)
        {'tp': 1, 'cp': 0, 'pp': 1, 'dp_shard': 0, 'dp_replicate': 0}
        """
        require(0 <= rank < self.world, "rank", rank, f"0 to {self.world - 1}")
        places = {}
        for field in ORDER:
            rank, places[field] = divmod(rank, getattr(self, field))
        return places

    def group(self, rank: int, *fields: str) -> list[int]:
        """The ranks that differ from `rank` in these dimensions only, itself among them.

        >>> ParallelDims(tp=2, cp=2, pp=2, dp_shard=2).group(0, "pp")
        [0, 4]
        """
        here = self.coordinates(rank)
        ranges = [range(getattr(self, f)) if f in fields else [here[f]] for f in ORDER]
        steps = [math.prod(getattr(self, f) for f in ORDER[:i]) for i in range(len(ORDER))]
        return sorted(
            sum(place * step for place, step in zip(places, steps, strict=True))
            for places in product(*ranges)
        )

    def check(
        self,
        args: ModelArgs,
        *,
        sequence: int | None = None,
        batch: int | None = None,
    ) -> None:
        """Whether a model, a sequence length and a global batch divide; ValueError if not."""
        check_cut(args, tp=self.tp, cp=self.cp, sequence=sequence)
        tied = args.tie_embeddings and self.pp > 1
        require(not tied, "pp", self.pp, "1 where tie_embeddings=True: one matrix, two stages")
        if sequence is not None:
            longest = args.max_seq_len
            require(sequence <= longest, "sequence", sequence, f"max_seq_len={longest} at most")
        if batch is not None:
            fits = batch % self.dp == 0 and batch > 0
            require(fits, "batch", batch, f"a multiple of dp={self.dp}")

    def check_world(self) -> None:
        """Whether as many ranks run as are needed; ValueError if not."""
        size = dist.get_world_size() if dist.is_initialized() else 1
        sizes = {field: getattr(self, field) for field in ORDER}
        allowed = f"their product {self.world} must be the number of ranks, {size}"
        require_all(self.world == size, allowed, **sizes)

    def build_mesh(self, device_type: str = "cpu") -> DeviceMesh:
        """The ranks as a mesh, outermost dimension first; its process groups are made here.

        Called on all ranks at the same time.
        """
        self.check_world()
        names = ORDER[::-1]
        sizes = tuple(getattr(self, field) for field in names)
        return init_device_mesh(device_type, sizes, mesh_dim_names=names)


def dims_of(mesh: DeviceMesh | None) -> ParallelDims:
    """The dimensions that a mesh was built for; None is one rank."""
    sizes = {} if mesh is None else {name: mesh[name].size() for name in ORDER}
    return ParallelDims(**sizes)


def fsdp_mesh(mesh: DeviceMesh) -> DeviceMesh:
    """Ranks that share the weights: dp_shard, and cp with it, for its ranks differ in tokens only.

    With dp_replicate it has two dimensions, as HSDP needs. Called on all ranks.
    """
    sharded = mesh["dp_shard"]
    if mesh["cp"].size() > 1:
        sharded = mesh["dp_shard", "cp"]._flatten("fsdp")
    if mesh["dp_replicate"].size() == 1:
        return sharded
    return DeviceMesh._concatenate([mesh["dp_replicate"], sharded])


def device_of(mesh: DeviceMesh | None) -> torch.device:
    """Where this rank computes."""
    kind = "cpu" if mesh is None else mesh.device_type
    return torch.device(kind) if kind == "cpu" else torch.device(kind, torch.cuda.current_device())


def same_on_all_ranks(value: Tensor) -> bool:
    """Whether all ranks have the same numbers; the answer is the same on all of them."""
    both = torch.stack((value, -value)).double()
    dist.all_reduce(both, dist.ReduceOp.MAX)
    return bool((both[0] == -both[1]).all())


@torch.no_grad()
def check_same_weights(model: Transformer, world: int) -> None:
    """Raises ValueError on all ranks if weights were drawn from different seeds: the model would
    be none of them."""
    if world == 1 or next(model.parameters()).is_meta:
        return
    total = sum(p.double().sum() + p.double().square().sum() for p in model.parameters())
    same = same_on_all_ranks(total)
    require(same, "model", "other weights than on another rank", "the same seed on every rank")
