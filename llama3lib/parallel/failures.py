"""Days of a large run with what stops and slows it, drawn at the rates of Table 5 (§3.3.4).

The counts are the paper's. What a stop or a checkpoint costs, how often a GPU is slow and how
long silent corruption stays unseen are not given there: those settings are ours. All times are
in minutes.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from llama3lib.paper.infrastructure import GPUS, PLANNED, SNAPSHOT, TABLE_5
from llama3lib.utils.require import between, positive, whole

CORRUPTION, MAINTENANCE, STRAGGLER = "Silent data corruption", "(planned)", "(slow GPU taken out)"
CAUSES = (*TABLE_5.rows, MAINTENANCE, STRAGGLER)
DAY = 24 * 60


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """A run and its dangers. Raises ValueError naming the field, its value and what is allowed."""

    gpus: int = GPUS.value
    """Unexpected stops come in proportion to them; planned ones do not."""
    restart: float = 10.0
    """From a stop until training goes on."""
    pause: float = 0.05
    """Training stands still for a checkpoint."""
    interval: float | None = None
    """Training between checkpoints; None: by Young's rule."""
    stragglers_per_day: float = 0.5
    slowdown: float = 0.05
    """Part of everybody's speed that is lost while a GPU is slow."""
    straggler_minutes: float = 60.0
    """Until it is found and taken out, which is a planned stop."""
    corruption_minutes: float = 60.0
    """Mean time until silent corruption is noticed; the work since then is thrown away."""

    def __post_init__(self) -> None:
        whole("gpus", self.gpus)
        for name in ("restart", "pause", "straggler_minutes", "corruption_minutes"):
            between(name, getattr(self, name), 0, 100 * DAY)
        between("stragglers_per_day", self.stragglers_per_day, 0, 1000)
        between("slowdown", self.slowdown, 0, 1)
        if self.interval is None:
            positive("pause", self.pause)
        else:
            between("interval", self.interval, 0.01, 100 * DAY)

    @property
    def rates(self) -> Float[np.ndarray, "causes"]:
        """Stops a minute, one for each of `CAUSES`."""
        counts = np.array([*TABLE_5.column("count").values(), PLANNED.value], dtype=float)
        counts[:-1] *= self.gpus / GPUS.value
        return np.append(counts / SNAPSHOT.value, self.stragglers_per_day) / DAY

    @property
    def between_failures(self) -> float:
        """Mean minutes between unexpected stops."""
        return 1 / self.rates[: len(TABLE_5.rows)].sum()

    @property
    def young(self) -> float:
        """Interval by Young's rule: sqrt(2 · pause · minutes between failures)."""
        return math.sqrt(2 * self.pause * self.between_failures)

    @property
    def daly(self) -> float:
        """Interval by Daly's: the next terms too, for pauses that are not short."""
        part = self.pause / (2 * self.between_failures)
        return self.young * (1 + math.sqrt(part) / 3 + part / 9) - self.pause


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of the time. Minutes; the parts add up to all of it."""

    useful: float
    restarts: float
    again: float
    """Work that was lost and done again."""
    pauses: float
    slow: float
    """Lost to slow GPUs."""
    stops: dict[str, int]

    @property
    def minutes(self) -> float:
        return self.useful + self.restarts + self.again + self.pauses + self.slow

    @property
    def effective(self) -> float:
        """Useful time over elapsed time (§3.3.4)."""
        return self.useful / self.minutes

    @property
    def each(self) -> float:
        """Minutes that a stop costs, all losses together; infinite without a stop."""
        count = sum(self.stops.values())
        return (self.minutes - self.useful) / count if count else math.inf


def simulate(conditions: Conditions, days: float = SNAPSHOT.value, seed: int = 0) -> Outcome:
    """Draw stops, then go through the stretches of training between them.

    Stops come at any time, also while a restart is going on, which then begins anew. A planned
    stop saves first; any other loses what came after the last checkpoint, and corruption what
    came after the last one before it.
    """
    between("days", days, 0.001, 1e6)
    whole("seed", seed, 0)
    end = days * DAY
    times, causes, unseen = _draw(conditions, end, seed)
    corrupt, straggler = causes == CAUSES.index(CORRUPTION), causes == CAUSES.index(STRAGGLER)
    saves = np.append(straggler | (causes == CAUSES.index(MAINTENANCE)), True)
    ends = np.append(times, end)
    starts = np.append(0.0, np.minimum(times + conditions.restart, end))
    starts = np.minimum(starts, ends)  # nothing is done if the next stop comes first
    good = _good_until(ends, times, unseen, corrupt)

    interval = conditions.interval or conditions.young
    sound = np.maximum(good - starts, 0)
    number = np.floor(sound / (interval + conditions.pause))  # of checkpoints
    kept = number * (interval + conditions.pause)
    last = np.where(saves & (good == ends), sound - kept, 0)  # saved by the stop itself
    kept, computing = kept + last, number * interval + np.minimum(last, interval)
    slow = _slow(conditions, times[straggler], starts, starts + kept)
    slow *= conditions.slowdown * computing / np.maximum(kept, 1e-12)
    return Outcome(
        useful=float((computing - slow).sum()),
        restarts=float(end - (ends - starts).sum()),
        again=float((ends - starts - kept).sum()),
        pauses=float((kept - computing).sum()),
        slow=float(slow.sum()),
        stops=dict(zip(CAUSES, np.bincount(causes, minlength=len(CAUSES)).tolist(), strict=True)),
    )


def _draw(
    conditions: Conditions, end: float, seed: int
) -> tuple[Float[np.ndarray, "stops"], Int[np.ndarray, "stops"], Float[np.ndarray, "stops"]]:
    """When each stop comes, its number in `CAUSES`, and for how long corruption was unseen."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(conditions.rates * end)
    causes = np.repeat(np.arange(len(CAUSES)), counts)
    times = rng.uniform(0, end, len(causes))
    unseen = rng.exponential(1, len(causes)) * conditions.corruption_minutes
    order = np.argsort(times)
    return times[order], causes[order], unseen[order]


