"""Where the 405B stood among the models of its day: every row of Table 2 (§1).

Scores, sizes and marks are read from `llama3lib.paper.results`. A size that nobody published is
not guessed: such models stand in a strip of their own.
"""

import math
from dataclasses import dataclass

import traitlets

from llama3lib.paper.results import OPEN_WEIGHTS, PARAMETERS_IN_NAME, TABLE_2, wins
from widgets.core.drawing import BLUE, INK, LINE, ORANGE, RED, SOFT, Drawing
from widgets.core.widget import CourseWidget, css, esm

FLAGSHIP = "Llama 3 405B"
RIVALS = tuple(model for model in TABLE_2.columns if model != FLAGSHIP)
BENCHMARKS = tuple(TABLE_2.rows)
KINDS = {  # shape, colour, words
    "llama": ("circle", BLUE, "Llama 3 (open weights)"),
    "open": ("square", ORANGE, "other open weights"),
    "closed": ("diamond", RED, "closed"),
}
PLOT = {"left": 60, "right": 540, "top": 32, "bottom": 376, "strip": 745}
SIZES = (5e9, 5e11)  # ends of the logarithmic axis
CLUSTER, GAP = 60, 19  # pixels: points this close share a column of labels; lines of labels


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
    label_x: float
    label_y: float


def place(entries: list[Entry]) -> list[Point]:
    """Points and labels of all models with a score, by size, those without a size last."""
    shown = [e for e in entries if e.score is not None]
    low, high, _ = score_range([e.score for e in shown])
    up = {e.model: _share(e.score, low, high) for e in shown}
    spots = sorted(((_x(e), e) for e in shown), key=lambda spot: spot[0])
    groups: list[list[tuple[float, Entry]]] = []
    for spot in spots:
        near = groups and spot[0] - groups[-1][-1][0] <= CLUSTER
        groups[-1].append(spot) if near else groups.append([spot])
    points = []
    for group in groups:
        group.sort(key=lambda spot: up[spot[1].model], reverse=True)
        ys = [PLOT["bottom"] - (PLOT["bottom"] - PLOT["top"]) * up[e.model] for _, e in group]
        labels = spread(ys, GAP, PLOT["top"], PLOT["bottom"])
        label_x = max(x for x, _ in group) + 20
        points += [
            Point(entry=e, x=x, y=y, label_x=label_x, label_y=label)
            for (x, e), y, label in zip(group, ys, labels, strict=True)
        ]
    return points


def _share(value: float, low: float, high: float) -> float:
    return (value - low) / (high - low)


def _x(entry: Entry) -> float:
    if entry.parameters is None:
        return PLOT["strip"]
    along = _share(math.log(entry.parameters), math.log(SIZES[0]), math.log(SIZES[1]))
    return PLOT["left"] + (PLOT["right"] - PLOT["left"]) * along


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


def draw_landscape(benchmark: str, rival: str) -> str:
    """The static picture, as SVG."""
    entries = board(benchmark)
    words = "; ".join(f"{e.model} {e.score}" for e in entries if e.score is not None)
    title = headline(benchmark, rival)
    picture = Drawing(1000, 510, title=title, description=f"{words}. {record_note(rival)}.")
    picture.text(20, 34, title, size=22, font_weight=600)
    picture.begin("g", transform="translate(0 44)")
    _draw_axes(picture, entries)
    points = place(entries)
    llamas = sorted((p for p in points if p.entry.kind == "llama"), key=lambda p: p.x)
    path = "M" + "L".join(f"{p.x:.1f} {p.y:.1f}" for p in llamas)
    picture.shape("path", d=path, fill="none", stroke=BLUE, stroke_width=1.5, opacity=0.5)
    _draw_lead(picture, points, rival)
    for point in sorted(points, key=lambda p: p.entry.model in (rival, FLAGSHIP)):
        _draw_point(picture, point, chosen=point.entry.model in (rival, FLAGSHIP))
    for i, (shape, colour, name) in enumerate(KINDS.values()):
        picture.mark(shape, 30 + 230 * i, 440, 7, fill=colour)
        picture.text(44 + 230 * i, 445, name, size=15)
    picture.end("g")
    return picture.svg()


