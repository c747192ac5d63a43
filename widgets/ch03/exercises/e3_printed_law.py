"""Exercise 03.3: the law of the paper, turned round, and what its printed digits leave open."""

import math
from collections.abc import Callable

import numpy as np

from llama3lib.paper import herd, scaling
from widgets.core.exercise import Exercise

E = Exercise(
    "03.3",
    hints=(
        "The law gives tokens; the parameters are what is left of the budget. In logarithms it is "
        "a straight line, which is easily turned round. And which numbers are printed as 0.53?",
        "tokens = coefficient · flops ** exponent, parameters = flops / (6 · tokens). Solve the "
        "first for the exponent with logarithms. For the box: each printed number may be off by "
        "half a unit of its last place, up or down, and each of the two by itself.",
        "exponent: math.log(tokens / coefficient) / math.log(flops). box: half = 0.5 * 10 ** "
        "-digits; the law grows with both numbers, so the fewest tokens belong to exponent - half "
        "and coefficient - half, the most to the two plus half.",
    ),
)
law = E.part("law", results=("tokens", "parameters"), tolerance=1e-6)
exponent_for = E.part("exponent_for", tolerance=1e-6)
box = E.part("box", results=("fewest", "most"), tolerance=1e-6)

_BUDGET = float(herd.FLOPS.value)
_TEXT = float(scaling.EXPONENT.value), float(scaling.COEFFICIENT.value)
_FIGURE = float(scaling.EXPONENT_FIGURE.value), float(scaling.COEFFICIENT_FIGURE.value)


def _pairs() -> list[tuple[float, float, float]]:
    """Exponents, coefficients and budgets at random."""
    rng = np.random.default_rng(33)
    columns = rng.uniform(0.3, 0.7, 20), rng.uniform(0.05, 2, 20), np.exp(rng.uniform(20, 60, 20))
    return [tuple(row) for row in np.stack(columns, axis=1).tolist()]


# law -------------------------------------------------------------------------------------------


@law.reference
def law_tokens(
    exponent: float,
    coefficient: float,
    flops: float,
    *,
    power: Callable = lambda a, k, c: scaling.optimal_tokens(c, a, k),
    partner: Callable = lambda c, tokens: c / (6 * tokens),
) -> tuple[float, float]:
    """Tokens by the paper's law, and what the budget leaves for the parameters."""
    tokens = power(exponent, coefficient, flops)
    return tokens, partner(flops, tokens)


law.mistake("the law predicts tokens, not parameters", lambda *given: law_tokens(*given)[::-1]).why(
    "Look at the y axis of Figure 3. Tokens come first, parameters follow from them."
)
law.mistake("the 6 is forgotten in the parameters", partner=lambda c, tokens: c / tokens).why(
    "The budget is 6 times parameters times tokens."
)
law.mistake("the 6 stands above the line", partner=lambda c, tokens: 6 * c / tokens).why(
    "The budget is 6 times parameters times tokens. Solve that for the parameters."
)
law.mistake(
    "the second result is FLOPs, not parameters", partner=lambda c, tokens: c * tokens * 6
).why("Solve budget = 6 · parameters · tokens for the parameters.")
law.mistake("20 tokens for each parameter", partner=lambda c, tokens: tokens / 20).why(
    "That is Chinchilla's rule of thumb. Here the budget tells the parameters."
)
law.mistake("exponent and coefficient are swapped", power=lambda a, k, c: a * c**k).why(
    "The coefficient stands before the power."
)
law.mistake("the coefficient is forgotten", power=lambda a, k, c: c**a).why(
    "The law is coefficient times budget to the exponent."
)
law.mistake("the coefficient is inside the power", power=lambda a, k, c: (k * c) ** a).why(
    "Only the budget is raised to the exponent."
)
law.mistake("a line, not a power", power=lambda a, k, c: k * c * a).why(
    "The exponent is an exponent: use **."
)
law.mistake("the budget is divided by 6 first", power=lambda a, k, c: k * (c / 6) ** a).why(
    "The law takes the budget as it is."
)


def _laws() -> list[tuple]:
    return [(0.5, 2.0, 100.0), (0.5, 0.1, 1e4), (*_TEXT, 1e20), (*_FIGURE, _BUDGET), *_pairs()]


law.cases(_laws)

# exponent_for ----------------------------------------------------------------------------------


@exponent_for.reference
def exponent_of(tokens: float, coefficient: float, flops: float) -> float:
    """The law, solved for its exponent."""
    return (math.log(tokens) - math.log(coefficient)) / math.log(flops)


