"""Chapter 03, exercise 5: after how many served tokens is the smaller model the cheaper one?"""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from llama3lib.scaling import ParametricLaw, break_even, life, tokens_for
from widgets.ch03.exercises.numbers import judge
from widgets.core.judge import Case, Known

_WHAT = "served_until_cheaper"
Law, Model = ParametricLaw, tuple[float, float]


def _number(value: float) -> Tensor:
    return torch.tensor([value], dtype=torch.float64)


def _right(law: Law, small: Model, large: float) -> Tensor:
    tokens = tokens_for(law, large, law.predict(*small))
    if not math.isfinite(tokens):
        return _number(0.0)
    return _number(break_even(life(*small, 0.0), life(large, tokens, 0.0)))


def _needed(law: Law, small: Model, large: float) -> float:
    return tokens_for(law, large, law.predict(*small))


def _no_floor(law: Law, small: Model, large: float) -> float:
    loss = law.predict(*small)
    room = loss - law.A / large**law.alpha
    return (law.B / room) ** (1 / law.beta) if room > 0 else math.inf


def _made(
    *,
    tokens: Callable[[Law, Model, float], float] = _needed,
    train: tuple[float, float] = (6.0, 6.0),
    serve: Callable[[float, float], float] = lambda small, large: 2 * (large - small),
    ends: bool = True,
) -> Callable:
    """The break-even from its parts; without `ends` the bare formula."""

    def served(law: Law, small: Model, large: float) -> Tensor:
        with_large = tokens(law, small, large)
        if ends and not math.isfinite(with_large):
            return _number(0.0)
        ahead = train[0] * small[0] * small[1] - train[1] * large * with_large
        saved = serve(small[0], large)
        if not ends:
            return _number(ahead / saved if saved else math.inf)
        if ahead <= 0:
            return _number(0.0 if small[0] <= large else math.inf)
        return _number(ahead / saved if saved > 0 else math.inf)

    return served


def _clipped(law: Law, small: Model, large: float) -> Tensor:
    return _made(ends=False)(law, small, large).clamp(min=0)


def _unreached(law: Law, small: Model, large: float) -> Tensor:
    if math.isfinite(_needed(law, small, large)):
        return _right(law, small, large)
    return _number(math.inf)


def _never_forgotten(law: Law, small: Model, large: float) -> Tensor:
    found = _right(law, small, large)
    return found if math.isfinite(float(found)) else _number(0.0)


def _same_tokens(law: Law, small: Model, large: float) -> float:
    return small[1]


def _same_ratio(law: Law, small: Model, large: float) -> float:
    return small[1] / small[0] * large


