"""Which values die when one outlier sets the scale of FP8 (section 6.2).

Rows are tokens, columns are channels: the real input of a feed-forward layer, with one value made
larger by a factor. Scales and rounding are those of `llama3lib.quant.fp8`. The browser does it
again so that a saved page still works; a test holds both together to the bit.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

import torch
import traitlets
from torch import Tensor

from llama3lib.checkpoint import load_model, load_tokenizer
from llama3lib.model import Transformer
from llama3lib.paper.inference import SCALE_BOUND
from llama3lib.quant.fp8 import LARGEST, fp8_tensorwise, quantize_rows
from llama3lib.tokenizer import Tokenizer
from widgets.core.drawing import INK, LINE, ORANGE, RED, SKY, SOFT, Drawing
from widgets.core.widget import CourseWidget, css, esm

OUTLIERS = (1, 3, 10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
BOUND = float(SCALE_BOUND.value)
SCHEMES = {
    "tensor": "one scale for all rows",
    "row": "a scale for each row",
    "bounded": f"a scale for each row, bound {SCALE_BOUND.value:,}",
}
_QUANTIZE: dict[str, Callable[[Tensor], tuple[Tensor, Tensor]]] = {
    "tensor": fp8_tensorwise,
    "row": quantize_rows,
    "bounded": functools.partial(quantize_rows, upper_bound=BOUND),
}
KINDS = ("kept", "coarse", "dead", "saturated")
SIGNS = ("", "≈", "×", "▲")
FINE = 1 / 16  # 3 bits of fraction are never further away; smaller numbers have fewer bits
GREY = "#5b6570"
FILLS = (SKY, ORANGE, GREY, RED)
GRID = {"x": 108, "y": 70, "width": 872, "row": 24}
TEXT = "Omar had two coins. Ines went to the red mill."


@dataclass(frozen=True)
class Activations:
    """Tokens, and for each a row of channels."""

    tokens: tuple[str, ...]
    values: Tensor

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or len(self.tokens) != len(self.values):
            shape = tuple(self.values.shape)
            raise ValueError(f"values of shape {shape} is not allowed: a row for each token")

    @property
    def largest(self) -> tuple[int, int]:
        """Row and column of the largest value: there the outlier is planted."""
        return divmod(int(self.values.abs().argmax()), self.values.shape[1])


def ffn_inputs(
    model: Transformer,
    tokenizer: Tokenizer,
    text: str = TEXT,
    *,
    layer: int = 1,
    tokens: int = 12,
    channels: int = 32,
) -> Activations:
    """The input of one feed-forward layer for the first tokens of a text, in float32.

    The begin-of-text token is left out. Raises ValueError for a layer that is not there or a text
    that is too short.
    """
    if str(layer) not in model.layers:
        raise ValueError(f"layer={layer!r} is not allowed: 0 to {len(model.layers) - 1}")
    ids = tokenizer.encode(text, bos=True)[: tokens + 1]
    if len(ids) < tokens + 1:
        raise ValueError(f"text={text!r} is not allowed: {tokens} tokens or more")
    seen: list[Tensor] = []
    hook = model.layers[str(layer)].feed_forward.register_forward_pre_hook(
        lambda module, given: seen.append(given[0].float())
    )
    try:
        with torch.inference_mode():
            model.hidden_states(torch.tensor([ids], device=model.norm.weight.device))
    finally:
        hook.remove()
    names = tuple(tokenizer.decode([one]).replace(" ", "␣") for one in ids[1:])
    return Activations(names, seen[0][0, 1:, :channels].cpu().clone())


@dataclass(frozen=True)
class Grid:
    """Every value after FP8 and back."""

    planted: Tensor
    back: Tensor
    scales: list[float]
    kinds: list[list[int]]
    """Numbers of KINDS."""
    errors: Tensor
    """Relative, of each value."""
    others: float
    """Relative error of the rows without the outlier, all together."""
    neighbours: float
    """The same for the outlier's row without the outlier."""

    def count(self, kind: str) -> int:
        """How many values of that kind."""
        return sum(row.count(KINDS.index(kind)) for row in self.kinds)


