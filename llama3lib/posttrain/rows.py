"""Rows of a user's file, and an account of those that are none: file, line and reason of each.

Read are JSON lines and JSON arrays, packed or not. A byte-order mark in front of UTF-8 is passed
over. Nothing is guessed: a row that is not what it should be is told, and too many of them are
refused before anything is trained.
"""

import codecs
import contextlib
import json
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llama3lib.data.readers import Limits, bounded_lines, open_text_bytes
from llama3lib.utils.require import between, require

SUFFIXES = (".jsonl", ".json")
PACKED = ("", ".gz", ".zst")
_FORMS = ", ".join(f"{suffix}{packed}" for suffix in SUFFIXES for packed in PACKED)
_WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_SHOWN = 5
DAMAGED = "damaged file"


class BadRowError(ValueError):
    """Why a row is not used: one of few fixed words, and what is behind it."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class BadRow:
    """A row that is not used. Lines count from 1."""

    file: str
    line: int
    reason: str
    detail: str = ""

    def __str__(self) -> str:
        about = f" ({self.detail})" if self.detail else ""
        return f"{self.file}:{self.line}: {self.reason}{about}"


@dataclass
class RowAccount:
    """What became of the rows of a file."""

    rows: int = 0
    """Read, good or bad."""
    bad: list[BadRow] = field(default_factory=list)
    unused: Counter[str] = field(default_factory=Counter)
    """Keys that nobody reads, and in how many rows."""

    def drop(self, file: str, line: int, error: BadRowError) -> None:
        """Count a row that was read before, as bad."""
        self.bad.append(BadRow(file, line, error.reason, error.detail[:200]))

    @property
    def reasons(self) -> dict[str, int]:
        """How many rows are bad, by reason; the most frequent first."""
        return dict(Counter(row.reason for row in self.bad).most_common())

    def lines(self, shown: int = _SHOWN) -> list[str]:
        """For people: counts, the first bad rows, and the keys without a use."""
        told = [f"{self.rows:,} rows, {len(self.bad):,} of them not used"]
        told += [f"{count:,} x {reason}" for reason, count in self.reasons.items()]
        told += [str(row) for row in self.bad[:shown]]
        if len(self.bad) > shown:
            told.append(f"... and {len(self.bad) - shown:,} more")
        if self.unused:
            keys = ", ".join(f"{key} ({count:,} rows)" for key, count in self.unused.items())
            told.append(f"keys that are not read: {keys}")
        return told

    def refuse(self, most_bad: float) -> None:
        """Raises ValueError if a larger share than `most_bad` is bad, or none is left.

        Of a file that breaks off nobody knows what is missing: only most_bad=1 lets it pass.
        """
        between("most_bad", most_bad, 0, 1)
        if self.rows == 0 and not self.bad:
            raise ValueError("the file is empty: rows are needed")
        share, first = len(self.bad) / max(1, self.rows), "; ".join(map(str, self.bad[:3]))
        if len(self.bad) == self.rows:
            raise ValueError(f"none of {self.rows:,} rows can be used: {first}")
        if share > most_bad:
            raise ValueError(
                f"{len(self.bad):,} of {self.rows:,} rows cannot be used, {share:.1%}, which is "
                f"more than most_bad={most_bad:.1%}: {first}"
            )
        broken = [row for row in self.bad if row.reason == DAMAGED]
        if broken and most_bad < 1:
            raise ValueError(f"{broken[0]}; most_bad=1 takes what stands before that")


def data_files(path: str | Path) -> list[Path]:
    """The files at a path: itself, or all in a folder whose names end rightly, in order.

    Raises ValueError if there is none.
    """
    path = Path(path)
    require(path.exists(), "data", str(path), "it does not exist")
    named = tuple(suffix + packed for suffix in SUFFIXES for packed in PACKED)
    if path.is_file():
        require(path.name.lower().endswith(named), "data", str(path), f"a name in {_FORMS}")
        return [path]
    found = sorted(file for file in path.rglob("*") if file.name.lower().endswith(named))
    require(found, "data", str(path), f"no file in it ends in {_FORMS}")
    return found


def read_rows(path: Path, account: RowAccount) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and content of each row that is a JSON object; the rest goes to the account."""
    try:
        with open_text_bytes(path, Limits().file_bytes) as stream:
            head = stream.peek(4)[:4]
            wide = head.startswith(_WIDE)
            if head.startswith(codecs.BOM_UTF8):
                stream.read(len(codecs.BOM_UTF8))
            lines = ".jsonl" in path.name.lower()  # else the rows may stand in an array
            if not (wide or lines) and stream.peek(1 << 12).lstrip()[:1] == b"[":
                yield from _array(path.name, stream.read(), account)
            elif not wide:
                yield from _lines(path.name, stream, account)
            else:
                account.rows += 1
                account.drop(path.name, 1, BadRowError(DAMAGED, "UTF-16: UTF-8 is needed"))
    except (OSError, EOFError, zlib.error) as error:
        account.rows += 1
        told = BadRowError(DAMAGED, f"{type(error).__name__}: {error}")
        account.drop(path.name, _line_after(path), told)


