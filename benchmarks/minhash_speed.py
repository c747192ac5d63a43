"""Near-duplicates from text to groups: ours against datasketch and rensa, on one thread.

    python benchmarks/minhash_speed.py                 # some minutes
    python benchmarks/minhash_speed.py --quick         # 2,000 documents, 3 rounds

20,000 generated documents of about 220 words, of which a fifth are copies with some words changed.
Every side makes 112 permutations of word 5-grams, 14 bands of 8 rows, and joins what shares a
band. In each round every side runs once, in turn, in one process; a ratio is the peer's seconds
over ours of the same round, so above 1 means that ours is faster. rensa (Rust) is measured if it
is installed. Printed too: how far each side's groups agree with the planted ones.
"""

import os

os.environ |= {"RAYON_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import datasketch
import numpy as np
from decode_speed import chip

from llama3lib.data.dedup.minhash import Clusters, MinHash, candidate_pairs
from llama3lib.utils.files import atomic_write

try:
    import rensa
except ModuleNotFoundError:
    rensa = None

BANDS, ROWS, NGRAM = 14, 8, 5
OURS = "llama3lib"


def documents(count: int, seed: int = 0) -> tuple[list[str], list[int]]:
    """Texts, and for each the place of the text that it copies (or its own)."""
    rng = random.Random(seed)
    words = [f"w{rng.randrange(16**6):x}" for _ in range(30_000)]
    texts, origins = [], []
    for place in range(count):
        if place and rng.random() < 0.2:
            origin = origins[rng.randrange(place)]
            row = texts[origin].split()
            for _ in range(rng.randint(0, 4)):
                row[rng.randrange(len(row))] = rng.choice(words)
        else:
            origin, row = place, rng.choices(words, k=rng.randint(170, 270))
        texts.append(" ".join(row))
        origins.append(origin)
    return texts, origins


def grams(text: str) -> list[str]:
    """What the peers are given: each n-gram as a string."""
    words = text.lower().split()
    size = min(NGRAM, len(words))
    return [" ".join(words[i : i + size]) for i in range(len(words) - size + 1)]


def ours(texts: list[str]) -> Clusters:
    minhash = MinHash(BANDS * ROWS, NGRAM)
    signatures = np.stack([minhash.signature(text) for text in texts])
    clusters = Clusters(len(texts))
    for one, other in candidate_pairs(signatures, BANDS, ROWS):
        clusters.join(one, other)
    return clusters


def with_datasketch(texts: list[str]) -> Clusters:
    lsh = datasketch.MinHashLSH(num_perm=BANDS * ROWS, params=(BANDS, ROWS))
    clusters = Clusters(len(texts))
    for place, text in enumerate(texts):
        minhash = datasketch.MinHash(num_perm=BANDS * ROWS, seed=1)
        minhash.update_batch([gram.encode("utf-8") for gram in grams(text)])
        for other in lsh.query(minhash):
            clusters.join(other, place)
        lsh.insert(place, minhash)
    return clusters


def with_rensa(texts: list[str]) -> Clusters:
    lsh = rensa.RMinHashLSH(threshold=0.0, num_perm=BANDS * ROWS, num_bands=BANDS)
    clusters = Clusters(len(texts))
    for place, text in enumerate(texts):
        minhash = rensa.RMinHash(num_perm=BANDS * ROWS, seed=1)
        minhash.update(grams(text))
        for other in lsh.query(minhash):
            clusters.join(other, place)
        lsh.insert(place, minhash)
    return clusters


def agreement(clusters: Clusters, origins: list[int]) -> tuple[float, int]:
    """Share of the copies that are in one group with their original; and how many groups."""
    copies = [(place, origin) for place, origin in enumerate(origins) if place != origin]
    found = sum(clusters.find(place) == clusters.find(origin) for place, origin in copies)
    return found / len(copies), len({clusters.find(place) for place in range(len(origins))})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="2,000 documents, 3 rounds")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    options = parser.parse_args()
    if options.quick:
        options.documents, options.rounds = 2000, 3
    texts, origins = documents(options.documents)
    sides: dict[str, Callable[[list[str]], Clusters]] = {OURS: ours, "datasketch": with_datasketch}
    if rensa is not None:
        sides["rensa"] = with_rensa
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    told = {}
    for name, run in sides.items():
        recall, groups = agreement(run(texts[:2000]), origins[:2000])  # warms up, too
        told[name] = {"recall": recall, "groups": groups}
    for _ in range(options.rounds):
        for name, run in sides.items():
            start = time.perf_counter()
            run(texts)
            seconds[name].append(time.perf_counter() - start)
    for name, times in seconds.items():
        ratios = [peer / own for peer, own in zip(times, seconds[OURS], strict=True)]
        told[name] |= {
            "documents_per_second": len(texts) / statistics.median(times),
            "ratio": statistics.median(ratios),
            "least": min(ratios),
            "largest": max(ratios),
        }
        row = told[name]
        print(
            f"{name:11} {row['documents_per_second']:8.0f} documents/s, copies found "
            f"{row['recall']:.3f}, time against ours {row['ratio']:.2f}x "
            f"({row['least']:.2f}-{row['largest']:.2f})"
        )
    if options.json:
        result = {"chip": chip(), "documents": len(texts), "rounds": options.rounds, "sides": told}
        with atomic_write(options.json) as temporary:
            text = json.dumps(result, indent=2) + "\n"
            temporary.write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
