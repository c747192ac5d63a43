"""The S-curve of banded MinHash: how likely is a pair found, and which real pairs were?

The curve is `1 - (1 - J^rows)^bands`. The points are pairs of real texts: their exact Jaccard
similarity, and whether their real signatures share a band.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from llama3lib.data.dedup.minhash import MinHash, exact_jaccard, lsh_probability
from widgets.view import Linear, Paper, Plot, Scene, Slider, View
from widgets.view.words import percent

NUMBERS = 256
BANDS = (1, 2, 4, 8, 14, 16, 20, 25, 32, 42, 64, 128)
ROWS = tuple(range(1, 17))


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


def table_rows(pairs: Sequence[Pair], bands: int, rows: int) -> list[dict[str, object]]:
    """The tenths of similarity that have pairs, one a row."""
    return [
        {
            "similarity": f"{row['tenth'] / 10:.1f} to {row['tenth'] / 10 + 0.1:.1f}",
            "pairs": row["pairs"],
            "found": row["found"],
            "expected": f"{row['expected']:.1f}",
        }
        for row in found_shares(pairs, bands, rows)
    ]


def draw_pairs(plot: Plot, pairs: Sequence[Pair], bands: int, rows: int) -> int:
    """Found pairs above the plot, missed ones below it, in five lines each; how many are found."""
    count = 0
    for place, pair in enumerate(pairs):
        found, lift = pair.is_found(bands, rows), 2.4 * (place % 5)
        count += found
        kind, role = ("circle", "good") if found else ("diamond", "second")
        at = plot.top - 6 - lift if found else plot.low + 8 + lift
        style = {"size": 4, "stroke": "none", "fill_opacity": 0.8, "key": f"pair {place}"}
        plot.paper.mark(kind, plot.at_x(pair.jaccard), at, role, **style)
    return count


class SCurve(View):
    """Choose bands and rows; see the curve, and which real pairs are found.

    pairs: from `measured_pairs`.
    """

    bands = Slider(BANDS, "bands", start=14)
    rows = Slider(ROWS, "rows in a band", start=8)

    def __init__(self, pairs: Sequence[Pair], *, bands: int = 14, rows: int = 8) -> None:
        self.measured = list(pairs)
        super().__init__(bands=bands, rows=rows)

    def scene(self, paper: Paper, *, bands: int, rows: int) -> Scene:
        used, pairs = fitting_bands(bands, rows), self.measured
        paper.text(4, 14, "chance to share a band", "soft")
        y = Linear(0, 1, text=percent, ticks=[i / 5 for i in range(6)])
        plot = paper.plot(Linear(0, 1, ticks=[]), y, left=60, top=42, right=20, height=280)
        for share in y.ticks(6):  # below the pairs that are missed
            at = plot.at_x(share)
            paper.line(at, plot.top, at, plot.low)
            paper.text(at, plot.low + 42, f"{share:.1f}", "soft", anchor="middle")
        words = "exact Jaccard similarity of the two texts"
        paper.text(plot.left + plot.width / 2, plot.low + 64, words, anchor="middle")
        curve = [(i / 100, lsh_probability(i / 100, used, rows)) for i in range(101)]
        plot.line(curve, "main", width=3.5, key="curve")
        half = half_way(used, rows)
        plot.line([(half, 0), (half, 0.5)], "main", width=1.5, dash="5 5", key="half")
        found = draw_pairs(plot, pairs, used, rows)
        need = f" ({bands} bands of {rows} would need more)" if bands != used else ""
        title = headline(used, rows)
        return Scene(
            title=title,
            notes=[
                f"● found: {found} of {len(pairs)} real pairs · ◆ missed: {len(pairs) - found} · "
                f"{used * rows} of {NUMBERS} numbers are used{need}"
            ],
            table=table_rows(pairs, used, rows),
            say=f"{title}. {found} of {len(pairs)} pairs found.",
            facts={"found": found},
        )

    @property
    def used_bands(self) -> int:
        """The bands that the signatures have numbers for."""
        return fitting_bands(self.bands, self.rows)
