"""Where the 405B stood among the models of its day: every row of Table 2 (§1).

Scores, sizes and marks are read from `llama3lib.paper.results`. A size that nobody published is
not guessed: such models stand in a strip of their own.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from llama3lib.paper.results import OPEN_WEIGHTS, PARAMETERS_IN_NAME, TABLE_2, wins
from widgets.view import Choice, Linear, Log, Paper, Plot, Scene, View
from widgets.view.measure import text_width
from widgets.view.paper import TEXT

FLAGSHIP = "Llama 3 405B"
RIVALS = tuple(model for model in TABLE_2.columns if model != FLAGSHIP)
BENCHMARKS = tuple(TABLE_2.rows)
KINDS = {  # shape, role, words
    "llama": ("circle", "first", "Llama 3 (open weights)"),
    "open": ("square", "second", "other open weights"),
    "closed": ("diamond", "fourth", "closed"),
}
SIZES = (5e9, 5e11)  # ends of the logarithmic axis
ABOUT = "One row of Table 2 (§1); Llama 3 means Llama 3.1 here."
STRIP = 242  # pixels: room for the models without a size, and their labels
CLUSTER, GAP = 60, 19  # pixels: points this close share a column of labels; lines of labels
Box = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One model in one row of the table."""

    model: str
    score: float | None
    """None where the paper prints a dash."""
    kind: str
    parameters: float | None
    """As the name says it; None where it does not, or where no size was published."""
    lead: float | None
    """Points by which the 405B is ahead; below 0 it is behind."""
    mark: str = ""


def kind_of(model: str) -> str:
    """ "llama", "open" or "closed"."""
    if model.startswith("Llama 3"):
        return "llama"
    return "open" if model in OPEN_WEIGHTS else "closed"


def lead(benchmark: str, rival: str) -> float | None:
    """Points by which the 405B is ahead of a rival; None if one of both has no score.

    Raises ValueError if the benchmark or the rival is not in Table 2.
    """
    mine, other = TABLE_2.cell(benchmark, FLAGSHIP), TABLE_2.cell(benchmark, rival)
    return None if mine is None or other is None else round(mine - other, 1)


def board(benchmark: str) -> list[Entry]:
    """The row, best first; models without a score last. Raises ValueError on unknown names."""
    entries = [
        Entry(
            model=model,
            score=score,
            kind=kind_of(model),
            parameters=PARAMETERS_IN_NAME.get(model),
            lead=lead(benchmark, model),
            mark=TABLE_2.marks.get((benchmark, model), ""),
        )
        for model, score in TABLE_2.row(benchmark).items()
    ]
    return sorted(entries, key=lambda e: -math.inf if e.score is None else e.score, reverse=True)


def headline(benchmark: str, rival: str) -> str:
    """The title: what to see in this picture."""
    ahead = lead(benchmark, rival)
    if ahead is None:
        return f"{benchmark}: the paper prints no score for {rival}"
    if ahead == 0:
        return f"{benchmark}: {FLAGSHIP} is level with {rival}"
    side = "ahead of" if ahead > 0 else "behind"
    return f"{benchmark}: {FLAGSHIP} is {abs(ahead):.1f} points {side} {rival}"


def record_note(rival: str) -> str:
    """Rows won, lost and tied against a rival, over the whole table."""
    won, lost, tied = wins(TABLE_2, FLAGSHIP, rival)
    rows = won + lost + tied
    return (
        f"Against {rival}, {rows} rows with both scores: {won} ahead, {lost} behind, {tied} level"
    )


def score_range(scores: list[float]) -> tuple[float, float, float]:
    """Ends of the score axis and the step of its ticks."""
    low, high = 10 * math.floor(min(scores) / 10), 10 * math.ceil(max(scores) / 10)
    span = high - low
    return low, high, 5 if span <= 20 else 10 if span <= 50 else 20


def spread(wanted: list[float], gap: float, low: float, high: float) -> list[float]:
    """Move positions (sorted, smallest first) apart until none is closer than the gap."""
    placed: list[float] = []
    for y in wanted:
        placed.append(max(y, placed[-1] + gap if placed else low))
    limit = high
    for i in reversed(range(len(placed))):
        placed[i] = min(placed[i], limit)
        limit = placed[i] - gap
    return placed


@dataclass(frozen=True, kw_only=True)
class Point:
    """Where a model and its label are drawn, in pixels."""

    entry: Entry
    x: float
    y: float
    label: Box
    """Left, top, right and bottom of the words."""

    @property
    def mark(self) -> Box:
        return self.x - 10, self.y - 10, self.x + 10, self.y + 10


