"""How often to save: lost work against time spent saving, at the failures of Table 5."""

import math

from llama3lib.paper.infrastructure import SNAPSHOT
from llama3lib.parallel.failures import Conditions, Outcome, simulate
from widgets.view import Linear, Log, Paper, Plot, Scene, Slider, View
from widgets.view.legend import legend
from widgets.view.words import percent, significant

INTERVALS = (2, 4, 6, 8, 10, 15, 20, 27, 35, 45, 60, 90, 120, 180, 240)  # minutes
PAUSES = (0.1, 0.5, 1, 2, 5)
RESTARTS = (1, 5, 10, 17, 30)
SEED, LEFT, TOP, HIGH = 0, 64, 30, 240
LOSSES = {
    "restarts": ("first", "restarts"),
    "again": ("second", "work done again"),
    "pauses": ("third", "saving"),
    "slow": ("fourth", "slow GPUs"),
}
"""Fields of `Outcome`: colour and words."""


def minutes(value: float) -> str:
    """A time as the slider tells it."""
    return f"{significant(value)} min" if value >= 1 else f"{significant(60 * value)} s"


def expected_loss(conditions: Conditions, interval: float) -> float:
    """Share of the time that saving and lost work take, by the formula behind Young's rule."""
    return conditions.pause / interval + interval / (2 * conditions.between_failures)


def played(interval: float, pause: float, restart: float) -> Outcome:
    """54 days with these settings."""
    settings = Conditions(interval=interval, pause=pause, restart=restart)
    return simulate(settings, days=SNAPSHOT.value, seed=SEED)


def draw_curve(plot: Plot, conditions: Conditions, interval: float) -> None:
    """The formula over the interval, with Young's best and the chosen one."""
    grid = [INTERVALS[0] * (INTERVALS[-1] / INTERVALS[0]) ** (i / 80) for i in range(81)]
    plot.line([(x, 100 * expected_loss(conditions, x)) for x in grid], "main", width=2.5)
    best, loss = conditions.young, 100 * expected_loss(conditions, interval)
    here = (interval, min(loss, 0.93 * plot.y.high))  # above the axis: a triangle at its top
    inside = loss == here[1]
    plot.mark("circle" if inside else "triangle", here, "chosen", size=8)
    point = (best, 100 * expected_loss(conditions, best))
    plot.mark("diamond", point, "published", size=5)  # on the circle, not under it
    plot.paper.take(plot.left, plot.at_y(point[1]) - 2, plot.right, plot.at_y(point[1]) + 2)
    plot.label(here, "chosen" if inside else f"chosen: {significant(loss)}%")
    plot.label(point, "Young's rule")


def draw_losses(paper: Paper, plot: Plot, outcome: Outcome) -> None:
    """Below the curve, the whole time as one bar: useful, and what it was lost to."""
    y, x = plot.low + 62, plot.left
    parts = {"useful": ("tint", "useful"), **LOSSES}
    for name, (role, words) in parts.items():
        share = getattr(outcome, name) / outcome.minutes
        tip = f"{words}: {percent(share)} of the time"
        paper.rect(x, y, plot.width * share, 26, role, stroke="paper", key=name, tip=tip)
        if name == "useful":
            paper.text(x + 8, y + 18, f"useful {percent(share)}", bold=True)
        x += plot.width * share
    signs = [
        ("area", role, f"{words} {percent(getattr(outcome, name) / outcome.minutes)}")
        for name, (role, words) in LOSSES.items()
    ]
    legend(paper, plot.left, y + 52, signs)


class CheckpointInterval(View):
    """Choose how often to save; see what 54 days with the paper's failures leave.

    interval, pause, restart: minutes between checkpoints, of standing still for one, and from a
    stop until training goes on.
    """

    interval = Slider(INTERVALS, "save every", start=27, text=minutes)
    pause = Slider(PAUSES, "a save takes", start=2, text=minutes)
    restart = Slider(RESTARTS, "a restart takes", start=10, text=minutes)

    def scene(self, paper: Paper, *, interval: float, pause: float, restart: float) -> Scene:
        conditions = Conditions(interval=interval, pause=pause, restart=restart)
        outcome = played(interval, pause, restart)
        highest = max(expected_loss(conditions, x) for x in (INTERVALS[0], INTERVALS[-1]))
        plot = paper.plot(
            Log(0.9 * INTERVALS[0], 1.1 * INTERVALS[-1], "minutes between checkpoints (log axis)",
                text=significant, ticks=(2, 5, 10, 20, 50, 100, 200)),
            Linear(0, 110 * min(1.0, highest), "saving and lost work, % of the time"),
            left=LEFT, top=TOP, height=HIGH,
        )  # fmt: skip
        draw_curve(plot, conditions, interval)
        draw_losses(paper, plot, outcome)
        stops = sum(outcome.stops.values())
        return Scene(
            title=f"Saving every {minutes(interval)} leaves {percent(outcome.effective)} of "
            f"54 days useful; Young's rule says {minutes(conditions.young)}",
            notes=[
                f"◆ Young's rule: √(2 · {minutes(pause)} · "
                f"{significant(conditions.between_failures)} min between unexpected stops). "
                f"{stops} stops were drawn from Table 5's counts.",
                "The paper gives the counts, and more than 90% useful time (§3.3.4); what a save "
                "and a restart take is ours to choose here.",
            ],
            table=[
                {"share of the time": words, "value": percent(getattr(outcome, name) / total)}
                for total in [outcome.minutes]
                for name, (_, words) in {"useful": ("", "useful"), **LOSSES}.items()
            ],
            facts={
                "effective": round(outcome.effective, 4),
                "young": round(conditions.young, 2),
                "formula": round(expected_loss(conditions, interval), 4),
                "best": math.isclose(conditions.young, interval, rel_tol=0.15),
            },
        )
