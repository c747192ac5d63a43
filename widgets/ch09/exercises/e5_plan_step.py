"""Exercise 09.5: how many prompt tokens to read in a step, under a limit on its time.

Small simulated servers call the learner's function step by step. Rules are looked at in each call:
the limit, the order, and that nothing waits for ever. Throughput is looked at over the whole work.
"""

from collections.abc import Callable, Sequence
from functools import partial

from widgets.ch09.exercises.servers import Call, Pace, simulate, workloads
from widgets.core.exercise import Exercise
from widgets.core.forms import has_floats_for_wholes, like
from widgets.core.judge import Case, Mistake, run

E = Exercise(
    "09.5",
    "plan_step",
    hints=(
        "How many tokens of prompts fit into the step beside those of the texts being written? And "
        "once you know the number, who gets them?",
        "Two questions, one after the other. First the number: seconds grows, so halve the range "
        "between 0 and all prompt tokens, and ask for decoding + number. Then hand it out in "
        "order: each prompt takes what it needs until nothing is left. And what if nothing is "
        "being written and the number is 0?",
        "low, high = 0, sum(prompts); while low < high: middle = (low + high + 1) // 2; if "
        "seconds(decoding + middle) <= limit then low = middle, else high = middle - 1. If "
        "decoding is 0 and prompts wait, at least 1. Then for each prompt: take min(prompt, left), "
        "and subtract it from left.",
    ),
)
SLOWER = 1.05
"""So much longer than the best the whole work may take."""
Plan = Callable[[int, list[int], Callable[[int], float], float], list[int]]


def _most(decoding: int, total: int, pace: Callable, limit: float) -> int:
    """The most prompt tokens with which the step stays within the limit."""
    low, high = 0, total
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if pace(decoding + middle) <= limit else (low, middle - 1)
    return low


def _in_order(total: int, prompts: Sequence[int]) -> list[int]:
    given = []
    for prompt in prompts:
        given.append(max(0, min(prompt, total)))
        total -= given[-1]
    return given


@E.reference
def plan_step(
    decoding: int,
    prompts: list[int],
    seconds: Callable[[int], float],
    limit: float,
    *,
    share: Callable[[int, Sequence[int]], list[int]] = _in_order,
    most: Callable[[int, int, Callable, float], int] = _most,
    at_least: Callable[[int], int] = lambda decoding: int(decoding == 0),
) -> list[int]:
    """The best plan, from its parts."""
    total = sum(prompts)
    count = max(most(decoding, total, seconds, limit), at_least(decoding))
    return share(min(count, total), prompts)


def _whole(alone: Callable[[int], int], most: Callable[..., int], skips: bool) -> Plan:
    """Prompts whole or not at all; so much of the first one if nothing else would happen.

    skips: after one that does not fit, a shorter one may still be read.
    """

    def plan(decoding: int, prompts: list[int], pace: Callable, limit: float) -> list[int]:
        left, given = most(decoding, sum(prompts), pace, limit), []
        for prompt in prompts:
            left = left if prompt <= left or skips else 0
            given.append(prompt if prompt <= left else 0)
            left -= given[-1]
        if prompts and not decoding and not any(given):
            given[0] = alone(prompts[0])
        return given

    return plan


def _whole_ones(most: Callable[..., int]) -> list[Plan]:
    alones = (lambda prompt: prompt, lambda prompt: 1, lambda prompt: 0)
    return [_whole(alone, most, skips) for alone in alones for skips in (False, True)]


