"""Exercise 05.4: six loss curves, and the bug behind each."""

import json
from collections.abc import Mapping
from functools import cache

from llama3lib.train.config import ASSETS
from widgets.core.exercise import Exercise
from widgets.core.judge import Mistake

E = Exercise(
    "05.4",
    values=tuple("ABCDEF"),
    hints=(
        "Two losses are drawn. A bug in the data parts them; a bug in the loop moves both.",
        "Sort them first. Which one is good on the training text only? Which two are too good to "
        "be true, and which of them has to learn something before it is? Which ones are worse than "
        "the healthy run: one that turns up, one that is flat from early on, one that is flat from "
        "late on?",
        "Too good at once: an answer that stands in the question. Too good after a while: an "
        "answer that stands one place ahead. Flat from a round number of steps on: look at the "
        "schedule. Flat near 3 nats: it jumps over every valley. Up again: what adds up?",
    ),
)
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


@E.rule
def _bugs_are_told_apart(given: Mapping) -> None:
    named = {letter: bug for letter, bug in given.items() if bug is not None}
    for letter, bug in named.items():
        if not isinstance(bug, str) or bug not in BUGS:
            allowed = "; ".join(BUGS)
            raise Mistake(f"{letter}: {bug!r} is not one of the bugs", why=f"Allowed: {allowed}.")
    for letter, want in _stored()["bugs"].items():
        if (bug := named.get(letter, want)) != want:
            raise Mistake(f"curve {letter} is not {bug!r}", why=_LOOKS[bug])
    if left := [letter for letter in given if letter not in named]:
        why = "Those that you named are right."
        raise Mistake(f"{', '.join(left)}: no bug named yet", why=why)
