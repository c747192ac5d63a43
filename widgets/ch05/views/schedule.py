"""The learning rate of the 405B over its run, with the sizes of its batches below (section 3.4.1).

Every number is read in `llama3lib.paper`, every rate comes from `llama3lib.train.lr_at`. Whole
steps are counted: the batch changes after the first step with enough tokens.
"""

import math
from itertools import pairwise

from llama3lib.paper import herd
from llama3lib.paper import training as facts
from llama3lib.train import lr_at
from widgets.view import Choice, Linear, Paper, Scene, Slider, View
from widgets.view.measure import text_width
from widgets.view.plot import round_step
from widgets.view.words import with_letter

PEAK, FINAL = facts.PEAK_LEARNING_RATE.value, facts.FINAL_LEARNING_RATE.value
BATCHES = facts.BATCH_TOKENS.value
BORDERS = (0, *facts.BATCH_CHANGES.value, herd.TOKENS.value)  # tokens seen where a batch size ends
ANNEALING = facts.ANNEALING_TOKENS.value
MAGNIFIED = 10_000  # ours: the steps of the second panel
USED_UP = facts.STEPS_FOR_ALL_TOKENS.value
AXES = ("steps", "tokens")
WARM_UPS = (0, 63, 500, 1000, 2000, 4000, facts.WARM_UP.value, 16_000, 32_000, 64_000)
ENDS = (600_000, 800_000, 1_000_000, facts.STEPS_BINARY.value, USED_UP,
        facts.DECAY_STEPS.value, 1_400_000, 1_600_000)  # fmt: skip
ROLES = (("ink", ""), ("sixth", "on_light"), ("tint", "ink"))
"""Of each batch size: its bar, and the words on it."""
POINTS = 240


def borders() -> list[int]:
    """The steps after which the batch size changes or the tokens are used up, beginning with 0."""
    steps, seen = [0], 0
    for batch, until in zip(BATCHES, BORDERS[1:], strict=True):
        count = math.ceil((until - seen) / batch)
        steps.append(steps[-1] + count)
        seen += count * batch
    return steps


def tokens_at(step: float) -> float:
    """Tokens seen after a step; the last batch size goes on for ever."""
    steps = borders()
    ends = [*steps[1:-1], math.inf]
    return sum(
        batch * max(0, min(step, end) - first)
        for batch, first, end in zip(BATCHES, steps, ends, strict=False)
    )


def rate(step: float, warmup: int, total: int) -> float:
    """The learning rate of a step."""
    return lr_at(step, PEAK, warmup, total, FINAL)


def rate_text(value: float) -> str:
    """A rate as in 8.0e-5."""
    return f"{value:.1e}".replace("e-0", "e-")


def headline(warmup: int, total: int) -> str:
    """The title: what to see."""
    where = f"{with_letter(BORDERS[-1])} tokens end at step {USED_UP:,}"
    if total > USED_UP:
        return f"{where}: the rate is {rate_text(rate(USED_UP, warmup, total))} there"
    final = rate_text(FINAL)
    late = f"is {final} since step {total:,}" if total < USED_UP else f"just reaches {final}"
    return f"{where}: the rate {late}"


def notes(warmup: int, total: int) -> list[str]:
    """What is odd in the printed numbers, and what the chosen ones do."""
    first, left, final = borders()[1], total - USED_UP, rate_text(FINAL)
    inside = "lie inside" if first <= warmup else "outlast"
    kept, big = with_letter(ANNEALING), with_letter(BATCHES[-1])
    early = (
        f"The tokens are used up {left:,} steps before the cosine's end: the rate is "
        f"{rate_text(rate(USED_UP, warmup, total))} there, and {final} is not reached."
    )
    late = f"{-left:,} steps before the tokens do" if left else "where the tokens end"
    return [
        f"The {first} steps of {with_letter(BATCHES[0])} tokens {inside} the warm-up of {warmup:,} "
        f"steps: the rate after them is {rate_text(rate(first, warmup, total))}.",
        early if left > 0 else f"The cosine ends {late}, at {final}.",
        f"The final annealing of {kept} tokens is {ANNEALING / BATCHES[-1]:g} steps of {big}, "
        "yet checkpoints are averaged during it.",
        f"{with_letter(BORDERS[1])} and {kept} are printed so. {facts.SLIPS}",
    ]


def sliver(axis: str) -> str:
    """How much of the magnified panel the first batch size takes."""
    sizes = [borders()[1], MAGNIFIED]
    part, whole = sizes if axis == "steps" else map(tokens_at, sizes)
    words = f"{with_letter(part)} of {with_letter(whole)} {axis}, {100 * part / whole:.2f}%"
    return f"{with_letter(BATCHES[0])} a step: {words}"


def table_rows(warmup: int, total: int) -> list[dict[str, str]]:
    """Phases of the run, one a row."""
    steps, rows = borders(), []

    def row(phase: str, first: float, last: float, tokens: float, batch: str, end: str) -> None:
        names = ("phase", "from step", "to step", "tokens", "batch", "rate at its end")
        cells = (phase, f"{first:,}", f"{last:,}", with_letter(tokens), batch, end)
        rows.append(dict(zip(names, cells, strict=True)))

    if warmup:
        sizes = [with_letter(b) for b, first in zip(BATCHES, steps, strict=False) if first < warmup]
        row("warm-up", 0, warmup, tokens_at(warmup), ", then ".join(sizes), rate_text(PEAK))
    for i, (first, last) in enumerate(pairwise(steps)):
        tokens, end = BORDERS[i + 1] - BORDERS[i], rate_text(rate(last, warmup, total))
        row(f"batch {i + 1}", first, last, tokens, with_letter(BATCHES[i]), end)
    back, batch = ANNEALING / BATCHES[-1], with_letter(BATCHES[-1])
    row("annealing, as printed", USED_UP - back, USED_UP, ANNEALING, batch, "0, linear")
    if total > USED_UP:
        rest = tokens_at(total) - tokens_at(USED_UP)
        row("cosine's rest, no tokens left", USED_UP, total, rest, batch, rate_text(FINAL))
    return rows


