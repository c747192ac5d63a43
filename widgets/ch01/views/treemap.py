"""Where the parameters are: a treemap whose areas are exact counts (§3.2, Table 3).

Shapes and counts come from `llama3lib.model.flops`. The layout is the squarified treemap.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from llama3lib.model import ModelArgs, get_preset
from llama3lib.model.flops import tensor_shapes
from widgets.view import Choice, Paper, Pick, Scene, View
from widgets.view.measure import text_width, wrap
from widgets.view.paper import TEXT

MODELS = ("8B", "70B", "405B", "1B", "3B", "tiny")
PARTS = ("feed_forward", "attention", "embedding", "output", "norms")
PART_NAMES = {
    "feed_forward": "feed-forward",
    "attention": "attention",
    "embedding": "embedding",
    "output": "output matrix",
    "norms": "norms",
}
STRIPES = {"attention": 45, "embedding": 135, "output": 90}  # angles; feed-forward is plain
FLAT = 34  # pixels: lower boxes have room for one line at most
NAME = 16.0  # size of the first line in a box
NORMS = "norms"
"""Stands for all of them where one is chosen: they are too small to draw."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of weight tensor, all its copies together."""

    name: str
    part: str
    shape: tuple[int, ...]
    copies: int
    parameters: int

    @property
    def short(self) -> str:
        """The last part of its name."""
        return self.name.split(".")[-1]


@dataclass(frozen=True, kw_only=True)
class Box:
    """A rectangle of the picture; `name` is a part or a kind."""

    name: str
    x: float
    y: float
    width: float
    height: float


def part_of(name: str) -> str:
    """The part of the model that a tensor belongs to, from its name."""
    if "norm" in name:
        return "norms"
    for part in ("attention", "feed_forward"):
        if part in name:
            return part
    return "output" if name == "output" else "embedding"


def kinds(args: ModelArgs, tied: bool | None = None) -> list[Kind]:
    """Every kind of tensor, largest first. `tied` asks what if; None leaves the model as it is."""
    if tied is not None:
        args = args.replace(tie_embeddings=tied)
    found = [
        Kind(
            name=tensor.name.replace("layers.{i}.", ""),
            part=part_of(tensor.name),
            shape=tensor.shape,
            copies=tensor.copies,
            parameters=tensor.elements,
        )
        for tensor in tensor_shapes(args)
    ]
    return sorted(found, key=lambda kind: -kind.parameters)


def total(found: list[Kind]) -> int:
    """Parameters of all kinds together."""
    return sum(kind.parameters for kind in found)


def squarify(
    sizes: list[tuple[str, float]], x: float, y: float, width: float, height: float
) -> list[Box]:
    """Split a rectangle into parts of these sizes, as square as a greedy row by row can.

    Sizes must be above 0 and are laid out in the order given (largest first looks best).
    """
    if any(not size > 0 for _, size in sizes):
        raise ValueError(f"sizes={sizes} is not allowed: every size must be above 0")
    scale = width * height / sum(size for _, size in sizes) if sizes else 0.0
    rest = [(name, size * scale) for name, size in sizes]
    boxes: list[Box] = []
    while rest:
        short = min(width, height)
        taken = 1
        while taken < len(rest) and _worst(rest[: taken + 1], short) <= _worst(rest[:taken], short):
            taken += 1
        row, rest = rest[:taken], rest[taken:]
        deep = sum(area for _, area in row) / short
        along = 0.0
        for name, area in row:
            length = area / deep
            if width >= height:  # a column at the left edge
                boxes.append(Box(name=name, x=x, y=y + along, width=deep, height=length))
            else:  # a row at the top edge
                boxes.append(Box(name=name, x=x + along, y=y, width=length, height=deep))
            along += length
        if width >= height:
            x, width = x + deep, width - deep
        else:
            y, height = y + deep, height - deep
    return boxes


