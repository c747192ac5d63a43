"""An invented language with a long tail: words and pairs of words whose frequencies follow Zipf.

A scaling law needs a text in which something rarer is always left to learn. Stories from a few
patterns lack it: a model of 14,000 parameters learns all patterns at once and its loss falls off a
cliff. Here each word has its own order of followers, the first far likelier than the next, and
each text a topic; so the next most frequent pair is always waiting. All of it is our invention.

One word is one token, as in a tokenizer that knows the whole vocabulary. And since we wrote the
language, we know what nobody knows of a real one: the least loss that any model can have.
"""

import bisect
import itertools
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from llama3lib.utils.require import at_least, require

WORDS = 2047
"""Together with the token that ends a text, a round number."""
_BEGIN = "b d f g h k l m n p r s t v w z br dr fl gr kr pl sh st th tr".split()
_MIDDLE = "a e i o u ai ea ou".split()
_END = ("", "", "", "n", "r", "l", "s", "m", "t", "nd", "rk")
_FOLLOW, _TOPIC = 0.85, 0.10  # else: any word, by its frequency
_STEEP = 2.0  # how much likelier the first follower is than the next
_FOLLOWERS = 32
_TOPICS, _TOPIC_WORDS = 64, 12
_SHORTEST, _LONGEST = 20, 80
MEAN_TOKENS = (_SHORTEST + _LONGEST) / 2 + 1
"""Of a text, on average; the end counts as one."""


@dataclass(frozen=True)
class Question:
    """The beginning of a text, words that might come next, and the place of the likeliest one."""

    prompt: tuple[int, ...]
    choices: tuple[int, ...]
    answer: int