def place(entries: list[Entry], plot: Plot, strip: tuple[float, float]) -> list[Point]:
    """Points and labels of all models with a score, by size, those without a size last.

    Models close to each other share a column of labels, to the right unless that hides more.
    strip: where those without a size stand across, and how much lower than the others.
    """
    spots = sorted((_spot(e, plot, strip) for e in entries if e.score is not None), key=_by_size)
    groups: list[list[Point]] = []
    for spot in spots:
        last = groups[-1][-1] if groups else None
        near = last and abs(spot.x - last.x) <= CLUSTER and _by_size(spot)[0] == _by_size(last)[0]
        groups[-1].append(spot) if near else groups.append([spot])
    placed: list[Point] = []
    for group in groups:
        others = [p.mark for p in spots if p not in group] + [p.label for p in placed]
        sides = [_labelled(group, plot, strip[1], right) for right in (True, False)]
        placed += min(sides, key=lambda side: sum(hits(p.label, others) for p in side))
    return placed


def _spot(entry: Entry, plot: Plot, strip: tuple[float, float]) -> Point:
    """A point without a label so far."""
    x, y = strip[0], plot.at_y(entry.score) + strip[1]
    if entry.parameters is not None:
        x, y = plot.at(entry.parameters, entry.score)
    return Point(entry=entry, x=x, y=y, label=(x, y, x, y))


def _by_size(point: Point) -> tuple[bool, float]:
    return point.entry.parameters is None, point.x


def _labelled(group: list[Point], plot: Plot, down: float, right: bool) -> list[Point]:
    """The points with a column of labels on one side."""
    group = sorted(group, key=lambda p: p.y)
    shift = 0 if group[0].entry.parameters else down
    ys = spread([p.y for p in group], GAP, plot.top + shift, plot.low + shift)
    side = max(p.x for p in group) + 20 if right else min(p.x for p in group) - 20
    found = []
    for point, y in zip(group, ys, strict=True):
        wide = text_width(label_of(point.entry), TEXT, bold=True)
        left = side if right else side - wide
        found.append(replace(point, label=(left, y - 9, left + wide, y + 9)))
    return found


def hits(box: Box, others: Iterable[Box]) -> int:
    """How many of the other boxes a box covers in part."""
    left, top, right, low = box
    return sum(left < b[2] and b[0] < right and top < b[3] and b[1] < low for b in others)


def table_rows(benchmark: str) -> list[dict[str, str]]:
    """The row as a table, best first."""
    return [
        {
            "model": e.model,
            "score": "–" if e.score is None else f"{e.score:.1f}",
            "405B ahead by": "" if e.model == FLAGSHIP else signed(e.lead),
            "weights": "closed" if e.kind == "closed" else "open",
            "parameters": size_text(e),
            "note": e.mark,
        }
        for e in board(benchmark)
    ]


def size_text(entry: Entry) -> str:
    """The size as the name says it, or why there is none."""
    if entry.parameters is not None:
        return f"{entry.parameters / 1e9:.0f}B"
    return "not published" if entry.kind == "closed" else "not in the name"


def label_of(entry: Entry) -> str:
    """Name and score; a star where the paper marks another setting."""
    return f"{entry.model} {entry.score:.1f}{'*' if entry.mark else ''}"


def signed(lead: float | None) -> str:
    """A lead as in +2.2, −1.8 and ±0.0."""
    if lead is None:
        return "–"
    return f"{'+' if lead > 0 else '−' if lead < 0 else '±'}{abs(lead):.1f}"


def footnotes(entries: list[Entry]) -> list[str]:
    """Other settings, and models without a score."""
    marked = [f"* {e.model}: {e.mark}" for e in entries if e.mark]
    missing = [e.model for e in entries if e.score is None]
    return marked + ([f"No score printed: {', '.join(missing)}"] if missing else [])


def draw_axes(paper: Paper, entries: list[Entry]) -> tuple[Plot, tuple[float, float]]:
    """Score and size, and the strip without a size: to the right, on a telephone below."""
    low, high, step = score_range([e.score for e in entries if e.score is not None])
    ticks = [low + i * step for i in range(round((high - low) / step) + 1)]
    plot = paper.plot(
        Log(*SIZES, "parameters, as the name says (log axis)", ticks=(7e9, 7e10, 4.05e11),
            text=lambda n: f"{n / 1e9:.0f}B"),
        Linear(low, high, "score", ticks=ticks),
        left=48,
        top=30,
        width=paper.width - 48 - 200 - (0 if paper.narrow else STRIP),
        height=220 if paper.narrow else 294,
    )  # fmt: skip
    down = plot.height + 88 if paper.narrow else 0
    left, top, low = 44 if down else paper.width - STRIP, 8 + down, plot.low + down
    right = left + STRIP - 4
    for value in ticks:
        y = plot.at_y(value)
        paper.line(plot.right, y, paper.width - 4, y)
        if down:
            paper.line(left, y + down, right, y + down)
            paper.text(left - 8, y + down + 5, f"{value:g}", "soft", anchor="end")
    paper.rect(left, top, STRIP - 4, low + 50 - top, "none", stroke="quiet", stroke_dasharray="3 4")
    paper.text(left + 8, low + 22, "no size published,")
    paper.text(left + 8, low + 40, "or not in the name")
    return plot, (left + 22, down)


