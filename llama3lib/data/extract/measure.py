"""How much of each element is text, link and prose: what the choice of the main text goes by."""

import re

from llama3lib.data.extract.tree import BLOCKS, Element

NEVER = frozenset(
    "audio canvas datalist dialog embed head iframe input map menu option script select style svg "
    "template textarea video".split()
)
"""What is never read."""
_ASIDE = frozenset("button noscript object".split())
LONG, OVERHEAD = 80, 40
"""A paragraph counts from so many characters on, less what any paragraph has."""
MOST_LINKED = 0.4
"""Share of links that a paragraph may have."""
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)


def is_hidden(element: Element) -> bool:
    """Whether it is no part of what a browser shows first: by tag, attribute or its own style."""
    has = element.attributes
    if element.tag in _ASIDE or "hidden" in has or has.get("aria-hidden") == "true":
        return True
    return "style" in has and bool(_HIDDEN.search(has["style"]))


def measure(root: Element) -> list[Element]:
    """Set `chars`, `linked`, `prose` of all elements; take out what is hidden or never read.

    `chars`: characters of text. `linked`: those in links. `prose`: of paragraphs that are long and
    not made of links. Returns the hidden elements that hold prose: some pages are all hidden until
    a script shows them, or stand in a button that was never closed.
    """
    hidden: list[Element] = []
    _measure(root, hidden, linked=False)
    return hidden


def _measure(element: Element, hidden: list[Element], linked: bool) -> tuple[int, int]:
    """Characters, and those in links, of the text that belongs to the paragraph around it."""
    linked = linked or (element.tag == "a" and "href" in element.attributes)
    own = links = chars = inner_links = prose = 0
    for part in element.parts:
        if isinstance(part, str):
            size = len(part.strip())
            own += size
            links += size * linked
            continue
        if part.tag in NEVER:
            part.out = True
            continue
        more, more_links = _measure(part, hidden, linked)
        if is_hidden(part):
            part.out = True
            if part.prose:
                hidden.append(part)
            continue
        own, links = own + more, links + more_links
        chars += part.chars - more
        inner_links += part.linked - more_links
        prose += part.prose
    element.chars, element.linked = chars + own, inner_links + links
    if element.tag in BLOCKS:
        prose += _prose(own, links, element.tag)
        own = links = 0
    element.prose = prose
    return own, links


def _prose(own: int, links: int, tag: str) -> int:
    """What a paragraph of so many characters counts for; code counts as it is."""
    if tag == "pre":
        return own
    return own - links - OVERHEAD if own >= LONG and links <= MOST_LINKED * own else 0


def take_out(element: Element) -> None:
    """Leave an element out; all around it have so much less."""
    element.out = True
    _add(element, -1)


def bring_back(element: Element) -> None:
    """The opposite of `take_out`."""
    element.out = False
    _add(element, 1)


def _add(element: Element, sign: int) -> None:
    above = element.parent
    while above is not None:
        above.chars += sign * element.chars
        above.linked += sign * element.linked
        above.prose += sign * element.prose
        above = above.parent
