"""Every layout that fits, ranked by predicted time."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import get_args

from llama3lib.model import ModelArgs
from llama3lib.paper.infrastructure import STAGES_PER_RANK, TABLE_4
from llama3lib.parallel.cost import Cost, step_cost
from llama3lib.parallel.hardware import Hardware
from llama3lib.parallel.layout import Layout, Recompute, stage_choices
from llama3lib.parallel.memory import Memory, peak_memory
from llama3lib.utils.require import require, whole


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A layout with what it needs and takes."""

    layout: Layout
    memory: Memory
    """Of the rank that needs most."""
    cost: Cost


def search(
    args: ModelArgs,
    *,
    gpus: int,
    sequence: int,
    batch_tokens: int,
    hardware: Hardware,
    fixed: Mapping[str, object] | None = None,
) -> list[Plan]:
    """All layouts that fit into the GPUs' memory, the fastest first.

    fixed: fields of `Layout` that the search must not choose, such as tp=8.
    Raises ValueError if the batch is no whole number of sequences, if nothing can be cut in this
    way, or if all that can does not fit, with what comes nearest.
    """
    fitting, cut, least = [], 0, None
    for layout in layouts(args, gpus, sequence, batch_tokens, fixed or {}):
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
    args: ModelArgs, gpus: int, sequence: int, batch_tokens: int, fixed: Mapping[str, object]
) -> Iterator[Layout]:
    """Every way to cut model, sequence and batch evenly over the GPUs.

    Raises ValueError if the batch is no whole number of sequences.
    """
    given = {"gpus": gpus, "sequence": sequence, "batch_tokens": batch_tokens}
    for name, value in (given | dict(fixed)).items():
        if value is not None and name not in ("recompute", "reshard"):
            whole(name, value)
    near = max(1, round(batch_tokens / sequence)) * sequence
    even = batch_tokens % sequence == 0
    require(even, "batch_tokens", batch_tokens, f"a multiple of sequence={sequence}, as {near}")
    batch = batch_tokens // sequence

    def choices(name: str, free: Iterable) -> list:
        return list(free) if fixed.get(name) is None else [fixed[name]]

    sizes = [choices(name, divisors(gpus)) for name in ("cp", "pp")]
    for tp, cp, pp in product(choices("tp", divisors(args.n_kv_heads)), *sizes):
        dp, rest = divmod(gpus, tp * cp * pp)
        if rest or dp == 0 or batch % dp:
            continue
        for v, size, recompute in product(
            choices("stages", stage_choices(args.n_layers, pp)),
            choices("sequences", divisors(batch // dp)),
            choices("recompute", get_args(Recompute)),
        ):
            m, rest = divmod(batch // dp, size)
            if rest or (v > 1 and m < pp):
                continue
            layout = Layout(
                **dict(tp=tp, cp=cp, pp=pp, dp=dp, stages=v, micro_batches=m, sequences=size),
                **dict(recompute=recompute, reshard=bool(fixed.get("reshard"))),
            )
            try:
                layout.check(args, sequence)
            except ValueError:
                continue
            yield layout


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
