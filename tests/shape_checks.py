"""The type checker that runs inside the library while tests run: shapes and dtypes of tensors.

Only annotations with a jaxtyping shape are held, by beartype. The others are left to the library:
it answers wrong values with a ValueError of its own, and tests must be able to see that one.
"""

from collections.abc import Callable
from typing import Any, get_args

import jaxtyping
from beartype import beartype


def checked(function: Callable) -> Callable:
    """`function` with each annotated shape among its arguments and results checked."""
    if isinstance(function, type):
        return function
    hints = getattr(function, "__annotations__", {})
    for name, hint in list(hints.items()):
        if not _has_shape(hint):
            hints[name] = Any
    return beartype(function)


def _has_shape(hint: object) -> bool:
    if isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray):
        return True
    return any(_has_shape(part) for part in get_args(hint))
