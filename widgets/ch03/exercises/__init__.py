"""Chapter 03: one file an exercise, `eK_topic.py`, with its object `E`."""

from collections.abc import Callable

from widgets.ch03.exercises.hints import HINTS
from widgets.ch03.exercises.parabola import check_lowest_point
from widgets.core.time_limit import patiently

__all__ = ["CHECKS", "HINTS"]

CHECKS: dict[str, Callable[[object], None]] = {
    "03.2": patiently("lowest_point", check_lowest_point),
}
