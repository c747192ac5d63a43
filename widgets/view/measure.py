"""How wide text is, from a table, so that a picture can be laid out where no browser is.

The widths are those of DejaVu Sans, the widest of the fonts a page falls back to: what fits in it
fits in the others.
"""

FONT = "system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif"
# characters by width, in hundredths of the font size
_WIDTHS = {
    28: "'ijl",
    32: " ,.IJ·",
    37: "-/:;\\f|",
    42: "!()[]rt",
    46: '"',
    53: "*_`s–",
    55: "?cz",
    58: "FLk",
    62: "PTYaeovxy",
    66: "$0123456789EKSbdghnpqu{}",
    70: "ABCRVXZ",
    76: "HNU",
    79: "&DGOQ",
    82: "w",
    87: "#+<=>M^~×−≈",
    98: "%m",
    100: "@W",
}
_OF = {sign: width / 100 for width, signs in _WIDTHS.items() for sign in signs}
_LATIN = 0x250  # beyond it a sign may come from a wider font
BOLD = 1.1


def text_width(words: str, size: float, *, bold: bool = False) -> float:
    """Width of a line of text in pixels."""
    ems = sum(_OF.get(sign, 0.64 if ord(sign) < _LATIN else 1.0) for sign in words)
    return ems * size * (BOLD if bold else 1.0)


def wrap(words: str, size: float, width: float, *, bold: bool = False) -> list[str]:
    """Lines no wider than `width`, broken at spaces; a word that is wider is broken too."""
    lines: list[str] = []
    for word in words.split():
        for part in _broken(word, size, width, bold):
            longer = f"{lines[-1]} {part}" if lines else part
            if lines and text_width(longer, size, bold=bold) <= width:
                lines[-1] = longer
            else:
                lines.append(part)
    return lines


def _broken(word: str, size: float, width: float, bold: bool) -> list[str]:
    if text_width(word, size, bold=bold) <= width:
        return [word]
    parts = [""]
    for sign in word:
        if parts[-1] and text_width(parts[-1] + sign, size, bold=bold) > width:
            parts.append("")
        parts[-1] += sign
    return parts


def shorten(words: str, size: float, width: float) -> str:
    """The beginning of a text with … if the whole is too wide."""
    if text_width(words, size) <= width:
        return words
    while words and text_width(words + "…", size) > width:
        words = words[:-1]
    return words.rstrip() + "…"
