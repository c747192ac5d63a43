"""Chapter 09, exercise 6: what a step costs, the best plan for it, and plans with a mistake."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from widgets.core.judge import Known


@dataclass(frozen=True)
class Pace:
    """Seconds of a step: reading the weights takes `base`, each token a little."""

    base: float
    each: float
    roof: bool = False
    """True: the longer of both counts; False: their sum."""

    def __call__(self, num_tokens: int) -> float:
        """Seconds of a step of so many tokens."""
        both = self.base, self.each * num_tokens
        return max(both) if self.roof else sum(both)

    def __repr__(self) -> str:
        tokens = "n" if self.each == 1 else f"{self.each:g} * n"
        if self.roof:
            return f"lambda n: max({self.base:g}, {tokens})"
        return f"lambda n: {self.base:g} + {tokens}" if self.base else f"lambda n: {tokens}"


@dataclass(frozen=True)
class Call:
    """One call of the learner's function."""

    decoding: int
    prompts: tuple[int, ...]
    pace: Pace
    limit: float

    @property
    def shows(self) -> str:
        return (
            f"decoding={self.decoding}, prompts={list(self.prompts)}, "
            f"seconds={self.pace}, limit={self.limit:g}"
        )

    @property
    def size(self) -> tuple[int, int]:
        return len(self.prompts), sum(self.prompts) + self.decoding

    def fits(self, num_tokens: int) -> bool:
        """Whether a step of so many tokens is within the limit, but for rounding."""
        return self.pace(num_tokens) <= self.limit * (1 + 1e-9)


Plan = Callable[[int, list[int], Callable[[int], float], float], Sequence[int]]


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


def _plan(
    share: Callable[[int, Sequence[int]], list[int]] = _in_order,
    most: Callable[[int, int, Callable, float], int] = _most,
    at_least: Callable[[int], int] = lambda decoding: int(decoding == 0),
) -> Plan:
    """A plan from its parts."""

    def plan(decoding: int, prompts: list[int], pace: Callable, limit: float) -> list[int]:
        total = sum(prompts)
        count = max(most(decoding, total, pace, limit), at_least(decoding))
        return share(min(count, total), prompts)

    return plan


best = _plan()


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


_ALL = "the limit is ignored"
_UNCOUNTED = "the tokens of the texts being written are not counted"
_WHOLE = "prompts are read whole or not at all"
STARVES = "nothing is read although nothing is being written"
KNOWN = [
    *(
        Known(_UNCOUNTED, plan, "Each of them takes a token of the step, too.")
        for plan in (
            _plan(most=_uncounted),
            _plan(most=_uncounted, at_least=lambda decoding: 0),
            *_whole_ones(_uncounted),
        )
    ),
    Known(_ALL, _plan(most=lambda d, total, *_: total), "While texts are written it must hold."),
    Known(
        "one token too many is read",
        _plan(most=lambda d, total, *rest: min(total, _most(d, total, *rest) + 1)),
        "The last one that fits is the last one.",
    ),
    Known(
        "the limit is broken by one token although texts are being written",
        _plan(at_least=lambda decoding: 1),
        "The exception is for the case in which nothing is being written.",
    ),
    *(
        Known(_WHOLE, plan, "A long prompt may be read in pieces, one in each step.")
        for plan in _whole_ones(_most)
    ),
    Known(
        "the tokens are spread evenly",
        _plan(share=_evenly),
        "First come, first served: who waits for half a prompt cannot write yet.",
    ),
    Known(
        "the last prompt is read first",
        _plan(share=_backwards),
        "The first one has waited longest.",
    ),
    Known(
        "the shortest prompt is read first",
        _plan(share=_shortest),
        "A long one might then wait for ever. First come, first served.",
    ),
    Known(
        "only the first prompt is read",
        _plan(share=_only_first),
        "When it is done there may be room for some of the next.",
    ),
    Known(
        "reading and writing are taken as two steps",
        _plan(most=_added),
        "Both go through the model together: one step of all tokens, not the sum of two.",
    ),
    Known(
        "nothing is read while texts are being written",
        _plan(most=lambda d, *rest: 0 if d else _most(d, *rest)),
        "A step reads and writes at the same time.",
    ),
    Known(
        "one token is read in each step",
        _plan(most=lambda d, total, *rest: min(1, _most(d, total, *rest))),
        "As many as fit.",
    ),
    Known(
        STARVES,
        _plan(at_least=lambda decoding: 0),
        "The step is too long, but no other step will ever be shorter: this prompt would wait "
        "for ever.",
    ),
]
