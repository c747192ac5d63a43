"""The learning rate of the 405B over its run, with the sizes of its batches below (section 3.4.1).

Every number is read in `llama3lib.paper`, every rate comes from `llama3lib.train.lr_at`. Whole
steps are counted: the batch changes after the first step with enough tokens. The browser does it
again so that a saved page still works.
"""

import math
from itertools import pairwise

import traitlets

from llama3lib.paper import herd
from llama3lib.paper import training as facts
from llama3lib.train import lr_at
from widgets.core.drawing import BLUE, INK, RED, SKY, SOFT, Drawing
from widgets.core.widget import CourseWidget, css, esm

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
MAIN = {"x": 92, "y": 84, "width": 556, "height": 220}
ZOOM = {"x": 742, "y": 84, "width": 236, "height": 220}


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


def amount(value: float) -> str:
    """Three digits and a unit: 63, 10K, 252M, 2.87T."""
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if value >= size:
            return f"{float(f'{value / size:.3g}'):g}{unit}"
    return f"{float(f'{value:.3g}'):g}"


def rate_text(value: float) -> str:
    """A rate as in 8.0e-5."""
    return f"{value:.1e}".replace("e-0", "e-")


def headline(warmup: int, total: int) -> str:
    """The title: what to see."""
    where = f"{amount(BORDERS[-1])} tokens end at step {USED_UP:,}"
    if total > USED_UP:
        return f"{where}: the rate is {rate_text(rate(USED_UP, warmup, total))} there"
    final = rate_text(FINAL)
    late = f"is {final} since step {total:,}" if total < USED_UP else f"just reaches {final}"
    return f"{where}: the rate {late}"


def notes(warmup: int, total: int) -> list[str]:
    """What is odd in the printed numbers, and what the chosen ones do."""
    first, left, final = borders()[1], total - USED_UP, rate_text(FINAL)
    inside = "lie inside" if first <= warmup else "outlast"
    kept, big = amount(ANNEALING), amount(BATCHES[-1])
    early = (
        f"The tokens are used up {left:,} steps before the cosine's end: the rate is "
        f"{rate_text(rate(USED_UP, warmup, total))} there, and {final} is not reached."
    )
    late = f"{-left:,} steps before the tokens do" if left else "where the tokens end"
    return [
        f"The {first} steps of {amount(BATCHES[0])} tokens {inside} the warm-up of {warmup:,} "
        f"steps: the rate after them is {rate_text(rate(first, warmup, total))}.",
        early if left > 0 else f"The cosine ends {late}, at {final}.",
        f"The final annealing of {kept} tokens is {ANNEALING / BATCHES[-1]:g} steps of {big}, "
        "yet checkpoints are averaged during it.",
        f"{amount(BORDERS[1])} and {kept} are printed so. {facts.SLIPS}",
    ]


def sliver(axis: str) -> str:
    """How much of the magnified panel the first batch size takes."""
    sizes = [borders()[1], MAGNIFIED]
    part, whole = sizes if axis == "steps" else map(tokens_at, sizes)
    words = f"{amount(part)} of {amount(whole)} {axis}, {100 * part / whole:.2f}%"
    return f"{amount(BATCHES[0])} a step: {words}"


def table_rows(warmup: int, total: int) -> list[dict[str, str]]:
    """Phases of the run, one a row."""
    steps, rows = borders(), []

    def row(phase: str, first: float, last: float, tokens: float, batch: str, end: str) -> None:
        names = ("phase", "from step", "to step", "tokens", "batch", "rate at its end")
        cells = (phase, f"{first:,}", f"{last:,}", amount(tokens), batch, end)
        rows.append(dict(zip(names, cells, strict=True)))

    if warmup:
        sizes = [amount(b) for b, first in zip(BATCHES, steps, strict=False) if first < warmup]
        row("warm-up", 0, warmup, tokens_at(warmup), ", then ".join(sizes), rate_text(PEAK))
    for i, (first, last) in enumerate(pairwise(steps)):
        tokens, end = BORDERS[i + 1] - BORDERS[i], rate_text(rate(last, warmup, total))
        row(f"batch {i + 1}", first, last, tokens, amount(BATCHES[i]), end)
    back, batch = ANNEALING / BATCHES[-1], amount(BATCHES[-1])
    row("annealing, as printed", USED_UP - back, USED_UP, ANNEALING, batch, "0, linear")
    if total > USED_UP:
        rest = tokens_at(total) - tokens_at(USED_UP)
        row("cosine's rest, no tokens left", USED_UP, total, rest, batch, rate_text(FINAL))
    return rows


def ticks(top: float, most: int = 7) -> list[float]:
    """Round numbers from 0 up to `top`, `most` steps or fewer."""
    power = 10 ** math.floor(math.log10(top / most))
    step = next(power * m for m in (1, 2, 5, 10) if top / (power * m) <= most)
    return [step * i for i in range(math.floor(top / step) + 1)]


def _draw_axes(picture: Drawing, box: dict, whole: float) -> None:
    x, width, low = box["x"], box["width"], box["y"] + box["height"]
    for level in range(5):
        y = low - box["height"] * level / 4
        picture.line(x, y, x + width, y)
        words = rate_text(PEAK * level / 4) if level else "0"
        picture.text(x - 8, y + 5, words, anchor="end", fill=SOFT)
    for value in ticks(whole, 7 if box is MAIN else 4):
        at = x + width * value / whole
        picture.line(at, low + 36, at, low + 42, stroke=SOFT)
        picture.text(at, low + 58, amount(value), anchor="middle", fill=SOFT)


