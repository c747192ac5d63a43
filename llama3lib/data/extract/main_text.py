"""Which part of a page is its main text: menus, frames, comments and teasers are taken out.

What counts is where the prose is. Words in classes and ids only give a hint: they take away no
block that holds most of the prose, and an id made from a heading says nothing of a frame. A page
with little prose is a listing (a front page, a category, search results): its links are its text.
"""

import re
from collections import defaultdict
from collections.abc import Callable
from operator import attrgetter

from llama3lib.data.extract.measure import bring_back, measure, take_out
from llama3lib.data.extract.tree import BLOCKS, HEADINGS, Element

_FRAME_TAGS = frozenset("aside footer nav".split())
_FRAME_ROLES = frozenset(
    "alert alertdialog banner complementary contentinfo dialog menu menubar navigation search "
    "tooltip".split()
)
_FRAME_WORDS = frozenset(
    "ad ads advert advertisement consent cookie cookies footer gdpr lightbox login masthead "
    "megamenu modal newsletter popup promo promotion recommendations recommended related sidebar "
    "signup sponsor sponsored subscribe subscription".split()
)
_NUMBER_WORDS = frozenset("gutter lineno linenos".split())  # of lines of code
_COMMENT_WORDS = frozenset("comment commentlist comments disqus respond".split())
# these take away only what has no prose: many a wrapper is called so
_SOFT_WORDS = frozenset(
    "banner breadcrumb breadcrumbs dropdown menu nav navbar navigation pager pagination share "
    "sharing skip social submenu toolbar tooltip widget".split()
)
# "c9ad4f" holds no word, but "sidebar1" does
_WORD = re.compile(r"(?<!\d)(?:[A-Z]?[a-z]+|[A-Z]+(?![a-z]))(?!\d+[a-z])")
_MAIN = re.compile(
    r"(?:article|entry|main|page|post|story|text)[-_]*(?:body|content|copy|text)"
    r"|(?:^|\s)(?:article|body|content|entry|hentry|markdown-body|mw-parser-output|post|prose"
    r"|story|text)(?:$|\s)",
    re.IGNORECASE,
)
_PARAGRAPHS = HEADINGS | frozenset("blockquote dd dl li ol p pre table tbody tr ul".split())
_NO_TEASERS = HEADINGS | frozenset("dd dt p pre tbody td tr".split())
_ENOUGH = 250  # characters of prose that are a text of their own
_TEASER = 500  # the longest teaser of another page
_LISTING = 0.3  # share of prose below which a page is a listing


def find_main_text(root: Element) -> tuple[Element, bool]:
    """Measure a page and take out what is not its main text.

    Returns the element that holds it, and whether it is a listing, whose links are to be read.
    """
    hidden = measure(root)
    _unhide(root, hidden)
    _drop_frames(root)
    part = _main_part(root, attrgetter("prose"))
    if _is_listing(root, part):
        return _main_part(root, attrgetter("chars")), True
    if part.prose > _ENOUGH:
        _drop_links(part)
        _drop_teasers(part)
    return part, False


def _unhide(root: Element, hidden: list[Element]) -> None:
    """Of a page that is hidden until a script shows it, read the large parts."""
    if sum(element.prose for element in hidden) <= root.prose:
        return
    most = max(element.prose for element in hidden)
    for element in hidden:
        if element.prose > 0.2 * most and element.prose > _ENOUGH:
            bring_back(element)


def _drop_frames(root: Element) -> None:
    """Take out frames, then comments, but nothing that holds most of the page's text."""
    prose, chars = root.prose, root.chars - root.linked
    frames, comments, stack = [], [], [root]
    while stack:
        for element in stack.pop().children():
            plain = element.chars - element.linked
            most = 2 * element.prose > prose if prose else 2 * plain > chars
            if most and 4 * plain > chars:
                stack.append(element)
            elif _is_frame(element):
                frames.append(element)
                take_out(element)
            elif _words(element) & _COMMENT_WORDS and element.tag not in HEADINGS:
                comments.append(element)
                take_out(element)
            else:
                stack.append(element)
    if root.prose >= _ENOUGH:
        return
    # names that take nearly all mean something else here; a page of comments is a discussion
    plain = sum(element.chars - element.linked for element in frames if element.prose)
    if 2 * plain > chars:
        comments += frames
    if sum(element.prose for element in comments) > root.prose:
        for element in comments:
            if element.prose:
                bring_back(element)


