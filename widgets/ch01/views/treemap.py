"""Where the parameters are: a treemap whose areas are exact counts (§3.2, Table 3).

Shapes and counts come from `llama3lib.model.flops`. The layout is the squarified treemap; the
browser lays out the same rectangles when the model changes, and a test holds both together.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import traitlets

from llama3lib.model import ModelArgs, get_preset
from llama3lib.model.flops import tensor_shapes
from widgets.core.drawing import BLUE, GREEN, ORANGE, PURPLE, SOFT, Drawing
from widgets.core.widget import CourseWidget, css, esm

MODELS = ("8B", "70B", "405B", "1B", "3B", "tiny")
PARTS = ("feed_forward", "attention", "embedding", "output", "norms")
PART_NAMES = {
    "feed_forward": "feed-forward",
    "attention": "attention",
    "embedding": "embedding",
    "output": "output matrix",
    "norms": "norms",
}
STYLE = {  # colour, and angle of the stripes (None: plain)
    "feed_forward": (BLUE, None),
    "attention": (ORANGE, 45),
    "embedding": (GREEN, 135),
    "output": (PURPLE, 90),
}
MAP = (960, 400)  # pixels of the rectangles
FLAT = 34  # pixels: lower boxes have room for one line at most


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of weight tensor, all its copies together."""

    name: str
    part: str
    shape: tuple[int, ...]
    copies: int
    parameters: int


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


def draw_treemap(name: str, args: ModelArgs, tied: bool | None = None) -> str:
    """The static picture, as SVG."""
    found = kinds(args, tied)
    by_name, whole = {kind.name: kind for kind in found}, total(found)
    listed = "; ".join(f"{k.name} {k.parameters:,} ({share(k.parameters, whole)})" for k in found)
    picture = Drawing(1000, 510, title=headline(name, found), description=f"Areas: {listed}.")
    picture.text(20, 34, picture.title, size=22, font_weight=600)
    fills = {
        part: picture.hatch(f"treemap-{part}", colour, angle or 0, width=1.4 if angle else 0)
        for part, (colour, angle) in STYLE.items()
    }
    for box in layout(found, *MAP):
        kind = by_name[box.name]
        colour = STYLE[kind.part][0]
        x, y = box.x + 20, box.y + 52
        frame = {"fill": fills[kind.part], "stroke": colour, "stroke_width": 2}
        picture.rect(x + 1, y + 1, box.width - 2, box.height - 2, **frame)
        for i, line in enumerate(labels(kind, whole, box.width, box.height)):
            style = {"stroke": "#fff", "stroke_width": 4, "paint_order": "stroke"}
            flat = box.height < FLAT
            at = (x + 6, y + box.height / 2 + 5) if flat else (x + 10, y + 24 + 19 * i)
            picture.text(*at, line, size=14 if flat or i else 16, **style)
    picture.text(20, 480, norms_note(found), fill=SOFT, size=15)
    return picture.svg()


def labels(kind: Kind, whole: int, width: float, height: float) -> list[str]:
    """The lines of text that fit into a box: name (in bold), part, share, shape."""
    short = kind.name.split(".")[-1]
    lines = [short, PART_NAMES[kind.part], share(kind.parameters, whole), shape_text(kind)]
    if 18 <= height < FLAT:  # one line in plain letters
        return [line for line in lines if len(line) * 8.2 <= width - 12][:1]
    fitting = [line for line in lines if len(line) * (10 if line == short else 8.2) <= width - 18]
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


class ParameterTreemap(CourseWidget):
    """Every kind of weight tensor as an area. Works in a saved page: no kernel is asked.

    model: one of the names given. tied: what if the output matrix were the embedding; starts as
    released for each model. sizes: other shapes under names of your own.
    """

    _esm = esm("treemap")
    _css = css("treemap")
    model = traitlets.Unicode().tag(sync=True)
    tied = traitlets.Bool().tag(sync=True)
    selected = traitlets.Unicode("feed_forward.w1").tag(sync=True)
    models = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        model: str = "8B",
        *,
        tied: bool | None = None,
        sizes: Mapping[str, ModelArgs] | None = None,
    ) -> None:
        self.sizes = dict(sizes) if sizes else {name: get_preset(name) for name in MODELS}
        super().__init__(models={name: _for_browser(args) for name, args in self.sizes.items()})
        self.model = model
        if tied is not None:
            self.tied = tied

    @traitlets.validate("model")
    def _known(self, proposal: dict) -> str:
        if proposal["value"] not in self.sizes:
            allowed = f"one of {', '.join(self.sizes)}"
            raise traitlets.TraitError(f"model={proposal['value']!r} is not allowed: {allowed}")
        return proposal["value"]

    @traitlets.validate("selected")
    def _selectable(self, proposal: dict) -> str:
        names = [*(k.name for shape in self.sizes.values() for k in kinds(shape, False)), "norms"]
        if proposal["value"] not in names:
            allowed = f"one of {', '.join(dict.fromkeys(names))}"
            raise traitlets.TraitError(f"selected={proposal['value']!r} is not allowed: {allowed}")
        return proposal["value"]

    @traitlets.observe("model")
    def _as_released(self, change: dict) -> None:
        self.tied = self.sizes[change["new"]].tie_embeddings

    def kinds(self) -> list[Kind]:
        """What is drawn now."""
        return kinds(self.sizes[self.model], self.tied)

    def summary(self) -> str:
        return headline(self.model, self.kinds())

    def table(self) -> list[dict[str, object]]:
        return table_rows(self.kinds())

    def static_svg(self) -> str:
        return draw_treemap(self.model, self.sizes[self.model], self.tied)


def _for_browser(args: ModelArgs) -> dict[str, object]:
    """Shapes of the untied model in the library's order; the browser counts and lays out."""
    untied = args.replace(tie_embeddings=False)
    shapes = [
        {
            "name": tensor.name.replace("layers.{i}.", ""),
            "part": part_of(tensor.name),
            "shape": list(tensor.shape),
            "copies": tensor.copies,
        }
        for tensor in tensor_shapes(untied)
    ]
    return {"shapes": shapes, "tied": args.tie_embeddings}
