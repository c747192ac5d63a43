"""The architecture tracer: choose a part of a real model, see what it does to your text (§3.2).

The numbers come from `trace`, one forward pass with hooks for each text.
"""

import functools
import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from llama3lib.model import Transformer
from llama3lib.tokenizer import Tokenizer
from widgets.ch01.views.diagram import draw_diagram
from widgets.ch01.views.trace import (
    HEAD_PARTS,
    KV_PARTS,
    PART_BY_KEY,
    PARTS,
    Record,
    part_source,
    trace,
)
from widgets.view import Paper, Pick, Scene, Slider, Text, View
from widgets.view.measure import shorten
from widgets.view.words import thousands

COLUMNS, MAX_TOKENS = 32, 18
LONGEST = 34.0  # pixels of the largest square
LABEL = 96  # pixels for the tokens beside the picture


def rows_of(record: Record, head: int) -> Float[Tensor, "T C"]:
    """What the picture shows of a record: one head of the parts that have heads."""
    if record.pattern is not None:
        return record.pattern[head]
    if record.values.dim() == 2:
        return record.values
    return record.values[:, head]


def shrink(values: Float[Tensor, "T C"], columns: int = COLUMNS) -> Float[Tensor, "T c"]:
    """Means over neighbouring channels, so that at most `columns` remain."""
    size = math.ceil(values.shape[1] / columns)
    return torch.stack([chunk.mean(1) for chunk in values.split(size, dim=1)], dim=1)


def statistics(values: Tensor) -> dict[str, float]:
    """Mean, size (root mean square), smallest and largest value."""
    wide = values.double()
    size = wide.square().mean().sqrt()
    found = {"mean": wide.mean(), "size": size, "smallest": wide.min(), "largest": wide.max()}
    return {name: float(value) for name, value in found.items()}


def token_label(text: str) -> str:
    """A token as a label: spaces and line ends can be seen."""
    return text.replace(" ", "␣").replace("\n", "⏎").replace("\t", "⇥") or "∅"


@dataclass(frozen=True, kw_only=True)
class Run:
    """One text through one model: its tokens and the records of every part."""

    tokens: list[str]
    records: dict[tuple[str, int | None], Record]
    best: str
    """The most likely next token after the last one, and its probability."""


def run(model: Transformer, tokenizer: Tokenizer, text: str, max_tokens: int = MAX_TOKENS) -> Run:
    """Trace the first tokens of a text. Raises ValueError if there is no token."""
    ids = tokenizer.encode(text, bos=True)[:max_tokens]
    if not ids:
        raise ValueError(f"text={text!r} is not allowed: it has no token")
    records = {(record.part, record.layer): record for record in trace(model, ids)}
    chances = records["output", None].values[-1].softmax(-1)
    label = token_label(tokenizer.decode([int(chances.argmax())]))
    best = f"“{label}” ({float(chances.max()):.2f})"
    return Run(tokens=[token_label(tokenizer.decode([i])) for i in ids], records=records, best=best)


def headline(traced: Run, record: Record, head: int) -> str:
    """The title: what to see in this picture."""
    label = PART_BY_KEY[record.part].label
    where = "" if record.layer is None else f"Layer {record.layer}, "
    if record.pattern is not None:
        row = record.pattern[head, -1]
        seen, last = traced.tokens[int(row.argmax())], traced.tokens[-1]
        return f"{where}head {head}: “{last}” takes most from “{seen}” ({float(row.max()):.2f})"
    if record.part == "output":
        return f"After “{traced.tokens[-1]}” this model expects {traced.best}"
    size = statistics(rows_of(record, head))["size"]
    words = f"{where}{label}: numbers of size {size:.2g} come out"
    return words[0].upper() + words[1:]


