"""Chapter 02, exercises 1 to 4 (lines, MinHash, bands, merges), and the table of all seven."""

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence

from llama3lib.data.dedup.minhash import choose_bands
from widgets.ch02.exercises.hints import HINTS
from widgets.ch02.exercises.models import check_cleaning, check_mix, check_quality
from widgets.core.judge import Case, Known, Mistake, diagnose, functions_of, run

__all__ = ["CHECKS", "HINTS"]

Documents = list[list[str]]


# 02.1 repeated lines --------------------------------------------------------------------------


def _drop_repeated(documents: Documents, most: int) -> Documents:
    counts = Counter(line for document in documents for line in document)
    return [[line for line in document if counts[line] <= most] for document in documents]


def _at_least(documents: Documents, most: int) -> Documents:
    return _drop_repeated(documents, most - 1)


def _by_document(documents: Documents, most: int) -> Documents:
    counts = Counter(line for document in documents for line in set(document))
    return [[line for line in document if counts[line] <= most] for document in documents]


def _first_ones_stay(documents: Documents, most: int) -> Documents:
    seen: Counter[str] = Counter()
    kept = []
    for document in documents:
        kept.append([])
        for line in document:
            seen[line] += 1
            if seen[line] <= most:
                kept[-1].append(line)
    return kept


def _one_stays(documents: Documents, most: int) -> Documents:
    counts, seen, kept = Counter(x for d in documents for x in d), set(), []
    for document in documents:
        kept.append([x for x in document if counts[x] <= most or not (x in seen or seen.add(x))])
    return kept


def _lost_order(documents: Documents, most: int) -> Documents:
    return [sorted(set(document)) for document in _drop_repeated(documents, most)]


_LINES_KNOWN = [
    Known("lines at the limit are removed too", _at_least, "'More than' keeps the limit itself."),
    Known(
        "documents are counted, not lines",
        _by_document,
        "A line counts once for every time it stands anywhere, also twice in one document.",
    ),
    Known(
        "the first copies stay",
        _first_ones_stay,
        "A line over the limit goes everywhere, also from the documents that had it first.",
    ),
    Known("one copy stays", _one_stays, "A line over the limit goes from all documents."),
    Known(
        "order or doubles are lost",
        _lost_order,
        "What stays must stay as it was: same order, same number.",
    ),
]


def check_lines(answer: object) -> None:
    """Judge `drop_repeated_lines(documents, most)`."""
    draw = random.Random(1)
    pool = "abcdefgh"
    many = [[draw.choice(pool[: 1 + i % 8]) for _ in range(i % 5 + 1)] for i in range(12)]
    cases = [
        Case(([["a"], ["a", "b"]], 1), "documents=[['a'], ['a', 'b']], most=1"),
        Case(([["a"], ["a", "b"]], 2), "documents=[['a'], ['a', 'b']], most=2"),
        Case(([["a", "a"], ["b"]], 1), "documents=[['a', 'a'], ['b']], most=1"),
        Case(([["b", "a", "b"], ["c"]], 2), "documents=[['b', 'a', 'b'], ['c']], most=2"),
        Case(([["x"] * 7, ["y"] * 6], 6), "seven times 'x', six times 'y', most=6"),
        Case((many, 4), "twelve documents of random letters, most=4"),
    ]
    diagnose(answer, _drop_repeated, cases, _LINES_KNOWN, what="drop_repeated_lines")


# 02.2 MinHash ---------------------------------------------------------------------------------

_P = 2**61 - 1


def _signature(shingles: set[int], factors: Sequence[int], offsets: Sequence[int]) -> list[int]:
    return [min((a * x + b) % _P for x in shingles) for a, b in zip(factors, offsets, strict=True)]


def _estimate(one: list[int], other: list[int]) -> float:
    return sum(s == t for s, t in zip(one, other, strict=True)) / len(one)


def _varied(change: Callable) -> Callable:
    def wrong(shingles: set[int], factors: Sequence[int], offsets: Sequence[int]) -> list[int]:
        return [change(shingles, a, b) for a, b in zip(factors, offsets, strict=True)]

    return wrong


_SIGNATURE_KNOWN = [
    Known("the largest value is taken", _varied(lambda s, a, b: max((a * x + b) % _P for x in s))),
    Known(
        "the remainder is missing",
        _varied(lambda s, a, b: min(a * x + b for x in s)),
        "Without it the order is that of the numbers themselves: no shuffle.",
    ),
    Known("the offset is missing", _varied(lambda s, a, b: min(a * x % _P for x in s))),
    Known(
        "the least number is shuffled, not the numbers",
        _varied(lambda s, a, b: (a * min(s) + b) % _P),
        "First shuffle all, then take the least.",
    ),
    Known(
        "all values are kept",
        lambda s, f, o: sorted((f[0] * x + o[0]) % _P for x in s),
        "One number for each shuffle: the least.",
    ),
]
_ESTIMATE_KNOWN = [
    Known(
        "signatures are compared as sets",
        lambda s, t: len(set(s) & set(t)) / len(set(s) | set(t)),
        "Place i of one belongs to place i of the other: both used the same shuffle.",
    ),
    Known(
        "equal places are counted, not their share",
        lambda s, t: float(sum(a == b for a, b in zip(s, t, strict=True))),
    ),
    Known(
        "it stops at the first difference",
        lambda s, t: (
            next((i for i, (a, b) in enumerate(zip(s, t, strict=True)) if a != b), len(s)) / len(s)
        ),
    ),
]


