"""Exercise 05.5: a longer context in stages, which are really trained."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from itertools import pairwise

from llama3lib.checkpoint import load_model
from llama3lib.data.tokens import TokenShard
from llama3lib.eval import copy_grid
from llama3lib.train import ablations
from llama3lib.worlds import domains
from widgets.ch05.exercises.training import fit, folder, lengthen_table
from widgets.core.exercise import Exercise
from widgets.core.forms import is_number
from widgets.core.judge import Mistake

E = Exercise(
    "05.5",
    values=("stages", "short_share", "theta"),
    hints=(
        "A little longer each time, and never without short strings. The last stage needs the most "
        "practice: its length is what is measured.",
        "Two or three stages up to 512 use the budget of 240 steps. About a third of each batch "
        "stays short. The section before has shown what a larger base does.",
        "stages=[(128, ...), (256, ...), (512, ...)] with half of the steps for the last one, "
        "short_share near 0.3, theta None or the paper's 500_000.",
    ),
)
MOST_STEPS, LONGEST, LARGEST_JUMP = 240, 512, 4
SYMBOLS_A_STEP = 1024
LONG_ENOUGH, SHORT_ENOUGH = 0.72, 0.72
Stages = list[tuple[int, int]]


@cache
def _copies(length: int) -> TokenShard:
    return domains.copy_shards(folder("copies"), (length,))[f"copy-{length}"]


def train_stages(
    stages: Stages, short_share: float, theta: float | None, seed: int = 0
) -> dict[int, float]:
    """Go on from `tiny-copier` by these stages; share copied right by length."""
    phases = []
    for length, steps in stages:
        made = ablations.longer_stages((length,), steps=steps, theta=theta, short_share=short_share)
        phases.append(replace(made[0], batch_size=max(1, SYMBOLS_A_STEP // length)))
    shards = {f"copy-{length}": _copies(length) for length in (64, *(n for n, _ in stages))}
    config = ablations.lengthen(ablations.short_copier(seed=seed), (), shards)
    optimizer = replace(config.optimizer, peak=1.3e-3, warmup=5, decay_steps=None)
    config = replace(config, phases=tuple(phases), optimizer=optimizer)
    model = lengthen_table(fit(config, shards, load_model("tiny-copier")), LONGEST)
    grid = copy_grid(model, lengths=(64, LONGEST), depths=(0.0,))
    return dict(zip(grid.lengths, (float(share) for share in grid.share[:, 0]), strict=True))


@E.rule
def _settings_are_allowed(given: Mapping) -> None:
    for name in ("stages", "short_share"):
        if given[name] is None:
            raise Mistake(f"{name!r} has no value yet", why="Only theta may stay None.")
    try:
        stages = [(length, steps) for length, steps in given["stages"]]
    except (TypeError, ValueError):
        why = "For example [(128, 10)]: ten steps at length 128."
        raise Mistake("stages is no list of pairs (length, steps)", why=why) from None
    if not stages or any(type(n) is not int or n < 1 for pair in stages for n in pair):
        raise Mistake("lengths and steps are whole numbers above 0", shows=repr(stages))
    share, theta = given["short_share"], given["theta"]
    if not is_number(share) or not 0 <= share <= 1:
        raise Mistake("short_share is not from 0 to 1", shows=repr(share))
    if theta is not None and not (is_number(theta) and 0 < theta < 1e12):
        raise Mistake("theta is no base", shows=repr(theta), why="A number above 0, or None.")
    if (total := sum(steps for _, steps in stages)) > MOST_STEPS:
        raise Mistake("over the budget", shows=f"{total} steps; {MOST_STEPS} are allowed")
    _check_lengths([64, *(length for length, _ in stages)])


def _check_lengths(lengths: list[int]) -> None:
    if max(lengths) > LONGEST:
        raise Mistake("longer than needed", shows=f"{max(lengths)}; {LONGEST} is the longest")
    for before, after in pairwise(lengths):
        if after <= before:
            why = "The copier begins at 64, and each stage is longer than the one before."
            raise Mistake("the lengths do not rise", shows=f"{before}, then {after}", why=why)
        if after > LARGEST_JUMP * before:
            why = (
                f"That is {after / before:g} times as long, in one go. The paper took six stages "
                f"for 16 times, with a gate after each (section 3.4.2). Here a stage may be at "
                f"most {LARGEST_JUMP} times as long as the one before."
            )
            raise Mistake("a straight jump", shows=f"{before}, then {after}", why=why)


@E.rule
def _short_and_long_strings_are_copied(given: Mapping) -> None:
    stages, share, theta = [tuple(pair) for pair in given["stages"]], *map(given.get, E.values[1:])
    copied = train_stages(stages, float(share), None if theta is None else float(theta))
    told = ", ".join(f"{copied[n]:.0%} at {n}" for n in copied)
    print(f"copied right: {told}; asked for: {SHORT_ENOUGH:.0%} and {LONG_ENOUGH:.0%}")
    shows = f"{stages}, short_share={share}, theta={theta}: {told}"
    if copied[64] < SHORT_ENOUGH:
        why = "What is not practised is lost. What else could each batch hold?"
        name = "short strings are forgotten" if share < 0.15 else "short strings have not recovered"
        raise Mistake(name, shows=shows, why=why)
    if copied[LONGEST] < LONG_ENOUGH:
        name, why = _why_not_long(stages, share)
        raise Mistake(name, shows=shows, why=why)


def _why_not_long(stages: Stages, share: float) -> tuple[str, str]:
    longest, steps = stages[-1]
    if longest < LONGEST:
        why = f"It was trained up to {longest}. The needle is looked for at {LONGEST}."
        return "the last stage is not long enough", why
    if (total := sum(n for _, n in stages)) <= MOST_STEPS // 2:
        why = f"{total} steps were used, {MOST_STEPS} are allowed."
        return "the stages have too few steps", why
    if share > 0.6:
        why = "Most of each batch stays short. How should it learn the long strings?"
        return "too little is long", why
    why = f"{steps} steps are at {longest}. Share out the steps otherwise, or look at theta."
    return "the longest strings are not copied", why
