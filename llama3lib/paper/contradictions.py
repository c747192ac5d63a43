"""Places where the paper does not agree with itself, each with the sum that shows it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llama3lib.paper import architecture, herd, infrastructure, results, scaling, training


@dataclass(frozen=True)
class Contradiction:
    """What is printed, what the sum gives, and the sum itself to be done again."""

    where: str
    printed: Any
    computed: Any
    explanation: str
    redo: Callable[[], Any]

    def check(self) -> bool:
        """Do the sum again: True if it gives `computed`, and that is not what is printed."""
        return self.redo() == self.computed != self.printed


def _table_5(row: str) -> int:
    return infrastructure.TABLE_5.cell(row, "count")


def _gpu_share() -> float:
    rows = [infrastructure.TABLE_5.row(name) for name in infrastructure.TABLE_5.rows]
    counts = sum(row["count"] for row in rows if row["category"] == "GPU")
    return round(counts / infrastructure.UNEXPECTED.value, 3)


def _hardware_share_by_column() -> float:
    column = infrastructure.TABLE_5.column("printed %")
    soft = ("Software bug", "Network switch/cable", "Dependency")
    return round(sum(column[row] for row in column if row not in soft) / 100, 3)


def _early_gpus() -> int:
    row = infrastructure.TABLE_4.row("128K sequences")
    return row["TP"] * row["CP"] * row["PP"] * infrastructure.TABLE_4_ROW_3_DP_EARLY.value


def _early_tokens() -> int:
    row = infrastructure.TABLE_4.row("128K sequences")
    return infrastructure.TABLE_4_ROW_3_DP_EARLY.value * row["batch/DP"] * row["sequence"]


def _mfu() -> float:
    row = infrastructure.TABLE_4.row("8K sequences, 16,384 GPUs")
    return round(row["TFLOPs/GPU"] / infrastructure.BF16_PEAK.value, 3)


def _law_tokens() -> float:
    pair = scaling.EXPONENT.value, scaling.COEFFICIENT.value
    return round(scaling.optimal_tokens(herd.FLOPS.value, *pair) / 1e12, 2)


def _steps() -> int:
    first, second = training.BATCH_CHANGES.value
    small, middle, large = training.BATCH_TOKENS.value
    rest = herd.TOKENS.value - second
    return math.ceil(first / small + (second - first) / middle + rest / large)


def _card_and_paper(row: str) -> float:
    return results.CARD_BASE.cell(row, "Llama 3 405B")


def _api_bank_gap() -> float:
    row = results.API_BANK_TABLE_22.row("API-Bank")
    return round(row["Claude 3.5 Sonnet"] - row["Llama 3 405B"], 1)


_INFRASTRUCTURE = (
    Contradiction(
        "§3.3.4, Table 5",
        infrastructure.TABLE_5.cell("Faulty GPU", "printed %"),
        35.3,
        "148 faulty GPUs of 419 interruptions, in per cent",
        lambda: round(100 * _table_5("Faulty GPU") / infrastructure.UNEXPECTED.value, 1),
    ),
    Contradiction(
        "§3.3.4, Table 5",
        100.0,
        94.9,
        "the printed shares do not sum to 100",
        lambda: round(sum(infrastructure.TABLE_5.column("printed %").values()), 1),
    ),
    Contradiction(
        "§3.3.4",
        infrastructure.GPU_SHARE_PRINTED.value,
        0.640,
        "the share of GPU issues by the counts; the text sums the printed column",
        _gpu_share,
    ),
    Contradiction(
        "§3.3.4",
        infrastructure.HARDWARE_SHARE.value,
        0.731,
        "the share of hardware by the printed column; here the text uses the counts",
        _hardware_share_by_column,
    ),
    Contradiction(
        "§3.3.2, Table 4",
        infrastructure.GPUS.value,
        8192,
        "TP·CP·PP·DP with the DP of the first version; version 3 prints 8",
        _early_gpus,
    ),
    Contradiction(
        "§3.3.2, Table 4",
        infrastructure.TABLE_4.cell("128K sequences", "tokens/batch"),
        8_388_608,
        "tokens in a batch with the DP of the first version",
        _early_tokens,
    ),
    Contradiction(
        "§3.3.2, Table 4",
        infrastructure.TABLE_4.cell("8K sequences, 16,384 GPUs", "MFU"),
        0.404,
        "400 of 989.4 TFLOPs; 400 is itself rounded",
        _mfu,
    ),
)
_SCALING = (
    Contradiction(
        "§3.2.1",
        scaling.OPTIMAL_TOKENS.value / 1e12,
        10.46,
        "trillions of tokens from the pair in the text (0.53, 0.29) at 3.8e25 FLOPs",
        _law_tokens,
    ),
    Contradiction(
        "§3.2.1",
        (scaling.EXPONENT.value, scaling.COEFFICIENT.value),
        (0.54, 0.30),
        "the pair of Figure 3 rounded to two digits; the text cuts them off",
        lambda: (
            round(scaling.EXPONENT_FIGURE.value, 2),
            round(scaling.COEFFICIENT_FIGURE.value, 2),
        ),
    ),
    Contradiction(
        "§3.2.1",
        herd.FLOPS.value,
        3.99e25,
        "6 · 402B · 16.55T, 5 % above the budget it is said to be optimal for",
        lambda: float(f"{6 * scaling.OPTIMAL_PARAMETERS.value * scaling.OPTIMAL_TOKENS.value:.3g}"),
    ),
    Contradiction(
        "§3.2.1",
        f"{scaling.ORDERS_PRINTED.value} orders of magnitude",
        3.58,
        "orders from the largest run of the law to the flagship",
        lambda: round(math.log10(herd.FLOPS.value / max(scaling.BUDGETS.value)), 2),
    ),
)
_TRAINING = (
    Contradiction(
        "§3.4.1",
        training.WARM_UP.value,
        63,
        "steps before the batch grows: far inside the 8,000 steps of warm-up",
        lambda: training.BATCH_CHANGES.value[0] / training.BATCH_TOKENS.value[0],
    ),
    Contradiction(
        "§3.4.1",
        training.DECAY_STEPS.value,
        1_154_407,
        "steps that 15.6T tokens last with the printed batches",
        _steps,
    ),
    Contradiction(
        "§3.4.3",
        "average of checkpoints",
        2.5,
        "steps of annealing over which checkpoints are averaged",
        lambda: training.ANNEALING_TOKENS.value / training.BATCH_TOKENS.value[2],
    ),
    Contradiction(
        "§3.2, Table 3",
        architecture.VOCABULARY_PRINTED.value,
        128_256,
        "entries of the released vocabulary: 256 special tokens are added",
        lambda: architecture.RANKS.value + architecture.SPECIAL_TOKENS.value,
    ),
)
_RESULTS = (
    Contradiction(
        "§5.1.1, Table 9",
        results.BASE_MODELS.cell("SQuAD", "Llama 3 405B"),
        89.3,
        "SQuAD of the 405B in the model card; the paper repeats the 70B's value",
        lambda: _card_and_paper("SQuAD"),
    ),
    Contradiction(
        "§5.1.1, Table 11",
        results.BASE_MODELS.cell("Winogrande", "Llama 3 405B"),
        86.7,
        "Winogrande of the 405B in the model card",
        lambda: _card_and_paper("Winogrande"),
    ),
    Contradiction(
        "§1, Table 2; §5.2.6, Table 21",
        results.TABLE_2.cell("InfiniteBench/En.MC", "GPT-4 (0125)"),
        72.0,
        "En.MC of GPT-4 in Table 21; Table 2 prints another value",
        lambda: results.EN_MC_GPT_4_TABLE_21.value,
    ),
    Contradiction(
        "§5.2.7, Table 22",
        results.API_BANK_GAP_PRINTED.value,
        0.3,
        "points between Claude and the 405B on API-Bank by the table",
        _api_bank_gap,
    ),
    Contradiction(
        "§5.4.2, Table 24",
        results.MEMORISED_PRINTED.value,
        (1.03, 3.91),
        "both rates over all languages; the text pairs an English one with one of all languages",
        lambda: tuple(results.MEMORISED_TABLE_24.rows["all languages"]),
    ),
    Contradiction(
        "§5.1.4, Table 15",
        "high contamination of SQuAD and MATH",
        (0, 1),
        "per cent in the table",
        lambda: tuple(results.CONTAMINATION_TABLE_15.column("contaminated").values()),
    ),
    Contradiction(
        "§7.2",
        "7B",
        "8B",
        "the smallest model of Table 3; the section on vision writes 7B",
        lambda: architecture.TABLE_3.columns[0],
    ),
    Contradiction(
        "§7.7, Table 30",
        3,
        4,
        "video benchmarks in the table; the text announces three",
        lambda: len(results.VIDEO_BENCHMARKS_TABLE_30.value),
    ),
)
ALL = _INFRASTRUCTURE + _SCALING + _TRAINING + _RESULTS
