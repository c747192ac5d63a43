"""Needle tests as a map: what share was found at each length and depth, and which lengths pass.

The gate between two stages of long-context training asks that the needle is found up to a length
(section 3.4.2): at every depth of that length and of all shorter ones. From which share on a cell
counts as found is the threshold; the paper gives no number for it.
"""

import math
from collections.abc import Mapping

from llama3lib.eval import NeedleGrid
from widgets.view import Choice, Paper, Pick, Scene, Slider, View
from widgets.view.measure import text_width

SIGNS = ("○", "◐", "●")
WORDS = ("lost", "partly", "found")
LEFT, TOP = 64, 28
WIDEST, HIGHEST, HIGH = 150, 54, 280  # of a cell, and of the map


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


def table_rows(grid: NeedleGrid, threshold: int) -> list[dict[str, str]]:
    """The cells, one a row."""
    return [
        {
            "length": f"{row['length']:,}",
            "depth": f"{row['depth']:g}",
            "found": f"{row['found']:,}",
            "tries": f"{row['tries']:,}",
            "share": percent(row["share"]),
            "nats": f"{row['nats']:.2f}" if math.isfinite(row["nats"]) else "–",
            "counts as": WORDS[level(row["share"], threshold)],
        }
        for row in grid.table()
    ]


def draw_sign(paper: Paper, x: float, y: float, how: int, size: float = 6) -> None:
    """A full, half or empty circle."""
    paper.circle(x, y, size, "ink" if how == 2 else "none", stroke="ink")
    if how == 1:
        half = f"M{x:.1f} {y - size:.1f}a{size:.1f} {size:.1f} 0 0 0 0 {2 * size:.1f}z"
        paper.shape("path", d=half, fill="ink")


def draw_map(paper: Paper, grid: NeedleGrid, threshold: int) -> float:
    """All cells with lengths and depths beside them; returns the lower edge."""
    wide = min(WIDEST, (paper.width - LEFT - 4) / len(grid.lengths))
    high = min(HIGHEST, HIGH / len(grid.depths))
    low, scale = TOP + high * len(grid.depths), min(1, wide / 78)
    paper.text(LEFT - 12, TOP - 12, "depth", "soft", anchor="end")
    for j, depth in enumerate(grid.depths):
        paper.text(LEFT - 12, TOP + high * (j + 0.5) + 5, f"{depth:g}", "soft", anchor="end")
    shares = grid.share.tolist()
    for i, length in enumerate(grid.lengths):
        left = LEFT + wide * i
        paper.text(left + wide / 2, low + 20, f"{length:,}", "soft", anchor="middle")
        for j, depth in enumerate(grid.depths):
            share, middle = shares[i][j], TOP + high * (j + 0.5)
            tip, key = cell_words(grid, i, j, threshold), f"cell {length} {depth:g}"
            with paper.group(key=key, put=("cell", (i, j)), tip=tip):
                paper.rect(left + 1, middle - high / 2 + 1, wide - 2, high - 2, "main",
                           fill_opacity=0.04 + 0.5 * share, stroke="grid")  # fmt: skip
                at = left + wide / 2 - 28 * scale
                draw_sign(paper, at, middle, level(share, threshold), 6 * scale)
                paper.text(at + 38 * scale, middle + 6, percent(share), size=17 * scale,
                           anchor="middle")  # fmt: skip
    if count := passed(grid, threshold):
        paper.rect(LEFT, TOP, wide * count, low - TOP, "none", stroke="main", stroke_width=5,
                   pointer_events="none")  # fmt: skip
    return low


class NeedleMap(View):
    """A map for each grid; choose a grid and the share that counts as found.

    grids: by name, all from `needle_grid` or `copy_grid`. cell: the numbers of length and depth of
    the cell under the keyboard.
    """

    grid = Choice(lambda view, values: list(view.measured), "grid")
    threshold = Slider(range(5, 101, 5), "counts as found from", start=100, text="{}%".format)
    cell = Pick(lambda view, values: view.places(values["grid"]))

    def __init__(
        self, grids: Mapping[str, NeedleGrid], *, grid: str | None = None, threshold: int = 100
    ) -> None:
        if not grids or not all(isinstance(one, NeedleGrid) for one in grids.values()):
            raise ValueError(f"grids={grids!r} is not allowed: one NeedleGrid or more, by name")
        self.measured = {str(name): one for name, one in grids.items()}
        super().__init__(grid=grid, threshold=threshold)

    def places(self, grid: str) -> list[tuple[int, int]]:
        """The cells of a grid, as numbers of length and depth."""
        one = self.measured[grid]
        return [(i, j) for i in range(len(one.lengths)) for j in range(len(one.depths))]

    def scene(self, paper: Paper, *, grid: str, threshold: int) -> Scene:
        given = self.measured[grid]
        low = draw_map(paper, given, threshold)
        left = 4 if paper.narrow else LEFT
        paper.text(left, low + 46, "length in tokens; the frame holds what passes the gate")
        at, y = left + 6, low + 68
        for how, words in reversed(list(enumerate(legend(threshold)))):
            wide = 12 + text_width(words, 14)
            if at + wide > paper.width:
                at, y = left + 6, y + 24
            draw_sign(paper, at, y, how)
            paper.text(at + 12, y + 5, words)
            at += wide + 40
        return Scene(
            title=headline(grid, given, threshold),
            table=table_rows(given, threshold),
            facts={"passed": passed(given, threshold)},
        )

    def shown(self) -> NeedleGrid:
        """The chosen grid."""
        return self.measured[self.grid]

    def passing(self) -> int | None:
        """The longest length that passes the gate, or None."""
        count = passed(self.shown(), self.threshold)
        return self.shown().lengths[count - 1] if count else None

    def cell_words(self) -> str:
        """What is told of the chosen cell."""
        return cell_words(self.shown(), *self.cell, self.threshold)
