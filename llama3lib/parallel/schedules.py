"""Pipeline schedules: which stage works on which micro-batch, in what order (§3.3.2, Figure 6).

PP ranks hold V stages each; stage s lives on rank s mod PP. A batch is cut into M micro-batches.
An order says what each rank does one after the other; `simulate` says when, and how long the
ranks wait. Nothing here needs a process: `pipeline.py` executes the same orders.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from llama3lib.utils.require import at_least, one_of, require, whole

SCHEDULES = ("1f1b", "gpipe")


class Action(NamedTuple):
    """One stage's forward ("F") or backward ("B") pass of one micro-batch; "5F2" for short."""

    kind: str
    stage: int
    micro_batch: int

    def __str__(self) -> str:
        return f"{self.stage}{self.kind}{self.micro_batch}"


def pipeline_order(
    pp: int, micro_batches: int, *, virtual: int = 1, run: int | None = None, kind: str = "1f1b"
) -> list[list[Action]]:
    """What each rank does, in order.

    virtual: V, stages per rank; more than one is the interleaved schedule.
    run: N, how many micro-batches a rank takes through one of its stages before the next of its
    stages. PP is depth-first (least memory), M breadth-first (most time to send); the paper made
    it free between them. The last run may be another, but with fewer than PP in one the ranks
    would wait for each other. The default is the least that fits. With one stage per rank, and
    with "gpipe", it changes nothing.
    kind: "1f1b" turns to backward passes as early as it can, "gpipe" after all forward passes.

    Raises ValueError naming the field, its value and what is allowed.
    """
    for field, value in dict(pp=pp, micro_batches=micro_batches, virtual=virtual).items():
        whole(field, value)
    one_of("kind", kind, SCHEDULES)
    free = virtual == 1 or kind == "gpipe"
    least = 1 if free else min(pp, micro_batches)
    fitting = [
        n
        for n in range(least, micro_batches + 1)
        if free or micro_batches % n in (0, *range(pp, n))
    ]
    run = fitting[0] if run is None else run
    whole("run", run)
    allowed = f"{least} to micro_batches={micro_batches}"
    more = "" if free else f", of which the last run too has pp={pp} or more"
    require(run in fitting, "run", run, allowed + more)
    return [_rank_order(rank, pp, micro_batches, virtual, run, kind) for rank in range(pp)]


def _rank_order(rank: int, pp: int, m: int, virtual: int, run: int, kind: str) -> list[Action]:
    stages = range(rank, pp * virtual, pp)
    if kind == "gpipe":
        forwards = [Action("F", stage, i) for stage in stages for i in range(m)]
        # with several stages the last micro-batch comes back first: its inputs are the newest
        back = range(m) if virtual == 1 else range(m - 1, -1, -1)
        return forwards + [Action("B", stage, i) for stage in reversed(stages) for i in back]
    runs = [range(start, min(start + run, m)) for start in range(0, m, run)]
    forwards = [Action("F", stage, i) for some in runs for stage in stages for i in some]
    backwards = [Action("B", stage, i) for some in runs for stage in reversed(stages) for i in some]
    # until the first backward pass arrives: the way to the last stage and, interleaved, back
    way = (pp - 1 - rank) * (1 if virtual == 1 else 2)
    warm_up = min((virtual - 1) * run + way, len(forwards))
    steady = zip(forwards[warm_up:], backwards, strict=False)
    order = forwards[:warm_up] + [action for pair in steady for action in pair]
    return order + backwards[len(forwards) - warm_up :]


class Span(NamedTuple):
    """When an action ran, on which rank."""

    rank: int
    action: Action
    start: float
    end: float


@dataclass(frozen=True)
class Timeline:
    """What `simulate` finds: each action's time, and what follows from it."""

    pp: int
    spans: tuple[Span, ...]

    @property
    def wall(self) -> float:
        """From the first start to the last end."""
        return max(span.end for span in self.spans)

    @property
    def busy(self) -> float:
        """Time worked, summed over the ranks."""
        return sum(span.end - span.start for span in self.spans)

    @property
    def idle_share(self) -> float:
        """Share of the ranks' time in which they wait."""
        return 1 - self.busy / (self.pp * self.wall)

    @property
    def bubble(self) -> float:
        """Waiting over useful time, as the paper counts it: (PP - 1) / (V·M) at best."""
        return self.pp * self.wall / self.busy - 1

    def peak_in_flight(self, rank: int) -> int:
        """The most forward passes whose activations the rank holds at one time."""
        held = peak = 0
        for span in sorted((s for s in self.spans if s.rank == rank), key=lambda s: s.start):
            held += 1 if span.action.kind == "F" else -1
            peak = max(peak, held)
        return peak


def simulate(
    order: Sequence[Sequence[Action]],
    *,
    forward: float | Sequence[float] = 1.0,
    backward: float | Sequence[float] = 2.0,
    send: float = 0.0,
) -> Timeline:
    """When each action runs, if each rank does the next one as soon as what it needs has arrived.

    forward, backward: time of one micro-batch, the same for all stages or one for each.
    send: time from the end on one rank to the arrival on another; nobody waits for its own sends.

    Raises ValueError for times below 0, or if the ranks wait for each other for ever.
    """
    stages = 1 + max(action.stage for actions in order for action in actions)
    times = {"F": _per_stage("forward", forward, stages)}
    times["B"] = _per_stage("backward", backward, stages)
    at_least("send", send, 0)
    done: dict[Action, Span] = {}
    places, clocks = [0] * len(order), [0.0] * len(order)
    moved = True
    while moved:
        moved = False
        for rank, actions in enumerate(order):
            while places[rank] < len(actions):
                action = actions[places[rank]]
                needed = needs(action, stages)
                if any(other not in done for other in needed):
                    break
                arrivals = [done[o].end + send * (done[o].rank != rank) for o in needed]
                start = max([clocks[rank], *arrivals])
                clocks[rank] = start + times[action.kind][action.stage]
                done[action] = Span(rank, action, start, clocks[rank])
                places[rank], moved = places[rank] + 1, True
    stuck = [str(actions[at]) for at, actions in zip(places, order, strict=True) if actions[at:]]
    require(not stuck, "order", stuck, "an order in which no action waits for a later one")
    return Timeline(len(order), tuple(done.values()))


def needs(action: Action, stages: int) -> list[Action]:
    """What must be done before an action: where its input comes from."""
    kind, stage, i = action
    if kind == "F":
        return [Action("F", stage - 1, i)] if stage else []
    later = [Action("B", stage + 1, i)] if stage + 1 < stages else []
    return [Action("F", stage, i), *later]


def _per_stage(field: str, value: float | Sequence[float], stages: int) -> list[float]:
    times = [value] * stages if isinstance(value, int | float) else list(value)
    require(len(times) == stages, field, value, f"one time, or one for each of {stages} stages")
    for time in times:
        at_least(field, time, 0)
    return times