def _evenly(count: int, prompts: Sequence[int]) -> list[int]:
    return [min(prompt, count // max(1, len(prompts))) for prompt in prompts]


def _backwards(count: int, prompts: Sequence[int]) -> list[int]:
    return _in_order(count, prompts[::-1])[::-1]


def _shortest(count: int, prompts: Sequence[int]) -> list[int]:
    places = sorted(range(len(prompts)), key=prompts.__getitem__)
    given = dict(zip(places, _in_order(count, [prompts[i] for i in places]), strict=True))
    return [given[i] for i in range(len(prompts))]


def _only_first(count: int, prompts: Sequence[int]) -> list[int]:
    return _in_order(min(count, *prompts[:1]) if prompts else 0, prompts)


def _added(decoding: int, total: int, pace: Callable, limit: float) -> int:
    left = limit - pace(decoding)
    return _most(0, total, pace, left) if pace(0) <= left else 0


def _uncounted(decoding: int, *rest: object) -> int:
    return _most(0, *rest)


STARVES = "nothing is read although nothing is being written"
E.mistake(
    "the tokens of the texts being written are not counted",
    partial(plan_step, most=_uncounted),
    partial(plan_step, most=_uncounted, at_least=lambda decoding: 0),
    *_whole_ones(_uncounted),
).why("Each of them takes a token of the step, too.")
E.mistake("the limit is ignored", most=lambda decoding, total, *_: total).why(
    "While texts are written it must hold."
)
E.mistake(
    "one token too many is read",
    most=lambda d, total, *rest: min(total, _most(d, total, *rest) + 1),
).why("The last one that fits is the last one.")
E.mistake(
    "the limit is broken by one token although texts are being written", at_least=lambda decoding: 1
).why("The exception is for the case in which nothing is being written.")
E.mistake("prompts are read whole or not at all", *_whole_ones(_most)).why(
    "A long prompt may be read in pieces, one in each step."
)
E.mistake("the tokens are spread evenly", share=_evenly).why(
    "First come, first served: who waits for half a prompt cannot write yet."
)
E.mistake("the last prompt is read first", share=_backwards).why(
    "The first one has waited longest."
)
E.mistake("the shortest prompt is read first", share=_shortest).why(
    "A long one might then wait for ever. First come, first served."
)
E.mistake("only the first prompt is read", share=_only_first).why(
    "When it is done there may be room for some of the next."
)
E.mistake("reading and writing are taken as two steps", most=_added).why(
    "Both go through the model together: one step of all tokens, not the sum of two."
)
E.mistake(
    "nothing is read while texts are being written",
    most=lambda d, *rest: 0 if d else _most(d, *rest),
).why("A step reads and writes at the same time.")
E.mistake(
    "one token is read in each step", most=lambda d, total, *rest: min(1, _most(d, total, *rest))
).why("As many as fit.")
E.mistake(STARVES, at_least=lambda decoding: 0).why(
    "The step is too long, but no other step will ever be shorter: this prompt would wait for ever."
)

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


@E.rule
def _serves(answer: Callable) -> None:
    calls: list[tuple[Call, list[int]]] = []

    def asked(call: Call) -> list[int]:
        given = call.decoding, list(call.prompts), call.pace, call.limit
        read = _numbers(run(lambda: answer(*given), Case((), call.shows), E.what), call)
        calls.append((call, read))
        return read

    def served(call: Call) -> list[int]:
        read = asked(call)
        if not call.decoding and not any(read):
            raise _mistake(calls, _broken(calls))  # it would go on like this for ever
        return read

    for call in _SMALL:
        asked(call)
    late = max(simulate(served, work) / simulate(_best_of, work) for work in workloads())
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
    return plan_step(call.decoding, list(call.prompts), call.pace, call.limit)


def _numbers(read: object, call: Call) -> list[int]:
    """The learner's result as whole numbers. Raises Mistake for anything else."""
    want = [0] * len(call.prompts)
    if isinstance(read, list | tuple):  # max(count, not decoding) is a number, too
        read = [int(n) if isinstance(n, bool) else n for n in read]
    row = like(read, want)
    if not isinstance(row, list) or len(row) != len(want):
        why = "A list is needed with a number for each prompt."
        raise Mistake(f"{E.what}: one number for each prompt is needed", shows=call.shows, why=why)
    if has_floats_for_wholes(read, want) or not all(type(n) is int for n in row):
        why = f"{read!r:.60} came."
        raise Mistake(f"{E.what}: whole numbers are needed", shows=call.shows, why=why)
    for count, prompt in zip(row, call.prompts, strict=True):
        if not 0 <= count <= prompt:
            shows, why = call.shows, f"{count} of a prompt of which {prompt} tokens are left."
            raise Mistake("more tokens than the prompt has, or fewer than 0", shows=shows, why=why)
    return row


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
    for known in E.mistakes:
        if all(
            list(known.function(c.decoding, list(c.prompts), c.pace, c.limit)) == read
            for c, read in calls
        ):
            if name == STARVES != known.name:  # a call where the mistake itself is seen
                fewer = [c for c, n in calls if c.decoding and sum(n) < sum(_best_of(c))]
                call = min(fewer, key=lambda c: c.size, default=call)
            return Mistake(known.name, shows=call.shows, why=known.why)
    return Mistake(name, shows=call.shows, why=why)
