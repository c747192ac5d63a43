"""Batching without a model: the real scheduler and block manager, and a clock that is calculated.

    time = StepTime.fit(steps)  # steps: what was measured
    work = Workload.random(50, rate=20, prompt_tokens=60, output_tokens=40, seed=0)
    run_continuous(work, time, max_num_seqs=8).throughput

Which step comes next is what `Scheduler` says; only how long it takes comes from a line that was
fitted to measured steps. Static batches, which the engine does not have, are here to compare with.
"""

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from llama3lib.inference.block_manager import BlockManager
from llama3lib.inference.sampling import SamplingParams
from llama3lib.inference.scheduler import ScheduledSequence, Scheduler
from llama3lib.inference.sequence import Sequence
from llama3lib.utils.require import at_least, require

Seconds = Callable[[int, int], float]
"""Seconds of a step from its tokens and from the tokens that lie in the cache before it."""


@dataclass(frozen=True)
class Job:
    """A request: seconds at which it comes, tokens to read, tokens to write.

    Raises ValueError for a negative time or less than one token.
    """

    arrival: float
    prompt_tokens: int
    output_tokens: int

    def __post_init__(self) -> None:
        require(0 <= self.arrival < math.inf, "arrival", self.arrival, "0 or more seconds")
        for name in ("prompt_tokens", "output_tokens"):
            at_least(name, getattr(self, name), 1)


@dataclass(frozen=True)
class Workload:
    """Jobs in the order in which they come. Raises ValueError if there is none."""

    jobs: tuple[Job, ...]

    def __post_init__(self) -> None:
        if not self.jobs:
            raise ValueError("jobs=() is not allowed: at least one")
        object.__setattr__(self, "jobs", tuple(sorted(self.jobs, key=lambda job: job.arrival)))

    @classmethod
    def random(
        cls,
        num_jobs: int,
        *,
        rate: float,
        prompt_tokens: float,
        output_tokens: float,
        prompt_spread: float = 0.5,
        output_spread: float = 0.5,
        most_tokens: int = 2048,
        seed: int = 0,
    ) -> "Workload":
        """Jobs that come at random, `rate` a second (Poisson); infinity: all at once.

        The lengths are log-normal: given are their means, before they are cut at `most_tokens`,
        and the standard deviation of their logarithms. The same seed gives the same lengths at
        every rate.
        """
        sizes = {"rate": rate, "prompt_tokens": prompt_tokens, "output_tokens": output_tokens}
        for name, value in sizes.items():
            require(value > 0, name, value, "above 0")
        dice = np.random.default_rng(seed)

        def lengths(mean: float, spread: float) -> list[int]:
            drawn = dice.lognormal(math.log(mean) - spread**2 / 2, spread, num_jobs)
            return np.clip(drawn.round(), 1, most_tokens).astype(int).tolist()

        prompts = lengths(prompt_tokens, prompt_spread)
        outputs = lengths(output_tokens, output_spread)
        arrivals = np.cumsum(dice.exponential(size=num_jobs) / rate).tolist()
        return cls(tuple(map(Job, arrivals, prompts, outputs)))


@dataclass(frozen=True)
class Step:
    """A measured step: its tokens, the tokens in the cache before it, its seconds."""

    num_tokens: int
    num_cached: int
    seconds: float


@dataclass(frozen=True)
class StepTime:
    """Seconds of a step: a fixed part, a part for each token, and one for each cached token read.

    Raises ValueError unless all are 0 or more and not all are 0.
    """

    fixed: float
    per_token: float
    per_cached: float = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            require(0 <= value < math.inf, name, value, "0 or more seconds")
        if not self.fixed and not self.per_token:
            raise ValueError("fixed=0 and per_token=0 are not allowed: a step takes time")

    def __call__(self, num_tokens: int, num_cached: int = 0) -> float:
        return self.fixed + self.per_token * num_tokens + self.per_cached * num_cached

    @classmethod
    def fit(cls, steps: Iterable[Step]) -> "StepTime":
        """The three parts, none below 0, with the least squares of the relative errors.

        Relative, so that a short step counts as much as a long one. Raises ValueError without a
        step, or for one that took no time.
        """
        rows = np.array([(1, s.num_tokens, s.num_cached, s.seconds) for s in steps], dtype=float)
        if not len(rows) or rows[:, 3].min() <= 0:
            raise ValueError(f"steps={len(rows)} steps are not allowed: 1 or more, above 0 seconds")
        rows, least, best = rows[:, :3] / rows[:, 3:], math.inf, (0.0, 0.0, 0.0)
        # three numbers: every choice of those that are above 0 can be tried
        for use in itertools.product([False, True], repeat=3):
            parts = np.zeros(3)
            parts[list(use)] = np.linalg.lstsq(rows[:, use], np.ones(len(rows)), rcond=None)[0]
            error = float(((rows @ parts - 1) ** 2).sum())
            if parts.min() >= 0 and error < least:
                least, best = error, parts.tolist()
        return cls(*best)


