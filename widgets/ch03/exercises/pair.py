"""Chapter 03, exercise 3: the law of the paper, and the exponent that gives a number of tokens."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from llama3lib.paper import herd, scaling
from widgets.ch03.exercises.box import BOX, BOX_KNOWN
from widgets.ch03.exercises.numbers import judge
from widgets.core.judge import Case, Known, functions_of
from widgets.core.time_limit import patiently

_TOLERANCE = 1e-6
_BUDGET = float(herd.FLOPS.value)
_TEXT = float(scaling.EXPONENT.value), float(scaling.COEFFICIENT.value)
_FIGURE = float(scaling.EXPONENT_FIGURE.value), float(scaling.COEFFICIENT_FIGURE.value)


def _tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _cases(names: tuple[str, ...], rows: list[tuple]) -> list[Case]:
    return [Case(row, _shown(names, row)) for row in rows]


def _shown(names: tuple[str, ...], row: tuple) -> str:
    return ", ".join(f"{name}={value:.6g}" for name, value in zip(names, row, strict=True))


# law -------------------------------------------------------------------------------------------

_PAIR = ("exponent", "coefficient", "flops")


def _law(a: float, k: float, c: float) -> Tensor:
    tokens = scaling.optimal_tokens(c, a, k)
    return _tensor(tokens, c / (6 * tokens))


def _law_of(
    tokens: Callable[[float, float, float], float],
    partner: Callable[[float, float], float] = lambda c, tokens: c / (6 * tokens),
) -> Callable:
    def law(a: float, k: float, c: float) -> Tensor:
        found = tokens(a, k, c)
        return _tensor(found, partner(c, found))

    return law


def _power(a: float, k: float, c: float) -> float:
    return k * c**a


_LAW_KNOWN = [
    Known(
        "the law predicts tokens, not parameters",
        lambda a, k, c: _law(a, k, c).flip(0),
        "Look at the y axis of Figure 3. Tokens come first, parameters follow from them.",
    ),
    Known(
        "the 6 is forgotten in the parameters",
        _law_of(_power, lambda c, tokens: c / tokens),
        "The budget is 6 times parameters times tokens.",
    ),
    Known(
        "the 6 stands above the line",
        _law_of(_power, lambda c, tokens: 6 * c / tokens),
        "The budget is 6 times parameters times tokens. Solve that for the parameters.",
    ),
    Known(
        "the second result is FLOPs, not parameters",
        _law_of(_power, lambda c, tokens: c * tokens * 6),
        "Solve budget = 6 · parameters · tokens for the parameters.",
    ),
    Known(
        "20 tokens for each parameter",
        _law_of(_power, lambda c, tokens: tokens / 20),
        "That is Chinchilla's rule of thumb. Here the budget tells the parameters.",
    ),
    Known(
        "exponent and coefficient are swapped",
        _law_of(lambda a, k, c: a * c**k),
        "The coefficient stands before the power.",
    ),
    Known(
        "the coefficient is forgotten",
        _law_of(lambda a, k, c: c**a),
        "The law is coefficient times budget to the exponent.",
    ),
    Known(
        "the coefficient is inside the power",
        _law_of(lambda a, k, c: (k * c) ** a),
        "Only the budget is raised to the exponent.",
    ),
    Known(
        "a line, not a power",
        _law_of(lambda a, k, c: k * c * a),
        "The exponent is an exponent: use **.",
    ),
    Known(
        "the budget is divided by 6 first",
        _law_of(lambda a, k, c: k * (c / 6) ** a),
        "The law takes the budget as it is.",
    ),
]

# exponent_for ----------------------------------------------------------------------------------

_PRINTED = ("exponent", "coefficient", "digits", "flops")
_WANTED = ("tokens", "coefficient", "flops")


def _one(value: Callable[[float, float, float], float]) -> Callable:
    return lambda t, k, c: _tensor(value(t, k, c))


_exponent = _one(lambda t, k, c: (math.log(t) - math.log(k)) / math.log(c))
_EXPONENT_KNOWN = [
    Known(
        "the coefficient is forgotten",
        _one(lambda t, k, c: math.log(t) / math.log(c)),
        "Put your exponent into `law`: do the tokens come out?",
    ),
    Known(
        "ln and log10 are mixed up",
        _one(lambda t, k, c: math.log(t / k) / math.log10(c)),
        "Take the same logarithm above and below the line.",
    ),
    Known(
        "ln and log10 are mixed up",
        _one(lambda t, k, c: math.log10(t / k) / math.log(c)),
        "Take the same logarithm above and below the line.",
    ),
    Known(
        "the fraction is upside down",
        _one(lambda t, k, c: math.log(c) / math.log(t / k)),
        "ln tokens = ln coefficient + exponent · ln budget.",
    ),
    Known(
        "multiplied by the coefficient, not divided",
        _one(lambda t, k, c: math.log(t * k) / math.log(c)),
        "ln tokens = ln coefficient + exponent · ln budget.",
    ),
    Known(
        "the coefficient is divided outside the logarithm",
        _one(lambda t, k, c: math.log(t) / k / math.log(c)),
        "Divide the tokens by it before you take the logarithm.",
    ),
    Known(
        "the coefficient is subtracted, not its logarithm",
        _one(lambda t, k, c: (math.log(t) - k) / math.log(c)),
        "ln tokens = ln coefficient + exponent · ln budget.",
    ),
    Known(
        "the logarithm of a ratio is no ratio of logarithms",
        _one(lambda t, k, c: math.log(t / k / c)),
        "Divide one logarithm by the other.",
    ),
    Known(
        "the exponent of the parameters",
        _one(lambda t, k, c: 1 - math.log(t / k) / math.log(c)),
        "That of the tokens is asked for. The two add up to 1.",
    ),
]


def check_pair(answer: object) -> None:
    """03.3: law, exponent_for and box."""
    law, exponent_for, box = functions_of(answer, ("law", "exponent_for", "box"))
    rng = np.random.default_rng(33)
    free = [
        (float(a), float(k), float(np.exp(c)))
        for a, k, c in zip(
            rng.uniform(0.3, 0.7, 20),
            rng.uniform(0.05, 2, 20),
            rng.uniform(20, 60, 20),
            strict=True,
        )
    ]
    rows = [(0.5, 2.0, 100.0), (0.5, 0.1, 1e4), (*_TEXT, 1e20), (*_FIGURE, _BUDGET), *free]
    wanted = [(float(_power(*row)), row[1], row[2]) for row in rows]
    wanted.append((float(scaling.OPTIMAL_TOKENS.value), _TEXT[1], _BUDGET))
    printed = [(0.5, 2.0, 1, 100.0), (0.5, 2.0, 2, 100.0), (0.5, 0.3, 3, 1e4)]
    printed += [(*_TEXT, 2, _BUDGET), (*_FIGURE, 3, _BUDGET)]
    for place, (a, k, c) in enumerate(free):
        digits = 1 + place % 4
        printed.append((round(a, digits), max(round(k, digits), 0.1), digits, c))
    told = (
        ("law", law, _law, _LAW_KNOWN, ("tokens", "parameters"), _PAIR, rows),
        ("exponent_for", exponent_for, _exponent, _EXPONENT_KNOWN, ("exponent",), _WANTED, wanted),
        ("box", box, BOX, BOX_KNOWN, ("fewest", "most"), _PRINTED, printed),
    )
    for what, function, right, known, results, names, inputs in told:
        _judged(what, right, known, results, _cases(names, inputs))(function)


def _judged(
    what: str, right: Callable, known: list[Known], results: tuple[str, ...], cases: list[Case]
) -> Callable[[object], None]:
    return patiently(
        what,
        lambda function: judge(function, right, cases, known, results, what, _TOLERANCE),
    )
