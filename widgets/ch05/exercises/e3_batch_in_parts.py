"""Exercise 05.3: a batch in parts, whose losses add up to that of the whole batch."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from widgets.core.exercise import Exercise
from widgets.core.forms import is_number, single
from widgets.core.judge import Case, Mistake, run

E = Exercise(
    "05.3",
    "losses",
    hints=(
        "The batch has one number of targets that count. Every part is divided by this number, "
        "whatever its own size is.",
        "First go over all targets, and count those that are not -100. Then go over the parts: the "
        "sum of the losses of each, divided by that count.",
        "valid = sum((t != -100).sum() for t in targets_parts), then F.cross_entropy(l.flatten(0, "
        "1), t.flatten(), reduction='sum') / valid for each pair. -100 is ignored by itself.",
    ),
)
Parts = list[Tensor]


def _count(target: Tensor) -> int:
    return int((target != -100).sum())


def _size(targets: Parts) -> int:
    return sum(y.numel() for y in targets)


@E.reference
def losses(
    logits_parts: Parts,
    targets_parts: Parts,
    *,
    divisor: Callable[[Parts, Tensor], float] = lambda targets, own: sum(map(_count, targets)),
    scored: Callable[[Tensor], Tensor] = lambda own: own,
) -> Parts:
    """The sum of each part, divided by something made of all targets and its own."""
    return [
        F.cross_entropy(x.flatten(0, 1), scored(y).flatten(), reduction="sum")
        / divisor(targets_parts, y)
        for x, y in zip(logits_parts, targets_parts, strict=True)
    ]


E.mistake("a mean of means", divisor=lambda targets, own: _count(own) * len(targets)).why(
    "A target in a part with few of them weighs more than one in a part with many."
)
E.mistake("the means of the parts are added", divisor=lambda targets, own: _count(own)).why(
    "The sum grows with the number of parts."
)
E.mistake("divided by the number of parts", divisor=lambda targets, own: len(targets)).why(
    "A mean over targets is divided by the number of targets."
)
E.mistake("ignored targets are counted", divisor=lambda targets, own: _size(targets)).why(
    "Targets of -100 are not scored, so they must not be counted either."
)
E.mistake("only summed", divisor=lambda targets, own: 1).why(
    "The loss of a larger batch would be larger."
)
E.mistake(
    "divided by the count of the first part", divisor=lambda targets, own: _count(targets[0])
).why("All parts need one divisor, but that of the whole batch.")
E.mistake(
    "divided by the count of the largest part",
    divisor=lambda targets, own: max(map(_count, targets)),
).why("All parts need one divisor, but that of the whole batch.")
E.mistake(
    "means of parts weighed by their size with padding",
    divisor=lambda targets, own: _count(own) / own.numel() * _size(targets),
).why("Weigh a part by its targets that count.")
E.mistake(
    "ignored targets are scored",
    scored=lambda own: own.clamp(min=0),
    divisor=lambda targets, own: _size(targets),
).why("A target of -100 gives no loss.")
E.mistake("ignored targets are scored", scored=lambda own: own.clamp(min=0)).why(
    "A target of -100 gives no loss."
)


def _batch(draw: torch.Generator, *parts: tuple[int, int, int]) -> tuple[Parts, Parts]:
    """Random parts of (rows, length, ignored targets)."""
    logits, targets = [], []
    for rows, length, ignored in parts:
        logits.append(torch.randn(rows, length, 7, generator=draw))
        target = torch.randint(7, (rows * length,), generator=draw)
        target[torch.randperm(rows * length, generator=draw)[:ignored]] = -100
        targets.append(target.view(rows, length))
    return logits, targets


@E.rule
def _one_loss_for_each_part(function: Callable) -> None:
    shows = "parts of 1 x 1 and 1 x 2 targets, all count"
    batch = _batch(torch.Generator().manual_seed(4), (1, 1, 0), (1, 2, 0))
    if is_number(single(run(function, Case(batch, shows), "losses"))):
        why = "One loss for each part is asked for: each part is run backward by itself."
        raise Mistake("one loss for the whole batch", shows=shows, why=why)


@E.cases
def _cases() -> list[Case]:
    draw = torch.Generator().manual_seed(5)
    told = {
        "one part of 1 x 2 targets, all count": [(1, 2, 0)],
        "one part of 1 x 3 targets, one of them -100": [(1, 3, 1)],
        "parts of 1 x 1 and 1 x 2 targets, all count": [(1, 1, 0), (1, 2, 0)],
        "parts of 1 x 3 and 1 x 2 targets; one of the first is -100": [(1, 3, 1), (1, 2, 0)],
        "parts of 2 x 5, 1 x 9 and 3 x 4 targets, some of them -100": [
            (2, 5, 4),
            (1, 9, 1),
            (3, 4, 6),
        ],
        "two parts; in the second no target counts": [(2, 3, 1), (1, 4, 4)],
    }
    return [Case(_batch(draw, *parts), shows) for shows, parts in told.items()]


@E.rule
def _gradients_are_those_of_the_whole(function: Callable) -> None:
    logits, targets = _batch(torch.Generator().manual_seed(6), (1, 3, 1), (2, 2, 0))
    leaves = [x.requires_grad_() for x in logits]
    found = run(lambda: sum(function(logits, targets)), Case((), "two parts"), "losses")
    if not isinstance(found, Tensor) or not found.requires_grad:
        why = "Return tensors that came from the logits: no item(), no detach(), no new tensor."
        raise Mistake("the losses have no gradient", shows="sum(losses).backward()", why=why)
    got = torch.autograd.grad(found, leaves, allow_unused=True)
    want = torch.autograd.grad(sum(losses(logits, targets)), leaves)
    for part, (one, other) in enumerate(zip(got, want, strict=True), start=1):
        if one is None or not torch.allclose(one, other, atol=1e-6):
            raise Mistake("the gradient differs from the whole batch's", shows=f"part {part} of 2")
