"""One's own run, while it goes on, over the band of losses that other seeds of a recipe gave.

A point is the mean of a block of steps, as in `ReferenceCurve.compare`. It is inside if it is at
most half the band's width away from the band.
"""

import asyncio
import contextlib
import dataclasses
import math
import time
from collections.abc import Mapping, Sequence

import numpy as np

from llama3lib.train import ReferenceCurve
from widgets.view import Choice, Linear, Log, Paper, Plot, Scene, View
from widgets.view.measure import text_width
from widgets.view.words import significant, thousands

OWN = "yours"
SCALES = {"log": "log", "linear": "linear", "minus mean": "loss minus mean of the seeds"}
AXES = {
    "log": "loss in nats a token, log axis",
    "linear": "loss in nats a token, linear axis",
    "minus mean": "loss minus the mean of the seeds, in nats a token",
}
_PAUSE = 0.2  # seconds between two pictures of a run that goes on
WORDS = {True: "inside", False: "outside", None: "–"}
SIGNS = {"inside": ("circle", "good"), "outside": ("diamond", "second"), "now": ("circle", "paper")}
Means = Sequence[float | None]  # None where a block has a step without a loss


def block_means(losses: Sequence[float], size: int) -> list[float | None]:
    """Means of whole blocks of `size` losses; None for a block with a loss that is no number."""
    count = len(losses) // size
    means = np.asarray(losses[: count * size], dtype=float).reshape(count, size).mean(1).tolist()
    return [mean if math.isfinite(mean) else None for mean in means]


def limits(band: ReferenceCurve) -> list[tuple[float, float]]:
    """From where to where a block counts as inside: half the band's width more on either side."""
    pairs = zip(band.low, band.high, strict=True)
    return [(low - s, high + s) for low, high in pairs for s in [max((high - low) / 2, 0.01)]]


def judged(band: ReferenceCurve, means: Means) -> list[bool | None]:
    """Which blocks are inside; None where there is no mean."""
    pairs = zip(means, limits(band), strict=False)
    return [None if mean is None else low <= mean <= high for mean, (low, high) in pairs]


def share_inside(band: ReferenceCurve, means: Means) -> float | None:
    """Share of the blocks inside, or None if there is no block."""
    found = [one for one in judged(band, means) if one is not None]
    return sum(found) / len(found) if found else None


def headline(band: ReferenceCurve, name: str, means: Means) -> str:
    """The title: what to see."""
    found = [one for one in judged(band, means) if one is not None]
    if not found:
        return f"The band of {len(band.seeds)} runs of {band.recipe}; no block of {name} yet"
    share = math.floor(100 * sum(found) / len(found) + 0.5)
    return f"{name}: {sum(found)} of {len(found)} blocks are inside the band ({share}%)"


def from_mean(band: ReferenceCurve, losses: Means) -> list[float | None]:
    """How far each block lies above the mean of the seeds, in nats."""
    pairs = zip(losses, band.mean, strict=False)
    return [None if loss is None else loss - mean for loss, mean in pairs]


def centred(band: ReferenceCurve) -> ReferenceCurve:
    """The band about its mean, which becomes 0."""
    edges = {name: tuple(from_mean(band, getattr(band, name))) for name in ("low", "high")}
    return dataclasses.replace(band, mean=(0.0,) * len(band.mean), **edges)


