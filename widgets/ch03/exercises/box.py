"""Chapter 03, exercise 3, last part: every pair that the printed digits of the law stand for."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from widgets.core.judge import Known


def _half(digits: int) -> float:
    return 0.5 * 10.0**-digits


def _corners(
    low: Callable[[float, float, float], tuple[float, float]] = lambda a, k, h: (a - h, k - h),
    high: Callable[[float, float, float], tuple[float, float]] = lambda a, k, h: (a + h, k + h),
    half: Callable[[int], float] = _half,
) -> Callable:
    """Tokens at two corners of the box, which are moved by `half` a unit or something else."""

    def box(a: float, k: float, digits: int, c: float) -> Tensor:
        h = half(digits)
        return torch.tensor(
            [k1 * c**a1 for a1, k1 in (low(a, k, h), high(a, k, h))], dtype=torch.float64
        )

    return box


BOX = _corners()
"""Fewest and most tokens of all pairs that round to the printed one."""


def _parameters(a: float, k: float, digits: int, c: float) -> Tensor:
    return (c / 6 / BOX(a, k, digits, c)).flip(0)


BOX_KNOWN = [
    Known(
        "fewest and most are swapped",
        lambda *given: BOX(*given).flip(0),
        "The fewest come first.",
    ),
    Known(
        "parameters, not tokens",
        _parameters,
        "The box is one of tokens.",
    ),
    Known(
        "parameters, not tokens",
        lambda *given: _parameters(*given).flip(0),
        "The box is one of tokens.",
    ),
    Known(
        "a whole unit, not half of one",
        _corners(half=lambda digits: 10.0**-digits),
        "What rounds to a printed digit lies at most half a unit of that digit away.",
    ),
    Known(
        "a whole unit of the next digit",
        _corners(half=lambda digits: 10.0 ** -(digits + 1)),
        "0.534 rounds to 0.53, too.",
    ),
    Known(
        "one digit too many",
        _corners(half=lambda digits: _half(digits + 1)),
        "What rounds to a printed digit lies at most half a unit of that digit away.",
    ),
    Known(
        "one digit too few",
        _corners(half=lambda digits: _half(digits - 1)),
        "digits counts the places after the point. With 2 of them a unit is 0.01.",
    ),
    Known(
        "rounding is taken for cutting off",
        _corners(low=lambda a, k, h: (a, k), high=lambda a, k, h: (a + 2 * h, k + 2 * h)),
        "A rounded number may be larger than the true one.",
    ),
    Known(
        "only the exponent is moved",
        _corners(low=lambda a, k, h: (a - h, k), high=lambda a, k, h: (a + h, k)),
        "Both printed numbers are rounded.",
    ),
    Known(
        "only the coefficient is moved",
        _corners(low=lambda a, k, h: (a, k - h), high=lambda a, k, h: (a, k + h)),
        "Both printed numbers are rounded.",
    ),
    Known(
        "the wrong corners of the box",
        _corners(low=lambda a, k, h: (a - h, k + h), high=lambda a, k, h: (a + h, k - h)),
        "When are the tokens fewest: with a small coefficient or a large one?",
    ),
    Known(
        "only one corner",
        _corners(low=lambda a, k, h: (a, k)),
        "The true pair may lie below the printed one, too.",
    ),
    Known(
        "only one corner",
        _corners(high=lambda a, k, h: (a, k)),
        "The true pair may lie above the printed one, too.",
    ),
    Known(
        "only one corner",
        _corners(low=lambda a, k, h: (a + h, k + h)),
        "Fewest and most lie at two different corners.",
    ),
    Known(
        "digits is not used",
        _corners(half=lambda digits: _half(2)),
        "The figure prints three places.",
    ),
    Known(
        "the printed pair itself",
        _corners(low=lambda a, k, h: (a, k), high=lambda a, k, h: (a, k)),
        "Which other pairs would be printed the same way?",
    ),
    Known(
        "digits are counted as powers of e",
        _corners(half=lambda digits: 0.5 * math.exp(-digits)),
        "A unit of the last place is a power of 10.",
    ),
]
