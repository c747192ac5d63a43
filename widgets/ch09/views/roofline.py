"""The roofline of a chip, and the dot of one step of serving on it.

To the left of the ridge a step waits for memory, to the right for arithmetic. Costs are those of
`llama3lib.inference.roofline` for the published sizes (Table 3); the H100's numbers come from its
data sheet. The browser does it again so that a saved page still works.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import traitlets

from llama3lib.inference.roofline import (
    H100,
    Chip,
    StepCost,
    bound_by,
    chips_needed,
    compute_seconds,
    memory_seconds,
    predict_seconds,
    step_cost,
    weight_bytes,
)
from llama3lib.model import ModelArgs, get_preset
from llama3lib.model.flops import count_parameters, kv_cache_bytes
from llama3lib.paper.infrastructure import GPUS_PER_SERVER
from widgets.core.drawing import BLUE, INK, LINE, ORANGE, PAPER, SOFT, Drawing
from widgets.core.widget import CourseWidget, css, esm

MODELS = ("8B", "70B", "405B")
FORMATS = ("BF16", "FP8")  # FP8 as in section 6.2: inner feed-forward layers only
BATCHES = tuple(2**power for power in range(11))
STEPS = {
    "prefill 128": "prefill: read prompts of 128 tokens",
    "prefill 4096": "prefill: read prompts of 4,096 tokens",
    "decode 128": "decode: write after 128 tokens",
    "decode 4096": "decode: write after 4,096 tokens",
    "decode 131072": "decode: write after 131,072 tokens",
}
PLOT = {"x": 110, "y": 76, "width": 850, "height": 320}
LEFT, RIGHT = 0.5, 2e6  # FLOP a byte
_UNITS = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1, ""))


@dataclass(frozen=True, kw_only=True)
class Dot:
    """Where one step stands."""

    batch: int
    cost: StepCost
    chips: int
    """Of the smallest set-up that holds weights and cache."""
    seconds: float
    """At least, on that many chips."""
    bound: str
    used: float
    """Share of the arithmetic that a step at the bound uses."""
    busy: float
    """The same for the memory."""
    tokens: int
    """Read or written in the step."""

    @property
    def rate(self) -> float:
        """FLOP/s of one chip, at most."""
        return self.cost.flops / self.seconds / self.chips


def dot(args: ModelArgs, fmt: str, step: str, batch: int, chip: Chip = H100) -> Dot:
    """A step of `batch` texts; step: "prefill P" or "decode C", with the tokens of each text."""
    kind, length = step.split()
    context, fp8 = int(length), fmt == "FP8"
    tokens = batch * (context if kind == "prefill" else 1)
    cost = step_cost(
        args, num_tokens=tokens, context_tokens=context, num_sequences=batch, fp8_ffn=fp8
    )
    chips = chips_needed(args, chip, cache_tokens=batch * context, fp8_ffn=fp8)
    seconds = predict_seconds(cost, chip, chips)
    return Dot(
        batch=batch,
        cost=cost,
        chips=chips,
        seconds=seconds,
        bound=bound_by(cost, chip),
        used=compute_seconds(cost, chip, chips) / seconds,
        busy=memory_seconds(cost, chip, chips) / seconds,
        tokens=tokens,
    )


def intensity_limit(args: ModelArgs, context: int) -> float:
    """FLOPs a byte of decoding with endless texts at once: each brings a cache of its own."""
    one = step_cost(args, num_tokens=1, context_tokens=context)
    return one.flops / one.cache_bytes


def shape_of(args: ModelArgs) -> dict[str, float]:
    """What the browser needs to repeat the arithmetic for one model."""
    counts = count_parameters(args)
    fp8 = step_cost(args, num_tokens=1, context_tokens=1, fp8_ffn=True)
    return {
        "token": 2 * (counts.attention + counts.feed_forward),
        "head": 2 * args.vocab_size * args.dim,
        "pair": 4 * args.n_layers * args.n_heads * args.head_dim,
        "fp8": fp8.fp8_flops,
        "weights": {fmt: weight_bytes(args, fp8_ffn=fmt == "FP8") for fmt in FORMATS},
        "row": 0 if args.tie_embeddings else 2 * args.dim,
        "vocab": args.vocab_size,
        "cache": kv_cache_bytes(args),
    }


def three(value: float, digits: int = 3) -> str:
    """Three digits: 0.346, 15.1, 295, 7,180."""
    return f"{float(f'{value:.{digits}g}'):,g}" if value < 1e5 else f"{value:,.0f}"


def scaled(value: float, unit: str) -> str:
    """Three digits and a prefix: 812 GB, 2.11 GB, 840 GFLOP."""
    size, prefix = next(((s, p) for s, p in _UNITS if value >= s), (1, ""))
    return f"{three(value / size)} {prefix}{unit}"


def duration(seconds: float) -> str:
    """As in 15.1 ms or 2.04 s."""
    return f"{three(seconds)} s" if seconds >= 1 else f"{three(1000 * seconds)} ms"


def percent(share: float) -> str:
    """As in 0.35% or 47%."""
    return f"{three(100 * share, 2)}%"


def headline(model: str, fmt: str, step: str, it: Dot) -> str:
    """The title: what bounds, and what the other side does meanwhile."""
    where = f"{model} {fmt}, {step.split()[0]}, batch {it.batch:,}"
    if it.bound == "memory":
        return f"{where}: memory bounds; {percent(it.used)} of the arithmetic is used"
    return f"{where}: arithmetic bounds; the memory is busy {percent(it.busy)} of the time"


def notes(args: ModelArgs, fmt: str, step: str, it: Dot, chip: Chip) -> list[str]:
    """The numbers behind the dot."""
    cost, (kind, length) = it.cost, step.split()
    verb = "reads" if kind == "prefill" else "writes"
    each = f"{three(cost.intensity)} FLOP a byte; the ridge in BF16 is {three(chip.ridge)}"
    plural = "s" if it.chips > 1 else ""
    told = [
        f"One step computes {scaled(cost.flops, 'FLOP')} and moves {scaled(cost.total_bytes, 'B')} "
        f"(weights {scaled(cost.weight_bytes, 'B')}, cache {scaled(cost.cache_bytes, 'B')}): "
        f"{each}.",
        f"It takes at least {duration(it.seconds)} on the {it.chips:,} {chip.name}{plural} that "
        f"hold weights and cache, and {verb} {three(it.tokens / it.seconds)} tokens a second at "
        "most.",
    ]
    if kind == "decode":
        limit = three(intensity_limit(args, int(length)))
        told.append(
            "The batch shares the weights, but each text has its own cache: at this context no "
            f"batch gets beyond {limit} FLOP a byte."
        )
    if fmt == "FP8":
        told.append(f"{percent(cost.fp8_flops / cost.flops)} of the operations run in FP8.")
    return [*told, f"{chip.name}: {chip.source}."]


def table_rows(args: ModelArgs, fmt: str, step: str, chip: Chip) -> list[dict[str, str]]:
    """All batches of the chosen step."""
    dots = [dot(args, fmt, step, batch, chip) for batch in BATCHES]
    return [
        {
            "batch": f"{it.batch:,}",
            "FLOP a byte": three(it.cost.intensity),
            "bound by": it.bound,
            "arithmetic used": percent(it.used),
            "step takes at least": duration(it.seconds),
            "tokens a second at most": three(it.tokens / it.seconds),
            "chips": f"{it.chips:,}",
        }
        for it in dots
    ]


def ridge_words(chip: Chip) -> str:
    """What the bend of the roof means."""
    return f"ridge {three(chip.ridge)}: memory and arithmetic take equally long"


def ends(chip: Chip) -> tuple[float, float]:
    """The lowest and the highest FLOP/s of the picture."""
    return LEFT * chip.bytes_per_second * 0.7, 2.2 * max(chip.flops, chip.fp8_rate)


def spot(chip: Chip, intensity: float, rate: float) -> tuple[float, float]:
    """Where FLOP a byte and FLOP/s stand in the picture."""
    low, high = ends(chip)
    x = math.log(min(max(intensity, LEFT), RIGHT) / LEFT) / math.log(RIGHT / LEFT)
    y = math.log(rate / low) / math.log(high / low)
    return PLOT["x"] + PLOT["width"] * x, PLOT["y"] + PLOT["height"] * (1 - y)


def draw_roofline(
    model: str, args: ModelArgs, fmt: str, step: str, batch: int, chip: Chip = H100
) -> str:
    """The static picture, as SVG."""
    it = dot(args, fmt, step, batch, chip)
    title, told = headline(model, fmt, step, it), notes(args, fmt, step, it, chip)
    picture = Drawing(1000, 599, title=title, description=" ".join(told))
    picture.text(20, 34, title, size=min(22, 1700 / len(title)), font_weight=600)
    _draw_axes(picture, chip)
    _draw_roof(picture, chip)
    path = [dot(args, fmt, step, b, chip) for b in BATCHES]
    spots = [spot(chip, one.cost.intensity, one.rate) for one in path]
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
    picture.shape("polyline", points=points, fill="none", stroke=ORANGE, stroke_width=1.5)
    for place in spots:
        picture.mark("circle", *place, 3.5, fill="#ffffff", stroke=ORANGE, stroke_width=1.5)
    picture.mark("diamond", *spot(chip, it.cost.intensity, it.rate), 8, fill=ORANGE, stroke=INK)
    low = PLOT["y"] + PLOT["height"]
    words = f"◆ this step, {STEPS[step]} · ○ batches of 1 to {BATCHES[-1]:,}"
    picture.text(PLOT["x"], low + 80, words)
    for place, line in enumerate(told):
        picture.text(20, low + 108 + 21 * place, line, fill=SOFT, size=13)
    return picture.svg()


def _draw_axes(picture: Drawing, chip: Chip) -> None:
    x, y, low = PLOT["x"], PLOT["y"], PLOT["y"] + PLOT["height"]
    bottom, top = ends(chip)
    for power in range(math.ceil(math.log10(bottom)), math.floor(math.log10(top)) + 1):
        level = spot(chip, 1, 10.0**power)[1]
        picture.line(x, level, x + PLOT["width"], level)
        picture.text(x - 8, level + 5, scaled(10.0**power, "FLOP/s"), anchor="end", fill=SOFT)
    for power in range(7):
        at = spot(chip, 10**power, top)[0]
        picture.line(at, y, at, low)
        picture.text(at, low + 22, f"{10**power:,}", anchor="middle", fill=SOFT)
    words = "arithmetic intensity: FLOP for each byte moved"
    picture.text(x + PLOT["width"] / 2, low + 48, words, anchor="middle", size=15)
    picture.text(20, y - 10, f"FLOP/s of one {chip.name}", fill=SOFT)


def _draw_roof(picture: Drawing, chip: Chip) -> None:
    begin = spot(chip, LEFT, LEFT * chip.bytes_per_second)
    knee, end = spot(chip, chip.ridge, chip.flops), spot(chip, RIGHT, chip.flops)
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in (begin, knee, end))
    picture.shape("polyline", points=points, fill="none", stroke=BLUE, stroke_width=3)
    right = PLOT["x"] + PLOT["width"] - 6
    picture.text(right, end[1] + 19, f"BF16: {scaled(chip.flops, 'FLOP/s')}", anchor="end")
    picture.line(knee[0], knee[1], knee[0], PLOT["y"] + PLOT["height"], stroke_dasharray="3 4",
                 stroke=SOFT)  # fmt: skip
    bottom = PLOT["y"] + PLOT["height"] - 8
    halo = {"stroke": PAPER, "stroke_width": 4, "paint_order": "stroke"}  # over the grid
    picture.text(knee[0] + 6, bottom, ridge_words(chip), fill=SOFT, **halo)
    words = f"memory: {scaled(chip.bytes_per_second, 'B/s')}"
    at = spot(chip, 8, 8 * chip.bytes_per_second)
    picture.text(at[0] - 10, at[1] - 2, words, anchor="end")
    if chip.fp8_flops is not None:
        high = spot(chip, chip.fp8_flops / chip.bytes_per_second, chip.fp8_flops)
        far = spot(chip, RIGHT, chip.fp8_flops)[0]
        points = f"{knee[0]:.1f},{knee[1]:.1f} {high[0]:.1f},{high[1]:.1f} {far:.1f},{high[1]:.1f}"
        style = {"stroke": BLUE, "stroke_width": 2, "stroke_dasharray": "7 5"}
        picture.shape("polyline", points=points, fill="none", **style)
        words = f"FP8: {scaled(chip.fp8_flops, 'FLOP/s')}"
        picture.text(right, high[1] - 8, words, anchor="end")
    picture.shape("rect", x=PLOT["x"], y=PLOT["y"], width=PLOT["width"], height=PLOT["height"],
                  fill="none", stroke=LINE)  # fmt: skip


class RooflineDot(CourseWidget):
    """Move the batch; see which side of the roof the step stands under.

    setting: a model and a format, as "405B BF16". step: a key of STEPS. chip: with the numbers of
    BF16 and FP8. sizes: other shapes under names of your own. Works in a saved page.
    """

    _esm = esm("roofline")
    _css = css("roofline")
    batch = traitlets.Int(1).tag(sync=True)
    step = traitlets.Unicode("decode 4096").tag(sync=True)
    setting = traitlets.Unicode().tag(sync=True)
    facts = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        setting: str = "405B BF16",
        *,
        step: str = "decode 4096",
        batch: int = 1,
        chip: Chip = H100,
        sizes: Mapping[str, ModelArgs] | None = None,
    ) -> None:
        self.chip = chip
        self.sizes = dict(sizes) if sizes else {name: get_preset(name) for name in MODELS}
        self.settings = [f"{name} {fmt}" for name in self.sizes for fmt in FORMATS]
        numbers = {
            "name": chip.name,
            "source": chip.source,
            "flops": chip.flops,
            "fp8_flops": chip.fp8_flops,
        }
        numbers |= {"bandwidth": chip.bytes_per_second, "memory": chip.memory_bytes}
        facts = {"chip": numbers, "batches": BATCHES, "steps": STEPS, "settings": self.settings}
        facts |= {"shapes": {name: shape_of(args) for name, args in self.sizes.items()}}
        super().__init__(facts=facts | {"per_machine": GPUS_PER_SERVER.value})
        self.setting, self.step, self.batch = setting, step, batch

    @traitlets.validate("setting", "step", "batch")
    def _offered(self, proposal: dict) -> object:
        name, value = proposal["trait"].name, proposal["value"]
        allowed = {"setting": self.settings, "step": [*STEPS], "batch": [*BATCHES]}[name]
        if value not in allowed:
            names = ", ".join(map(str, allowed))
            raise traitlets.TraitError(f"{name}={value!r} is not allowed: one of {names}")
        return value

    def _chosen(self) -> tuple[str, ModelArgs, str]:
        model, fmt = self.setting.rsplit(" ", 1)
        return model, self.sizes[model], fmt

    def dot(self) -> Dot:
        """What the picture shows."""
        _, args, fmt = self._chosen()
        return dot(args, fmt, self.step, self.batch, self.chip)

    def summary(self) -> str:
        model, _, fmt = self._chosen()
        return headline(model, fmt, self.step, self.dot())

    def table(self) -> list[dict[str, object]]:
        _, args, fmt = self._chosen()
        return table_rows(args, fmt, self.step, self.chip)

    def static_svg(self) -> str:
        model, args, fmt = self._chosen()
        return draw_roofline(model, args, fmt, self.step, self.batch, self.chip)
