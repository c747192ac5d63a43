"""Exercise 04.5: does a row of Table 4 agree with itself?"""

from collections.abc import Callable, Mapping

import torch

from llama3lib.paper.infrastructure import TABLE_4, TABLE_4_ROW_3_DP_EARLY
from widgets.core.exercise import Exercise

E = Exercise(
    "04.5",
    "contradictions",
    hints=(
        "Two things can be computed from a row: how many GPUs its four dimensions need, and how "
        "many tokens a step reads. Which of the ranks read sequences of their own?",
        "All four dimensions multiply to the GPUs. Only the DP groups have other sequences, each "
        "'batch/DP' of them, and each sequence has 'sequence' tokens.",
        "Compare row['TP'] * row['CP'] * row['PP'] * row['DP'] with row['GPUs'], and row['DP'] * "
        "row['batch/DP'] * row['sequence'] with row['tokens/batch']; 16M is rounded, so let 10% "
        "pass.",
    ),
)
Row = Mapping[str, int]


def _product(row: Row) -> int:
    return row["TP"] * row["CP"] * row["PP"] * row["DP"]


@E.reference
def contradictions(
    row: Row,
    *,
    gpus: Callable[[Row], int] = _product,
    replicas: Callable[[Row], int] = lambda row: row["DP"],
    sequences: Callable[[Row], int] = lambda row: row["batch/DP"],
    length: Callable[[Row], int] = lambda row: row["sequence"],
    slack: float = 0.1,
) -> list[str]:
    """What a row says that its other numbers deny: "GPUs", "tokens", both or nothing."""
    found = ["GPUs"] if gpus(row) != row["GPUs"] else []
    tokens = replicas(row) * sequences(row) * length(row)
    if abs(tokens / row["tokens/batch"] - 1) > slack:
        found.append("tokens")
    return found


E.mistake("CP is forgotten", gpus=lambda row: row["TP"] * row["PP"] * row["DP"]).why(
    "Context parallelism needs ranks of its own, too."
)
E.mistake("PP is forgotten", gpus=lambda row: row["TP"] * row["CP"] * row["DP"]).why(
    "Each stage of a pipeline is on other GPUs."
)
E.mistake(
    "the dimensions are added", gpus=lambda row: row["TP"] + row["CP"] + row["PP"] + row["DP"]
).why("Every rank has a place in each dimension: the numbers of places multiply.")
E.mistake("every GPU reads sequences of its own", replicas=lambda row: row["GPUs"]).why(
    "The ranks of TP, CP and PP work on the same sequences. Only DP groups have others."
)
E.mistake("CP ranks count as replicas", replicas=lambda row: row["DP"] * row["CP"]).why(
    "Context parallelism cuts a sequence; it brings no further one."
)
E.mistake("one sequence for each replica", sequences=lambda row: 1).why(
    "'batch/DP' says how many sequences a replica reads in a step."
)
E.mistake("sequences, not tokens", length=lambda row: 1).why(
    "'tokens/batch' counts tokens: each sequence has as many as the column 'sequence' says."
)
E.mistake("16M is taken to the last token", slack=0.0).why(
    "The table rounds: 16,777,216 tokens are printed as 16M. Let 10% pass."
)


@E.cases
def _cases() -> list[tuple]:
    names = ("TP", "CP", "PP", "DP", "sequence", "batch/DP")

    def row(tokens: int | None, gpus: int | None, *values: int) -> dict[str, int]:
        found = dict(zip(names, values, strict=True))
        whole = found["DP"] * found["batch/DP"] * found["sequence"]
        return {"GPUs": gpus or _product(found)} | found | {"tokens/batch": tokens or whole}

    columns = [*TABLE_4.columns[:8]]
    printed = [dict(zip(columns, cells, strict=False)) for cells in TABLE_4.rows.values()]
    early = printed[-1] | {"DP": TABLE_4_ROW_3_DP_EARLY.value}
    rows = [
        row(None, None, 1, 1, 1, 1, 1, 1),
        row(None, 2, 1, 1, 1, 1, 1, 1),
        row(3, None, 1, 1, 1, 2, 1, 1),
        row(None, None, 2, 1, 1, 2, 4, 1),
        row(None, None, 1, 2, 1, 2, 4, 3),
        row(None, None, 2, 2, 2, 2, 8, 3),
        row(30, None, 1, 1, 1, 2, 4, 3),
        row(25, None, 1, 1, 1, 2, 4, 3),
    ]
    draw = torch.Generator().manual_seed(4)
    for _ in range(20):
        values = [2 ** int(torch.randint(0, 5, (), generator=draw)) for _ in names]
        off = int(torch.randint(0, 3, (), generator=draw))
        one = row(None, None, *values)
        if off == 1:
            one["GPUs"] *= 2
        if off == 2:
            one["tokens/batch"] = one["tokens/batch"] * 2
        rows.append(one)
    return [(one,) for one in [*rows, *printed, early]]