def _draw_panel(picture: Drawing, box: dict, axis: str, top: int, warmup: int, total: int) -> None:
    """Rate and batch sizes of the steps 0 to `top`."""
    x, y, low = box["x"], box["y"], box["y"] + box["height"]
    whole = tokens_at(top) if axis == "tokens" else top

    def spot(step: float) -> tuple[float, float]:
        place = tokens_at(step) if axis == "tokens" else step
        share = rate(step, warmup, total) / PEAK
        return x + box["width"] * place / whole, low - box["height"] * share

    _draw_axes(picture, box, whole)
    turns = {step for step in (warmup, total, USED_UP) if 0 < step < top}
    steps = sorted({top * i / 240 for i in range(241)} | turns)
    spots = {step: "{:.1f},{:.1f}".format(*spot(step)) for step in steps}
    for points, dash in (
        ([at for step, at in spots.items() if step <= USED_UP], None),
        ([at for step, at in spots.items() if step >= USED_UP], "4 4"),
    ):
        style = {"fill": "none", "stroke": BLUE, "stroke_width": 3, "stroke_dasharray": dash}
        picture.shape("polyline", points=" ".join(points), **style)
    picture.text(x - 8, low + 26, amount(BATCHES[0]), anchor="end")
    for i, (first, last) in enumerate(pairwise(borders())):
        if first < top:
            begin = spot(first)[0]
            wide = max(spot(min(last, top))[0] - begin, 1.5)
            picture.rect(begin, low + 8, wide, 26, fill=(INK, SKY, "#d7dee6")[i], stroke=SOFT)
            if wide > 60:
                picture.text(begin + wide / 2, low + 26, amount(BATCHES[i]), anchor="middle")
    if top > USED_UP:
        at, high = spot(USED_UP)
        picture.line(at, y - 14, at, low + 36, stroke=RED, stroke_width=1.6, stroke_dasharray="5 4")
        picture.mark("diamond", at, high, 6, fill=RED)
        there = rate_text(rate(USED_UP, warmup, total))
        words = f"{amount(BORDERS[-1])} used up: {there}"
        picture.text(at - 8, y - 4, words, anchor="end", font_weight=600)


def draw_schedule(warmup: int, total: int, axis: str) -> str:
    """The static picture, as SVG."""
    title, told = headline(warmup, total), notes(warmup, total)
    picture = Drawing(1000, 500, title=title, description=" ".join(told))
    picture.text(20, 34, title, size=22, font_weight=600)
    picture.text(20, MAIN["y"] - 22, "learning rate", fill=SOFT)
    _draw_panel(picture, MAIN, axis, round(1.02 * max(total, USED_UP)), warmup, total)
    low = MAIN["y"] + MAIN["height"]
    middle = MAIN["x"] + MAIN["width"] / 2
    picture.text(middle, low + 84, f"{axis}; bar: tokens in a batch", anchor="middle", size=15)
    picture.text(ZOOM["x"], ZOOM["y"] - 22, f"magnified: the first {MAGNIFIED:,} steps", fill=SOFT)
    _draw_panel(picture, ZOOM, axis, MAGNIFIED, warmup, total)
    picture.text(ZOOM["x"] + ZOOM["width"], low + 84, sliver(axis), anchor="end", size=15)
    for place, line in enumerate(told):
        picture.text(20, low + 122 + 22 * place, line, fill=SOFT)
    return picture.svg()


class ScheduleDesigner(CourseWidget):
    """Move the end of the warm-up and of the cosine; see the rate where the tokens are used up.

    Works in a saved page: no kernel is asked.
    """

    _esm = esm("schedule")
    _css = css("schedule")
    warmup = traitlets.Int(facts.WARM_UP.value).tag(sync=True)
    total = traitlets.Int(facts.DECAY_STEPS.value).tag(sync=True)
    axis = traitlets.Unicode(AXES[0]).tag(sync=True)
    recipe = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        warmup: int = facts.WARM_UP.value,
        total: int = facts.DECAY_STEPS.value,
        *,
        axis: str = AXES[0],
    ) -> None:
        recipe = {"peak": PEAK, "final": FINAL, "batches": BATCHES, "borders": BORDERS}
        recipe |= {"annealing": ANNEALING, "magnified": MAGNIFIED, "slips": facts.SLIPS}
        recipe |= {"warmups": WARM_UPS, "ends": ENDS}
        recipe |= {"printed": [facts.WARM_UP.value, facts.DECAY_STEPS.value]}
        super().__init__(warmup=warmup, total=total, axis=axis, recipe=recipe)

    @traitlets.validate("warmup", "total")
    def _in_range(self, proposal: dict) -> int:
        name, value = proposal["trait"].name, proposal["value"]
        stops = WARM_UPS if name == "warmup" else ENDS
        low, high = min(stops), max(stops)
        if not low <= value <= high:
            raise traitlets.TraitError(f"{name}={value!r} is not allowed: {low:,} to {high:,}")
        return value

    @traitlets.validate("axis")
    def _known_axis(self, proposal: dict) -> str:
        if proposal["value"] not in AXES:
            names = ", ".join(AXES)
            raise traitlets.TraitError(f"axis={proposal['value']!r} is not allowed: one of {names}")
        return proposal["value"]

    def rate_at_end(self) -> float:
        """The learning rate where the tokens are used up."""
        return rate(USED_UP, self.warmup, self.total)

    def summary(self) -> str:
        return headline(self.warmup, self.total)

    def table(self) -> list[dict[str, object]]:
        return table_rows(self.warmup, self.total)

    def static_svg(self) -> str:
        return draw_schedule(self.warmup, self.total, self.axis)
