"""Which pages the mini-web has, and the truth about each of them.

`make_web(n, seed)` gives the same pages on every machine. Because every copy, every piece of
personal data and every line of frame was put there by us, a pipeline's work can be scored.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from llama3lib.worlds.miniweb import prose
from llama3lib.worlds.miniweb.languages import LANGUAGES, foreign
from llama3lib.worlds.miniweb.pages import Content, Site, make_sites, render
from llama3lib.worlds.stories import stories

GOOD = ("article", "story", "sums", "program", "foreign")
JUNK = ("spam", "log", "shuffled", "encoded", "adult", "empty")


@dataclass(frozen=True)
class Page:
    """A page and the truth about it.

    `copy_of` is the URL of the page it nearly repeats; `older` is True if a later version of the
    same URL exists; `pii` lists (kind, text) of the planted personal data.
    """

    url: str
    date: str
    html: str
    kind: str
    language: str
    lines: tuple[str, ...]
    frame: tuple[str, ...]
    copy_of: str | None = None
    older: bool = False
    pii: tuple[tuple[str, str], ...] = ()

    @property
    def text(self) -> str:
        """What a perfect extraction gives."""
        return "\n".join(self.lines)


@dataclass(frozen=True)
class MiniWeb:
    """All pages; `pages` has older versions too, in the order of their dates."""

    pages: tuple[Page, ...]
    sites: tuple[Site, ...]

    def newest(self) -> dict[str, Page]:
        """The latest version of each URL."""
        return {page.url: page for page in self.pages}

    def kinds(self) -> Counter[str]:
        """How many pages there are of each kind."""
        return Counter(page.kind for page in self.pages)


# shares of a web of which a third is not worth reading
_SHARES = {
    "article": 0.40,
    "story": 0.12,
    "sums": 0.08,
    "program": 0.06,
    "foreign": 0.08,
    "spam": 0.08,
    "log": 0.04,
    "shuffled": 0.06,
    "encoded": 0.04,
    "adult": 0.02,
    "empty": 0.02,
}
_COPIES, _OLDER, _HALF_COPIES = 0.12, 0.04, 0.04  # as shares of the pages above


def make_web(pages: int = 3000, seed: int = 0, sites: int = 16) -> MiniWeb:
    """A web of about so many pages, the same for the same seed.

    Raises ValueError for fewer than 50 pages or 8 sites: it would lack some kinds.
    """
    if pages < 50 or sites < len(LANGUAGES):  # a site for each language
        least = len(LANGUAGES)
        raise ValueError(f"pages={pages!r}, sites={sites!r} are not allowed: 50, {least} or more")
    rng = random.Random(seed)
    hosts = make_sites(rng, sites)
    fresh = round(pages / (1 + _COPIES + _OLDER + _HALF_COPIES))
    drafts: list[_Draft] = []
    tales = stories(seed=seed)
    for kind, share in _SHARES.items():
        for _ in range(max(1, round(share * fresh))):
            content, language, pii = _content(kind, rng, tales)
            host = hosts[LANGUAGES.index(language)] if kind == "foreign" else rng.choice(hosts)
            drafts.append(_Draft(kind, language, content, host, pii=pii))
    drafts += _copies(drafts, hosts, rng, round(_COPIES * fresh), round(_HALF_COPIES * fresh))
    rng.shuffle(drafts)
    return MiniWeb(tuple(_publish(drafts, rng, round(_OLDER * fresh))), tuple(hosts))


@dataclass(frozen=True)
class _Draft:
    """A page before it has an address."""

    kind: str
    language: str
    content: Content
    site: Site
    original: "_Draft | None" = None
    pii: tuple[tuple[str, str], ...] = ()


def _content(
    kind: str, rng: random.Random, tales: Iterator[str]
) -> tuple[Content, str, tuple[tuple[str, str], ...]]:
    """A page's content, its language, and the personal data in it."""
    if kind == "article":
        return _article(rng)
    if kind == "story":
        tale = " ".join(next(tales).split())
        title = f"A story for {prose.World(rng).person} of {prose.World(rng).town}"
        return Content(title, [("p", tale)]), "en", ()
    if kind == "sums":
        title, lines = prose.sums(rng)
        area = f"the pond of {prose.World(rng).town}: \\pi \\cdot {rng.randint(2, 99)}^2"
        return Content(title, [("p", text) for text in lines], area), "en", ()
    if kind == "program":
        title, text, code = prose.program(rng)
        return Content(title, [("p", text), ("pre", code.rstrip("\n"))]), "en", ()
    if kind == "foreign":
        language = rng.choice(LANGUAGES)
        first, second = foreign(rng, language)
        head = f"{prose.World(rng).town} ({language})"
        return Content(head, [("p", first), ("p", second)]), language, ()
    return _junk(kind, rng), "en", ()


