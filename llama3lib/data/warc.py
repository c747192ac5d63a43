"""Web archives (WARC), the format of Common Crawl: read with bounds, written record by record.

A record is read up to a cap. After one that is too large or damaged, reading goes on at the next
record: one bad byte in a gigabyte costs one page, and a bomb costs no more than its cap.
"""

import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from llama3lib.data.document import Document, Dropped
from llama3lib.data.encoding import decode

_PAGES = ("text/html", "application/xhtml", "text/plain")
_GZIP, _PLAIN = b"\x1f\x8b\x08", b"WARC/1."
_MOST_ERRORS = 10_000  # a file with more is not an archive with damage but damage


def read_warc(
    path: Path, name: str, record_bytes: int, file_bytes: int = 1 << 40
) -> Iterator[Document | Dropped]:
    """Yield the pages of an archive: responses with status 200 that hold HTML or text.

    `url` and `date` go to the metadata; the id is `NAME#OFFSET` with the record's place in the
    file. Records over `record_bytes` after decompression, and damaged ones, come as `Dropped`.
    """
    size, position, errors, seen = path.stat().st_size, 0, 0, 0
    with open(path, "rb") as file:
        while position < size and errors < _MOST_ERRORS:
            try:
                for offset, item in _records_from(file, position, name, record_bytes):
                    position = offset
                    if isinstance(item, Document):
                        seen += len(item.text)
                        if seen > file_bytes:
                            yield _bad(name, offset, "file too large", f"over {file_bytes} bytes")
                            return
                    if item is not None:
                        yield item
                    if isinstance(item, Dropped) and item.reason == "too large":
                        break  # what is left of it is not even decompressed
                else:
                    return
            except Exception as error:  # the parser meets anything; each is one lost record
                yield _bad(name, position, "damaged record", f"{type(error).__name__}: {error}")
                errors += 1
            position = _next_record(file, position + 1, size)


def _records_from(
    file: IO[bytes], start: int, name: str, most: int
) -> Iterator[tuple[int, Document | Dropped | None]]:
    """Pairs of offset and page; None where a record is no page."""
    from warcio.archiveiterator import ArchiveIterator

    file.seek(start)
    # a view of its own: the iterator counts from where it starts and must not close the file
    archive = ArchiveIterator(_From(file), arc2warc=False)
    archive.INC_RECORD = ""  # it would print to stderr; its count of such errors is enough
    yield start, None  # if the first record is damaged, it is the one at the start
    for record in archive:
        offset = start + archive.offset
        yield offset, None
        if archive.err_count:
            raise ValueError("the record before has another length than it says")
        yield offset, _page(record, f"{name}#{offset}", most)


class _From(io.RawIOBase):
    """The rest of a file as a stream whose place is counted from here."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._start = file, file.tell()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)

    def tell(self) -> int:
        return self._file.tell() - self._start


def _page(record: Any, name: str, most: int) -> Document | Dropped | None:
    """The page in a record, or None if it holds something else."""
    if record.rec_type not in ("response", "resource", "conversion"):
        return None
    http = record.http_headers
    kind = (http or record.rec_headers).get_header("Content-Type") or ""
    if record.rec_type == "conversion":  # Common Crawl's WET files: text already
        kind = "text/plain"
    if not kind.lower().startswith(_PAGES):
        return None
    if http is not None and not str(http.statusline).startswith("200"):
        return None
    raw = record.content_stream().read(most + 1)
    if len(raw) > most:
        return _bad(name, None, "too large", f"over {most} bytes")
    metadata = {
        "url": record.rec_headers.get_header("WARC-Target-URI") or "",
        "date": record.rec_headers.get_header("WARC-Date") or "",
        "content_type": kind.split(";")[0].strip().lower(),
    }
    return Document(decode(raw, _charset(kind)), name, metadata)


def _charset(kind: str) -> str | None:
    for part in kind.split(";")[1:]:
        key, _, value = part.partition("=")
        if key.strip().lower() == "charset":
            return value.strip().strip("\"'") or None
    return None


def _next_record(file: IO[bytes], start: int, size: int) -> int:
    """Where the next record begins at or after `start`; `size` if there is none."""
    file.seek(0)
    magic = _GZIP if file.read(3) == _GZIP else _PLAIN
    file.seek(start)
    overlap = b""
    while block := file.read(1 << 20):
        block, begin = overlap + block, file.tell() - len(block) - len(overlap)
        found = block.find(magic)
        while found >= 0:
            if magic == _PLAIN or _starts_a_record(block[found : found + 4096]):
                return begin + found
            found = block.find(magic, found + 1)
        overlap = block[-len(magic) + 1 :]
    return size


def _starts_a_record(compressed: bytes) -> bool:
    """Whether these bytes unpack to the first line of a record, not just look like gzip."""
    try:
        return zlib.decompressobj(31).decompress(compressed, 5) == b"WARC/"
    except zlib.error:
        return False


def _bad(name: str, offset: int | None, reason: str, detail: str) -> Dropped:
    name = name if offset is None else f"{name}#{offset}"
    return Dropped(Document("", name), "read", reason, detail[:200])


class WarcWriter:
    """Write pages into a `.warc.gz`, one gzip member a record as in Common Crawl."""

    def __init__(self, file: IO[bytes]) -> None:
        from warcio.warcwriter import WARCWriter

        self._writer = WARCWriter(file, gzip=True)

    def write(self, url: str, body: bytes, kind: str, date: str, status: str = "200 OK") -> None:
        """Add one response; `date` is ISO 8601 in UTC (`2024-05-01T12:00:00Z`)."""
        from warcio.statusandheaders import StatusAndHeaders

        headers = [("Content-Type", kind), ("Content-Length", str(len(body)))]
        http = StatusAndHeaders(status, headers, protocol="HTTP/1.1")
        record = self._writer.create_warc_record(
            url,
            "response",
            payload=io.BytesIO(body),
            http_headers=http,
            warc_headers_dict={"WARC-Date": date},
        )
        self._writer.write_record(record)
