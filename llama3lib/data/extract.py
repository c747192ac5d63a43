"""HTML to text that is worth learning from (paper section 3.1.1, "text extraction and cleaning").

The paper's own parser is not public. It says what it is tuned for: away with the frame of a page
(menus, footers, notices), keep all of the content, keep the structure of mathematics and code, and
keep the `alt` text of images, because mathematics is often a picture. This one follows these words.
lxml does the parsing; what to keep is decided here.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from llama3lib.data.document import Document, DocumentStep, Drop
from llama3lib.data.invisible import drop_invisible
from llama3lib.data.sandbox import Refused, Sandbox
from llama3lib.utils.require import one_of, require

MOST_NESTED = 200  # the deepest page of ordinary sites has about 60

_NEVER = frozenset(
    "script style noscript template iframe object embed svg canvas nav footer aside form button "
    "select option input textarea dialog menu head audio video map".split()
)
_BLOCKS = frozenset(
    "address article blockquote body caption center dd details div dl dt fieldset figcaption "
    "figure h1 h2 h3 h4 h5 h6 header hr html li main ol p pre section summary table tbody td tfoot "
    "th thead tr ul".split()
)
_FRAME_ROLES = frozenset("navigation banner contentinfo complementary search dialog alert".split())
_FRAME_WORDS = re.compile(
    r"(?:^|[-_\s])(?:nav|navbar|navigation|menu|breadcrumbs?|footer|masthead|sidebar|cookies?|consent"
    r"|gdpr|banner|share|social|subscribe|newsletter|advert|advertisement|ads?|promo|sponsor"
    r"|related|pagination|pager|skip-?link|popup|modal|toolbar)(?:$|[-_\s])",
    re.IGNORECASE,
)
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_MATHS_IMAGE = re.compile(
    r"(?:^|[-_\s])(?:math|tex|latex|formula|equation|mwe-math\S*)", re.IGNORECASE
)
_BREAK = "\u2028"  # a line break that white space in the source is not
_SPACE = re.compile(r"[ \t\r\n\f\v\u00a0]+")
_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]{0,30})([^<>]*)")
_CLOSED_AT_ONCE = re.compile(r"(?:^|[\s\"'])/\Z")  # <path/>, <path d=""/>, but not <a href=x/>
_SCRIPT = re.compile(r"<(/?)script(?![a-z0-9])", re.IGNORECASE | re.ASCII)
# elements without an end, and those that a parser closes by itself
_NEVER_PILED = frozenset(
    "area base br col embed hr img input link meta param source track wbr p li td tr th dt dd "
    "option thead tbody tfoot colgroup rb rp rt html head body script".split()
)


@dataclass
class _Block:
    """A line of text in the making, with the share of it that is link text."""

    parts: list[str] = field(default_factory=list)
    linked: int = 0
    heading: bool = False
    verbatim: bool = False


def extract_text(page: str) -> str:
    """The main text of an HTML page, one block a line; "" if there is none.

    Formulas come as TeX between dollar signs, `pre` keeps its line breaks, an image becomes its
    `alt` text, cells of a table row are set apart by tabs.

    Raises ValueError if elements are nested deeper than `MOST_NESTED`: no honest page is, and
    parsers go slow or deep on it.
    """
    depth = nesting(page)
    if depth > MOST_NESTED:
        raise ValueError(f"nested {depth} deep, at most {MOST_NESTED} allowed")
    tree = _parse(page)
    if tree is None:
        return ""
    blocks = list(_blocks(_main_part(tree)))
    lines = [text for block in blocks if (text := _as_text(block)) and not _is_menu(block, text)]
    return "\n".join(lines)


def nesting(page: str) -> int:
    """How deep the open tags pile up; a quick count that needs no parser."""
    depth = deepest = 0
    for closing, name, rest in _TAG.findall(_without_scripts(page)):
        if name.lower() in _NEVER_PILED or _CLOSED_AT_ONCE.search(rest[-2:]):
            continue
        depth = max(0, depth - 1) if closing else depth + 1
        deepest = max(deepest, depth)
    return deepest


def _without_scripts(page: str) -> str:
    """The page without what stands in `script`, where tags are only strings."""
    kept, place, inside = [], 0, False
    for mark in _SCRIPT.finditer(page):
        if inside == bool(mark[1]):  # the one that is waited for
            kept.append("" if inside else page[place : mark.start()])
            place, inside = mark.start(), not inside
    return "".join([*kept, "" if inside else page[place:]])


def _parse(page: str) -> Any:
    from lxml import etree, html

    parser = html.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True)
    data = page.replace("\x00", "").encode("utf-8", "replace")
    try:
        return html.document_fromstring(data, parser=parser)
    except (etree.ParserError, etree.XMLSyntaxError, ValueError, AssertionError):
        return None  # nothing in it, or nothing that is markup


def _main_part(tree: Any) -> Any:
    """The one `main` or `article` of a page if it holds a good share of the text."""
    whole = _length(tree)
    for path in (".//main", ".//article", ".//*[@role='main']"):
        found = tree.findall(path)
        if len(found) == 1 and _length(found[0]) > 0.25 * whole:
            return found[0]
    return tree


def _length(root: Any) -> int:
    """Characters of text below an element; programs and style sheets are none."""
    return sum(
        len(node.tail or "") * (node is not root)
        + len(node.text or "") * (node.tag not in ("script", "style"))
        for node in root.iter()
    )


def _blocks(root: Any) -> Iterator[_Block]:
    """Walk the tree without recursion; yield a block wherever a block element begins or ends."""
    block = _Block()
    most = _length(root) / 2
    links = preformatted = 0
    stack: list[tuple[Any, bool]] = [(root, True)]
    while stack:
        node, entering = stack.pop()
        tag = node.tag if isinstance(node.tag, str) else ""
        if not entering:
            links -= tag == "a"
            preformatted -= tag == "pre"
            if tag in _BLOCKS and tag not in ("td", "th"):
                yield block
                block = _Block(verbatim=preformatted > 0)
            if node is not root:
                _add(block, node.tail, links, preformatted)
            continue
        ready = _replacement(node, tag)
        if ready is not None or not tag or _is_frame(node, tag, most):
            _add(block, ready, links, 1)
            if node is not root:
                _add(block, node.tail, links, preformatted)
            continue
        if tag in ("td", "th"):
            block.parts.append("\t")
        elif tag in _BLOCKS:
            yield block
            block = _Block(heading=tag in ("h1", "h2", "h3", "h4", "h5", "h6"))
        links += tag == "a"
        preformatted += tag == "pre"
        block.verbatim = preformatted > 0
        _add(block, node.text, links, preformatted)
        stack.append((node, False))
        stack.extend((child, True) for child in reversed(node))
    yield block


def _add(block: _Block, text: str | None, links: int, preformatted: int) -> None:
    if not text:
        return
    text = text if preformatted else _SPACE.sub(" ", text)
    block.parts.append(text)
    block.linked += len(text.strip()) if links > 0 else 0


def _replacement(node: Any, tag: str) -> str | None:
    """What stands for an element as a whole: formulas, pictures, line breaks; else None."""
    if tag == "br":
        return _BREAK
    if tag == "img":
        alt = _SPACE.sub(" ", node.get("alt") or "").strip()
        if not alt:
            return ""
        return f"${alt}$" if _MATHS_IMAGE.search(node.get("class") or "") else f" {alt} "
    if tag == "math":
        return f"${_tex_of(node)}$" if _tex_of(node) else None
    if tag == "script" and (node.get("type") or "").startswith("math/tex"):
        display = "mode=display" in (node.get("type") or "")
        return ("$${}$$" if display else "${}$").format((node.text or "").strip())
    if tag in ("sup", "sub") and not len(node) and (node.text or "").strip():
        text = node.text.strip()
        sign = "^" if tag == "sup" else "_"
        return sign + (text if len(text) == 1 else f"{{{text}}}") if len(text) <= 12 else None
    return None


def _tex_of(node: Any) -> str:
    """TeX source that a MathML element carries along, or ""."""
    for note in node.iter("annotation"):
        if "tex" in (note.get("encoding") or "").lower() and note.text:
            return _SPACE.sub(" ", note.text).strip()
    return (node.get("alttext") or "").strip()


def _is_frame(node: Any, tag: str, most: float) -> bool:
    """Whether an element belongs to the frame of the page, not to what it says.

    A class name alone does not make a frame of what holds more than `most` characters: many a
    wrapper around the whole page is called `has-sidebar`.
    """
    if tag in _NEVER or node.get("hidden") is not None or node.get("aria-hidden") == "true":
        return True
    if (node.get("role") or "").lower() in _FRAME_ROLES or _HIDDEN.search(node.get("style") or ""):
        return True
    if tag in ("html", "body", "main", "article"):
        return False
    if tag == "header" and node.getparent() is not None and node.getparent().tag != "article":
        return node.find(".//h1") is None
    named = f"{node.get('class') or ''} {node.get('id') or ''}"
    return bool(_FRAME_WORDS.search(named)) and _length(node) <= most


def _as_text(block: _Block) -> str:
    text = "".join(block.parts)
    if block.verbatim:
        text = text.replace(_BREAK, "\n").replace("\r\n", "\n")
        lines = [line.rstrip() for line in text.split("\n")]
        return "\n".join(lines).strip("\n")
    cells = [_SPACE.sub(" ", cell).strip() for cell in re.split(r"\t", drop_invisible(text))]
    joined = "\t".join(cell for cell in cells if cell)
    lines = [line.strip() for line in re.split(f" ?{_BREAK} ?", joined)]
    return "\n".join(line for line in lines if line)


def _is_menu(block: _Block, text: str) -> bool:
    """Short lines that are mostly links are ways through the site, not text."""
    if block.heading or block.verbatim:
        return False
    return block.linked > 0.6 * len(text) and len(text) < 120


# Markdown markers; the paper takes them out since a model trained on the web does worse with them
_FENCE = re.compile(r"^(?:```|~~~)[^\n`]{0,40}$", re.MULTILINE)
_LINE_MARKS = re.compile(r"^[ ]{0,3}(?:#{1,6}[ \t]+|>[ \t]?|[-*+][ \t]+(?=\S))", re.MULTILINE)
_RULE = re.compile(
    r"^[ ]{0,3}(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})$\n?", re.MULTILINE
)
_UNDERLINE = re.compile(r"^(?:={3,}|-{3,})[ \t]*$\n?", re.MULTILINE)
# not amid a word: `x**2 + y**2` and `author__name__is` are no emphasis
_BOTH_SIDES = re.compile(
    r"(?:(?<![A-Za-z0-9)\]])(\*\*)|(?<![\w_])(__))(?=\S)([^*_\n]{1,500}?)(?<=\S)"
    r"(?:\1(?![A-Za-z0-9])|\2(?![\w(]))"
)
_ITALIC = re.compile(r"(?<![\w*])\*(?=\S)([^*\n]{1,500}?)(?<=\S)\*(?![\w*])")
_CODE = re.compile(r"`([^`\n]{1,500})`")
_LINK = re.compile(r"!?\[([^\[\]\n]{0,500})\]\([^()\s]{1,2000}(?:[ \t]\"[^\"\n]{0,200}\")?\)")


def strip_markdown(text: str) -> str:
    """The text without Markdown's markers: headings, emphasis, links, fences, rules, bullets.

    What stood inside a code fence is kept as it is. Other text with the same signs, such as
    `2 * 3 * 4` and `snake_case_name`, stays too.
    """
    parts = _FENCE.split(text)
    for place in range(0, len(parts), 2):  # every other part is inside a fence
        part = _RULE.sub("", parts[place])
        part = _UNDERLINE.sub("", part)
        part = _LINE_MARKS.sub("", part)
        part = _LINK.sub(r"\1", part)
        part = _CODE.sub(r"\1", part)
        part = _BOTH_SIDES.sub(r"\3", part)
        parts[place] = _ITALIC.sub(r"\1", part)
    return "".join(parts)


@dataclass(frozen=True, kw_only=True)
class Extract(DocumentStep):
    """Turn HTML documents into text; of other types only what nobody sees is taken out.

    Runs in a child process with limits, for the parser reads what anybody may have put on the web.
    Drops: `no text`, and what the sandbox refuses: `too slow`, `too much memory`, `crashed`,
    `failed`, and `refused` for pages that are nested too deep.
    """

    name: ClassVar[str] = "extract"
    engine: str = "llama3lib"
    """`llama3lib`, or `trafilatura` where that package is installed."""
    seconds: float = 5.0
    """Time limit of one page."""
    least_characters: int = 1
    sandbox: Sandbox = field(default_factory=Sandbox, repr=False, compare=False)
    """Where pages are parsed; the default starts one child process and keeps it."""

    def __post_init__(self) -> None:
        one_of("engine", self.engine, sorted(_ENGINES))
        require(self.seconds > 0, "seconds", self.seconds, "more than 0")

    @property
    def packages(self) -> tuple[str, ...]:
        """What the engine is imported from."""
        return ("trafilatura",) if self.engine == "trafilatura" else ("lxml",)

    def apply(self, document: Document) -> Document | Drop:
        if document.metadata.get("content_type", "text/html") == "text/plain":
            text = drop_invisible(document.text)
            return document if text == document.text else document.but(text)
        try:
            text = self.sandbox.call(_ENGINES[self.engine], document.text, seconds=self.seconds)
        except Refused as refusal:
            return Drop(refusal.reason, refusal.detail)
        if len(text.strip()) < self.least_characters:
            return Drop("no text", f"{len(document.text)} characters of HTML")
        return document.but(text, content_type="text/plain")


@dataclass(frozen=True, kw_only=True)
class StripMarkdown(DocumentStep):
    """Take out Markdown's markers (paper section 3.1.1: they hurt a model of the web)."""

    name: ClassVar[str] = "strip_markdown"

    def apply(self, document: Document) -> Document | Drop:
        text = strip_markdown(document.text)
        return document if text == document.text else document.but(text)


def _with_trafilatura(page: str) -> str:
    import trafilatura

    if (depth := nesting(page)) > MOST_NESTED:
        raise ValueError(f"nested {depth} deep, at most {MOST_NESTED} allowed")
    # its deduplicate=True would remember earlier pages: not a pure function any more
    return trafilatura.extract(page, deduplicate=False, include_tables=True) or ""


_ENGINES = {"llama3lib": extract_text, "trafilatura": _with_trafilatura}
