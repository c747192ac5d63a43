"""Chapter 03: what its checkers share: results as plain numbers, and the mistake that explains."""

import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Real

import torch

from widgets.core.judge import Case, Known, Mistake, diagnose, run


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


def numbers(value: object, names: Sequence[str], what: str, shows: str) -> tuple[float, ...]:
    """As many numbers as names, from a tuple, a list or an array."""
    told = f"{what}: {len(names)} results are needed"
    try:
        found = list(value)
    except TypeError:
        found = None
    if found is None or isinstance(value, str | Mapping) or len(found) != len(names):
        raise Mistake(told, shows=shows, why=f"({', '.join(names)}), in this order.")
    return tuple(number(v, f"{what}, {n}", shows) for v, n in zip(found, names, strict=True))


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


def near(got: float, want: float, tolerance: float) -> bool:
    """Equal but for a share `tolerance` of what is wanted."""
    return got == want or (
        math.isfinite(got) and math.isfinite(want) and abs(got - want) <= tolerance * abs(want)
    )
