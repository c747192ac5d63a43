"""Heuristic filters (paper section 3.1.1): repeated n-grams, word lists, outlier tokens, shape.

The paper names the first three and gives no thresholds. Thresholds here are ours, or those of the
Gopher paper (Rae et al. 2021, table A1) where a rule is theirs.
"""

import heapq
import math
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import regex

from llama3lib.data.document import CorpusStep, Document, DocumentStep, Drop
from llama3lib.data.encoding import stable_hash
from llama3lib.data.language import identify_language
from llama3lib.data.words import (
    count_letters,
    count_words,
    is_unspaced,
    signs_per_word,
    split_words,
)
from llama3lib.utils.require import at_least, require, require_all

_WORD = regex.compile(r"\w+")  # with vowel signs and accents, unlike re's


def duplicated_ngram_coverage(text: str, size: int) -> float:
    """Share of a text's characters in word n-grams that are copies of an earlier one.

    Counted as datatrove does: from left to right, the first of each n-gram is no copy, and after a
    copy counting goes on behind it, so that no character counts twice. Spaces are not in a copy.
    """
    return _copied_characters(split_words(text), size) / max(1, len(text))


def _copied_characters(words: list[str], size: int) -> int:
    seen: set[tuple[str, ...]] = set()
    place, copied = 0, 0
    while place <= len(words) - size:
        gram = tuple(words[place : place + size])
        if gram in seen:
            copied += sum(map(len, gram))
            place += size
        else:
            seen.add(gram)
            place += 1
    return copied


def top_ngram_share(text: str, size: int) -> float:
    """Share of a text's characters, with spaces, taken by its most frequent word n-gram."""
    return _top_characters(split_words(text), size) / max(1, len(text))


def _top_characters(words: list[str], size: int) -> int:
    grams = Counter(zip(*(words[start:] for start in range(size)), strict=False))
    most = max(grams.values(), default=0)
    if most < 2:
        return 0
    longest = max(sum(map(len, gram)) for gram, count in grams.items() if count == most)
    return most * (longest + size - 1)


def _copies(parts: list[str]) -> tuple[float, int]:
    """Share of the parts that are copies of an earlier one, and the characters in them."""
    seen: set[str] = set()
    copies = [part for part in parts if part in seen or seen.add(part)]
    return len(copies) / max(1, len(parts)), sum(map(len, copies))


@dataclass(frozen=True, kw_only=True)
class DropRepetition(DocumentStep):
    """Drop logs and error listings: long lines, each unique, all of the same phrases.

    Line de-duplication can't see them (paper section 3.1.1). Measures and limits are Gopher's (Rae
    et al. 2021, table A1): copied paragraphs and lines, by number and by characters; the most
    frequent n-gram; copied n-grams. Without spaces between words an n-gram has twice as many signs.
    """

    name: ClassVar[str] = "repetition"
    coverage: tuple[float, ...] = (0.15, 0.14, 0.13, 0.12, 0.11, 0.10)
    """Most allowed coverage by duplicated 5-, 6-, ... 10-grams."""
    top: tuple[float, ...] = (0.20, 0.18, 0.16)
    """Most allowed share of the most frequent 2-, 3-, 4-gram."""
    lines: float = 0.30
    """Most allowed share of lines, and of paragraphs, that are copies of an earlier one."""
    characters: float = 0.20
    """Most allowed share of characters in such lines, and in such paragraphs."""

    def __post_init__(self) -> None:
        for field in ("coverage", "top"):
            ok = all(0 <= limit <= 1 for limit in getattr(self, field))
            require(ok, field, getattr(self, field), "from 0 to 1")
        for field in ("lines", "characters"):
            require(0 <= getattr(self, field) <= 1, field, getattr(self, field), "from 0 to 1")

    def apply(self, document: Document) -> Document | Drop:
        text, length = document.text.strip(), max(1, len(document.text))
        for name, pattern in (("paragraphs", r"\n{2,}"), ("lines", r"\n+")):
            share, copied = _copies(re.split(pattern, text))
            if share > self.lines:
                return Drop(f"duplicate {name}", f"{share:.2f} > {self.lines:g}")
            if (share := copied / length) > self.characters:
                return Drop(f"duplicate {name}", f"characters {share:.2f} > {self.characters:g}")
        words = split_words(text)
        signs = signs_per_word(text, words)
        for size, limit in enumerate(self.top, 2):
            if (share := _top_characters(words, signs * size) / length) > limit:
                return Drop("top n-gram", f"{size}-gram {share:.2f} > {limit:g}")
        for size, limit in enumerate(self.coverage, 5):
            if (share := _copied_characters(words, signs * size) / length) > limit:
                return Drop("duplicate n-grams", f"{size}-grams {share:.2f} > {limit:g}")
        return document


