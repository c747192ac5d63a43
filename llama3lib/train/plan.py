"""What a run will cost, told before it begins: steps, tokens, time, memory, first loss."""

import math
import os
import time
from dataclasses import dataclass, replace

import numpy as np
import torch

from llama3lib.data.loader import Batch
from llama3lib.model import Transformer
from llama3lib.model.flops import (
    MemoryEstimate,
    count_parameters,
    flops_per_token,
    training_memory,
)
from llama3lib.parallel import ParallelModel, parallelize
from llama3lib.train.config import Phase, TrainConfig
from llama3lib.train.mesh import MeshConfig, plan_of, precision_of
from llama3lib.train.metrics import H100_PEAK
from llama3lib.train.optim import make_adamw
from llama3lib.train.step import train_step
from llama3lib.utils.device import pick_device

PAPER_MFU = 0.40
"""Share of the peak that the 405B reached (Table 4 prints 38 to 43 %)."""


@dataclass(frozen=True)
class Plan:
    """The cost of a run."""

    parameters: int
    steps: int
    tokens: int
    flops: float
    memory: MemoryEstimate
    """Bytes on one device, without sharding."""
    first_loss: float
    """Nats a token of a model that knows nothing: ln of the vocabulary."""
    seconds: float
    measured: bool
    """True: from steps measured here; False: H100s at the paper's share of their peak."""
    device: str

    def lines(self) -> list[str]:
        """For people."""
        how = "from steps measured here" if self.measured else f"at {PAPER_MFU:.0%} of their peak"
        gigabytes = self.memory.total / 1e9
        return [
            f"parameters  {self.parameters:,}",
            f"steps       {self.steps:,}",
            f"tokens      {self.tokens:,}",
            f"compute     {self.flops:.3g} FLOP",
            f"memory      {gigabytes:.2f} GB ({self.memory.activations / 1e9:.2f} of activations)",
            f"time        {spoken(self.seconds)} on {self.device} ({how})",
            f"first loss  {self.first_loss:.2f} nats a token",
        ]


def make_plan(config: TrainConfig, *, measure: bool = True) -> Plan:
    """Predict a run; `measure` takes a few steps on the device where the model fits there.

    A recipe that names a number of GPUs is reckoned for so many H100s if they are not here.
    """
    args = config.model
    flops = sum(p.tokens * flops_per_token(args, p.length).training for p in config.phases)
    memory, room = memory_of(config), room_here()
    fits = room is None or memory.total <= room
    here = measure and has_hardware(config) and fits
    device = pick_device(config.device) if here else None
    if device is not None:
        ranks = config.mesh.dims.world
        seconds = _measured_seconds(config, device)
        name = str(device) if ranks == 1 else f"{device}, one of {ranks} ranks alone"
    else:
        gpus = max(1, config.gpus)
        seconds, name = flops / (gpus * H100_PEAK * PAPER_MFU), f"{gpus} x H100"
    return Plan(
        parameters=count_parameters(args).total,
        steps=config.total_steps,
        tokens=config.total_tokens,
        flops=flops,
        memory=memory,
        first_loss=math.log(args.vocab_size),
        seconds=seconds,
        measured=device is not None,
        device=name,
    )


def has_hardware(config: TrainConfig) -> bool:
    """Whether this machine has the GPUs that the recipe is made for."""
    gpus = min(config.gpus, int(os.environ.get("LOCAL_WORLD_SIZE", config.gpus)))
    needed = max(gpus, int(config.device.startswith("cuda")))
    return needed <= (torch.cuda.device_count() if torch.cuda.is_available() else 0)


