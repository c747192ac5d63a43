"""A pipeline's schedule over time: who works on which micro-batch, and who waits.

The order is that of `llama3lib.parallel.schedules`; a forward pass of all of a rank's layers takes
1, the backward pass 2, and messages take no time.
"""

from functools import lru_cache

from llama3lib.parallel.schedules import Timeline, pipeline_order, simulate
from widgets.core.colours import SERIES
from widgets.view import Choice, Linear, Paper, Plot, Scene, Slider, View
from widgets.view.legend import legend
from widgets.view.measure import text_width
from widgets.view.words import percent, significant

SHAPES = {
    (pp, v): f"PP = {pp}, V = {v}" for pp, v in ((2, 1), (4, 1), (4, 2), (4, 4), (8, 1), (8, 2))
}
MICRO_BATCHES = (1, 2, 4, 6, 8, 12, 16)
FORWARD, BACKWARD = 1.0, 2.0
LEFT, TOP, HIGH = 74, 26, 236  # pixels
NOTE = 250  # pixels at the right for what each rank holds
NUMBER = 12  # pixels: type of a micro-batch's number


def runs(pp: int, virtual: int, micro_batches: int) -> list[int]:
    """The N that a schedule may have; none where it changes nothing."""
    if virtual == 1 or micro_batches < pp:
        return []
    rest = {n: micro_batches % n for n in range(pp, micro_batches + 1)}
    return [n for n, left in rest.items() if left == 0 or left >= pp]


@lru_cache(maxsize=300)
def timeline(pp: int, virtual: int, micro_batches: int, run: int | None) -> Timeline:
    """A schedule, played."""
    order = pipeline_order(pp, micro_batches, virtual=virtual, run=run)
    return simulate(order, forward=FORWARD / virtual, backward=BACKWARD / virtual)


def headline(pp: int, virtual: int, micro_batches: int, played: Timeline) -> str:
    """The title: how long the ranks wait, and whether the formula says so."""
    formula = (pp - 1) / (virtual * micro_batches)
    found = f"The ranks wait for {percent(played.bubble)} of the time that they work"
    if abs(played.bubble - formula) < 1e-9:
        return f"{found}: (PP − 1) / (V · M) = {pp - 1}/{virtual * micro_batches}"
    return f"{found}; (PP − 1) / (V · M) would be {percent(formula)}"


