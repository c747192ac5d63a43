"""Web archives (WARC), the format of Common Crawl: read with bounds, written record by record.

A record is read up to a cap. After one that is too large or damaged, reading goes on at the next
record: one bad byte in a gigabyte costs one page, and a bomb costs no more than its cap.
"""

import io
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from llama3lib.data.document import Document, Dropped
from llama3lib.data.encoding import decode

_PAGES = ("text/html", "application/xhtml", "text/plain")
_GZIP, _PLAIN = b"\x1f\x8b\x08", b"\n\r\nWARC/1."  # a record ends with an empty line
_MOST_ERRORS = 1000  # a file with more is not an archive with damage but damage
_MOST_HEADER = 1 << 16  # bytes of the headers of one record


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
            except _DamageError as damage:
                position = max(position, damage.offset)
                yield _bad(name, position, "damaged record", str(damage))
                errors += 1
                if errors == _MOST_ERRORS:
                    yield _bad(name, None, "damaged file", f"over {_MOST_ERRORS - 1} errors")
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
    header = _HeaderLines(archive.reader)
    before = start
    try:
        for record in archive:
            header.left = _MOST_HEADER
            offset = start + archive.offset
            yield offset, None
            if archive.err_count:
                yield offset, _bad(name, before, "damaged record", "it is longer than it says")
                archive.err_count = 0
            yield offset, _page(record, f"{name}#{offset}", most)
            before = offset
    except Exception as error:  # the parser meets anything; each is one lost record
        reason = f"{type(error).__name__}: {error}"
        raise _DamageError(start + archive.offset, reason) from error
    end = start + archive.offset
    if file.seek(end) < file.seek(0, io.SEEK_END):  # the parser takes some damage for the end
        raise _DamageError(end, "no record begins here")


class _HeaderLines:
    """Takes the place of a reader's `readline`: the parser itself would read headers forever."""

    def __init__(self, reader: Any) -> None:
        self.left, self._line = _MOST_HEADER, reader.readline
        reader.readline = self

    def __call__(self, length: int | None = None) -> bytes:
        line = self._line(min(length or _MOST_HEADER, self.left + 1))
        self.left -= len(line)
        if self.left < 0:
            raise ValueError(f"headers over {_MOST_HEADER} bytes")
        return line


class _DamageError(Exception):
    """What stands at this place cannot be read."""

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(reason)
        self.offset = offset


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
    int(record.rec_headers.get_header("Content-Length") or "without a length")
    if record.rec_type not in ("response", "resource", "conversion"):
        return None
    http = record.http_headers
    kind = (http or record.rec_headers).get_header("Content-Type") or ""
    if record.rec_type == "conversion":  # Common Crawl's WET files: text already
        kind = "text/plain"
    if http is None and kind.lower().startswith("application/http"):
        raise ValueError("no HTTP headers in it")
    if not kind.lower().startswith(_PAGES):
        return None
    if http is not None and not str(http.statusline).startswith("200"):
        return None
    content = record.content_stream()
    raw = content.read(most + 1)
    if len(raw) > most:
        return _bad(name, None, "too large", f"over {most} bytes")
    if _is_cut(record, content, most):  # the parser takes what there is for all there is
        raise ValueError("the record ends before it should")
    coding = (http.get_header("Content-Encoding") or "") if http is not None else ""
    if coding.strip().lower() not in ("", "identity", *content_codings()):
        return _bad(name, None, "unknown encoding", coding)
    metadata = {
        "url": record.rec_headers.get_header("WARC-Target-URI") or "",
        "date": record.rec_headers.get_header("WARC-Date") or "",
        "content_type": kind.split(";")[0].strip().lower(),
    }
    return Document(decode(raw, _charset(kind)), name, metadata)


def _is_cut(record: Any, content: Any, most: int) -> bool:
    """Whether a record that was read holds less than it says, or stops amid compressed bytes."""
    record.raw_stream.read(most)  # what stands behind the last chunk
    unpacker = getattr(content, "decompressor", None)
    return record.raw_stream.limit > 0 or not getattr(unpacker, "eof", True)


def content_codings() -> tuple[str, ...]:
    """Names of the compressions of pages that can be undone here."""
    from warcio.bufferedreaders import BufferedReader

    return tuple(BufferedReader.get_supported_decompressors())


def _charset(kind: str) -> str | None:
    for part in kind.split(";")[1:]:
        key, _, value = part.partition("=")
        if key.strip().lower() == "charset":
            return value.strip().strip("\"'") or None
    return None


def _next_record(file: IO[bytes], start: int, size: int) -> int:
    """Where the next record begins at or after `start`; `size` if there is none."""
    file.seek(0)
    head, packed = file.read(5), str(file.name).lower().endswith(".gz")
    magic = _PLAIN if head == b"WARC/" or not (packed or head[:3] == _GZIP) else _GZIP
    file.seek(start if magic == _GZIP else max(0, start - 3))  # with the empty line before it
    overlap = b""
    while block := file.read(1 << 18):
        block, begin = overlap + block, file.tell() - len(block) - len(overlap)
        found = block.find(magic)
        while found >= 0:
            if magic == _PLAIN or _starts_a_record(file, begin + found):
                return begin + found + magic.find(b"WARC") * (magic == _PLAIN)
            found = block.find(magic, found + 1)
        overlap = block[-len(magic) + 1 :]
    return size


def _starts_a_record(file: IO[bytes], place: int) -> bool:
    """Whether the bytes there unpack to a record's first line, not just look like gzip."""
    here = file.tell()
    file.seek(place)
    compressed = file.read(4096)
    file.seek(here)
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
            # warcio would draw an id at random; this one makes equal pages give equal archives
            warc_headers_dict={
                "WARC-Date": date,
                "WARC-Record-ID": f"<urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, url + date)}>",
            },
        )
        self._writer.write_record(record)
        record.raw_stream.close()  # a temporary file in which warcio has counted the bytes