def check_minhash(answer: object) -> None:
    """Judge `signature(shingles, factors, offsets)` and `estimate(one, other)`."""
    signature, estimate = functions_of(answer, ("signature", "estimate"))
    draw = random.Random(2)
    factors = [draw.randrange(1, _P) for _ in range(64)]
    offsets = [draw.randrange(_P) for _ in range(64)]
    some = {draw.randrange(2**60) for _ in range(50)}
    cases = [
        Case(({1}, [3], [5]), "shingles={1}, factors=[3], offsets=[5]"),
        Case(({1, 2}, [2**60], [0]), "shingles={1, 2}, factors=[2**60], offsets=[0]"),
        Case(({3, 7}, [5, 2**60], [1, 9]), "shingles={3, 7}, factors=[5, 2**60], offsets=[1, 9]"),
        Case((some, factors, offsets), "50 shingles, 64 shuffles"),
    ]
    diagnose(signature, _signature, cases, _SIGNATURE_KNOWN, what="signature")
    pairs = [
        Case(([1, 2], [1, 3]), "one=[1, 2], other=[1, 3]"),
        Case(([1, 2, 3], [2, 1, 3]), "one=[1, 2, 3], other=[2, 1, 3]"),
        Case(([5, 6, 7, 8], [5, 6, 7, 8]), "one=other=[5, 6, 7, 8]"),
        Case(([1, 2, 3, 4], [9, 2, 9, 4]), "one=[1, 2, 3, 4], other=[9, 2, 9, 4]"),
    ]
    diagnose(estimate, _estimate, pairs, _ESTIMATE_KNOWN, what="estimate")


# 02.3 bands and rows --------------------------------------------------------------------------


def _choose(similarity: float, recall: float, numbers: int) -> tuple[int, int]:
    return choose_bands(numbers, similarity, recall)


