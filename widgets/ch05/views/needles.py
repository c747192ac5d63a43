"""Needle tests as a map: what share was found at each length and depth, and which lengths pass.

The gate between two stages of long-context training asks that the needle is found up to a length
(section 3.4.2): at every depth of that length and of all shorter ones. From which share on a cell
counts as found is the threshold; the paper gives no number for it.
"""

import math
from collections.abc import Mapping

import traitlets

from llama3lib.eval import NeedleGrid
from widgets.core.drawing import BLUE, INK, LINE, SKY, SOFT, Drawing
from widgets.core.widget import CourseWidget, css, esm

SIGNS = ("○", "◐", "●")
WORDS = ("lost", "partly", "found")
MAP = {"x": 110, "y": 70, "width": 870, "row": 56, "widest": 150}


def level(share: float, threshold: int) -> int:
    """2: counts as found; 1: at least half the threshold; 0: less."""
    needed = threshold / 100
    return 2 if share >= needed else 1 if share >= needed / 2 else 0


def passed(grid: NeedleGrid, threshold: int) -> int:
    """How many lengths pass the gate, from the shortest on."""
    return sum(grid.solved(length, threshold / 100) for length in grid.lengths)


def headline(name: str, grid: NeedleGrid, threshold: int) -> str:
    """The title: what to see."""
    count = passed(grid, threshold)
    if not count:
        return f"{name}: no length passes at {threshold}%"
    most = ", all that were tried" if count == len(grid.lengths) else ""
    return f"{name}: found up to {grid.lengths[count - 1]:,} tokens at {threshold}%{most}"


def cell_words(grid: NeedleGrid, i: int, j: int, threshold: int) -> str:
    """What is known of the cell of length i and depth j."""
    found, tries, nats = grid.found[i, j], grid.tries[i, j], grid.nats[i, j]
    how = level(found / tries, threshold)
    loss = f"{nats:.2f} nats a token" if math.isfinite(nats) else "nats not finite"
    return (
        f"length {grid.lengths[i]:,}, depth {grid.depths[j]:g}: {found:,} of {tries:,} found "
        f"({percent(found / tries)}), {loss}: {SIGNS[how]} {WORDS[how]}"
    )


def percent(share: float) -> str:
    """A share as in 97%; only all is 100%, only none is 0%."""
    whole = math.floor(100 * share + 0.5)
    return f"{min(max(whole, int(share > 0)), 99 if share < 1 else 100)}%"


def legend(threshold: int) -> list[str]:
    """What the signs mean, the empty one first."""
    half = f"{threshold / 2:g}%"
    return [f"lost: below {half}", f"partly: from {half} on", f"found: from {threshold}% on"]


def draw_needles(name: str, grid: NeedleGrid, threshold: int) -> str:
    """The static picture, as SVG."""
    title, row = headline(name, grid, threshold), MAP["row"]
    wide = min(MAP["widest"], MAP["width"] / len(grid.lengths))
    cells = [(i, j) for i in range(len(grid.lengths)) for j in range(len(grid.depths))]
    low = MAP["y"] + row * len(grid.depths)
    told = "; ".join(cell_words(grid, *cell, threshold) for cell in cells)
    picture = Drawing(1000, low + 94, title=title, description=told)
    picture.text(20, 34, title, size=min(22, 1700 / len(title)), font_weight=600)
    picture.text(MAP["x"] - 12, MAP["y"] - 10, "depth", anchor="end", fill=SOFT)
    for j, depth in enumerate(grid.depths):
        middle = MAP["y"] + row * (j + 0.5) + 5
        picture.text(MAP["x"] - 12, middle, f"{depth:g}", anchor="end", fill=SOFT)
    for i, length in enumerate(grid.lengths):
        middle = MAP["x"] + wide * (i + 0.5)
        picture.text(middle, low + 22, f"{length:,}", anchor="middle", fill=SOFT)
    for i, j in cells:
        x, y = MAP["x"] + wide * i, MAP["y"] + row * j
        _draw_cell(picture, x, y, wide, float(grid.share[i, j]), threshold)
    picture.text(MAP["x"], low + 46, "length in tokens; the frame holds what passes the gate")
    if count := passed(grid, threshold):
        style = {"fill": "none", "stroke": BLUE, "stroke_width": 5}
        picture.rect(MAP["x"], MAP["y"], wide * count, row * len(grid.depths), **style)
    for how, words in enumerate(legend(threshold)):
        _draw_sign(picture, MAP["x"] + 6 + 250 * (2 - how), low + 70, how, 6)
        picture.text(MAP["x"] + 20 + 250 * (2 - how), low + 75, words)
    return picture.svg()


