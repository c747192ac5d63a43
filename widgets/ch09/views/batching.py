"""The slots of a batch over time: static against continuous batching of the same requests.

`llama3lib.inference.simulate` plays every setting with the real scheduler; how long a step takes
comes from measured steps.
"""

import math
from collections.abc import Sequence
from functools import cache, lru_cache

import numpy as np

from llama3lib.inference.simulate import (
    Run,
    Seconds,
    StepTime,
    Workload,
    run_continuous,
    run_static,
)
from widgets.ch09.views.latency import STORED_ON
from widgets.ch09.views.paging import percent
from widgets.core.colours import SERIES
from widgets.view import Choice, Linear, Paper, Plot, Scene, Slider, View
from widgets.view.paper import WIDTHS
from widgets.view.words import fixed, significant, thousands

# median of five fits to measure_steps(tiny-base); where and when: STORED_ON
STORED_TIME = StepTime(fixed=1.246e-3, per_token=3.65e-5, per_cached=1.278e-6)
MODES = {"static": "static", "continuous": "continuous", "pieces": "continuous, chunked prefill"}
PIECE = 32  # ours: the most tokens of a step when prompts are read in pieces
SLOTS = (2, 4, 6, 8)
SPREADS = (0.0, 0.5, 1.0)  # of the logarithms of the answers' lengths
NUM_JOBS, PROMPT, OUTPUT = 24, 60, 40  # ours: requests, mean tokens read and written
KINDS = ("prompt", "decode", "padding")
PADDING = "padding: the slot waits for the longest sequence"
LEFT, TOP, ROW, BAR = 64, 26, 36, 23  # pixels
MOMENTS = 60  # stops of the time slider; the last shows the whole run


@cache
def requests(spread: float) -> Workload:
    """The requests, all there at the start (ours). Their prompts are the same at every spread."""
    sizes = {"prompt_tokens": PROMPT, "output_tokens": OUTPUT, "most_tokens": 250}
    spreads = {"prompt_spread": 0.8, "output_spread": spread}
    return Workload.random(NUM_JOBS, rate=math.inf, seed=1, **sizes, **spreads)


def play(mode: str, slots: int, spread: float, step_time: Seconds) -> Run:
    """One setting, simulated."""
    work = requests(spread)
    if mode == "static":
        return run_static(work, step_time, slots)
    most = PIECE if mode == "pieces" else 512
    return run_continuous(work, step_time, max_num_seqs=slots, max_num_batched_tokens=most)


@lru_cache(maxsize=500)
def cell(mode: str, slots: int, spread: float, step_time: Seconds) -> dict[str, object]:
    """What the picture needs of one setting's run, in milliseconds rounded to a hundredth."""
    run = play(mode, slots, spread, step_time)

    def ms(seconds: float) -> float:
        return round(1000 * seconds, 2)

    spans = [(s.slot, s.job, KINDS.index(s.kind), ms(s.start), ms(s.end)) for s in run.spans]
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


def headline(mode: str, cells: dict[str, dict]) -> str:
    """The title: what the mode does to the slots' time. cells: one for each mode."""
    now, static = cells[mode], cells["static"]
    idle = f"{percent(now['idle'])} of slot time idle"
    if mode == "static":
        share = percent(cells["continuous"]["end"] / static["end"])
        return f"Static batching leaves {idle}; continuous batching finishes in {share} of the time"
    if mode == "continuous":
        share = percent(now["end"] / static["end"])
        return f"Continuous batching leaves {idle} and takes {share} of the time of static batching"
    waits = [significant(one["wait"]) for one in (now, cells["continuous"])]
    return f"Chunked prefill: longest time between tokens {waits[0]} ms, against {waits[1]} ms"


def mode_words(name: str, one: dict) -> str:
    """A mode in numbers."""
    return (
        f"{significant(one['end'])} ms · {percent(one['idle'])} idle · "
        f"{thousands(one['rate'])} tokens/s · "
        f"longest time between tokens {significant(one['wait'])} ms"
    )


def table_rows(work: Sequence, one: dict) -> list[dict[str, object]]:
    """The requests of a run as a table."""
    slots = {job: slot for slot, job, *_ in one["spans"]}
    return [
        {
            "sequence": job + 1,
            "slot": slots[job] + 1,
            "prompt tokens": asked.prompt_tokens,
            "output tokens": asked.output_tokens,
            "first token, ms": fixed(one["first"][job]),
            "last token, ms": fixed(one["done"][job]),
        }
        for job, asked in enumerate(work)
    ]


def names(spans: list[tuple], left: float, scale: float) -> list[tuple[int, int, float, bool]]:
    """Where each text's number stands: slot, text, x, and whether above its bar.

    A bar that is too narrow has it above; there it gives way to the number before it.
    """
    found, ends = [], {}
    for slot, job, kind, start, end in spans:
        if KINDS[kind] != "decode":
            continue
        x, wide, long = left + scale * start, scale * (end - start), len(str(job + 1))
        above = wide <= 8 + 9 * long
        at = max(x + wide / 2 - 3.5 * long, ends.get(slot, 0) + 3) if above else x + 4
        if above:
            ends[slot] = at + 7 * long
        found.append((slot, job, at, above))
    return found


