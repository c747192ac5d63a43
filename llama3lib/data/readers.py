"""Read documents from WARC, JSON lines, Parquet and folders of pages; write them as JSON lines.

Every reader is a generator with bounded memory. What cannot be read is not skipped in silence: it
comes out as a `Dropped` with a reason. Nothing here trusts a file: sizes are capped before they are
allocated, and a record that swells beyond reason (a "zip bomb") is refused.
"""

import contextlib
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from llama3lib.data.document import Document, Dropped, refused
from llama3lib.data.encoding import decode
from llama3lib.data.warc import read_warc
from llama3lib.utils import strict_json
from llama3lib.utils.files import atomic_write
from llama3lib.utils.require import require

Item = Document | Dropped
PAGE_SUFFIXES = (".html", ".htm", ".xhtml", ".txt", ".md", ".rst")
_PAGE_TYPES = dict.fromkeys((".html", ".htm", ".xhtml"), "text/html") | {".md": "text/markdown"}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a single document may cost before it is refused."""

    record_bytes: int = 8 << 20
    """Bytes of one document, after decompression."""
    file_bytes: int = 64 << 30
    """Bytes of one compressed file, after decompression."""
    empty_lines: int = 1_000_000
    """Empty lines in a row; a compressed megabyte can hold a thousand times as many."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            require(isinstance(value, int) and value >= 1, name, value, "a positive whole number")


def read_documents(path: str | Path, limits: Limits | None = None) -> Iterator[Item]:
    """Read a file or a folder; the format is decided by the name.

    Files: `.warc[.gz|.zst]`, `.warc.wet[.gz]`, `.jsonl[.gz|.zst]`, `.parquet`, pages (`.html`,
    `.txt`, ...).
    Folders: all such files below, in the order of their names.

    Raises ValueError if the path does not exist or holds nothing that can be read.
    """
    path, limits = Path(path), limits or Limits()
    files = input_files(path)
    root = path if path.is_dir() else path.parent
    for file in files:
        yield from reader_of(file)(file, root, limits)


def input_files(path: str | Path) -> list[Path]:
    """The readable files at a path, in a fixed order.

    Raises ValueError if there is none.
    """
    path = Path(path)
    require(path.exists(), "input", str(path), "it does not exist")
    if path.is_file():
        reader_of(path)
        return [path]
    found = [file for file in path.rglob("*") if file.is_file() and _reader(file)]
    if not found:
        allowed = ", ".join([*_READERS, *PAGE_SUFFIXES])
        raise ValueError(f"input={str(path)!r} is not allowed: no file in it ends in {allowed}")
    return sorted(found, key=lambda file: file.relative_to(path).as_posix())


def other_files(path: str | Path) -> list[Path]:
    """The files of a folder that `input_files` leaves out, but for hidden ones, in order."""
    path = Path(path)
    found = [file for file in path.rglob("*") if file.is_file() and not _reader(file)]
    seen = [file for file in found if not any(p[0] == "." for p in file.relative_to(path).parts)]
    return sorted(seen, key=lambda file: file.relative_to(path).as_posix())


def reader_of(path: Path) -> Callable[[Path, Path, Limits], Iterator[Item]]:
    """The reader for a file.

    Raises ValueError if its name ends in no known suffix.
    """
    if reader := _reader(path):
        return reader
    allowed = ", ".join([*_READERS, *PAGE_SUFFIXES])
    old = path.name.lower().endswith((".arc", ".arc.gz"))
    hint = "; warcio recompress makes a .warc.gz of an .arc" if old else ""
    told = f"the name must end in one of {allowed}{hint}"
    raise ValueError(f"input={str(path)!r} is not allowed: {told}")


def _reader(path: Path) -> Callable[[Path, Path, Limits], Iterator[Item]] | None:
    name = path.name.lower()
    for suffix, reader in _READERS.items():
        if name.endswith(suffix):
            return reader
    return read_page if name.endswith(PAGE_SUFFIXES) else None


def packages_of(path: Path) -> tuple[str, ...]:
    """The modules beyond the base installation that reading a file may import."""
    reader = reader_of(path)
    needed = ("zstandard",) if path.name.lower().endswith(".zst") else ()
    if reader in (_read_warc, read_page):
        needed += ("charset_normalizer", "py3langid", "webencodings")
    own = {_read_warc: ("brotli", "warcio", "zstandard"), read_parquet: ("duckdb",)}
    return needed + own.get(reader, ())


