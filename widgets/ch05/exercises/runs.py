"""Chapter 05, exercises 4 and 5: curves with planted bugs, and stages that are really trained."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from numbers import Real
from pathlib import Path

import torch

from llama3lib.checkpoint import load_model
from llama3lib.data.tokens import TokenShard
from llama3lib.eval import copy_grid
from llama3lib.model import Transformer
from llama3lib.train import TrainConfig, Trainer, ablations
from llama3lib.train.config import ASSETS
from llama3lib.worlds import domains
from widgets.core.judge import Mistake

_NEVER = 1_000_000


def table_of(answer: object, names: Sequence[str], what: str) -> Mapping:
    """The learner's dict with exactly these keys; all of them None counts as not tried."""
    if not isinstance(answer, Mapping):
        raise Mistake(f"a dict of {what} is needed", why=f"{type(answer).__name__} came.")
    missing, foreign = set(names) - set(answer), set(answer) - set(names)
    if foreign:
        why = f"Allowed: {', '.join(names)}."
        raise Mistake(f"{sorted(map(str, foreign))[0]!r} is not one of the keys", why=why)
    if all(answer.get(name) is None for name in names):
        raise NotImplementedError
    if missing:
        raise Mistake(f"{sorted(missing)[0]!r} is missing")
    return answer


# 05.4 curves ----------------------------------------------------------------------------------

BUGS = {
    "labels not shifted": "each byte is asked for itself, not for the next one",
    "gradients never cleared": "zero_grad() is missing, so that gradients add up for ever",
    "no warm-up and too high a rate": "25 times the healthy rate, from the first step on",
    "the same batch again and again": "the loader gives the first batch in every step",
    "the future is visible": "attention has no causal mask",
    "the rate reaches 0 half-way": "the cosine was made for half as many steps",
}
_LOOKS = {
    "labels not shifted": "There the loss falls to nearly 0 within the first steps, on both texts: "
    "to name the byte that one has just read, nothing must be learned. Look at the first points.",
    "gradients never cleared": "There the loss falls as it should at first, then it turns and goes "
    "up, on both texts: each step is pushed by all gradients since the beginning. Look for a turn.",
    "no warm-up and too high a rate": "There the loss soon stays where it is, near 3 nats: as good "
    "as knowing how frequent each byte is, and no better. Look where the curve becomes flat.",
    "the same batch again and again": "There the loss on the training text falls to nearly 0, "
    "while that on held-out text turns and rises. Look at the gap between the two.",
    "the future is visible": "There the loss begins as the healthy one does, and then falls far "
    "below it on both texts, as soon as the model has found where to look. Look for the bend.",
    "the rate reaches 0 half-way": "There both losses follow the healthy ones, and from the middle "
    "on nothing changes any more. Look at the second half.",
}


@cache
def _stored() -> dict:
    return json.loads((ASSETS / "buggy-curves.json").read_text(encoding="utf-8"))


def buggy_curves() -> dict[str, dict[str, list[float]]]:
    """Losses of six runs with a bug each, "A" to "F", and of a healthy one, every 10 steps.

    Each has "train" and "held-out", in nats a byte. `scripts/make_buggy_curves.py` made them.
    """
    curves = _stored()["curves"]
    return {name: {kind: list(row) for kind, row in one.items()} for name, one in curves.items()}


def check_bugs(answer: object) -> None:
    """Judge the names given to curves A to F."""
    right = _stored()["bugs"]
    given = table_of(answer, tuple(right), "bugs")
    for letter, bug in given.items():
        if bug is not None and bug not in BUGS:
            allowed = "; ".join(BUGS)
            raise Mistake(f"{letter}: {bug!r} is not one of the bugs", why=f"Allowed: {allowed}.")
    for letter, want in right.items():
        if given[letter] is not None and given[letter] != want:
            bug = given[letter]
            raise Mistake(f"curve {letter} is not {bug!r}", why=_LOOKS[bug])
    if left := [letter for letter, bug in given.items() if bug is None]:
        why = "Those that you named are right."
        raise Mistake(f"{', '.join(left)}: no bug named yet", why=why)


# What is trained ------------------------------------------------------------------------------


@cache
def _room() -> tempfile.TemporaryDirectory:
    """A folder for data, removed when Python ends."""
    return tempfile.TemporaryDirectory(prefix="llama3-course-")


