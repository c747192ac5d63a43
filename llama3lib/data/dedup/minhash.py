"""MinHash and locality-sensitive hashing: near-duplicates without comparing every pair.

The paper removes near-duplicate documents over the whole data set with MinHash (section 3.1.1); it
gives no settings. Ours are 14 bands of 8 rows over word 5-grams.

The idea in three steps. Two texts are alike as far as their sets of word 5-grams overlap: Jaccard
similarity J. Shuffle all possible 5-grams at random; the chance that both texts have the same first
one is exactly J. So with k shuffles, the share of equal firsts estimates J with a standard error of
sqrt(J (1 - J) / k). Last, cut the k numbers into bands: texts that agree in all rows of any band
become candidates, with probability 1 - (1 - J^rows)^bands.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from llama3lib.data.document import CorpusStep, Document, Drop
from llama3lib.data.encoding import stable_hash
from llama3lib.data.words import split_words
from llama3lib.utils.require import at_least

_MOST_WORDS = 1 << 20  # kept in the cache of word hashes
_MIXER = np.uint64(0x9E3779B97F4A7C15)  # odd, with well-spread bits: 2^64 over the golden ratio


@dataclass(frozen=True)
class MinHash:
    """Signatures of texts: `permutations` 32-bit numbers each.

    A "permutation" is x -> a x + b modulo 2^32 with odd a, on well-mixed 32-bit hashes of n-grams.
    Equal settings give equal signatures on every machine.
    """

    permutations: int = 112
    ngram: int = 5
    seed: int = 1

    def __post_init__(self) -> None:
        for name in ("permutations", "ngram"):
            at_least(name, getattr(self, name), 1)

    @cached_property
    def _words(self) -> "_WordHashes":
        return _WordHashes()

    @cached_property
    def _factors(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Odd multipliers and offsets of the permutations; multipliers of the n-gram's words."""
        rng = np.random.Generator(np.random.PCG64(self.seed))
        a = rng.integers(0, 1 << 32, self.permutations, dtype=np.uint32) | np.uint32(1)
        b = rng.integers(0, 1 << 32, self.permutations, dtype=np.uint32)
        places = rng.integers(0, 1 << 63, self.ngram, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
        return a, b, places

    def shingles(self, text: str) -> np.ndarray:
        """64-bit hashes of the word n-grams of a text, lower-cased; repeats stay in.

        A text shorter than n words is one n-gram; one without words has none. In scripts without
        spaces a word is a sign (`llama3lib.data.words`).
        """
        if len(self._words) > _MOST_WORDS:
            self._words.clear()
        hashes = map(self._words.__getitem__, split_words(text.lower()))
        words = np.fromiter(hashes, dtype=np.uint64)
        size = min(self.ngram, len(words))
        if size == 0:
            return words
        # a sum of words times odd factors, one factor for each place: order matters
        total = np.convolve(words, self._factors[2][:size], mode="valid")
        return (total ^ (total >> np.uint64(32))) * _MIXER

    def signature(self, text: str) -> np.ndarray | None:
        """The signature of a text, uint32 [permutations]; None if it has no words."""
        shingles = self.shingles(text)
        return self.signature_of(shingles) if len(shingles) else None

    def signature_of(self, shingles: np.ndarray) -> np.ndarray:
        """The signature of 64-bit n-gram hashes: the least value under each permutation."""
        a, b, _ = self._factors
        high = (shingles >> np.uint64(32)).astype(np.uint32)
        best = np.full(self.permutations, 0xFFFFFFFF, dtype=np.uint32)
        for start in range(0, len(high), 512):  # so much stays in the processor's cache
            values = high[start : start + 512, None] * a
            values += b
            np.minimum(best, values.min(axis=0), out=best)
        return best

    def standard_error(self, jaccard: float) -> float:
        """How far an estimate of this similarity is off, as a standard deviation."""
        return float(np.sqrt(jaccard * (1 - jaccard) / self.permutations))


class _WordHashes(dict[str, int]):
    """64-bit hashes of words, worked out when first asked for."""

    def __missing__(self, word: str) -> int:
        self[word] = value = stable_hash(word)
        return value


def estimate_jaccard(one: np.ndarray, other: np.ndarray) -> float:
    """Share of equal numbers in two signatures: an unbiased estimate of the Jaccard similarity."""
    if one.shape != other.shape:
        raise ValueError(f"signatures of {one.shape} and {other.shape} numbers cannot be compared")
    return float(np.mean(one == other))


def exact_jaccard(one: str, other: str, ngram: int = 5) -> float:
    """Jaccard similarity of the word n-gram sets, for checking estimates; 0 if both are empty."""
    first, second = (set(_ngrams(text, ngram)) for text in (one, other))
    union = len(first | second)
    return len(first & second) / union if union else 0.0


def _ngrams(text: str, size: int) -> list[tuple[str, ...]]:
    words = split_words(text.lower())
    size = min(size, len(words))
    return [tuple(words[i : i + size]) for i in range(len(words) - size + 1)] if size else []


def lsh_probability(jaccard: float, bands: int, rows: int) -> float:
    """Chance that two texts of this similarity share at least one band: the S-curve."""
    return 1 - (1 - jaccard**rows) ** bands


def choose_bands(permutations: int, jaccard: float, recall: float = 0.95) -> tuple[int, int]:
    """The (bands, rows) within `permutations` that cut most sharply and still reach `recall`.

    More rows make the curve steeper and move it right; so the most rows that still find pairs of
    this similarity with probability `recall` are best.

    Raises ValueError if even one row per band does not reach it.
    """
    for rows in range(permutations, 0, -1):
        bands = permutations // rows
        if lsh_probability(jaccard, bands, rows) >= recall:
            return bands, rows
    raise ValueError(f"recall={recall!r} at jaccard={jaccard!r} is out of reach: more permutations")


def candidate_pairs(signatures: np.ndarray, bands: int, rows: int) -> set[tuple[int, int]]:
    """Pairs (i < j) of rows of uint32 [documents, bands x rows] that share at least one band.

    Within a group that shares a band, each is paired with the first: enough to join the group.
    """
    pairs: set[tuple[int, int]] = set()
    for band in range(bands):
        keys = np.ascontiguousarray(signatures[:, band * rows : (band + 1) * rows])
        keys = keys.view(np.dtype((np.void, keys.dtype.itemsize * rows))).ravel()
        order = np.argsort(keys, kind="stable")
        same = keys[order[1:]] == keys[order[:-1]]
        first = 0
        for place in np.flatnonzero(same):
            if place == 0 or not same[place - 1]:
                first = int(order[place])
            pairs.add((first, int(order[place + 1])))
    return pairs


class Clusters:
    """Groups of documents that belong together (union-find); the first of a group leads it."""

    def __init__(self, size: int) -> None:
        self.leader = list(range(size))

    def find(self, item: int) -> int:
        """The first document of the item's group."""
        while self.leader[item] != item:
            self.leader[item] = self.leader[self.leader[item]]
            item = self.leader[item]
        return item

    def join(self, one: int, other: int) -> None:
        """Put two groups together."""
        one, other = sorted((self.find(one), self.find(other)))
        self.leader[other] = one


@dataclass(frozen=True, kw_only=True)
class DropNearDuplicates(CorpusStep):
    """Of each group of near-duplicates keep the first document.

    The decision maps ids of dropped documents to the id of the one that stays.
    """

    name: ClassVar[str] = "minhash_dedup"
    bands: int = 14
    rows: int = 8
    ngram: int = 5
    seed: int = 1
    per_language: bool = False
    """Compare only within a language, as the paper does for multilingual data."""

    def __post_init__(self) -> None:
        for name in ("bands", "rows", "ngram"):
            at_least(name, getattr(self, name), 1)

    @cached_property
    def minhash(self) -> MinHash:
        """The signatures that fit the bands."""
        return MinHash(self.bands * self.rows, self.ngram, self.seed)

    def signature(self, document: Document) -> np.ndarray | None:
        """uint32 [bands x rows]; languages are kept apart by a shift of all numbers."""
        signature = self.minhash.signature(document.text)
        if signature is not None and self.per_language:
            language = str(document.metadata.get("language", ""))
            signature = signature + np.uint32(stable_hash(language) & 0xFFFFFFFF)
        return signature

    def collect(self, document: Document) -> Any:
        signature = self.signature(document)
        return None if signature is None else signature.tobytes().hex()

    def decide(self, notes: Iterable[tuple[str, Any]]) -> dict[str, str]:
        found = [(name, bytes.fromhex(note)) for name, note in notes if note is not None]
        if not found:
            return {}
        numbers = np.frombuffer(b"".join(note for _, note in found), dtype=np.uint32)
        signatures = numbers.reshape(len(found), self.bands * self.rows)
        pairs = candidate_pairs(signatures, self.bands, self.rows)
        return keep_first([name for name, _ in found], pairs)

    def apply(self, document: Document, decision: dict[str, str]) -> Document | Drop:
        twin = decision.get(document.id)
        return Drop("near-duplicate", f"of {twin}") if twin is not None else document


def keep_first(names: Sequence[str], pairs: Iterable[tuple[int, int]]) -> dict[str, str]:
    """Join pairs of places into groups; each later name of a group points to its first."""
    clusters = Clusters(len(names))
    for one, other in pairs:
        clusters.join(one, other)
    leaders = [clusters.find(place) for place in range(len(names))]
    return {names[i]: names[first] for i, first in enumerate(leaders) if first != i}
