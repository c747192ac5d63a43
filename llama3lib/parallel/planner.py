"""Every layout that fits, ranked by predicted time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import get_args

from llama3lib.model import ModelArgs
from llama3lib.paper.infrastructure import STAGES_PER_RANK, TABLE_4
from llama3lib.parallel.cost import Cost, step_cost
from llama3lib.parallel.hardware import Hardware
from llama3lib.parallel.layout import Layout, Recompute, stage_layers
from llama3lib.parallel.memory import Memory, peak_memory
from llama3lib.utils.require import require, whole


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A layout with what it needs and takes."""

    layout: Layout
    memory: Memory
    """Of the rank that needs most."""
    cost: Cost


@dataclass(frozen=True, kw_only=True)
class Fixed:
    """What the search must not choose; None is free."""

    tp: int | None = None
    cp: int | None = None
    pp: int | None = None
    stages: int | None = None
    sequences: int | None = None
    recompute: Recompute | None = None
    reshard: bool = False

    def __post_init__(self) -> None:
        for name in ("tp", "cp", "pp", "stages", "sequences"):
            if getattr(self, name) is not None:
                whole(name, getattr(self, name))


def search(
    args: ModelArgs,
    *,
    gpus: int,
    sequence: int,
    batch_tokens: int,
    hardware: Hardware,
    fixed: Fixed | None = None,
) -> list[Plan]:
    """All layouts that fit into the GPUs' memory, the fastest first.

    Raises ValueError if the batch is no whole number of sequences, if nothing can be cut in this
    way, or if all that can does not fit, with what comes nearest.
    """
    fitting, cut, least = [], 0, None
    for layout in layouts(args, gpus, sequence, batch_tokens, fixed or Fixed()):
        cut += 1
        memory = peak_memory(args, layout, sequence)
        if memory.total <= hardware.room:
            cost = step_cost(args, layout, sequence, hardware)
            fitting.append(Plan(layout=layout, memory=memory, cost=cost))
        elif least is None or memory.total < least[0]:
            least = memory.total, layout
    require(cut, "gpus", gpus, "a number that TP, CP, PP and DP can share with this batch")
    if not fitting:
        need, layout = least
        raise ValueError(
            f"none of {cut:,} layouts fits into {hardware.room / 1e9:.1f} GB; the least is "
            f"{need / 1e9:.1f} GB with TP {layout.tp}, CP {layout.cp}, PP {layout.pp}, "
            f"DP {layout.dp}, recompute {layout.recompute}: more GPUs, or smaller sequences"
        )
    # of equals the one that computes less again, then the one that leaves more memory
    order = get_args(Recompute)
    return sorted(
        fitting,
        key=lambda p: (p.cost.seconds, order.index(p.layout.recompute), p.memory.total),
    )


def predict(args: ModelArgs, layout: Layout, sequence: int, hardware: Hardware) -> Plan:
    """Memory and time of one layout, whether it fits or not.

    Raises ValueError if model or sequence cannot be cut in this way.
    """
    layout.check(args, sequence)
    return Plan(
        layout=layout,
        memory=peak_memory(args, layout, sequence),
        cost=step_cost(args, layout, sequence, hardware),
    )


def layouts(
    args: ModelArgs, gpus: int, sequence: int, batch_tokens: int, fixed: Fixed
) -> Iterator[Layout]:
    """Every way to cut model, sequence and batch evenly over the GPUs.

    Raises ValueError if the batch is no whole number of sequences.
    """
    for name, value in (("gpus", gpus), ("sequence", sequence), ("batch_tokens", batch_tokens)):
        whole(name, value)
    near = max(1, round(batch_tokens / sequence)) * sequence
    even = batch_tokens % sequence == 0
    require(even, "batch_tokens", batch_tokens, f"a multiple of sequence={sequence}, as {near}")
    batch, heads = batch_tokens // sequence, args.n_kv_heads
    for tp in _choices(fixed.tp, (n for n in divisors(heads) if gpus % n == 0)):
        for cp in _choices(fixed.cp, divisors(gpus // tp)):
            for pp in _choices(fixed.pp, divisors(gpus // tp // cp)):
                dp = gpus // (tp * cp * pp)
                if dp * tp * cp * pp != gpus or batch % dp:
                    continue
                yield from _schedules(
                    args, sequence, batch // dp, fixed, dict(tp=tp, cp=cp, pp=pp, dp=dp)
                )


def _schedules(
    args: ModelArgs, sequence: int, batch: int, fixed: Fixed, dims: dict[str, int]
) -> Iterator[Layout]:
    """Stages, micro-batches and recomputation of one replica, which sees `batch` sequences."""
    stages = _choices(fixed.stages, _stages(args.n_layers, dims["pp"]))
    sizes = _choices(fixed.sequences, divisors(batch))
    kinds = _choices(fixed.recompute, get_args(Recompute))
    for v, size, recompute in product(stages, sizes, kinds):
        if batch % size:
            continue
        if v > 1 and batch // size < dims["pp"]:
            continue
        layout = Layout(
            **dims,
            stages=v,
            sequences=size,
            micro_batches=batch // size,
            recompute=recompute,
            reshard=fixed.reshard,
        )
        try:
            layout.check(args, sequence)
        except ValueError:
            continue
        yield layout


def _choices(fixed: object, free: Sequence | Iterator) -> list:
    return list(free) if fixed is None else [fixed]


def _stages(n_layers: int, pp: int) -> list[int]:
    """V that cut the layers evenly, or with one fewer at both ends."""
    possible = []
    for v in range(1, (n_layers + 2) // pp + 1 if pp > 1 else 2):
        try:
            stage_layers(n_layers, pp, v)
        except ValueError:
            continue
        possible.append(v)
    return possible


def divisors(number: int) -> list[int]:
    """All of them, from 1 upwards."""
    small = [n for n in range(1, int(number**0.5) + 1) if number % n == 0]
    return small + [number // n for n in reversed(small) if n * n != number]


def table_4_layout(row: str) -> tuple[Layout, int]:
    """Layout and sequence of a row of Table 4, with micro-batches of one sequence.

    Recomputation in the 8K rows is the paper's to the extent that no product is done twice; in
    the 128K row, and that kernels keep only results of products, it is ours.
    """
    facts = TABLE_4.row(row)
    layout = Layout(
        **{name.lower(): facts[name] for name in ("TP", "CP", "PP", "DP")},
        stages=STAGES_PER_RANK.value,
        micro_batches=facts["batch/DP"],
        recompute="selective",
    )
    return layout, facts["sequence"]
