"""Exercise 03.2: the minimum of a parabola, and how sure one may be of it.

The best size is compared with the closed form. The interval is judged on many planted parabolas
whose best size is known: how often it holds that size, and how wide it is by the measure of the
closed-form standard error. So any honest bootstrap passes, whatever dice it throws.
"""

import math
from collections.abc import Callable
from functools import cache

import numpy as np

from llama3lib.scaling import fit_parabola
from widgets.ch03.exercises.numbers import near, numbers
from widgets.ch03.exercises.parabolas import (
    RESAMPLES,
    Planted,
    centred,
    groups,
    plain,
    plant,
    signature,
)
from widgets.core.exercise import Exercise
from widgets.core.judge import Case, Known, Mistake, run

E = Exercise(
    "03.2",
    "lowest_point",
    hints=(
        "The sizes lie evenly on a logarithmic axis, and that is where the curve is a parabola. "
        "For the interval: if the same runs were made again with other luck, which best sizes "
        "would come out?",
        "Fit loss over ln size, and take the vertex. Then, `resamples` times: the fitted curve, "
        "plus noise like what the fit left over, fitted anew. The vertices of these fits are the "
        "draws; 95 % of them lie between the two ends.",
        "a, b, c = np.polyfit(np.log(sizes), losses, 2); best = np.exp(-b / (2 * a)). fitted = "
        "np.polyval((a, b, c), np.log(sizes)); left = losses - fitted; in each draw fit fitted + "
        "rng.choice(left, len(left)), with rng = np.random.default_rng(seed) made once. Ends: "
        "np.percentile(draws, [2.5, 97.5]).",
    ),
)
LEAST_HELD = 0.77
"""Share of the intervals that must hold the true size; honest ones hold it in 85 to 93 % here."""
WIDTHS = (0.885, 1.11)
"""Allowed width, as a share of 2 · 1.96 standard errors; honest bootstraps have 0.92 to 1.02."""
Ends = tuple[float, float, float]


def _vertex(sizes: np.ndarray, losses: np.ndarray) -> float:
    return fit_parabola(sizes, losses).best


def _error(left: np.ndarray) -> float:
    return math.sqrt(float(left @ left) / (len(left) - 3))


def _quantiles(low: float, high: float) -> Callable:
    return lambda best, places: np.quantile(places, [low, high])


_NINETY_FIVE = _quantiles(0.025, 0.975)


@E.reference
def lowest_point(
    sizes: np.ndarray,
    losses: np.ndarray,
    resamples: int,
    seed: int,
    *,
    vertex: Callable[[np.ndarray, np.ndarray], float] = _vertex,
    spread: Callable[[np.ndarray], float] = _error,
    ends: Callable = _NINETY_FIVE,
) -> Ends:
    """Best size, and an interval: ends of what new parabolas give, with normal noise, in ln size.

    vertex: from sizes and losses. spread: of the noise, from what the fit leaves over.
    """
    design, middle = centred(sizes)
    solve = np.linalg.pinv(design)
    fitted = design @ (solve @ losses)
    rng = np.random.default_rng(seed)
    noise = spread(losses - fitted) * rng.normal(size=(resamples, len(sizes)))
    _, slope, bend = solve @ (fitted + noise).T
    low, high = ends(math.log(_vertex(sizes, losses)), middle - slope / (2 * bend))
    return vertex(sizes, losses), math.exp(min(low, 700)), math.exp(min(high, 700))


def ask(function: Callable, one: Planted, resamples: int, seed: int) -> Ends:
    """What the learner's function says of planted runs."""
    case = Case(
        (one.sizes, one.losses, resamples, seed), f"{one.shows}, resamples={resamples}, seed={seed}"
    )
    with np.errstate(all="ignore"):
        result = run(function, case, "lowest_point")
    return numbers(result, ("best size", "low", "high"), "lowest_point", case.shows)


# The best size ----------------------------------------------------------------------------------


def _best_cases() -> list[Case]:
    return [Case((one.sizes, one.losses, 4, 1), one.shows) for one in plain()]


def _best_of(function: Callable, sizes: np.ndarray, losses: np.ndarray, *dice: int) -> float:
    return ask(function, Planted(sizes, losses, true=math.nan), *dice)[0]


def _fit(formula: Callable[[float, float, float], float]) -> Callable:
    """A size from bend, slope and height of the parabola over ln size."""
    return lambda sizes, losses: math.exp(formula(*np.polyfit(np.log(sizes), losses, 2)))


def _over_sizes(sizes: np.ndarray, losses: np.ndarray) -> float:
    unit = sizes.mean()
    bend, slope, _ = np.polyfit(sizes / unit, losses, 2)
    return float(-slope / (2 * bend) * unit)


def _of_three(sizes: np.ndarray, losses: np.ndarray) -> float:
    lowest = np.argsort(losses)[:3]
    return _fit(lambda bend, slope, _: -slope / (2 * bend))(sizes[lowest], losses[lowest])


