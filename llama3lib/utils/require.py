"""Requirements: bad input gets one kind of sentence, with field, value and what is allowed.

All raise ValueError unless the requirement is met.
"""

import math
from collections.abc import Collection
from numbers import Integral, Real


def require(ok: object, field: str, value: object, allowed: object) -> None:
    """Whatever `ok` says, in words `allowed`."""
    if not ok:
        raise ValueError(f"{field}={value!r} is not allowed: {allowed}")


def require_all(ok: object, allowed: str, **values: object) -> None:
    """The same for several fields that have to fit together."""
    if not ok:
        shown = ", ".join(f"{field}={value!r}" for field, value in values.items())
        raise ValueError(f"{shown} are not allowed: {allowed}")


def one_of(field: str, value: object, choices: Collection) -> None:
    """A value that is among the choices, which the message shows in their order."""
    require(value in choices, field, value, f"one of {choices}")


def at_least(field: str, value: float, least: float) -> None:
    """A number not below `least`; NaN is none."""
    require(value >= least, field, value, f"{least} or more")


def between(field: str, value: float, low: float, high: float) -> None:
    """A number from `low` to `high`, both included."""
    require(low <= value <= high, field, value, f"{low} to {high}")


def whole(field: str, value: object, least: int = 1) -> None:
    """A whole number, no truth value, not below `least`."""
    require(is_whole(value, least), field, value, f"a whole number, {least} or more")


def positive(field: str, value: object) -> None:
    """A finite number above 0."""
    require(is_positive(value), field, value, "a finite number above 0")


def is_whole(value: object, least: int = 1) -> bool:
    """Whether `whole` would let it pass."""
    return isinstance(value, Integral) and not isinstance(value, bool) and value >= least


def is_positive(value: object) -> bool:
    """Whether `positive` would let it pass."""
    number = isinstance(value, Real) and not isinstance(value, bool)
    try:
        return number and math.isfinite(value) and value > 0
    except OverflowError:  # a whole number beyond all floats
        return False
