"""Exercise 05.1: the learning rate of a step, a warm-up and a cosine."""

import math
from collections.abc import Callable

from widgets.core.exercise import Exercise

E = Exercise(
    "05.1",
    "rate",
    tolerance=2e-5,  # a cosine in float32 is right, too
    hints=(
        "Three parts, one after the other: a straight line up, half a wave down, and then nothing "
        "changes any more.",
        "Before `warmup`: the peak times the share of the warm-up that is done. After it: how much "
        "of the way from `warmup` to `total` is done, from 0 to 1 and never more? Half a cosine "
        "turns this into a height from 1 to 0, and the height lies between `minimum` and `peak`.",
        "way = min(1, (step - warmup) / (total - warmup)); height = 0.5 * (1 + math.cos(math.pi * "
        "way)); minimum + (peak - minimum) * height.",
    ),
)


@E.reference
def rate(
    step: int,
    peak: float,
    warmup: int,
    total: int,
    minimum: float,
    *,
    rise: Callable[[int, int], float] = lambda s, w: s / w,
    way: Callable[[int, int, int], float] = lambda s, w, t: min(1.0, (s - w) / (t - w)),
    shape: Callable[[float], float] = lambda way: 0.5 * (1 + math.cos(math.pi * way)),
    fall: Callable[[float, float], float] = lambda peak, minimum: peak - minimum,
    floor: float = 1.0,
) -> float:
    """A schedule from its parts: the rise, the way along the fall, its shape, and its height."""
    if step < warmup:
        return peak * rise(step, warmup)
    return floor * minimum + fall(peak, minimum) * shape(way(step, warmup, total))


E.mistake("the cosine is counted from step 0", way=lambda s, w, t: min(1.0, s / t)).why(
    "The fall begins where the warm-up ends. There the rate is `peak`, and not yet less."
)
E.mistake("the fall has the wrong length", way=lambda s, w, t: min(1.0, (s - w) / t)).why(
    "From the end of the warm-up to `total` there are total - warmup steps."
)
E.mistake("the half is missing", shape=lambda way: 1 + math.cos(math.pi * way)).why(
    "1 + cos goes from 2 to 0, so the rate jumps to twice the height after the warm-up."
)
E.mistake("the bare cosine goes below zero", shape=lambda way: math.cos(math.pi * way)).why(
    "The cosine goes from 1 to -1. What is wanted goes from 1 to 0."
)
E.mistake(
    "a quarter of a wave, not half of one", shape=lambda way: math.cos(math.pi / 2 * way)
).why("The curve should be flat at both of its ends.")
E.mistake("a straight line, not a cosine", shape=lambda way: 1 - way).why(
    "It should fall slowly at first, fast in the middle, slowly at the end."
)
E.mistake("it never reaches the minimum", fall=lambda peak, minimum: peak, floor=0.0).why(
    "At `total` the rate should be `minimum`, not 0."
)
E.mistake("the minimum is added on top of the peak", fall=lambda peak, minimum: peak).why(
    "Right after the warm-up the rate is above `peak`. How high is the fall?"
)
E.mistake("the warm-up begins at the peak", rise=lambda s, w: 1.0).why(
    "At step 0 the rate should be 0."
)
E.mistake("the warm-up is one step ahead", rise=lambda s, w: (s + 1) / w).why(
    "Step 0 should have rate 0, and step `warmup` the peak."
)
E.mistake("after the end it rises again", way=lambda s, w, t: (s - w) / (t - w)).why(
    "A cosine is a wave: it comes back. After `total` the rate should stay."
)
E.mistake(
    "after the end it falls to 0", lambda s, p, w, t, m: 0.0 if s > t else rate(s, p, w, t, m)
).why("After `total` the rate should stay.")
E.cases(
    [
        (0, 1.0, 2, 10, 0.0),
        (1, 1.0, 2, 10, 0.0),
        (2, 1.0, 2, 10, 0.0),
        (2, 1.0, 2, 10, 0.2),
        (4, 1.0, 2, 10, 0.2),
        (6, 1.0, 2, 10, 0.2),
        (10, 1.0, 2, 10, 0.2),
        (13, 1.0, 2, 10, 0.2),
        (37, 5.0, 10, 90, 0.5),
        (4000, 8e-5, 8000, 1_200_000, 8e-7),
        (600_000, 8e-5, 8000, 1_200_000, 8e-7),
        (1_300_000, 8e-5, 8000, 1_200_000, 8e-7),
    ]
)