def _is_frame(element: Element) -> bool:
    """Whether an element looks like the frame of a page, by its tag, role or name."""
    tag, has = element.tag, element.attributes
    if tag in HEADINGS:
        return False
    if tag in _FRAME_TAGS or tag == "figcaption" or has.get("role", "").lower() in _FRAME_ROLES:
        return True
    if tag == "form" and not element.prose:
        return True
    if tag == "header" and element.parent is not None and element.parent.tag != "article":
        return not element.prose and all(below.tag != "h1" for below in element.walk())
    if tag in ("html", "body", "main", "article"):
        return False
    words = _words(element)
    if words & _NUMBER_WORDS:
        return not any(map(str.isalpha, element.text()))
    return bool(words & _FRAME_WORDS) or (not element.prose and bool(words & _SOFT_WORDS))


def _words(element: Element) -> frozenset[str]:
    """The words of an element's class, and of its id unless that is made from a heading."""
    has = element.attributes
    named = has.get("class", "")
    if "id" in has and element.tag in ("div", "section", "ul") and not _spells_heading(element):
        named += " " + has["id"]
    return frozenset(map(str.lower, _WORD.findall(named))) if named else frozenset()


def _spells_heading(element: Element) -> bool:
    """Whether the id is the first heading's text, as Pandoc, Sphinx and GitHub make them."""
    for below in element.walk():
        if below.tag in HEADINGS:
            wanted = _letters(element.attributes["id"])
            return bool(wanted) and _letters(below.text()).startswith(wanted)
    return False


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text.lower()))


def _main_part(root: Element, size: Callable[[Element], int]) -> Element:
    """Go down to the element that holds nearly all, unless others like it stand beside it."""
    node = root
    while filled := [element for element in node.children() if size(element)]:
        best = max(filled, key=size)
        alike = [e for e in filled if _kind(e) == _kind(best) and e is not best]
        share = 0.6 if _says_main(best) else 0.85
        if (
            (best.tag in _PARAGRAPHS and not any(map(_says_main, best.children())))
            or sum(map(size, alike)) > 0.1 * size(best)
            or size(best) < share * size(node)
        ):
            break
        node = best
    return node


def _is_listing(root: Element, part: Element) -> bool:
    """Whether a page lists others: its best part has little prose, and it is no article's.

    Among many links to others even a long article is little: pages say by Open Graph's `og:type`
    that they are one. Of pages with a single paragraph that is not believed.
    """
    if root.chars < _ENOUGH or part.prose >= _LISTING * root.chars:
        return False
    paragraphs = sum(element.tag == "p" and element.prose > 0 for element in part.walk())
    return paragraphs < 2 or not any(map(_says_article, root.walk()))


def _says_article(element: Element) -> bool:
    has = element.attributes
    named = element.tag == "meta" and has.get("property", has.get("name")) == "og:type"
    return named and has.get("content", "").strip().lower() == "article"


def _kind(element: Element) -> tuple[str, str | None]:
    return element.tag, element.attributes.get("class")


def _says_main(element: Element) -> bool:
    has = element.attributes
    if element.tag in ("article", "main") or has.get("role") in ("article", "main"):
        return True
    return has.get("itemprop") == "articleBody" or bool(
        _MAIN.search(has.get("class", "")) or _MAIN.search(has.get("id", ""))
    )


def _drop_links(root: Element) -> None:
    """Take out blocks that are mostly links and have no prose."""
    stack = [root]
    while stack:
        for element in stack.pop().children():
            if element.tag not in BLOCKS or element.tag in HEADINGS or element.prose:
                stack.append(element)
            elif element.chars and element.linked > 0.6 * element.chars:
                take_out(element)
            else:
                stack.append(element)


def _drop_teasers(root: Element) -> None:
    """Take out rows of teasers: three or more blocks alike, short, each with a link elsewhere."""
    stack = [root]
    while stack:
        element = stack.pop()
        rows: dict[tuple, list[Element]] = defaultdict(list)
        for below in element.children():
            rows[_kind(below)].append(below)
        for row in rows.values():
            teasers = [below for below in row if _is_teaser(below)]
            prose = sum(below.prose for below in teasers)
            if len(teasers) >= max(3, 0.7 * len(row)) and prose <= 0.6 * root.prose:
                if root.prose - prose >= 2 * _ENOUGH:
                    for below in teasers:
                        take_out(below)
        stack += element.children()


def _is_teaser(element: Element) -> bool:
    if element.tag not in BLOCKS or element.tag in _NO_TEASERS:
        return False
    return 0 < element.chars - element.linked < _TEASER and any(
        below.tag == "a" and below.chars >= 15 and not _stays(below) for below in element.walk()
    )


def _stays(link: Element) -> bool:
    """Whether a link leads nowhere else."""
    return link.attributes.get("href", "#").startswith("#")
