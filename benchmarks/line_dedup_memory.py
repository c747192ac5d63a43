"""Memory of line de-duplication: the plain count against DuckDB's, each in a process of its own.

    python benchmarks/line_dedup_memory.py             # some minutes
    python benchmarks/line_dedup_memory.py --quick     # 200,000 and 1,000,000 lines

Both sides decide from the same notes (one number a line, nine of ten different). What is told is
the growth of the peak resident size over what the process had after its imports, for two numbers of
lines, and the slope between them in MB per million lines. Linux and macOS only.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

from decode_speed import chip

from llama3lib.data.dedup.lines import DropRepeatedLines
from llama3lib.utils.files import atomic_write

STEP = DropRepeatedLines()
PER_DOCUMENT, PER_SHARD = 50, 200_000


def notes(shard: int, lines: int) -> Iterator[tuple[str, list]]:
    """Notes of a shard, as `collect` would give them: 90 % of the lines are their own."""
    rng = random.Random(shard)
    common = [random.Random(n).getrandbits(64) for n in range(1000)]
    for place in range(lines // PER_DOCUMENT):
        own = [rng.getrandbits(64) for _ in range(PER_DOCUMENT * 9 // 10)]
        yield f"s{shard}#{place}", [0, own + rng.choices(common, k=PER_DOCUMENT - len(own))]


def shards(lines: int) -> Iterator[tuple[int, int]]:
    """Number and lines of each shard."""
    for number, start in enumerate(range(0, lines, PER_SHARD)):
        yield number, min(PER_SHARD, lines - start)


def plainly(lines: int) -> int:
    """How many lines are too frequent, by `decide`."""
    stream = (note for shard in shards(lines) for note in notes(*shard))
    return len(STEP.decide(stream)[0])


def with_duckdb(lines: int) -> int:
    """The same by the jobs that a cluster runs: a Parquet file a shard, one query a bucket."""
    from llama3lib.data import cluster

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        plan = SimpleNamespace(path=lambda phase, what, shard: path / f"{what}-{shard}")
        spread = partial(cluster._spread_lines, plan, SimpleNamespace(number=0), path)
        for shard, count in shards(lines):
            rows = (json.dumps(note) + "\n" for note in notes(shard, count))
            with open(plan.path(0, "notes", shard), "w", encoding="utf-8") as file:
                file.writelines(rows)
            spread(shard)
        cluster._count_lines(path, STEP.most, 0)
        return len(json.loads((path / "frequent-0.json").read_text(encoding="utf-8")))


SIDES = {"plain": plainly, "duckdb": with_duckdb}


def peak_mb() -> float:
    """Peak resident size of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def child(side: str, lines: int) -> None:
    """One measurement, told as JSON."""
    if side == "duckdb":
        SIDES[side](PER_DOCUMENT)  # imports
    before, start = peak_mb(), time.perf_counter()
    found = SIDES[side](lines)
    told = {"lines": lines, "frequent": found, "mb": peak_mb() - before}
    print(json.dumps(told | {"seconds": time.perf_counter() - start}))


def measure(side: str, lines: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", side, "--lines", str(lines)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=int, nargs="+", default=[1_000_000, 8_000_000])
    parser.add_argument("--quick", action="store_true", help="200,000 and 1,000,000 lines")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    parser.add_argument("--child", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.lines[0])
        return
    lines = [200_000, 1_000_000] if options.quick else options.lines
    told = {}
    for side in SIDES:
        rows = [measure(side, count) for count in lines]
        slope = (rows[-1]["mb"] - rows[0]["mb"]) / (lines[-1] - lines[0]) * 1e6
        told[side] = {"rows": rows, "mb_per_million_lines": slope}
        for row in rows:
            print(
                f"{side:6} {row['lines']:>10,} lines: {row['mb']:7.1f} MB more, "
                f"{row['seconds']:6.1f} s, {row['frequent']:,} frequent"
            )
        print(f"{side:6} {slope:.1f} MB per million lines")
    pairs = zip(*(told[side]["rows"] for side in SIDES), strict=True)
    assert all(one["frequent"] == other["frequent"] for one, other in pairs)
    if options.json:
        result = {"chip": chip(), "share_of_own_lines": 0.9, "sides": told}
        with atomic_write(options.json) as temporary:
            text = json.dumps(result, indent=2) + "\n"
            temporary.write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
