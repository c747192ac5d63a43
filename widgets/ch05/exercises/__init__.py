"""Chapter 05, exercises 1 to 3 (schedule, sums, parts of a batch), and the table of all seven."""

import math
from collections.abc import Callable
from numbers import Real

import torch
import torch.nn.functional as F
from torch import Tensor

from widgets.ch05.exercises.hints import HINTS
from widgets.ch05.exercises.races import check_rank, check_recipe
from widgets.ch05.exercises.runs import check_bugs, check_stages, table_of
from widgets.core.judge import Case, Known, Mistake, diagnose, run

__all__ = ["CHECKS", "HINTS"]


# 05.1 the schedule ----------------------------------------------------------------------------


def _rate(step: int, peak: float, warmup: int, total: int, minimum: float) -> float:
    return _shaped(lambda way: 0.5 * (1 + math.cos(math.pi * way)))(
        step, peak, warmup, total, minimum
    )


def _shaped(
    shape: Callable[[float], float],
    *,
    way: Callable[[int, int, int], float] = lambda s, w, t: min(1.0, (s - w) / (t - w)),
    rise: Callable[[int, int], float] = lambda s, w: s / w,
    lift: Callable[[float, float], float] = lambda peak, minimum: peak - minimum,
    base: float = 1.0,
) -> Callable:
    """A schedule from its parts: shape of the fall, way along it, rise, and height."""

    def schedule(step: int, peak: float, warmup: int, total: int, minimum: float) -> float:
        if step < warmup:
            return peak * rise(step, warmup)
        return base * minimum + lift(peak, minimum) * shape(way(step, warmup, total))

    return schedule


def _cosine(way: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * way))


def _zero_after(step: int, peak: float, warmup: int, total: int, minimum: float) -> float:
    return 0.0 if step > total else _rate(step, peak, warmup, total, minimum)


_RATE_KNOWN = [
    Known(
        "the cosine is counted from step 0",
        _shaped(_cosine, way=lambda s, w, t: min(1.0, s / t)),
        "The fall begins where the warm-up ends. There the rate is `peak`, and not yet less.",
    ),
    Known(
        "the fall has the wrong length",
        _shaped(_cosine, way=lambda s, w, t: min(1.0, (s - w) / t)),
        "From the end of the warm-up to `total` there are total - warmup steps.",
    ),
    Known(
        "the half is missing",
        _shaped(lambda way: 1 + math.cos(math.pi * way)),
        "1 + cos goes from 2 to 0, so the rate jumps to twice the height after the warm-up.",
    ),
    Known(
        "the bare cosine goes below zero",
        _shaped(lambda way: math.cos(math.pi * way)),
        "The cosine goes from 1 to -1. What is wanted goes from 1 to 0.",
    ),
    Known(
        "a quarter of a wave, not half of one",
        _shaped(lambda way: math.cos(math.pi / 2 * way)),
        "The curve should be flat at both of its ends.",
    ),
    Known(
        "a straight line, not a cosine",
        _shaped(lambda way: 1 - way),
        "It should fall slowly at first, fast in the middle, slowly at the end.",
    ),
    Known(
        "it never reaches the minimum",
        _shaped(_cosine, lift=lambda peak, minimum: peak, base=0.0),
        "At `total` the rate should be `minimum`, not 0.",
    ),
    Known(
        "the minimum is added on top of the peak",
        _shaped(_cosine, lift=lambda peak, minimum: peak),
        "Right after the warm-up the rate is above `peak`. How high is the fall?",
    ),
    Known(
        "the warm-up begins at the peak",
        _shaped(_cosine, rise=lambda s, w: 1.0),
        "At step 0 the rate should be 0.",
    ),
    Known(
        "the warm-up is one step ahead",
        _shaped(_cosine, rise=lambda s, w: (s + 1) / w),
        "Step 0 should have rate 0, and step `warmup` the peak.",
    ),
    Known(
        "after the end it rises again",
        _shaped(_cosine, way=lambda s, w, t: (s - w) / (t - w)),
        "A cosine is a wave: it comes back. After `total` the rate should stay.",
    ),
    Known("after the end it falls to 0", _zero_after, "After `total` the rate should stay."),
]


