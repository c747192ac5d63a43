"""Chapter 09, exercise 6: how many prompt tokens to read in a step, under a limit on its time.

Small simulated servers call the learner's function step by step. Rules are looked at in each call:
the limit, the order, and that nothing waits for ever. Throughput is looked at over the whole work.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral

from widgets.ch09.exercises.plans import KNOWN, STARVES, Call, Pace, best
from widgets.core.judge import Case, Mistake, run

_WHAT = "plan_step"
SLOWER = 1.05
"""So much longer than the best the whole work may take."""


@dataclass(frozen=True)
class Workload:
    """Texts to come: when, tokens of the prompt, tokens to write."""

    texts: tuple[tuple[float, int, int], ...]
    pace: Pace
    limit: float


def simulate(plan: Callable[[Call], list[int]], work: Workload) -> float:
    """Seconds until all texts are written, with the steps that `plan` makes."""
    coming, now = sorted(work.texts), 0.0
    waiting: list[list[int]] = []
    writing: list[int] = []
    while coming or waiting or writing:
        if not waiting and not writing:
            now = max(now, coming[0][0])
        while coming and coming[0][0] <= now:
            waiting.append(list(coming.pop(0)[1:]))
        call = Call(len(writing), tuple(left for left, _ in waiting), work.pace, work.limit)
        read = plan(call)
        now += work.pace(call.decoding + sum(read))
        writing = [left - 1 for left in writing if left > 1]
        for text, count in zip(waiting, read, strict=True):
            text[0] -= count
        writing += [left - 1 for prompt, left in waiting if prompt == 0 and left > 1]
        waiting = [text for text in waiting if text[0] > 0]
    return now


def _workloads() -> list[Workload]:
    rng, found = random.Random(6), []
    for pace, limit, longest in (
        (Pace(0.02, 0.0005), 0.0651, 250),
        (Pace(0.03, 0.0005, roof=True), 0.0451, 200),
        (Pace(0.02, 0.002), 0.0361, 40),  # more texts than tokens fit
    ):
        for _ in range(2):
            texts = tuple(
                (rng.uniform(0, 0.4), rng.randint(3, longest), rng.randint(2, 30))
                for _ in range(14)
            )
            found.append(Workload(texts, pace, limit))
    return found


_SMALL = [
    Call(0, (1,), Pace(0, 1), 4.5),
    Call(1, (2,), Pace(0, 1), 4.5),
    Call(0, (2,), Pace(0, 1), 0.5),
    Call(1, (6,), Pace(0, 1), 4.5),
    Call(2, (3,), Pace(0, 1), 4.5),
    Call(3, (6,), Pace(0, 1), 2.5),
    Call(4, (6,), Pace(0, 1), 4.5),
    Call(1, (2, 6), Pace(0, 1), 4.5),
    Call(1, (6, 2), Pace(0, 1), 4.5),
    Call(1, (6, 2), Pace(1, 1), 6.5),
    Call(2, (3, 2, 4), Pace(4, 1, roof=True), 7.5),
    Call(2, (), Pace(0, 1), 4.5),
]


def check_plan_step(answer: Callable) -> None:
    """09.6: plan_step(decoding, prompts, seconds, limit)."""
    calls: list[tuple[Call, list[int]]] = []

    def asked(call: Call) -> list[int]:
        given = call.decoding, list(call.prompts), call.pace, call.limit
        read = _numbers(run(lambda: answer(*given), Case((), call.shows), _WHAT), call)
        calls.append((call, read))
        return read

    def served(call: Call) -> list[int]:
        read = asked(call)
        if not call.decoding and not any(read):
            raise _mistake(calls, _broken(calls))  # it would go on like this for ever
        return read

    for call in _SMALL:
        asked(call)
    late = max(simulate(served, work) / simulate(_best_of, work) for work in _workloads())
    if broken := _broken(calls):
        raise _mistake(calls, broken)
    if late > SLOWER:
        took = f"{late - 1:.0%} longer than" if late <= 3 else f"{late:.0f} times as long as"
        why = f"A whole workload took {took} it could, within the same limit."
        fewer = [call for call, read in calls if sum(read) < sum(_best_of(call))]
        raise _mistake(calls, [(call, ("fewer tokens are read than fit", why)) for call in fewer])


def _broken(calls: list[tuple[Call, list[int]]]) -> list[tuple[Call, tuple[str, str]]]:
    return [(call, rule) for call, read in calls if (rule := _rule(call, read))]


def _best_of(call: Call) -> list[int]:
    return best(call.decoding, list(call.prompts), call.pace, call.limit)


def _numbers(read: object, call: Call) -> list[int]:
    """The learner's result as whole numbers. Raises Mistake for anything else."""
    if not isinstance(read, list | tuple) or len(read) != len(call.prompts):
        why = "A list is needed with a number for each prompt."
        raise Mistake(f"{_WHAT}: one number for each prompt is needed", shows=call.shows, why=why)
    if not all(isinstance(n, Integral) for n in read):
        why = f"{read!r:.60} came."
        raise Mistake(f"{_WHAT}: whole numbers are needed", shows=call.shows, why=why)
    for count, prompt in zip(read, call.prompts, strict=True):
        if not 0 <= count <= prompt:
            why = f"{count} of a prompt of which {prompt} tokens are left."
            raise Mistake(
                "more tokens than the prompt has, or fewer than 0", shows=call.shows, why=why
            )
    return [int(n) for n in read]


def _rule(call: Call, read: list[int]) -> tuple[str, str] | None:
    """The rule that a call breaks, and why it is one."""
    open_ = [place for place, n in enumerate(read) if n < call.prompts[place]]
    if open_ and any(read[open_[0] + 1 :]):
        why = f"Prompt {open_[0]} is not done yet. First come, first served."
        return "a later prompt is read before an earlier one is done", why
    if not call.decoding:
        waits = call.prompts and not any(read)
        why = "No other step will ever be shorter: this prompt would wait for ever."
        return (STARVES, why) if waits else None
    if any(read) and not call.fits(call.decoding + sum(read)):
        why = (
            f"Yours reads {sum(read)}, and {call.decoding} are written: "
            f"{call.pace(call.decoding + sum(read)):g} seconds."
        )
        return "the step is longer than the limit", why
    return None


def _mistake(
    calls: list[tuple[Call, list[int]]], broken: list[tuple[Call, tuple[str, str]]]
) -> Mistake:
    """The known mistake that explains all calls so far, or else the rule; the smallest call.

    Waiting for ever comes last: most often something else is behind it.
    """
    call, (name, why) = min(broken, key=lambda entry: (entry[1][0] == STARVES, entry[0].size))
    for known in KNOWN:
        if all(
            list(known.function(c.decoding, list(c.prompts), c.pace, c.limit)) == read
            for c, read in calls
        ):
            if name == STARVES != known.name:  # a call where the mistake itself is seen
                fewer = [c for c, n in calls if c.decoding and sum(n) < sum(_best_of(c))]
                call = min(fewer, key=lambda c: c.size, default=call)
            return Mistake(known.name, shows=call.shows, why=known.why)
    return Mistake(name, shows=call.shows, why=why)
