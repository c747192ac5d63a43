"""Exercise 02.2: a signature cut into bands, as sharp as the recall allows."""

from collections.abc import Callable, Iterable

from llama3lib.data.dedup.minhash import choose_bands
from widgets.core.exercise import Exercise

E = Exercise(
    "02.2",
    "choose",
    results=("bands", "rows"),
    hints=(
        "One band must agree in all of its rows; any one of the bands will do.",
        "The chance is 1 - (1 - J^rows)^bands. More rows make the curve steeper and move it to the "
        "right, so take the most rows that still reach the recall. How many bands fit?",
        "for rows from numbers down to 1: bands = numbers // rows; if "
        "1 - (1 - similarity**rows)**bands >= recall: return bands, rows.",
    ),
)


def choose(similarity: float, recall: float, numbers: int) -> tuple[int, int]:
    """As the library chooses."""
    return choose_bands(numbers, similarity, recall)


def _chance(similarity: float, bands: int, rows: int) -> float:
    return 1 - (1 - similarity**rows) ** bands


def _search(
    similarity: float,
    recall: float,
    numbers: int,
    *,
    chance: Callable[[float, int, int], float] = _chance,
    order: Callable[[int], Iterable[int]] = lambda numbers: range(numbers, 0, -1),
) -> tuple[int, int]:
    for rows in order(numbers):
        if chance(similarity, numbers // rows, rows) >= recall:
            return numbers // rows, rows
    return 0, 0


E.reference(choose, model=_search)
E.mistake("bands and rows are swapped", lambda s, r, n: choose(s, r, n)[::-1]).why(
    "Return (bands, rows)."
)
E.mistake("the exponents are swapped", chance=lambda s, bands, rows: _chance(s, rows, bands)).why(
    "All rows of a band must agree (power rows); any band will do (power bands)."
)
E.mistake("the fewest rows are taken", order=lambda numbers: range(1, numbers + 1)).why(
    "One row finds everything, also what is not alike. Which choice is sharpest?"
)
E.mistake("a single band is looked at", chance=lambda s, bands, rows: s**rows).why(
    "There are many bands, and one that agrees is enough."
)
E.cases([(0.8, 0.95, 4), (0.8, 0.95, 112), (0.5, 0.9, 128), (0.9, 0.99, 256)])