@dataclass(frozen=True, kw_only=True)
class DropWords(DocumentStep):
    """Drop documents with too many words of a list, both in number and as a share of all words.

    The paper counts "dirty words" to find adult sites that block lists miss. No list is shipped:
    which words, in which language, is for the user to say. An entry may have spaces in it. Whole
    words are found; but where a script has no spaces, the signs in a row, for no end can be seen.
    """

    name: ClassVar[str] = "word_list"
    words: tuple[str, ...] = ()
    most: int = 2
    """Listed words a document may hold."""
    most_share: float = 0.01
    """Listed words as a share of all words; both limits must be passed for a drop."""

    def __post_init__(self) -> None:
        at_least("most", self.most, 0)
        require(all(map(str.strip, self.words)), "words", self.words, "no empty ones")

    @cached_property
    def _listed(self) -> "regex.Pattern[str]":
        entries = {" ".join(entry.lower().split()) for entry in self.words}
        unspaced = set(filter(is_unspaced, entries))
        lists = {"spaced": sorted(entries - unspaced), "unspaced": sorted(unspaced)}
        patterns = {"spaced": r"(?<!\w)\L<spaced>(?!\w)", "unspaced": r"\L<unspaced>"}
        there = {name: words for name, words in lists.items() if words}
        return regex.compile("|".join(patterns[name] for name in there), **there)

    def apply(self, document: Document) -> Document | Drop:
        if not self.words:
            return document
        text = document.text.lower()
        count = sum(1 for _ in self._listed.finditer(" ".join(text.split())))
        if count > self.most and count > self.most_share * (total := count_words(text)):
            return Drop("listed words", f"{count} of {total}")
        return document


# frequent words of running English text; at least two of them make a document plausible prose
_STOP_WORDS = frozenset({"the", "be", "to", "of", "and", "that", "have", "with"})


_BULLETS = ("•", "‣", "-", "*", "–", "·", "・", "●", "○", "■", "□", "◆", "▪", "◦")