def _search(chance: Callable, upward: bool = False) -> Callable:
    """The exercise's search with another formula, or from the wrong end."""

    def wrong(similarity: float, recall: float, numbers: int) -> tuple[int, int]:
        order = range(1, numbers + 1) if upward else range(numbers, 0, -1)
        for rows in order:
            if chance(similarity, numbers // rows, rows) >= recall:
                return numbers // rows, rows
        return 0, 0

    return wrong


def _curve(similarity: float, bands: int, rows: int) -> float:
    return 1 - (1 - similarity**rows) ** bands


_BANDS_KNOWN = [
    Known(
        "bands and rows are swapped",
        lambda s, r, n: _choose(s, r, n)[::-1],
        "Return (bands, rows).",
    ),
    Known(
        "the exponents are swapped",
        _search(lambda s, bands, rows: _curve(s, rows, bands)),
        "All rows of a band must agree (power rows); any band will do (power bands).",
    ),
    Known(
        "the fewest rows are taken",
        _search(_curve, upward=True),
        "One row finds everything, also what is not alike. Which choice is sharpest?",
    ),
    Known(
        "a single band is looked at",
        _search(lambda s, bands, rows: s**rows),
        "There are many bands, and one that agrees is enough.",
    ),
]


def check_bands(answer: object) -> None:
    """Judge `choose(similarity, recall, numbers)`."""
    cases = [
        Case((0.8, 0.95, 4), "similarity=0.8, recall=0.95, numbers=4"),
        Case((0.8, 0.95, 112), "similarity=0.8, recall=0.95, numbers=112"),
        Case((0.5, 0.9, 128), "similarity=0.5, recall=0.9, numbers=128"),
        Case((0.9, 0.99, 256), "similarity=0.9, recall=0.99, numbers=256"),
    ]
    diagnose(answer, _choose, cases, _BANDS_KNOWN, what="choose")


# 02.4 merges, fast enough ---------------------------------------------------------------------

Words = dict[str, int]
Merges = list[tuple[str, str]]


def _merges(words: Words, count: int) -> Merges:
    """Learn merges, touching only the words that hold the pair."""
    pieces = {word: list(word) for word in words}
    counts: Counter[tuple[str, str]] = Counter()
    where: dict[tuple[str, str], set[str]] = {}
    for word, n in words.items():
        for pair in zip(word, word[1:], strict=False):
            counts[pair] += n
            where.setdefault(pair, set()).add(word)
    learned: Merges = []
    for _ in range(count):
        if not counts:
            break
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        learned.append(best)
        for word in where.pop(best):
            _replace(word, words[word], best, pieces, counts, where)
        counts.pop(best, None)
    return learned


def _replace(
    word: str, n: int, best: tuple[str, str], pieces: dict, counts: Counter, where: dict
) -> None:
    old = pieces[word]
    new = _join(old, best)
    for pair in zip(old, old[1:], strict=False):
        counts[pair] -= n
        if counts[pair] <= 0:
            del counts[pair]
    for pair in zip(new, new[1:], strict=False):
        counts[pair] += n
        where.setdefault(pair, set()).add(word)
    pieces[word] = new


def _join(parts: list[str], pair: tuple[str, str]) -> list[str]:
    out, place = [], 0
    while place < len(parts):
        if tuple(parts[place : place + 2]) == pair:
            out.append(parts[place] + parts[place + 1])
            place += 2
        else:
            out.append(parts[place])
            place += 1
    return out


def _slow(words: Words, count: int, key: Callable, weighted: bool = True) -> Merges:
    """The plain way: count all pairs again for each merge. Made wrong by its key."""
    pieces = {word: list(word) for word in words}
    learned: Merges = []
    for _ in range(count):
        counts: Counter[tuple[str, str]] = Counter()
        for word, parts in pieces.items():
            for pair in zip(parts, parts[1:], strict=False):
                counts[pair] += words[word] if weighted else 1
        if not counts:
            break
        best = min(counts, key=lambda pair: key(counts[pair], pair))
        learned.append(best)
        pieces = {word: _join(parts, best) for word, parts in pieces.items()}
    return learned


_MERGES_KNOWN = [
    Known(
        "words are counted once, however often they come",
        lambda words, n: _slow(words, n, lambda c, p: (-c, p), weighted=False),
        "A pair in a word that comes 5 times counts 5.",
    ),
    Known(
        "ties go to the largest pair",
        lambda words, n: _slow(words, n, lambda c, p: (-c, tuple(-ord(x[0]) for x in p))),
        "Of equally frequent pairs take the smallest.",
    ),
    Known(
        "the rarest pair is merged",
        lambda words, n: _slow(words, n, lambda c, p: (c, p)),
        "The most frequent pair comes first.",
    ),
    Known(
        "pieces are never joined",
        lambda words, n: [
            pair
            for pair, _ in sorted(
                Counter(
                    {
                        p: sum(words[w] * list(zip(w, w[1:], strict=False)).count(p) for w in words)
                        for p in {q for w in words for q in zip(w, w[1:], strict=False)}
                    }
                ).items(),
                key=lambda item: (-item[1], item[0]),
            )[:n]
        ],
        "After a merge the new piece makes pairs with its neighbours.",
    ),
]


def check_merges(answer: object) -> None:
    """Judge `learn_merges(words, count)`: right first, then fast enough."""
    if not callable(answer):
        raise Mistake("check needs the function", why="Call check('02.4', learn_merges).")
    draw = random.Random(3)
    some = {
        "".join(draw.choices("abcd", k=draw.randint(2, 6))): draw.randint(1, 9) for _ in range(20)
    }
    cases = [
        Case(({"aab": 1, "ab": 1}, 1), "words={'aab': 1, 'ab': 1}, count=1"),
        Case(({"ab": 1, "cd": 3, "ce": 1}, 2), "words={'ab': 1, 'cd': 3, 'ce': 1}, count=2"),
        Case(({"ab": 2, "cd": 2}, 2), "words={'ab': 2, 'cd': 2}, count=2"),
        Case(({"abc": 3, "bcd": 2}, 9), "words={'abc': 3, 'bcd': 2}, count=9: fewer are there"),
        Case((some, 12), "twenty words of a, b, c, d, count=12"),
    ]
    diagnose(answer, _merges, cases, _MERGES_KNOWN, what="learn_merges")
    letters = "etaoinshrdlu"
    many = {"".join(draw.choices(letters, k=draw.randint(4, 11))): 1 + i % 7 for i in range(6000)}
    begun = time.perf_counter()
    want = _merges(many, 400)
    ours = time.perf_counter() - begun
    begun = time.perf_counter()
    got = run(answer, Case((many, 400), "6,000 words, 400 merges"), "learn_merges")
    theirs = time.perf_counter() - begun
    if got != want:
        raise Mistake("learn_merges: the values differ", shows="6,000 words, 400 merges")
    if theirs > 8 * ours + 0.5:
        why = f"{theirs:.1f} s for 6,000 words and 400 merges; {ours:.1f} s are enough here."
        raise Mistake("it is right, but slow", why=f"{why} Count only what a merge changes.")


CHECKS: dict[str, Callable[[object], None]] = {
    "02.1": check_lines,
    "02.2": check_minhash,
    "02.3": check_bands,
    "02.4": check_merges,
    "02.5": check_quality,
    "02.6": check_mix,
    "02.7": check_cleaning,
}