_SAME_LOSS = "A larger model reaches the same loss with fewer tokens. How many does the law say?"
_KNOWN = [
    Known(
        "the other one is not trained to the same loss",
        # as many tokens, tokens for each parameter or FLOPs for both: all end here
        _made(tokens=_same_tokens),
        f"Yours is 0 whenever the other one is larger. {_SAME_LOSS}",
    ),
    Known("as many training tokens for both", _made(tokens=_same_tokens, ends=False), _SAME_LOSS),
    Known(
        "as many tokens for each parameter for both",
        _made(tokens=_same_ratio, ends=False),
        _SAME_LOSS,
    ),
    Known(
        "20 tokens for each parameter",
        _made(tokens=lambda law, small, large: 20 * large),
        _SAME_LOSS,
    ),
    Known(
        "20 tokens for each parameter",
        _made(tokens=lambda law, small, large: 20 * large, ends=False),
        _SAME_LOSS,
    ),
    Known(
        "the law's floor E is not subtracted",
        _made(tokens=_no_floor),
        "loss = E + A/N^alpha + B/D^beta. What is left for the last term?",
    ),
    Known(
        "training and serving cost the same",
        _made(serve=lambda small, large: 6 * (large - small)),
        "Training goes forward and backward, serving only forward.",
    ),
    Known(
        "serving costs 1 FLOP",
        _made(serve=lambda small, large: large - small),
        "Each parameter multiplies and adds.",
    ),
    Known(
        "the large one serves at no cost",
        _made(serve=lambda small, large: 2 * small),
        "What counts is how much less a token costs with the small one.",
    ),
    Known(
        "the small one serves at no cost",
        _made(serve=lambda small, large: 2 * large),
        "What counts is how much less a token costs with the small one.",
    ),
    Known(
        "the large one is trained at no cost",
        _made(train=(6.0, 0.0)),
        "Both have to be trained.",
    ),
    Known(
        "FLOPs, not tokens",
        _made(serve=lambda small, large: 1.0),
        "How many served tokens save as many FLOPs?",
    ),
    Known(
        "the costs of training are added, not subtracted",
        _made(train=(6.0, -6.0)),
        "Only what the small one costs more has to be earned back.",
    ),
    Known(
        "the sign is turned round",
        lambda *given: -_made(ends=False)(*given),
        "The small one is behind by what its training costs more.",
    ),
    Known(
        "below zero",
        _made(ends=False),
        "When the small one is the cheaper one from the start, the number is 0.",
    ),
    Known(
        "never is forgotten",
        _clipped,
        "The other model may be the smaller one. The first then never becomes the cheaper one.",
    ),
    Known(
        "never is forgotten",
        _never_forgotten,
        "The other model may be the smaller one. The first then never becomes the cheaper one.",
    ),
    Known(
        "a loss out of reach of the other one",
        _unreached,
        "With so few parameters no number of tokens is enough. Then the first is the only one.",
    ),
]


def _cases() -> list[Case]:
    """First larger second models, then smaller ones: only those can be out of reach, or `never`."""
    plain = ParametricLaw(E=1.0, A=1.0, B=1.0, alpha=1.0, beta=1.0)
    larger = [(plain, (2.0, 12.0), 5.0), (plain, (1.0, 8.0), 16.0), (plain, (4.0, 40.0), 8.0)]
    smaller = [(plain, (4.0, 64.0), 3.0), (plain, (8.0, 2.0), 4.0)]
    rng = np.random.default_rng(35)
    for rows, count, ways, each in (
        (larger, 30, (0.1, 3.0), (2.5, 8.0)),
        (smaller, 14, (-0.8, -0.1), (-1.0, 8.0)),
    ):
        while len(rows) < count:
            e, a, b = rng.uniform(1.2, 2.2), np.exp(rng.uniform(5, 7)), np.exp(rng.uniform(5.5, 8))
            law = ParametricLaw(*map(float, (e, a, b, *rng.uniform(0.28, 0.4, 2))))
            size = float(np.exp(rng.uniform(18, 26)))
            small = size, size * float(np.exp(rng.uniform(*each)))
            other = size * float(np.exp(rng.uniform(*ways)))
            if _is_clear(law, small, other):
                rows.append((law, small, other))
    return [Case(row, _shown(*row)) for row in larger + smaller]


def _is_clear(law: Law, small: Model, other: float) -> bool:
    """Whether neither a digit nor a reading decides.

    A first model that is cheaper to train but dearer to serve is the cheaper one for a while only:
    the exercise does not say what that is.
    """
    room = law.predict(*small) - law.E - law.A / other**law.alpha
    if abs(room) < 1e-3:
        return False
    if room < 0:
        return True
    times = math.log(small[0] * small[1] / (other * _needed(law, small, other)))
    return times > 0.02 or (times < -0.02 and other > small[0])


def _shown(law: Law, small: Model, large: float) -> str:
    told = f"E={law.E:.4g}, A={law.A:.4g}, B={law.B:.4g}, alpha={law.alpha:.4g}"
    told += f", beta={law.beta:.4g}"
    return f"ParametricLaw({told}), small=({small[0]:.4g}, {small[1]:.4g}), large={large:.4g}"


def check_served(answer: Callable) -> None:
    """03.5: served_until_cheaper(law, small, large)."""
    judge(answer, _right, _cases(), _KNOWN, ("served tokens",), _WHAT, 1e-5)