def grid(given: Activations, outlier: float, scheme: str) -> Grid:
    """FP8 and back, with the largest value multiplied by `outlier`."""
    row, column = given.largest
    planted = given.values.clone()
    planted[row, column] *= outlier
    q, scale = _QUANTIZE[scheme](planted)
    back = q.float() * scale
    scales = scale.reshape(-1).expand(len(planted)) if scale.ndim == 0 else scale.reshape(-1)
    wide, far = planted.double(), (back.double() - planted.double()).abs()
    errors = torch.where(wide == 0, 0.0, far / wide.abs().clamp(min=1e-300))
    kinds = (errors > FINE).long()
    kinds[(back == 0) & (planted != 0)] = 2
    kinds[wide.abs() > LARGEST * scales.double().unsqueeze(1) * (1 + 1e-6)] = 3
    rest = torch.ones(len(planted), dtype=torch.bool)
    rest[row] = False
    beside = torch.ones(planted.shape[1], dtype=torch.bool)
    beside[column] = False
    return Grid(
        planted=planted,
        back=back,
        scales=scales.tolist(),
        kinds=kinds.tolist(),
        errors=errors,
        others=(far[rest].norm() / wide[rest].norm()).item(),
        neighbours=(far[row][beside].norm() / wide[row][beside].norm()).item(),
    )


def number(value: float) -> str:
    """Three digits: 0.0123, 2.65, 265,000."""
    return format(Decimal(f"{value + 0.0:.3g}"), ",f")  # + 0.0: no minus in front of zero


def percent(share: float) -> str:
    """As in 2.4% or 46%."""
    return f"{number(float(f'{100 * share:.2g}'))}%"


def headline(outlier: int, scheme: str, it: Grid) -> str:
    """The title: how many die."""
    dead, all_, saturated = it.count("dead"), it.planted.numel(), it.count("saturated")
    more = f", {saturated} saturate{'s' * (saturated == 1)}" if saturated else ""
    die = f"{dead} of {all_} values die" if dead else "no value dies"
    return f"Outlier × {outlier:,}, {SCHEMES[scheme]}: {die}{more}"


def notes(given: Activations, it: Grid) -> list[str]:
    """The numbers behind the title."""
    row, column = given.largest
    scale, value = it.scales[row], it.planted[row, column].item()
    told = [
        f"The outlier is {number(value)}. The scale of its row is {number(scale)}: what is smaller "
        f"in size than {number(scale / 1024)} there rounds to 0.",
        f"Errors as a share of the values (root mean squares): {percent(it.others)} in "
        f"the other rows, {percent(it.neighbours)} in the outlier's row without it.",
    ]
    if it.kinds[row][column] == 3:
        told.append(f"The outlier itself comes back as {number(it.back[row, column].item())}.")
    return told


def legend() -> list[str]:
    """What the signs mean."""
    return ["kept: at most 1/16 off", "coarse: more", "dead: rounds to 0", "saturated: cut"]


def cell_words(given: Activations, it: Grid, row: int, column: int) -> str:
    """What became of one value."""
    value, back = it.planted[row, column].item(), it.back[row, column].item()
    kind = KINDS[it.kinds[row][column]]
    off = percent(it.errors[row, column].item())
    which = f"token {given.tokens[row]!r}, channel {column}"
    return f"{which}: {number(value)} becomes {number(back)}, {off} off: {kind}"


def table_rows(given: Activations, it: Grid) -> list[dict[str, str]]:
    """One row for each token."""
    return [
        {
            "token": token,
            "largest": number(it.planted[i].abs().max().item()),
            "scale": number(it.scales[i]),
            **{kind: str(it.kinds[i].count(k)) for k, kind in enumerate(KINDS)},
        }
        for i, token in enumerate(given.tokens)
    ]


