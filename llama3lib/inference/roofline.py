"""What bounds a step of serving: the arithmetic, or the memory that the weights come from.

A step takes at least as long as its FLOPs at the chip's peak, and at least as long as its bytes
at the chip's bandwidth. The larger of the two is the roofline's prediction. Real steps take
longer: this is a bound, to be held against measurements. The method is ours to choose; what the
paper says about the 405B (section 6) is in `llama3lib.paper.inference`.
"""

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F

from llama3lib.model import ModelArgs
from llama3lib.model.flops import TensorShape, count_parameters, kv_cache_bytes, tensor_shapes
from llama3lib.paper.inference import FFN_TIME
from llama3lib.paper.infrastructure import BF16_PEAK, GPU_MEMORY, GPUS_PER_SERVER
from llama3lib.quant.fp8 import quantize_rows, scaled_mm
from llama3lib.utils.device import pick_device, pick_dtype
from llama3lib.utils.require import between, require, whole

_SCALE_BYTES = 4  # each row of an FP8 matrix keeps its scale in float32


def _above_zero(field: str, value: float) -> None:
    require(value > 0, field, value, "above 0")


@dataclass(frozen=True, kw_only=True)
class Chip:
    """The four numbers of a chip that bound a step. Raises ValueError for one that is not above 0.

    fp8_flops: None for a chip without FP8 arithmetic; FP8 products then run at `flops`.
    """

    name: str
    flops: float
    """Operations a second in BF16, or in the format that `source` names."""
    fp8_flops: float | None
    bytes_per_second: float
    """Read from the chip's memory."""
    memory_bytes: float
    source: str

    def __post_init__(self) -> None:
        for field in ("flops", "bytes_per_second", "memory_bytes"):
            _above_zero(field, getattr(self, field))
        if self.fp8_flops is not None:
            _above_zero("fp8_flops", self.fp8_flops)

    @property
    def ridge(self) -> float:
        """FLOPs a byte from which on the arithmetic bounds: 295 for the H100 in BF16."""
        return self.flops / self.bytes_per_second

    @property
    def fp8_rate(self) -> float:
        """FP8 operations a second, or the ordinary rate where there is no FP8 arithmetic."""
        return self.flops if self.fp8_flops is None else self.fp8_flops


H100 = Chip(
    name="H100",
    flops=BF16_PEAK.value * 1e12,
    fp8_flops=1979e12,
    bytes_per_second=3.35e12,
    memory_bytes=GPU_MEMORY.value * 1e9,
    source="data sheet of the H100 SXM, dense BF16 and FP8, HBM3; not the paper",
)


def measure_chip(device: str = "cpu") -> Chip:
    """The chip of this machine, measured in under two seconds with the threads torch has now.

    Arithmetic: the product of two square matrices. Memory: a large matrix times one vector, which
    is what decoding does. Both in `pick_dtype`'s format; the best of several tries.
    Raises ValueError for a device that is not there or does not tell its memory.
    """
    place = pick_device(device)
    dtype, size = pick_dtype(place), 1024 if place.type == "cpu" else 8192
    square = torch.ones(size, size, dtype=dtype, device=place)
    flops = 2 * size**3 / _best_seconds(lambda: square @ square, place)
    fp8_flops = None
    if place.type == "cuda" and torch.cuda.get_device_capability(place) >= (8, 9):
        q, scale = quantize_rows(square)
        seconds = _best_seconds(lambda: scaled_mm(q, scale, q, scale, dtype), place)
        fp8_flops = 2 * size**3 / seconds
    # larger than the caches of any chip: 256 MiB, 1 GiB on a GPU
    rows = 64 * 1024 if place.type == "cpu" else 512 * 1024
    tall, vector = (torch.ones(n, 1024, dtype=dtype, device=place) for n in (rows, 1))
    bandwidth = tall.nbytes / _best_seconds(lambda: F.linear(vector, tall), place)
    threads = f", threads: {torch.get_num_threads()}" if place.type == "cpu" else ""
    return Chip(
        name=f"this {'machine' if place.type == 'cpu' else place.type}",
        flops=flops,
        fp8_flops=fp8_flops,
        bytes_per_second=bandwidth,
        memory_bytes=_memory_of(place),
        source=f"measured here in {str(dtype).removeprefix('torch.')}{threads}",
    )


