"""Chapter 09: the table of the exercises that have no file of their own yet."""

from collections.abc import Callable

from widgets.ch09.exercises.blocks import check_write_token
from widgets.ch09.exercises.cache import check_cached_attention
from widgets.ch09.exercises.fp8 import check_fp8_rows
from widgets.ch09.exercises.hints import HINTS
from widgets.ch09.exercises.serving import check_plan_step
from widgets.ch09.exercises.speculative import check_speculative_step
from widgets.ch09.exercises.top_p import check_top_p
from widgets.core.time_limit import patiently

__all__ = ["CHECKS", "HINTS"]


CHECKS: dict[str, Callable[[object], None]] = {
    "09.2": patiently("cached_attention", check_cached_attention),
    "09.3": patiently("top_p_probs", check_top_p),
    "09.4": patiently("write_token", check_write_token),
    "09.5": patiently("fp8_rows", check_fp8_rows),
    "09.6": patiently("plan_step", check_plan_step),
    "09.7": patiently("speculative_step", check_speculative_step),
}
