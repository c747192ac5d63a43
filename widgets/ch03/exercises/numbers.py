"""Chapter 03: what several rules share: results as plain numbers, and how near they are."""

import math
from collections.abc import Callable, Sequence
from numbers import Real

import torch

from widgets.core.forms import like, trouble
from widgets.core.judge import Case, Known, Mistake, diagnose, run


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


# Until the last old file is gone


def number(value: object, what: str, shows: str) -> float:
    """A number as a float, arrays of one number too. Raises `Mistake` for all else, NaN too."""
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, Real):
        why = f"{type(value).__name__} came."
        raise Mistake(f"{what}: a number is needed", shows=shows, why=why)
    if math.isnan(value):
        why = "Was something divided by 0, or a logarithm taken of a number below 0?"
        raise Mistake(f"{what}: NaN, which is no number", shows=shows, why=why)
    return float(value)


def judge(
    answer: Callable,
    right: Callable,
    cases: Sequence[Case],
    known: Sequence[Known],
    names: Sequence[str],
    what: str,
    tolerance: float,
) -> None:
    """`diagnose` for a function of plain numbers; right and known ones return float64 tensors.

    names: of its results; a single name means that it returns a bare number. What is no number is
    told before anything is compared.
    """
    found = {}
    for case in cases:
        result = run(answer, case, what)
        if len(names) == 1:
            row = (number(result, what, case.shows),)
        else:
            row = numbers(result, names, what, case.shows)
        found[case.inputs] = torch.tensor(row, dtype=torch.float64)
    diagnose(lambda *given: found[given], right, cases, known, what=what, tolerance=tolerance)
