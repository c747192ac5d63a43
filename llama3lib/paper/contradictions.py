"""Places where the paper does not agree with itself, each with the sum that shows it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llama3lib.paper import architecture, herd, infrastructure, scaling, training


@dataclass(frozen=True)
class Contradiction:
    """What is printed, what the sum gives, and the sum itself."""

    where: str
    printed: Any
    computed: Callable[[], Any]
    explanation: str

    def holds(self) -> bool:
        """True if the sum really differs from what is printed."""
        return self.computed() != self.printed


def _faulty_gpu_share() -> float:
    return round(100 * infrastructure.TABLE_5.cell("Faulty GPU", "count") / 419, 1)


def _printed_sum() -> float:
    return round(sum(infrastructure.TABLE_5.column("printed %").values()), 1)


def _gpu_share() -> float:
    rows = [infrastructure.TABLE_5.row(name) for name in infrastructure.TABLE_5.rows]
    counts = sum(row["count"] for row in rows if row["category"] == "GPU")
    return round(counts / infrastructure.UNEXPECTED.value, 3)


def _early_gpus() -> int:
    row = infrastructure.TABLE_4.row("128K sequences")
    return row["TP"] * row["CP"] * row["PP"] * infrastructure.TABLE_4_ROW_3_DP_EARLY.value


def _law_tokens() -> float:
    law = scaling.COEFFICIENT.value * herd.FLOPS.value**scaling.EXPONENT.value
    return round(law / 1e12, 2)


def _mfu() -> float:
    row = infrastructure.TABLE_4.row("8K sequences, 16,384 GPUs")
    return round(row["TFLOPs/GPU"] / infrastructure.BF16_PEAK.value, 3)


ALL = (
    Contradiction(
        "§3.3.4, Table 5",
        30.1,
        _faulty_gpu_share,
        "148 faulty GPUs of 419 interruptions, in per cent",
    ),
    Contradiction("§3.3.4, Table 5", 100.0, _printed_sum, "the printed shares do not sum to 100"),
    Contradiction(
        "§3.3.4",
        infrastructure.GPU_SHARE_PRINTED.value,
        _gpu_share,
        "the share of GPU issues by the counts; the text sums the printed column",
    ),
    Contradiction(
        "§3.3.2, Table 4",
        infrastructure.GPUS.value,
        _early_gpus,
        "TP·CP·PP·DP with the DP of the first version; version 3 prints 8",
    ),
    Contradiction("§3.3.2, Table 4", 0.41, _mfu, "400 of 989.4 TFLOPs; 400 is itself rounded"),
    Contradiction(
        "§3.2.1",
        scaling.OPTIMAL_TOKENS.value / 1e12,
        _law_tokens,
        "trillions of tokens from the printed pair (0.53, 0.29) at 3.8e25 FLOPs",
    ),
    Contradiction(
        "§3.2.1",
        "over four orders of magnitude",
        lambda: round(math.log10(herd.FLOPS.value / 1e22), 2),
        "orders from the largest run of the law to the flagship",
    ),
    Contradiction(
        "§3.4.1",
        training.WARM_UP.value,
        lambda: training.BATCH_CHANGES.value[0] / training.BATCH_TOKENS.value[0],
        "steps before the batch grows: far inside the 8,000 steps of warm-up",
    ),
    Contradiction(
        "§3.4.3",
        "average of checkpoints",
        lambda: training.ANNEALING_TOKENS.value / training.BATCH_TOKENS.value[2],
        "steps of annealing over which checkpoints are averaged",
    ),
    Contradiction(
        "§3.2, Table 3",
        architecture.VOCABULARY_PRINTED.value,
        lambda: architecture.VOCABULARY.value,
        "entries of the released vocabulary: 256 special tokens are added",
    ),
)
