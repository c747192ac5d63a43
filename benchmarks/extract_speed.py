"""HTML to text: ours against trafilatura, in speed and against the truth of the mini-web.

    python benchmarks/extract_speed.py                 # a minute or two
    python benchmarks/extract_speed.py --quick         # 200 pages, 3 rounds
    python benchmarks/extract_speed.py --gold FOLDER   # real pages with text chosen by people

In each round both sides extract all pages, in turn, in one process on one thread; a ratio is
trafilatura's seconds over ours of the same round, so above 1 means that ours is faster. Since every
line of the mini-web was put there by us, both are also scored: the share of content lines that is
found, and the share of frame lines (menus, notices) that is left in. Some layouts mark their frame
by no tag or class: only line de-duplication can take that away. The pages are ours and of few
kinds, so the scores do not say which side is better on the real web. Ours runs without its sandbox.

FOLDER is that of a public benchmark of article extraction: `ground-truth.json` with an
`articleBody` for each page, and `html/NAME.html.gz`. Scored are shingles of four words: the mean
precision and recall over pages, and F1 of the two means.
"""

import argparse
import gzip
import json
import re
import statistics
import time
from collections import Counter
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


def shingles(text: str) -> Counter:
    words = re.findall(r"\w+", text)
    return Counter(tuple(words[i : i + 4]) for i in range(max(1, len(words) - 3)) if words)


def against_gold(folder: Path) -> None:
    """Print what both sides make of real pages."""
    gold = json.loads((folder / "ground-truth.json").read_text(encoding="utf-8"))
    pages = {name: gzip.open(folder / "html" / f"{name}.html.gz", "rb").read() for name in gold}
    for name, extract in SIDES.items():
        begun, precision, recall, empty = time.process_time(), [], [], 0
        texts = {key: extract(page.decode("utf-8", "replace")) for key, page in pages.items()}
        seconds = time.process_time() - begun
        for key, text in texts.items():
            found, wanted = shingles(text), shingles(gold[key].get("articleBody", ""))
            both = sum((found & wanted).values())
            empty += not text.strip()
            if found:
                precision.append(both / sum(found.values()))
            if wanted:
                recall.append(both / sum(wanted.values()))
        p, r = statistics.mean(precision), statistics.mean(recall)
        print(
            f"{name:11} {len(pages) / seconds:6.0f} pages/s, precision {p:.3f}, recall {r:.3f}, "
            f"F1 {2 * p * r / (p + r):.3f}, empty {empty} of {len(pages)}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pages", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="200 pages, 3 rounds")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    parser.add_argument("--gold", type=Path, help="folder of real pages with chosen text")
    options = parser.parse_args()
    if options.gold:
        against_gold(options.gold)
        return
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
