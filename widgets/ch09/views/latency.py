"""Tokens a second against the wait for each token, with more texts at a time (section 6.1).

`measure_curve` runs the real engine. The table that is stored here was made by it; the machine and
the day stand beside it.
"""

import itertools
import math
import time
from collections.abc import Mapping
from collections.abc import Sequence as Items

import numpy as np

from llama3lib.inference import LLMEngine, SamplingParams
from llama3lib.inference.simulate import Step, Workload
from llama3lib.model import Transformer
from llama3lib.paper import inference as facts
from widgets.view import Choice, Linear, Paper, Plot, Scene, Slider, View
from widgets.view.legend import legend
from widgets.view.words import fixed, significant, thousands

LIMITS = (1, 2, 4, 8, 16, 32)
RATIO = facts.INPUT_TOKENS.value // facts.OUTPUT_TOKENS.value
MIXES = {"32 in, 32 out": (32, 32), f"256 in, {256 // RATIO} out": (256, 256 // RATIO)}  # ours
"""Tokens of prompt and answer; the second has the ratio of the paper's 4,096 to 256."""
JUDGES = {"p95_ms": "p95", "median_ms": "median"}
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
    "At batch size 1 no TPOT includes a prefill: what lies above the median are slow steps.",
    "At larger ones it may include the prefill of the next sequence.",
)
SERIES = {"p95_ms": ("square", "second", "7 5"), "median_ms": ("circle", "first", None)}


def measure_curve(
    model: Transformer,
    *,
    limits: Items[int] = LIMITS,
    mixes: Mapping[str, tuple[int, int]] = MIXES,
    rounds: int = 4,
) -> list[dict[str, object]]:
    """One row for each mix and each `max_num_seqs`, from the running engine.

    Requests always wait, so all slots are taken; the clock stops when the last one is let in.
    Answers differ a little in length, so that they do not begin and end together. A wait is the
    time between two tokens of a text. rounds: requests for each slot, 8 at least in all.

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


def at_a_time(limit: int) -> str:
    return f"batch size {limit}"


def headline(mix: str, rows: Items[dict], limit_ms: float, judge: str) -> str:
    """The title: which batch limit gives most tokens within the wait that is allowed."""
    found = best(rows, limit_ms, judge)
    allowed = f"{JUDGES[judge]} TPOT up to {significant(limit_ms)} ms"
    if found is None:
        return f"{mix}: no batch size keeps {allowed}"
    rate = f"{thousands(found['tokens_per_second'])} tokens/s"
    return f"{mix}, {allowed}: {at_a_time(found['limit'])} gives the most, {rate}"


def notes(rows: Items[dict], limit_ms: float, judge: str) -> list[str]:
    """What the batch brings and costs, as lines under the picture."""
    found, alone = best(rows, limit_ms, judge), rows[0]
    top = best(rows, math.inf, judge)
    told = []
    if found is not None and found["limit"] != alone["limit"]:
        gain = found["tokens_per_second"] / alone["tokens_per_second"]
        wait = found["median_ms"] / alone["median_ms"]
        told.append(
            f"Against {at_a_time(alone['limit'])}: {significant(gain)} times the tokens a second "
            f"at {significant(wait)} times the median TPOT."
        )
    most = f"{at_a_time(top['limit'])}, {thousands(top['tokens_per_second'])} tokens/s"
    told.append(f"The most without a limit: {most}.")
    if top["limit"] != rows[-1]["limit"]:
        told[-1] += " Beyond it only TPOT grows."
    if alone["limit"] == 1:
        told += LONE
    return told


def table_rows(rows: Items[dict], limit_ms: float, judge: str) -> list[dict[str, object]]:
    """The picture as a table."""
    return [
        {
            "batch size": row["limit"],
            "tokens/s": thousands(row["tokens_per_second"]),
            "median TPOT, ms": fixed(row["median_ms"]),
            "p95 TPOT, ms": fixed(row["p95_ms"]),
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


def axes(paper: Paper, rows: Items[dict]) -> Plot:
    """Tokens a second against the wait for each; room for the limit in words on the right."""
    right, top = (max(row[name] for row in rows) for name in ("tokens_per_second", "p95_ms"))
    words = "output tokens per second; number at a point: batch size"
    return paper.plot(
        Linear(0, 1.08 * right, words),
        Linear(0, 1.1 * top, "time per output token (TPOT), ms"),
        left=52,
        top=28,
        right=84,
    )


def draw_limit(plot: Plot, limit_ms: float) -> None:
    """The wait that is allowed; what is longer is shaded."""
    paper, y = plot.paper, plot.at_y(min(limit_ms, plot.y.high))
    paper.rect(plot.left, plot.top, plot.width, y - plot.top, "tint", fill_opacity=0.7, key="over")
    paper.line(plot.left, y, plot.right, y, "bad", width=2, dash="3 4", key="limit")
    sign = "↑" if limit_ms > plot.y.high else "≤"
    words = f"{sign} {significant(limit_ms)} ms"
    paper.text(plot.right + 8, y + 5, words, "bad", key="limit in words")


def draw_points(plot: Plot, rows: Items[dict], judge: str, found: dict | None) -> None:
    """Both lines with their points, numbers at those of the judge, and the best of them."""

    def spot(row: dict, which: str) -> tuple[float, float]:
        return row["tokens_per_second"], row[which]

    for which, (kind, role, dash) in SERIES.items():
        plot.line([spot(row, which) for row in rows], role, dash=dash, key=which)
        for row in rows:
            tip = (
                f"{at_a_time(row['limit'])}: {thousands(row['tokens_per_second'])} tokens/s, "
                f"{JUDGES[which]} TPOT {significant(row[which])} ms"
            )
            plot.mark(kind, spot(row, which), role, tip=tip, key=f"{which} {row['limit']}")
    if found is not None:
        plot.mark("diamond", spot(found, judge), "none", stroke="bad", stroke_width=3, size=12,
                  key="best")  # fmt: skip
    for row in rows:
        plot.label(spot(row, judge), str(row["limit"]), bold=True)


def draw_legend(plot: Plot) -> None:
    """What the signs mean."""
    signs = [(kind, role, f"{JUDGES[which]} TPOT") for which, (kind, role, _) in SERIES.items()]
    most = ("diamond", "none", "most within the limit", {"stroke": "bad", "stroke_width": 2})
    legend(plot.paper, 4 if plot.paper.narrow else plot.left, plot.low + 70, [*signs, most])


class LatencyCurve(View):
    """Set a limit for the wait and see which batch size writes the most tokens within it.

    measured: rows of `measure_curve`; none: the stored table. limit_ms: becomes one of the stops.
    note: where and when they were measured.

    Raises ValueError for rows that lack a number or hold one that is not above 0.
    """

    limit_ms = Slider(
        lambda view, values: view.stops, "TPOT allowed", text=lambda ms: f"{significant(ms)} ms"
    )
    judge = Choice(JUDGES, "judged by")
    mix = Choice(lambda view, values: list(view.points), "tokens")

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
        if limit_ms is not None and not 0 < limit_ms < math.inf:
            raise ValueError(f"limit_ms={limit_ms!r} is not allowed: above 0")
        self.points = {row["mix"]: [] for row in rows}
        for row in rows:
            self.points[row["mix"]].append(row)
        stops = stops_for(rows)
        chosen = stops[len(stops) // 2] if limit_ms is None else limit_ms
        self.stops = sorted({*stops, chosen})
        stored = f"{STORED_ON}, the quickest of three rounds"
        self.note = _sentence(note or (stored if measured is None else "measured in this notebook"))
        super().__init__(mix=mix, limit_ms=chosen, judge=judge)

    def scene(self, paper: Paper, *, limit_ms: float, judge: str, mix: str) -> Scene:
        rows = self.points[mix]
        found, plot = best(rows, limit_ms, judge), axes(paper, rows)
        draw_limit(plot, limit_ms)
        draw_points(plot, rows, judge, found)
        draw_legend(plot)
        return Scene(
            title=headline(mix, rows, limit_ms, judge),
            notes=[*notes(rows, limit_ms, judge), self.note],
            table=table_rows(rows, limit_ms, judge),
            facts={"best": found["limit"] if found else "none"},
        )

    def rows(self) -> list[dict]:
        """The points of the chosen mix."""
        return self.points[self.mix]

    def best(self) -> dict | None:
        """The point that the title names."""
        return best(self.rows(), self.limit_ms, self.judge)


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