def _best_seconds(work: Callable[[], object], device: torch.device, budget: float = 0.4) -> float:
    """Shortest time of three calls or more; further ones while the budget lasts."""
    times: list[float] = []
    work()
    begun = time.perf_counter()
    while len(times) < 3 or time.perf_counter() - begun < budget:
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        start = time.perf_counter()
        work()
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        times.append(time.perf_counter() - start)
    return min(times)


def _memory_of(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError) as error:  # Windows
        raise ValueError(
            f"device={str(device)!r} is not allowed: this system does not tell its memory; "
            "make a Chip by hand"
        ) from error


@dataclass(frozen=True, kw_only=True)
class StepCost:
    """What one step computes and moves, over all chips together."""

    flops: int
    """All operations; a multiply-add counts as two."""
    fp8_flops: int
    """Those of them that run in FP8."""
    weight_bytes: int
    """Each weight is read once, however many tokens use it."""
    cache_bytes: int
    """Keys and values: old tokens' are read, new tokens' are written."""

    @property
    def total_bytes(self) -> int:
        return self.weight_bytes + self.cache_bytes

    @property
    def intensity(self) -> float:
        """Arithmetic intensity: FLOPs for each byte moved."""
        return self.flops / self.total_bytes


def step_cost(
    args: ModelArgs,
    *,
    num_tokens: int,
    context_tokens: int,
    num_sequences: int = 1,
    bytes_per_weight: int = 2,
    bytes_per_value: int = 2,
    fp8_ffn: bool = False,
) -> StepCost:
    """Cost of one pass through the model.

    num_tokens: through the model in this step, all sequences together, the same number each.
    context_tokens: of each sequence, when the step ends: those in the cache and the new ones.
    num_sequences: B. Decoding is num_tokens = B; reading B prompts of P tokens is num_tokens =
    B·P, context_tokens = P.
    bytes_per_weight, bytes_per_value: of the weights and of the cache.
    fp8_ffn: the paper's recipe (section 6.2): feed-forward matrices in FP8, except in the first
    and the last layer.

    Scores of the next token are taken for one row a sequence, as the engine does. Activations are
    not counted as traffic: a fused kernel keeps most of them on the chip.
    Raises ValueError for a number below 1, tokens that do not split evenly over the sequences, or
    a context shorter than the new tokens.
    """
    given = {"num_tokens": num_tokens, "context_tokens": context_tokens}
    given |= {"num_sequences": num_sequences, "bytes_per_weight": bytes_per_weight}
    for field, value in (given | {"bytes_per_value": bytes_per_value}).items():
        whole(field, value)
    ok = num_tokens % num_sequences == 0
    require(ok, "num_tokens", num_tokens, f"a multiple of num_sequences={num_sequences}")
    new = num_tokens // num_sequences
    ok = context_tokens >= new
    require(ok, "context_tokens", context_tokens, f"{new} or more, the new tokens of each sequence")
    counts = count_parameters(args)
    matrices = 2 * num_tokens * (counts.attention + counts.feed_forward)
    head = 2 * num_sequences * args.vocab_size * args.dim
    # the i-th new token sees the old ones, those before it and itself; scores and mixing
    pairs = num_sequences * (new * (context_tokens - new) + new * (new + 1) // 2)
    attention = 4 * args.n_layers * args.n_heads * args.head_dim * pairs
    # of the embedding only the rows of the tokens; a tied one is read whole as the output matrix
    weights = weight_bytes(args, bytes_per_weight=bytes_per_weight, fp8_ffn=fp8_ffn)
    if not args.tie_embeddings:
        rows = args.vocab_size - min(num_tokens, args.vocab_size)
        weights -= bytes_per_weight * rows * args.dim
    return StepCost(
        flops=matrices + head + attention,
        fp8_flops=2 * num_tokens * _fp8_parameters(args) if fp8_ffn else 0,
        weight_bytes=weights,
        cache_bytes=kv_cache_bytes(args, num_sequences * context_tokens, bytes_per_value),
    )


def weight_bytes(args: ModelArgs, *, bytes_per_weight: int = 2, fp8_ffn: bool = False) -> int:
    """Bytes of all weights: 811.7 GB for the 405B in BF16, 487 GB with `fp8_ffn`.

    Raises ValueError if bytes_per_weight is below 1.
    """
    whole("bytes_per_weight", bytes_per_weight)
    total = bytes_per_weight * count_parameters(args).total
    if fp8_ffn:
        inner = max(args.n_layers - 2, 0)
        scales = _SCALE_BYTES * inner * sum(one.shape[0] for one in _ffn(args))
        total += scales - (bytes_per_weight - 1) * _fp8_parameters(args)
    return total


def compute_seconds(cost: StepCost, chip: Chip, num_chips: int = 1) -> float:
    """Least time for the arithmetic, spread evenly over the chips."""
    whole("num_chips", num_chips)
    plain = (cost.flops - cost.fp8_flops) / chip.flops
    return (plain + cost.fp8_flops / chip.fp8_rate) / num_chips


def memory_seconds(cost: StepCost, chip: Chip, num_chips: int = 1) -> float:
    """Least time for the bytes, spread evenly over the chips."""
    whole("num_chips", num_chips)
    return cost.total_bytes / chip.bytes_per_second / num_chips


def predict_seconds(cost: StepCost, chip: Chip, num_chips: int = 1) -> float:
    """Least time of a step: the larger of the two. What chips say to each other is left out."""
    return max(compute_seconds(cost, chip, num_chips), memory_seconds(cost, chip, num_chips))


def bound_by(cost: StepCost, chip: Chip) -> Literal["compute", "memory"]:
    """Which of the two is larger."""
    computes = compute_seconds(cost, chip) >= memory_seconds(cost, chip)
    return "compute" if computes else "memory"


def serving_bytes(
    args: ModelArgs,
    *,
    cache_tokens: int = 0,
    bytes_per_weight: int = 2,
    bytes_per_value: int = 2,
    fp8_ffn: bool = False,
) -> int:
    """Bytes of the weights, and of the cache of `cache_tokens` tokens of all texts.

    Raises ValueError for a number of bytes below 1, or cache_tokens below 0.
    """
    whole("cache_tokens", cache_tokens, least=0)
    need = weight_bytes(args, bytes_per_weight=bytes_per_weight, fp8_ffn=fp8_ffn)
    if cache_tokens:
        need += kv_cache_bytes(args, cache_tokens, bytes_per_value)
    return need


def fits(args: ModelArgs, chip: Chip, num_chips: int, **sizes: int) -> bool:
    """Whether that many chips hold the weights and the cache; `sizes` as in `serving_bytes`.

    Nothing is set aside for activations, so a tight fit is none in practice.
    """
    whole("num_chips", num_chips)
    return serving_bytes(args, **sizes) <= num_chips * chip.memory_bytes


def chips_needed(
    args: ModelArgs, chip: Chip, *, per_machine: int = GPUS_PER_SERVER.value, **sizes: int
) -> int:
    """Chips of the smallest set-up that holds all: an even part of one machine, or whole ones.

    16 for the 405B in BF16, which is two machines (section 6.1); 8 with fp8_ffn=True. `sizes` as
    in `serving_bytes`.
    """
    whole("per_machine", per_machine)
    least = max(1, math.ceil(serving_bytes(args, **sizes) / chip.memory_bytes))
    if least > per_machine:
        return per_machine * -(-least // per_machine)
    return next(n for n in range(least, per_machine + 1) if per_machine % n == 0)


def gain_bound(share: float = FFN_TIME.value, speedup: float = 2.0) -> float:
    """How many times faster all gets if a `share` of the time runs `speedup` times faster.

    Amdahl's law. The paper says that the feed-forward layers take half of the compute time
    (section 6.2); FP8 doubles the peak: at most 1.33 on the same machines. The paper's "up to 50%"
    in prefill is against BF16 on two machines (Figure 27); that FP8 also saves the way between
    machines, and so may gain more than this, is our reading.
    Raises ValueError for a share outside 0 to 1 or a speedup that is not above 0.
    """
    between("share", share, 0, 1)
    _above_zero("speedup", speedup)
    return 1 / (1 - share + share / speedup)


def _ffn(args: ModelArgs) -> list[TensorShape]:
    return [one for one in tensor_shapes(args) if "feed_forward" in one.name]


def _fp8_parameters(args: ModelArgs) -> int:
    """Feed-forward weights of all layers but the first and the last."""
    inner = max(args.n_layers - 2, 0)
    return inner * count_parameters(args).feed_forward // args.n_layers
