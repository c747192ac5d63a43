"""From logits to the token that is drawn: what temperature, top-k, top-p and min-p leave over.

The logits are those of a real model after a prompt; the distribution is that of
`llama3lib.inference.sampling_probs`, the one the engine draws from.
"""

import dataclasses
import functools
import itertools
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from llama3lib.checkpoint import load_model, load_tokenizer
from llama3lib.inference import LLMEngine, SamplingParams, sampling_probs
from llama3lib.model import Transformer
from llama3lib.tokenizer import Tokenizer
from widgets.view import Category, Choice, Linear, Paper, Plot, Scene, Slider, Text, View
from widgets.view.legend import legend
from widgets.view.measure import shorten
from widgets.view.paper import TEXT, WIDTHS
from widgets.view.words import percent as rounded

PROMPT = "Omar had a"
PROMPTS = (PROMPT, "One sunny day", "Lena was", "Tess had two nuts. She", "Then the dog")
"""What a recording offers."""
MOST = 120  # characters of a prompt: even of four bytes each they fit the small model's 512 tokens
DRAWS, DRAWN_TOKENS = 5, 8
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
SHOWN = 12
ROW = 19
_TOPS = (0.05, 0.1, 0.2, 0.5, 1.0)


@dataclass(frozen=True)
class NextToken:
    """Every token's label and score, the highest score first."""

    prompt: str
    labels: tuple[str, ...]
    logits: Float[Tensor, "V"]


def next_token(model: Transformer, tokenizer: Tokenizer, prompt: str) -> NextToken:
    """The model's scores of what follows a prompt, in float64; of how a text begins if it is empty.

    Raises ValueError for a prompt of more tokens than the model reads.
    """
    ids = torch.tensor([tokenizer.encode(prompt, bos=True)], device=model.norm.weight.device)
    with torch.inference_mode():
        logits = model.output(model.hidden_states(ids)[0, -1]).double().cpu()
    logits, order = logits.clone().sort(descending=True, stable=True)
    return NextToken(prompt, tuple(label(tokenizer, one) for one in order.tolist()), logits)


def continuations(
    model: Transformer, tokenizer: Tokenizer, prompt: str, params: SamplingParams
) -> list[str]:
    """How the engine goes on, a text for each of the first seeds."""
    each = [dataclasses.replace(params, seed=i, max_tokens=DRAWN_TOKENS) for i in range(DRAWS)]
    ids = tokenizer.encode(prompt, bos=True)
    with LLMEngine(model, tokenizer) as engine:  # it gives the model back as it was
        return [output.text for output in engine.generate([ids] * DRAWS, each)]


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
    def sums(self) -> list[float]:
        """The probability, before the cuts, of each token and all likelier ones."""
        return list(itertools.accumulate(self.before))

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
    return rounded(share, 3)


def headline(given: NextToken, temperature: float, it: Draw) -> str:
    """The title: how many tokens are kept, and their share."""
    end = given.prompt if len(given.prompt) <= 40 else "…" + given.prompt[-39:]
    where = f"After “{end}”" if given.prompt else "At the start of a text"
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
    sums = it.sums
    return [
        {
            "token": given.labels[i],
            "before the cuts": percent(it.before[i]),
            "sum so far": percent(sums[i]),
            "drawn with": percent(it.after[i]),
            "kept": "yes" if it.after[i] > 0 else "no",
        }
        for i in range(min(SHOWN, len(it.after)))
    ]


def axis_top(it: Draw) -> float:
    """Where the axis of the bars ends."""
    return next(top for top in _TOPS if it.before[0] <= top or top == 1.0)


def draw_bars(paper: Paper, given: NextToken, temperature: float, it: Draw) -> Plot:
    """A bar for each of the likeliest tokens: solid if it can still be drawn."""
    number, top, narrow = min(SHOWN, len(it.after)), axis_top(it), paper.narrow
    names = [shorten(one, 14, 96) for one in given.labels[:number]]
    ticks = [top * step / 4 for step in range(0, 5, 2 if narrow else 1)]
    words = f"probability at temperature {temperature:g}"
    plot = paper.plot(
        Linear(0, top, words, text=percent, ticks=ticks),
        Category(names),
        left=110, right=130 if narrow else 0.42 * paper.width, top=22, height=ROW * number,
    )  # fmt: skip
    dropped = paper.hatch("soft", gap=7)
    for i, (before, after) in enumerate(zip(it.before[:number], it.after, strict=False)):
        kept, y = after > 0, plot.at_y(i)
        fill, stroke = ("main", "main") if kept else (dropped, "soft")
        wide = max(plot.at_x(before) - plot.left, 1.5)
        paper.rect(plot.left, y - 7.5, wide, 15, fill, stroke=stroke, key=f"bar {i}")
        ends = f"drawn with {percent(after)}" if kept else "dropped"
        words = f"{percent(before)} → {ends.removeprefix('drawn with ') if narrow else ends}"
        paper.text(plot.left + wide + 10, y + 5, words, "soft", halo=True, key=f"share {i}")
    signs = ("area", "main", "kept"), ("area", dropped, "dropped", {"stroke": "soft"})
    legend(paper, plot.left, plot.low + 64, signs)
    return plot