def _good_until(
    ends: Float[np.ndarray, "stretches"],
    times: Float[np.ndarray, "stops"],
    unseen: Float[np.ndarray, "stops"],
    corrupt: Bool[np.ndarray, "stops"],
) -> Float[np.ndarray, "stretches"]:
    """Until when the work of each stretch is sound; corruption may reach into earlier ones."""
    good = ends.copy()
    for stop in np.flatnonzero(corrupt):
        since, stretch = times[stop] - unseen[stop], stop
        while stretch >= 0 and ends[stretch] > since:
            good[stretch] = min(good[stretch], since)
            stretch -= 1
    return good


def _slow(
    conditions: Conditions,
    found: Float[np.ndarray, "stragglers"],
    starts: Float[np.ndarray, "stretches"],
    ends: Float[np.ndarray, "stretches"],
) -> Float[np.ndarray, "stretches"]:
    """Minutes of each stretch in which a GPU is slow; two at a time slow no more than one."""
    begins = np.maximum(found - conditions.straggler_minutes, 0)
    if len(begins) == 0:
        return np.zeros(len(starts))
    begins[1:] = np.maximum(begins[1:], found[:-1])
    points = np.stack([begins, found], 1).ravel()
    passed = np.stack([np.zeros(len(found)), found - begins], 1).ravel().cumsum()
    return np.interp(ends, points, passed) - np.interp(starts, points, passed)


def best_interval(conditions: Conditions, days: float = 10_000, seed: int = 0) -> float:
    """The interval that leaves most useful time, found by trying many on the same stops.

    Close to its best the time hardly depends on the interval, so the top is read off a parabola
    in the logarithm of the interval; few days leave it uncertain.
    """
    tried = conditions.young * np.geomspace(0.4, 2.5, 13)
    gains = np.array(
        [simulate(replace(conditions, interval=float(x)), days, seed).effective for x in tried]
    )
    near = np.abs(np.log(tried / tried[gains.argmax()])) < 0.75
    curve = np.polynomial.Polynomial.fit(np.log(tried[near]), gains[near], 2)
    return float(np.exp(curve.deriv().roots()[0].real))
