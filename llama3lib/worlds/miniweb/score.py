"""Score a pipeline's work on the mini-web against the truth."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from llama3lib.data.dedup.lines import normalize_line
from llama3lib.data.dedup.minhash import MinHash, exact_jaccard
from llama3lib.data.document import Document
from llama3lib.worlds.miniweb.web import MiniWeb, Page


@dataclass(frozen=True)
class Confusion:
    """How a yes-or-no decision went: hits, false alarms, misses, rightly left alone."""

    hits: int
    false_alarms: int
    misses: int
    left_alone: int

    @property
    def recall(self) -> float:
        """Share of what had to be found that was found."""
        return self.hits / max(1, self.hits + self.misses)

    @property
    def precision(self) -> float:
        """Share of the finds that are right."""
        return self.hits / max(1, self.hits + self.false_alarms)


def page_of(web: MiniWeb, document: Document) -> Page:
    """The page a document was read from.

    Raises KeyError if it is of another web.
    """
    key = (document.metadata["url"], document.metadata["date"])
    return {(page.url, page.date): page for page in web.pages}[key]


def true_duplicates(texts: Mapping[str, str], jaccard: float = 0.8) -> set[frozenset[str]]:
    """All pairs of texts whose exact 5-gram similarity reaches `jaccard`, planted or by chance.

    Exact sets are compared for every pair that shares a 5-gram in 200 random ones: at 0.8 the
    chance to miss a pair so is below 10^-100.
    """
    minhash = MinHash(permutations=200, ngram=5, seed=987)
    buckets: dict[tuple[int, int], list[str]] = {}
    for name, text in texts.items():
        signature = minhash.signature(text)
        for place, value in enumerate(signature if signature is not None else ()):
            buckets.setdefault((place, int(value)), []).append(name)
    near: Counter[frozenset[str]] = Counter()
    for names in buckets.values():
        if 1 < len(names) <= 200:
            near.update(frozenset((a, b)) for i, a in enumerate(names) for b in names[i + 1 :])
    return {
        pair
        for pair, shared in near.items()
        if shared > 100 * jaccard and exact_jaccard(*(texts[name] for name in pair)) >= jaccard
    }


def score_duplicates(texts: Mapping[str, str], dropped: Mapping[str, str]) -> Confusion:
    """Near-duplicate removal, document by document.

    A document had to go if an earlier one of its group (exact J >= 0.8, groups joined) stays.
    `texts` are in the order of the input; `dropped` maps ids to the ids they were dropped for.
    """
    order = {name: place for place, name in enumerate(texts)}
    first = {name: name for name in texts}

    def find(name: str) -> str:
        while first[name] != name:
            name = first[name]
        return name

    for pair in true_duplicates(texts):
        one, other = sorted((find(name) for name in pair), key=order.__getitem__)
        first[other] = one
    guilty = {name for name in texts if find(name) != name}
    found = set(dropped)
    return Confusion(
        len(guilty & found),
        len(found - guilty),
        len(guilty - found),
        len(texts) - len(guilty | found),
    )


def score_pii(web: MiniWeb, documents: Iterable[Document]) -> Confusion:
    """Masking of planted personal data; false alarms are masks on pages without as many finds."""
    pages = {(page.url, page.date): page for page in web.pages}
    hits = misses = alarms = clean = 0
    for document in documents:
        page = pages[(document.metadata["url"], document.metadata["date"])]
        left = sum(text in document.text for _, text in page.pii)
        masks = sum(document.metadata.get("pii", {}).values())
        gone = len(page.pii) - left
        hits, misses, alarms = hits + gone, misses + left, alarms + max(0, masks - gone)
        clean += not page.pii and not masks
    return Confusion(hits, alarms, misses, clean)


def score_lines(web: MiniWeb, documents: Iterable[Document]) -> Confusion:
    """Removal of frame lines; a false alarm is a good line that is lost.

    Masks and marks of other steps do not count: lines are compared by their first 40 letters.
    """
    pages = {(page.url, page.date): page for page in web.pages}
    hits = alarms = misses = kept = 0
    for document in documents:
        page = pages[(document.metadata["url"], document.metadata["date"])]
        there = {_start(line) for line in document.text.splitlines()}
        left = sum(_start(line) in there for line in page.frame)
        lost = sum(_start(line) not in there for line in page.lines)
        hits, misses = hits + len(page.frame) - left, misses + left
        alarms, kept = alarms + lost, kept + len(page.lines) - lost
    return Confusion(hits, alarms, misses, kept)


def _start(line: str) -> str:
    return normalize_line(line)[:40]


def score_kinds(web: MiniWeb, documents: Iterable[Document]) -> dict[str, tuple[int, int]]:
    """For each kind of page how many there were (newest versions) and how many are left."""
    pages = {(page.url, page.date): page for page in web.pages}
    there = Counter(page.kind for page in web.pages if not page.older)
    left = Counter(pages[(d.metadata["url"], d.metadata["date"])].kind for d in documents)
    return {kind: (there[kind], left[kind]) for kind in there}
