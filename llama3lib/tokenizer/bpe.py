"""Byte-pair encoding, trained: start from 256 bytes, join the most frequent neighbours, repeat.

The trainer counts each distinct word once and, after a merge, looks again only at the words that
held the merged pair. That is what makes it fast; the result is the same as counting everything
anew at every step.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable

import regex

from llama3lib.utils.require import require

LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Llama 3 cuts text into words before merging (released code): no merge crosses a cut."""

GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""The same of GPT-2, which Hugging Face's byte-level tokenizers use unless told otherwise."""

Pair = tuple[int, int]


def train_bpe(
    texts: Iterable[str],
    vocab_size: int,
    *,
    pattern: str = LLAMA3_PATTERN,
    progress: Callable[[int, int], None] | None = None,
) -> list[tuple[bytes, bytes]]:
    """Learn merges until there are `vocab_size` tokens, 256 of which are the single bytes.

    Returns the merges in order, each as the two byte strings it joins; fewer than asked for if
    no pair of neighbours is left. `progress(done, wanted)` is called after every merge.
    Ties go to the pair whose tokens were made first, so the same text gives the same merges.
    Raises ValueError if vocab_size is below 256 or the pattern is not a regular expression.
    """
    require(vocab_size >= 256, "vocab_size", vocab_size, "256 or more, one for each byte")
    words = count_words(texts, pattern)
    learner = _Learner([list(word) for word in words], list(words.values()))
    token_bytes = [bytes([i]) for i in range(256)]
    merges = []
    for done in range(vocab_size - 256):
        pair = learner.best_pair()
        if pair is None:
            break
        left, right = (token_bytes[token] for token in pair)
        learner.merge(pair, len(token_bytes))
        token_bytes.append(left + right)
        merges.append((left, right))
        if progress is not None:
            progress(done + 1, vocab_size - 256)
    return merges


def count_words(texts: Iterable[str], pattern: str = LLAMA3_PATTERN) -> Counter[bytes]:
    """How often each word occurs, as UTF-8 bytes, where `pattern` says what a word is."""
    try:
        find = regex.compile(pattern).findall
    except regex.error as error:
        raise ValueError(f"pattern={pattern!r} is not a regular expression: {error}") from None
    counts: Counter[str] = Counter()
    for text in texts:
        if not isinstance(text, str):
            raise ValueError(f"texts holds a {type(text).__name__}: strings are needed")
        counts.update(find(text))
    return Counter({word.encode("utf-8"): count for word, count in counts.items()})


def ranks_from_merges(merges: Iterable[tuple[bytes, bytes]]) -> dict[bytes, int]:
    """Number of each token: the bytes are 0 to 255, merges follow in order.

    A byte string that two merges make keeps the first number, so later numbers close up.
    """
    ranks = {bytes([i]): i for i in range(256)}
    for left, right in merges:
        ranks.setdefault(left + right, len(ranks))
    return ranks


class _Learner:
    """Words as lists of tokens, the count of every pair, and where each pair occurs."""

    def __init__(self, words: list[list[int]], counts: list[int]) -> None:
        self.words, self.counts = words, counts
        self.pair_counts: dict[Pair, int] = defaultdict(int)
        self.pair_words: dict[Pair, set[int]] = defaultdict(set)
        for index, (word, count) in enumerate(zip(words, counts, strict=True)):
            for pair in zip(word, word[1:], strict=False):
                self.pair_counts[pair] += count
                self.pair_words[pair].add(index)
        self.heap = [(-count, pair) for pair, count in self.pair_counts.items()]
        heapq.heapify(self.heap)

    def best_pair(self) -> Pair | None:
        """The most frequent pair. Heap entries may be stale: skip those whose count moved."""
        while self.heap:
            count, pair = heapq.heappop(self.heap)
            current = self.pair_counts.get(pair, 0)
            if current == -count and current > 0:
                return pair
            if 0 < current < -count:
                heapq.heappush(self.heap, (-current, pair))
        return None

    def merge(self, pair: Pair, new: int) -> None:
        """Replace `pair` by the token `new` in every word that holds it."""
        changes: dict[Pair, int] = defaultdict(int)
        for index in self.pair_words.pop(pair):
            self._merge_word(index, pair, new, changes)
        for changed, change in changes.items():
            if change:
                self.pair_counts[changed] += change
                # a count that fell keeps its old entry, which `best_pair` corrects when it comes up
                if change > 0:
                    heapq.heappush(self.heap, (-self.pair_counts[changed], changed))
        self.pair_counts.pop(pair, None)

    def _merge_word(self, index: int, pair: Pair, new: int, changes: dict[Pair, int]) -> None:
        word, count = self.words[index], self.counts[index]
        left, right = pair
        at = 0
        while True:
            try:
                at = word.index(left, at)
            except ValueError:
                return
            if at + 1 >= len(word):
                return
            if word[at + 1] != right:
                at += 1
                continue
            if at > 0:
                before = word[at - 1]
                changes[before, left] -= count
                changes[before, new] += count
                self.pair_words[before, new].add(index)
            if at + 2 < len(word):
                after = word[at + 2]
                changes[right, after] -= count
                changes[new, after] += count
                self.pair_words[new, after].add(index)
            word[at : at + 2] = [new]
            at += 1
