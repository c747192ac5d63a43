"""Exercise 05.2: three numbers of the paper's arithmetic."""

import math
from collections.abc import Mapping

from widgets.core.exercise import Exercise
from widgets.core.forms import is_number, single
from widgets.core.judge import Mistake

SUMS = {"steps": 252 / 4, "share of warm-up": 252 / 4 / 8000, "annealing steps": 40 / 16}
E = Exercise(
    "05.2",
    values=tuple(SUMS),
    hints=(
        "Tokens divided by tokens a step gives steps. M is a million, with six zeros.",
        "First: tokens of the first batch size, by its batch. Second: those steps, by the steps of "
        "the warm-up, as a share from 0 to 1. Third: tokens of the annealing, by the last batch. "
        "It need not come out even.",
        "252e6 / 4e6, then that number / 8000, and 40e6 / 16e6. Let Python do it.",
    ),
)
_BINARY = (
    "binary millions",
    "4M is 4,000,000 here, not 2 to the 22nd. The exercise says decimal millions.",
)
_LATER = ("the batch of a later phase", "Which batch was used while these were read?")
_EARLIER = ("the batch of an earlier phase", "The annealing comes last, with the last batch.")
_KNOWN: dict[str, list[tuple[float, tuple[str, str]]]] = {
    "steps": [
        (252e6 / 2**22, _BINARY),
        (252 / 8, _LATER),
        (252 / 16, _LATER),
        (252e9 / 4e6, ("billions, not millions", "252M is printed, small as it looks.")),
        (252e6 / 4e6 / 4096, ("sequences, not tokens", "4M counts tokens. The length is in it.")),
    ],
    "share of warm-up": [
        (100 * 252 / 4 / 8000, ("percent, not a share", "A share is from 0 to 1.")),
        (8000 / (252 / 4), ("the fraction is upside down", "How much of the warm-up is it?")),
        (252e6 / 2**22 / 8000, _BINARY),
        (252 / 4 / 1_200_000, ("a share of the whole run", "The warm-up has 8,000 steps.")),
    ],
    "annealing steps": [
        (40e6 / 2**24, _BINARY),
        (40 / 4, _EARLIER),
        (40 / 8, _EARLIER),
        (40e9 / 16e6, ("billions, not millions", "40M is printed, small as it looks.")),
        (16 / 40, ("the fraction is upside down", "Tokens divided by tokens a step gives steps.")),
    ],
}


@E.rule
def _each_is_right(given: Mapping) -> None:
    for name, want in SUMS.items():
        if given[name] is None:
            raise Mistake(f"{name!r} has no number yet")
        value = single(given[name])
        if not is_number(value):
            raise Mistake(f"{name!r} is no number", shows=repr(value))
        if not math.isclose(value, want, rel_tol=4e-3):
            raise _named(name, value, want)


def _named(name: str, value: float, want: float) -> Mistake:
    shows = f"{name!r}: {value}"
    for wrong, (told, why) in _KNOWN[name]:
        if math.isclose(value, wrong, rel_tol=1e-2):
            return Mistake(f"{name}: {told}", shows=shows, why=why)
    if math.isclose(value, want, rel_tol=0.25) or value == round(want):
        why = "Keep the digits: nothing says that it comes out even."
        return Mistake(f"{name}: rounded", shows=shows, why=why)
    why = "Divide tokens by tokens a step." if "share" not in name else "Divide steps by steps."
    return Mistake(f"{name}: another number", shows=shows, why=why)
