"""From logits to the token that is drawn: what temperature, top-k, top-p and min-p leave over.

The logits are those of a real model after a prompt; the distribution is that of
`llama3lib.inference.sampling_probs`, the one the engine draws from. The browser does it again so
that a saved page still works; a test holds both together.
"""

import functools
from dataclasses import dataclass
from decimal import Decimal

import torch
import traitlets
from jaxtyping import Float
from torch import Tensor

from llama3lib.checkpoint import load_model, load_tokenizer
from llama3lib.inference import SamplingParams, sampling_probs
from llama3lib.model import Transformer
from llama3lib.tokenizer import Tokenizer
from widgets.core.drawing import BLUE, PAPER, SOFT, Drawing
from widgets.core.widget import CourseWidget, css, esm

PROMPT = "Omar had a"
TEMPERATURES = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5, 2.0, 3.0)
TOP_PS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
CUTS = {
    "none": "none",
    "top-k 3": "top-k: 3 tokens",
    "top-k 10": "top-k: 10 tokens",
    "top-k 50": "top-k: 50 tokens",
    "min-p 0.05": "min-p: 5% of the first",
    "min-p 0.3": "min-p: 30% of the first",
    "min-p 0.6": "min-p: 60% of the first",
}
SHOWN = 18
PLOT = {"x": 190, "y": 62, "width": 560, "row": 21}
_TOPS = (0.05, 0.1, 0.2, 0.5, 1.0)


@dataclass(frozen=True)
class NextToken:
    """Every token's label and score, the highest score first."""

    prompt: str
    labels: tuple[str, ...]
    logits: Float[Tensor, "V"]


def next_token(model: Transformer, tokenizer: Tokenizer, prompt: str) -> NextToken:
    """The model's scores of what follows a prompt, in float64.

    Raises ValueError for an empty prompt.
    """
    if not prompt:
        raise ValueError("prompt='' is not allowed: at least one character")
    ids = torch.tensor([tokenizer.encode(prompt, bos=True)], device=model.norm.weight.device)
    with torch.inference_mode():
        logits = model.output(model.hidden_states(ids)[0, -1]).double().cpu()
    logits, order = logits.clone().sort(descending=True, stable=True)
    return NextToken(prompt, tuple(label(tokenizer, one) for one in order.tolist()), logits)


def label(tokenizer: Tokenizer, token: int) -> str:
    """A token to look at: blanks and line ends as signs, parts of a character in hexadecimal."""
    piece = tokenizer.token_bytes(token)
    try:
        return piece.decode("utf-8").replace(" ", "␣").replace("\n", "⏎")
    except UnicodeDecodeError:
        return f"<{piece.hex()}>"


def params_of(temperature: float, top_p: float, cut: str) -> SamplingParams:
    """What the controls mean."""
    name, _, value = cut.partition(" ")
    top_k = int(value) if name == "top-k" else 0
    min_p = float(value) if name == "min-p" else 0.0
    return SamplingParams(temperature=temperature, top_p=top_p, top_k=top_k, min_p=min_p)


@dataclass(frozen=True)
class Draw:
    """Probabilities before and after the cuts, in the order of the labels."""

    before: list[float]
    after: list[float]

    @property
    def kept(self) -> int:
        """Tokens that can be drawn."""
        return sum(p > 0 for p in self.after)

    @property
    def share(self) -> float:
        """The probability that they had before the cuts."""
        return sum(b for b, a in zip(self.before, self.after, strict=True) if a > 0)


def draw(logits: Float[Tensor, "V"], temperature: float, top_p: float, cut: str) -> Draw:
    """What the library draws from, and the same with the temperature alone."""
    before = sampling_probs(logits, SamplingParams(temperature=temperature))
    after = sampling_probs(logits, params_of(temperature, top_p, cut))
    return Draw(before.tolist(), after.tolist())


def percent(share: float) -> str:
    """Three digits, as in 16.9% or 0.00213%; nothing below a millionth of a percent."""
    if share < 1e-8:
        return "0%"
    return f"{format(Decimal(f'{100 * share:.3g}'), 'f')}%"


def headline(given: NextToken, temperature: float, it: Draw) -> str:
    """The title: how many tokens are kept, and their share."""
    where = f"After “{given.prompt}”"
    if temperature == 0:
        return f"{where}, temperature 0: always “{given.labels[0]}”"
    if it.kept == len(it.after):
        return f"{where}: all {len(it.after)} tokens are kept"
    tokens = "1 token is" if it.kept == 1 else f"{it.kept} of {len(it.after)} tokens are"
    return f"{where}: {tokens} kept, {percent(it.share)} of the probability"


def note(it: Draw) -> str:
    """What stands below the bars, and how sure the draw is."""
    first = f"The likeliest token is drawn with {percent(it.after[0])}."
    if len(it.after) <= SHOWN:
        return first
    return (
        f"{first} The {len(it.after) - SHOWN} tokens below have {percent(sum(it.before[SHOWN:]))} "
        f"before the cuts, {percent(sum(it.after[SHOWN:]))} after them."
    )