def draw_spans(paper: Paper, plot: Plot, played: Timeline) -> None:
    """Every pass as a box: its colour says which of a rank's stages, its fill the direction."""
    row = plot.height / played.pp
    last = max(span.action.micro_batch for span in played.spans)
    widest = text_width(str(last), NUMBER)  # all of a kind have numbers, or none
    room = {"F": widest + 2, "B": widest + 5}
    for rank in range(played.pp):
        y = plot.top + row * rank
        paper.text(LEFT - 8, y + row / 2 + 5, f"rank {rank}", anchor="end")
        paper.rect(plot.left, y + 1, plot.width, row - 3, "tint")
    for span in played.spans:
        kind, stage, number = span.action
        role = SERIES[stage // played.pp % len(SERIES)]
        x, wide = plot.at_x(span.start), plot.at_x(span.end) - plot.at_x(span.start)
        y = plot.top + row * span.rank
        way = "forward" if kind == "F" else "backward"
        words = f"rank {span.rank}, stage {stage}: {way} pass of micro-batch {number}, "
        words += f"{significant(span.start)} to {significant(span.end)}"
        fill = role if kind == "F" else paper.hatch(role)
        with paper.group(key=str(span.action), tip=words):
            paper.rect(x, y + 2, wide - 1, row - 5, fill, stroke=role)
            if wide >= room[kind]:
                ink = "on_dark" if kind == "F" and role == "first" else "ink"
                ink = "on_light" if kind == "F" and role != "first" else ink
                middle, low = x + wide / 2, y + row / 2 + 4
                style = {"size": NUMBER, "anchor": "middle", "halo": kind == "B"}
                paper.text(middle, low, str(number), ink, **style)


def signs(paper: Paper, pp: int, virtual: int) -> list[tuple[str, str, str]]:
    """The legend: fills for the directions and, with several stages a rank, a colour for each."""
    role = "first" if virtual == 1 else "eighth"
    ways = [("area", role, "forward"), ("area", paper.hatch(role), "backward")]
    found = [*ways, ("area", "tint", "waiting")]
    if virtual > 1:
        found += [
            ("area", SERIES[i % len(SERIES)], f"stages {pp * i} to {pp * (i + 1) - 1}")
            for i in range(virtual)
        ]
    return found


def micro_batches_of(amount: float) -> str:
    """1 micro-batch, 4.75 micro-batches."""
    return f"{significant(amount)} micro-batch{'' if amount == 1 else 'es'}"


def held(played: Timeline, virtual: int) -> list[float]:
    """For each rank, micro-batches whose activations it keeps at the worst moment.

    A pass through one of V stages keeps 1/V of what the rank's layers keep of a micro-batch.
    """
    return [played.peak_in_flight(rank) / virtual for rank in range(played.pp)]


def draw_held(paper: Paper, plot: Plot, kept: list[float]) -> None:
    """Bars at the right: what each rank must keep."""
    left, row = plot.left + plot.width + 34, plot.height / len(kept)
    paper.text(left, TOP - 10, "activations kept, micro-batches", "soft", size=13)
    unit = (NOTE - 90) / max(kept)
    for rank, amount in enumerate(kept):
        y = plot.top + row * rank
        tip = f"rank {rank} keeps the activations of {micro_batches_of(amount)}"
        paper.rect(left, y + 2, unit * amount, row - 5, "measured", key=f"held {rank}", tip=tip)
        paper.text(left + unit * amount + 6, y + row / 2 + 5, significant(amount), size=13)


class PipelineTimeline(View):
    """Choose a pipeline and its micro-batches; see when each rank works, waits, and what it keeps.

    shape: (PP, V). micro_batches: M. run: N, micro-batches in a row through one stage.
    """

    shape = Choice(SHAPES, "pipeline", start=(4, 1))
    micro_batches = Slider(MICRO_BATCHES, "micro-batches M", start=8)
    run = Slider(lambda view, values: runs(*values["shape"], values["micro_batches"]), "in a row N")

    def scene(self, paper: Paper, *, shape: tuple, micro_batches: int, run: int | None) -> Scene:
        pp, virtual = shape
        allowed = runs(pp, virtual, micro_batches)
        played = timeline(pp, virtual, micro_batches, run if run in allowed else None)
        kept = held(played, virtual)
        right = 18 if paper.narrow else NOTE
        axis = Linear(0, played.wall, "time; a forward pass through all of a rank's layers takes 1")
        plot = paper.plot(
            axis, Linear(0, 1, ticks=()), left=LEFT, top=TOP, right=right, height=HIGH
        )
        draw_spans(paper, plot, played)
        if not paper.narrow:
            draw_held(paper, plot, kept)
        legend(paper, LEFT, plot.low + 70, signs(paper, pp, virtual))
        worst = max(kept)
        return Scene(
            title=headline(pp, virtual, micro_batches, played),
            notes=[
                f"The batch takes {significant(played.wall)}; without waiting it would take "
                f"{significant(micro_batches * (FORWARD + BACKWARD))}. Rank {kept.index(worst)} "
                f"keeps the activations of {micro_batches_of(worst)}.",
                "A number is a micro-batch, where it has room. With V stages a rank, each stage "
                "has a colour of its own and a V-th of the rank's layers.",
                "N is how many micro-batches pass one stage in a row before the rank turns to its "
                "next stage: PP keeps least, M leaves most time for messages (§3.3.2).",
            ],
            table=rows(played, kept),
            facts={"bubble": round(played.bubble, 4), "wall": played.wall, "kept": worst},
        )


def rows(played: Timeline, kept: list[float]) -> list[dict[str, object]]:
    """The ranks as a table."""
    found = []
    for rank in range(played.pp):
        mine = [span for span in played.spans if span.rank == rank]
        busy = sum(span.end - span.start for span in mine)
        found.append(
            {
                "rank": rank,
                "passes": len(mine),
                "works": significant(busy),
                "waits": significant(played.wall - busy),
                "micro-batches kept": significant(kept[rank]),
            }
        )
    return found
