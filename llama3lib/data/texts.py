"""Documents as the texts to learn from: HTML as its main text, and an account of what is left out.

Nothing is lost in silence: each row of each file is either a text or is counted by its reason, with
the name of the first one, so that whoever trains can be told before the run.
"""

import importlib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from llama3lib.data.document import Document, Drop, Dropped
from llama3lib.data.readers import input_files, other_files, packages_of, read_documents

if TYPE_CHECKING:
    from llama3lib.data.extract import Extract

_HTML = re.compile(
    r"[\s\ufeff]*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<(!doctype\s+)?html\b", re.I | re.S
)
_HEAD = 2000  # letters in which a page without a type must show that it is one
_CUT = "cut short, but kept"
# reasons of records of an archive that are no pages: told, but no loss
_NO_PAGES = ("other record", "other status", "other type")


@dataclass
class Account:
    """What became of the rows of a source. All of it numbers and names, for JSON."""

    files: int = 0
    rows: int = 0
    """Read or refused."""
    texts: int = 0
    lost_files: int = 0
    """Files of which nothing, or nothing from some place on, could be read."""
    reasons: dict[str, int] = field(default_factory=dict)
    """Rows by the reason why they are no text, or not the whole one."""
    first: dict[str, str] = field(default_factory=dict)
    """By reason, the first such row and what is known about it."""
    other_files: dict[str, int] = field(default_factory=dict)
    """Files in the folder that no reader takes, by the end of their names."""

    def add(self, item: Document | Dropped) -> None:
        """Count a row, and keep its reason if it is no whole text."""
        self.rows += 1
        document, reason, detail = item, "", ""
        if isinstance(item, Dropped):
            document, reason, detail = item.document, item.reason, item.detail
            self.lost_files += reason == "damaged file" or "#" not in document.id
        else:
            self.texts += 1
            if detail := item.metadata.get("truncated"):  # by the archive
                reason = _CUT
        if reason:
            self.reasons[reason] = self.reasons.get(reason, 0) + 1
            name = " ".join(filter(None, (document.id, document.metadata.get("url"))))
            self.first.setdefault(reason, f"{name}: {detail}" if detail else name)

    def lines(self) -> list[str]:
        """For people; none if every row is a whole text."""
        told = []
        if self.reasons:
            sizes, kept = self.reasons, self.reasons.get(_CUT, 0)
            reasons = sorted(sizes, key=sizes.__getitem__, reverse=True)
            each = ", ".join(f"{r} {sizes[r]:,} (first: {self.first[r]})" for r in reasons)
            told = [f"left out {sum(sizes.values()) - kept:,} of {self.rows:,} rows: {each}"]
        if self.other_files:
            kinds = ", ".join(f"{kind} {n:,}" for kind, n in sorted(self.other_files.items()))
            told.append(f"not read: files of other kinds ({kinds})")
        return told

    def problem(self, most: float) -> str:
        """Why this is no source to learn from; empty if it is one.

        most: largest share of the rows, and of the files, that may be lost. A file that breaks off
        counts as lost as a whole: nobody knows how much was in it.
        """
        told = "; ".join(self.lines()) or "there is no row in it"
        if not self.texts:
            return f"no text is left: {told}"
        others = sum(self.reasons.get(reason, 0) for reason in _NO_PAGES)
        lost = sum(self.reasons.values()) - others
        if lost > most * (self.rows - others) or self.lost_files > most * self.files:
            return f"{told}; most_left_out={most:g} is the largest share of its rows or files"
        return ""


def text_files(path: str | Path) -> list[Path]:
    """The files that `read_texts` reads.

    Raises ValueError if there is none, or for the whole output of `llama3 data`, which also holds
    what was dropped; ModuleNotFoundError if a package is needed that is not there.
    """
    path = Path(path)
    if (path / "run.json").is_file() and (path / "documents").is_dir():
        raise ValueError(
            f"input={str(path)!r} is not allowed: it is all that llama3 data wrote; take "
            f"{str(path / 'documents')!r}"
        )
    files = input_files(path)
    for package in sorted({name for file in files for name in packages_of(file)}):
        importlib.import_module(package)
    return files


def read_texts(path: str | Path, account: Account) -> Iterator[str]:
    """The texts of a file or folder, in order; `account` is filled in as they are read.

    Raises as `text_files`.
    """
    path, files = Path(path), text_files(path)
    kinds = Counter(file.suffix.lower() or "no ending" for file in other_files(path))
    account.files, account.other_files = len(files), dict(kinds)
    main_text = _MainText()
    for item in read_documents(path):
        if isinstance(item, Document):
            item = main_text(item)
        account.add(item)
        if isinstance(item, Document):
            yield item.text


class _MainText:
    """HTML becomes its main text; other documents stay as they are. The parser is made when needed.

    A document that has a type is what it says; one without is a page if it begins like one.
    """

    def __init__(self) -> None:
        self._extract: Extract | None = None

    def __call__(self, document: Document) -> Document | Dropped:
        kind = document.metadata.get("content_type")
        page = _HTML.match(document.text[:_HEAD]) if kind is None else "html" in str(kind)
        if page:
            if self._extract is None:
                from llama3lib.data.extract import Extract  # needs lxml

                self._extract = Extract()
            found = self._extract.apply(document.but(content_type="text/html"))
            if isinstance(found, Drop):
                return Dropped(document, "extract", found.reason, found.detail)
            document = found
        if not document.text.strip():
            return Dropped(document, "read", "empty text")
        return document
