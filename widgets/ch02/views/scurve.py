"""The S-curve of banded MinHash: how likely is a pair found, and which real pairs were?

The curve is `1 - (1 - J^rows)^bands`. The points are pairs of real texts: their exact Jaccard
similarity, and whether their real signatures share a band. The browser does the arithmetic again,
from which numbers of each pair's signatures agree, so that a saved page still works.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import traitlets

from llama3lib.data.dedup.minhash import MinHash, exact_jaccard, lsh_probability
from widgets.core.drawing import BLUE, GREEN, LINE, ORANGE, SOFT, Drawing
from widgets.core.widget import CourseWidget, css, esm

NUMBERS = 256
BANDS = (1, 2, 4, 8, 14, 16, 20, 25, 32, 42, 64, 128)
ROWS = tuple(range(1, 17))
PLOT = {"x": 80, "y": 70, "width": 860, "height": 300}


@dataclass(frozen=True)
class Pair:
    """Two texts: their exact similarity, and where their signatures agree (0 or 1 each)."""

    jaccard: float
    agree: tuple[int, ...]

    def is_found(self, bands: int, rows: int) -> bool:
        """Whether all rows of at least one band agree."""
        cut = np.array(self.agree[: bands * rows]).reshape(-1, rows)
        return bool(cut.all(axis=1).any())


def measured_pairs(
    texts: Mapping[str, str], couples: Sequence[tuple[str, str]], numbers: int = NUMBERS
) -> list[Pair]:
    """Exact similarity and agreeing numbers of couples of texts, given by name."""
    minhash = MinHash(numbers)
    signatures = {name: minhash.signature(texts[name]) for couple in couples for name in couple}
    return [
        Pair(
            exact_jaccard(texts[one], texts[other]),
            tuple((signatures[one] == signatures[other]).astype(int).tolist()),
        )
        for one, other in couples
    ]


def half_way(bands: int, rows: int) -> float:
    """The similarity at which half of the pairs are found, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if lsh_probability(middle, bands, rows) < 0.5 else (low, middle)
    return (low + high) / 2


def fitting_bands(bands: int, rows: int, numbers: int = NUMBERS) -> int:
    """The largest offered number of bands, up to `bands`, whose numbers the signatures have."""
    return max((b for b in BANDS if b <= bands and b * rows <= numbers), default=1)


def found_shares(pairs: Sequence[Pair], bands: int, rows: int) -> list[dict[str, float]]:
    """For each tenth of similarity that has pairs: how many, how many found, what is expected."""
    rows_out = []
    for tenth in range(10):
        here = [p for p in pairs if min(int(p.jaccard * 10), 9) == tenth]
        if here:
            found = sum(p.is_found(bands, rows) for p in here)
            expected = sum(lsh_probability(p.jaccard, bands, rows) for p in here)
            rows_out.append(
                {"tenth": tenth, "pairs": len(here), "found": found, "expected": expected}
            )
    return rows_out


def headline(bands: int, rows: int) -> str:
    """The title: what to see."""
    middle = half_way(bands, rows)
    return f"{bands} × {rows}: half of the pairs are found at a similarity of {middle:.2f}"


def draw_scurve(pairs: Sequence[Pair], bands: int, rows: int) -> str:
    """The static picture, as SVG."""
    title = headline(bands, rows)
    told = "; ".join(
        f"similarity {r['tenth'] / 10:.1f} to {r['tenth'] / 10 + 0.1:.1f}: {r['found']} of "
        f"{r['pairs']} found"
        for r in found_shares(pairs, bands, rows)
    )
    picture = Drawing(1000, 450, title=title, description=told + ".")
    picture.text(20, 34, title, size=22, font_weight=600)
    x, y, width, height = PLOT["x"], PLOT["y"], PLOT["width"], PLOT["height"]
    for mark in range(0, 11, 2):
        at = x + width * mark / 10
        picture.line(at, y, at, y + height, stroke=LINE)
        picture.text(at, y + height + 22, f"{mark / 10:.1f}", anchor="middle", fill=SOFT)
        level = y + height * (1 - mark / 10)
        picture.line(x, level, x + width, level, stroke=LINE)
        picture.text(x - 10, level + 5, f"{mark * 10} %", anchor="end", fill=SOFT)
    picture.text(x + width / 2, y + height + 48, "exact Jaccard similarity of the two texts",
                 anchor="middle")  # fmt: skip
    steps = [place / 100 for place in range(101)]
    spots = [
        f"{x + width * j:.1f},{y + height * (1 - lsh_probability(j, bands, rows)):.1f}"
        for j in steps
    ]
    picture.shape("polyline", points=" ".join(spots), fill="none", stroke=BLUE, stroke_width=3)
    for place, pair in enumerate(pairs):
        found = pair.is_found(bands, rows)
        at = y + 14 - 18 * (place % 5) / 5 if found else y + height - 4 + 14 * (place % 5) / 5 - 10
        kind, colour = ("circle", GREEN) if found else ("diamond", ORANGE)
        picture.mark(kind, x + width * pair.jaccard, at, 4, fill=colour, fill_opacity=0.8)
    return picture.svg()


class SCurve(CourseWidget):
    """Choose bands and rows; see the curve, and which real pairs are found.

    pairs: from `measured_pairs`. Works in a saved page.
    """

    _esm = esm("scurve")
    _css = css("scurve")
    bands = traitlets.Int(14).tag(sync=True)
    rows = traitlets.Int(8).tag(sync=True)
    band_choices = traitlets.List(list(BANDS)).tag(sync=True)
    pairs = traitlets.List().tag(sync=True)

    def __init__(self, pairs: Sequence[Pair], *, bands: int = 14, rows: int = 8) -> None:
        self.measured = list(pairs)
        told = [[round(p.jaccard, 4), "".join(map(str, p.agree))] for p in self.measured]
        super().__init__(pairs=told)
        self.rows = rows
        self.bands = bands

    @traitlets.validate("bands")
    def _offered_bands(self, proposal: dict) -> int:
        return _one_of("bands", proposal["value"], BANDS)

    @traitlets.validate("rows")
    def _offered_rows(self, proposal: dict) -> int:
        return _one_of("rows", proposal["value"], ROWS)

    @property
    def used_bands(self) -> int:
        """The bands that the signatures have numbers for."""
        return fitting_bands(self.bands, self.rows)

    def summary(self) -> str:
        return headline(self.used_bands, self.rows)

    def table(self) -> list[dict[str, object]]:
        return [
            {
                "similarity": f"{row['tenth'] / 10:.1f} to {row['tenth'] / 10 + 0.1:.1f}",
                "pairs": row["pairs"],
                "found": row["found"],
                "expected": f"{row['expected']:.1f}",
            }
            for row in found_shares(self.measured, self.used_bands, self.rows)
        ]

    def static_svg(self) -> str:
        return draw_scurve(self.measured, self.used_bands, self.rows)


def _one_of(field: str, value: int, allowed: Sequence[int]) -> int:
    if value not in allowed:
        names = ", ".join(map(str, allowed))
        raise traitlets.TraitError(f"{field}={value!r} is not allowed: one of {names}")
    return value
