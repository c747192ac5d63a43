"""Rotary positions: every pair of channels is a clock hand, slow pairs tell far positions apart.

One face shows a query and a key as two hands (`hands.py`), the other one the clocks of all pairs.
Frequencies come from `llama3lib.model.rope`. The base of 500,000 is the paper's (§3.2); the
scaling switch is what the released Llama 3.1 code does and the paper does not describe.
"""

import functools
import math
from collections.abc import Iterator

import torch

from llama3lib.model import RopeScaling
from llama3lib.model.rope import rope_frequencies
from widgets.ch01.views import hands
from widgets.view import Choice, Linear, Log, Paper, Scene, Slider, View
from widgets.view.measure import text_width
from widgets.view.paper import TEXT
from widgets.view.words import thousands

BASES = (10_000.0, 500_000.0)  # often used before; Llama 3 (§3.2)
BASE_STEPS = 20
MAX_POSITION = 131_072
CURVE_POINTS = 480


def base_stops(steps: int = BASE_STEPS) -> list[float]:
    """Bases of the slider: even steps on a log axis; both marked ends are exact."""
    low, high = BASES
    inner = [low * (high / low) ** (i / steps) for i in range(1, steps)]
    return [low, *inner, high]


def position_stops(largest: int = MAX_POSITION) -> list[int]:
    """Positions of the slider: each of 0 to 16, then eight to a doubling."""
    stops = list(range(17))
    power = 33  # 2^(33/8) is the first step above 16
    while stops[-1] < largest:
        stops.append(min(math.floor(2 ** (power / 8) + 0.5), largest))
        power += 1
    return stops


def frequencies(head_dim: int, base: float, scaled: bool) -> torch.Tensor:
    """Radians per position of each pair, float64, fastest first: the library's own."""
    return rope_frequencies(head_dim, base, RopeScaling() if scaled else None)


def bands(head_dim: int, base: float) -> list[str]:
    """What the released scaling does to each pair: "kept", "blended" or "divided".

    Decided by how often the pair turns within the original 8,192 positions: more than 4 times,
    less than once, or between.
    """
    rule = RopeScaling()
    turns = rope_frequencies(head_dim, base) * rule.original_max_seq_len / (2 * math.pi)
    return [
        "kept"
        if t > rule.high_freq_factor
        else "divided"
        if t < rule.low_freq_factor
        else "blended"
        for t in turns.tolist()
    ]


def hand_angles(head_dim: int, base: float, scaled: bool, position: int) -> list[float]:
    """Angle of each pair at a position, in radians (not reduced to one turn)."""
    return (frequencies(head_dim, base, scaled) * position).tolist()


def score_at(head_dim: int, base: float, scaled: bool, distance: int) -> float:
    """Mean over the pairs of cos(distance · frequency): between -1 and 1, and 1 at distance 0.

    It is the attention score of a key that equals its query, with the same length in every pair,
    that many tokens back, as a share of the score at distance 0.
    """
    return float((frequencies(head_dim, base, scaled) * distance).cos().mean())


def distances(largest: int = MAX_POSITION, points: int = CURVE_POINTS) -> list[int]:
    """Whole distances from 1 to the largest, even on a log axis, without repeats."""
    raw = (largest ** (i / (points - 1)) for i in range(points))
    return sorted({math.floor(d + 0.5) for d in raw})


@functools.lru_cache(64)
def score_curve(head_dim: int, base: float, scaled: bool) -> tuple[float, ...]:
    """`score_at` for each of `distances()`."""
    turns = torch.outer(
        torch.tensor(distances(), dtype=torch.float64), frequencies(head_dim, base, scaled)
    )
    return tuple(turns.cos().mean(dim=1).tolist())


BANDS = {  # colour of a clock's rim, its dashes (they say it without colour), its name
    "kept": ("first", None, "kept"),
    "blended": ("second", "5 3", "blended"),
    "divided": ("fifth", "1.5 2.5", "divided by 8"),
}
ABOUT_SCORE = (
    "Score: mean over the pairs of cos(distance × frequency), so 1 at distance 0.",
    "The base of 500,000 is the paper's (§3.2); the scaling is in the released code only.",
)


def headline(head_dim: int, base: float, scaled: bool, position: int) -> str:
    """The title: what to see in this picture."""
    turning = (frequencies(head_dim, base, scaled) * position / (2 * math.pi)).tolist()
    slow = sum(turns < 1 for turns in turning)
    pairs = head_dim // 2
    return f"At position {position:,}, {slow} of {pairs} hands have not finished one turn"


