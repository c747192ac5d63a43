"""Exercise 03.5: after how many served tokens is the smaller model the cheaper one?"""

import math
from collections.abc import Callable

import numpy as np

from llama3lib.scaling import ParametricLaw, break_even, life, tokens_for
from widgets.core.exercise import Exercise

E = Exercise(
    "03.5",
    "served_until_cheaper",
    hints=(
        "Both models end with the same loss. One has paid more for its training, the other pays "
        "more for each token served. When are they even?",
        "The law gives the loss of the small one. Take away the floor and the part that the other "
        "one's size leaves: what remains tells its tokens (and if nothing remains, it never gets "
        "there). Difference of the trainings, by difference of the costs of one served token. Then "
        "the special cases: ahead from the start; and never, if the other one is the smaller one.",
        "room = law.predict(*small) - law.E - law.A / large ** law.alpha; tokens = (law.B / room) "
        "** (1 / law.beta) if room > 0. ahead = 6 * small[0] * small[1] - 6 * large * tokens; "
        "saved = 2 * (large - small[0]). ahead / saved if both are above 0. The library's "
        "tokens_for, life and break_even do the same.",
    ),
)
Law, Model = ParametricLaw, tuple[float, float]


def _needed(law: Law, small: Model, large: float) -> float:
    return tokens_for(law, large, law.predict(*small))


def _by_hand(
    law: Law,
    small: Model,
    large: float,
    *,
    tokens: Callable[[Law, Model, float], float] = _needed,
    train: tuple[float, float] = (6.0, 6.0),
    serve: Callable[[float, float], float] = lambda small, large: 2 * (large - small),
    ends: bool = True,
    never: float = math.inf,
    unreached: float = 0.0,
) -> float:
    """The break-even from its parts; without `ends` the bare formula."""
    with_large = tokens(law, small, large)
    if ends and not math.isfinite(with_large):
        return unreached
    ahead = train[0] * small[0] * small[1] - train[1] * large * with_large
    saved = serve(small[0], large)
    if not ends:
        return ahead / saved if saved else math.inf
    if ahead <= 0:
        return 0.0 if small[0] <= large else never
    return ahead / saved if saved > 0 else never


def served_until_cheaper(law: Law, small: Model, large: float) -> float:
    """As the library says."""
    tokens = _needed(law, small, large)
    if not math.isfinite(tokens):
        return 0.0
    return break_even(life(*small, 0.0), life(large, tokens, 0.0))


def _no_floor(law: Law, small: Model, large: float) -> float:
    room = law.predict(*small) - law.A / large**law.alpha
    return (law.B / room) ** (1 / law.beta) if room > 0 else math.inf


E.reference(served_until_cheaper, model=_by_hand)
_SAME_LOSS = "A larger model reaches the same loss with fewer tokens. How many does the law say?"
_SAVED = "What counts is how much less a token costs with the small one."
E.mistake(
    "the other one is not trained to the same loss", tokens=lambda law, small, large: small[1]
).why(f"Yours is 0 whenever the other one is larger. {_SAME_LOSS}")
E.mistake(
    "as many training tokens for both", tokens=lambda law, small, large: small[1], ends=False
).why(_SAME_LOSS)
E.mistake(
    "as many tokens for each parameter for both",
    tokens=lambda law, small, large: small[1] / small[0] * large,
    ends=False,
).why(_SAME_LOSS)
for ends in (True, False):
    E.mistake(
        "20 tokens for each parameter", tokens=lambda law, small, large: 20 * large, ends=ends
    ).why(_SAME_LOSS)
E.mistake("the law's floor E is not subtracted", tokens=_no_floor).why(
    "loss = E + A/N^alpha + B/D^beta. What is left for the last term?"
)
E.mistake("training and serving cost the same", serve=lambda small, large: 6 * (large - small)).why(
    "Training goes forward and backward, serving only forward."
)
E.mistake("serving costs 1 FLOP", serve=lambda small, large: large - small).why(
    "Each parameter multiplies and adds."
)
E.mistake("the large one serves at no cost", serve=lambda small, large: 2 * small).why(_SAVED)
E.mistake("the small one serves at no cost", serve=lambda small, large: 2 * large).why(_SAVED)
E.mistake("the large one is trained at no cost", train=(6.0, 0.0)).why("Both have to be trained.")
E.mistake("FLOPs, not tokens", serve=lambda small, large: 1.0).why(
    "How many served tokens save as many FLOPs?"
)
E.mistake("the costs of training are added, not subtracted", train=(6.0, -6.0)).why(
    "Only what the small one costs more has to be earned back."
)
E.mistake("the sign is turned round", lambda *given: -_by_hand(*given, ends=False)).why(
    "The small one is behind by what its training costs more."
)
E.mistake("below zero", ends=False).why(
    "When the small one is the cheaper one from the start, the number is 0."
)
E.mistake(
    "never is forgotten",
    lambda *given: max(0.0, _by_hand(*given, ends=False)),
    lambda *given: _by_hand(*given, never=0.0),
).why("The other model may be the smaller one. The first then never becomes the cheaper one.")
E.mistake("a loss out of reach of the other one", unreached=math.inf).why(
    "With so few parameters no number of tokens is enough. Then the first is the only one."
)


@E.cases
def _cases() -> list[tuple]:
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
    return larger + smaller


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
