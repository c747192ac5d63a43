"""What the comparisons of chapter 05 learn, as token shards.

Bytes of general texts and of word problems, so that turning from one to the other can be measured;
and strings of symbols that repeat, for which the right next symbol is known.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from llama3lib.data.tokens import TokenShard, write_token_shard
from llama3lib.worlds.miniweb import prose
from llama3lib.worlds.stories import stories

SYMBOLS = 64
"""Of the strings to copy; one more token ends each."""


def byte_shard(texts: Iterable[str], folder: Path) -> TokenShard:
    """Bytes of texts as symbols of a lesson, for which no tokenizer is needed; a 0 ends each."""
    return write_token_shard(texts, _as_bytes, folder, vocab_size=256, end=0, overwrite=True)


def _as_bytes(text: str) -> bytes:
    return text.replace("\0", "").encode("utf-8", "replace")


def general_texts(count: int, seed: int) -> list[str]:
    """Articles about invented towns, and stories: the bulk of what there is to learn from."""
    rng = random.Random(seed)
    tales = stories(seed)
    return [next(tales) if n % 3 == 2 else _article(rng) for n in range(count)]


def maths_texts(count: int, seed: int) -> list[str]:
    """Word problems with their sums: the domain that annealing turns to."""
    rng = random.Random(seed)
    return ["\n".join(prose.sums(rng)[1]) for _ in range(count)]


def _article(rng: random.Random) -> str:
    title, sections = prose.article(rng)
    lines = [line for head, part in sections for line in (head, *part)]
    return "\n".join([title, *lines])


def text_shards(folder: Path, seed: int = 0) -> dict[str, TokenShard]:
    """Bytes of both kinds of text to train on, and of others to measure on."""
    made = {
        "general": general_texts(1500, seed),
        "maths": maths_texts(1500, seed),
        "general-test": general_texts(60, seed + 1_000_003),
        "maths-test": maths_texts(100, seed + 1_000_003),
    }
    return {name: byte_shard(texts, folder / name) for name, texts in made.items()}


def story_shards(folder: Path, count: int, seed: int = 0) -> dict[str, TokenShard]:
    """Stories as bytes, to train on and to measure on."""
    made = {"stories": stories(seed), "stories-test": stories(seed + 1_000_003)}
    counts = {"stories": count, "stories-test": 100}
    return {n: byte_shard(islice(s, counts[n]), folder / n) for n, s in made.items()}


def repeated(
    count: int, length: int, seed: int, periods: tuple[float, float] = (1 / 8, 1 / 2)
) -> Iterator[str]:
    """Random strings, each repeated to `length` - 1 symbols; periods are shares of the length."""
    rng = np.random.default_rng(seed)
    shortest, longest = (int(share * length) for share in periods)
    for _ in range(count):
        period = int(rng.integers(shortest, longest + 1))
        string = rng.integers(SYMBOLS, size=period)
        yield "".join(chr(symbol) for symbol in np.resize(string, length - 1))


def copy_shards(
    folder: Path,
    lengths: Sequence[int],
    seed: int = 0,
    periods: tuple[float, float] = (1 / 8, 1 / 2),
) -> dict[str, TokenShard]:
    """For each length a source whose windows hold one repeated string each."""
    return {
        f"copy-{length}": write_token_shard(
            repeated(400_000 // length, length, seed + length, periods),
            lambda text: [ord(symbol) for symbol in text],
            folder / f"copy-{length}",
            vocab_size=SYMBOLS + 1,
            end=SYMBOLS,
            overwrite=True,
        )
        for length in lengths
    }