_JUNK: dict[str, Callable[[random.Random], list[str]]] = {
    "spam": prose.spam,
    "log": prose.log,
    "shuffled": prose.shuffled,
    "encoded": prose.encoded,
    "adult": prose.adult,
}


def _junk(kind: str, rng: random.Random) -> Content:
    town = prose.World(rng).town
    if kind == "empty":
        world = prose.World(rng)
        moved = f"{world.person} moved it to {world.other} in {world.year()}, room {world.number}."
        return Content(f"The page on {town} is gone", [("p", moved)])
    title = f"{kind.capitalize()} from {town}"
    return Content(title, [("p", text) for text in _JUNK[kind](rng)])


_TOLD = {
    "email": "Questions are answered at {}, usually within a week.",
    "phone": "For the key to the tower call {} in the morning.",
    "ip": "The webcam on the tower can be reached at {} by day.",
    "card": "The roof was paid for with the card {} of a visitor.",
    "iban": "Gifts for the organ go to the account {} of the parish.",
    "ssn": "The oldest form in the archive names the number {} by mistake.",
}
_LOOKALIKES = (
    "Release 2.14.{}.3 of the town's almanac covers the years 1204-1318 and 1466-1490.",
    "The survey was finished on 2021-04-{}, after 1 250 500 steps and 48 000 readings.",
    "Lots 100-250 and 300-3{} were sold at 10.5 to 12.25 shillings each.",
)


def _article(rng: random.Random) -> tuple[Content, str, tuple[tuple[str, str], ...]]:
    """An article; one in six has personal data in it, others something that looks like it."""
    title, parts = prose.article(rng)
    blocks = []
    for head, texts in parts:
        blocks += [("h2", head), *(("p", text) for text in texts)]
    pii: tuple[tuple[str, str], ...] = ()
    places = [i for i, (tag, _) in enumerate(blocks) if tag == "p"]
    if rng.random() < 1 / 6:
        found = prose.planted_pii(rng)
        place = rng.choice(places)
        blocks[place] = ("p", f"{blocks[place][1]} {_TOLD[found[0]].format(found[1])}")
        pii = (found,)
    elif rng.random() < 1 / 8:
        place = rng.choice(places)
        sentence = rng.choice(_LOOKALIKES).format(rng.randint(10, 28))
        blocks[place] = ("p", f"{blocks[place][1]} {sentence}")
    if rng.random() < 0.04:
        blocks.append(("p", "To be continued."))  # a good line so frequent that counting takes it
    return Content(title, blocks), "en", pii


