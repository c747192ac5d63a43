"""Exercise 02.3: lines that stand on many pages are removed."""

import random
from collections import Counter
from collections.abc import Callable, Iterable

from widgets.core.exercise import Exercise
from widgets.core.judge import Case

E = Exercise(
    "02.3",
    "drop_repeated_lines",
    hints=(
        "A line that many pages have says nothing about any of them. Count first, remove after.",
        "One pass over all documents counts every line, each time it stands anywhere. A second "
        "pass keeps the lines whose count is not above the limit. 'More than six' keeps six.",
        "counts = Counter(line for document in documents for line in document), then "
        "[[line for line in document if counts[line] <= most] for document in documents].",
    ),
)
Documents = list[list[str]]


@E.reference
def drop_repeated(
    documents: Documents,
    most: int,
    *,
    counted: Callable[[list[str]], Iterable[str]] = lambda document: document,
    stays: Callable[[int, int, int], bool] = lambda count, before, most: count <= most,
) -> Documents:
    """stays: of a line that comes `count` times, and has come `before` this place."""
    counts = Counter(line for document in documents for line in counted(document))
    before: Counter[str] = Counter()
    kept = []
    for document in documents:
        kept.append([])
        for line in document:
            if stays(counts[line], before[line], most):
                kept[-1].append(line)
            before[line] += 1
    return kept


E.mistake("lines at the limit are removed too", stays=lambda count, before, most: count < most).why(
    "'More than' keeps the limit itself."
)
E.mistake("documents are counted, not lines", counted=set).why(
    "A line counts once for every time it stands anywhere, also twice in one document."
)
E.mistake("the first copies stay", stays=lambda count, before, most: before < most).why(
    "A line over the limit goes everywhere, also from the documents that had it first."
)
E.mistake("one copy stays", stays=lambda count, before, most: count <= most or not before).why(
    "A line over the limit goes from all documents."
)
E.mistake(
    "order or doubles are lost",
    lambda documents, most: [sorted(set(kept)) for kept in drop_repeated(documents, most)],
).why("What stays must stay as it was: same order, same number.")


@E.cases
def _cases() -> list[tuple | Case]:
    draw = random.Random(1)
    pool = "abcdefgh"
    many = [[draw.choice(pool[: 1 + i % 8]) for _ in range(i % 5 + 1)] for i in range(12)]
    return [
        ([["a"], ["a", "b"]], 1),
        ([["a"], ["a", "b"]], 2),
        ([["a", "a"], ["b"]], 1),
        ([["b", "a", "b"], ["c"]], 2),
        Case(([["x"] * 7, ["y"] * 6], 6), "seven times 'x', six times 'y', most=6"),
        Case((many, 4), "twelve documents of random letters, most=4"),
    ]
