"""Heuristic filters (paper section 3.1.1): repeated n-grams, word lists, outlier tokens, shape.

The paper names the first three and gives no thresholds. Thresholds here are ours, or those of the
Gopher paper (Rae et al. 2021, table A1) where a rule is theirs.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from llama3lib.data.document import CorpusStep, Document, DocumentStep, Drop
from llama3lib.data.encoding import stable_hash
from llama3lib.utils.require import at_least, require, require_all

_WORD = re.compile(r"\w+", re.UNICODE)


def duplicated_ngram_coverage(text: str, size: int) -> float:
    """Share of a text's characters that stand in word n-grams which come more than once.

    0 if no n-gram is repeated, 1 if everything is. Characters of words are counted, not spaces.
    """
    words = text.split()
    if len(words) < size:
        return 0.0
    grams = [tuple(words[i : i + size]) for i in range(len(words) - size + 1)]
    counts = Counter(grams)
    covered = bytearray(len(words))
    for place, gram in enumerate(grams):
        if counts[gram] > 1:
            covered[place : place + size] = b"\1" * size
    lengths = [len(word) for word in words]
    return sum(n for n, hit in zip(lengths, covered, strict=True) if hit) / sum(lengths)


def top_ngram_share(text: str, size: int) -> float:
    """Share of a text's characters taken by its most frequent word n-gram (2 to 4 words)."""
    words = text.split()
    grams = Counter(zip(*(words[start:] for start in range(size)), strict=False))
    if not grams:
        return 0.0
    gram, count = max(grams.items(), key=lambda item: (item[1], sum(map(len, item[0]))))
    if count < 2:
        return 0.0
    return min(1.0, count * sum(map(len, gram)) / sum(map(len, words)))


@dataclass(frozen=True, kw_only=True)
class DropRepetition(DocumentStep):
    """Drop logs and error listings: long lines, each unique, all of the same phrases.

    Line de-duplication can't see them (paper section 3.1.1). Limits of coverage for n-grams of 5
    to 10 words and of the top 2- to 4-gram are Gopher's.
    """

    name: ClassVar[str] = "repetition"
    coverage: tuple[float, ...] = (0.15, 0.14, 0.13, 0.12, 0.11, 0.10)
    """Most allowed coverage by duplicated 5-, 6-, ... 10-grams."""
    top: tuple[float, ...] = (0.20, 0.18, 0.16)
    """Most allowed share of the most frequent 2-, 3-, 4-gram."""
    lines: float = 0.30
    """Most allowed share of lines that are copies of an earlier one."""

    def __post_init__(self) -> None:
        for field in ("coverage", "top"):
            ok = all(0 <= limit <= 1 for limit in getattr(self, field))
            require(ok, field, getattr(self, field), "from 0 to 1")
        require(0 <= self.lines <= 1, "lines", self.lines, "from 0 to 1")

    def apply(self, document: Document) -> Document | Drop:
        lines = [line.strip() for line in document.text.splitlines() if line.strip()]
        if lines and (share := 1 - len(set(lines)) / len(lines)) > self.lines:
            return Drop("duplicate lines", f"{share:.2f} > {self.lines:g}")
        for size, limit in enumerate(self.top, 2):
            if (share := top_ngram_share(document.text, size)) > limit:
                return Drop("top n-gram", f"{size}-gram {share:.2f} > {limit:g}")
        for size, limit in enumerate(self.coverage, 5):
            if (share := duplicated_ngram_coverage(document.text, size)) > limit:
                return Drop("duplicate n-grams", f"{size}-grams {share:.2f} > {limit:g}")
        return document


@dataclass(frozen=True, kw_only=True)
class DropWords(DocumentStep):
    """Drop documents with too many words of a list, both in number and as a share of all words.

    The paper counts "dirty words" to find adult sites that block lists miss. No list is shipped:
    which words, in which language, is for the user to say.
    """

    name: ClassVar[str] = "word_list"
    words: tuple[str, ...] = ()
    most: int = 2
    """Listed words a document may hold."""
    most_share: float = 0.01
    """Listed words as a share of all words; both limits must be passed for a drop."""

    def __post_init__(self) -> None:
        at_least("most", self.most, 0)

    def apply(self, document: Document) -> Document | Drop:
        if not self.words:
            return document
        listed = {word.lower() for word in self.words}
        found = [word.lower() for word in _WORD.findall(document.text)]
        count = sum(word in listed for word in found)
        if count > self.most and count > self.most_share * len(found):
            return Drop("listed words", f"{count} of {len(found)}")
        return document


# frequent words of running English text; at least two of them make a document plausible prose
_STOP_WORDS = frozenset({"the", "be", "to", "of", "and", "that", "have", "with"})