best = E.part(
    "best size", through=_best_of, tolerance=0.02, otherwise=("lowest_point: another best size", "")
)
best.mistake("a parabola over the sizes, not over their logarithms", vertex=_over_sizes).why(
    "The sizes lie evenly on a logarithmic axis, and so does the curve's symmetry."
)
best.mistake(
    "the best of the sizes tried", vertex=lambda sizes, losses: sizes[losses.argmin()]
).why("The minimum of the curve may lie between two runs, and noise picks a wrong one.")
best.mistake("the sign of the vertex", vertex=lambda sizes, losses: 1 / _vertex(sizes, losses)).why(
    "At the minimum the slope b + 2 a x is 0."
)
best.mistake(
    "the half is missing in the vertex", vertex=lambda sizes, losses: _vertex(sizes, losses) ** 2
).why("The slope of a x² is 2 a x.")
for formula in (
    lambda bend, slope, _: -bend / (2 * slope),
    lambda bend, slope, height: -slope / (2 * height),
):
    best.mistake("bend and slope are mixed up", vertex=_fit(formula)).why(
        "np.polyfit gives the highest power first."
    )
for power in (1 / math.log(10), math.log(10)):
    best.mistake(
        "ln and log10 are mixed up",
        vertex=lambda sizes, losses, power=power: _vertex(sizes, losses) ** power,
    ).why("exp undoes ln; log10 is undone by a power of 10.")
best.mistake(
    "the logarithm is not undone", vertex=lambda sizes, losses: math.log(_vertex(sizes, losses))
).why("A size is wanted, not its logarithm.")
best.mistake(
    "the lowest loss, not the best size",
    vertex=lambda sizes, losses: fit_parabola(sizes, losses).lowest,
).why("Where is the minimum, not how low?")
best.mistake(
    "the middle is not added again",
    vertex=lambda sizes, losses: _vertex(sizes, losses) / math.exp(np.log(sizes).mean()),
).why("The parabola was fitted around the mean of ln size. Move its vertex back.")
best.mistake("only the three lowest runs are fitted", vertex=_of_three).why(
    "Three points are met exactly, with all their noise. Use every run."
)
best.cases(_best_cases)

nearly = E.part(
    "best size",
    through=_best_of,
    tolerance=1e-6,
    otherwise=(
        "near the minimum, but not at it",
        "It is near. Was it looked for on a grid? The vertex of a parabola has a formula.",
    ),
)
nearly.mistake(
    "a parabola of the logarithm of the loss",
    vertex=lambda sizes, losses: _vertex(sizes, np.log(losses)),
).why("Only the size is put on a logarithmic axis.")
nearly.cases(_best_cases)

# The interval: mistakes that one of them shows ----------------------------------------------------


@E.rule
def _ends_are_sizes(function: Callable) -> None:
    """Order, unit, ends that were no result of a fit."""
    one = plant(5, 20, 0.002)
    best, low, high = ask(function, one, 100, 3)
    shows = f"{one.shows}, resamples=100, seed=3"
    told = f"Yours: best {best:.4g}, low {low:.4g}, high {high:.4g}."
    for name, undo in (("ln", math.exp), ("log10", lambda v: 10**v)):
        if all(abs(v) < 100 and near(undo(v), best, 0.5) for v in (low, high)):
            why = f"{told} They are {name} of a size. Undo the logarithm."
            raise Mistake("the interval is still in logarithms", shows=shows, why=why)
    least, most = one.losses.min(), one.losses.max()
    if best > 100 and all(0.5 * least < v < 2 * most for v in (low, high)):
        why = f"{told} Ask each draw for its best size."
        raise Mistake("the interval is of the loss, not of the size", shows=shows, why=why)
    if any(abs(v) < best / 100 for v in (low, high)) and abs(high - low) < best:
        why = f"{told} Low and high are sizes themselves, not distances from the best one."
        raise Mistake("the ends are no sizes", shows=shows, why=why)
    if low > high:
        raise Mistake("low and high are swapped", shows=shows, why=told)
    if low == high:
        why = f"{told} New noise on the curve gives another parabola each time."
        raise Mistake("all draws are alike", shows=shows, why=why)
    if all(np.isclose(v, one.sizes, rtol=1e-9).any() for v in (low, high)):
        why = "Both ends are sizes that were tried. Fit a new parabola in each draw."
        raise Mistake("no new parabola in the draws", shows=shows, why=why)


@E.rule
def _is_sure_without_noise(function: Callable) -> None:
    exact = plant(6, 20, 0.0)
    best, low, high = ask(function, exact, 100, 3)
    if not (near(low, best, 1e-4) and near(high, best, 1e-4)):
        shows = f"{exact.shows}, all exactly on a parabola"
        why = (
            f"No point is off the curve, so there is no doubt. Yours: {low:.4g} to {high:.4g}. "
            "Noise is what the fitted curve leaves over; its bend is none."
        )
        raise Mistake("wide where there is no noise", shows=shows, why=why)


