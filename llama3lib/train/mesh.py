"""The ranks of a run: the mesh that a recipe asks for, and one whole model out of their shares."""

import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor

from llama3lib.checkpoint.ranks import Ranks
from llama3lib.model import Transformer
from llama3lib.parallel import ParallelDims, ParallelModel, ParallelPlan
from llama3lib.parallel.layout import stage_layers
from llama3lib.utils.device import pick_device, pick_dtype
from llama3lib.utils.require import positive, require, whole
from llama3lib.utils.settings import refuse_unknown

if TYPE_CHECKING:
    from llama3lib.train.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class MeshConfig:
    """How many ranks share each kind of work (section 3.3.2); one rank by default.

    Neither the batches nor their order depend on it, so a run may go on on another mesh.
    """

    tp: int = 1
    """Ranks that share each matrix."""
    cp: int = 1
    """Ranks that share each sequence."""
    pp: int = 1
    """Ranks that share the layers."""
    dp: int = 1
    """Ranks that share the batch, and weights, gradients and moments with it (FSDP)."""
    dp_replicate: int = 1
    """Whole copies of all that, which share the batch."""
    virtual: int = 1
    """Pipeline stages on each rank."""
    run: int | None = None
    """Micro-batches in a row on one stage."""
    schedule: Literal["1f1b", "gpipe"] = "1f1b"
    context: Literal["all-gather", "ring"] = "all-gather"
    timeout: float = 600.0
    """Seconds after which a rank that gives no answer is given up."""

    def __post_init__(self) -> None:
        for name in ("tp", "cp", "pp", "dp", "dp_replicate", "virtual"):
            whole(name, getattr(self, name))
        positive("timeout", self.timeout)

    @property
    def dims(self) -> ParallelDims:
        """The same in the words of `llama3lib.parallel`."""
        sizes = {name: getattr(self, name) for name in ("tp", "cp", "pp", "dp_replicate")}
        return ParallelDims(dp_shard=self.dp, **sizes)

    def __str__(self) -> str:
        """As `--mesh` takes it; settings that are as always are left out."""
        changed = [f for f in fields(self) if getattr(self, f.name) != f.default]
        return ",".join(f"{f.name}={getattr(self, f.name)}" for f in changed) or "dp=1"


def mesh_changes(text: str) -> list[str]:
    """`dp=2,tp=2` as changes of a recipe. Raises ValueError for what is no such list."""
    changes = []
    for part in text.split(","):
        name, equals, value = (word.strip() for word in part.partition("="))
        require(bool(name and equals and value), "mesh", text, "a list such as dp=2,tp=2")
        refuse_unknown("mesh", [name], tuple(f.name for f in fields(MeshConfig)))
        require(f"mesh.{name}" not in {c.split("=")[0] for c in changes}, "mesh", text, "each once")
        changes.append(f"mesh.{name}={value}")
    return changes


def check_mesh(config: "TrainConfig") -> None:
    """Raises ValueError if the model or a phase of a recipe cannot be cut as its mesh says."""
    dims, rows = config.mesh.dims, config.micro_batch
    if dims.pp > 1:
        stage_layers(config.model.n_layers, dims.pp, config.mesh.virtual)
    longest = max(config.model.max_seq_len, *(phase.length for phase in config.phases))
    args = config.model.replace(max_seq_len=longest)
    for number, phase in enumerate(config.phases):
        try:
            dims.check(args, sequence=phase.length, batch=phase.batch_size)
            share = phase.batch_size // dims.dp
            fits = dims.pp == 1 or rows is None or share % rows == 0
            require(fits, "micro_batch", rows, f"a divisor of the {share} sequences of each rank")
        except ValueError as error:
            where = f"mesh {config.mesh}, phases.{number} ({phase.name})"
            raise ValueError(f"{where}: {error}") from None


def make_mesh(config: "TrainConfig", device: torch.device) -> DeviceMesh | None:
    """The ranks of this run; None for a single one. Called on all of them.

    Raises ValueError if other than so many ranks run, or the recipe does not divide.
    """
    world, size = config.mesh.dims.world, dist.get_world_size() if dist.is_initialized() else 1
    require(world == size, "mesh", str(config.mesh), f"{world} ranks, but {size} run")
    if world == 1:
        return None
    check_mesh(config)
    return config.mesh.dims.build_mesh(device.type)


def meet(mesh: MeshConfig, device: str) -> int:
    """Find the other ranks that torchrun has started; returns which one this is.

    gloo on the CPU; NCCL on GPUs, of which each rank of a machine takes another.
    Raises ValueError if there are not enough, or the ranks don't find each other in time.
    """
    gpus = pick_device(device).type == "cuda"
    if gpus:
        here, ranks = torch.cuda.device_count(), int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        require(ranks <= here, "mesh", str(mesh), f"{here} ranks a machine, one for each GPU")
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    limit = timedelta(seconds=2 * mesh.timeout)  # `given_up_after` comes first, and says it better
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo", timeout=limit)
    except RuntimeError as error:
        where = ":".join(os.environ.get(f"MASTER_{part}", "?") for part in ("ADDR", "PORT"))
        told = str(error).splitlines()[0][:200]
        raise ValueError(f"the ranks don't find each other at {where}: {told}") from None
    return dist.get_rank()


def precision_of(config: "TrainConfig", device: torch.device) -> torch.dtype:
    """Of the products."""
    return pick_dtype(device) if config.precision == "auto" else getattr(torch, config.precision)


def plan_of(config: "TrainConfig", dtype: torch.dtype) -> ParallelPlan:
    """How a recipe computes."""
    mesh = config.mesh
    return ParallelPlan(
        virtual=mesh.virtual,
        run=mesh.run,
        schedule=mesh.schedule,
        context=mesh.context,
        recompute=config.checkpointing,
        dtype=None if dtype == torch.float32 else dtype,
        compile=config.compile,
    )


@torch.no_grad()
def whole_model(
    model: ParallelModel,
    ranks: Ranks,
    adapt: Callable[[Transformer], Transformer] = lambda model: model,
) -> Transformer | None:
    """The model with all its weights, on rank 0; None on the others. Called on all ranks.

    Without a mesh it is the model itself, else a copy on the device. adapt: `Objective.adapt`.
    """
    if model.mesh is None:
        return model.parts[0]
    place = model.dims.coordinates(ranks.rank)
    wanted = all(at == 0 for name, at in place.items() if name != "pp")  # one of each stage
    state = {}
    for name, parameter in model.named_parameters():
        value = parameter.full_tensor() if isinstance(parameter, DTensor) else parameter
        if wanted:
            state[name] = value.detach().to("cpu", copy=True)
    if model.dims.pp > 1:
        state = {name: t for stage in ranks.gather(state) for name, t in stage.items()}
    if ranks.rank > 0:
        return None
    args = model.parts[0].args
    if args.tie_embeddings:
        state["output.weight"] = state["tok_embeddings.weight"]
    with torch.device("meta"):
        copy = adapt(Transformer(args))
    copy.load_state_dict(state, assign=True)
    return copy.to(model.device)