def _copies(
    drafts: Sequence[_Draft], hosts: Sequence[Site], rng: random.Random, copies: int, halves: int
) -> list[_Draft]:
    """Near-duplicates on other sites, and articles that share only half of their text."""
    articles = [draft for draft in drafts if draft.kind == "article"]
    out = []
    for draft in rng.choices(articles, k=copies):
        content = _edited(draft.content, rng)
        out.append(replace(draft, content=content, site=rng.choice(hosts), original=draft))
    for draft in rng.sample(articles, min(halves, len(articles))):
        other, _, _ = _article(rng)
        blocks = _half_and_half(draft.content.blocks, other.blocks)
        kept = tuple(find for find in draft.pii if any(find[1] in text for _, text in blocks))
        more = tuple((k, t) for k, t in _pii_in(other) if any(t in text for _, text in blocks))
        content = Content(other.title, blocks)
        out.append(replace(draft, content=content, site=rng.choice(hosts), pii=kept + more))
    return out


def _half_and_half(
    one: Sequence[tuple[str, str]], other: Sequence[tuple[str, str]]
) -> list[tuple[str, str]]:
    """Two sections of one article and the two sections that it lacks then from another."""
    parts: list[list[tuple[str, str]]] = []
    for tag, text in (*one, *other):
        if tag == "h2":
            parts.append([])
        parts[-1].append((tag, text))
    kept = parts[:2]
    seen = {part[0][1].split()[0] for part in kept}  # "How", "What", "The", "Life"
    kept += [part for part in parts[4:] if part[0][1].split()[0] not in seen]
    return [block for part in kept for block in part]


def _pii_in(content: Content) -> list[tuple[str, str]]:
    """Personal data that our own sentences wrap, found by the words around it."""
    found = []
    for _, text in content.blocks:
        for kind, sentence in _TOLD.items():
            before, after = sentence.split("{}")
            start = text.find(before)
            if start >= 0:
                rest = text[start + len(before) :]
                found.append((kind, rest[: rest.find(after)]))
    return found


def _edited(content: Content, rng: random.Random) -> Content:
    """The same text with up to four words changed: what happens to a text that is passed on."""
    blocks = list(content.blocks)
    for _ in range(rng.randint(0, 4)):
        place = rng.choice([i for i, (tag, _) in enumerate(blocks) if tag == "p"])
        tag, text = blocks[place]
        words = text.split(" ")
        plain = [i for i, word in enumerate(words) if word.isalpha() and word.islower()]
        if plain:
            words[rng.choice(plain)] = rng.choice(("indeed", "surely", "often", "also", "however"))
        blocks[place] = (tag, " ".join(words))
    return Content(content.title, blocks)


def _publish(drafts: Sequence[_Draft], rng: random.Random, older: int) -> list[Page]:
    """Give every draft an address and a date; some get an earlier version at the same address."""
    addresses, dates = {}, {}
    for number, draft in enumerate(drafts):
        addresses[id(draft)] = f"http://{draft.site.host}/{draft.kind}/{number}.html"
        dates[id(draft)] = f"2023-{rng.randint(3, 12):02}-{rng.randint(1, 28):02}T12:00:00Z"
    menus = {draft.site.host: [("/", "Home"), ("/about.html", "About")] for draft in drafts}
    pages, before = [], []
    early = set(rng.sample(range(len(drafts)), min(older, len(drafts))))
    for number, draft in enumerate(drafts):
        original = draft.original
        page = Page(
            url=addresses[id(draft)],
            date=dates[id(draft)],
            html=render(draft.site, draft.content, menus[draft.site.host]),
            kind=draft.kind,
            language=draft.language,
            lines=tuple(draft.content.lines()),
            frame=draft.site.frame,
            copy_of=addresses.get(id(original)) if original else None,
            pii=draft.pii,
        )
        pages.append(page)
        if number in early:
            old = Content(draft.content.title, draft.content.blocks[:2])
            text = render(draft.site, old, menus[draft.site.host])
            early_date = f"2022-{rng.randint(1, 12):02}-01T12:00:00Z"
            lines = tuple(old.lines())
            pii = tuple(p for p in draft.pii if any(p[1] in line for line in lines))
            before.append(
                replace(page, html=text, date=early_date, lines=lines, older=True, pii=pii)
            )
    return sorted([*before, *pages], key=lambda page: (page.date, page.url))
