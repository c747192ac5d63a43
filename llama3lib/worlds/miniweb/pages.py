"""How the sites of the mini-web wrap their texts: four kinds of layout, each with its own frame.

What a reader came for and what frames it is known for every page. In the layout `bare` the frame
has no tags that give it away: only counting lines over many pages can find it.
"""

import html
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

LAYOUTS = ("semantic", "named", "bare", "table")


@dataclass(frozen=True)
class Site:
    """A host with a name, a layout, and the lines that frame all of its pages."""

    host: str
    title: str
    layout: str
    above: tuple[str, ...]
    below: tuple[str, ...]

    @property
    def frame(self) -> tuple[str, ...]:
        """All lines that are not what the page says."""
        return (*self.above, *self.below)


@dataclass(frozen=True)
class Content:
    """What a page says: a title, and blocks of (tag, text): h2, p, pre, li."""

    title: str
    blocks: Sequence[tuple[str, str]]
    image_alt: str | None = None

    def lines(self) -> list[str]:
        """The lines that a good extraction gives."""
        picture = [self.image_alt] if self.image_alt else []
        texts = [self.title, *picture, *(text for _, text in self.blocks)]
        return [line for text in texts for line in text.splitlines() if line.strip()]


def make_sites(rng: random.Random, count: int) -> list[Site]:
    """So many sites with names and frames of their own; layouts take turns."""
    names = "Almanac Beacon Courier Dispatch Echo Forum Gazette Herald Index Journal Kiosk Ledger"
    places = "North River Market Harbour Meadow Hill Bridge Orchard Mill Station".split()
    sites = []
    for number in range(count):
        title = f"{rng.choice(places)} {names.split()[number % 12]} {number + 1}"
        host = title.lower().replace(" ", "-") + ".example"
        above = (f"{title} home", f"Search {title}", f"{title} uses cookies. Accept all")
        below = (f"Weekly letter of {title}", f"Copyright {rng.randint(2009, 2023)} {title}")
        sites.append(Site(host, title, LAYOUTS[number % len(LAYOUTS)], above, below))
    return sites


@dataclass
class _Writer:
    """Collects the lines of a page."""

    out: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        self.out.append(text)

    def block(self, tag: str, text: str) -> None:
        self.add(f"<{tag}>{_formulas(text, tag)}</{tag}>")


def render(site: Site, content: Content, links: Sequence[tuple[str, str]]) -> str:
    """The page as HTML; `links` are (address, text) pairs of the site's menu."""
    page = _Writer()
    page.add('<!doctype html>\n<html lang="en"><head><meta charset="utf-8">')
    page.add(f"<title>{html.escape(content.title)}</title>")
    page.add("<style>p { margin: 1em }</style><script>var ready = '<p>not text</p>';</script>")
    page.add("</head><body>")
    opening, menu, closing = _FRAMES[site.layout]
    page.add(opening.format(*map(html.escape, site.above)))
    items = "".join(f'<li><a href="{html.escape(a)}">{html.escape(t)}</a></li>' for a, t in links)
    page.add(menu.format(items))
    page.add(_BEGIN[site.layout])
    page.block("h1", content.title)
    if content.image_alt:
        page.add(f'<figure><img src="p.png" alt="{html.escape(content.image_alt)}"></figure>')
    for tag, text in content.blocks:
        page.block(tag, text)
    page.add(_END[site.layout])
    page.add(closing.format(*map(html.escape, site.below)))
    page.add("</body></html>")
    return "\n".join(page.out)


def _formulas(text: str, tag: str) -> str:
    """Escape a text; formulas between dollar signs become MathML with their TeX inside."""
    if tag == "pre" or text.count("$") < 2:
        return html.escape(text, quote=False)
    parts = text.split("$")
    for place in range(1, len(parts) - 1, 2):
        tex = html.escape(parts[place])
        parts[place] = (
            f"<math><semantics><mrow><mi>{tex}</mi></mrow>"
            f'<annotation encoding="application/x-tex">{tex}</annotation></semantics></math>'
        )
    for place in range(0, len(parts), 2):
        parts[place] = html.escape(parts[place], quote=False)
    return "".join(parts)


_FRAMES = {
    "semantic": (
        "<header><p>{0}</p><form><label>{1}</label><input></form></header>"
        '<div role="dialog">{2}</div>',
        "<nav><ul>{}</ul></nav>",
        "<aside><p>{0}</p></aside><footer><p>{1}</p></footer>",
    ),
    "named": (
        '<div class="masthead"><div>{0}</div></div><div id="search" class="toolbar">{1}</div>'
        '<div class="cookie-banner">{2}</div>',
        '<div class="navbar"><ul>{}</ul></div>',
        '<div class="newsletter">{0}</div><div id="footer">{1}</div>',
    ),
    "bare": (
        "<div><p>{0}</p><p>{1}</p></div><p>{2}</p>",
        "<ul>{}</ul>",
        "<p>{0}</p><p>{1}</p>",
    ),
    "table": (
        '<table><tr><td class="banner">{0}</td></tr></table><p>{1}</p><p>{2}</p>',
        "<table><tr><td><ul>{}</ul></td></tr></table>",
        '<p>{0}</p><div style="display: none">{1}</div><p>{1}</p>',
    ),
}
_BEGIN = {
    "semantic": "<main><article>",
    "named": '<div class="content">',
    "bare": "<div>",
    "table": "<table><tr><td>",
}
_END = {"semantic": "</article></main>", "named": "</div>", "bare": "</div>"}
_END["table"] = "</td></tr></table>"
