"""How tests read the prose of the chapters: sentences, marked numbers, stored outputs."""

import re
from html import unescape

REWRITTEN: tuple[str, ...] = ("01", "02", "03", "04", "05", "09")
"""Chapters that keep the rules of prose and quiz."""
MARK = re.compile(r"([+−-]?\d[\d,.]*(?:e[+-]?\d+)?)(?:\s?%)?<!-- (\S+) -->")
"""A number of the text that a cell prints, and the cell: 6.66<!-- c812 -->."""


def sentences(source):
    """Sentences of a Markdown text: no headings, tables, code, formulas, or short list items."""
    source = re.sub(r"```.*?```|\$\$.*?\$\$|<!--.*?-->", "", source, flags=re.DOTALL)
    source = re.sub(r"</?(?:details|summary|b)>", "", source)
    found = []
    for paragraph in re.split(r"\n\s*\n|\n(?=\s*(?:[*-]|\d+\.) )|\n(?=#)", source):
        line = " ".join(paragraph.split())
        if not line or line.startswith(("#", "|")) or re.search(r"-\|-|\|.*\|", line):
            continue
        item = re.match(r"(?:[*-]|\d+\.) ", line)
        line = line[item.end() :] if item else line
        parts = re.split(r"(?<=[.?!]) ", line)
        found += [p for p in parts if not (item and len(p.split()) < 5) and p.strip("* ")]
    return found


def texts(book):
    return [cell for cell in book.cells if cell.cell_type == "markdown"]


def printed(cell):
    """All words and numbers that a cell's stored outputs show."""
    shown = []
    for out in cell.get("outputs", ()):
        data = out.get("data", {})
        shown += [out.get("text", ""), data.get("text/plain", ""), data.get("text/html", "")]
        shown.append(data.get("text/markdown", ""))
    return unescape(re.sub(r"<[^>]+>", " ", "\n".join(map(str, shown))))