def name_of(path: Path, root: Path) -> str:
    """A file's name within the input, the same on every system."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


def _read_warc(path: Path, root: Path, limits: Limits) -> Iterator[Item]:
    yield from read_warc(path, name_of(path, root), limits.record_bytes, limits.file_bytes)


def read_jsonl(path: Path, root: Path, limits: Limits) -> Iterator[Item]:
    """Read JSON lines; `text` is needed, all other fields go to the metadata.

    The id is `NAME#LINE`, since only that is sure to be unique; a field `id` is kept in the
    metadata. A line that is no JSON object with a text is dropped.
    """
    name = name_of(path, root)
    try:
        with open_text_bytes(path, limits.file_bytes) as stream:
            empty = 0
            for number, line in enumerate(bounded_lines(stream, limits.record_bytes)):
                empty = empty + 1 if line is not None and not line.strip() else 0
                if empty > limits.empty_lines:
                    raise OSError(f"over {limits.empty_lines} empty lines in a row")
                if line is None:
                    told = f"over {limits.record_bytes} bytes"
                    yield refused(f"{name}#{number}", "too large", told)
                elif not empty:
                    yield _from_json(line, f"{name}#{number}")
    except (OSError, EOFError, zlib.error, _zstd_errors()) as error:
        yield refused(name, "damaged file", f"{type(error).__name__}: {error}")


def _from_json(line: bytes, name: str) -> Item:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return refused(name, "no JSON", str(error))
    if not isinstance(row, dict) or not isinstance(row.get("text"), str):
        return refused(name, "no text field", **_address(row))
    return _from_row(row, name)


def _from_row(row: dict[str, Any], name: str) -> Document:
    """A document from a table row; lone surrogates, which no UTF-8 file can hold, are replaced."""
    text = row.pop("text").encode("utf-8", "replace").decode("utf-8")
    nested = row.pop("metadata", None)
    return Document(text, name, row | (nested if isinstance(nested, dict) else {}))


_GLOB = re.compile(r"[*?\[]")
# one file, whatever its name or its folder looks like
_FILE = "FROM read_parquet(?, hive_partitioning = false)"
# too long a text is told by its length and never leaves the database
_ROWS = f"""SELECT strlen(text) AS bytes,
    * REPLACE (CASE WHEN strlen(text) <= ? THEN text END AS text) {_FILE}"""
_PARQUET = {"threads": 1, "memory_limit": "1GB"}


def read_parquet(path: Path, root: Path, limits: Limits) -> Iterator[Item]:
    """Read the `text` column of a Parquet file, with the other columns as metadata."""
    import duckdb

    name = name_of(path, root)
    try:
        with duckdb.connect(config=_PARQUET) as connection:
            connection.execute("SET enable_progress_bar = false")  # it would print
            pattern = _GLOB.sub(r"[\g<0>]", str(path))
            columns = connection.execute(f"SELECT * {_FILE} LIMIT 0", [pattern]).description
            names = [column[0] for column in columns]
            if ("text", "VARCHAR") not in [(one[0], str(one[1])) for one in columns]:
                yield refused(name, "no text field", "columns: " + ", ".join(names))
                return
            found = connection.execute(_ROWS, [limits.record_bytes, pattern])
            number = 0
            while row := found.fetchone():  # one by one: small files may hold giant rows
                known = dict(zip(names, row[1:], strict=True))
                yield _table_row(known, row[0], f"{name}#{number}", limits)
                number += 1
    except duckdb.Error as error:
        yield refused(name, "damaged file", str(error))


def _table_row(row: dict[str, Any], size: int | None, name: str, limits: Limits) -> Item:
    row = _plain(row)
    if size is None:
        return refused(name, "no text field", **_address(row))
    if size > limits.record_bytes:
        return refused(name, "too large", f"over {limits.record_bytes} bytes", **_address(row))
    return _from_row(row, name)


def _address(row: Any) -> dict[str, str]:
    """The `url` of a row that is no document, if it has one, to name it by."""
    for table in (row, row.get("metadata")) if isinstance(row, dict) else ():
        if isinstance(table, dict) and isinstance(table.get("url"), str):
            return {"url": table["url"]}
    return {}


def _plain(value: Any) -> Any:
    """A table's value as JSON can hold it, at any depth: dates and the like become strings."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value if isinstance(value, str | int | float | None) else str(value)


def read_page(path: Path, root: Path, limits: Limits) -> Iterator[Item]:
    """Read one page, HTML or text; its name is its id."""
    name = name_of(path, root)
    try:
        size = path.stat().st_size
        if size > limits.record_bytes:
            yield refused(name, "too large", f"{size} bytes")
            return
        raw = path.read_bytes()
    except OSError as error:
        yield refused(name, "damaged file", f"{type(error).__name__}: {error}")
        return
    kind = _PAGE_TYPES.get(path.suffix.lower(), "text/plain")
    text = decode(raw, html=kind == "text/html")
    yield Document(text, name, {"source": name, "content_type": kind})


