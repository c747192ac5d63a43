"""Tokenizers side by side: the same text cut into characters, bytes, and learned pieces.

Type, and each tokenizer cuts the text again. Fewer pieces for the same text is what a vocabulary is
for (section 3.2: 3.17 characters a token before, 3.94 after).
"""

from collections.abc import Mapping, Sequence

from llama3lib.tokenizer import Tokenizer
from widgets.view import Paper, Scene, Text, View
from widgets.view.measure import shorten, text_width
from widgets.view.words import count_of

HEAD, LINE, HIGH = 26, 25, 420
VISIBLE = str.maketrans({"\n": "⏎", " ": "·", "\t": "→"})


def characters(text: str) -> list[str]:
    """One piece for each character."""
    return list(text)


def utf8_bytes(text: str) -> list[str]:
    """One piece for each byte: the letter, or two hexadecimal digits."""
    return [chr(b) if 32 <= b < 127 else f"{b:02x}" for b in text.encode("utf-8", "replace")]


def learned(tokenizer: Tokenizer, text: str) -> list[str]:
    """The tokenizer's pieces; a piece that is only part of a character as hexadecimal digits."""
    pieces = [tokenizer.token_bytes(token) for token in tokenizer.encode(text)]
    return [_shown(piece) for piece in pieces]


def _shown(piece: bytes) -> str:
    try:
        return piece.decode("utf-8")
    except UnicodeDecodeError:
        return piece.hex()


def cut(tokenizers: Mapping[str, Tokenizer], text: str) -> list[dict[str, object]]:
    """The pieces of each way to cut, with the count and the characters per token."""
    ways = {"characters": characters(text), "bytes": utf8_bytes(text)}
    ways |= {name: learned(tokenizer, text) for name, tokenizer in tokenizers.items()}
    return [
        {
            "name": name,
            "pieces": pieces,
            "count": len(pieces),
            "per_token": round(len(text) / len(pieces), 2) if pieces else 0.0,
        }
        for name, pieces in ways.items()
    ]


def headline(rows: list[dict[str, object]]) -> str:
    """The title: what to see."""
    best = min(rows, key=lambda row: row["count"])
    return f"Fewest pieces: {best['name']}, {best['per_token']:.2f} characters a token"


def boxes(pieces: Sequence[str], width: float, lines: int) -> list[tuple[int, float, float, str]]:
    """Line, left edge, width and words of as many pieces as fit, in order.

    If some do not fit, the end of the last line stays free to say so.
    """
    found, line, x = [], 0, 0.0
    for piece in pieces:
        words = shorten(piece.translate(VISIBLE), 14, width - 10)
        wide = max(15.0, text_width(words, 14) + 7)
        if x + wide > width:
            line, x = line + 1, 0.0
        found.append((line, x, wide, words))
        x += wide
    if line < lines:
        return found
    end = width - text_width(f"… and {len(pieces):,} more", 14) - 12
    return [b for b in found if b[0] < lines - 1 or (b[0] == lines - 1 and b[1] + b[2] <= end)]


def draw_pieces(paper: Paper, pieces: Sequence[str], top: float, lines: int) -> float:
    """Pieces as boxes that touch, line by line; returns the lower edge."""
    shown = boxes(pieces, paper.width - 4, lines)
    line, end = 0, 2.0
    for place, (line, x, wide, words) in enumerate(shown):
        odd, y, end = place % 2, top + LINE * line, 2 + x + wide
        paper.rect(2 + x, y, wide, LINE - 3, "sixth" if odd else "paper", round=3, stroke="quiet",
                   fill_opacity=0.28 if odd else None)  # fmt: skip
        paper.text(2 + x + wide / 2, y + 16, words, anchor="middle")
    if more := len(pieces) - len(shown):
        line, x = lines - 1, end + 8 if line == lines - 1 else 2
        paper.text(x, top + LINE * line + 16, f"… and {more:,} more", "soft")
    return top + LINE * (line + 1)


class TokenizerCompare(View):
    """Type a text; every tokenizer cuts it anew.

    tokenizers: by name.
    """

    text = Text("text", most=400)  # a longer one would not fit on a page

    def __init__(self, tokenizers: Mapping[str, Tokenizer], text: str) -> None:
        if not tokenizers:
            raise ValueError("tokenizers is not allowed to be empty")
        self.tokenizers = dict(tokenizers)
        super().__init__(text=text)

    def scene(self, paper: Paper, *, text: str) -> Scene:
        rows = cut(self.tokenizers, text)
        lines = max(1, int((HIGH * (1 + paper.narrow) / len(rows) - HEAD) / LINE))
        low = 0.0
        for row in rows:
            count = count_of(row["count"], "token")
            words = f"{row['name']}: {count}, {row['per_token']:.2f} characters each"
            paper.text(2, low + 16, shorten(words, 14, paper.width - 4), "soft")
            low = draw_pieces(paper, row["pieces"], low + HEAD - 2, lines) + 4
        return Scene(
            title=headline(rows) if text else "No text",
            table=[
                {
                    "way": row["name"],
                    "tokens": f"{row['count']:,}",
                    "characters a token": f"{row['per_token']:.2f}",
                }
                for row in rows
            ],
            facts={"counts": " ".join(str(row["count"]) for row in rows)},
        )
