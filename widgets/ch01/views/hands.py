"""A query and a key as two hands in the plane of each pair: turned by their positions.

Both are turned with the library's frequencies. The angle between them, and with it the score,
depends on the distance of the two positions alone (§3.2 takes rotary positions over).
"""

import cmath
import math

import torch

from llama3lib.model.rope import rope_frequencies
from widgets.view import Linear, Paper
from widgets.view.words import thousands

QUERY, KEY = cmath.rect(1, math.radians(110)), cmath.rect(1, math.radians(70))
"""Both before they are turned, the same in every pair: of length 1 and 40 degrees apart (ours)."""
MAX_POSITION, MAX_DISTANCE = 64, 32
ARC_POINTS = 24


def pairs_shown(head_dim: int) -> list[int]:
    """Up to four pairs, from the fastest on to those whose hand just moves within 64 tokens."""
    pairs = head_dim // 2
    return list(dict.fromkeys(i * pairs // 8 for i in range(4)))


def hands_at(head_dim: int, base: float, position: int, hand: complex) -> list[complex]:
    """A hand of every pair shown, turned by a position."""
    freqs = rope_frequencies(head_dim, base)[pairs_shown(head_dim)]
    turned = torch.polar(torch.ones_like(freqs), freqs * position) * hand
    return turned.tolist()


def angles_between(head_dim: int, base: float, position: int, distance: int) -> list[float]:
    """Degrees from the key, `distance` tokens back, to the query: above -180, at most 180."""
    queries = hands_at(head_dim, base, position, QUERY)
    keys = hands_at(head_dim, base, position - distance, KEY)
    return [
        math.degrees(cmath.phase(q * k.conjugate())) for q, k in zip(queries, keys, strict=True)
    ]


def pair_scores(head_dim: int, base: float, position: int, distance: int) -> list[float]:
    """The dot product of both hands in every pair shown."""
    queries = hands_at(head_dim, base, position, QUERY)
    keys = hands_at(head_dim, base, position - distance, KEY)
    return [(q * k.conjugate()).real for q, k in zip(queries, keys, strict=True)]


def headline(head_dim: int, base: float, position: int, distance: int) -> str:
    """The title: what to see in this picture."""
    score = sum(pair_scores(head_dim, base, position, distance))
    at = f"Query at {position}, key at {position - distance}: score {score:.2f}"
    if position == distance:
        return f"{at}; play the position, and it stays"
    return f"{at}, as at {distance} and 0: only the distance of {distance} counts"


def note(head_dim: int, base: float) -> str:
    """What the numbers are."""
    count = len(pairs_shown(head_dim))
    return (
        f"{count} of {head_dim // 2} pairs, base {base:,.0f}. Both hands have length 1: the dot "
        "product of a pair is the cosine of its angle, the score their sum."
    )


def table_rows(head_dim: int, base: float, position: int, distance: int) -> list[dict[str, object]]:
    """The dials as a table, one row a pair."""
    state = head_dim, base, position, distance
    freqs = rope_frequencies(head_dim, base).tolist()
    rows = zip(pairs_shown(head_dim), angles_between(*state), pair_scores(*state), strict=True)
    return [
        {
            "pair": pair,
            "radians per token": f"{freqs[pair]:.4g}",
            "query turned by": f"{math.degrees(freqs[pair] * position):,.1f}°",
            "key turned by": f"{math.degrees(freqs[pair] * (position - distance)):,.1f}°",
            "angle between": f"{angle:.1f}°",
            "score": f"{score:.3f}",
        }
        for pair, angle, score in rows
    ]


def draw_hands(paper: Paper, head_dim: int, base: float, position: int, distance: int) -> None:
    """A dial for each pair, two in a row on a telephone; below them the score by distance."""
    shown = pairs_shown(head_dim)
    across = 2 if paper.narrow else 4
    pitch, radius = paper.width / across, 78 if paper.narrow else 88
    angles = angles_between(head_dim, base, position, distance)
    for i, (pair, angle) in enumerate(zip(shown, angles, strict=True)):
        x, y = pitch * (i % across + 0.5), 28 + radius + (2 * radius + 56) * (i // across)
        _draw_dial(paper, (x, y, radius), pair, angle, (head_dim, base, position, distance))
    _draw_score(paper, head_dim, base, position, distance)


def _draw_dial(
    paper: Paper,
    circle: tuple[float, float, float],
    pair: int,
    angle: float,
    state: tuple[int, float, int, int],
) -> None:
    (x, y, radius), (head_dim, base, position, distance) = circle, state
    freq = float(rope_frequencies(head_dim, base)[pair])
    tokens = 2 * math.pi / freq
    turn = f"{tokens:.1f}" if tokens < 100 else thousands(tokens)
    paper.text(
        x, y - radius - 12, f"pair {pair}: {turn} tokens a turn", "soft", size=13, anchor="middle"
    )
    paper.circle(x, y, radius, "paper", stroke="grid", stroke_width=1.5)
    start = cmath.phase(KEY) + freq * (position - distance)
    arc = [
        cmath.rect(0.42 * radius, start + math.radians(angle) * i / ARC_POINTS)
        for i in range(ARC_POINTS + 1)
    ]
    wedge = [(x, y), *((x + p.real, y - p.imag) for p in arc)]
    paper.path(wedge, "none", fill="quiet", fill_opacity=0.5, closed=True, key=f"angle {pair}")
    for name, hand, at in (("key", KEY, position - distance), ("query", QUERY, position)):
        # whole turns too: a hand never travels backwards
        degrees = -math.degrees(cmath.phase(hand) + freq * at)
        words = f"{name} at position {at}: turned by {freq * at:.2f} radians"
        place = {"key": f"{name} {pair}", "transform": f"translate({x:g} {y:g})"}
        with paper.group(tip=words, **place):
            tip, turned = radius - 4, {"transform": f"rotate({degrees:.1f})"}
            with paper.group(**turned):
                line = {"d": f"M0 0H{tip - 11:g}", "stroke": name}
                wide, dash = (4, None) if name == "query" else (2.8, "7 3")
                paper.shape("path", stroke_width=wide, stroke_dasharray=dash, **line)
                paper.shape("path", d=f"M{tip:g} 0l-16 -6.5v13z", fill=name)
    cosine = math.cos(math.radians(angle))
    words = f"{abs(angle):.0f}° apart: {cosine:.2f}".replace("-", "−")
    paper.text(x, y + radius + 22, words, anchor="middle", bold=True)


def _draw_score(paper: Paper, head_dim: int, base: float, position: int, distance: int) -> None:
    """The sum over the pairs at every distance; it does not know the position."""
    count = len(pairs_shown(head_dim))
    top = paper.height + 40
    x = Linear(0, MAX_DISTANCE, "distance in tokens", ticks=range(0, MAX_DISTANCE + 1, 8))
    y = Linear(-count, count, ticks=(-count, 0, count))
    plot = paper.plot(x, y, left=44, top=top, height=92)
    _legend(paper, plot.left, top - 14)
    scores = [
        (d, sum(pair_scores(head_dim, base, MAX_POSITION, d))) for d in range(MAX_DISTANCE + 1)
    ]
    plot.line(scores, "main", width=2.2)
    for at, score in scores:
        tip = f"distance {at}: score {score:.2f}"
        plot.mark(
            "circle", (at, score), "main", size=3, stroke="none", put=("distance", at), tip=tip
        )
    here = distance, sum(pair_scores(head_dim, base, position, distance))
    plot.mark("circle", here, "main", size=7, stroke="ink", stroke_width=2, key="dot")
    plot.paper.text(*_beside(plot.at(*here), plot.right), f"{here[1]:.2f}", bold=True, halo=True)


def _beside(spot: tuple[float, float], right: float) -> tuple[float, float]:
    x, y = spot
    return (x - 48 if x > right - 60 else x + 12), y + 18


def _legend(paper: Paper, x: float, y: float) -> None:
    paper.line(x, y - 5, x + 28, y - 5, "query", width=4)
    paper.text(x + 36, y, "query")
    paper.line(x + 92, y - 5, x + 120, y - 5, "key", width=2.6, dash="7 3")
    paper.text(x + 128, y, "key")
    paper.text(x + 172, y, "score at each distance", "soft")