def _draw_axes(picture: Drawing, entries: list[Entry]) -> None:
    low, high, step = score_range([e.score for e in entries if e.score is not None])
    picture.text(20, 14, "score", size=15, fill=SOFT)
    strip = {"fill": "none", "stroke": LINE, "stroke_dasharray": "3 4"}
    picture.rect(PLOT["strip"] - 22, 2, 258, PLOT["bottom"] + 50, **strip)
    for i in range(round((high - low) / step) + 1):
        value = low + i * step
        y = PLOT["bottom"] - (PLOT["bottom"] - PLOT["top"]) * _share(value, low, high)
        picture.line(PLOT["left"], y, 980, y)
        picture.text(PLOT["left"] - 8, y + 5, f"{value:g}", anchor="end", size=14, fill=SOFT)
    for billions in (7, 70, 405):
        size = Entry(model="", score=None, kind="open", parameters=billions * 1e9, lead=None)
        x, low_y = _x(size), PLOT["bottom"]
        picture.line(x, low_y, x, low_y + 6, stroke=SOFT)
        picture.text(x, low_y + 22, f"{billions}B", anchor="middle", size=14, fill=SOFT)
    middle = (PLOT["left"] + PLOT["right"]) / 2
    picture.text(middle, 414, "parameters, as the name says (log axis)", anchor="middle", size=15)
    picture.text(PLOT["strip"] - 10, 398, "no size published,", size=15)
    picture.text(PLOT["strip"] - 10, 416, "or not in the name", size=15)


def _draw_lead(picture: Drawing, points: list[Point], rival: str) -> None:
    by_model = {point.entry.model: point for point in points}
    mine, other = by_model[FLAGSHIP], by_model.get(rival)
    if other is None:
        return
    dashes = {"stroke": INK, "stroke_width": 1.4, "stroke_dasharray": "5 4"}
    start = mine.label_x + _wide(mine.entry) if other.x > mine.x else mine.x
    if other.x > start or other.x < mine.x:  # not through the label
        picture.line(start, mine.y, other.x, mine.y, **dashes)
    picture.line(other.x, other.y, other.x, mine.y, stroke=INK, stroke_width=2.5)
    wide = abs(other.y - mine.y) > 30
    at = (other.y + mine.y) / 2 + 6 if wide else min(other.y, mine.y) - 10
    left = other.x < 300  # beside the axis there is no room to the left
    if is_free(points, other.x + (74 if left else -14), at):
        style = {"anchor": "start" if left else "end", "size": 18, "font_weight": 700}
        picture.text(other.x + (14 if left else -14), at, signed(other.entry.lead), **style)


def is_free(points: list[Point], right: float, y: float) -> bool:
    """True if a short number ending there would hide no label."""
    return not any(
        abs(p.label_y + 5 - y) < 20 and p.label_x - 8 < right < p.label_x + _wide(p.entry) + 60
        for p in points
    )


def _wide(entry: Entry) -> float:
    return 9 * len(label_of(entry))


def label_of(entry: Entry) -> str:
    """Name and score; a star where the paper marks another setting."""
    return f"{entry.model} {entry.score:.1f}{'*' if entry.mark else ''}"


def signed(lead: float | None) -> str:
    """A lead as in +2.2, −1.8 and ±0.0."""
    if lead is None:
        return "–"
    return f"{'+' if lead > 0 else '−' if lead < 0 else '±'}{abs(lead):.1f}"


def _draw_point(picture: Drawing, point: Point, *, chosen: bool) -> None:
    shape, colour, _ = KINDS[point.entry.kind]
    picture.line(point.x + 8, point.y, point.label_x - 3, point.label_y - 1)
    edge = INK if chosen else "#ffffff"
    picture.mark(shape, point.x, point.y, 8, fill=colour, stroke=edge, stroke_width=2.5)
    style = {"stroke": "#fff", "stroke_width": 4, "paint_order": "stroke"}
    weight = 700 if chosen else 400
    words = label_of(point.entry)
    picture.text(point.label_x, point.label_y + 5, words, size=15, font_weight=weight, **style)


class Landscape(CourseWidget):
    """Table 2 as a map: choose a benchmark and a rival, see by how much the 405B leads.

    Works in a saved page: no kernel is asked.
    """

    _esm = esm("landscape")
    _css = css("landscape")
    benchmark = traitlets.Enum(BENCHMARKS, BENCHMARKS[0]).tag(sync=True)
    rival = traitlets.Enum(RIVALS, "GPT-4 (0125)").tag(sync=True)
    rivals = traitlets.List(list(RIVALS)).tag(sync=True)
    rows = traitlets.Dict().tag(sync=True)
    records = traitlets.Dict().tag(sync=True)

    def __init__(self, benchmark: str = BENCHMARKS[0], *, rival: str = "GPT-4 (0125)") -> None:
        super().__init__(
            benchmark=benchmark,
            rival=rival,
            rows={name: [vars_of(entry) for entry in board(name)] for name in BENCHMARKS},
            records={name: record_note(name) for name in RIVALS},
        )

    def lead(self) -> float | None:
        """The lead that the title names."""
        return lead(self.benchmark, self.rival)

    def summary(self) -> str:
        return f"{headline(self.benchmark, self.rival)}. {record_note(self.rival)}."

    def table(self) -> list[dict[str, object]]:
        return table_rows(self.benchmark)

    def static_svg(self) -> str:
        return draw_landscape(self.benchmark, self.rival)


def vars_of(entry: Entry) -> dict[str, object]:
    """An entry as the browser gets it."""
    names = ("model", "score", "kind", "parameters", "mark")
    return {name: getattr(entry, name) for name in names}
