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
from widgets.ch01.views.cells import draw_cells, draw_next
from widgets.ch01.views.diagram import draw_diagram, role_of
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
from widgets.view.words import percent, thousands

COLUMNS, MAX_TOKENS = 32, 18
LIKELIEST = 10  # next tokens shown
SENTENCES = (
    "Lena had a nut. Then Lena",
    "Zoe had seven nuts. She gave Tess five nuts. So Zoe had",
    "One sunny day Omar went to the",
    "Tess was sad, because",
)
"""What a recording offers beside the text of the view."""


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
    likeliest: list[tuple[str, float]]
    """The most likely next tokens after the last one, with their probabilities."""

    @property
    def best(self) -> str:
        """The first of them in words."""
        label, chance = self.likeliest[0]
        return f"“{label}” ({chance:.2f})"


def run(model: Transformer, tokenizer: Tokenizer, text: str, max_tokens: int = MAX_TOKENS) -> Run:
    """Trace the first tokens of a text. Raises ValueError if there is no token."""
    ids = tokenizer.encode(text, bos=True)[:max_tokens]
    if not ids:
        raise ValueError(f"text={text!r} is not allowed: it has no token")
    records = {(record.part, record.layer): record for record in trace(model, ids)}
    chances = records["output", None].values[-1].softmax(-1)
    best = chances.topk(min(LIKELIEST, len(chances)))

    def label(one: int) -> str:
        return token_label(tokenizer.decode([one]))

    likeliest = list(zip(map(label, best.indices.tolist()), best.values.tolist(), strict=True))
    return Run(tokens=[label(one) for one in ids], records=records, likeliest=likeliest)


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
    if part == "output":
        return f"The {LIKELIEST} likeliest of {channels:,} tokens after the last one of the text."
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


def table_rows(traced: Run, shown: Shown) -> list[dict[str, object]]:
    """The picture as a table, one row a token."""
    if shown.record.part == "output":
        return [{"next token": t, "probability": percent(p, 3)} for t, p in traced.likeliest]
    names = [f"{i}: {n}" if shown.pattern else f"c{n}" for i, n in enumerate(shown.columns)]
    return [
        {"token": token} | dict(zip(names, map(_text, row), strict=True))
        for token, row in zip(traced.tokens, shown.cells, strict=True)
    ]


def _text(value: float | None) -> str:
    return "not a number" if value is None else f"{value:.3g}"


class ArchitectureTracer(View):
    """Diagram of a live model: choose a part, see what it does to the text.

    The model is run once for each text and left as it was; after a change of its weights,
    `refresh()` runs it again. max_tokens: how much of the text is read.
    """

    part = Pick(
        [part.key for part in PARTS], "through the parts", start="inner_attention", play=1400
    )
    layer = Slider(
        lambda view, values: range(view.layers) if PART_BY_KEY[values["part"]].in_block else (),
        "layer", recorded=(),  # all layers of all sentences would be megabytes
    )  # fmt: skip
    head = Slider(
        lambda view, values: view.heads if values["part"] in HEAD_PARTS else (), "head", recorded=2
    )
    text = Text("text", most=1000, recorded=SENTENCES)

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
        if part == "output":
            y = draw_next(paper, traced.likeliest, left, top)
        else:
            matrix = traced.tokens, shown.columns, shown.cells, role_of(part)
            place = {"left": left, "top": top}
            y = draw_cells(paper, *matrix, pattern=shown.pattern, **place)
        for i, line in enumerate(about(shown)):
            y = paper.wrapped(left, y, line, "ink" if i < 2 else "soft")
        title, source = (
            headline(traced, shown.record, shown.head),
            part_source(self._model, part, layer),
        )
        return Scene(
            title=title,
            notes=[shown.note],
            table=table_rows(traced, shown),
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
