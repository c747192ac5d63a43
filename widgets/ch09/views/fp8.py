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
from torch import Tensor

from llama3lib.checkpoint import load_model, load_tokenizer
from llama3lib.model import Transformer
from llama3lib.paper.inference import SCALE_BOUND
from llama3lib.quant.fp8 import LARGEST, fp8_tensorwise, quantize_rows
from llama3lib.tokenizer import Tokenizer
from widgets.view import Choice, Paper, Pick, Scene, Slider, View

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
FILLS = ("sixth", "second", "soft", "fourth")
LEFT, TOP, ROW = 108, 28, 24
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


def value_words(
    token: str, channel: int, value: float, back: float, error: float, kind: int
) -> str:
    """What became of one value."""
    which = f"token {token!r}, channel {channel}"
    return f"{which}: {number(value)} becomes {number(back)}, {percent(error)} off: {KINDS[kind]}"


def cell_words(given: Activations, it: Grid, row: int, column: int) -> str:
    """What became of the value at this place."""
    three = (of[row, column].item() for of in (it.planted, it.back, it.errors))
    return value_words(given.tokens[row], column, *three, it.kinds[row][column])


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


@functools.cache
def tiny_inputs() -> Activations:
    """Those of the course's small model."""
    return ffn_inputs(load_model("tiny-base"), load_tokenizer("tiny-base"))


def draw_value(paper: Paper, x: float, y: float, wide: float, high: float, kind: int,
               **style: object) -> None:  # fmt: skip
    """A cell of the grid: what became of a value, by colour and by sign."""
    with paper.group(**style):
        paper.rect(x + 0.5, y + 0.5, wide - 1, high - 1, FILLS[kind],
                   fill_opacity=0.3 if kind == 0 else 1.0, stroke="grid")  # fmt: skip
        if SIGNS[kind]:
            role = "on_dark" if kind == 2 else "on_light"
            paper.text(x + wide / 2, y + high / 2 + 5, SIGNS[kind], role, anchor="middle")


class FP8Grid(View):
    """Make one value larger; see which values the rounding takes.

    activations: from `ffn_inputs`; those of tiny-base if left out. cell: row and column of the
    value under the keyboard.
    """

    outlier = Slider(OUTLIERS, "outlier", start=100_000, text=lambda v: f"× {v:,}")
    scheme = Choice(SCHEMES, "scales")
    cell = Pick(lambda view, values: view.places)

    def __init__(
        self,
        activations: Activations | None = None,
        *,
        outlier: int = 100_000,
        scheme: str = "tensor",
    ) -> None:
        self.activations = tiny_inputs() if activations is None else activations
        rows, columns = self.activations.values.shape
        self.places = [(i, j) for i in range(rows) for j in range(columns)]
        super().__init__(outlier=outlier, scheme=scheme, cell=self.activations.largest)

    def scene(self, paper: Paper, *, outlier: int, scheme: str) -> Scene:
        given = self.activations
        it = grid(given, outlier, scheme)
        planted, back, errors = it.planted.tolist(), it.back.tolist(), it.errors.tolist()
        rows, columns = it.planted.shape
        wide, low = (paper.width - LEFT - 6) / columns, TOP + ROW * rows
        paper.text(LEFT - 10, TOP - 8, "token", "soft", anchor="end")
        paper.text(
            LEFT, TOP - 8, f"{columns} channels of the input of a feed-forward layer", "soft"
        )
        for i, token in enumerate(given.tokens):
            paper.text(LEFT - 10, TOP + ROW * i + ROW / 2 + 5, token, anchor="end")
            for j, kind in enumerate(it.kinds[i]):
                tip = value_words(token, j, planted[i][j], back[i][j], errors[i][j], kind)
                draw_value(paper, LEFT + wide * j, TOP + ROW * i, wide, ROW, kind,
                           put=("cell", (i, j)), tip=tip)  # fmt: skip
        row, column = given.largest
        paper.rect(LEFT + wide * column, TOP + ROW * row, wide, ROW, "none", stroke="ink",
                   stroke_width=3, pointer_events="none")  # fmt: skip
        each = paper.width / 2 if paper.narrow else (paper.width - LEFT) / 4
        for kind, line in enumerate(legend()):
            x, y = (
                (each * (kind % 2), 26 * (kind // 2)) if paper.narrow else (LEFT + each * kind, 0)
            )
            draw_value(paper, x, low + 14 + y, 22, 20, kind)
            paper.text(x + 30, low + 29 + y, line)
        paper.text(LEFT, low + 58 + 26 * paper.narrow, "thick frame: the outlier", "soft")
        counts = {kind: it.count(kind) for kind in KINDS}
        return Scene(
            title=headline(outlier, scheme, it),
            notes=notes(given, it),
            table=table_rows(given, it),
            facts=counts,
        )

    def grid(self) -> Grid:
        """What the picture shows."""
        return grid(self.activations, self.outlier, self.scheme)

    def cell_words(self) -> str:
        """What is told of the chosen cell."""
        return cell_words(self.activations, self.grid(), *self.cell)