def draw_sums(paper: Paper, bars: Plot, it: Draw, top_p: float | None) -> None:
    """Beside the bars, row by row: the probability so far, and top-p, which it has to pass."""
    left, right = paper.width - 0.17 * paper.width, paper.width - 22
    paper.text(right, 14, "sum so far", "soft", anchor="end")
    x, y = Linear(0, 1, text=percent, ticks=(0, 0.5, 1)), bars.y
    plot = paper.plot(x, Linear(0, 1, ticks=()), left=left, top=bars.top, width=right - left,
                      height=bars.height)  # fmt: skip
    sums = it.sums[: len(y.names)]
    places = [(plot.at_x(total), bars.at_y(i)) for i, total in enumerate(sums)]
    if top_p is not None:
        plot.rule(x=top_p, role="ink", key="top-p")
        paper.text(plot.at_x(top_p) - 6, plot.low - 8, f"top-p {top_p:g}", anchor="end", halo=True)
    paper.path(places, "main", width=2.2, key="sums")
    for i, (at, total) in enumerate(zip(places, sums, strict=True)):
        tip = f"the {i + 1} likeliest together: {percent(total)}"
        fill = "main" if it.after[i] > 0 else "paper"
        paper.circle(*at, 4, fill, stroke="main", stroke_width=1.5, tip=tip, key=f"sum {i}")


def draw_continuations(paper: Paper, texts: list[str], top: float) -> None:
    """What the engine drew, a line each; in two columns where there is room."""
    columns = 2 if paper.width > WIDTHS[2] else 1
    room = paper.width / columns
    paper.text(4, top, f"{len(texts)} draws of {DRAWN_TOKENS} tokens, seeds 0 to {len(texts) - 1}",
               "soft")  # fmt: skip
    for i, text in enumerate(texts):
        words = shorten("…" + text.replace("\n", "⏎"), TEXT, room - 40)
        line, column = divmod(i, columns)
        paper.text(22 + room * column, top + 20 * (line + 1), words)


@functools.cache
def tiny() -> tuple[Transformer, Tokenizer]:
    """The course's small model."""
    return load_model("tiny-base"), load_tokenizer("tiny-base")


class SamplingExplorer(View):
    """Turn temperature, top-p, and top-k or min-p; see which tokens can still be drawn.

    prompt: what the model goes on from. model, tokenizer: the course's small ones if left out.
    """

    temperature = Slider(
        TEMPERATURES, "temperature", start=1.0, text=lambda t: f"{t:.1f}",
        recorded=(0.0, 0.5, 1.0, 2.0),
    )  # fmt: skip
    top_p = Slider(TOP_PS, "top-p", start=0.9, text=lambda p: f"{p:.2f}", recorded=(0.5, 0.9, 1.0))
    cut = Choice(CUTS, "second cut", recorded=("none", "top-k 3"))
    prompt = Text("prompt", start=PROMPT, most=MOST, recorded=PROMPTS)

    def __init__(
        self,
        prompt: str = PROMPT,
        *,
        model: Transformer | None = None,
        tokenizer: Tokenizer | None = None,
        temperature: float = 1.0,
        top_p: float = 0.9,
        cut: str = "none",
    ) -> None:
        if (model is None) != (tokenizer is None):
            missing = "model" if model is None else "tokenizer"
            raise ValueError(f"{missing}=None is not allowed: model and tokenizer, or neither")
        if model is None:
            model, tokenizer = tiny()
        self._next = functools.lru_cache(64)(lambda text: next_token(model, tokenizer, text))
        self._texts = functools.lru_cache(512)(
            lambda text, *cuts: continuations(model, tokenizer, text, params_of(*cuts))
        )
        super().__init__(temperature=temperature, top_p=top_p, cut=cut, prompt=prompt)

    def scene(
        self, paper: Paper, *, temperature: float, top_p: float, cut: str, prompt: str
    ) -> Scene:
        given = self._next(prompt)
        it = draw(given.logits, temperature, top_p, cut)
        bars = draw_bars(paper, given, temperature, it)
        if not paper.narrow:
            draw_sums(paper, bars, it, top_p if cut == "none" and top_p < 1 else None)
        draw_continuations(paper, self._texts(prompt, temperature, top_p, cut), paper.height + 16)
        return Scene(
            title=headline(given, temperature, it),
            notes=[note(it)],
            table=table_rows(given, it),
            facts={"kept": it.kept, "first": it.after[0]},
        )

    @property
    def next(self) -> NextToken:
        """Every token's score after the prompt."""
        return self._next(self.prompt)

    def draw(self) -> Draw:
        """What the picture shows."""
        return draw(self.next.logits, self.temperature, self.top_p, self.cut)

    def continuations(self) -> list[str]:
        """The texts below the picture."""
        return list(self._texts(self.prompt, self.temperature, self.top_p, self.cut))
