"""The stored picture: the same pieces, with title and notes around them, on paper of its own."""

import re
from xml.sax.saxutils import escape
from zlib import crc32

from widgets.view.measure import FONT, wrap
from widgets.view.paper import STEM, TEXT, Paper, readable

MARGIN = 16
_TITLE, _NOTE = 19.0, 13.0
_TAG = re.compile(r"<[^>]*>")
_FOR_THE_SCRIPT = re.compile(r""" (?:data-(?:key|tip|put)|aria-label)=(?:"[^"]*"|'[^']*')""")


def static_picture(frame: dict) -> str:
    """One SVG text that is complete by itself: in print, in a repository, in a saved page."""
    (width, height), pieces = frame["size"], "".join(frame["pieces"])
    inner = _TAG.sub(lambda tag: _FOR_THE_SCRIPT.sub("", tag[0]), pieces)  # a third of the size
    head, foot = Paper(width), Paper(width)
    for i, line in enumerate(wrap(frame["title"], _TITLE, width, bold=True)):
        head.text(0, 20 + 25 * i, line, size=_TITLE, bold=True)
    lines = [line for note in frame["notes"] for line in wrap(note, _NOTE, width)]
    for i, line in enumerate(lines):
        foot.text(0, 16 + 18 * i, line, "soft", size=_NOTE)
    top, low = head.height + 8, foot.height if lines else 0
    parts = [(MARGIN, head), (MARGIN + top, inner), (MARGIN + top + height, foot)]
    body = "".join(
        f'<g transform="translate({MARGIN} {y:.1f})">'
        f"{''.join(part.pieces) if isinstance(part, Paper) else part}</g>"
        for y, part in parts
    )
    across, down = width + 2 * MARGIN, round(top + height + low) + 2 * MARGIN
    words = " ".join([frame["title"] + ".", *frame["notes"]])
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {across} {down}" width="{across}" '
        f'height="{down}" role="img" style="max-width:100%;height:auto" font-size="{TEXT}" '
        f'font-family="{FONT}">'
        f"<title>{escape(frame['title'])}</title><desc>{escape(words)}</desc>"
        f'<rect width="{across}" height="{down}" fill="#ffffff"/>{body}</svg>'
    )
    return readable(svg).replace(STEM, f"l3-{crc32(body.encode()):08x}-")