def draw_span(
    paper: Paper, plot: Plot, span: tuple, marks: list[float], now: float, words: str
) -> None:
    """One stay of a text in a slot, as far as it has come."""
    slot, job, kind, start, end = span
    x, y, role = plot.at_x(start), plot.top + ROW * slot, SERIES[job % len(SERIES)]
    wide = plot.at_x(min(end, now)) - x
    fill = paper.hatch("soft") if KINDS[kind] == "padding" else role
    pale = 0.3 if KINDS[kind] == "decode" else None
    with paper.group(key=f"{slot} {job} {kind} {start}", tip=words):
        paper.rect(x, y, wide, BAR, fill, fill_opacity=pale, stroke=role)
        if KINDS[kind] == "decode":
            inside = [plot.at_x(at) for at in marks if start < at < min(end, now)]
            path = "".join(f"M{at:.1f} {y}v{BAR}" for at in inside)
            paper.shape("path", d=path or f"M{x:.1f} {y}", stroke=role, stroke_width=0.6)


def draw_names(paper: Paper, plot: Plot, spans: list[tuple], now: float) -> None:
    """The numbers of the texts, in their bars or above them."""
    begun = [(s, j, k, start, min(end, now)) for s, j, k, start, end in spans if start < now]
    for slot, job, at, above in names(begun, plot.left, plot.width / (plot.x.high or 1)):
        y = plot.top + ROW * slot + (-3 if above else 16)
        paper.text(at, y, str(job + 1), size=11 if above else 14, bold=True, halo=above)


class BatchingTimeline(View):
    """Static and continuous batching of the same requests, slot by slot.

    step_time: seconds of a step from its tokens and the cached tokens before it, for instance
    `StepTime.fit(measure_steps(model))`; none: the stored fit. note: where and when its steps were
    measured.
    """

    mode = Choice(MODES, "batching")
    slots = Slider(SLOTS, "slots", start=4)
    spread = Slider(SPREADS, "answers", start=0.5, text=lambda spread: length_words(spread))
    moment = Slider(
        range(1, MOMENTS + 1), "time", start=MOMENTS, text=lambda n: f"{n} of {MOMENTS}",
        play=120, recorded=12,
    )  # fmt: skip

    def __init__(
        self,
        mode: str = "static",
        *,
        slots: int = 4,
        spread: float = 0.5,
        step_time: Seconds | None = None,
        note: str | None = None,
    ) -> None:
        self.step_time = STORED_TIME if step_time is None else step_time
        said = note or (STORED_ON if step_time is None else "measured in this notebook")
        self.source = f"Step times: {said}. Requests: ours, {NUM_JOBS} at once."
        super().__init__(mode=mode, slots=slots, spread=spread)

    def cells(self, slots: int | None = None, spread: float | None = None) -> dict[str, dict]:
        """The runs of all modes with these slots and this spread; the chosen ones if left out."""
        slots = self.slots if slots is None else slots
        spread = self.spread if spread is None else spread
        return {mode: cell(mode, slots, spread, self.step_time) for mode in MODES}

    def scene(self, paper: Paper, *, mode: str, slots: int, spread: float, moment: int) -> Scene:
        cells, work = self.cells(slots, spread), requests(spread).jobs
        one, longest = cells[mode], max(cell["end"] for cell in cells.values())
        now = longest * moment / MOMENTS
        axis = Linear(0, longest, "ms")
        plot = paper.plot(axis, Linear(0, 1, ticks=()), left=LEFT, top=TOP, height=ROW * slots)
        for slot in range(slots):
            paper.text(LEFT - 8, TOP + ROW * slot + 16, f"slot {slot + 1}", anchor="end")
        for span in one["spans"]:
            if span[3] < now:
                words = span_words(span, work[span[1]])
                draw_span(paper, plot, span, one["ticks"], now, words)
        draw_names(paper, plot, one["spans"], now)
        if moment < MOMENTS:
            plot.line([(now, 0), (now, 1)], "ink", key="now")
        y, wide = plot.low + 66, paper.width >= WIDTHS[0]
        for name, other in cells.items():
            bold, words = name == mode, mode_words(name, other)
            paper.text(4, y, MODES[name], bold=bold)
            if wide:
                paper.text(232, y, words, bold=bold, size=13)
                y += 24
            else:
                y = paper.wrapped(4, y + 20, words, size=13) + 6
        legend = (
            "number: the sequence; solid: prefill; pale, a line for each token: decode; "
            f"hatched: {PADDING}"
        )
        pieces = f"Chunked: at most {PIECE} tokens a step."
        return Scene(
            title=headline(mode, cells),
            notes=[legend, f"{answers(spread)} {pieces}", self.source],
            table=table_rows(work, one),
            facts={"end": one["end"], "idle": one["idle"], "spans": len(one["spans"])},
        )


def span_words(span: tuple, job: object) -> str:
    """What a text does in a slot, and when."""
    slot, number, kind, start, end = span
    doing = {
        "prompt": f"prefill of {job.prompt_tokens} tokens",
        "decode": f"decode of {job.output_tokens} tokens",
        "padding": "done; the slot waits for the longest sequence",
    }[KINDS[kind]]
    span = f"{significant(start)} to {significant(end)} ms"
    return f"sequence {number + 1}, slot {slot + 1}: {doing}, {span}"


def length_words(spread: float) -> str:
    """The lengths of the answers, as the slider tells them."""
    lengths = [job.output_tokens for job in requests(spread).jobs]
    low, high = min(lengths), max(lengths)
    return f"{low} tokens each" if low == high else f"{low} to {high} tokens"


def answers(spread: float) -> str:
    """The lengths of prompts and answers, in words."""
    jobs = requests(spread).jobs
    prompts = np.array([job.prompt_tokens for job in jobs])
    outputs = np.array([job.output_tokens for job in jobs])
    read = f"Prompts of {prompts.min()} to {prompts.max()} tokens"
    if outputs.min() == outputs.max():
        return f"{read}, answers of {outputs.min()}."
    average = thousands(float(outputs.mean()))
    return f"{read}, answers of {outputs.min()} to {outputs.max()}, {average} on average."
