"""Chapter 03: what several rules share: results as plain numbers, and how near they are."""

import math
from collections.abc import Callable, Sequence

from widgets.core.forms import like, trouble
from widgets.core.judge import Known, Mistake


def numbers(got: object, names: Sequence[str], what: str, shows: str) -> tuple[float, ...]:
    """As many numbers as names. Raises `Mistake` for all else, NaN too."""
    want = (0.0,) * len(names)
    found = like(got, want)
    if form := trouble(found, want, what, names):
        raise Mistake(form[0], shows=shows, why=form[1])
    return found


def near(got: float, want: float, tolerance: float) -> bool:
    """Equal but for a share `tolerance` of what is wanted."""
    return got == want or (math.isfinite(got) and abs(got - want) <= tolerance * abs(want))


def explain(
    mistakes: Sequence[Known],
    side: Callable[[object], float],
    found: Sequence[float],
    inputs: Sequence[tuple],
    tolerance: float,
    shows: str,
) -> None:
    """Raise the first mistake that makes all of `found`, on one side of its results."""

    def makes(known: Known, got: float, given: tuple) -> bool:
        try:
            return near(got, side(known.function(*given)), tolerance)
        except Exception:  # a wrong function may stop on some input: then it explains nothing
            return False

    for known in mistakes:
        if all(makes(known, *pair) for pair in zip(found, inputs, strict=True)):
            raise Mistake(known.name, shows=shows, why=known.why)
