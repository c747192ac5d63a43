"""HTML to text: ours against trafilatura, in speed and against the truth of the mini-web.

    python benchmarks/extract_speed.py                 # a minute or two
    python benchmarks/extract_speed.py --quick         # 200 pages, 3 rounds

In each round both sides extract all pages, in turn, in one process on one thread; a ratio is
trafilatura's seconds over ours of the same round, so above 1 means that ours is faster. Since every
line of the mini-web was put there by us, both are also scored: the share of content lines that is
found, and the share of frame lines (menus, notices) that is left in. Some layouts mark their frame
by no tag or class: only line de-duplication can take that away. The pages are ours and of few
kinds, so the scores do not say which side is better on the real web. Ours runs without its sandbox.
"""

import argparse
import json
import re
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import trafilatura
from decode_speed import chip

from llama3lib.data.extract import extract_text
from llama3lib.utils.files import atomic_write
from llama3lib.worlds.miniweb import Page, make_web

OURS, PEER = "llama3lib", "trafilatura"
SIDES: dict[str, Callable[[str], str]] = {
    OURS: extract_text,
    PEER: lambda html: trafilatura.extract(html) or "",
}


def letters(text: str) -> str:
    """A text as it is compared: letters and figures only, no marks of structure."""
    return re.sub(r"\W+", "", text.lower())


def score(extract: Callable[[str], str], pages: Sequence[Page]) -> dict[str, float]:
    """Shares of content lines that are found and of frame lines that are left in."""
    there = found = frame = left = 0
    for page in pages:
        extracted = extract(page.html)
        text, lines = letters(extracted), {letters(line) for line in extracted.splitlines()}
        content = [letters(line) for line in page.lines if letters(line)]
        there, found = there + len(content), found + sum(line in text for line in content)
        around = {letters(line) for line in page.frame if letters(line)}
        # "Home" may be a part of the content, but is no line of its own there
        frame, left = frame + len(around), left + len(around & lines)
    return {"content_recall": found / there, "frame_left": left / frame}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pages", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="200 pages, 3 rounds")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    options = parser.parse_args()
    if options.quick:
        options.pages, options.rounds = 200, 3
    pages = make_web(options.pages, seed=1).pages
    told = {name: score(extract, pages) for name, extract in SIDES.items()}  # warms up, too
    seconds: dict[str, list[float]] = {name: [] for name in SIDES}
    for _ in range(options.rounds):
        for name, extract in SIDES.items():
            start = time.perf_counter()
            for page in pages:
                extract(page.html)
            seconds[name].append(time.perf_counter() - start)
    ratios = [peer / own for peer, own in zip(seconds[PEER], seconds[OURS], strict=True)]
    for name, row in told.items():
        row["pages_per_second"] = len(pages) / statistics.median(seconds[name])
        print(
            f"{name:11} {row['pages_per_second']:7.0f} pages/s, content lines found "
            f"{row['content_recall']:.4f}, frame lines left {row['frame_left']:.4f}"
        )
    print(
        f"time, {PEER} / ours: {statistics.median(ratios):.2f}x "
        f"({min(ratios):.2f}-{max(ratios):.2f}, {options.rounds} rounds, {len(pages)} pages)"
    )
    if options.json:
        result = {
            "chip": chip(),
            PEER: trafilatura.__version__,
            "pages": len(pages),
            "ratios": sorted(ratios),
            "sides": told,
        }
        with atomic_write(options.json) as temporary:
            text = json.dumps(result, indent=2) + "\n"
            temporary.write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
