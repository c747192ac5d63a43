"""The parts of the model as boxes, from the tokens to the scores; one of them is chosen."""

from widgets.ch01.views.trace import PART_BY_KEY
from widgets.view import Paper

ROWS = (
    ("tok_embeddings",),
    ("attention_norm",),
    ("wq", "wk", "wv"),
    ("rope_q", "rope_k", ""),
    ("inner_attention",),
    ("wo",),
    ("attention_add",),
    ("ffn_norm",),
    ("w1", "w3"),
    ("gated",),
    ("w2",),
    ("ffn_add",),
    ("norm",),
    ("output",),
)
PITCH, HIGH = 27, 21  # pixels from row to row, and of a box
ROOM_ABOVE = {"attention_norm": 14, "ffn_norm": 5, "norm": 10}
SHORT = {"wq": "wq", "wk": "wk", "wv": "wv", "rope_q": "RoPE q", "rope_k": "RoPE k"}
WIRES = (
    ("tok_embeddings", "attention_norm"),
    *(("attention_norm", key) for key in ("wq", "wk", "wv")),
    ("wq", "rope_q"),
    ("wk", "rope_k"),
    *((key, "inner_attention") for key in ("rope_q", "rope_k", "wv")),
    ("inner_attention", "wo"),
    ("wo", "attention_add"),
    ("attention_add", "ffn_norm"),
    *(("ffn_norm", key) for key in ("w1", "w3")),
    *((key, "gated") for key in ("w1", "w3")),
    ("gated", "w2"),
    ("w2", "ffn_add"),
    ("ffn_add", "norm"),
    ("norm", "output"),
)
ROLES = {
    "tok_embeddings": "embedding",
    **dict.fromkeys(("attention_norm", "ffn_norm", "norm"), "norm"),
    **dict.fromkeys(("wq", "rope_q"), "query"),
    **dict.fromkeys(("wk", "rope_k"), "key"),
    "wv": "value",
    **dict.fromkeys(("inner_attention", "wo"), "attention"),
    **dict.fromkeys(("w1", "w3", "gated", "w2"), "feed_forward"),
    "output": "output",
}
"""The colour of every part, the same in the whole course; the stream itself has none."""
BYPASSES = (("attention_norm", "attention_add"), ("ffn_norm", "ffn_add"))
"""The stream passes both halves of a block by: from above one part into another."""
PALE = ("key", "embedding", "norm", "output", "feed_forward")  # dark words stand on these
Box = tuple[float, float, float, float]


def role_of(key: str) -> str:
    """The colour of a part's box and of the numbers that come out of it."""
    return ROLES.get(key, "main")


def boxes(width: float) -> dict[str, Box]:
    """Left, top, width and height of every part in a diagram so wide."""
    left, room, y = 24.0, width - 34.0, 2.0
    found = {}
    for row in ROWS:
        y += ROOM_ABOVE.get(row[0], 0)
        wide = (room - 6 * (len(row) - 1)) / len(row)
        for i, key in enumerate(row):
            if key:
                found[key] = (left + i * (wide + 6), y, wide, float(HIGH))
        y += PITCH
    return found


def draw_diagram(paper: Paper, chosen: str, caption: str, width: float) -> None:
    """All parts and what flows between them; caption: which block it is."""
    at = boxes(width)
    top, low = at["attention_norm"][1] - 22, at["ffn_add"][1] + HIGH + 7
    frame = {"stroke": "quiet", "stroke_dasharray": "4 4"}
    paper.rect(2, top, width - 4, low - top, "none", round=8, **frame)
    for start, end in WIRES:
        narrower = min(at[start], at[end], key=lambda box: box[2])
        x = narrower[0] + narrower[2] / 2
        paper.line(x, at[start][1] + HIGH, x, at[end][1], "soft", width=1.5)
    for before, into in BYPASSES:
        (x, y, wide, _), end = at[before], at[into][1] + HIGH / 2
        path = [(x + wide / 2, y - 4), (13, y - 4), (13, end), (x, end)]
        paper.path(path, "soft", width=1.5)
    paper.text(width - 10, top + 14, caption, "soft", size=12, anchor="end", halo=True)
    for key, (x, y, wide, high) in at.items():
        part, here = PART_BY_KEY[key], key == chosen
        hue = ROLES.get(key, "soft")
        look = {"stroke": "ink", "stroke_width": 3} if here else {"stroke": hue, "stroke_width": 2}
        with paper.group(key=key, put=("part", key), tip=f"{part.label}: {part.does}"):
            paper.rect(x, y, wide, high, role_of(key) if here else "tint", round=5, **look)
            on_hue = "on_light" if hue in PALE else "on_dark"
            words, role = SHORT.get(key, part.label), on_hue if here else "ink"
            style = {"size": 13, "anchor": "middle", "bold": here}
            paper.text(x + wide / 2, y + high / 2 + 4.5, words, role, **style)
