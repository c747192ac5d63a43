"""Answers to the exercises of chapter 04: right ones in two ways, and wrong ones in a learner's."""

import math


# 04.1
def row_in_lines(row):
    wrong = []
    if math.prod(row[name] for name in ("TP", "CP", "PP", "DP")) != row["GPUs"]:
        wrong += ["GPUs"]
    tokens = row["DP"] * row["batch/DP"] * row["sequence"]
    if not 0.9 <= tokens / row["tokens/batch"] <= 1.1:
        wrong += ["tokens"]
    return wrong


def row_by_division(row):
    left = row["GPUs"]
    for name in ("DP", "PP", "CP", "TP"):
        left = left / row[name]
    sequences = row["tokens/batch"] / row["sequence"]
    off = abs(row["DP"] * row["batch/DP"] / sequences - 1) > 0.1
    return [name for name, bad in (("GPUs", left != 1), ("tokens", off)) if bad]


def _three_dimensions(row):
    found = row_in_lines(row | {"CP": 1})
    return found


def _each_gpu_reads(row):
    return [
        *(["GPUs"] if math.prod(row[n] for n in ("TP", "CP", "PP", "DP")) != row["GPUs"] else []),
        *(["tokens"] if not 0.9 <= row["GPUs"] * row["batch/DP"] * row["sequence"]
          / row["tokens/batch"] <= 1.1 else []),
    ]  # fmt: skip


def _exactly(row):
    found = row_in_lines(row)
    exact = row["DP"] * row["batch/DP"] * row["sequence"] == row["tokens/batch"]
    return [n for n in found if n != "tokens"] + ([] if exact else ["tokens"])


RIGHT = {"04.1": [row_in_lines, row_by_division]}
WRONG = {
    "04.1": {
        "CP is forgotten": _three_dimensions,
        "every GPU reads sequences of its own": _each_gpu_reads,
        "16M is taken to the last token": _exactly,
    }
}
