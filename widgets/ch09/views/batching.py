"""The seats of a batch over time: static against continuous batching of the same requests.

`llama3lib.inference.simulate` plays every setting with the real scheduler; how long a step takes
comes from measured steps. The browser shows what was stored of the runs.
"""

import itertools
import math
from functools import cache

import numpy as np
import traitlets

from llama3lib.inference.simulate import (
    Run,
    Seconds,
    StepTime,
    Workload,
    run_continuous,
    run_static,
)
from widgets.ch05.views.schedule import ticks
from widgets.ch09.views.latency import STORED_ON, digits, fixed, whole
from widgets.ch09.views.paging import percent
from widgets.core.drawing import BLUE, GREEN, ORANGE, PAPER, PURPLE, RED, SKY, SOFT, Drawing
from widgets.core.widget import CourseWidget, css, esm

# median of five fits to measure_steps(tiny-base); where and when: STORED_ON
STORED_TIME = StepTime(fixed=1.246e-3, per_token=3.65e-5, per_cached=1.278e-6)
MODES = {"static": "static", "continuous": "continuous", "pieces": "continuous, prompts in pieces"}
PIECE = 32  # ours: the most tokens of a step when prompts are read in pieces
SEATS = (2, 4, 6, 8)
SPREADS = (0.0, 0.5, 1.0)  # of the logarithms of the answers' lengths
NUM_JOBS, PROMPT, OUTPUT = 24, 60, 40  # ours: requests, mean tokens read and written
COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, "#8a8a00", "#666666")
KINDS = ("prompt", "decode", "padding")
PADDING = "padding: the seat waits for the longest text"
PLOT = {"x": 70, "y": 88, "width": 910, "row": 38}


@cache
def requests(spread: float) -> Workload:
    """The requests, all there at the start (ours). Their prompts are the same at every spread."""
    sizes = {"prompt_tokens": PROMPT, "output_tokens": OUTPUT, "most_tokens": 250}
    spreads = {"prompt_spread": 0.8, "output_spread": spread}
    return Workload.random(NUM_JOBS, rate=math.inf, seed=1, **sizes, **spreads)


def play(mode: str, seats: int, spread: float, step_time: Seconds) -> Run:
    """One setting, simulated."""
    work = requests(spread)
    if mode == "static":
        return run_static(work, step_time, seats)
    most = PIECE if mode == "pieces" else 512
    return run_continuous(work, step_time, max_num_seqs=seats, max_num_batched_tokens=most)


def cell(run: Run) -> dict[str, object]:
    """What the picture needs of a run, in milliseconds rounded to a hundredth."""

    def ms(seconds: float) -> float:
        return round(1000 * seconds, 2)

    spans = [(s.seat, s.job, KINDS.index(s.kind), ms(s.start), ms(s.end)) for s in run.spans]
    return {
        "end": ms(run.end),
        "idle": round(run.idle_share, 4),
        "rate": round(run.throughput, 1),
        "wait": ms(max(run.times_between_tokens)),
        "first": [ms(times[0]) for times in run.token_times],
        "done": [ms(times[-1]) for times in run.token_times],
        "spans": spans,
        "ticks": sorted({ms(at) for times in run.token_times for at in times}),
    }


def play_all(step_time: Seconds) -> dict[str, dict[str, object]]:
    """Every setting of the widget."""
    settings = itertools.product(MODES, SEATS, SPREADS)
    return {key(*setting): cell(play(*setting, step_time)) for setting in settings}


def key(mode: str, seats: int, spread: float) -> str:
    return f"{mode} {seats} {spread:g}"


def headline(mode: str, cells: dict[str, dict]) -> str:
    """The title: what the mode does to the seats' time. cells: one for each mode."""
    now, static = cells[mode], cells["static"]
    idle = f"{percent(now['idle'])} of the seats' time is idle"
    if mode == "static":
        share = fixed(cells["continuous"]["end"] / static["end"])
        return f"Static: {idle}; continuous batching ends in {share} of the time"
    if mode == "continuous":
        share = fixed(now["end"] / static["end"])
        return f"Continuous: {idle}; it ends in {share} of the time of static batching"
    waits = f"{digits(now['wait'])} ms, with whole prompts {digits(cells['continuous']['wait'])} ms"
    return f"Prompts in pieces: longest wait between two tokens {waits}"