def draw_grid(given: Activations, outlier: int, scheme: str) -> str:
    """The static picture, as SVG."""
    it = grid(given, outlier, scheme)
    title, told = headline(outlier, scheme, it), notes(given, it)
    rows, columns = it.planted.shape
    wide, high, low = GRID["width"] / columns, GRID["row"], GRID["y"] + GRID["row"] * rows
    picture = Drawing(1000, low + 140, title=title, description=" ".join(told))
    picture.text(20, 34, title, size=min(22, 1700 / len(title)), font_weight=600)
    picture.text(GRID["x"] - 10, GRID["y"] - 8, "token", anchor="end", fill=SOFT)
    words = f"{columns} channels of the input of a feed-forward layer"
    picture.text(GRID["x"], GRID["y"] - 8, words, fill=SOFT)
    for i, token in enumerate(given.tokens):
        y = GRID["y"] + high * i
        picture.text(GRID["x"] - 10, y + high / 2 + 5, token, anchor="end")
        for j, kind in enumerate(it.kinds[i]):
            _draw_cell(picture, GRID["x"] + wide * j, y, wide, high, kind)
    row, column = given.largest
    picture.rect(GRID["x"] + wide * column, GRID["y"] + high * row, wide, high, fill="none",
                 stroke=INK, stroke_width=3)  # fmt: skip
    for kind, line in enumerate(legend()):
        x = GRID["x"] + 215 * kind
        _draw_cell(picture, x, low + 14, 22, 20, kind)
        picture.text(x + 30, low + 29, line)
    picture.text(GRID["x"], low + 58, "thick frame: the outlier", fill=SOFT)
    for place, line in enumerate(told):
        picture.text(20, low + 84 + 21 * place, line, fill=SOFT, size=13)
    return picture.svg()


def _draw_cell(picture: Drawing, x: float, y: float, wide: float, high: float, kind: int) -> None:
    style = {"fill": FILLS[kind], "fill_opacity": 0.3 if kind == 0 else 1.0, "stroke": LINE}
    picture.rect(x + 0.5, y + 0.5, wide - 1, high - 1, **style)
    if SIGNS[kind]:
        ink = {"fill": "#ffffff"} if kind == 2 else {}
        words, size = SIGNS[kind], 17 if kind == 1 else 14
        middle = x + wide / 2
        picture.text(middle, y + high / 2 + 5, words, anchor="middle", size=size, **ink)


@functools.cache
def tiny_inputs() -> Activations:
    """Those of the course's small model."""
    return ffn_inputs(load_model("tiny-base"), load_tokenizer("tiny-base"))


class FP8Grid(CourseWidget):
    """Make one value larger; see which values the rounding takes.

    activations: from `ffn_inputs`; those of tiny-base if left out. cell: row and column of the
    value that is told below the grid. Works in a saved page.
    """

    _esm = esm("fp8")
    _css = css("fp8")
    outlier = traitlets.Int(100_000).tag(sync=True)
    scheme = traitlets.Unicode("tensor").tag(sync=True)
    cell = traitlets.List(traitlets.Int(), [0, 0]).tag(sync=True)
    given = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        activations: Activations | None = None,
        *,
        outlier: int = 100_000,
        scheme: str = "tensor",
    ) -> None:
        self.activations = tiny_inputs() if activations is None else activations
        told = {"tokens": self.activations.tokens, "values": self.activations.values.tolist()}
        told |= {"outliers": OUTLIERS, "schemes": SCHEMES, "bound": BOUND, "largest": LARGEST}
        super().__init__(given=told | {"at": list(self.activations.largest), "legend": legend()})
        self.outlier, self.scheme = outlier, scheme
        self.cell = list(self.activations.largest)

    @traitlets.validate("outlier", "scheme")
    def _offered(self, proposal: dict) -> object:
        name, value = proposal["trait"].name, proposal["value"]
        allowed = [*OUTLIERS] if name == "outlier" else [*SCHEMES]
        if value not in allowed:
            names = ", ".join(map(str, allowed))
            raise traitlets.TraitError(f"{name}={value!r} is not allowed: one of {names}")
        return value

    @traitlets.validate("cell")
    def _a_cell(self, proposal: dict) -> list[int]:
        value, most = proposal["value"], [n - 1 for n in self.activations.values.shape]
        if len(value) != 2 or not all(0 <= n <= end for n, end in zip(value, most, strict=True)):
            raise traitlets.TraitError(f"cell={value!r} is not allowed: [0, 0] to {most}")
        return value

    def grid(self) -> Grid:
        """What the picture shows."""
        return grid(self.activations, self.outlier, self.scheme)

    def cell_words(self) -> str:
        """What is told of the chosen cell."""
        return cell_words(self.activations, self.grid(), *self.cell)

    def summary(self) -> str:
        return headline(self.outlier, self.scheme, self.grid())

    def table(self) -> list[dict[str, object]]:
        return table_rows(self.activations, self.grid())

    def static_svg(self) -> str:
        return draw_grid(self.activations, self.outlier, self.scheme)
