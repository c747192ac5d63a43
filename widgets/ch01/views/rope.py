"""Rotary positions: every pair of channels is a clock hand, slow pairs tell far positions apart.

Frequencies come from `llama3lib.model.rope`; the browser computes the same formula (a test holds
both together). The base of 500,000 is the paper's (§3.2); the scaling switch is what the released
Llama 3.1 code does and the paper does not describe.
"""

import math

import torch
import traitlets

from llama3lib.model import RopeScaling
from llama3lib.model.rope import rope_frequencies
from widgets.core.drawing import BLUE, INK, LINE, ORANGE, PURPLE, SOFT, Drawing
from widgets.core.widget import CourseWidget, css, esm

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


def score_curve(head_dim: int, base: float, scaled: bool) -> list[float]:
    """`score_at` for each of `distances()`."""
    turns = torch.outer(
        torch.tensor(distances(), dtype=torch.float64), frequencies(head_dim, base, scaled)
    )
    return turns.cos().mean(dim=1).tolist()


BAND_STYLE = {  # colour of a clock's rim, and its dashes: the pattern says it without colour
    "kept": (BLUE, None),
    "blended": (ORANGE, "5 3"),
    "divided": (PURPLE, "1.5 2.5"),
}
BAND_NAMES = {"kept": "kept", "blended": "blended", "divided": "divided by 8"}
PLOT = {"x": 520, "y": 76, "width": 450, "height": 330, "low": -0.4}


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
    return [(band, f"{found.count(band)} {name}") for band, name in BAND_NAMES.items()]


def draw_rope(head_dim: int, base: float, scaled: bool, position: int) -> str:
    """The static picture, as SVG."""
    score = score_at(head_dim, base, scaled, position)
    clocks = ", ".join(text for _, text in legend(head_dim, base, scaled))
    words = (
        f"Base {base:,.0f}, released scaling {'on' if scaled else 'off'}. "
        f"Clocks of {head_dim // 2} pairs: {clocks}. "
        f"Score at distance {position:,}: {score:.3f}."
    )
    title = headline(head_dim, base, scaled, position)
    picture = Drawing(1000, 510, title=title, description=words)
    picture.text(20, 34, title, size=22, font_weight=600)
    _draw_clocks(picture, head_dim, base, scaled, position)
    _draw_score(picture, head_dim, base, scaled, position)
    return picture.svg()