def folder(name: str) -> Path:
    return Path(_room().name) / name


def fit(
    config: TrainConfig, sources: Mapping[str, TokenShard], model: Transformer | None = None
) -> Transformer:
    """Train without leaving anything behind; an average of the last phase, if there is one."""
    config = replace(config, save_every=_NEVER, evaluate_every=_NEVER, device="cpu")
    with tempfile.TemporaryDirectory(prefix="llama3-course-") as folder:
        result = Trainer(config, sources, folder, model=model).fit()
    if average := result.averaged.get(config.phases[-1].name):
        result.model.load_state_dict(average)
    return result.model.eval()


def lengthen_table(model: Transformer, length: int) -> Transformer:
    model.args = model.args.replace(max_seq_len=max(length, model.args.max_seq_len))
    return model.to(torch.float32)  # makes the table of positions again


# 05.5 stages ----------------------------------------------------------------------------------

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


def check_stages(answer: object) -> None:
    """Judge {"stages": [(length, steps), ...], "short_share": ..., "theta": ...} by training it."""
    given = table_of(answer, ("stages", "short_share", "theta"), "settings")
    if given["stages"] is None or given["short_share"] is None:
        open_ = "stages" if given["stages"] is None else "short_share"
        raise Mistake(f"{open_!r} has no value yet", why="Only theta may stay None.")
    stages, share, theta = _plan(given)
    copied = train_stages(stages, share, theta)
    told = ", ".join(f"{copied[n]:.0%} at {n}" for n in copied)
    print(f"copied right: {told}; asked for: {SHORT_ENOUGH:.0%} and {LONG_ENOUGH:.0%}")
    shows = f"{stages}, short_share={share}, theta={theta}: {told}"
    if copied[64] < SHORT_ENOUGH:
        why = "What is not practised is lost. What else could each batch hold?"
        name = "short strings are forgotten" if share < 0.15 else "short strings have not recovered"
        raise Mistake(name, shows=shows, why=why)
    if copied[LONGEST] >= LONG_ENOUGH:
        return
    longest, steps = stages[-1]
    if longest < LONGEST:
        why = f"It was trained up to {longest}. The needle is looked for at {LONGEST}."
        raise Mistake("the last stage is not long enough", shows=shows, why=why)
    if sum(n for _, n in stages) <= MOST_STEPS // 2:
        why = f"{sum(n for _, n in stages)} steps were used, {MOST_STEPS} are allowed."
        raise Mistake("the stages have too few steps", shows=shows, why=why)
    if share > 0.6:
        why = "Most of each batch stays short. How should it learn the long strings?"
        raise Mistake("too little is long", shows=shows, why=why)
    why = f"{steps} steps are at {longest}. Share out the steps otherwise, or look at theta."
    raise Mistake("the longest strings are not copied", shows=shows, why=why)


def _plan(given: Mapping) -> tuple[Stages, float, float | None]:
    """The settings, checked for form and budget."""
    try:
        stages = [(length, steps) for length, steps in given["stages"]]
    except (TypeError, ValueError):
        why = "For example [(128, 10)]: ten steps at length 128."
        raise Mistake("stages is no list of pairs (length, steps)", why=why) from None
    if not stages or any(type(n) is not int or n < 1 for pair in stages for n in pair):
        raise Mistake("lengths and steps are whole numbers above 0", shows=repr(stages))
    share, theta = given["short_share"], given["theta"]
    if not isinstance(share, Real) or not 0 <= share <= 1:
        raise Mistake("short_share is not from 0 to 1", shows=repr(share))
    if theta is not None and (not isinstance(theta, Real) or not 0 < theta < 1e12):
        raise Mistake("theta is no base", shows=repr(theta), why="A number above 0, or None.")
    lengths = [length for length, _ in stages]
    total = sum(steps for _, steps in stages)
    if total > MOST_STEPS:
        raise Mistake("over the budget", shows=f"{total} steps; {MOST_STEPS} are allowed")
    if max(lengths) > LONGEST:
        raise Mistake("longer than needed", shows=f"{max(lengths)}; {LONGEST} is the longest")
    for before, after in pairwise([64, *lengths]):
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
    return stages, float(share), None if theta is None else float(theta)