def ticks(top: float, most: int = 7) -> list[float]:
    """Round numbers from 0 up to `top`, `most` steps or fewer."""
    step = round_step(top, most)
    return [step * i for i in range(math.floor(top / step) + 1)]


def draw_panel(
    paper: Paper, box: tuple[float, float, float], *, axis: str, top: int, warmup: int, total: int
) -> float:
    """Rate and batch sizes of the steps 0 to `top`; box: left, top, width. Returns the low edge."""
    left, high, width = box

    def place(step: float) -> float:
        return tokens_at(step) if axis == "tokens" else step

    def spot(step: float) -> tuple[float, float]:
        return place(step), rate(step, warmup, total)

    levels = [PEAK * i / 4 for i in range(5)]
    y = Linear(0, 1.04 * PEAK, ticks=levels, text=lambda v: rate_text(v) if v else "0")
    x = Linear(0, place(top), text=with_letter)
    plot = paper.plot(x, y, left=left, top=high, width=width, height=206)
    turns = {step for step in (warmup, total, USED_UP) if 0 < step < top}
    steps = sorted({top * i / POINTS for i in range(POINTS + 1)} | turns)
    plot.line([spot(step) for step in steps if step <= USED_UP], "main", width=3)
    low = plot.low + 32
    paper.text(left - 8, low + 18, with_letter(BATCHES[0]), anchor="end")
    for batch, (first, last), (role, on) in zip(BATCHES, pairwise(borders()), ROLES, strict=True):
        if first < top:
            begin = plot.at_x(place(first))
            wide = max(plot.at_x(place(min(last, top))) - begin, 1.5)
            tip = f"{with_letter(batch)} tokens a step, steps {first:,} to {last:,}"
            paper.rect(begin, low, wide, 26, role, stroke="soft", tip=tip)
            if wide > 60:
                middle = begin + wide / 2
                paper.text(middle, low + 18, with_letter(batch), on, anchor="middle")
    if top > USED_UP:
        plot.line([spot(s) for s in steps if s >= USED_UP], "main", width=3, dash="4 4")
        at, end = plot.at(*spot(USED_UP))
        paper.line(at, high - 14, at, low + 26, "bad", stroke_width=1.6, dash="5 4")
        paper.mark("diamond", at, end, "bad", size=6, stroke="none", key="end of the tokens")
        there = rate_text(rate(USED_UP, warmup, total))
        words = f"{with_letter(BORDERS[-1])} used up: {there}"
        paper.text(at - 8, high - 4, words, anchor="end", bold=True)
    return low + 26


def printed(stop: int, value: int) -> str:
    """A stop of a slider, and whether it is the paper's."""
    return f"{stop:,}{' (printed)' if stop == value else ''}"


class ScheduleDesigner(View):
    """Move the end of the warm-up and of the cosine; see the rate where the tokens are used up."""

    warmup = Slider(WARM_UPS, "warm-up steps", text=lambda v: printed(v, facts.WARM_UP.value))
    total = Slider(ENDS, "cosine ends at step", text=lambda v: printed(v, facts.DECAY_STEPS.value))
    axis = Choice(AXES, "axis")

    def __init__(
        self,
        warmup: int = facts.WARM_UP.value,
        total: int = facts.DECAY_STEPS.value,
        *,
        axis: str = AXES[0],
    ) -> None:
        super().__init__(warmup=warmup, total=total, axis=axis)

    def scene(self, paper: Paper, *, warmup: int, total: int, axis: str) -> Scene:
        title, values = headline(warmup, total), {"warmup": warmup, "total": total, "axis": axis}
        beside = not paper.narrow
        wide = 0.66 * (paper.width - 150) if beside else paper.width - 84
        right = (paper.width - 0.34 * (paper.width - 150) - 8, 46) if beside else (70, 388)
        paper.text(4, 16, "learning rate", "soft")
        top = round(1.02 * max(total, USED_UP))
        low = draw_panel(paper, (70, 46, wide), top=top, **values)
        words = f"{axis}; bar: tokens in a batch"
        paper.text(70 + wide / 2, low + 22, words, anchor="middle")
        words = f"magnified: the first {MAGNIFIED:,} steps"
        paper.text(
            min(right[0], paper.width - 4 - text_width(words, 14)), right[1] - 30, words, "soft"
        )
        low = draw_panel(paper, (*right, paper.width - right[0] - 14), top=MAGNIFIED, **values)
        paper.text(
            paper.width - 2, low + 22 + 20 * (paper.width == 720), sliver(axis), anchor="end"
        )
        return Scene(
            title=title,
            notes=notes(warmup, total),
            table=table_rows(warmup, total),
            say=f"{title}. {sliver(axis)}.",
            facts={"rate": f"{rate(USED_UP, warmup, total):.6e}", "axis": axis},
        )

    def rate_at_end(self) -> float:
        """The learning rate where the tokens are used up."""
        return rate(USED_UP, self.warmup, self.total)