def room_here() -> int | None:
    """Bytes of memory of the device; None where it cannot be told."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_properties(0).total_memory
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return None


def check_hardware(config: TrainConfig, plan: Plan) -> None:
    """Raises ValueError if this machine cannot run the recipe, with what would help."""
    if not has_hardware(config):
        here = torch.cuda.device_count() if torch.cuda.is_available() else 0
        raise ValueError(
            f"gpus={config.gpus} is what this recipe needs, here are {here}; "
            "--dry-run shows its plan, --set gpus=0 runs it on what is here"
        )
    ranks = config.mesh.dims.world
    if config.gpus > 1 and config.gpus != ranks:
        mesh = (
            f"a mesh of so many ranks, such as --mesh dp={config.gpus}; {config.mesh} has {ranks}"
        )
        raise ValueError(f"gpus={config.gpus} needs {mesh}")
    room, needed = room_here(), plan.memory.total
    if torch.cuda.is_available():  # on the CPU all ranks share what there is
        needed /= ranks
    if room is not None and needed > room:
        raise ValueError(
            f"the run needs {needed / 1e9:.1f} GB, here are {room / 1e9:.1f}: "
            "set micro_batch lower or checkpointing = true"
        )


def memory_of(config: TrainConfig) -> MemoryEstimate:
    """Most bytes of any phase, on one device."""
    mixed = config.precision == "bfloat16" or (config.precision == "auto" and config.gpus > 0)
    needs = []
    for phase in config.phases:
        rows = min(config.micro_batch or phase.batch_size, phase.batch_size)
        need = training_memory(
            config.model,
            seq_len=phase.length,
            batch_size=rows,
            mixed_precision=mixed,
            checkpointing=config.checkpointing,
        )
        mask = rows * phase.length**2 * _mask_bytes(config, mixed)
        needs.append(replace(need, activations=need.activations + mask))
    return max(needs, key=lambda need: need.total)


def _mask_bytes(config: TrainConfig, mixed: bool) -> int:
    """Bytes for each pair of tokens in a row: of no weight at short lengths, of most at long ones.

    One each for the mask and its two parts while it is made; and PyTorch keeps it for the backward
    pass of every block, as numbers.
    """
    if not config.document_mask:
        return 0
    blocks = 1 if config.checkpointing else config.model.n_layers
    return 3 + blocks * (2 if mixed else 4)


def _measured_seconds(config: TrainConfig, device: torch.device) -> float:
    """Time of a few steps of each kind of phase, times their number."""
    longest = max(phase.length for phase in config.phases)
    args = config.model.replace(max_seq_len=max(longest, config.model.max_seq_len))
    model = Transformer(args)
    model.init_weights(torch.Generator().manual_seed(0))
    model.to(device)
    alone = replace(config, mesh=MeshConfig(), compile=False)
    parallel = parallelize(model, plan=plan_of(alone, precision_of(config, device)))
    optimizer = make_adamw(parallel, 0.0)
    times: dict[tuple[int, int], float] = {}
    for phase in config.phases:
        shape = (phase.batch_size, phase.length)
        if shape not in times:
            times[shape] = _step_seconds(parallel, optimizer, phase, config.micro_batch)
    return sum(p.steps * times[p.batch_size, p.length] for p in config.phases)


def _step_seconds(
    model: ParallelModel,
    optimizer: torch.optim.Optimizer,
    phase: Phase,
    micro_batch: int | None,
) -> float:
    """The middle one of three steps on random tokens in documents of a third of the length."""
    rng = np.random.default_rng(0)
    shape = (phase.batch_size, phase.length + 1)
    tokens = torch.from_numpy(rng.integers(0, model.parts[0].args.vocab_size, shape))
    owners = torch.arange(shape[1]).mul(3).div(shape[1], rounding_mode="floor").expand(shape)
    batch = Batch(tokens, owners, ("random",) * shape[0])
    times = []
    for _ in range(4):
        begun = time.perf_counter()
        train_step(model, optimizer, batch, micro_batch=micro_batch)
        times.append(time.perf_counter() - begun)
    return sorted(times[1:])[1]  # the first one also makes the moments


def spoken(seconds: float) -> str:
    """Seconds in the unit that a person would choose."""
    for size, unit in ((86_400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds" if seconds >= 1 else f"{seconds:.1g} seconds"