def legend(head_dim: int, base: float, scaled: bool) -> list[tuple[str, str]]:
    """Band and words of each line of the legend; one line when nothing is scaled."""
    if not scaled:
        return [("kept", f"all {head_dim // 2} frequencies as the base gives them")]
    found = bands(head_dim, base)
    return [(band, f"{found.count(band)} {name}") for band, (*_, name) in BANDS.items()]


def clock_middles(pairs: int, pitch: float) -> Iterator[tuple[float, float]]:
    """Middles of the clocks, eight in a row, fastest first."""
    for i in range(pairs):
        yield 4 + pitch * (i % 8 + 0.5), 24 + 42 * (i // 8 + 0.5)


def draw_clocks(
    paper: Paper, head_dim: int, base: float, scaled: bool, position: int, pitch: float
) -> None:
    """A clock for each pair: the hand shows its angle, the rim what the scaling does to it."""
    freqs = frequencies(head_dim, base, scaled).tolist()
    paper.text(4, 14, "one clock a pair, fastest first", "soft")
    places, radius = clock_middles(head_dim // 2, pitch), min(18, 0.42 * pitch)
    for i, ((x, y), freq, band) in enumerate(
        zip(places, freqs, _bands(head_dim, base, scaled), strict=True)
    ):
        role, dash, _ = BANDS[band]
        degrees = -math.degrees(freq * position)  # whole turns too: a hand never travels backwards
        with paper.group(
            key=f"pair {i}",
            tip=f"pair {i}: one turn in {turn_text(2 * math.pi / freq)} tokens",
            transform=f"translate({x:g} {y:g})",
        ):
            rim = {"stroke": role, "stroke_width": 2.4, "stroke_dasharray": dash}
            paper.circle(0, 0, radius, "paper", **rim)
            hand = {"d": f"M0 0H{radius - 1.5:g}", "transform": f"rotate({degrees:.1f})"}
            paper.shape("path", stroke="ink", stroke_width=2.6, **hand)
        paper.reach(y + 18)
    x, y = 14.0, paper.height + 18
    for band, words in legend(head_dim, base, scaled):
        role, dash, _ = BANDS[band]
        rim = {"stroke": role, "stroke_width": 2.4, "stroke_dasharray": dash}
        paper.circle(x, y, 9, "paper", **rim)
        paper.text(x + 15, y + 5, words)
        x += 37 + text_width(words, TEXT)


def draw_score(
    paper: Paper, head_dim: int, base: float, scaled: bool, position: int, **box: float
) -> None:
    """The score over the distance, and where the hands stand now."""
    plot = paper.plot(
        Log(1, MAX_POSITION, "distance in tokens", text=thousands,
            ticks=(1, 64, 1024, 8192, MAX_POSITION)),
        Linear(-0.4, 1, ticks=(-0.4, 0, 0.5, 1)),
        **box,
    )  # fmt: skip
    paper.text(plot.left, plot.top - 12, "score of a key equal to the query", "soft")
    plot.rule(y=0, dash=None)
    old = score_curve(head_dim, BASES[0], False)
    plot.line(list(zip(distances(), old, strict=True)), "reference", width=1.3, dash="4 4")
    now = score_curve(head_dim, base, scaled)
    plot.line(list(zip(distances(), now, strict=True)), "main", width=2.2, key="score")
    score = score_at(head_dim, base, scaled, position)
    spot = (max(position, 1), score)
    plot.rule(x=spot[0], role="ink", key="here", width=1.4)
    plot.mark("circle", spot, "main", size=7, stroke_width=2, key="dot")
    x, y = plot.at(*spot)
    late = x > plot.right - 80
    style = {"anchor": "end" if late else "start", "halo": True, "key": "value"}
    high = max(y - 30, plot.top + 20)  # clear of the curve
    paper.text(x + (-12 if late else 12), high, f"{score:.3f}", size=18, bold=True, **style)
    words = f"solid: base {base:,.0f}{', scaled' * scaled} · dashed: base 10,000"
    paper.wrapped(plot.left, plot.low + 64, words)


def _bands(head_dim: int, base: float, scaled: bool) -> list[str]:
    return bands(head_dim, base) if scaled else ["kept"] * (head_dim // 2)


def table_rows(head_dim: int, base: float, scaled: bool, position: int) -> list[dict[str, object]]:
    """The clocks as a table, one row a pair."""
    found = _bands(head_dim, base, scaled)
    freqs = frequencies(head_dim, base, scaled).tolist()
    return [
        {
            "pair": i,
            "radians per token": f"{freq:.4g}",
            "tokens for one turn": turn_text(2 * math.pi / freq),
            "turns at this position": f"{freq * position / (2 * math.pi):.2f}",
            "scaling": band,
        }
        for i, (freq, band) in enumerate(zip(freqs, found, strict=True))
    ]


def turn_text(tokens: float) -> str:
    """One decimal below 100."""
    return f"{tokens:.1f}" if tokens < 100 else f"{tokens:,.0f}"


FACES = {
    "hands": "a query and a key",
    "clocks": "all pairs",
    "scaled": "all pairs, scaling of 3.1",
}


def _positions(view: View, values: dict) -> list[int]:
    if values["shows"] == "hands":
        return list(range(values["distance"], hands.MAX_POSITION + 1))
    return position_stops()


class RopeExplorer(View):
    """Two hands in a few pairs, or the clocks of all: what a position does to a query and a key.

    shows: "hands", a query and a key that far apart; "clocks", all pairs at a position, which is
    also the distance of the marked score; "scaled", the same with the scaling of the released 3.1;
    the clocks if left out while a base or the scaling is given, else the hands. head_dim: an even
    number from 2 to 128. Raises ValueError for another one, and for what is no stop of a control.
    """

    shows = Choice(FACES, "shows")
    distance = Slider(
        lambda view, values: (
            range(hands.MAX_DISTANCE + 1) if values["shows"] == "hands" else ()
        ),
        "distance", start=5, recorded=9,
    )  # fmt: skip
    position = Slider(_positions, "position", text=thousands, play=180, recorded=32)
    base = Slider(
        lambda view, values: (
            {base: thousands(base) for base in base_stops()} if values["shows"] != "hands" else ()
        ),
        "base", start=BASES[1], recorded=3,
    )  # fmt: skip

    def __init__(
        self,
        position: int | None = None,
        *,
        shows: str | None = None,
        distance: int | None = None,
        base: float | None = None,
        scaled: bool = False,
        head_dim: int = 128,
    ) -> None:
        if head_dim not in range(2, 129, 2):
            allowed = "an even whole number from 2 to 128"
            raise ValueError(f"head_dim={head_dim!r} is not allowed: {allowed}")
        self.head_dim = head_dim
        if shows is None:
            shows = "scaled" if scaled else "clocks" if base is not None else "hands"
        if position is None:
            position = 12 if shows == "hands" else 1024
        super().__init__(shows=shows, distance=distance, position=position, base=base)

    def scene(
        self, paper: Paper, *, shows: str, distance: int, position: int, base: float
    ) -> Scene:
        if shows == "hands":
            return self._hands(paper, position, distance)
        state = self.head_dim, base, shows == "scaled", position
        pitch = (paper.width - 8) / 8 if paper.narrow else paper.width * 0.056
        draw_clocks(paper, *state, pitch)
        box = {"left": 40, "top": paper.height + 40, "height": 240}
        if not paper.narrow:
            box = {"left": 8 * pitch + 68, "top": 26, "height": 308}
        draw_score(paper, *state, **box)
        title = headline(*state)
        return Scene(
            title=title,
            notes=ABOUT_SCORE,
            table=table_rows(*state),
            say=f"{title}. Score at this distance: {score_at(*state):.3f}.",
            facts={"score": f"{score_at(*state):.6f}"},
        )

    def _hands(self, paper: Paper, position: int, distance: int) -> Scene:
        state = self.head_dim, BASES[1], position, distance
        hands.draw_hands(paper, *state)
        return Scene(
            title=hands.headline(*state),
            notes=[hands.note(self.head_dim, BASES[1])],
            table=hands.table_rows(*state),
            facts={"score": f"{sum(hands.pair_scores(*state)):.6f}"},
        )

    def score(self) -> float:
        """The marked score."""
        if self.shows == "hands":
            return sum(hands.pair_scores(self.head_dim, BASES[1], self.position, self.distance))
        return score_at(self.head_dim, self.base, self.shows == "scaled", self.position)