class InventedLanguage:
    """`words`, and how they follow each other; everything is drawn from `seed`.

    Raises ValueError for fewer than 64 words.
    """

    def __init__(self, seed: int = 0, words: int = WORDS) -> None:
        at_least("words", words, 64)
        rng = random.Random(f"language {seed}")
        self.words = _invent(rng, words)
        shares = [1 / (rank + 4) for rank in range(words)]
        self._running = list(itertools.accumulate(shares))
        self._steep = list(itertools.accumulate((n + 1) ** -_STEEP for n in range(_FOLLOWERS)))
        mild = list(itertools.accumulate(share**0.5 for share in shares))
        self._followers = [_different(rng, mild, _FOLLOWERS) for _ in range(words)]
        self._topics = [[self._any(rng) for _ in range(_TOPIC_WORDS)] for _ in range(_TOPICS)]

    def documents(self, seed: int) -> Iterator[list[int]]:
        """Endless texts of 20 to 80 words, as places in `words`; another seed, other texts."""
        rng = random.Random(f"text {seed}")
        while True:
            yield self._document(rng, rng.randint(_SHORTEST, _LONGEST))

    def written(self, ids: list[int] | tuple[int, ...]) -> str:
        """The text of a document."""
        return " ".join(self.words[n] for n in ids)

    def nats(self, document: Sequence[int]) -> Float[np.ndarray, "T"]:
        """What each word, and then the end, costs one who knows the language: minus ln chance.

        Such a reader knows all frequencies, but has to find out the topic from the words so far.
        No model has a lower mean over many documents. T is the number of words and 1 for the end.

        Raises ValueError for a document that this language cannot write.
        """
        ok = all(0 <= word < len(self.words) for word in document)
        require(ok, "document", document, f"0 to {len(self.words) - 1}")
        topics, costs = _topic_chances(), []
        for place, word in enumerate(document):
            by_topic = self._chances(document[place - 1] if place else None, word)
            chance = float(topics @ by_topic) * (1 - _end_chance(place))
            if not chance > 0:
                raise ValueError(f"document is not allowed: word {word!r} cannot be at {place}")
            costs.append(-math.log(chance))
            topics = topics * by_topic / (topics @ by_topic)
        if not _end_chance(len(document)) > 0:
            raise ValueError(f"document has {len(document)} words, but none ends there")
        return np.array([*costs, -math.log(_end_chance(len(document)))])

    def least_loss(self, count: int, seed: int) -> float:
        """Mean nats a token, ends included, of that reader on so many documents of a seed."""
        costs = [self.nats(text) for text in itertools.islice(self.documents(seed), count)]
        return float(np.concatenate(costs).mean())

    def questions(self, count: int, seed: int, choices: int = 4) -> list[Question]:
        """Which word comes next? The right one is the first follower of the last word given.

        That last word is any word, a rare one as likely as a frequent one: with scale, more and
        more of them are known. Wrong choices are first followers of other words: who only knows
        which words are frequent is right about one time in `choices`.

        Raises ValueError for fewer than one question or two choices.
        """
        if count < 1 or not 2 <= choices <= 16:
            raise ValueError(f"count={count!r}, choices={choices!r}: 1 or more, and 2 to 16")
        rng, found = random.Random(f"questions {seed}"), []
        while len(found) < count:
            prompt = self._document(rng, rng.randint(8, 24))
            prompt.append(rng.randrange(len(self.words)))
            right, *near = self._followers[prompt[-1]][:4]
            options = [right]
            while len(options) < choices:
                other = self._followers[rng.randrange(len(self.words))][0]
                if other not in options and other not in near:
                    options.append(other)
            rng.shuffle(options)
            found.append(Question(tuple(prompt), tuple(options), options.index(right)))
        return found

    def _document(self, rng: random.Random, count: int) -> list[int]:
        topic = self._topics[int(_TOPICS * rng.random() ** 2)]
        ids = [self._any(rng)]
        while len(ids) < count:
            kind = rng.random()
            if kind < _FOLLOW:
                rank = bisect.bisect(self._steep, rng.random() * self._steep[-1])
                ids.append(self._followers[ids[-1]][min(rank, _FOLLOWERS - 1)])
            elif kind < _FOLLOW + _TOPIC:
                ids.append(topic[int(_TOPIC_WORDS * rng.random())])
            else:
                ids.append(self._any(rng))
        return ids

    def _chances(self, previous: int | None, word: int) -> Float[np.ndarray, "K"]:
        """Chance of a word after another (None: it is the first), for each of the K topics."""
        before = self._running[word - 1] if word else 0.0
        anywhere = (self._running[word] - before) / self._running[-1]
        if previous is None:
            return np.full(_TOPICS, anywhere)
        follows = 0.0
        if word in self._followers[previous]:
            rank = self._followers[previous].index(word)
            follows = (rank + 1) ** -_STEEP / self._steep[-1]
        in_topic = np.array([words.count(word) / _TOPIC_WORDS for words in self._topics])
        return _FOLLOW * follows + _TOPIC * in_topic + (1 - _FOLLOW - _TOPIC) * anywhere

    def _any(self, rng: random.Random) -> int:
        place = bisect.bisect(self._running, rng.random() * self._running[-1])
        return min(place, len(self.words) - 1)


def _topic_chances() -> Float[np.ndarray, "K"]:
    """How likely each topic is: the first ones are chosen more often."""
    return np.diff(np.sqrt(np.arange(_TOPICS + 1) / _TOPICS))


def _end_chance(words: int) -> float:
    """Chance that a document ends after so many words, if it has come so far."""
    return 1 / (_LONGEST + 1 - words) if _SHORTEST <= words <= _LONGEST else 0.0


def _different(rng: random.Random, running: list[float], count: int) -> list[int]:
    """So many different words, frequent ones rather first."""
    found: dict[int, None] = {}
    while len(found) < count:
        found.setdefault(rng.choices(range(len(running)), cum_weights=running)[0])
    return list(found)


def _invent(rng: random.Random, count: int) -> list[str]:
    """So many different words; frequent ones are short, as in all languages."""
    heavy = [[1 / (n + 1) for n in range(len(part))] for part in (_BEGIN, _MIDDLE)]
    found: dict[str, None] = {}
    while len(found) < count:
        syllables = (1 if len(found) < 100 else 2) + (rng.random() < 0.3)
        parts = (
            rng.choices(_BEGIN, heavy[0])[0] + rng.choices(_MIDDLE, heavy[1])[0] + rng.choice(_END)
            for _ in range(syllables)
        )
        found.setdefault("".join(parts))
    return list(found)