def clock_middles(pairs: int) -> list[tuple[float, float]]:
    """Middles of the clocks, eight in a row, fastest first."""
    return [(44 + 54 * (i % 8), 104 + 44 * (i // 8)) for i in range(pairs)]


def _draw_clocks(picture: Drawing, head_dim: int, base: float, scaled: bool, position: int) -> None:
    angles = hand_angles(head_dim, base, scaled, position)
    found = bands(head_dim, base) if scaled else ["kept"] * (head_dim // 2)
    picture.text(20, 66, "one clock a pair, fastest first", size=15, fill=SOFT)
    for (x, y), angle, band in zip(clock_middles(head_dim // 2), angles, found, strict=True):
        colour, dashes = BAND_STYLE[band]
        rim = {"fill": "none", "stroke": colour, "stroke_width": 2, "stroke_dasharray": dashes}
        picture.shape("circle", cx=x, cy=y, r=18, **rim)
        tip = (x + 16 * math.cos(angle), y - 16 * math.sin(angle))
        picture.line(x, y, *tip, stroke=INK, stroke_width=2.4)
    for i, (band, text) in enumerate(legend(head_dim, base, scaled)):
        colour, dashes = BAND_STYLE[band]
        x = 36 + 150 * i
        rim = {"fill": "none", "stroke": colour, "stroke_width": 2, "stroke_dasharray": dashes}
        picture.shape("circle", cx=x, cy=470, r=9, **rim)
        picture.text(x + 18, 475, text, size=15)


def plot_point(distance: int, score: float) -> tuple[float, float]:
    """Pixels of one point of the curve; the distance axis is logarithmic."""
    along = math.log(distance) / math.log(MAX_POSITION) if distance > 1 else 0.0
    up = (1 - score) / (1 - PLOT["low"])
    return PLOT["x"] + PLOT["width"] * along, PLOT["y"] + PLOT["height"] * up


def _draw_score(picture: Drawing, head_dim: int, base: float, scaled: bool, position: int) -> None:
    left, right = PLOT["x"], PLOT["x"] + PLOT["width"]
    low = PLOT["y"] + PLOT["height"]
    score = score_at(head_dim, base, scaled, position)
    words = f"score of a key equal to the query: {score:.3f} at distance {position:,}"
    picture.text(left, 66, words, size=15, fill=SOFT)
    for value in (-0.4, 0.0, 0.5, 1.0):
        y = plot_point(1, value)[1]
        picture.line(left, y, right, y, stroke=SOFT if value == 0 else LINE)
        picture.text(left - 8, y + 5, f"{value:g}", anchor="end", size=14, fill=SOFT)
    for distance, name in (
        (1, "1"),
        (64, "64"),
        (1024, "1,024"),
        (8192, "8,192"),
        (131072, "131,072"),
    ):
        x = plot_point(distance, 0)[0]
        picture.line(x, low, x, low + 5, stroke=SOFT)
        picture.text(x, low + 22, name, anchor="middle", size=14, fill=SOFT)
    picture.text((left + right) / 2, low + 46, "distance in tokens", anchor="middle", size=15)
    old = score_curve(head_dim, BASES[0], False)
    _draw_curve(picture, old, stroke=SOFT, stroke_width=1.4, stroke_dasharray="4 4")
    _draw_curve(picture, score_curve(head_dim, base, scaled), stroke=BLUE, stroke_width=2.4)
    x, y = plot_point(position, score)
    picture.line(x, PLOT["y"], x, low, stroke=INK, stroke_dasharray="2 3")
    picture.mark("circle", x, y, 6, fill=BLUE, stroke=INK)
    picture.text(
        left, 475, f"solid: base {base:,.0f}{', scaled' * scaled} · dashed: base 10,000", size=15
    )


def _draw_curve(picture: Drawing, scores: list[float], **style: object) -> None:
    points = [plot_point(d, s) for d, s in zip(distances(), scores, strict=True)]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    picture.shape("path", d=path, fill="none", **style)


def table_rows(head_dim: int, base: float, scaled: bool, position: int) -> list[dict[str, object]]:
    """The clocks as a table, one row a pair."""
    found = bands(head_dim, base) if scaled else ["kept"] * (head_dim // 2)
    freqs = frequencies(head_dim, base, scaled).tolist()
    return [
        {
            "pair": i,
            "radians per token": f"{freq:.4g}",
            "tokens for one turn": _turn_text(2 * math.pi / freq),
            "turns at this position": f"{freq * position / (2 * math.pi):.2f}",
            "scaling": band,
        }
        for i, (freq, band) in enumerate(zip(freqs, found, strict=True))
    ]


def _turn_text(tokens: float) -> str:
    return f"{tokens:.1f}" if tokens < 100 else f"{tokens:,.0f}"


class RopeExplorer(CourseWidget):
    """Turn the clocks of all pairs; see how the score of far tokens depends on the base.

    Works in a saved page: no kernel is asked. position is also the distance of the marked score.
    """

    _esm = esm("rope")
    _css = css("rope")
    position = traitlets.Int(0, min=0, max=MAX_POSITION).tag(sync=True)
    base = traitlets.Float(BASES[1], min=BASES[0], max=BASES[1]).tag(sync=True)
    scaled = traitlets.Bool(False).tag(sync=True)
    head_dim = traitlets.Int(128).tag(sync=True)

    def __init__(
        self,
        position: int = 1024,
        *,
        base: float = BASES[1],
        scaled: bool = False,
        head_dim: int = 128,
    ) -> None:
        super().__init__(position=position, base=base, scaled=scaled, head_dim=head_dim)

    @traitlets.validate("head_dim")
    def _even(self, proposal: dict) -> int:
        value = proposal["value"]
        if value < 2 or value % 2 or value > 128:
            allowed = "an even whole number from 2 to 128"
            raise traitlets.TraitError(f"head_dim={value!r} is not allowed: {allowed}")
        return value

    def score(self) -> float:
        """The marked score."""
        return score_at(self.head_dim, self.base, self.scaled, self.position)

    def summary(self) -> str:
        return headline(self.head_dim, self.base, self.scaled, self.position)

    def table(self) -> list[dict[str, object]]:
        return table_rows(self.head_dim, self.base, self.scaled, self.position)

    def static_svg(self) -> str:
        return draw_rope(self.head_dim, self.base, self.scaled, self.position)