def mode_words(name: str, one: dict) -> str:
    """A mode in numbers."""
    return (
        f"{digits(one['end'])} ms · {percent(one['idle'])} idle · {whole(one['rate'])} tokens/s · "
        f"longest wait between two tokens {digits(one['wait'])} ms"
    )


def table_rows(work: list[tuple[int, int]], one: dict) -> list[dict[str, object]]:
    """The requests of a run as a table."""
    seats = {job: seat for seat, job, *_ in one["spans"]}
    return [
        {
            "text": job + 1,
            "seat": seats[job] + 1,
            "tokens read": prompt,
            "tokens written": output,
            "first token, ms": fixed(one["first"][job]),
            "last token, ms": fixed(one["done"][job]),
        }
        for job, (prompt, output) in enumerate(work)
    ]


def names(spans: list[tuple], left: float, scale: float) -> list[tuple[int, int, float, bool]]:
    """Where each text's number stands: seat, text, x, and whether above its bar.

    A bar that is too narrow has it above; there it gives way to the number before it.
    """
    found, ends = [], {}
    for seat, job, kind, start, end in spans:
        if KINDS[kind] != "decode":
            continue
        x, wide, long = left + scale * start, scale * (end - start), len(str(job + 1))
        above = wide <= 8 + 9 * long
        at = max(x + wide / 2 - 3.5 * long, ends.get(seat, 0) + 3) if above else x + 4
        if above:
            ends[seat] = at + 7 * long
        found.append((seat, job, at, above))
    return found


def draw_batching(mode: str, seats: int, cells: dict[str, dict], told: list[str]) -> str:
    """The static picture, as SVG."""
    title, one = headline(mode, cells), cells[mode]
    high = PLOT["y"] + PLOT["row"] * seats
    description = "; ".join(f"{MODES[m]}: {mode_words(m, c)}" for m, c in cells.items())
    picture = Drawing(
        1000, high + 206, title=title, description=" ".join([f"{description}.", *told])
    )
    picture.hatch("idle", SOFT, 45, gap=7)
    picture.text(20, 30, title, size=19, font_weight=600)
    words = (
        "number: the text; solid: reads its prompt; pale, a line for each token: writes; "
        f"hatched: {PADDING}"
    )
    picture.text(20, 62, words, size=14, fill=SOFT)
    longest = max(c["end"] for c in cells.values())
    scale = PLOT["width"] / longest
    for value in ticks(longest, 8):
        at = PLOT["x"] + scale * value
        picture.line(at, PLOT["y"] - 6, at, high)
        picture.text(at, high + 18, digits(value) if value else "0", anchor="middle", fill=SOFT)
    picture.text(PLOT["x"] + PLOT["width"], high + 38, "ms", anchor="end", fill=SOFT)
    for seat in range(seats):
        picture.text(62, PLOT["y"] + PLOT["row"] * seat + 17, f"seat {seat + 1}", anchor="end")
    for span in one["spans"]:
        _draw_span(picture, span, one["ticks"], scale)
    halo = {"stroke": PAPER, "stroke_width": 3, "paint_order": "stroke"}
    for seat, job, at, above in names(one["spans"], PLOT["x"], scale):
        y = PLOT["y"] + PLOT["row"] * seat + (-3 if above else 17)
        size, style = (11, halo) if above else (14, {})
        picture.text(at, y, str(job + 1), size=size, font_weight=600, **style)
    for place, (name, other) in enumerate(cells.items()):
        y = high + 62 + 26 * place
        weight = 600 if name == mode else None
        picture.text(20, y, MODES[name], font_weight=weight)
        picture.text(286, y, mode_words(name, other), font_weight=weight)
    for place, line in enumerate(told):
        picture.text(20, high + 146 + 22 * place, line, fill=SOFT)
    return picture.svg()


