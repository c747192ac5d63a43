"""Tokenizers side by side: the same text cut into characters, bytes, and learned pieces.

Type, and each tokenizer cuts the text again. Fewer pieces for the same text is what a vocabulary is
for (section 3.2: 3.17 characters a token before, 3.94 after).
"""

from collections.abc import Mapping
from html import escape

import traitlets

from llama3lib.tokenizer import Tokenizer
from widgets.core.widget import CourseWidget, css, esm

MOST = 400  # characters that are cut; a longer text would not fit on a page


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


class TokenizerCompare(CourseWidget):
    """Type a text; every tokenizer cuts it anew.

    tokenizers: by name. Needs a kernel to follow your typing; a saved page shows the last text.
    """

    _esm = esm("tokenizers")
    _css = css("tokenizers")
    text = traitlets.Unicode().tag(sync=True)
    rows = traitlets.List().tag(sync=True)

    def __init__(self, tokenizers: Mapping[str, Tokenizer], text: str) -> None:
        if not tokenizers:
            raise ValueError("tokenizers is not allowed to be empty")
        self.tokenizers = dict(tokenizers)
        super().__init__()
        self.text = text

    @traitlets.validate("text")
    def _short(self, proposal: dict) -> str:
        return proposal["value"][:MOST]

    @traitlets.observe("text")
    def _cut(self, change: dict) -> None:
        self.rows = cut(self.tokenizers, change["new"])

    def summary(self) -> str:
        return headline(self.rows) if self.text else "No text"

    def table(self) -> list[dict[str, object]]:
        return [
            {"way": row["name"], "tokens": row["count"], "characters a token": row["per_token"]}
            for row in self.rows
        ]

    def static_html(self) -> str:
        """The cut text for pages without a kernel: pieces set apart by thin bars."""
        lines = "".join(
            f"<p><strong>{escape(str(row['name']))}</strong>, {row['count']} tokens:<br>"
            + "<code>"
            + escape("│".join(str(piece).replace("\n", "⏎") for piece in row["pieces"]))
            + "</code></p>"
            for row in self.rows
        )
        return f"<div>{lines}</div>"
