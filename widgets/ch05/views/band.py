"""One's own run, while it goes on, over the band of losses that other seeds of a recipe gave.

A point is the mean of a block of steps, as in `Band.compare`. It is inside if it is at most half
the band's width away from the band. The browser judges again so that a saved page still works.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import Mapping, Sequence

import numpy as np
import traitlets

from llama3lib.train import ReferenceCurve as Band
from widgets.core.drawing import BLUE, GREEN, INK, LINE, ORANGE, SOFT, Drawing
from widgets.core.widget import CourseWidget, css, esm

OWN = "yours"
SCALES = ("log", "linear")
_STEPS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 50, 100)
_PAUSE = 0.2  # seconds between two messages to the browser
GREY = "#b4bfca"
PLOT = {"x": 80, "y": 66, "width": 890, "height": 300}
Means = Sequence[float | None]  # None where a block has a step without a loss


def block_means(losses: Sequence[float], size: int) -> list[float | None]:
    """Means of whole blocks of `size` losses; None for a block with a loss that is no number."""
    count = len(losses) // size
    means = np.asarray(losses[: count * size], dtype=float).reshape(count, size).mean(1).tolist()
    return [mean if math.isfinite(mean) else None for mean in means]


def limits(band: Band) -> list[tuple[float, float]]:
    """From where to where a block counts as inside: half the band's width more on either side."""
    pairs = zip(band.low, band.high, strict=True)
    return [(low - s, high + s) for low, high in pairs for s in [max((high - low) / 2, 0.01)]]


def judged(band: Band, means: Means) -> list[bool | None]:
    """Which blocks are inside; None where there is no mean."""
    pairs = zip(means, limits(band), strict=False)
    return [None if mean is None else low <= mean <= high for mean, (low, high) in pairs]


def share_inside(band: Band, means: Means) -> float | None:
    """Share of the blocks inside, or None if there is no block."""
    found = [one for one in judged(band, means) if one is not None]
    return sum(found) / len(found) if found else None


def headline(band: Band, name: str, means: Means) -> str:
    """The title: what to see."""
    found = [one for one in judged(band, means) if one is not None]
    if not found:
        return f"The band of {len(band.seeds)} runs of {band.recipe}; no block of {name} yet"
    share = math.floor(100 * sum(found) / len(found) + 0.5)
    return f"{name}: {sum(found)} of {len(found)} blocks are inside the band ({share}%)"


