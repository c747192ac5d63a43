"""Exercise 09.5: small simulated servers, whose steps the learner's function plans."""

import random
from collections.abc import Callable
from dataclasses import dataclass


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


def workloads() -> list[Workload]:
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