def _line_after(path: Path) -> int:
    """The line at which a file breaks off: behind the last one that could be read."""
    line = 1
    with contextlib.suppress(OSError, EOFError, zlib.error):
        with open_text_bytes(path, Limits().file_bytes) as stream:
            for _ in bounded_lines(stream, Limits().record_bytes):
                line += 1
    return line


def _lines(name: str, stream: Any, account: RowAccount) -> Iterator[tuple[int, dict[str, Any]]]:
    most = Limits().record_bytes
    for number, line in enumerate(bounded_lines(stream, most), 1):
        if line is not None and not line.strip():
            continue
        account.rows += 1
        try:
            if line is None:
                raise BadRowError("too large", f"over {most:,} bytes")
            yield number, _object(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            account.drop(name, number, BadRowError("not UTF-8", str(error)))
        except BadRowError as error:
            account.drop(name, number, error)


def _array(name: str, raw: bytes, account: RowAccount) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of an array one by one, so that each has its line."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        account.rows += 1
        account.drop(name, raw.count(b"\n", 0, error.start) + 1, BadRowError(DAMAGED, str(error)))
        return
    at, line, counted = text.index("[") + 1, 1, 0
    while True:
        at = _blank(text, at)
        line, counted = line + text.count("\n", counted, at), at
        if text[at : at + 1] == "]" and not text[at + 1 :].strip():
            return
        account.rows += 1
        try:
            value, at = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            account.drop(name, line, BadRowError(DAMAGED, f"no JSON from here on: {error}"))
            return
        try:
            yield line, _checked(value)
        except BadRowError as error:
            account.drop(name, line, error)
        at = _blank(text, at)
        if text[at : at + 1] == ",":
            at += 1
        elif text[at : at + 1] != "]":
            account.rows += 1
            account.drop(name, line, BadRowError(DAMAGED, "neither , nor ] behind this row"))
            return


def _blank(text: str, at: int) -> int:
    while text[at : at + 1].isspace():
        at += 1
    return at


class _Twice(dict):
    """An object that named a key twice, of which JSON keeps one."""


class _NoNumber:
    """NaN or an infinity, which JSON has not."""


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else _Twice(found)


_DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=lambda _: _NoNumber())


def _object(line: str) -> dict[str, Any]:
    try:
        value = _DECODER.decode(line.removeprefix("\ufeff"))
    except (ValueError, RecursionError) as error:
        raise BadRowError("no JSON", str(error)) from None
    return _checked(value)


def _checked(value: Any) -> dict[str, Any]:
    """Raises BadRowError for what is no object, and for what JSON does not have."""
    if not isinstance(value, dict):
        raise BadRowError("no object", f"a {type(value).__name__}")
    stack: list[tuple[str, Any]] = [("", value)]
    while stack:
        where, part = stack.pop()
        if isinstance(part, _Twice):
            raise BadRowError("key twice", where or "in the row")
        if isinstance(part, _NoNumber) or part in (float("inf"), float("-inf")):
            raise BadRowError("not a finite number", where)
        if isinstance(part, dict):
            stack += [(str(key), inner) for key, inner in part.items()]
        elif isinstance(part, list):
            stack += [(where, inner) for inner in part]
    return value