@dataclass(frozen=True)
class Span:
    """What a slot of the batch does: `prompt`, `decode`, or `padding` for a text that has ended."""

    slot: int
    job: int
    kind: str
    start: float
    end: float
    num_tokens: int


@dataclass(frozen=True)
class Run:
    """What became of every job of a workload; times in seconds on the calculated clock."""

    workload: Workload
    slots: int
    token_times: tuple[tuple[float, ...], ...]
    """When each token of each job was there."""
    spans: tuple[Span, ...]
    num_steps: int
    num_preemptions: int = 0

    @property
    def end(self) -> float:
        """When the last token of all was there."""
        return max(times[-1] for times in self.token_times)

    @property
    def seconds(self) -> float:
        """From the first arrival to the last token."""
        return self.end - self.workload.jobs[0].arrival

    @property
    def throughput(self) -> float:
        """Tokens written per second."""
        return sum(map(len, self.token_times)) / self.seconds

    @property
    def idle_share(self) -> float:
        """Part of all slots' time in which they neither read nor wrote for a text: 0 to 1."""
        used = sum(span.end - span.start for span in self.spans if span.kind != "padding")
        return max(0.0, 1 - used / (self.slots * self.seconds))  # sums round

    @property
    def latencies(self) -> list[float]:
        """Of each job: from its arrival to its last token."""
        return self._since_arrival(-1)

    @property
    def times_to_first_token(self) -> list[float]:
        """Of each job."""
        return self._since_arrival(0)

    @property
    def times_between_tokens(self) -> list[float]:
        """All waits between two tokens of a text, of all jobs together."""
        return [b - a for times in self.token_times for a, b in itertools.pairwise(times)]

    def _since_arrival(self, token: int) -> list[float]:
        pairs = zip(self.token_times, self.workload.jobs, strict=True)
        return [times[token] - job.arrival for times, job in pairs]


