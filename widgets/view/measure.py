"""How wide text is, from a table, so that a picture can be laid out where no browser is.

The widths are those of DejaVu Sans, the widest of the fonts a page falls back to: what fits in it
fits in the others.
"""

FONT = "system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif"
# characters by width, in hundredths of the font size
_WIDTHS = {
    28: "ijlI|",
    32: " ,.·",
    34: "f:;!'-",
    39: "rt()[]J\\/",
    48: '"',
    52: "sz",
    55: "ckxvy?",
    61: "aeghnoqupbdL_F",
    64: "0123456789$*^EPTYZSXKCV",
    70: "ABRU&",
    77: "DGHNO+=<>~Q≈×",
    84: "wm#@",
    97: "MW%",
}
_OF = {sign: width / 100 for width, signs in _WIDTHS.items() for sign in signs}
_LATIN = 0x250  # beyond it a sign may come from a wider font
BOLD = 1.1


def text_width(words: str, size: float, *, bold: bool = False) -> float:
    """Width of a line of text in pixels."""
    ems = sum(_OF.get(sign, 0.64 if ord(sign) < _LATIN else 1.0) for sign in words)
    return ems * size * (BOLD if bold else 1.0)


def wrap(words: str, size: float, width: float, *, bold: bool = False) -> list[str]:
    """Lines no wider than `width`, broken at spaces; a word that is wider stands alone."""
    lines: list[str] = []
    for word in words.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, size, bold=bold) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def shorten(words: str, size: float, width: float) -> str:
    """The beginning of a text with … if the whole is too wide."""
    if text_width(words, size) <= width:
        return words
    while words and text_width(words + "…", size) > width:
        words = words[:-1]
    return words.rstrip() + "…"
