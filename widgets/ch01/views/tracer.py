"""The architecture tracer: choose a part of a real model, see what it does to your text (§3.2).

The numbers come from `trace`, one forward pass with hooks; the kernel sends the chosen part.
"""

import math
from dataclasses import dataclass

import torch
import traitlets
from jaxtyping import Float
from torch import Tensor

from llama3lib.model import Transformer
from llama3lib.tokenizer import Tokenizer
from widgets.ch01.views.trace import (
    HEAD_PARTS,
    KV_PARTS,
    PART_BY_KEY,
    PARTS,
    Record,
    part_source,
    trace,
)
from widgets.core.drawing import BLUE, INK, LINE, RED, SOFT, Drawing
from widgets.core.widget import CourseWidget, css, esm

COLUMNS, MAX_TOKENS = 32, 16
_WIDE, _HIGH = 84, 30
BOXES = {  # x, y, width, height of every part in the diagram
    "tok_embeddings": (28, 4, 264, 30),
    "attention_norm": (28, 66, 264, _HIGH),
    "wq": (28, 106, _WIDE, _HIGH),
    "wk": (118, 106, _WIDE, _HIGH),
    "wv": (208, 106, _WIDE, _HIGH),
    "rope_q": (28, 146, _WIDE, _HIGH),
    "rope_k": (118, 146, _WIDE, _HIGH),
    "inner_attention": (28, 186, 264, _HIGH),
    "wo": (28, 226, 264, _HIGH),
    "attention_add": (28, 266, 264, 26),
    "ffn_norm": (28, 312, 264, _HIGH),
    "w1": (28, 352, 129, _HIGH),
    "w3": (163, 352, 129, _HIGH),
    "gated": (28, 392, 264, _HIGH),
    "w2": (28, 432, 264, _HIGH),
    "ffn_add": (28, 472, 264, 26),
    "norm": (28, 530, 264, 30),
    "output": (28, 570, 264, 30),
}
BLOCK = (6, 44, 302, 466)
SHORT = {"wq": "wq", "wk": "wk", "wv": "wv", "rope_q": "RoPE q", "rope_k": "RoPE k"}
WIRES = (  # x, and from y to y
    *((160, y, y + 10) for y in (96, 136, 176, 216, 256, 422, 462, 560)),
    *((x, y, y + 10) for x in (70, 250) for y in (96,)),
    *((70, y, y + 10) for y in (136, 176)),
    *((x, y, y + 10) for x in (92, 227) for y in (342, 382)),
    *((250, 136, 186), (160, 34, 66), (160, 292, 312), (160, 498, 530)),
)
BYPASSES = ((50, 279), (302, 485))  # the stream passes both halves of a block by: from y to y


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


def view_of(model: Transformer, traced: Run, part: str, layer: int, head: int) -> dict:
    """Everything the browser shows of one part, ready to be sent."""
    about = PART_BY_KEY[part]
    record = traced.records[part, layer if about.in_block else None]
    group = model.args.queries_per_kv_head
    shown = head // group if part in KV_PARTS else head
    rows = rows_of(record, shown)
    pattern = record.pattern is not None
    cells = rows if pattern else shrink(rows)
    source = part_source(model, part, layer)
    return {
        "part": part,
        "layer": layer,
        "head": head,
        "title": headline(traced, record, shown),
        "name": record.name,
        "does": about.does,
        "section": about.section,
        "inputs": [f"{name}: {shape_text(shape)}" for name, shape in record.inputs.items()],
        "output": shape_text(record.shape),
        "parameters": record.parameters,
        "statistics": {name: f"{value:.3g}" for name, value in statistics(rows).items()},
        "cells": [[_number(value) for value in row] for row in cells.tolist()],
        "columns": traced.tokens if pattern else _channels(rows.shape[1], cells.shape[1]),
        "rows": traced.tokens,
        "pattern": pattern,
        "note": _note(part, head, group, rows.shape[1], cells.shape[1]),
        "source": {"place": source.place, "text": source.text, "lines": list(source.lines)},
    }


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


def table_rows(view: dict) -> list[dict[str, object]]:
    """The picture as a table, one row a token."""
    names = [
        f"{i}: {name}" if view["pattern"] else f"c{name}" for i, name in enumerate(view["columns"])
    ]
    return [
        {"token": token} | dict(zip(names, map(_text, row), strict=True))
        for token, row in zip(view["rows"], view["cells"], strict=True)
    ]


def _text(value: float | None) -> str:
    return "not a number" if value is None else f"{value:.3g}"


GRID = {"x": 470, "y": 84, "width": 510, "height": 400}


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
    step = min(width / len(cells[0]), height / len(cells), 40.0)
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


def draw_tracer(view: dict, layers: int) -> str:
    """The static picture, as SVG."""
    facts = [*view["inputs"], f"out: {view['output']}", f"{view['parameters']:,} parameters"]
    words = f"{view['does']} {'; '.join(facts)}. {view['note']} Paper: {view['section']}."
    picture = Drawing(1000, 690, title=view["title"], description=words)
    picture.text(20, 34, view["title"], size=22, font_weight=600)
    picture.begin("g", transform="translate(16 62)")
    _draw_diagram(picture, view["part"], layer_text(view["layer"], layers))
    picture.end("g")
    bottom = _draw_cells(picture, view, GRID["y"] + (58 if view["pattern"] else 20))
    signs = "Area: share of attention." if view["pattern"] else "Filled: above 0; hollow: below 0."
    lines = [view["does"], " · ".join(facts), view["note"], f"{signs} Paper: {view['section']}"]
    for i, line in enumerate(lines):
        picture.text(346, bottom + 30 + 25 * i, line, size=15, fill=INK if i < 2 else SOFT)
    return picture.svg()