def _draw_cell(
    picture: Drawing, x: float, y: float, wide: float, share: float, threshold: int
) -> None:
    middle, centre, scale = y + MAP["row"] / 2, x + wide / 2, min(1, wide / 78)
    style = {"fill": SKY, "fill_opacity": 0.06 + 0.94 * share, "stroke": LINE}
    picture.rect(x + 1, y + 1, wide - 2, MAP["row"] - 2, **style)
    words, size = percent(share), 17 * scale
    picture.text(centre + 10 * scale, middle + 6, words, anchor="middle", size=size)
    _draw_sign(picture, centre - 28 * scale, middle, level(share, threshold), 6 * scale)


def _draw_sign(picture: Drawing, x: float, y: float, how: int, size: float) -> None:
    """A full, half or empty circle."""
    picture.shape("circle", cx=x, cy=y, r=size, fill=INK if how == 2 else "none", stroke=INK)
    if how == 1:
        half = f"M{x:.1f} {y - size:.1f}a{size:.1f} {size:.1f} 0 0 0 0 {2 * size:.1f}z"
        picture.shape("path", d=half, fill=INK)


class NeedleMap(CourseWidget):
    """A map for each grid; choose a grid and the share that counts as found.

    grids: by name, all from `needle_grid` or `copy_grid`. cell: the numbers of length and depth of
    the cell that is told below the map. Works in a saved page.
    """

    _esm = esm("needles")
    _css = css("needles")
    grid = traitlets.Unicode().tag(sync=True)
    threshold = traitlets.Int(100).tag(sync=True)
    cell = traitlets.List(traitlets.Int(), [0, 0]).tag(sync=True)
    grids = traitlets.Dict().tag(sync=True)

    def __init__(
        self, grids: Mapping[str, NeedleGrid], *, grid: str | None = None, threshold: int = 100
    ) -> None:
        if not grids or not all(isinstance(one, NeedleGrid) for one in grids.values()):
            raise ValueError(f"grids={grids!r} is not allowed: one NeedleGrid or more, by name")
        self.measured = {str(name): one for name, one in grids.items()}
        super().__init__(grids={name: _plain(one) for name, one in self.measured.items()})
        self.grid = next(iter(self.measured)) if grid is None else grid
        self.threshold = threshold

    @traitlets.validate("grid")
    def _known_grid(self, proposal: dict) -> str:
        if proposal["value"] not in self.measured:
            names = ", ".join(self.measured)
            raise traitlets.TraitError(f"grid={proposal['value']!r} is not allowed: one of {names}")
        return proposal["value"]

    @traitlets.validate("threshold")
    def _a_share(self, proposal: dict) -> int:
        if not 1 <= proposal["value"] <= 100:
            raise traitlets.TraitError(f"threshold={proposal['value']!r} is not allowed: 1 to 100")
        return proposal["value"]

    @traitlets.validate("cell")
    def _a_cell(self, proposal: dict) -> list[int]:
        value = proposal["value"]
        most = [max(len(one.lengths) for one in self.measured.values()) - 1,
                max(len(one.depths) for one in self.measured.values()) - 1]  # fmt: skip
        if len(value) != 2 or not all(0 <= n <= end for n, end in zip(value, most, strict=True)):
            raise traitlets.TraitError(f"cell={value!r} is not allowed: [0, 0] to {most}")
        return value

    def shown(self) -> NeedleGrid:
        """The chosen grid."""
        return self.measured[self.grid]

    def passing(self) -> int | None:
        """The longest length that passes the gate, or None."""
        count = passed(self.shown(), self.threshold)
        return self.shown().lengths[count - 1] if count else None

    def cell_words(self) -> str:
        """What is told of the chosen cell."""
        grid, (i, j) = self.shown(), self.cell
        at = min(i, len(grid.lengths) - 1), min(j, len(grid.depths) - 1)
        return cell_words(grid, *at, self.threshold)

    def summary(self) -> str:
        return headline(self.grid, self.shown(), self.threshold)

    def table(self) -> list[dict[str, object]]:
        return [
            {
                "length": f"{row['length']:,}",
                "depth": f"{row['depth']:g}",
                "found": f"{row['found']:,}",
                "tries": f"{row['tries']:,}",
                "share": percent(row["share"]),
                "nats": f"{row['nats']:.2f}" if math.isfinite(row["nats"]) else "–",
                "counts as": WORDS[level(row["share"], self.threshold)],
            }
            for row in self.shown().table()
        ]

    def static_svg(self) -> str:
        return draw_needles(self.grid, self.shown(), self.threshold)


def _plain(grid: NeedleGrid) -> dict[str, list]:
    """A grid as the browser gets it; nats that are not finite become null."""
    nats = [[n if math.isfinite(n) else None for n in row] for row in grid.nats.tolist()]
    axes = {"lengths": list(grid.lengths), "depths": list(grid.depths)}
    return axes | {"found": grid.found.tolist(), "tries": grid.tries.tolist(), "nats": nats}