_SOLVED = "ln tokens = ln coefficient + exponent · ln budget."
exponent_for.mistake("the coefficient is forgotten", lambda t, k, c: math.log(t) / math.log(c)).why(
    "Put your exponent into `law`: do the tokens come out?"
)
exponent_for.mistake(
    "ln and log10 are mixed up",
    lambda t, k, c: math.log(t / k) / math.log10(c),
    lambda t, k, c: math.log10(t / k) / math.log(c),
).why("Take the same logarithm above and below the line.")
exponent_for.mistake(
    "the fraction is upside down", lambda t, k, c: math.log(c) / math.log(t / k)
).why(_SOLVED)
exponent_for.mistake(
    "multiplied by the coefficient, not divided", lambda t, k, c: math.log(t * k) / math.log(c)
).why(_SOLVED)
exponent_for.mistake(
    "the coefficient is divided outside the logarithm",
    lambda t, k, c: math.log(t) / k / math.log(c),
).why("Divide the tokens by it before you take the logarithm.")
exponent_for.mistake(
    "the coefficient is subtracted, not its logarithm",
    lambda t, k, c: (math.log(t) - k) / math.log(c),
).why(_SOLVED)
exponent_for.mistake(
    "the logarithm of a ratio is no ratio of logarithms", lambda t, k, c: math.log(t / k / c)
).why("Divide one logarithm by the other.")
exponent_for.mistake(
    "the exponent of the parameters", lambda t, k, c: 1 - math.log(t / k) / math.log(c)
).why("That of the tokens is asked for. The two add up to 1.")


@exponent_for.cases
def _wanted() -> list[tuple]:
    rows = [(k * c**a, k, c) for a, k, c in _laws()]
    return [*rows, (float(scaling.OPTIMAL_TOKENS.value), _TEXT[1], _BUDGET)]


# box -------------------------------------------------------------------------------------------


@box.reference
def corners(
    exponent: float,
    coefficient: float,
    digits: int,
    flops: float,
    *,
    low: tuple[int, int] = (-1, -1),
    high: tuple[int, int] = (1, 1),
    half: Callable[[int], float] = lambda digits: 0.5 * 10.0**-digits,
) -> tuple[float, float]:
    """Tokens where exponent and coefficient are moved by so many half units."""
    h = half(digits)
    return tuple((coefficient + j * h) * flops ** (exponent + i * h) for i, j in (low, high))


def _parameters(exponent: float, coefficient: float, digits: int, flops: float) -> tuple:
    return tuple(flops / 6 / tokens for tokens in corners(exponent, coefficient, digits, flops))


box.mistake("fewest and most are swapped", low=(1, 1), high=(-1, -1)).why("The fewest come first.")
box.mistake("parameters, not tokens", lambda *given: _parameters(*given)[::-1], _parameters).why(
    "The box is one of tokens."
)
_AT_MOST = "What rounds to a printed digit lies at most half a unit of that digit away."
box.mistake("a whole unit, not half of one", half=lambda digits: 10.0**-digits).why(_AT_MOST)
box.mistake("a whole unit of the next digit", half=lambda digits: 10.0 ** -(digits + 1)).why(
    "0.534 rounds to 0.53, too."
)
box.mistake("one digit too many", half=lambda digits: 0.5 * 10.0 ** -(digits + 1)).why(_AT_MOST)
box.mistake("one digit too few", half=lambda digits: 0.5 * 10.0 ** (1 - digits)).why(
    "digits counts the places after the point. With 2 of them a unit is 0.01."
)
box.mistake("rounding is taken for cutting off", low=(0, 0), high=(2, 2)).why(
    "A rounded number may be larger than the true one."
)
_BOTH = "Both printed numbers are rounded."
box.mistake("only the exponent is moved", low=(-1, 0), high=(1, 0)).why(_BOTH)
box.mistake("only the coefficient is moved", low=(0, -1), high=(0, 1)).why(_BOTH)
box.mistake("the wrong corners of the box", low=(-1, 1), high=(1, -1)).why(
    "When are the tokens fewest: with a small coefficient or a large one?"
)
box.mistake("only one corner", low=(0, 0)).why("The true pair may lie below the printed one, too.")
box.mistake("only one corner", high=(0, 0)).why("The true pair may lie above the printed one, too.")
box.mistake("only one corner", low=(1, 1)).why("Fewest and most lie at two different corners.")
box.mistake("digits is not used", half=lambda digits: 0.005).why("The figure prints three places.")
box.mistake("the printed pair itself", low=(0, 0), high=(0, 0)).why(
    "Which other pairs would be printed the same way?"
)
box.mistake("digits are counted as powers of e", half=lambda digits: 0.5 * math.exp(-digits)).why(
    "A unit of the last place is a power of 10."
)


@box.cases
def _printed() -> list[tuple]:
    rows = [(0.5, 2.0, 1, 100.0), (0.5, 2.0, 2, 100.0), (0.5, 0.3, 3, 1e4)]
    rows += [(*_TEXT, 2, _BUDGET), (*_FIGURE, 3, _BUDGET)]
    for place, (a, k, c) in enumerate(_pairs()):
        digits = 1 + place % 4
        rows.append((round(a, digits), max(round(k, digits), 0.1), digits, c))
    return rows
