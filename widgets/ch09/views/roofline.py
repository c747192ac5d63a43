"""The roofline of a chip, and the dot of one step of serving on it.

To the left of the ridge a step waits for memory, to the right for arithmetic. Costs are those of
`llama3lib.inference.roofline` for the published sizes (Table 3); the H100's numbers come from its
data sheet.
"""

from collections.abc import Mapping
from dataclasses import dataclass

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
)
from llama3lib.model import ModelArgs, get_preset
from widgets.view import Choice, Log, Paper, Plot, Scene, Slider, View
from widgets.view.paper import WIDTHS
from widgets.view.words import count_of, duration, percent, significant, thousands, with_prefix

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
LEFT, RIGHT = 0.5, 2e6  # FLOP a byte


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


def headline(model: str, fmt: str, step: str, it: Dot) -> str:
    """The title: what bounds, and what the other side does meanwhile."""
    where = f"{model} in {fmt}, {step.split()[0]}, batch {it.batch:,}"
    if it.bound == "memory":
        return f"{where}: memory-bound, {percent(it.used)} of peak FLOP/s used"
    return f"{where}: compute-bound, {percent(it.busy)} of the bandwidth used"


def notes(args: ModelArgs, fmt: str, step: str, it: Dot, chip: Chip) -> list[str]:
    """The numbers behind the dot."""
    cost, (kind, length) = it.cost, step.split()
    verb = "reads" if kind == "prefill" else "writes"
    weights, cache = with_prefix(cost.weight_bytes, "B"), with_prefix(cost.cache_bytes, "B")
    told = [
        f"One step computes {with_prefix(cost.flops, 'FLOP')} and moves "
        f"{with_prefix(cost.total_bytes, 'B')} (weights {weights}, cache {cache}): "
        f"{significant(cost.intensity)} FLOP a byte; the ridge in BF16 is "
        f"{significant(chip.ridge)}.",
        f"It takes at least {duration(it.seconds)} on the {count_of(it.chips, chip.name)} that "
        f"hold weights and cache, and {verb} {significant(it.tokens / it.seconds)} tokens a second "
        "at most.",
    ]
    if kind == "decode":
        limit = significant(intensity_limit(args, int(length)))
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
            "FLOP a byte": significant(it.cost.intensity),
            "bound by": it.bound,
            "arithmetic used": percent(it.used),
            "step takes at least": duration(it.seconds),
            "tokens a second at most": significant(it.tokens / it.seconds),
            "chips": f"{it.chips:,}",
        }
        for it in dots
    ]


def ridge_words(chip: Chip) -> str:
    """What the bend of the roof means."""
    return f"ridge {significant(chip.ridge)}: memory and arithmetic take equally long"


def ends(chip: Chip) -> tuple[float, float]:
    """The lowest and the highest FLOP/s of the picture."""
    return LEFT * chip.bytes_per_second * 0.7, 2.2 * max(chip.flops, chip.fp8_rate)


def draw_roof(plot: Plot, chip: Chip) -> None:
    """The bandwidth and the rates of a chip, as the roof under which every step stands."""
    memory, flops, fp8 = chip.bytes_per_second, chip.flops, chip.fp8_flops
    plot.line([(chip.ridge, plot.y.low), (chip.ridge, flops)], "soft", width=1, dash="3 4")
    plot.line([(LEFT, LEFT * memory), (chip.ridge, flops), (RIGHT, flops)], "main", width=3)
    plot.label((8, 8 * memory), f"memory: {with_prefix(memory, 'B/s')}")
    plot.label((RIGHT, flops * 0.6), f"BF16: {with_prefix(flops, 'FLOP/s')}")
    bend = ridge_words(chip) if plot.paper.width > WIDTHS[2] else f"ridge {significant(chip.ridge)}"
    plot.label((chip.ridge, plot.y.low * 1.3), bend, "soft")
    if fp8 is not None:
        knee = (fp8 / memory, fp8)
        plot.line([(chip.ridge, flops), knee, (RIGHT, fp8)], "main", dash="7 5")
        plot.label((RIGHT, fp8 * 1.3), f"FP8: {with_prefix(fp8, 'FLOP/s')}")


class RooflineDot(View):
    """Move the batch; see which side of the roof the step stands under.

    setting: a model and a format, as "405B BF16". step: a key of STEPS. chip: with the numbers of
    BF16 and FP8. sizes: other shapes under names of your own.
    """

    batch = Slider(BATCHES, "batch", text=thousands)
    step = Choice(STEPS, "step")
    setting = Choice(lambda view, values: view.settings, "model")

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
        super().__init__(setting=setting, step=step, batch=batch)

    def scene(self, paper: Paper, *, batch: int, step: str, setting: str) -> Scene:
        (model, fmt), chip = setting.rsplit(" ", 1), self.chip
        args = self.sizes[model]
        it = dot(args, fmt, step, batch, chip)
        low, high = ends(chip)
        plot = paper.plot(
            Log(LEFT, RIGHT, "arithmetic intensity: FLOP for each byte moved"),
            Log(low, high, f"FLOP/s of one {chip.name}", text=lambda v: with_prefix(v, "FLOP/s")),
            left=106,
            top=28,
            height=300,
        )
        draw_roof(plot, chip)
        path = [dot(args, fmt, step, b, chip) for b in BATCHES]
        places = [(min(max(one.cost.intensity, LEFT), RIGHT), one.rate) for one in path]
        plot.line(places, "chosen", width=1.5, key="path")
        for one, place in zip(path, places, strict=True):
            tip = f"batch {one.batch:,}: {significant(one.cost.intensity)} FLOP a byte, {one.bound}"
            style = {"size": 4, "fill": "paper", "stroke": "chosen", "put": ("batch", one.batch)}
            plot.mark("circle", place, "chosen", key=f"batch {one.batch}", tip=tip, **style)
        at = places[BATCHES.index(batch)]
        plot.mark("diamond", at, "chosen", size=9, key="dot")
        words = f"◆ this step, {STEPS[step]} · ○ batches of 1 to {BATCHES[-1]:,}"
        paper.wrapped(4 if paper.narrow else plot.left, plot.low + 68, words)
        return Scene(
            title=headline(model, fmt, step, it),
            notes=notes(args, fmt, step, it, chip),
            table=table_rows(args, fmt, step, chip),
            facts={"intensity": it.cost.intensity, "bound": it.bound},
        )

    def dot(self) -> Dot:
        """What the picture shows."""
        model, fmt = self.setting.rsplit(" ", 1)
        return dot(self.sizes[model], fmt, self.step, self.batch, self.chip)
