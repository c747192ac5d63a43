"""Train the small models behind the law of the mix in chapter 02, and store their losses.

    python scripts/run_mixes.py            # about five minutes on two cores

Ten mixes of three sources, three seeds each; everything follows from the seeds. The result goes to
`llama3lib/assets/mixes/runs.json` with its provenance.
"""

import argparse
import json
import platform
import time
from pathlib import Path

import torch

from llama3lib.data.mixture import mixed_texts
from llama3lib.train import ByteRun, compare_texts
from llama3lib.utils.files import atomic_write
from llama3lib.worlds.miniweb import make_web

OUT = Path(__file__).parent.parent / "llama3lib" / "assets" / "mixes" / "runs.json"
KINDS = {"code": ("program",), "maths": ("sums",), "prose": ("article", "story")}
MIXES = (
    (0.10, 0.10, 0.80),
    (0.10, 0.80, 0.10),
    (0.80, 0.10, 0.10),
    (0.10, 0.45, 0.45),
    (0.45, 0.10, 0.45),
    (0.45, 0.45, 0.10),
    (0.60, 0.20, 0.20),
    (0.20, 0.60, 0.20),
    (0.20, 0.20, 0.60),
    (0.34, 0.33, 0.33),
)
PAGES, SEED, TEST_SEED, CHARACTERS, STEPS, SEEDS = 2000, 0, 77, 150_000, 1000, (0, 1, 2)


def texts_of(pages: int, seed: int) -> dict[str, list[str]]:
    """Good English texts of a mini-web by source, without copies and older versions."""
    found = [p for p in make_web(pages, seed).pages if not p.older and not p.copy_of]
    return {name: [p.text for p in found if p.kind in kinds] for name, kinds in KINDS.items()}


def main() -> None:
    """Run all and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    sources = texts_of(PAGES, SEED)
    tests = {name: texts[:40] for name, texts in texts_of(600, TEST_SEED).items()}
    mixes = [dict(zip(KINDS, row, strict=True)) for row in MIXES]
    corpora = {str(i): mixed_texts(sources, mix, CHARACTERS) for i, mix in enumerate(mixes)}
    begun = time.perf_counter()
    told = compare_texts(
        corpora,
        tests,
        seeds=SEEDS,
        run=ByteRun(steps=STEPS),
        processes=options.processes,
        progress=True,
    )
    runs = [
        {"mix": mix, "losses": [{n: round(v, 4) for n, v in row.items()} for row in told[str(i)]]}
        for i, mix in enumerate(mixes)
    ]
    provenance = {
        "what": "held-out losses in nats per byte of small models on mixes of three sources",
        "made_by": "scripts/run_mixes.py",
        "web": {"pages": PAGES, "seed": SEED, "test_seed": TEST_SEED, "characters": CHARACTERS},
        "steps": STEPS,
        "seeds": list(SEEDS),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "seconds": round(time.perf_counter() - begun),
    }
    with atomic_write(options.out) as file:
        text = json.dumps({"provenance": provenance, "runs": runs}, indent=1)
        file.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