def shape_text(shape: tuple[int, ...]) -> str:
    return " × ".join(f"{n:,}" for n in shape)


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What the picture shows of one part."""

    record: Record
    head: int
    """Of the heads that this part has."""
    rows: Float[Tensor, "T C"]
    cells: list[list[float | None]]
    """The rows with neighbouring channels together; None where it is not a number."""
    columns: list[str]
    note: str

    @property
    def pattern(self) -> bool:
        """Whether the picture says where tokens look."""
        return self.record.pattern is not None


def shown_of(traced: Run, part: str, layer: int, head: int, group: int) -> Shown:
    """The picture of a part; group: query heads on each KV head."""
    record = traced.records[part, layer if PART_BY_KEY[part].in_block else None]
    own = head // group if part in KV_PARTS else head
    rows = rows_of(record, own)
    pattern = record.pattern is not None
    cells = rows if pattern else shrink(rows)
    return Shown(
        record=record,
        head=own,
        rows=rows,
        cells=[[_number(value) for value in row] for row in cells.tolist()],
        columns=traced.tokens if pattern else _channels(rows.shape[1], cells.shape[1]),
        note=_note(part, head, group, rows.shape[1], cells.shape[1]),
    )


def _number(value: float) -> float | None:
    return float(f"{value:.4g}") if math.isfinite(value) else None


def _channels(all_of_them: int, shown: int) -> list[str]:
    size = math.ceil(all_of_them / shown)
    return [str(i * size) for i in range(shown)]


def _note(part: str, head: int, group: int, channels: int, shown: int) -> str:
    if part == "inner_attention":
        return f"Row: the token that looks; column: where it looks. Query head {head}."
    words = []
    if part in KV_PARTS:
        first = head // group * group
        readers = (
            f"query heads {first} to {first + group - 1}" if group > 1 else f"query head {head}"
        )
        words.append(f"KV head {head // group}, read by {readers}.")
    elif part in HEAD_PARTS:
        words.append(f"Query head {head}.")
    size = math.ceil(channels / shown)
    if size > 1:
        words.append(f"Each column is the mean of {size} neighbouring channels.")
    return " ".join([*words, "Row: token; column: channel."])


def about(shown: Shown) -> list[str]:
    """The facts of a part, as lines."""
    record, part = shown.record, PART_BY_KEY[shown.record.part]
    goes_in = " · ".join(f"{name}: {shape_text(shape)}" for name, shape in record.inputs.items())
    numbers = statistics(shown.rows).items()
    return [
        part.does,
        f"in: {goes_in} · out: {shape_text(record.shape)}",
        f"{thousands(record.parameters)} parameters · values: "
        + " · ".join(f"{name} {value:.3g}" for name, value in numbers),
        f"in the model: {record.name} · paper: {part.section}",
    ]


def table_rows(tokens: list[str], shown: Shown) -> list[dict[str, object]]:
    """The picture as a table, one row a token."""
    names = [f"{i}: {n}" if shown.pattern else f"c{n}" for i, n in enumerate(shown.columns)]
    return [
        {"token": token} | dict(zip(names, map(_text, row), strict=True))
        for token, row in zip(tokens, shown.cells, strict=True)
    ]


def _text(value: float | None) -> str:
    return "not a number" if value is None else f"{value:.3g}"


@dataclass(frozen=True, kw_only=True)
class Square:
    """One value of the picture: its area is the size, hollow means below 0."""

    x: float
    y: float
    side: float
    sign: int
    """1, -1, or 0 for something that is not a number."""


def squares(cells: list[list[float | None]], width: float, height: float) -> list[Square]:
    """The picture of a matrix inside a rectangle; the largest size fills its place."""
    step = min(width / len(cells[0]), height / len(cells), LONGEST)
    largest = max((abs(v) for row in cells for v in row if v is not None), default=0.0) or 1.0
    return [
        Square(
            x=(column + 0.5) * step,
            y=(line + 0.5) * step,
            side=step * (0.5 if value is None else 0.94 * math.sqrt(abs(value) / largest)),
            sign=0 if value is None else -1 if value < 0 else 1,
        )
        for line, row in enumerate(cells)
        for column, value in enumerate(row)
    ]


def draw_cells(paper: Paper, tokens: list[str], shown: Shown, left: float, top: float) -> float:
    """The matrix with its labels and what its signs mean; returns where it ends."""
    x, room = left + LABEL, paper.width - left - LABEL - (64 if shown.pattern else 10)
    high, columns = 200 if paper.narrow else 236, shown.columns
    top += 44 if shown.pattern else 20
    found = squares(shown.cells, room, high)
    step = min(room / len(columns), high / len(tokens), LONGEST)
    size = min(14, 0.95 * step)
    for i, token in enumerate(tokens):
        y = top + (i + 0.5) * step + 0.35 * size
        words = shorten(token, size, LABEL - 12)
        paper.text(x - 10, y, words, size=size, anchor="end")
    for i, name in enumerate(columns):
        at, y = x + (i + 0.5) * step, top - 7
        if shown.pattern:
            turn = {"transform": f"rotate(-50 {at:.1f} {y:.1f})"}
            paper.text(at, y, shorten(name, 13, 62), "soft", size=13, **turn)
        elif i % 4 == 0:
            paper.text(at, y, name, "soft", size=13, anchor="middle")
    low = top + step * len(tokens)
    paper.rect(x, top, step * len(columns), low - top, "none", stroke="grid")
    for sign, style in SIGNS.items():  # one path for each sign: many shapes would be slow
        of_sign = [square for square in found if square.sign == sign and square.side]
        d = "".join(_outline(square, x, top) for square in of_sign)
        if d:
            paper.shape("path", d=d, key=f"sign {sign}", **style)
    x = left if paper.narrow else x
    y = low + 13
    if shown.pattern:
        paper.rect(x, y, 13, 13, "first")
        paper.text(x + 20, y + 12, "area: share of attention")
    else:
        paper.rect(x, y, 13, 13, "first")
        paper.text(x + 20, y + 12, "above 0")
        paper.rect(x + 96, y, 13, 13, **SIGNS[-1])
        paper.text(x + 116, y + 12, "below 0 · area: size")
    return y + 40


SIGNS = {
    1: {"fill": "first"},
    -1: {"fill": "paper", "stroke": "fourth", "stroke_width": 1.6},
    0: {"fill": "none", "stroke": "soft", "stroke_dasharray": "2 2"},
}


def _outline(square: Square, left: float, top: float) -> str:
    x, y = left + square.x - square.side / 2, top + square.y - square.side / 2
    side = f"{square.side:.1f}"
    return f"M{x:.1f} {y:.1f}h{side}v{side}h-{side}z"


class ArchitectureTracer(View):
    """Diagram of a live model: choose a part, see what it does to the text.

    The model is run once for each text and left as it was; after a change of its weights,
    `refresh()` runs it again. max_tokens: how much of the text is read.
    """

    layer = Slider(lambda view, values: range(view.layers), "layer")
    part = Pick([part.key for part in PARTS], start="inner_attention")
    head = Slider(
        lambda view, values: view.heads if values["part"] in HEAD_PARTS else (), "head", recorded=4
    )
    text = Text("text", most=1000)

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        text: str = "The quick brown fox",
        *,
        part: str = "inner_attention",
        layer: int = 0,
        head: int = 0,
        max_tokens: int = MAX_TOKENS,
    ) -> None:
        self.layers, self.heads = model.args.n_layers, range(model.args.n_heads)
        self._model = model
        self._run = functools.lru_cache(8)(lambda text: run(model, tokenizer, text, max_tokens))
        super().__init__(text=text, layer=layer, head=head)
        self.part = part

    def scene(self, paper: Paper, *, text: str, layer: int, part: str, head: int) -> Scene:
        traced = self._run(text)
        group = self._model.args.queries_per_kv_head
        shown = shown_of(traced, part, layer, head, group)
        caption = f"layer {layer} of 0–{self.layers - 1}"
        narrow = paper.narrow
        wide = paper.width if narrow else 0.29 * paper.width
        draw_diagram(paper, part, caption, wide)
        left, top = (4, paper.height + 18) if narrow else (wide + 18, 6)
        y = draw_cells(paper, traced.tokens, shown, left, top)
        for i, line in enumerate(about(shown)):
            y = paper.wrapped(left, y, line, "ink" if i < 2 else "soft")
        title, source = (
            headline(traced, shown.record, shown.head),
            part_source(self._model, part, layer),
        )
        return Scene(
            title=title,
            notes=[shown.note],
            table=table_rows(traced.tokens, shown),
            say=f"{title}. {PART_BY_KEY[part].does}",
            code=(source.place, source.text, source.lines),
            facts={"part": part},
        )

    def records(self) -> list[Record]:
        """Everything that was traced for the text."""
        return list(self._run(self.text).records.values())

    def refresh(self) -> None:
        self._run.cache_clear()
        super().refresh()