def check_rate(answer: object) -> None:
    """Judge `rate(step, peak, warmup, total, minimum)`."""
    if not callable(answer):
        raise Mistake("check needs the function", why="Call check('05.1', rate).")
    inputs = [
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
    names = ("step", "peak", "warmup", "total", "minimum")
    cases = [
        Case(row, ", ".join(f"{n}={v:g}" for n, v in zip(names, row, strict=True)))
        for row in inputs
    ]
    found = run(answer, cases[0], "rate")
    if isinstance(found, bool) or not isinstance(_number(found), Real):
        why = f"{type(found).__name__} came."
        raise Mistake("rate: a number is needed", shows=cases[0].shows, why=why)
    diagnose(_snapped(answer), _rate, cases, _RATE_KNOWN, what="rate")


def _snapped(schedule: Callable) -> Callable:
    """The schedule; a result within rounding of a right or a known one becomes that one."""

    def snapped(step: int, peak: float, *rest: float) -> object:
        result = _number(schedule(step, peak, *rest))
        if not isinstance(result, Real):
            return result
        for function in (_rate, *(known.function for known in _RATE_KNOWN)):
            near = function(step, peak, *rest)
            if abs(result - near) <= 2e-6 * peak:
                return near
        return float(result)

    return snapped


def _number(value: object) -> object:
    """A tensor or array of one element as a number; all else as it is."""
    return value.item() if getattr(value, "shape", None) == () else value


# 05.2 sums ------------------------------------------------------------------------------------

_SUMS = {"steps": 252 / 4, "share of warm-up": 252 / 4 / 8000, "annealing steps": 40 / 16}
_BINARY = "4M is 4,000,000 here, not 2 to the 22nd. The exercise says decimal millions."
_SUMS_KNOWN: dict[str, list[tuple[float, str, str]]] = {
    "steps": [
        (252e6 / 2**22, "binary millions", _BINARY),
        (252 / 8, "the batch of a later phase", "Which batch was used while these were read?"),
        (252 / 16, "the batch of a later phase", "Which batch was used while these were read?"),
        (
            252e9 / 4e6,
            "billions, not millions",
            "252M is printed, small as it looks.",
        ),
        (252e6 / 4e6 / 4096, "sequences, not tokens", "4M counts tokens. The length is in it."),
    ],
    "share of warm-up": [
        (100 * 252 / 4 / 8000, "percent, not a share", "A share is from 0 to 1."),
        (8000 / (252 / 4), "the fraction is upside down", "How much of the warm-up is it?"),
        (252e6 / 2**22 / 8000, "binary millions", _BINARY),
        (252 / 4 / 1_200_000, "a share of the whole run", "The warm-up has 8,000 steps."),
    ],
    "annealing steps": [
        (40e6 / 2**24, "binary millions", _BINARY),
        (40 / 4, "the batch of an earlier phase", "The annealing comes last, with the last batch."),
        (40 / 8, "the batch of an earlier phase", "The annealing comes last, with the last batch."),
        (
            40e9 / 16e6,
            "billions, not millions",
            "40M is printed, small as it looks.",
        ),
        (16 / 40, "the fraction is upside down", "Tokens divided by tokens a step gives steps."),
    ],
}


def check_sums(answer: object) -> None:
    """Judge the three numbers of the paper's arithmetic."""
    given = table_of(answer, tuple(_SUMS), "numbers")
    for name, want in _SUMS.items():
        value = given[name]
        if value is None:
            raise Mistake(f"{name!r} has no number yet")
        if isinstance(value, bool) or not isinstance(value, Real):
            raise Mistake(f"{name!r} is no number", shows=repr(value))
        if math.isclose(value, want, rel_tol=4e-3):
            continue
        shows = f"{name!r}: {value}"
        for wrong, told, why in _SUMS_KNOWN[name]:
            if math.isclose(value, wrong, rel_tol=1e-2):
                raise Mistake(f"{name}: {told}", shows=shows, why=why)
        if math.isclose(value, want, rel_tol=0.25) or value == round(want):
            why = "Keep the digits: nothing says that it comes out even."
            raise Mistake(f"{name}: rounded", shows=shows, why=why)
        why = "Divide tokens by tokens a step." if "share" not in name else "Divide steps by steps."
        raise Mistake(f"{name}: another number", shows=shows, why=why)


# 05.3 parts of a batch ------------------------------------------------------------------------

Parts = list[Tensor]


def _sums(logits: Parts, targets: Parts) -> Parts:
    return [
        F.cross_entropy(x.flatten(0, 1), y.flatten(), reduction="sum")
        for x, y in zip(logits, targets, strict=True)
    ]


def _count(target: Tensor) -> int:
    return int((target != -100).sum())


def _over(divisor: Callable[[Parts, int], float]) -> Callable[[Parts, Parts], Parts]:
    """The sum of each part, divided by something that is made of all targets and its number."""

    def losses(logits: Parts, targets: Parts) -> Parts:
        return [s / divisor(targets, i) for i, s in enumerate(_sums(logits, targets))]

    return losses


_losses = _over(lambda targets, i: sum(map(_count, targets)))


def _ignored_scored(logits: Parts, targets: Parts) -> Parts:
    return _losses(logits, [y.clamp(min=0) for y in targets])


def _ignored_scored_fewer(logits: Parts, targets: Parts) -> Parts:
    sums = _sums(logits, [y.clamp(min=0) for y in targets])
    return [s / sum(map(_count, targets)) for s in sums]


_PARTS_KNOWN = [
    Known(
        "a mean of means",
        _over(lambda targets, i: torch.tensor(_count(targets[i])) * len(targets)),
        "A target in a part with few of them weighs more than one in a part with many.",
    ),
    Known(
        "the means of the parts are added",
        _over(lambda targets, i: torch.tensor(_count(targets[i]))),
        "The sum grows with the number of parts.",
    ),
    Known(
        "divided by the number of parts",
        _over(lambda targets, i: len(targets)),
        "A mean over targets is divided by the number of targets.",
    ),
    Known(
        "ignored targets are counted",
        _over(lambda targets, i: sum(y.numel() for y in targets)),
        "Targets of -100 are not scored, so they must not be counted either.",
    ),
    Known(
        "only summed",
        _over(lambda targets, i: 1),
        "The loss of a larger batch would be larger.",
    ),
    Known(
        "divided by the count of the first part",
        _over(lambda targets, i: _count(targets[0])),
        "All parts need one divisor, but that of the whole batch.",
    ),
    Known(
        "divided by the count of the largest part",
        _over(lambda targets, i: max(map(_count, targets))),
        "All parts need one divisor, but that of the whole batch.",
    ),
    Known(
        "means of parts weighed by their size with padding",
        lambda logits, targets: [
            s / _count(y) * y.numel() / sum(t.numel() for t in targets)
            for s, y in zip(_sums(logits, targets), targets, strict=True)
        ],
        "Weigh a part by its targets that count.",
    ),
    Known("ignored targets are scored", _ignored_scored, "A target of -100 gives no loss."),
    Known("ignored targets are scored", _ignored_scored_fewer, "A target of -100 gives no loss."),
]


def _batch(draw: torch.Generator, *parts: tuple[int, int, int]) -> tuple[Parts, Parts]:
    """Random parts of (rows, length, ignored targets)."""
    logits, targets = [], []
    for rows, length, ignored in parts:
        logits.append(torch.randn(rows, length, 7, generator=draw))
        target = torch.randint(7, (rows * length,), generator=draw)
        target[torch.randperm(rows * length, generator=draw)[:ignored]] = -100
        targets.append(target.view(rows, length))
    return logits, targets


def check_losses(answer: object) -> None:
    """Judge `losses(logits_parts, targets_parts)`: values, then gradients."""
    if not callable(answer):
        raise Mistake("check needs the function", why="Call check('05.3', losses).")
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
    cases = [Case(_batch(draw, *parts), shows) for shows, parts in told.items()]
    found = run(_apart(answer), cases[2], "losses")
    if isinstance(found, float | Tensor) and not getattr(found, "shape", ()):
        why = "One loss for each part is asked for: each part is run backward by itself."
        raise Mistake("one loss for the whole batch", shows=cases[2].shows, why=why)
    diagnose(_listed(answer), _listed(_losses), cases, _PARTS_KNOWN, what="losses")
    logits, targets = _batch(draw, (1, 3, 1), (2, 2, 0))
    leaves = [x.requires_grad_() for x in logits]
    found = run(lambda: sum(answer(logits, targets)), Case((), "two parts"), "losses")
    if not isinstance(found, Tensor) or not found.requires_grad:
        why = "Return tensors that came from the logits: no item(), no detach(), no new tensor."
        raise Mistake("the losses have no gradient", shows="sum(losses).backward()", why=why)
    got = torch.autograd.grad(found, leaves, allow_unused=True)
    want = torch.autograd.grad(sum(_losses(logits, targets)), leaves)
    for part, (one, other) in enumerate(zip(got, want, strict=True), start=1):
        if one is None or not torch.allclose(one, other, atol=1e-6):
            raise Mistake("the gradient differs from the whole batch's", shows=f"part {part} of 2")


def _apart(function: Callable) -> Callable:
    """The function on copies, so that one that writes into its input spoils nothing."""
    return lambda logits, targets: function(
        [x.clone() for x in logits], [y.clone() for y in targets]
    )


def _listed(function: Callable) -> Callable:
    """The function with its result as scalars in a list."""

    def listed(logits: Parts, targets: Parts) -> object:
        result = _apart(function)(logits, targets)
        if isinstance(result, Tensor):
            result = list(result) if result.dim() else [result]
        if isinstance(result, list | tuple):
            numbers = (int, float)
            return [torch.tensor(float(v)) if isinstance(v, numbers) else v for v in result]
        return result

    return listed


CHECKS: dict[str, Callable[[object], None]] = {
    "05.1": check_rate,
    "05.2": check_sums,
    "05.3": check_losses,
    "05.4": check_bugs,
    "05.5": check_stages,
    "05.6": check_rank,
    "05.7": check_recipe,
}
