"""Needle in a haystack: can a model find one sentence in a long text? (§3.4.2, §5.2.6)

A sentence is hidden in a text and asked for; `symbols` has the form for models that cannot read.

There is no generation loop. Greedy generation writes the answer exactly if every answer token is
the likeliest one after the answer tokens before it, and one pass over prompt and answer shows that
for all of them (teacher forcing).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from llama3lib.eval.grid import NeedleGrid
from llama3lib.eval.multiple_choice import encode_pair, score_continuations
from llama3lib.model import Transformer
from llama3lib.tokenizer import Tokenizer
from llama3lib.utils.require import between, require

_CITIES = ("Lisbon", "Oslo", "Quito", "Hanoi", "Dakar", "Riga", "Cusco", "Perth", "Cairo", "Lima")
_SENTENCE_ENDS = (b".", b"!", b"?", b"\n")


@dataclass(frozen=True, kw_only=True)
class Needle:
    """A sentence to hide, and the question whose continuation is `answer`.

    Raises ValueError if one of them is empty.
    """

    sentence: str
    question: str
    answer: str

    def __post_init__(self) -> None:
        for field in ("sentence", "question", "answer"):
            ok = isinstance(getattr(self, field), str) and getattr(self, field).strip()
            require(ok, field, getattr(self, field), "some text")


def city_needle(seed: int) -> Needle:
    """A needle no text holds by chance: the secret number of a city; another for each seed."""
    rng = np.random.default_rng(seed)
    city, number = _CITIES[rng.integers(len(_CITIES))], int(rng.integers(1_000_000, 10_000_000))
    return Needle(
        sentence=f"The secret number of {city} is {number}.",
        question=f"What is the secret number of {city}? The secret number of {city} is",
        answer=f" {number}",
    )


def needle_prompt(
    tokenizer: Tokenizer,
    haystack: str | Sequence[str],
    needle: Needle,
    *,
    length: int,
    depth: float,
    bos: bool = True,
) -> tuple[list[int], list[int]]:
    """Ids of the prompt and of the answer: together exactly `length` tokens.

    haystack: texts, put one after the other and begun again as often as it takes.
    depth: where in the haystack the needle stands, 0 before all of it and 1 after all of it; in
    between it moves back to the nearest end of a sentence, if there is one.

    Raises ValueError if the haystack is empty or holds the needle already, the depth is not
    within 0 to 1, or the length leaves no room for haystack.
    """
    texts = _texts(haystack, [needle])
    return _build(tokenizer, _encode_all(tokenizer, texts), needle, length, depth, bos)


def needle_grid(
    model: Transformer,
    tokenizer: Tokenizer,
    haystack: str | Sequence[str],
    needles: Sequence[Needle],
    *,
    lengths: Sequence[int],
    depths: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0),
    bos: bool = True,
    batch_size: int = 1,
) -> NeedleGrid:
    """Hide each needle at each depth of each length, and count the answers found (§5.2.6).

    lengths: in tokens, question and answer included, so that the longest may be the context
    window. Needle number i is hidden in the texts beginning with text i.

    Raises ValueError as `needle_prompt`, without needles, if lengths or depths do not rise, or
    if a length does not fit the position table.
    """
    if not needles:
        raise ValueError("needles is not allowed to be empty: at least one")
    check_axes(lengths, depths)
    encoded = _encode_all(tokenizer, _texts(haystack, needles))
    shape = (len(lengths), len(depths))
    found, nats = np.zeros(shape, dtype=np.int64), np.zeros(shape)
    for i, length in enumerate(lengths):
        pairs = []
        for depth in depths:
            for turn, needle in enumerate(needles):
                first = turn % len(encoded)
                hay = encoded[first:] + encoded[:first]
                pairs.append(_build(tokenizer, hay, needle, length, depth, bos))
        scored = score_continuations(model, pairs, batch_size=batch_size)
        for j in range(len(depths)):
            cell = scored[j * len(needles) : (j + 1) * len(needles)]
            found[i, j] = sum(one.greedy for one in cell)
            nats[i, j] = -math.fsum(c.log_prob for c in cell) / sum(c.n_tokens for c in cell)
    tries = np.full(shape, len(needles))
    return NeedleGrid(tuple(lengths), tuple(depths), found, tries, nats)


def _build(
    tokenizer: Tokenizer,
    hay: Sequence[list[int]],
    needle: Needle,
    length: int,
    depth: float,
    bos: bool,
) -> tuple[list[int], list[int]]:
    between("depth", depth, 0, 1)
    sentence = tokenizer.encode(f" {needle.sentence.strip()} ")
    question, answer = encode_pair(tokenizer, f"\n{needle.question}", needle.answer, bos=False)
    front = [tokenizer.bos_id] if bos else []
    room = length - len(front) - len(sentence) - len(question) - len(answer)
    require(room >= 1, "length", length, f"{length - room + 1} or more")
    straw = [token for text in hay for token in text]
    straw = (straw * -(-room // len(straw)))[:room]
    place = round(depth * room)
    if 0 < place < room:
        place = _sentence_end(tokenizer, straw, place)
    return front + straw[:place] + sentence + straw[place:] + question, answer


def _sentence_end(tokenizer: Tokenizer, ids: list[int], place: int) -> int:
    """The last place up to `place` that follows an end of a sentence; `place` if there is none."""
    for before in range(place, 0, -1):
        if tokenizer.token_bytes(ids[before - 1]).rstrip(b" ").endswith(_SENTENCE_ENDS):
            return before
    return place


def _texts(haystack: str | Sequence[str], needles: Sequence[Needle]) -> list[str]:
    texts = [haystack] if isinstance(haystack, str) else list(haystack)
    if not texts or not all(isinstance(text, str) and text for text in texts):
        raise ValueError("haystack is not allowed to be empty: one text or more")
    for needle in needles:
        if any(needle.sentence.strip() in text for text in texts):
            raise ValueError(f"haystack has the needle {needle.sentence!r} already")
    return texts


def _encode_all(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    return [tokenizer.encode(text + "\n") for text in texts]


def check_axes(lengths: Sequence[int], depths: Sequence[float]) -> None:
    """Raises ValueError unless both rise, with at least one value each."""
    for field, values in (("lengths", lengths), ("depths", depths)):
        ok = len(values) and not any(a >= b for a, b in pairwise(values))
        require(ok, field, tuple(values), "one or more, rising")
