"""Line de-duplication in buckets, after ccNet (paper section 3.1.1).

A line that stands more than six times in a bucket of 30 million documents is removed from all of
them. That takes away menus and cookie notices that extraction left, and, as the paper says, some
frequent good lines too.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from llama3lib.data.document import CorpusStep, Document, Drop
from llama3lib.data.encoding import stable_hash
from llama3lib.utils.require import at_least

_DIGIT = re.compile(r"\d")
_IS_CODE = re.compile(r"[ \t]+\S|[^\w\n]*$")  # indented, or signs alone, such as a closing brace


def normalize_line(line: str) -> str:
    """A line as it is compared: lower case, digits as 0, single spaces, as in ccNet."""
    return _DIGIT.sub("0", " ".join(line.lower().split()))


@dataclass(frozen=True, kw_only=True)
class DropRepeatedLines(CorpusStep):
    """Remove lines that are in their bucket more than `most` times.

    A bucket is made of whole input files (the part of the id before `#`), so that a machine with
    one file needs the counts of one bucket. A line counts once for every time it stands anywhere in
    the bucket. Documents that lose everything are dropped (`only repeated lines`). Code is left
    alone: lines that stood in `pre`, indented lines, and lines of signs without a letter.
    """

    name: ClassVar[str] = "line_dedup"
    most: int = 6
    buckets: int = 1
    """How many; the paper's have 30 million documents each."""
    per_language: bool = False
    """Count within each language, as the paper does for multilingual data."""
    least_characters: int = 1
    """Shorter lines are left alone, such as a lone brace in code."""

    def __post_init__(self) -> None:
        for name in ("most", "buckets", "least_characters"):
            at_least(name, getattr(self, name), 1)

    @classmethod
    def of_bucket_size(cls, documents: int, size: int = 30_000_000) -> "DropRepeatedLines":
        """The step for a corpus of so many documents in buckets of about `size`."""
        return cls(buckets=max(1, -(-documents // size)))

    def bucket(self, document: Document) -> int:
        """The bucket of a document: 0 to `buckets` - 1."""
        return stable_hash(document.id.split("#")[0]) % self.buckets

    def keys(self, document: Document) -> list[int]:
        """The 64-bit number under which each line is counted; 0 if it is not counted."""
        group = document.metadata.get("language", "") if self.per_language else ""
        code = document.metadata.get("code_lines")
        code = frozenset(code) if isinstance(code, list | tuple) else frozenset()
        keys = []
        for line in document.text.splitlines():
            known = normalize_line(line)
            if line in code or _IS_CODE.match(line) or len(known) < self.least_characters:
                keys.append(0)
            else:
                keys.append(stable_hash(f"{group}\x00{known}") or 1)
        return keys

    def collect(self, document: Document) -> Any:
        return [self.bucket(document), [key for key in self.keys(document) if key]]

    def decide(self, notes: Iterable[tuple[str, Any]]) -> list[list[int]]:
        """For each bucket the numbers of its too frequent lines, sorted."""
        counts: list[Counter[int]] = [Counter() for _ in range(self.buckets)]
        for _, (bucket, keys) in notes:
            counts[bucket].update(keys)
        return [sorted(key for key, n in count.items() if n > self.most) for count in counts]

    def prepare(self, decision: list[list[int]]) -> list[set[int]]:
        return [set(keys) for keys in decision]

    def apply(self, document: Document, decision: list[set[int]]) -> Document | Drop:
        frequent = decision[self.bucket(document)]
        lines = document.text.splitlines()
        keys = self.keys(document)
        kept = [line for line, key in zip(lines, keys, strict=True) if key not in frequent]
        if len(kept) == len(lines):
            return document
        if not "".join(kept).strip():
            return Drop("only repeated lines", f"{len(lines)} lines")
        before = document.metadata.get("lines_removed")  # may come from the input: anything
        removed = (before if isinstance(before, int) else 0) + len(lines) - len(kept)
        return document.but("\n".join(kept), lines_removed=removed)
