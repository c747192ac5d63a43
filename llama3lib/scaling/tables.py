"""Files as tables: named columns, rows that know where they stand, and the numbers in cells."""

import csv
import io
import json
import math
import re
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llama3lib.utils.require import require

_KINDS = (".csv", ".tsv", ".txt", ".json", ".jsonl")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d+)?")
_EXCEL = re.compile(r'"?sep=([,;\t|])"?\s*', re.IGNORECASE)


@dataclass(frozen=True)
class Table:
    """What stands in a file."""

    columns: tuple[str, ...]
    """A name that stands twice in a header is here twice."""
    rows: tuple[tuple[str, Mapping[str, Any]], ...]
    """Place of each row, as in "line 3", and its cells by column."""


def read_table(path: Path) -> Table:
    """The table of a .csv, .tsv, .txt, .json (a list, or an object with `runs`) or .jsonl file.

    Empty lines, lines of # and Excel's `sep=;` may stand above a header.

    Raises ValueError naming the file, and the line, of what cannot be read.
    """
    kind = path.suffix.lower()
    require(kind in _KINDS, "path", str(path), "use .csv, .tsv, .json or .jsonl")
    if kind not in (".json", ".jsonl"):
        return _cells(path, read_text(path).split("\n"))
    rows = _from_lines(path) if kind == ".jsonl" else _from_json(path)
    for place, row in rows:
        if not isinstance(row, Mapping):
            raise ValueError(f"{path}, {place}: an object is needed, one for each run")
    return Table(tuple(dict.fromkeys(key for _, row in rows for key in row)), tuple(rows))


def read_text(path: Path) -> str:
    """The text of a file. Raises ValueError if there is none, or it is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{str(path)!r} cannot be read: {error}") from None


def read_json(path: Path, text: str, line: int = 1) -> Any:
    """What JSON says that starts at that line of a file.

    Raises ValueError naming the file; also for a name that stands twice in one object.
    """
    try:
        return json.loads(text, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        where = f"line {line + error.lineno - 1}, column {error.colno}"
        raise ValueError(f"{str(path)!r} cannot be read: {error.msg} at {where}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} cannot be read, from line {line}: {error}") from None


def number(value: Any, column: str, *, commas: bool) -> float | None:
    """The number in a cell; None if the cell is empty.

    commas: whether they may stand between thousands, as in 7,500,123. A decimal comma is never
    read: nobody can tell 1,500 from 1.5.

    Raises ValueError naming the column, NaN and infinity included.
    """
    text, shown = value, f"{column}={reprlib.repr(value)}"
    if isinstance(value, str):
        text = value.strip()
        if "," in text:
            if not (commas and _THOUSANDS.fullmatch(text)):
                where = "between thousands only, as in 7,500,123" if commas else "not read here"
                raise ValueError(f"{shown} is not allowed: commas are {where}; write 3.1, not 3,1")
            text = text.replace(",", "")
    if text is None or text == "":
        return None
    try:
        result = float(text)
    except OverflowError:
        result = math.inf
    except (TypeError, ValueError):
        raise ValueError(f"{shown} is not a number") from None
    if isinstance(value, bool) or not math.isfinite(result):
        raise ValueError(f"{shown} is not allowed: a finite number")
    return result


def _from_json(path: Path) -> list[tuple[str, Any]]:
    table = read_json(path, read_text(path))
    rows = table.get("runs") if isinstance(table, dict) else table
    if not isinstance(rows, list):
        raise ValueError(f"{path}: a list of objects is needed, one for each run")
    return [(f"row {place}", row) for place, row in enumerate(rows, 1)]


def _from_lines(path: Path) -> list[tuple[str, Any]]:
    # not splitlines(): signs that it takes for line ends may stand inside a JSON string
    lines = enumerate(read_text(path).split("\n"), 1)
    return [(f"line {at}", read_json(path, line, at)) for at, line in lines if line.strip()]


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(n for n in names if names.count(n) > 1)!r} stands twice")
    return table


def _cells(path: Path, lines: Sequence[str]) -> Table:
    above, sign = 0, None
    for line in lines:
        excel = _EXCEL.fullmatch(line)
        if not excel and line.strip() and not line.startswith("#"):
            sign = sign or ("\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=line.count))
            break
        sign, above = excel[1] if excel else sign, above + 1
    text = io.StringIO("\n".join(lines[above:]))
    # strict: else a quote that is never closed takes all later rows into its cell
    reader = csv.reader(text, delimiter=sign or ",", skipinitialspace=True, strict=True)
    columns, rows, ended = (), [], above
    try:
        for cells in reader:
            line, ended = ended + 1, above + reader.line_num
            if len(cells) < 2 and not "".join(cells).strip():
                continue
            if not columns:
                columns = tuple(cell.strip() for cell in cells)
            elif len(cells) != len(columns):
                found = f"{len(cells)} cells under {len(columns)} columns"
                cure = f"; a cell with {sign!r} in it needs quotes" * (len(cells) > len(columns))
                raise ValueError(f"{path}, line {line}: {found}{cure}")
            else:
                rows.append((f"line {line}", dict(zip(columns, cells, strict=True))))
    except csv.Error as error:
        raise ValueError(f"{path}, line {ended + 1}: cannot be read: {error}") from None
    return Table(columns, tuple(rows))