class _Capped(io.RawIOBase):
    """A stream that ends with an error after so many bytes: what a bomb runs into."""

    def __init__(self, stream: "IO[bytes] | _Zstandard", most: int) -> None:
        self._stream, self._left = stream, most

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = self._stream.read(min(len(buffer), 1 << 16))
        self._left -= len(block)
        if self._left < 0:
            raise OSError("more decompressed bytes than allowed")
        buffer[: len(block)] = block
        return len(block)

    def close(self) -> None:
        self._stream.close()
        super().close()


class _Zstandard:
    """A zstandard file; zstandard's own reader takes one that was cut off for one that ends."""

    _PIECE = 1 << 10  # bytes fed at once; a bomb makes at most 32 MiB of them

    def __init__(self, file: IO[bytes]) -> None:
        import zstandard

        self._file, self._ready = file, memoryview(b"")
        self._new = zstandard.ZstdDecompressor(max_window_size=128 << 20).decompressobj
        self._frame: Any = None

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; none at the end.

        Raises EOFError if the file ends inside a frame.
        """
        while not self._ready:
            unused = self._frame.unused_data if self._frame and self._frame.eof else b""
            piece = unused or self._file.read(self._PIECE)
            if not piece:
                if self._frame and not self._frame.eof:
                    raise EOFError("the file ends inside a frame")
                return b""
            if self._frame is None or self._frame.eof:
                self._frame = self._new()
            self._ready = memoryview(self._frame.decompress(piece))
        block, self._ready = self._ready[:size], self._ready[size:]
        return bytes(block)

    def close(self) -> None:
        """Close the file below."""
        self._file.close()


def open_text_bytes(path: Path, most: int) -> IO[bytes]:
    """Open a plain, gzip or zstandard file for reading at most `most` decompressed bytes."""
    raw: IO[bytes] | _Zstandard
    name = path.name.lower()
    if name.endswith(".gz"):
        raw = gzip.open(path, "rb")
    elif name.endswith(".zst"):
        raw = _Zstandard(open(path, "rb"))
    else:
        raw = open(path, "rb")
    return io.BufferedReader(_Capped(raw, most), 1 << 16)


def bounded_lines(stream: IO[bytes], most: int) -> Iterator[bytes | None]:
    """Lines of a stream; None stands for one that is longer than `most` bytes."""
    while line := stream.readline(most + 1):
        if len(line) <= most:
            yield line
            continue
        yield None
        while line and not line.endswith(b"\n"):
            line = stream.readline(1 << 16)


def _zstd_errors() -> type[Exception]:
    try:
        import zstandard
    except ModuleNotFoundError:
        return OSError
    return zstandard.ZstdError


def write_jsonl(documents: Iterable[Document], path: str | Path) -> int:
    """Write documents as JSON lines, `.gz` or `.zst` by the name; whole or not at all.

    The same documents give the same bytes, compressed or not. Returns how many there were.
    """
    count = 0
    with atomic_write(path) as temporary, _open_for_writing(temporary, str(path)) as file:
        for document in documents:
            file.write(to_json(document).encode("utf-8", "replace") + b"\n")
            count += 1
    return count


def to_json(document: Document) -> str:
    """One line for a file: text, id, metadata, always in this order; what is no number is null."""
    row = {"text": document.text, "id": document.id, "metadata": dict(document.metadata)}
    return strict_json.dumps(row)


@contextlib.contextmanager
def _open_for_writing(path: Path, name: str) -> Iterator[IO[bytes]]:
    with open(path, "wb") as raw:
        if name.endswith(".gz"):  # no name and no time inside: they would change the bytes
            with gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0) as file:
                yield file
        elif name.endswith(".zst"):
            import zstandard

            with zstandard.ZstdCompressor(level=3).stream_writer(raw, closefd=False) as file:
                yield file
        else:
            yield raw


_READERS: dict[str, Callable[[Path, Path, Limits], Iterator[Item]]] = {
    ".warc": _read_warc,
    ".warc.gz": _read_warc,
    ".warc.zst": _read_warc,
    ".warc.wet": _read_warc,
    ".warc.wet.gz": _read_warc,
    ".jsonl": read_jsonl,
    ".jsonl.gz": read_jsonl,
    ".jsonl.zst": read_jsonl,
    ".parquet": read_parquet,
}