def _worst(row: list[tuple[str, float]], short: float) -> float:
    """The longest side ratio in a row laid along the short side."""
    deep = sum(area for _, area in row) / short
    return max(max(deep * deep / area, area / (deep * deep)) for _, area in row)


def layout(found: list[Kind], width: float, height: float) -> list[Box]:
    """One box for every kind but the norms, kinds of one part together; areas follow counts.

    The norms are left out: with 0.003% of the 8B they would be a line nobody can see or hit.
    """
    sums = {part: sum(k.parameters for k in found if k.part == part) for part in PARTS[:-1]}
    parts = sorted(((p, n) for p, n in sums.items() if n), key=lambda pair: -pair[1])
    boxes = []
    for outer in squarify(parts, 0.0, 0.0, width, height):
        inside = [(k.name, k.parameters) for k in found if k.part == outer.name]
        boxes += squarify(inside, outer.x, outer.y, outer.width, outer.height)
    return boxes


def share(count: int, whole: int) -> str:
    """A share in percent, with enough digits to be told from nothing: 21.9%, 0.0033%."""
    percent = 100 * count / whole
    if percent < 0.001:
        return "below 0.001%"
    return f"{percent:.1f}%" if percent >= 0.1 else f"{percent:.2g}%"


def shape_text(kind: Kind) -> str:
    """As in `32 × [14,336 × 4,096]`; a single tensor has no count before it."""
    sizes = " × ".join(f"{n:,}" for n in kind.shape)
    return f"{kind.copies} × [{sizes}]" if kind.copies > 1 else f"[{sizes}]"


def headline(name: str, found: list[Kind]) -> str:
    """The title: what to see in this picture."""
    whole = total(found)
    ffn = sum(kind.parameters for kind in found if kind.part == "feed_forward")
    return f"{name}: {share(ffn, whole)} of {whole:,} parameters are feed-forward"


def norms_note(found: list[Kind]) -> str:
    """The line under the map for what is too small to draw."""
    norms = sum(kind.parameters for kind in found if kind.part == "norms")
    part = share(norms, total(found))
    return f"Too small to draw: all norms together, {norms:,} parameters ({part})"


def sentence(kind: Kind, whole: int) -> str:
    """One kind in words."""
    count = f"{shape_text(kind)} = {kind.parameters:,} parameters"
    return f"{kind.name} ({PART_NAMES[kind.part]}): {count}, {share(kind.parameters, whole)}"


