"""Exercise 04.6: which percentages of Table 5 are not those of their counts?"""

from collections.abc import Callable, Mapping

import torch

from llama3lib.paper.infrastructure import TABLE_5
from widgets.core.exercise import Exercise

E = Exercise(
    "04.6",
    "wrong_rows",
    tolerance=1e-6,
    hints=(
        "A percentage says which part of all stops a cause makes up. All stops of the table, not "
        "those that somebody mentions elsewhere.",
        "Add up the counts. For each cause divide its count by the sum, times 100, and round to "
        "one decimal, as the table does. Where that is another number than the printed one, the "
        "row is wrong.",
        "total = sum(counts.values()); right = round(100 * count / total, 1); keep the name with "
        "`right` where abs(right - printed[name]) is more than 0.05.",
    ),
)
Numbers = Mapping[str, float]


@E.reference
def wrong_rows(
    counts: Numbers,
    printed: Numbers,
    *,
    total: Callable[[Numbers, Numbers], float] = lambda counts, printed: sum(counts.values()),
    percent: float = 100.0,
    digits: int | None = 1,
    slack: float = 0.051,
    told: Callable[[float, float], float] = lambda right, printed: right,
) -> dict[str, float]:
    """Name -> the percentage that it should be, with one decimal, where another one is printed."""
    whole = total(counts, printed)
    found = {}
    for name, count in counts.items():
        share = percent * count / whole
        right = share if digits is None else round(share, digits)
        if abs(right - printed[name]) > slack:
            found[name] = told(right, printed[name])
    return found


E.mistake(
    "the printed percentages are taken for the whole", total=lambda c, p: sum(p.values())
).why("A share is a count over all counts. The percentages are what is to be checked.")
E.mistake("all 466 interruptions", total=lambda c, p: sum(c.values()) + 47).why(
    "The table lists the unexpected stops; planned ones are in no row."
)
E.mistake("shares, not percentages", percent=1.0).why("The table prints percent: times 100.")
E.mistake("not rounded", digits=None, slack=1e-9).why(
    "The table has one decimal. 17.18 is printed as 17.2, and that is no mistake."
)
E.mistake("rounded to whole percents", digits=0).why("The table has one decimal.")
E.mistake("the printed numbers are returned", told=lambda right, printed: printed).why(
    "Tell what the percentage should be."
)
E.mistake("every row is returned", slack=-1.0).why("Only the rows that are wrong are asked for.")
E.mistake("a point of difference passes", slack=6.0).why(
    "A wrong percentage may be wrong by a little: compare to the last printed digit."
)


@E.cases
def _cases() -> list[tuple]:
    small = [
        ({"a": 1}, {"a": 100.0}),
        ({"a": 1, "b": 3}, {"a": 25.0, "b": 75.0}),
        ({"a": 1, "b": 3}, {"a": 20.0, "b": 75.0}),
        ({"a": 1, "b": 2}, {"a": 33.3, "b": 66.7}),
        ({"a": 1, "b": 2}, {"a": 33.3, "b": 66.8}),
    ]
    draw = torch.Generator().manual_seed(5)
    for _ in range(10):
        counts = {name: int(torch.randint(1, 60, (), generator=draw)) for name in "abcdef"}
        whole = sum(counts.values())
        printed = {name: round(100 * n / whole, 1) for name, n in counts.items()}
        name = "abcdef"[int(torch.randint(0, 6, (), generator=draw))]
        printed[name] = round(printed[name] + int(torch.randint(1, 9, (), generator=draw)), 1)
        small.append((counts, printed))
    return [*small, (TABLE_5.column("count"), TABLE_5.column("printed %"))]