class _Slots:
    """Spans of a run as they come: who sits where, and what goes on there."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self._taken: dict[int, int] = {}
        self._last: dict[int, int] = {}

    def note(self, job: int, kind: str, start: float, end: float, num_tokens: int) -> None:
        """A step of a job; the same again right after it is one longer span."""
        if job not in self._taken:
            taken = set(self._taken.values())
            self._taken[job] = next(slot for slot in itertools.count() if slot not in taken)
        slot, last = self._taken[job], self._last.get(job)
        before = self.spans[last] if last is not None else None
        if before and (before.slot, before.kind, before.end) == (slot, kind, start):
            num_tokens += before.num_tokens
            self.spans[last] = Span(slot, job, kind, before.start, end, num_tokens)
        else:
            self._last[job] = len(self.spans)
            self.spans.append(Span(slot, job, kind, start, end, num_tokens))

    def leave(self, job: int) -> None:
        del self._taken[job]


def run_continuous(
    workload: Workload,
    step_time: Seconds,
    *,
    max_num_seqs: int = 8,
    max_num_batched_tokens: int = 512,
    num_blocks: int | None = None,
    block_size: int = 16,
) -> Run:
    """The engine's way: a text that ends makes room for the next one at once.

    num_blocks: None for as many as can be needed; with fewer, texts may have to make room and
    read their beginning again. No two texts begin the same here.

    Raises ValueError as `Scheduler` and `BlockManager` do.
    """
    longest = max(job.prompt_tokens + job.output_tokens for job in workload.jobs)
    if num_blocks is None:
        # a block more for each slot: the scheduler keeps one free for every running text
        num_blocks = max(max_num_seqs, 1) * (-(-longest // block_size) + 1)
    blocks = BlockManager(num_blocks, block_size, prefix_sharing=False)
    scheduler = Scheduler(
        blocks, max_num_seqs=max_num_seqs, max_num_batched_tokens=max_num_batched_tokens
    )
    coming = deque(_sequence(place, job) for place, job in enumerate(workload.jobs))
    tokens: list[list[float]] = [[] for _ in workload.jobs]
    slots, clock, num_steps = _Slots(), 0.0, 0
    while coming or scheduler.has_work:
        if not scheduler.has_work:
            clock = max(clock, workload.jobs[coming[0].sample_id].arrival)
        while coming and workload.jobs[coming[0].sample_id].arrival <= clock:
            scheduler.add(coming.popleft())
        plan = scheduler.schedule()
        cached = sum(item.sequence.num_computed_tokens for item in plan.scheduled)
        end = clock + step_time(plan.num_tokens, cached)
        for sequence in plan.preempted:
            slots.leave(sequence.sample_id)
        for item in plan.scheduled:
            slots.note(item.sequence.sample_id, _kind(item), clock, end, item.num_tokens)
        clock, num_steps = end, num_steps + 1
        for item in plan.scheduled:
            sequence, may_draw = item.sequence, item.is_last_piece
            blocks.note_computed(sequence, item.num_tokens)
            if not may_draw:
                continue
            sequence.token_ids.append(0)
            tokens[sequence.sample_id].append(clock)
            if len(sequence.output_ids) == sequence.params.max_tokens:
                scheduler.finish(sequence, "length")
                slots.leave(sequence.sample_id)
    times = tuple(map(tuple, tokens))
    spans = tuple(slots.spans)
    return Run(workload, max_num_seqs, times, spans, num_steps, scheduler.num_preemptions)


def _sequence(place: int, job: Job) -> Sequence:
    params = SamplingParams(max_tokens=job.output_tokens)
    return Sequence([0] * job.prompt_tokens, params, sample_id=place)


def _kind(item: ScheduledSequence) -> str:
    sequence = item.sequence
    reads = item.num_tokens > 1 or sequence.num_computed_tokens < sequence.num_prompt_tokens
    return "prompt" if reads else "decode"


def run_static(
    workload: Workload, step_time: Seconds, batch_size: int, *, wait_until_full: bool = False
) -> Run:
    """The old way: a batch begins together, and the next one begins when its longest text ends.

    Prompts are padded to the longest of the batch, and ended texts go on as padding: both cost
    what tokens cost. A batch is made of those that have come; `wait_until_full`: of `batch_size`,
    fewer only at the very end. A text counts as done at its own last token.

    Raises ValueError if batch_size is below 1.
    """
    at_least("batch_size", batch_size, 1)
    jobs, spans = workload.jobs, []
    tokens: list[tuple[float, ...]] = []
    clock, num_steps = 0.0, 0
    while len(tokens) < len(jobs):
        first = len(tokens)
        last = min(first + batch_size, len(jobs)) - 1
        clock = max(clock, jobs[last if wait_until_full else first].arrival)
        batch = [job for job in jobs[first : last + 1] if job.arrival <= clock]
        number, width = len(batch), max(job.prompt_tokens for job in batch)
        times = [clock, clock + step_time(number * width, 0)]
        for written in range(1, max(job.output_tokens for job in batch)):
            times.append(times[-1] + step_time(number, number * (width + written - 1)))
        for slot, job in enumerate(batch):
            place, ends = first + slot, times[job.output_tokens]
            spans.append(Span(slot, place, "prompt", *times[:2], job.prompt_tokens))
            if job.output_tokens > 1:
                spans.append(Span(slot, place, "decode", times[1], ends, job.output_tokens - 1))
            if ends < times[-1]:
                rest = len(times) - 1 - job.output_tokens
                spans.append(Span(slot, place, "padding", ends, times[-1], rest))
            tokens.append(tuple(times[1 : job.output_tokens + 1]))
        clock, num_steps = times[-1], num_steps + len(times) - 1
    return Run(workload, batch_size, tuple(tokens), tuple(spans), num_steps)


@dataclass(frozen=True)
class LoadPoint:
    """How a load is served: jobs a second, tokens a second, seconds from arrival to last token."""

    rate: float
    throughput: float
    median_latency: float
    p95_latency: float
    median_first_token: float


def latency_curve(
    make_workload: Callable[[float], Workload],
    rates: Iterable[float],
    run: Callable[[Workload], Run],
) -> list[LoadPoint]:
    """The same batching under rising load.

        latency_curve(make, [5, 10, 20], lambda work: run_continuous(work, time))

    make_workload: jobs for a rate, see `Workload.random`.
    """
    points = []
    for rate in rates:
        done = run(make_workload(rate))
        median, late = np.percentile(done.latencies, [50, 95]).tolist()
        first = float(np.median(done.times_to_first_token))
        points.append(LoadPoint(rate, done.throughput, median, late, first))
    return points