def above_mean(band: ReferenceCurve, step: int, loss: float) -> float:
    """The same for the block under way: against the mean of the block that the step is in."""
    at = min((step - 1) // band.steps[0], len(band.mean) - 1)
    return loss - band.mean[at]


def axis_ends(band: ReferenceCurve, runs: Mapping[str, Means], scale: str) -> tuple[float, float]:
    """Lowest and highest loss that is drawn; a linear axis of whole losses begins at 0.

    With the mean taken off, 0 is in the middle, and no more than six times what is inside is
    drawn: one lost block would press the band flat.
    """
    losses = [x for means in runs.values() for x in means[: len(band.steps)] if x is not None]
    low, high = min([*band.low, *losses]), max([*band.high, *losses])
    if scale == "minus mean":
        inside = max(max(-low, high) for low, high in limits(band))
        most = min(1.05 * max(-low, high, inside), 6 * inside)
        return -most, most
    if scale == "linear":
        return 0.0, 1.05 * high
    edge = min(edge for edge, _ in limits(band))
    return max(0.97 * min(edge, low), 0.6 * low, 1e-4), 1.07 * high


def table_rows(band: ReferenceCurve, means: Means) -> list[dict[str, str]]:
    """The numbers of the picture."""
    ok, own = judged(band, means), [*means, *[None] * len(band.steps)]
    return [
        {
            "step": f"{step:,}",
            "low": f"{band.low[i]:.3f}",
            "mean": f"{band.mean[i]:.3f}",
            "high": f"{band.high[i]:.3f}",
            "yours": "–" if own[i] is None else f"{own[i]:.3f}",
            "inside": WORDS[ok[i] if i < len(ok) else None],
        }
        for i, step in enumerate(band.steps)
    ]


def note_of(name: str, means: Means, now: Mapping[str, object]) -> str:
    """How far the chosen run is."""
    if name != OWN:
        return f"{len(means)} blocks of a finished run"
    if not now:
        return (
            "Nothing has run yet: points appear while a trainer tells its steps to this view's "
            "on_step"
        )
    phase = f" ({now['phase']})" if now["phase"] else ""
    loss = "" if now["loss"] is None else f": {now['loss']:.3f} in the block under way"
    return f"step {now['step']:,}{phase}{loss}"


def draw_sign(paper: Paper, kind: str, x: float, y: float, **style: object) -> None:
    """A block: inside, outside, or under way."""
    shape, role = SIGNS[kind]
    edge = ("main", 2) if kind == "now" else ("paper", 1)
    paper.mark(shape, x, y, role, size=5.5, stroke=edge[0], stroke_width=edge[1], **style)


def draw_seeds(plot: Plot, band: ReferenceCurve) -> None:
    """The other seeds: their range, their mean, and as far as a block counts as inside."""
    plot.band(band.steps, band.low, band.high, "quiet", opacity=1)
    for edge in zip(*limits(band), strict=True):
        spots = [(step, max(loss, plot.y.low)) for step, loss in zip(band.steps, edge, strict=True)]
        plot.line(spots, "soft", width=1, dash="2 3")
    plot.line(list(zip(band.steps, band.mean, strict=True)), "ink", width=1.3)


def draw_legend(plot: Plot) -> None:
    """What the signs and lines mean, in as many lines as it takes."""
    paper, x, y = plot.paper, plot.left, plot.low + 70
    for words in ("inside", "outside", "block under way", "other seeds and their mean",
                  "as far as a block is inside"):  # fmt: skip
        if x + 40 + text_width(words, 14) > paper.width:
            x, y = plot.left, y + 24
        if words.startswith("other"):
            paper.rect(x, y - 8, 22, 16, "quiet")
            paper.line(x, y, x + 22, y, "ink", stroke_width=1.3)
        elif words.startswith("as far"):
            paper.line(x, y, x + 22, y, "soft", dash="2 3")
        else:
            draw_sign(paper, words if words in SIGNS else "now", x + 11, y)
        paper.text(x + 28, y + 5, words)
        x += 48 + text_width(words, 14)


class BandView(View):
    """A band and runs over it. `on_step` takes the records of a trainer while it goes on.

    runs: finished ones, a loss a step, by name.
    """

    scale = Choice(SCALES, "loss axis")
    run = Choice(lambda view, values: list(dict.fromkeys([OWN, *view.runs])), "run")

    def __init__(
        self, band: ReferenceCurve, runs: Mapping[str, Sequence[float]] | None = None
    ) -> None:
        if not isinstance(band, ReferenceCurve) or not band.steps:
            raise ValueError(
                f"band={band!r} is not allowed: a ReferenceCurve with one block or more"
            )
        self.reference, self._size = band, band.steps[0]
        self._losses: list[float] = []
        self._means: list[float | None] = []  # of the whole blocks of _losses
        self._phase, self._drawn, self._waits = "", -math.inf, False
        # what is drawn; both are replaced, never changed, for pictures are made in another thread
        self.runs: dict[str, Means] = {}
        self.now: dict[str, object] = {}
        super().__init__()
        for name, losses in (runs or {}).items():
            self.add(name, losses)

    def scene(self, paper: Paper, *, scale: str, run: str) -> Scene:
        band, runs, now = self.reference, self.runs, self.now
        means, last = runs.get(run, []), band.steps[-1]
        title, rows, ok = headline(band, run, means), table_rows(band, means), judged(band, means)
        if scale == "minus mean":  # drawn as any other: a band about 0, and runs from there
            if now and now["loss"] is not None:
                now = now | {"loss": above_mean(band, now["step"], now["loss"])}
            runs = {name: from_mean(band, losses) for name, losses in runs.items()}
            band = centred(band)
        low, high = axis_ends(band, runs, scale)
        y = (Log if scale == "log" else Linear)(low, high, text=lambda v: significant(v, 6))
        paper.text(4, 14, AXES[scale], "soft")
        plot = paper.plot(Linear(0, last, "step", text=thousands), y, left=60, top=28, height=280)
        draw_seeds(plot, band)

        def spots(losses: Means) -> list[tuple[int, float]]:
            pairs = zip(band.steps, losses, strict=False)
            return [(step, min(max(loss, low), high)) for step, loss in pairs if loss is not None]

        for other, losses in runs.items():
            if other != run and spots(losses):
                plot.line(spots(losses), "soft", width=1.6, dash="7 4", tip=other)
        own = spots(runs.get(run, []))
        if own:
            plot.line(own, "main", width=1.8)
        ok = [WORDS[one] for one in ok if one is not None]
        for (step, loss), kind in zip(own, ok, strict=True):
            tip = f"step {step:,}: {loss:.3f}, {kind}"
            draw_sign(paper, kind, *plot.at(step, loss), key=f"block {step}", tip=tip)
        if run == OWN and now and now["loss"] is not None and now["step"] <= last:
            tip = f"step {now['step']:,}: {now['loss']:.3f} so far"
            at = plot.at(now["step"], min(max(now["loss"], low), high))
            draw_sign(paper, "now", *at, key="now", tip=tip)
        draw_legend(plot)
        return Scene(
            title=title,
            notes=[note_of(run, means, self.now)],
            table=rows,
            facts={"points": len(means), "inside": ok.count("inside"), "scale": scale},
        )

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
        self.refresh()
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
        if time.monotonic() - self._drawn >= _PAUSE:
            self.flush()
        elif not self._waits:
            with contextlib.suppress(RuntimeError):  # no loop, nobody who looks on
                asyncio.get_running_loop().call_later(_PAUSE, self.flush)
                self._waits = True  # the loop comes to it when the cell has ended

    def flush(self) -> None:
        """Draw what there is now."""
        self._drawn, self._waits = time.monotonic(), False
        begun = len(self._means) * self._size
        self._means += block_means(self._losses[begun:], self._size)
        rest = self._losses[len(self._means) * self._size :]
        loss = sum(rest) / len(rest) if rest else math.nan
        now = {"step": len(self._losses), "phase": self._phase}
        now |= {"loss": loss if math.isfinite(loss) else None}
        if self._losses and now != self.now:
            self.runs = {**self.runs, OWN: self._means[: len(self.reference.steps)]}
            self.now = now
            self.refresh()

    def means(self) -> list[float | None]:
        """Means of the blocks of the chosen run."""
        self.flush()
        return self.runs.get(self.run, [])

    def share_inside(self) -> float | None:
        """Share of the chosen run's blocks that are inside; None if it has none."""
        return share_inside(self.reference, self.means())

    def summary(self) -> str:
        self.flush()
        return super().summary()

    def table(self) -> list[dict[str, object]]:
        self.flush()
        return super().table()

    def static_svg(self) -> str:
        self.flush()
        return super().static_svg()