def _draw_span(picture: Drawing, span: tuple, marks: list[float], scale: float) -> None:
    seat, job, kind, start, end = span
    x, y = PLOT["x"] + scale * start, PLOT["y"] + PLOT["row"] * seat
    wide, colour = scale * (end - start), COLOURS[job % len(COLOURS)]
    fill = ("url(#idle)" if kind == 2 else colour, 0.3 if kind == 1 else None)
    picture.rect(x, y, wide, 24, fill=fill[0], fill_opacity=fill[1], stroke=colour)
    if kind == 1:
        inside = [PLOT["x"] + scale * at for at in marks if start < at < end]
        path = "".join(f"M{at:.1f} {y}v24" for at in inside)
        picture.shape("path", d=path, stroke=colour, stroke_width=0.6, fill="none")


class BatchingTimeline(CourseWidget):
    """Static and continuous batching of the same requests, seat by seat.

    Works in a saved page: no kernel is asked. step_time: seconds of a step from its tokens and
    the cached tokens before it, for instance `StepTime.fit(measure_steps(model))`; none: the
    stored fit. note: where and when its steps were measured.
    """

    _esm = esm("batching")
    _css = css("batching")
    mode = traitlets.Unicode("static").tag(sync=True)
    seats = traitlets.Int(4).tag(sync=True)
    spread = traitlets.Float(0.5).tag(sync=True)
    runs = traitlets.Dict().tag(sync=True)
    told = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        mode: str = "static",
        *,
        seats: int = 4,
        spread: float = 0.5,
        step_time: Seconds | None = None,
        note: str | None = None,
    ) -> None:
        said = STORED_ON if step_time is None else "measured in this notebook"
        jobs = {
            f"{spread:g}": [(job.prompt_tokens, job.output_tokens) for job in requests(spread).jobs]
            for spread in SPREADS
        }
        told = {"modes": MODES, "seats": SEATS, "spreads": SPREADS, "jobs": jobs}
        told["note"] = f"Step times: {note or said}. Requests: ours, {NUM_JOBS} at once."
        told["padding"] = PADDING
        told["pieces"] = f"In pieces: at most {PIECE} tokens a step."
        runs = play_all(STORED_TIME if step_time is None else step_time)
        super().__init__(runs=runs, told=told)
        self.mode, self.seats, self.spread = mode, seats, spread

    @traitlets.validate("mode", "seats", "spread")
    def _offered(self, proposal: dict) -> object:
        field, value = proposal["trait"].name, proposal["value"]
        allowed = {"mode": tuple(MODES), "seats": SEATS, "spread": SPREADS}[field]
        if value not in allowed:
            names = ", ".join(map(str, allowed))
            raise traitlets.TraitError(f"{field}={value!r} is not allowed: one of {names}")
        return value

    def cells(self) -> dict[str, dict]:
        """The runs of all modes with these seats and this spread."""
        return {mode: self.runs[key(mode, self.seats, self.spread)] for mode in MODES}

    def notes(self) -> list[str]:
        """What the requests are, and where the step times come from."""
        return [f"{answers(self.told, self.spread)} {self.told['pieces']}", self.told["note"]]

    def summary(self) -> str:
        return headline(self.mode, self.cells())

    def table(self) -> list[dict[str, object]]:
        return table_rows(self.told["jobs"][f"{self.spread:g}"], self.cells()[self.mode])

    def static_svg(self) -> str:
        return draw_batching(self.mode, self.seats, self.cells(), self.notes())


def answers(told: dict, spread: float) -> str:
    """The lengths of prompts and answers, in words."""
    prompts, outputs = np.array(told["jobs"][f"{spread:g}"]).T
    read = f"Prompts of {prompts.min()} to {prompts.max()} tokens"
    if outputs.min() == outputs.max():
        return f"{read}, answers of {outputs.min()}."
    average = whole(float(outputs.mean()))
    return f"{read}, answers of {outputs.min()} to {outputs.max()}, {average} on average."