@dataclass(frozen=True, kw_only=True)
class GopherRules(DocumentStep):
    """Simple measures of shape, after Gopher (Rae et al. 2021, table A1).

    Drops: `too short`, `too long`, `word length`, `symbols`, `bullets`, `ellipses`, `no letters`,
    `no stop words`.
    """

    name: ClassVar[str] = "gopher"
    least_words: int = 50
    most_words: int = 100_000
    word_length: tuple[float, float] = (3.0, 10.0)
    """Bounds of the mean length of a word, in characters."""
    symbols: float = 0.1
    """Most allowed hashes and ellipses per word."""
    bullets: float = 0.9
    """Most allowed share of lines that start with a bullet."""
    ellipses: float = 0.3
    """Most allowed share of lines that end with an ellipsis."""
    letters: float = 0.8
    """Least share of words with a letter in them."""
    stop_words: int = 2
    """Least number of different stop words; for English only, 0 switches it off."""

    def apply(self, document: Document) -> Document | Drop:
        words = document.text.split()
        lines = [line.strip() for line in document.text.splitlines() if line.strip()]
        if len(words) < max(1, self.least_words):
            return Drop("too short", f"{len(words)} words")
        if len(words) > self.most_words:
            return Drop("too long", f"{len(words)} words")
        length = sum(map(len, words)) / len(words)
        if not self.word_length[0] <= length <= self.word_length[1]:
            return Drop("word length", f"{length:.1f}")
        for reason, share, limit in self._shares(document.text, words, lines):
            if share > limit:
                return Drop(reason, f"{share:.2f} > {limit:g}")
        lettered = sum(any(sign.isalpha() for sign in word) for word in words) / len(words)
        if lettered < self.letters:
            return Drop("no letters", f"{lettered:.2f} < {self.letters:g}")
        english = document.metadata.get("language", "en") == "en"
        if english and len(_STOP_WORDS & {w.lower() for w in words}) < self.stop_words:
            return Drop("no stop words")
        return document

    def _shares(
        self, text: str, words: list[str], lines: list[str]
    ) -> list[tuple[str, float, float]]:
        dots = text.count("...") + text.count("…")
        bullets = sum(line.startswith(("•", "‣", "-", "*", "–")) for line in lines)
        trailing = sum(line.endswith(("...", "…")) for line in lines)
        return [
            ("symbols", max(text.count("#"), dots) / len(words), self.symbols),
            ("bullets", bullets / max(1, len(lines)), self.bullets),
            ("ellipses", trailing / max(1, len(lines)), self.ellipses),
        ]


@dataclass(frozen=True, kw_only=True)
class DropOutliers(CorpusStep):
    """Drop documents whose tokens are spread unlike those of the corpus (KL divergence).

    The paper uses it against "excessive numbers of outlier tokens" and gives no threshold. Tokens
    are hashed into `bins`; both distributions are smoothed with `smoothing` counts of the corpus's
    shares, so that a short document is not an outlier only for being short. Compared within each
    language.
    """

    name: ClassVar[str] = "outliers"
    bins: int = 4096
    most_nats: float = 1.2
    """Most allowed divergence KL(document || corpus), in nats."""
    smoothing: float = 100.0

    def __post_init__(self) -> None:
        ok = self.bins >= 2 and self.smoothing > 0
        require_all(
            ok, "at least 2 bins and a positive smoothing", bins=self.bins, smoothing=self.smoothing
        )

    def _counts(self, text: str) -> Counter[int]:
        words = Counter(_pieces(text))
        counts: Counter[int] = Counter()
        for word, n in words.items():
            counts[stable_hash(word) % self.bins] += n
        return counts

    def collect(self, document: Document) -> Any:
        language = str(document.metadata.get("language", ""))
        return [language, sorted(self._counts(document.text).items())]

    def decide(self, notes: Iterable[tuple[str, Any]]) -> dict[str, list[int]]:
        """For each language the counts of all bins."""
        totals: dict[str, list[int]] = {}
        for _, (language, counts) in notes:
            total = totals.setdefault(language, [0] * self.bins)
            for place, n in counts:
                total[place] += n
        return totals

    def prepare(self, decision: dict[str, list[int]]) -> dict[str, list[float]]:
        """Shares instead of counts; every bin gets a share above zero."""
        totals = {language: sum(counts) + 0.5 * self.bins for language, counts in decision.items()}
        return {
            language: [(n + 0.5) / totals[language] for n in counts]
            for language, counts in decision.items()
        }

    def divergence(self, text: str, shares: list[float]) -> float:
        """KL divergence of the text's smoothed token distribution to the corpus, in nats."""
        counts = self._counts(text)
        total = sum(counts.values()) + self.smoothing
        kl, rest = 0.0, 1.0
        for place, n in counts.items():
            p = (n + self.smoothing * shares[place]) / total
            kl += p * math.log(p / shares[place])
            rest -= shares[place]
        rest = max(rest, 0.0)  # bins the text does not touch: p is a fixed part of their share
        return kl + rest * self.smoothing / total * math.log(self.smoothing / total)

    def apply(self, document: Document, decision: dict[str, list[float]]) -> Document | Drop:
        shares = decision[str(document.metadata.get("language", ""))]
        nats = self.divergence(document.text, shares)
        if nats > self.most_nats:
            return Drop("outlier tokens", f"{nats:.2f} nats > {self.most_nats:g}")
        return document


def _pieces(text: str) -> list[str]:
    """Short pieces instead of whole words, so that rare but ordinary words are no outliers."""
    return [
        word[start : start + 4]
        for word in _WORD.findall(text.lower())
        for start in range(0, len(word), 4)
    ]