def draw_lead(paper: Paper, points: list[Point], rival: str, down: float) -> None:
    """From the 405B's score to the rival's, with the points between where there is room."""
    by_model = {point.entry.model: point for point in points}
    mine, other = by_model[FLAGSHIP], by_model.get(rival)
    if other is None:
        return
    level, start = mine.y, mine.label[2] + 4 if other.x > mine.x else mine.x  # not through a label
    if down and other.entry.parameters is None:  # in a field of its own
        level, start = mine.y + down, other.x - 22
    if other.x > start or other.x < mine.x:
        dashed = {"width": 1.4, "dash": "5 4", "key": "level"}
        paper.line(start, level, other.x, level, "ink", **dashed)
    paper.line(other.x, other.y, other.x, level, "ink", width=3, key="lead")
    words, middle = signed(other.entry.lead), (other.y + level) / 2
    wide = text_width(words, 18, bold=True)
    taken = [box for p in points for box in (p.mark, p.label)]
    for left in (other.x - 12 - wide, other.x + 12):
        if left > 44 and not hits((left, middle - 9, left + wide, middle + 9), taken):
            style = {"size": 18, "bold": True, "halo": True, "key": "points"}
            paper.text(left, middle + 6, words, **style)
            return


def draw_point(paper: Paper, point: Point, *, chosen: bool) -> None:
    """A mark and its label; the mark of a rival can be chosen."""
    kind, role, _ = KINDS[point.entry.kind]
    model = point.entry.model
    choice = {} if model == FLAGSHIP else {"put": ("rival", model)}
    with paper.group(key=model, tip=tip(point.entry), **choice):
        left, top, right, low = point.label
        near = left - 3 if left > point.x else right + 3
        paper.line(point.x, point.y, near, (top + low) / 2)
        edge = "ink" if chosen else "paper"
        size = 9.5 if chosen else 8
        paper.mark(kind, point.x, point.y, role, size=size, stroke=edge, stroke_width=2)
        at = f"translate({left:.1f} {low - 4:.1f})"
        paper.text(0, 0, label_of(point.entry), halo=True, bold=chosen, transform=at)


def tip(entry: Entry) -> str:
    """A model in words."""
    words = f"{entry.model}: {entry.score:.1f}{f' ({entry.mark})' if entry.mark else ''}"
    words += f" · size {size_text(entry)}"
    return (
        words
        if entry.lead is None or entry.model == FLAGSHIP
        else (f"{words} · the 405B is {signed(entry.lead)}")
    )


def draw_legend(paper: Paper) -> None:
    """What the shapes mean."""
    x, y = 12.0, paper.height + 14
    for kind, role, words in KINDS.values():
        if x + 16 + text_width(words, TEXT) > paper.width:
            x, y = 12.0, y + 24
        paper.mark(kind, x, y, role, size=7)
        paper.text(x + 14, y + 5, words)
        x += 44 + text_width(words, TEXT)


class Landscape(View):
    """Table 2 as a map: choose a benchmark and a rival, see by how much the 405B leads."""

    benchmark = Choice(BENCHMARKS, "benchmark")
    rival = Choice(RIVALS, "compare the 405B with")

    def __init__(self, benchmark: str = BENCHMARKS[0], *, rival: str = "GPT-4 (0125)") -> None:
        super().__init__(benchmark=benchmark, rival=rival)

    def scene(self, paper: Paper, *, benchmark: str, rival: str) -> Scene:
        entries = board(benchmark)
        plot, strip = draw_axes(paper, entries)
        points = place(entries, plot, strip)
        family = sorted((p.x, p.y) for p in points if p.entry.kind == "llama")
        paper.path(family, "first", width=2, opacity=0.55, key="family")
        draw_lead(paper, points, rival, strip[1])
        chosen = (rival, FLAGSHIP)
        for point in sorted(points, key=lambda p: p.entry.model in chosen):
            draw_point(paper, point, chosen=point.entry.model in chosen)
        draw_legend(paper)
        title, record = headline(benchmark, rival), f"{record_note(rival)}."
        return Scene(
            title=title,
            notes=[record, *footnotes(entries), ABOUT],
            table=table_rows(benchmark),
            say=f"{title}. {record}",
            facts={"lead": lead(benchmark, rival)},
        )

    def lead(self) -> float | None:
        """The lead that the title names."""
        return lead(self.benchmark, self.rival)
