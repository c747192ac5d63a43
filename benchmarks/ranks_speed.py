"""Decoding on two processes against one: pipeline with one and two micro-batches, and tensor
parallel (§6.1, Figure 24).

    python benchmarks/ranks_speed.py                    # about ten minutes
    python benchmarks/ranks_speed.py --batches 2 128 --rounds 3

Random weights of the 110m shape in float32, fused and packed; each process has one thread, and one
side is also a single process of two threads. All texts of a batch are written at the same time,
after prompts of 16 tokens. Sides take turns in one run; a ratio is one process's seconds over the
other's of the same round, and latency the mean time from one token of a text to its next.
"""

import argparse
import json
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from decode_speed import chip

from llama3lib.parallel.launch import launch
from llama3lib.utils.files import atomic_write
from widgets.ch09 import two_ranks

BATCHES = (2, 8, 32, 128)


@dataclass(frozen=True, kw_only=True)
class Result:
    """A side at one size of batch; ratios over the rounds."""

    side: str
    batch: int
    tokens_per_s: float
    latency_ms: float
    ratio: float
    least: float
    largest: float


def results_of(told: dict[str, Any]) -> list[Result]:
    """From what rank 0 told of a batch."""
    batch, results = told["batch"], []
    found = {side: [row["seconds"] for row in rows] for side, rows in told["sides"].items()}
    for side, seconds in found.items():
        pairs = zip(found["one process"], seconds, strict=True)
        ratios = [one / other for one, other in pairs]
        middle = statistics.median(seconds)
        results.append(
            Result(
                side=side,
                batch=batch,
                tokens_per_s=round(batch * two_ranks.NEW / middle, 1),
                latency_ms=round(1000 * middle / two_ranks.NEW, 1),
                ratio=round(statistics.median(ratios), 2),
                least=round(min(ratios), 2),
                largest=round(max(ratios), 2),
            )
        )
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, nargs="+", default=list(BATCHES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    words = ["110m", str(asked.rounds), *map(str, asked.batches)]
    done = launch(two_ranks.__file__, *words, ranks=2, seconds=3600)
    results = [one for line in done.logs[0].splitlines() for one in results_of(json.loads(line))]
    head = f"{'side':26}{'batch':>6}{'tokens/s':>10}{'ms a token':>12}{'ratio':>7}"
    print(f"{head}  least to largest")
    for r in results:
        rates = f"{r.side:26}{r.batch:6}{r.tokens_per_s:10.1f}{r.latency_ms:12.1f}{r.ratio:7.2f}"
        print(f"{rates}  {r.least:.2f} to {r.largest:.2f}")
    if asked.out:
        made = {"machine": chip(), "torch": torch.__version__, "rounds": asked.rounds}
        made["results"] = [asdict(r) for r in results]
        with atomic_write(asked.out) as file:
            file.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
