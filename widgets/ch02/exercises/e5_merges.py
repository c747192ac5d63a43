"""Exercise 02.5: merges of a tokenizer, learned fast enough."""

import random
import time
from collections import Counter
from collections.abc import Callable

from widgets.core.exercise import Exercise
from widgets.core.forms import like
from widgets.core.judge import Case, Mistake, run

E = Exercise(
    "02.5",
    "learn_merges",
    hints=(
        "A merge changes only the words that hold the pair. Why count all the others again?",
        "Keep three things: the pieces of each word, the count of each pair, and for each pair "
        "the words that hold it. After a merge take the old pairs of those words out of the "
        "counts, and put the new ones in.",
        "best = min(counts, key=lambda p: (-counts[p], p)). For each word in where[best]: "
        "subtract its pairs, join the pieces, add its pairs. Drop pairs whose count is 0.",
    ),
)
Words = dict[str, int]
Pair = tuple[str, str]


def _pairs(parts: list[str]) -> list[Pair]:
    return list(zip(parts, parts[1:], strict=False))


def _join(parts: list[str], pair: Pair) -> list[str]:
    out, place = [], 0
    while place < len(parts):
        width = 2 if tuple(parts[place : place + 2]) == pair else 1
        out.append("".join(parts[place : place + width]))
        place += width
    return out


def learn_merges(words: Words, count: int) -> list[Pair]:
    """Learn merges, touching only the words that hold the pair."""
    pieces = {word: list(word) for word in words}
    counts: Counter[Pair] = Counter()
    where: dict[Pair, set[str]] = {}

    def add(word: str, times: int) -> None:
        for pair in _pairs(pieces[word]):
            counts[pair] += times
            where.setdefault(pair, set()).add(word)
            if not counts[pair]:
                del counts[pair]

    for word, times in words.items():
        add(word, times)
    learned: list[Pair] = []
    while counts and len(learned) < count:
        most = max(counts.values())
        learned.append(best := min(pair for pair, n in counts.items() if n == most))
        for word in where.pop(best):
            add(word, -words[word])
            pieces[word] = _join(pieces[word], best)
            add(word, words[word])
    return learned


def _plain(
    words: Words,
    count: int,
    *,
    weight: Callable[[int], int] = lambda times: times,
    key: Callable[[int, Pair], tuple] = lambda n, pair: (-n, pair),
    join: Callable[[list[str], Pair], list[str]] = _join,
) -> list[Pair]:
    """Count all pairs again for each merge."""
    pieces = {word: list(word) for word in words}
    learned: list[Pair] = []
    for _ in range(count):
        counts: Counter[Pair] = Counter()
        for word, parts in pieces.items():
            for pair in _pairs(parts):
                counts[pair] += weight(words[word])
        left = [pair for pair in counts if pair not in learned]
        if not left:
            break
        learned.append(min(left, key=lambda pair: key(counts[pair], pair)))
        pieces = {word: join(parts, learned[-1]) for word, parts in pieces.items()}
    return learned


E.reference(learn_merges, model=_plain)
E.mistake("words are counted once, however often they come", weight=lambda times: 1).why(
    "A pair in a word that comes 5 times counts 5."
)
E.mistake(
    "ties go to the largest pair", key=lambda n, pair: (-n, tuple(-ord(piece[0]) for piece in pair))
).why("Of equally frequent pairs take the smallest.")
E.mistake("the rarest pair is merged", key=lambda n, pair: (n, pair)).why(
    "The most frequent pair comes first."
)
E.mistake("pieces are never joined", join=lambda parts, pair: parts).why(
    "After a merge the new piece makes pairs with its neighbours."
)


def _drawn(letters: str, lengths: tuple[int, int], number: int) -> Words:
    draw = random.Random(3)
    return {
        "".join(draw.choices(letters, k=draw.randint(*lengths))): 1 + i % 9 for i in range(number)
    }


E.cases(
    [
        ({"aab": 1, "ab": 1}, 1),
        ({"ab": 1, "cd": 3, "ce": 1}, 2),
        ({"ab": 2, "cd": 2}, 2),
        Case(({"abc": 3, "bcd": 2}, 9), "words={'abc': 3, 'bcd': 2}, count=9: fewer are there"),
        Case((_drawn("abcd", (2, 6), 20), 12), "twenty words of a, b, c, d, count=12"),
    ]
)


@E.rule
def _is_fast(function: Callable) -> None:
    """In time of the processor, so that other programs do not matter.

    Counting all pairs again takes 13 times as long as `learn_merges`.
    """
    shows = "4,000 words, 300 merges"
    many = _drawn("etaoinshrdlu", (4, 11), 4000)
    want, ours = _timed(lambda: learn_merges(many, 300))

    def slow(seconds: str) -> Mistake:
        why = f"{seconds} s; {ours:.1f} s are enough here. Count only what a merge changes."
        return Mistake("it is right, but slow", shows=shows, why=why)

    with function.limit.within(30.0, slow("more than 30")):
        got, theirs = _timed(lambda: run(function, Case((many, 300), shows), "learn_merges"))
    if like(got, want) != want:
        raise Mistake("learn_merges: the values differ", shows=shows)
    if theirs > 8 * ours:
        raise slow(f"{theirs:.1f}")


def _timed(work: Callable[[], object]) -> tuple[object, float]:
    begun = time.thread_time()
    return work(), time.thread_time() - begun