@dataclass(frozen=True, kw_only=True)
class GopherRules(DocumentStep):
    """Simple measures of shape, after Gopher (Rae et al. 2021, table A1).

    Drops: `too short`, `too long`, `word length`, `symbols`, `bullets`, `ellipses`, `no letters`,
    `no stop words`. The length of words is asked only where they stand between spaces, stop words
    only of English.
    """

    name: ClassVar[str] = "gopher"
    least_words: int = 50
    most_words: int = 100_000
    word_length: tuple[float, float] = (3.0, 10.0)
    """Bounds of the mean length of a word, in letters and signs."""
    symbols: float = 0.1
    """Most allowed hashes and ellipses per word."""
    bullets: float = 0.9
    """Most allowed share of lines that start with a bullet."""
    ellipses: float = 0.3
    """Most allowed share of lines that end with an ellipsis."""
    letters: float = 0.8
    """Least share of words with a letter in them."""
    stop_words: int = 2
    """Least number of different stop words; 0 switches it off."""

    def apply(self, document: Document) -> Document | Drop:
        words = split_words(document.text)
        signs = signs_per_word(document.text, words)
        lines = [line.strip() for line in document.text.splitlines() if line.strip()]
        if (count := len(words) // signs) < max(1, self.least_words):
            return Drop("too short", f"{count} words")
        if count > self.most_words:
            return Drop("too long", f"{count} words")
        spaced = [word for word in words if word.isascii() or not is_unspaced(word)]
        length = count_letters("".join(spaced)) / max(1, len(spaced))
        if signs == 1 and not self.word_length[0] <= length <= self.word_length[1]:
            return Drop("word length", f"{length:.1f}")
        for reason, share, limit in self._shares(document.text, words, lines):
            if share > limit:
                return Drop(reason, f"{share:.2f} > {limit:g}")
        lettered = sum(any(sign.isalpha() for sign in word) for word in words) / len(words)
        if lettered < self.letters:
            return Drop("no letters", f"{lettered:.2f} < {self.letters:g}")
        few = len(_STOP_WORDS & {word.lower() for word in words}) < self.stop_words
        if few and _may_be_english(document):
            return Drop("no stop words")
        return document

    def _shares(
        self, text: str, words: list[str], lines: list[str]
    ) -> list[tuple[str, float, float]]:
        dots = text.count("...") + text.count("…") + text.count("。。。")
        bullets = sum(line.startswith(_BULLETS) for line in lines)
        trailing = sum(line.endswith(("...", "…", "。。。")) for line in lines)
        return [
            ("symbols", max(text.count("#"), dots) / len(words), self.symbols),
            ("bullets", bullets / max(1, len(lines)), self.bullets),
            ("ellipses", trailing / max(1, len(lines)), self.ellipses),
        ]


def _may_be_english(document: Document) -> bool:
    """By the language that a step before has noted, else by its looks."""
    if noted := document.metadata.get("language"):
        return noted == "en"
    return identify_language(document.text)[0] in ("en", "und", _NO_LANGUAGE)


_NO_LANGUAGE = "zxx"  # what the language model calls a text that is in none


@dataclass(frozen=True)
class Spread:
    """How the tokens of documents of one language are spread."""

    shares: list[float]
    """Of each bin in all tokens; every bin has a share above zero."""
    medians: dict[int, float]
    """By length in binary digits: the median divergence, in nats, of documents about so long."""

    def usual(self, tokens: int) -> float:
        """The median divergence at this length, or at the next one that is known."""
        length = min(self.medians, key=lambda known: abs(known - tokens.bit_length()))
        return self.medians[length]


@dataclass(frozen=True, kw_only=True)
class DropOutliers(CorpusStep):
    """Drop documents whose tokens are spread unlike those of the corpus (KL divergence).

    The paper uses it against "excessive numbers of outlier tokens" and gives no threshold. Tokens
    are hashed into `bins`; both distributions are smoothed with `smoothing` counts of the corpus's
    shares. The divergence depends on the length, and is large for every good page of a varied
    corpus; so a document is compared with the median of those that are from half to twice as long.
    Compared within each language; a text in no language, with the whole corpus.
    """

    name: ClassVar[str] = "outliers"
    bins: int = 4096
    most_nats: float = 1.0
    """Most allowed divergence KL(document || corpus) above the median, in nats."""
    smoothing: float = 100.0
    sample: int = 2000
    """Documents of a language that the medians are taken from: those of the least hashed ids."""

    def __post_init__(self) -> None:
        ok = self.bins >= 2 and self.smoothing > 0
        require_all(
            ok, "at least 2 bins and a positive smoothing", bins=self.bins, smoothing=self.smoothing
        )
        at_least("sample", self.sample, 1)

    def _counts(self, text: str) -> Counter[int]:
        words = Counter(_pieces(text))
        counts: Counter[int] = Counter()
        for word, n in words.items():
            counts[stable_hash(word) % self.bins] += n
        return counts

    def _group(self, document: Document) -> str:
        language = str(document.metadata.get("language", ""))
        return "" if language == _NO_LANGUAGE else language

    def collect(self, document: Document) -> Any:
        return [self._group(document), sorted(self._counts(document.text).items())]

    def decide(self, notes: Iterable[tuple[str, Any]]) -> dict[str, Any]:
        """For each language, and "" for all of them, the counts of all bins and the medians."""
        totals: dict[str, list[int]] = {"": [0] * self.bins}
        sampled: dict[str, list[tuple[int, list[list[int]]]]] = {}
        for name, (language, counts) in notes:
            for group in {language, ""}:
                total = totals.setdefault(group, [0] * self.bins)
                for place, n in counts:
                    total[place] += n
                heap = sampled.setdefault(group, [])
                heapq.heappush(heap, (-stable_hash(name), counts))
                if len(heap) > self.sample:
                    heapq.heappop(heap)
        return {
            group: {"counts": total, "medians": self._medians(total, sampled.get(group, []))}
            for group, total in totals.items()
        }

    def _medians(self, counts: list[int], sample: list[tuple[int, Any]]) -> list[tuple[int, float]]:
        shares, found = self._shares(counts), {}
        for _, row in sample:
            nats = self._divergence(dict(row), shares)
            length = sum(n for _, n in row).bit_length()
            for near in (length - 1, length, length + 1):
                found.setdefault(near, []).append(nats)
        return sorted((length, statistics.median(nats)) for length, nats in found.items())

    def _shares(self, counts: list[int]) -> list[float]:
        total = sum(counts) + 0.5 * self.bins
        return [(n + 0.5) / total for n in counts]

    def prepare(self, decision: dict[str, Any]) -> dict[str, Spread]:
        """Shares instead of counts."""
        return {
            language: Spread(self._shares(row["counts"]), dict(row["medians"]))
            for language, row in decision.items()
        }

    def divergence(self, text: str, spread: Spread) -> float:
        """KL divergence of the text's smoothed token distribution to the corpus, in nats."""
        return self._divergence(self._counts(text), spread.shares)

    def _divergence(self, counts: Mapping[int, int], shares: list[float]) -> float:
        total = sum(counts.values()) + self.smoothing
        kl, rest = 0.0, 1.0
        for place, n in counts.items():
            p = (n + self.smoothing * shares[place]) / total
            kl += p * math.log(p / shares[place])
            rest -= shares[place]
        rest = max(rest, 0.0)  # bins the text does not touch: p is a fixed part of their share
        return kl + rest * self.smoothing / total * math.log(self.smoothing / total)

    def apply(self, document: Document, decision: dict[str, Spread]) -> Document | Drop:
        spread, counts = decision[self._group(document)], self._counts(document.text)
        nats = self._divergence(counts, spread.shares)
        limit = spread.usual(counts.total()) + self.most_nats
        if nats > limit:
            return Drop("outlier tokens", f"{nats:.2f} nats > {limit:.2f}")
        return document


def _pieces(text: str) -> list[str]:
    """Short pieces instead of whole words, so that rare but ordinary words are no outliers."""
    return [
        word[start : start + 4]
        for word in _WORD.findall(" ".join(split_words(text.lower())))
        for start in range(0, len(word), 4)
    ]
