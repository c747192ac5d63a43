"""Exercise 02.6: the best mix of three sources, from five small runs."""

import random
from collections.abc import Callable, Mapping, Sequence

from llama3lib.data.mixture import MixLaw, best_mix
from widgets.core.exercise import Exercise
from widgets.core.forms import is_number
from widgets.core.judge import Case, Mistake, run

E = Exercise(
    "02.6",
    "best_mix",
    hints=(
        "The best mix is hardly ever one of those you tried. Five runs are points of a surface.",
        "For each held-out set fit loss = floor + exp(sum of weight x share) to the runs. Then "
        "look for the least mean of these laws among all mixes. Keep every share at 0.05 or more.",
        "laws = [fit_mix_law(mixes, [row[name] for row in losses]) for name in losses[0]], then "
        "llama3lib.data.mixture.best_mix(laws), or a double loop over shares in steps of 0.05.",
    ),
)
Mix = dict[str, float]
Losses = dict[str, float]
NAMES = ("code", "maths", "prose")


def planted_runs(seed: int) -> tuple[list[Mix], list[Losses], list[MixLaw]]:
    """Five small runs on mixes of three sources, from three laws that are known."""
    draw = random.Random(seed)
    laws = []
    for own in NAMES:
        weights = [draw.uniform(-0.6, 0.3) for _ in NAMES]
        weights[NAMES.index(own)] = draw.uniform(-5.0, -2.0)
        laws.append(MixLaw(NAMES, draw.uniform(0.5, 0.9), tuple(weights)))
    rows = [(0.6, 0.2, 0.2), (0.2, 0.6, 0.2), (0.2, 0.2, 0.6), (0.5, 0.4, 0.1), (0.1, 0.3, 0.6)]
    mixes = [dict(zip(NAMES, row, strict=True)) for row in rows]
    losses = [
        {own: law.predict(mix) for own, law in zip(NAMES, laws, strict=True)} for mix in mixes
    ]
    return mixes, losses, laws


def _mean_loss(laws: Sequence[MixLaw], mix: Mix) -> float:
    return sum(law.predict(mix) for law in laws) / len(laws)


@E.rule
def _no_mix_is_better(function: Callable) -> None:
    for seed in (5, 6, 7):
        mixes, losses, laws = planted_runs(seed)
        means = [sum(row.values()) / len(row) for row in losses]
        shows = f"five runs with mean losses {[round(loss, 3) for loss in means]}"
        mix = run(function, Case((mixes, losses), shows), "best_mix")
        _check_shares(mix, shows)
        if mix in mixes:
            why = "The best of the five runs is not the best of all mixes: predict the others."
            raise Mistake("one of the runs is returned", shows=shows, why=why)
        reached, best = _mean_loss(laws, mix), _mean_loss(laws, best_mix(laws))
        if max(mix.values()) > 0.85 and reached > best + 0.02:
            why = "A straight line has its least value in a corner; the law is bent."
            raise Mistake("nearly all goes to one source", shows=shows, why=why)
        if reached >= max(means):
            raise Mistake("the worst mix is found", shows=shows, why="Lower loss is better.")
        if reached > best + 0.02:
            why = f"Yours would give a mean loss of {reached:.3f}."
            raise Mistake("a better mix exists", shows=shows, why=why)


def _check_shares(mix: object, shows: str) -> None:
    shares = list(mix.values()) if isinstance(mix, Mapping) and set(mix) == set(NAMES) else [None]
    if not all(map(is_number, shares)):
        raise Mistake("best_mix: a share for each source is needed", shows=shows)
    if not abs(sum(shares) - 1) <= 1e-6:
        raise Mistake("shares do not sum to 1", shows=shows, why=f"They sum to {sum(shares)}.")
    if min(shares) < 0.05 - 1e-9:
        raise Mistake("a source gets less than 0.05", shows=shows, why="Keep a little of each.")