def layer_text(layer: int, layers: int) -> str:
    return f"layer {layer} of 0 to {layers - 1}"


def _draw_cells(picture: Drawing, view: dict, top: float) -> float:
    """The matrix with its labels; returns where it ends."""
    left, rows, columns = GRID["x"], view["rows"], view["columns"]
    step = min(GRID["width"] / len(columns), GRID["height"] / len(rows), 40.0)
    for i, token in enumerate(rows):
        y = top + (i + 0.5) * step + 5
        picture.text(left - 10, y, shortened(token, 12), anchor="end", size=min(15, step))
    for i, name in enumerate(columns):
        x = left + (i + 0.5) * step
        turn = {"transform": f"rotate(-50 {x:.1f} {top - 8})"} if view["pattern"] else {}
        if view["pattern"] or i % 4 == 0:
            anchor = "start" if view["pattern"] else "middle"
            picture.text(x, top - 8, shortened(name, 8), anchor=anchor, size=13, fill=SOFT, **turn)
    picture.rect(left, top, step * len(columns), step * len(rows), fill="none", stroke=LINE)
    for square in squares(view["cells"], GRID["width"], GRID["height"]):
        x, y = left + square.x - square.side / 2, top + square.y - square.side / 2
        colour = SOFT if square.sign == 0 else BLUE if square.sign > 0 else RED
        fill = "#ffffff" if square.sign < 1 else colour
        picture.rect(x, y, square.side, square.side, fill=fill, stroke=colour)
    return top + step * len(rows)


def shortened(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _draw_diagram(picture: Drawing, chosen: str, block: str) -> None:
    x, y, width, height = BLOCK
    picture.rect(x, y, width, height, rx=8, fill="none", stroke=LINE, stroke_dasharray="4 4")
    picture.text(x + width - 10, y + 15, block, size=13, fill=SOFT, anchor="end")
    for x, start, end in WIRES:
        picture.line(x, start, x, end, stroke=SOFT, stroke_width=1.5)
    for start, end in BYPASSES:
        path = f"M160 {start}H16V{end}H26"
        picture.shape("path", d=path, fill="none", stroke=SOFT, stroke_width=1.5)
    for key, (x, y, width, height) in BOXES.items():
        here = key == chosen
        fill, edge = (BLUE, INK) if here else ("#f3f4f6", SOFT)
        stroke = {"stroke": edge, "stroke_width": 3 if here else 1}
        picture.rect(x, y, width, height, rx=5, fill=fill, **stroke)
        words = SHORT.get(key, PART_BY_KEY[key].label)
        style = {"fill": "#ffffff" if here else INK, "font_weight": 700 if here else 400}
        picture.text(x + width / 2, y + height / 2 + 5, words, anchor="middle", size=14, **style)


class ArchitectureTracer(CourseWidget):
    """Diagram of a live model: choose a part, see what it does to the text.

    The model is run once for each text and left as it was. Needs the kernel to change parts.
    """

    _esm = esm("tracer")
    _css = css("tracer")
    text = traitlets.Unicode().tag(sync=True)
    part = traitlets.Enum([part.key for part in PARTS], "inner_attention").tag(sync=True)
    layer = traitlets.Int(0, min=0).tag(sync=True)
    head = traitlets.Int(0, min=0).tag(sync=True)
    layers = traitlets.Int(1).tag(sync=True)
    heads = traitlets.Int(1).tag(sync=True)
    diagram = traitlets.Dict().tag(sync=True)
    view = traitlets.Dict().tag(sync=True)

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
        self._model, self._tokenizer, self._max_tokens = model, tokenizer, max_tokens
        self._run: Run | None = None
        super().__init__(layers=model.args.n_layers, heads=model.args.n_heads, diagram=_diagram())
        self.part, self.layer, self.head = part, layer, head
        self.text = text
        self._show()

    @traitlets.validate("layer", "head")
    def _exists(self, proposal: dict) -> int:
        field, value = proposal["trait"].name, proposal["value"]
        end = {"layer": self._model.args.n_layers, "head": self._model.args.n_heads}[field]
        if value >= end:
            raise traitlets.TraitError(f"{field}={value!r} is not allowed: 0 to {end - 1}")
        return value

    @traitlets.observe("text")
    def _run_again(self, change: dict) -> None:
        self._run = run(self._model, self._tokenizer, change["new"], self._max_tokens)
        self._show()

    @traitlets.observe("part", "layer", "head")
    def _show(self, change: dict | None = None) -> None:
        if self._run is not None:
            self.view = view_of(self._model, self._run, self.part, self.layer, self.head)

    def records(self) -> list[Record]:
        """Everything that was traced for the text."""
        return list(self._run.records.values())

    def summary(self) -> str:
        return self.view["title"]

    def table(self) -> list[dict[str, object]]:
        return table_rows(self.view)

    def static_svg(self) -> str:
        return draw_tracer(self.view, self.layers)


def _diagram() -> dict[str, object]:
    parts = [
        {
            "key": part.key,
            "label": SHORT.get(part.key, part.label),
            "box": list(BOXES[part.key]),
            "name": f"{part.label}: {part.does}",
            "block": part.in_block,
            "heads": part.key in HEAD_PARTS,
        }
        for part in PARTS
    ]
    return {
        "parts": parts,
        "block": list(BLOCK),
        "bypasses": [list(pair) for pair in BYPASSES],
        "wires": [list(wire) for wire in WIRES],
    }