def labels(kind: Kind, whole: int, width: float, height: float) -> list[str]:
    """The lines of text that fit into a box: name (in bold), share, part, shape."""
    short = kind.short
    lines = [short, share(kind.parameters, whole), PART_NAMES[kind.part], shape_text(kind)]
    if 18 <= height < FLAT:  # one line in plain letters
        return [line for line in lines if text_width(line, TEXT) <= width - 12][:1]
    wide = [text_width(short, NAME, bold=True), *(text_width(line, TEXT) for line in lines[1:])]
    fitting = [line for line, needed in zip(lines, wide, strict=True) if needed <= width - 18]
    return fitting[: max(int((height - 14) // 19), 0)]


def table_rows(found: list[Kind]) -> list[dict[str, str]]:
    """The picture as a table, one row a kind, and the total."""
    whole = total(found)
    rows = [
        {
            "tensor": kind.name,
            "part": PART_NAMES[kind.part],
            "shape": shape_text(kind),
            "parameters": f"{kind.parameters:,}",
            "share": share(kind.parameters, whole),
        }
        for kind in found
    ]
    last = {"tensor": "total", "part": "", "shape": "", "parameters": f"{whole:,}", "share": "100%"}
    return [*rows, last]


def draw_box(paper: Paper, kind: Kind, box: Box, words: list[str], **style: object) -> None:
    """A kind's area with as much text as fits; style: of the rectangle."""
    look = {"fill": kind.part, "fill_opacity": 0.16}
    if kind.part in STRIPES:
        look = {"fill": paper.hatch(kind.part, angle=STRIPES[kind.part], gap=12)}
    paper.rect(box.x + 2, box.y + 2, box.width - 4, box.height - 4, **(look | style))
    for i, line in enumerate(words):
        flat = box.height < FLAT
        x, y = (6, box.height / 2 + 5) if flat else (10, 24 + 19 * i)
        big = {"size": NAME, "bold": True} if line == kind.short and not flat else {}
        key = f"{kind.name} {i}"
        paper.text(box.x + x, box.y + y, line, halo=True, key=key, pointer_events="none", **big)


def draw_map(paper: Paper, found: list[Kind], selected: str) -> None:
    """All kinds as areas, and the norms as a line below."""
    by_name, whole = {kind.name: kind for kind in found}, total(found)
    boxes = layout(found, paper.width, 460 if paper.narrow else 370)
    for box in sorted(boxes, key=lambda box: box.name == selected):  # its frame lies on top
        kind, chosen = by_name[box.name], box.name == selected
        style = {"stroke": "ink" if chosen else kind.part, "stroke_width": 4 if chosen else 2}
        style |= {"key": kind.name, "put": ("selected", kind.name), "tip": sentence(kind, whole)}
        draw_box(paper, kind, box, labels(kind, whole, box.width, box.height), **style)
    note = norms_note(found)
    lines = wrap(note, TEXT, paper.width - 24)
    top, chosen = paper.height + 4, selected == NORMS
    with paper.group(key=NORMS, put=("selected", NORMS), tip=note):
        style = {"stroke": "ink" if chosen else "quiet", "stroke_width": 3 if chosen else 1}
        paper.rect(2, top, paper.width - 4, 10 + 20 * len(lines), "paper", **style)
        for i, line in enumerate(lines):
            paper.text(12, top + 20 + 20 * i, line)


class ParameterTreemap(View):
    """Every kind of weight tensor as an area; choose one to read its shape.

    model: one of the names given. tied: what if the output matrix were the embedding, or were
    not; None is as released. sizes: other shapes under names of your own.
    """

    model = Choice(lambda view, values: list(view.sizes), "model")
    tied = Choice(lambda view, values: _ties(view.sizes[values["model"]]), "output matrix")
    selected = Pick(lambda view, values: view._names(values["model"], values["tied"]))

    def __init__(
        self,
        model: str = "8B",
        *,
        tied: bool | None = None,
        sizes: Mapping[str, ModelArgs] | None = None,
    ) -> None:
        self.sizes = dict(sizes) if sizes else {name: get_preset(name) for name in MODELS}
        if model in self.sizes and tied == self.sizes[model].tie_embeddings:
            tied = None
        super().__init__(model=model, tied=tied)

    def scene(self, paper: Paper, *, model: str, tied: bool | None, selected: str) -> Scene:
        found = kinds(self.sizes[model], tied)
        whole = total(found)
        draw_map(paper, found, selected)
        told = {kind.name: sentence(kind, whole) for kind in found} | {NORMS: norms_note(found)}
        return Scene(
            title=headline(model, found),
            notes=[told[selected]],
            table=table_rows(found),
            facts={"total": whole, "selected": selected},
        )

    def kinds(self) -> list[Kind]:
        """What is drawn now."""
        return kinds(self.sizes[self.model], self.tied)

    def _names(self, model: str, tied: bool | None) -> list[str]:
        drawn = [k.name for k in kinds(self.sizes[model], tied) if k.part != "norms"]
        return [*drawn, NORMS]


def _ties(args: ModelArgs) -> dict[bool | None, str]:
    """As released, and the other way."""
    words = {True: "tied to the embedding", False: "a matrix of its own"}
    released = args.tie_embeddings
    return {
        None: f"as released: {words[released]}",
        not released: f"what if: {words[not released]}",
    }
