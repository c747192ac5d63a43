"""Tokens a second against the wait for each token, with more texts at a time (section 6.1).

`measure_curve` runs the real engine. The table that is stored here was made by it; the machine and
the day stand beside it. The browser only chooses among measured points.
"""

import itertools
import math
import time
from collections.abc import Mapping
from collections.abc import Sequence as Items
from decimal import ROUND_HALF_UP, Context, Decimal

import numpy as np
import traitlets

from llama3lib.inference import LLMEngine, SamplingParams
from llama3lib.inference.simulate import Step, Workload
from llama3lib.model import Transformer
from llama3lib.paper import inference as facts
from widgets.ch05.views.schedule import ticks
from widgets.core.drawing import BLUE, ORANGE, RED, SOFT, Drawing
from widgets.core.widget import CourseWidget, css, esm

LIMITS = (1, 2, 4, 8, 16, 32)
RATIO = facts.INPUT_TOKENS.value // facts.OUTPUT_TOKENS.value
MIXES = {"32 in, 32 out": (32, 32), f"256 in, {256 // RATIO} out": (256, 256 // RATIO)}  # ours
"""Tokens of prompt and answer; the second has the ratio of the paper's 4,096 to 256."""
JUDGES = {"p95_ms": "95 of 100 tokens", "median_ms": "half of the tokens"}
STORED_ON = "measured with tiny-base on AMD EPYC, one thread, torch 2.13.0, 2026-11-21"
_COLUMNS = ("mix", "limit", "tokens_per_second", "median_ms", "p95_ms")
# measure_curve on tiny-base, of three rounds the quickest for each point
_ROUNDS = (
    (1, 807.4, 1.164, 1.354), (2, 1392.1, 1.323, 1.575), (4, 2281.6, 1.574, 2.52),
    (8, 3379.5, 2.036, 3.547), (16, 5059.6, 2.717, 4.241), (32, 7048.1, 4.149, 6.221),
    (1, 486.6, 1.262, 1.583), (2, 661.6, 1.525, 9.175), (4, 928.7, 1.872, 9.664),
    (8, 1214.3, 2.584, 18.07), (16, 1125.7, 12.183, 21.993), (32, 1117.9, 22.46, 26.956),
)  # fmt: skip
STORED = [
    dict(zip(_COLUMNS, (mix, *row), strict=True))
    for mix, row in zip([mix for mix in MIXES for _ in LIMITS], _ROUNDS, strict=True)
]
LONE = (
    "With 1 text at a time no wait includes reading a prompt: what lies above half are slow steps.",
    "With more, a wait may include reading the prompt of the next text.",
)
SERIES = (("p95_ms", ORANGE, "square"), ("median_ms", BLUE, "circle"))
PLOT = {"x": 84, "y": 92, "width": 826, "height": 300}


def measure_curve(
    model: Transformer,
    *,
    limits: Items[int] = LIMITS,
    mixes: Mapping[str, tuple[int, int]] = MIXES,
    rounds: int = 4,
) -> list[dict[str, object]]:
    """One row for each mix and each `max_num_seqs`, from the running engine.

    Requests always wait, so all seats are taken; the clock stops when the last one is let in.
    Answers differ a little in length, so that they do not begin and end together. A wait is the
    time between two tokens of a text. rounds: requests for each seat, 8 at least in all.

    On one thread of the machine of the stored table this takes about 5 seconds.
    """
    measure_point(model, 1, (8, 8), rounds=1)  # warms up
    return [
        {"mix": mix, "limit": limit} | measure_point(model, limit, sizes, rounds=rounds)
        for mix, sizes in mixes.items()
        for limit in limits
    ]


def measure_point(
    model: Transformer, limit: int, sizes: tuple[int, int], *, rounds: int = 4
) -> dict[str, float]:
    """`tokens_per_second`, `median_ms` and `p95_ms` of one batch limit.

    Raises ValueError for a prompt that leaves no room for two tokens.
    """
    prompt, output = sizes
    args, number = model.args, max(rounds * limit, 8)
    if prompt + 2 > args.max_seq_len:
        raise ValueError(f"prompt={prompt} is not allowed: 1 to {args.max_seq_len - 2} tokens")
    room = {"prompt_spread": 0, "output_spread": 0.3, "most_tokens": args.max_seq_len - prompt}
    work = Workload.random(number, rate=1, prompt_tokens=prompt, output_tokens=output, **room)
    blocks = limit * -(-args.max_seq_len // 16)
    settings = {"max_num_seqs": limit, "max_num_batched_tokens": args.max_seq_len}
    last: dict[str, float] = {}
    waits: list[float] = []
    with LLMEngine(model, num_blocks=blocks, prefix_sharing=False, **settings) as engine:
        for place, job in enumerate(work.jobs):
            ids = [(place + 7 * i) % args.vocab_size for i in range(prompt)]
            engine.add_request(ids, SamplingParams(max_tokens=job.output_tokens))
        tokens, begun = 0, time.perf_counter()
        while engine.scheduler.waiting:
            outputs, now = engine.step(), time.perf_counter()
            waits += [now - last[out.request_id] for out in outputs if out.request_id in last]
            last |= {out.request_id: now for out in outputs}
            tokens += len(outputs)
    median, late = 1000 * np.percentile(waits, [50, 95])
    return {
        "tokens_per_second": round(tokens / (now - begun), 1),
        "median_ms": round(float(median), 3),
        "p95_ms": round(float(late), 3),
    }


def measure_steps(
    model: Transformer,
    *,
    batches: Items[int] = LIMITS,
    prompts: Items[int] = (8, 64, 128, 256),
    num_decodes: int = 8,
) -> list[Step]:
    """Real steps of the engine for `StepTime.fit`: prompts read together, then a token of each.

    Combinations that are too long for one step are left out. The first round of each warms up.
    """
    steps: list[Step] = []
    for number, prompt in itertools.product(batches, prompts):
        if number * prompt > model.args.max_seq_len - num_decodes:
            continue
        blocks = number * -(-(prompt + num_decodes) // 16)
        params = SamplingParams(max_tokens=num_decodes + 1, ignore_eos=True)
        settings = {"max_num_seqs": number, "max_num_batched_tokens": model.args.max_seq_len}
        with LLMEngine(model, num_blocks=blocks, prefix_sharing=False, **settings) as engine:
            for warm in (False, True):
                for place in range(number):
                    ids = [(place + 7 * i) % model.args.vocab_size for i in range(prompt)]
                    engine.add_request(ids, params)
                for done in range(num_decodes + 1):
                    begun = time.perf_counter()
                    engine.step()
                    seconds = time.perf_counter() - begun
                    tokens = number if done else number * prompt
                    cached = number * (prompt + done - 1) if done else 0
                    if warm:
                        steps.append(Step(tokens, cached, seconds))
    return steps


def best(rows: Items[dict], limit_ms: float, judge: str) -> dict | None:
    """The row of most tokens a second among those within the limit; None if there is none."""
    within = [row for row in rows if row[judge] <= limit_ms]
    return max(within, key=lambda row: row["tokens_per_second"], default=None)


_THREE = Context(prec=3, rounding=ROUND_HALF_UP)


def digits(value: float) -> str:
    """Up to three digits: 0.85, 1.3, 12, 120; halves go up, as in the browser."""
    return f"{float(_THREE.create_decimal_from_float(float(value))):g}"


def fixed(value: float, places: int = 2) -> str:
    """So many decimal places; halves go up."""
    return str(Decimal(value).quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_UP))


def whole(value: float) -> str:
    """A whole number with commas; halves go up."""
    return f"{math.floor(value + 0.5):,}"


def at_a_time(limit: int) -> str:
    return f"{limit} text{'s' * (limit > 1)} at a time"


def headline(mix: str, rows: Items[dict], limit_ms: float, judge: str) -> str:
    """The title: which batch limit gives most tokens within the wait that is allowed."""
    found, allowed = best(rows, limit_ms, judge), f"{JUDGES[judge]} within {digits(limit_ms)} ms"
    if found is None:
        return f"{mix}: no batch limit brings {allowed}"
    rate = f"{whole(found['tokens_per_second'])} tokens/s"
    return f"{mix}: {allowed}: {at_a_time(found['limit'])}, {rate}"


def notes(rows: Items[dict], limit_ms: float, judge: str) -> list[str]:
    """What the batch brings and costs, as lines under the picture."""
    found, alone = best(rows, limit_ms, judge), rows[0]
    top = best(rows, math.inf, judge)
    told = []
    if found is not None and found["limit"] != alone["limit"]:
        gain = found["tokens_per_second"] / alone["tokens_per_second"]
        wait = found["median_ms"] / alone["median_ms"]
        told.append(
            f"Against {at_a_time(alone['limit'])}: {digits(gain)} times the tokens a second; "
            f"half of the tokens come within {digits(wait)} times the wait."
        )
    most = f"{at_a_time(top['limit'])}, {whole(top['tokens_per_second'])} tokens/s"
    told.append(f"The most without a limit: {most}.")
    if top["limit"] != rows[-1]["limit"]:
        told[-1] += " With more texts only the wait grows."
    if alone["limit"] == 1:
        told += LONE
    return told


def table_rows(rows: Items[dict], limit_ms: float, judge: str) -> list[dict[str, object]]:
    """The picture as a table."""
    return [
        {
            "texts at a time": row["limit"],
            "tokens/s": whole(row["tokens_per_second"]),
            "median wait for a token, ms": fixed(row["median_ms"]),
            "95 of 100 within, ms": fixed(row["p95_ms"]),
            "within the limit": "yes" if row[judge] <= limit_ms else "no",
        }
        for row in rows
    ]


def stops_for(rows: Items[dict], number: int = 20) -> list[float]:
    """Limits for the slider: even on a log scale, from below the least wait to above the largest.

    Two digits each.
    """
    low, high = 0.8 * min(r["median_ms"] for r in rows), 1.15 * max(r["p95_ms"] for r in rows)
    return sorted({float(f"{value:.2g}") for value in np.geomspace(low, high, number)})


def draw_latency(mix: str, rows: Items[dict], limit_ms: float, judge: str, note: str) -> str:
    """The static picture, as SVG."""
    title, told = headline(mix, rows, limit_ms, judge), [*notes(rows, limit_ms, judge), note]
    picture = Drawing(1000, 584, title=title, description=" ".join(told))
    picture.text(20, 34, title, size=20, font_weight=600)
    picture.text(20, 66, "wait for the next token of a text, ms", fill=SOFT)
    x, y, width, height = PLOT["x"], PLOT["y"], PLOT["width"], PLOT["height"]
    right = 1.08 * max(row["tokens_per_second"] for row in rows)
    top = 1.1 * max(row["p95_ms"] for row in rows)

    def spot(row: dict, which: str) -> tuple[float, float]:
        return x + width * row["tokens_per_second"] / right, y + height * (1 - row[which] / top)

    for value in ticks(top, 6):
        high = y + height * (1 - value / top)
        picture.line(x, high, x + width, high)
        picture.text(x - 8, high + 5, digits(value), anchor="end", fill=SOFT)
    for value in ticks(right, 8):
        picture.text(x + width * value / right, y + height + 22, f"{value:,.0f}", anchor="middle")
    words = "tokens written per second; number at a point: texts at a time"
    picture.text(x + width / 2, y + height + 46, words, anchor="middle")
    for place, (which, colour, kind) in enumerate(SERIES):
        points = " ".join("{:.1f},{:.1f}".format(*spot(row, which)) for row in rows)
        dash = "7 5" if which == "p95_ms" else None
        style = {"fill": "none", "stroke": colour, "stroke_width": 2, "stroke_dasharray": dash}
        picture.shape("polyline", points=points, **style)
        for row in rows:
            picture.mark(kind, *spot(row, which), 7, fill=colour)
        at = 350 + 330 * place
        picture.shape("polyline", points=f"{at},61 {at + 44},61", **style)
        picture.mark(kind, at + 22, 61, 7, fill=colour)
        picture.text(at + 54, 66, f"{JUDGES[which]} wait no longer")
    for row in rows:
        at, high = spot(row, judge)
        picture.text(at + 10, high + 22, str(row["limit"]), font_weight=600)
    high = y + height * (1 - min(limit_ms / top, 1))
    picture.line(x, high, x + width, high, stroke=RED, stroke_width=2, stroke_dasharray="3 4")
    sign = "↑" if limit_ms > top else "≤"
    picture.text(x + width + 8, high + 5, f"{sign} {digits(limit_ms)} ms", fill=RED)
    if (found := best(rows, limit_ms, judge)) is not None:
        picture.mark("diamond", *spot(found, judge), 13, fill="none", stroke=RED, stroke_width=3)
    for place, line in enumerate(told):
        picture.text(20, y + height + 84 + 22 * place, line, fill=SOFT)
    return picture.svg()


class LatencyCurve(CourseWidget):
    """Set a limit for the wait and see which batch size writes the most tokens within it.

    Works in a saved page: no kernel is asked. measured: rows of `measure_curve`; none: the stored
    table. note: where and when they were measured.

    Raises ValueError for rows that lack a number or hold one that is not above 0.
    """

    _esm = esm("latency")
    _css = css("latency")
    mix = traitlets.Unicode().tag(sync=True)
    limit_ms = traitlets.Float(5.0).tag(sync=True)
    judge = traitlets.Unicode("p95_ms").tag(sync=True)
    points = traitlets.List().tag(sync=True)
    stops = traitlets.List().tag(sync=True)
    note = traitlets.Unicode().tag(sync=True)
    judges = traitlets.Dict(JUDGES).tag(sync=True)

    def __init__(
        self,
        measured: Items[Mapping[str, object]] | None = None,
        *,
        mix: str | None = None,
        limit_ms: float | None = None,
        judge: str = "p95_ms",
        note: str | None = None,
    ) -> None:
        rows = [_checked(row) for row in (STORED if measured is None else measured)]
        if not rows:
            raise ValueError("measured=[] is not allowed: at least one row")
        stops = stops_for(rows)
        stored = f"{STORED_ON}, the quickest of three rounds"
        said = stored if measured is None else "measured in this notebook"
        super().__init__(points=rows, stops=stops, note=_sentence(note or said))
        self.mix = rows[0]["mix"] if mix is None else mix
        self.limit_ms = stops[len(stops) // 2] if limit_ms is None else limit_ms
        self.judge = judge

    @traitlets.validate("mix")
    def _known_mix(self, proposal: dict) -> str:
        return _one_of("mix", proposal["value"], list(dict.fromkeys(r["mix"] for r in self.points)))

    @traitlets.validate("judge")
    def _known_judge(self, proposal: dict) -> str:
        return _one_of("judge", proposal["value"], list(JUDGES))

    @traitlets.validate("limit_ms")
    def _above_zero(self, proposal: dict) -> float:
        if not 0 < proposal["value"] < math.inf:
            raise traitlets.TraitError(f"limit_ms={proposal['value']!r} is not allowed: above 0")
        return proposal["value"]

    def rows(self) -> list[dict]:
        """The points of the chosen mix."""
        return [row for row in self.points if row["mix"] == self.mix]

    def best(self) -> dict | None:
        """The point that the title names."""
        return best(self.rows(), self.limit_ms, self.judge)

    def summary(self) -> str:
        return headline(self.mix, self.rows(), self.limit_ms, self.judge)

    def table(self) -> list[dict[str, object]]:
        return table_rows(self.rows(), self.limit_ms, self.judge)

    def static_svg(self) -> str:
        return draw_latency(self.mix, self.rows(), self.limit_ms, self.judge, self.note)


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}."


def _checked(row: Mapping[str, object]) -> dict[str, object]:
    kept = {}
    for name in _COLUMNS:
        if name not in row:
            raise ValueError(f"measured is not allowed: a row has no {name!r}")
        value = kept[name] = row[name]
        if name != "mix" and not 0 < value < math.inf:
            raise ValueError(f"{name}={value!r} is not allowed: above 0")
    return kept


def _one_of(field: str, value: object, allowed: list) -> object:
    if value not in allowed:
        names = ", ".join(map(str, allowed))
        raise traitlets.TraitError(f"{field}={value!r} is not allowed: one of {names}")
    return value
