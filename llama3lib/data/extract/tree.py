"""A page as a tree of elements and texts, in the order in which they stand.

lxml reads what anybody wrote; the tree is ours, for text that stands after an element belongs to
its parent here, and each element carries what is measured of it.
"""

from collections.abc import Iterator

MOST_NESTED = 200
"""How deep elements may stand in one another; the deepest page of ordinary sites has about 60."""

HEADINGS = frozenset("h1 h2 h3 h4 h5 h6".split())
BLOCKS = HEADINGS | frozenset(
    "address article aside blockquote body caption center dd details div dl dt fieldset figcaption "
    "figure footer form header hr html label legend li main nav noscript ol p pre section summary "
    "table tbody td tfoot th thead tr ul".split()
)
"""What begins and ends a line."""


class Element:
    """One element. `parts`: texts and elements in order. `out`: it is not part of the main text.

    `chars`, `linked` and `prose` are set by `measure.measure`.
    """

    __slots__ = ("attributes", "chars", "linked", "out", "parent", "parts", "prose", "tag")

    def __init__(self, tag: str, attributes: dict[str, str], parent: "Element | None") -> None:
        self.tag, self.attributes, self.parent = tag, attributes, parent
        self.parts: list[str | Element] = []
        self.out = False
        self.chars = self.linked = self.prose = 0

    def children(self) -> "list[Element]":
        """The elements right below that are part of the main text."""
        return [part for part in self.parts if not isinstance(part, str) and not part.out]

    def walk(self) -> "Iterator[Element]":
        """This element and all below it, in order, those that are out too."""
        stack = [self]
        while stack:
            element = stack.pop()
            yield element
            stack += [part for part in reversed(element.parts) if not isinstance(part, str)]

    def text(self) -> str:
        """All text below, scripts too."""
        return "".join(p for e in self.walk() for p in e.parts if isinstance(p, str))


class _Builder:
    """What lxml tells its events to."""

    def __init__(self) -> None:
        self.root = self.place = Element("", {}, None)
        self.depth = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self.depth += 1
        if self.depth > MOST_NESTED + 2:  # html and body are always there
            raise ValueError(f"nested deeper than {MOST_NESTED} elements")
        element = Element(tag, dict(attributes), self.place)
        self.place.parts.append(element)
        self.place = element

    def end(self, tag: str) -> None:
        self.depth -= 1
        self.place = self.place.parent or self.root

    def data(self, text: str) -> None:
        self.place.parts.append(text)

    def close(self) -> Element:
        return self.root


def parse(page: str) -> Element:
    """The tree of an HTML page; its root has no tag.

    Raises ValueError if elements are nested deeper than `MOST_NESTED`: no honest page is, and
    parsers go slow or deep on it.
    """
    from lxml import etree

    data = page.replace("\x00", "").replace("\r\n", "\n").encode("utf-8", "replace")
    parser = etree.HTMLParser(target=_Builder(), encoding="utf-8")
    parser.feed(data or b" ")
    return parser.close()