def loss_marks(low: float, high: float, scale: str) -> list[float]:
    """Round losses for the axis."""
    if scale == "log":
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        marks = [m * 10.0**p for p in powers for m in (1, 2, 3, 5, 7)]
        return [mark for mark in marks if low <= mark <= high]
    step = next((s for s in _STEPS if (high - low) / s <= 8), _STEPS[-1])
    return [step * i for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def axis_ends(band: Band, runs: Mapping[str, Means], scale: str) -> tuple[float, float]:
    """Lowest and highest loss that is drawn; a linear axis begins at 0."""
    losses = [x for means in runs.values() for x in means[: len(band.steps)] if x is not None]
    low, high = min([*band.low, *losses]), max([*band.high, *losses])
    if scale == "linear":
        return 0.0, 1.05 * high
    edge = min(edge for edge, _ in limits(band))
    return max(0.97 * min(edge, low), 0.6 * low, 1e-4), 1.07 * high


def along(loss: float, low: float, high: float, scale: str) -> float:
    """Where on the axis a loss stands, 0 at the lowest."""
    loss = min(max(loss, low), high)
    if scale == "log":
        return math.log(loss / low) / math.log(high / low)
    return (loss - low) / (high - low)


class _Plot:
    """Where a step and a loss stand."""

    def __init__(self, picture: Drawing, band: Band, ends: tuple[float, float], scale: str) -> None:
        self.picture, self.band, self.ends, self.scale = picture, band, ends, scale

    def spot(self, step: float, loss: float) -> tuple[float, float]:
        up = along(loss, *self.ends, self.scale)
        x = PLOT["x"] + PLOT["width"] * step / self.band.steps[-1]
        return x, PLOT["y"] + PLOT["height"] * (1 - up)

    def spots(self, losses: Means) -> list[str]:
        pairs = zip(self.band.steps, losses, strict=False)
        found = [self.spot(step, loss) for step, loss in pairs if loss is not None]
        return [f"{x:.1f},{y:.1f}" for x, y in found]

    def line(self, losses: Means, **style: object) -> None:
        self.picture.shape("polyline", points=" ".join(self.spots(losses)), fill="none", **style)

    def axes(self) -> None:
        x, low = PLOT["x"], PLOT["y"] + PLOT["height"]
        for mark in loss_marks(*self.ends, self.scale):
            y = self.spot(0, mark)[1]
            self.picture.line(x, y, x + PLOT["width"], y, stroke=LINE)
            self.picture.text(x - 8, y + 5, f"{mark:g}", anchor="end", fill=SOFT)
        for i in range(5):
            step = self.band.steps[-1] * i / 4
            here = self.spot(step, self.ends[0])[0], low + 22
            self.picture.text(*here, f"{step:,.0f}", anchor="middle", fill=SOFT)
        self.picture.text(x + PLOT["width"] / 2, low + 46, "step", anchor="middle", size=15)
        words = f"loss in nats a token, {self.scale} axis"
        self.picture.text(20, PLOT["y"] - 12, words, fill=SOFT)

    def legend(self) -> None:
        x, y = PLOT["x"] + 6, PLOT["y"] + PLOT["height"] + 76
        kinds = (("circle", GREEN, "inside"), ("diamond", ORANGE, "outside"),
                 ("square", GREY, "other seeds, line: their mean"))  # fmt: skip
        for place, (kind, colour, words) in enumerate(kinds):
            self.picture.mark(kind, x + 120 * place, y, 6, fill=colour)
            self.picture.text(x + 14 + 120 * place, y + 5, words)
        self.picture.text(x + 520, y + 5, "dotted: as far as a block counts as inside")


def draw_band(band: Band, runs: Mapping[str, Means], name: str, scale: str) -> str:
    """The static picture, as SVG."""
    means = runs.get(name, [])
    title, rows = headline(band, name, means), table_rows(band, means)
    told = "; ".join(f"step {r['step']}: {r['low']} to {r['high']}, {r['yours']}" for r in rows)
    picture = Drawing(1000, 464, title=title, description=told)
    picture.text(20, 34, title, size=min(22, 1700 / len(title)), font_weight=600)
    plot = _Plot(picture, band, axis_ends(band, runs, scale), scale)
    plot.axes()
    points = " ".join([*plot.spots(band.low), *plot.spots(band.high)[::-1]])
    picture.shape("polygon", points=points, fill=GREY)
    for edge in zip(*limits(band), strict=True):
        plot.line(edge, stroke=SOFT, stroke_dasharray="2 3")
    plot.line(band.mean, stroke=INK, stroke_width=1.3)
    for other, losses in runs.items():
        if other != name:
            plot.line(losses, stroke=SOFT, stroke_width=1.6, stroke_dasharray="7 4")
    plot.line(means, stroke=BLUE, stroke_width=1.8)
    for step, loss, ok in zip(band.steps, means, judged(band, means), strict=False):
        if loss is not None:
            kind, colour = ("circle", GREEN) if ok else ("diamond", ORANGE)
            picture.mark(kind, *plot.spot(step, loss), 5, fill=colour, stroke="#ffffff")
    plot.legend()
    return picture.svg()


def table_rows(band: Band, means: Means) -> list[dict[str, str]]:
    """The numbers of the picture."""
    ok, own = judged(band, means), [*means, *[None] * len(band.steps)]
    words = {True: "inside", False: "outside", None: "–"}
    return [
        {
            "step": f"{step:,}",
            "low": f"{band.low[i]:.3f}",
            "mean": f"{band.mean[i]:.3f}",
            "high": f"{band.high[i]:.3f}",
            "yours": "–" if own[i] is None else f"{own[i]:.3f}",
            "inside": words[ok[i] if i < len(ok) else None],
        }
        for i, step in enumerate(band.steps)
    ]


class BandView(CourseWidget):
    """A band and runs over it. `on_step` takes the records of a trainer while it goes on.

    runs: finished ones, a loss a step, by name. Works in a saved page.
    """

    _esm = esm("band")
    _css = css("band")
    band = traitlets.Dict().tag(sync=True)
    runs = traitlets.Dict().tag(sync=True)  # means of blocks
    now = traitlets.Dict().tag(sync=True)  # the block that is not whole yet
    run = traitlets.Unicode(OWN).tag(sync=True)
    scale = traitlets.Unicode(SCALES[0]).tag(sync=True)

    def __init__(self, band: Band, runs: Mapping[str, Sequence[float]] | None = None) -> None:
        if not isinstance(band, Band) or not band.steps:
            raise ValueError(f"band={band!r} is not allowed: a Band with one block or more")
        self.reference, self._size = band, band.steps[0]
        self._losses: list[float] = []
        self._means: list[float | None] = []  # of the whole blocks of _losses
        self._phase, self._sent, self._waits = "", -math.inf, False
        names = ("recipe", "steps", "low", "mean", "high")
        told = {name: getattr(band, name) for name in names} | {"seeds": len(band.seeds)}
        super().__init__(band={k: list(v) if isinstance(v, tuple) else v for k, v in told.items()})
        for name, losses in (runs or {}).items():
            self.add(name, losses)

    def add(self, name: str, losses: Sequence[float]) -> None:
        """Show a finished run, from its losses of each step, and choose it.

        Raises ValueError if it has no name or not a whole block.
        """
        if not name:
            raise ValueError(f"name={name!r} is not allowed: some text")
        if len(losses) < self._size:
            raise ValueError(f"losses has {len(losses)} steps, a block needs {self._size}")
        means = block_means(losses, self._size)[: len(self.reference.steps)]
        self.runs = {**self.runs, str(name): means}
        self.run = str(name)

    def on_step(self, record: Mapping[str, object]) -> None:
        """Take a trainer's record; the picture follows five times a second at most.

        A step that comes again takes the place of all from it on, as in a run that is resumed.
        """
        if "loss" not in record:
            return
        step = int(record["step"])
        if step < 1:
            raise ValueError(f"step={step!r} is not allowed: 1 or more")
        if step == 1 or not self._losses:
            self.run = OWN
        del self._losses[step - 1 :], self._means[(step - 1) // self._size :]
        self._losses += [math.nan] * (step - 1 - len(self._losses))
        self._losses.append(float(record["loss"]))
        self._phase = str(record.get("phase", ""))
        if time.monotonic() - self._sent >= _PAUSE:
            self.flush()
        elif not self._waits:
            with contextlib.suppress(RuntimeError):  # no loop, nobody who looks on
                asyncio.get_running_loop().call_later(_PAUSE, self.flush)
                self._waits = True  # the loop comes to it when the cell has ended

    def flush(self) -> None:
        """Send what there is now."""
        self._sent, self._waits = time.monotonic(), False
        begun = len(self._means) * self._size
        self._means += block_means(self._losses[begun:], self._size)
        shown = self._means[: len(self.reference.steps)]
        if self._losses and self.runs.get(OWN) != shown:
            self.runs = {**self.runs, OWN: shown}
        rest = self._losses[len(self._means) * self._size :]
        loss = sum(rest) / len(rest) if rest else math.nan
        told = {"step": len(self._losses), "phase": self._phase}
        self.now = told | {"loss": loss if math.isfinite(loss) else None} if self._losses else {}

    def means(self) -> list[float | None]:
        """Means of the blocks of the chosen run."""
        self.flush()
        return self.runs.get(self.run, [])

    def share_inside(self) -> float | None:
        """Share of the chosen run's blocks that are inside; None if it has none."""
        return share_inside(self.reference, self.means())

    @traitlets.validate("run")
    def _known_run(self, proposal: dict) -> str:
        if proposal["value"] not in (allowed := [OWN, *self.runs]):
            names = ", ".join(allowed)
            raise traitlets.TraitError(f"run={proposal['value']!r} is not allowed: one of {names}")
        return proposal["value"]

    @traitlets.validate("scale")
    def _known_scale(self, proposal: dict) -> str:
        if proposal["value"] not in SCALES:
            names = ", ".join(SCALES)
            raise traitlets.TraitError(
                f"scale={proposal['value']!r} is not allowed: one of {names}"
            )
        return proposal["value"]

    def summary(self) -> str:
        return headline(self.reference, self.run, self.means())

    def table(self) -> list[dict[str, object]]:
        return table_rows(self.reference, self.means())

    def static_svg(self) -> str:
        means = {**self.runs, self.run: self.means()}
        return draw_band(self.reference, means, self.run, self.scale)