@E.rule
def _throws_its_dice(function: Callable) -> None:
    """Equal seeds, equal intervals; other seeds or draws, others."""
    one = plant(5, 20, 0.002)
    first, again = ask(function, one, 60, 3), ask(function, one, 60, 3)
    if first != again:
        why = "Make a generator from it: rng = np.random.default_rng(seed)."
        raise Mistake("other dice than the seed's", shows=f"{one.shows}, twice seed=3", why=why)
    if ask(function, one, 60, 4) == first:
        why = "Another seed gives the very same interval. Is anything drawn?"
        raise Mistake("the seed is not used", shows=f"{one.shows}, seed=3 and seed=4", why=why)
    if ask(function, one, 900, 3) == first:
        why = "60 and 900 resamples give the very same interval."
        raise Mistake("resamples is not used", shows=f"{one.shows}, seed=3", why=why)


# The interval: mistakes that many of them show ----------------------------------------------------

E.mistake("an interval of about 68 %", ends=_quantiles(0.16, 0.84)).why(
    "One standard deviation to each side is not enough for 95 %."
)
E.mistake("an interval of about 50 %", ends=_quantiles(0.25, 0.75)).why(
    "Between the quartiles lies half of the draws."
)
E.mistake("an interval of about 90 %", ends=_quantiles(0.05, 0.95)).why(
    "5 % on both sides together, not on each."
)
E.mistake("an interval of about 99 %", ends=_quantiles(0.005, 0.995)).why(
    "5 % of the draws should lie outside."
)
E.mistake(
    "from the least to the most of all draws",
    ends=lambda best, places: (places.min(), places.max()),
).why("It grows with the number of resamples. 5 % of the draws should lie outside.")
E.mistake("percent are taken for shares", ends=_quantiles(0.00025, 0.00975)).why(
    "np.percentile counts from 0 to 100, np.quantile from 0 to 1."
)
E.mistake(
    "the standard error of a mean",
    ends=lambda best, places: best + np.array([-1.96, 1.96]) * places.std() / len(places) ** 0.5,
).why("More resamples do not make the best size surer. Divide by no number of draws.")
E.mistake(
    "the noise is divided by the root of the number of runs",
    spread=lambda left: _error(left) / len(left) ** 0.5,
).why("Each run has the noise of one run, not that of their mean.")
E.mistake(
    "the variance is taken for the standard deviation", spread=lambda left: _error(left) ** 2
).why("Noise is drawn with a standard deviation. Is a root missing?")
E.mistake("only the lower half", ends=lambda best, places: (np.quantile(places, 0.025), best)).why(
    "The best size may be larger, too."
)


@E.rule
def _is_honest(function: Callable) -> None:
    judge(intervals(function))


def intervals(function: Callable, seed: int = 7) -> list[list[Ends]]:
    """What a function says of all planted parabolas of each group."""
    return [
        [ask(function, one, resamples, seed + i) for i, one in enumerate(planted)]
        for resamples, planted in zip(RESAMPLES, groups(), strict=True)
    ]


def judge(results: list[list[Ends]]) -> None:
    """Raise a `Mistake` unless the intervals hold the truth often enough, and are not wide."""
    pairs = [
        (one, got)
        for planted, told in zip(groups(), results, strict=True)
        for one, got in zip(planted, told, strict=True)
    ]
    held = sum(low <= one.true <= high for one, (_, low, high) in pairs) / len(pairs)
    seen = signature(results)
    width = float(seen[1].mean())  # many draws tell it better than few
    is_even = (np.abs(seen[1] - width) < 0.2).all()
    if held >= LEAST_HELD and WIDTHS[0] < width < WIDTHS[1] and is_even:
        return
    shows = pairs[0][0].shows
    told = f"On {len(pairs)} planted parabolas {held:.0%} of the intervals hold the true best size."
    away, known = min(
        ((_apart(made, seen), known) for known, made in _known_signatures()),
        key=lambda pair: pair[0],
    )
    if away < 0.12:
        raise Mistake(known.name, shows=shows, why=f"{told} {known.why}")
    if not is_even and held < 0.95:
        raise Mistake("the interval lies to one side", shows=shows, why=told)
    size = f"It is {width:.2f} times as wide as 1.96 standard errors to both sides."
    name = "the interval is too narrow" if width < 1 else "the interval is too wide"
    raise Mistake(name, shows=shows, why=f"{told} {size}")


@cache
def _known_signatures() -> list[tuple[Known, np.ndarray]]:
    return [(known, signature(intervals(known.function, 90))) for known in E.mistakes]


def _apart(known: np.ndarray, seen: np.ndarray) -> float:
    """How far two signatures are apart, as a share of the known one's size."""
    return float(np.abs(known - seen).max() / max(np.abs(known).max(), 1e-9))
