"""The main text of a tree as lines: blocks, rows of tables, code as it stands."""

import re
from dataclasses import dataclass, field

from llama3lib.data.extract.formulas import formula_of, image_text, is_formula_image
from llama3lib.data.extract.tree import BLOCKS, HEADINGS, Element
from llama3lib.data.invisible import drop_invisible

_BREAK = "\u2028"  # a line break that white space in the source is not
_SPACE = re.compile(r"[ \t\r\n\f\v\u00a0]+")
_LAYOUT = HEADINGS | {"pre", "table"}
_SAID = 60
_MOST_SPANNED = 100  # columns or rows of one cell: nobody's table is wider, but a bomb may say so
_MARK = re.compile(r"[#§¶\U0001f517]?")  # the link of a heading to itself


@dataclass
class Block:
    """A line of text in the making, with the share of it that is link text."""

    element: Element
    parts: list[str] = field(default_factory=list)
    linked: int = 0
    verbatim: bool = False
    pictures: list[str] = field(default_factory=list)

    def text(self) -> str:
        """The text as it will stand; "" for a line of pictures only."""
        whole = "".join(self.parts)
        if self.verbatim:
            return whole.replace(_BREAK, "\n").strip("\n")
        if self.pictures and not self._has_words(whole):
            return ""
        whole = _SPACE.sub(" ", drop_invisible(whole))
        lines = (line.strip() for line in whole.split(_BREAK))
        return "\n".join(line for line in lines if line)

    def is_menu(self, text: str) -> bool:
        """Short lines that are mostly links are ways through the site, not text."""
        if self.verbatim or self.element.tag in HEADINGS:
            return False
        return self.linked > 0.6 * len(text) and len(text) < 120

    def _has_words(self, whole: str) -> bool:
        for picture in self.pictures:
            whole = whole.replace(picture, "", 1)
        return bool(whole.strip(_BREAK + " \t\n"))


class Renderer:
    """Walks what is not out and collects blocks. `code`: the lines that stand in `pre`.

    links: whether lines of links are text, too.
    """

    def __init__(self, links: bool = False) -> None:
        self.lines: list[str] = []
        self.code: list[str] = []
        self._links = links
        self._block: Block | None = None
        self._group: Element | None = None  # of the rows that the last one belongs to
        self._covered: dict[int, int] = {}  # rows of it that a cell above reaches into, by column

    def render(self, root: Element) -> None:
        """Add the lines of an element."""
        self._begin(root, verbatim=False)
        self._walk(root, linked=False, verbatim=root.tag == "pre")
        self._close()

    def _begin(self, element: Element, verbatim: bool) -> None:
        self._close()
        self._block = Block(element, verbatim=verbatim)

    def _close(self) -> None:
        block, self._block = self._block, None
        if block is None:
            return
        text = block.text()
        if not text or (not block.verbatim and not text.strip()):
            return
        if not self._links and block.is_menu(text):
            return
        if block.verbatim:
            self.code += text.split("\n")
        elif len(text) >= _SAID and text in self.lines[-4:]:
            return  # a gallery says the same of each picture
        self.lines.append(text)

    def _walk(self, element: Element, linked: bool, verbatim: bool) -> None:
        linked = linked or (element.tag == "a" and "href" in element.attributes)
        for part in element.parts:
            if isinstance(part, str):
                self._add(part, linked, verbatim)
            elif part.tag == "br":
                self._block.parts.append("\n" if verbatim else _BREAK)
            elif (formula := formula_of(part)) is not None:
                self._add(formula, linked, verbatim=True)
            elif part.out or _points_to_itself(part):
                continue
            elif part.tag == "img":
                self._picture(part)
            elif part.tag == "tr" and not verbatim and _is_row_of_data(part):
                self._row(part)
                self._begin(element, verbatim)
            elif part.tag in BLOCKS and not verbatim:
                self._begin(part, part.tag == "pre")
                self._walk(part, linked, part.tag == "pre")
                self._begin(element, verbatim)
            else:
                self._inline(part, linked, verbatim)

    def _inline(self, element: Element, linked: bool, verbatim: bool) -> None:
        """An element within a line; in code a block begins a line of its own."""
        block = verbatim and element.tag in BLOCKS
        if block and self._block.parts and not self._block.parts[-1].endswith("\n"):
            self._block.parts.append("\n")
        self._walk(element, linked, verbatim)
        if block and self._block.parts and not self._block.parts[-1].endswith("\n"):
            self._block.parts.append("\n")

    def _add(self, text: str, linked: bool, verbatim: bool) -> None:
        self._block.parts.append(text if verbatim else _SPACE.sub(" ", text))
        self._block.linked += len(text.strip()) * linked

    def _picture(self, image: Element) -> None:
        if text := image_text(image):
            self._block.parts.append(text)
            if not is_formula_image(image):
                self._block.pictures.append(text)

    def _row(self, row: Element) -> None:
        """The cells of a table's row, set apart by tabs; empty ones keep their place."""
        self._close()
        cells = self._cells(row)
        text = "\t".join(cells)
        menu = len(cells) == 1 and row.linked > 0.6 * len(text) and len(text) < 120
        if text.strip() and (self._links or not menu):
            self.lines.append(text)

    def _cells(self, row: Element) -> list[str]:
        """The texts of a row; a cell that is wide or tall leaves the other places empty."""
        if row.parent is not self._group:
            self._group, self._covered = row.parent, {}
        cells: list[str] = []
        above, self._covered = self._covered, {c: n - 1 for c, n in self._covered.items() if n > 1}
        for cell in row.children():
            while len(cells) in above:
                cells.append("")
            inner = Renderer(links=True)
            inner.render(cell)
            text = " ".join(" ".join(inner.lines).split()) if inner.lines else ""
            here, rows = len(cells), _span(cell, "rowspan")
            cells += [text, *[""] * (_span(cell, "colspan") - 1)]
            if rows > 1:
                self._covered |= dict.fromkeys(range(here, len(cells)), rows - 1)
        while len(cells) in above:
            cells.append("")
        return cells


def _span(cell: Element, name: str) -> int:
    """How many columns or rows a cell takes."""
    told = cell.attributes.get(name, "").strip()
    return max(1, min(int(told), _MOST_SPANNED)) if told.isdecimal() and len(told) < 10 else 1


def _is_row_of_data(row: Element) -> bool:
    """Whether the cells of a row are values, not the columns of a page's layout."""
    for cell in row.children():
        if cell.tag not in ("td", "th"):
            return False
        below = [element.tag for element in cell.walk() if element is not cell]
        if _LAYOUT.intersection(below) or below.count("p") > 1 or cell.chars > 1000:
            return False
    return True


def _points_to_itself(element: Element) -> bool:
    if element.tag != "a" or not element.attributes.get("href", "").startswith("#"):
        return False
    return element.chars <= 1 and bool(_MARK.fullmatch(element.text().strip()))