def table_rows(given: NextToken, it: Draw) -> list[dict[str, str]]:
    """The bars, one a row."""
    return [
        {
            "token": given.labels[i],
            "before the cuts": percent(it.before[i]),
            "drawn with": percent(it.after[i]),
            "kept": "yes" if it.after[i] > 0 else "no",
        }
        for i in range(min(SHOWN, len(it.after)))
    ]


def axis_top(it: Draw) -> float:
    """Where the axis of the bars ends."""
    return next(top for top in _TOPS if it.before[0] <= top or top == 1.0)


def draw_bars(given: NextToken, temperature: float, top_p: float, cut: str) -> str:
    """The static picture, as SVG."""
    it = draw(given.logits, temperature, top_p, cut)
    title, told, top = headline(given, temperature, it), note(it), axis_top(it)
    rows = table_rows(given, it)
    low = PLOT["y"] + PLOT["row"] * len(rows)
    words = "; ".join(f"{r['token']}: {r['before the cuts']}, {r['drawn with']}" for r in rows)
    picture = Drawing(1000, low + 110, title=title, description=f"{told} {words}.")
    picture.text(20, 34, title, size=min(22, 1700 / len(title)), font_weight=600)
    dropped = picture.hatch("dropped", SOFT, 45, gap=7)
    for step in range(5):
        at = PLOT["x"] + PLOT["width"] * step / 4
        picture.line(at, PLOT["y"] - 4, at, low)
        picture.text(at, low + 20, percent(top * step / 4), anchor="middle", fill=SOFT)
    for i, row in enumerate(rows):
        y, long = PLOT["y"] + PLOT["row"] * i, PLOT["width"] * it.before[i] / top
        kept = it.after[i] > 0
        fill = BLUE if kept else dropped
        picture.text(PLOT["x"] - 10, y + 14, row["token"], anchor="end")
        picture.rect(PLOT["x"], y, max(long, 1.5), PLOT["row"] - 4, fill=fill,
                     stroke=BLUE if kept else SOFT)  # fmt: skip
        ends = f"drawn with {row['drawn with']}" if kept else "dropped"
        numbers = f"{row['before the cuts']} → {ends}"
        halo = {"stroke": PAPER, "stroke_width": 4, "paint_order": "stroke"}  # over the grid
        picture.text(PLOT["x"] + long + 10, y + 14, numbers, fill=SOFT, **halo)
    words = f"probability at temperature {temperature:g}; solid: kept, hatched: dropped"
    picture.text(PLOT["x"], low + 46, words, size=15)
    picture.text(20, low + 84, told, fill=SOFT)
    return picture.svg()


@functools.cache
def tiny_next(prompt: str) -> NextToken:
    """The scores of the course's small model."""
    return next_token(load_model("tiny-base"), load_tokenizer("tiny-base"), prompt)


class SamplingExplorer(CourseWidget):
    """Turn temperature, top-p, and top-k or min-p; see which tokens can still be drawn.

    prompt: what the model goes on from; given: scores of another model, from `next_token`.
    Works in a saved page.
    """

    _esm = esm("sampling")
    _css = css("sampling")
    temperature = traitlets.Float(1.0).tag(sync=True)
    top_p = traitlets.Float(0.9).tag(sync=True)
    cut = traitlets.Unicode("none").tag(sync=True)
    given = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        prompt: str = PROMPT,
        *,
        given: NextToken | None = None,
        temperature: float = 1.0,
        top_p: float = 0.9,
        cut: str = "none",
    ) -> None:
        self.next = tiny_next(prompt) if given is None else given
        told = {"prompt": self.next.prompt, "labels": self.next.labels, "shown": SHOWN}
        told |= {"logits": self.next.logits.tolist(), "temperatures": TEMPERATURES}
        super().__init__(given=told | {"top_ps": TOP_PS, "cuts": CUTS})
        self.temperature, self.top_p, self.cut = temperature, top_p, cut

    @traitlets.validate("temperature", "top_p", "cut")
    def _offered(self, proposal: dict) -> object:
        name, value = proposal["trait"].name, proposal["value"]
        allowed = {"temperature": TEMPERATURES, "top_p": TOP_PS, "cut": [*CUTS]}[name]
        if value not in allowed:
            names = ", ".join(map(str, allowed))
            raise traitlets.TraitError(f"{name}={value!r} is not allowed: one of {names}")
        return value

    def draw(self) -> Draw:
        """What the picture shows."""
        return draw(self.next.logits, self.temperature, self.top_p, self.cut)

    def summary(self) -> str:
        return headline(self.next, self.temperature, self.draw())

    def table(self) -> list[dict[str, object]]:
        return table_rows(self.next, self.draw())

    def static_svg(self) -> str:
        return draw_bars(self.next, self.temperature, self.top_p, self.cut)
