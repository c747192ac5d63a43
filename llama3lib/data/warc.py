"""Web archives (WARC), the format of Common Crawl: read with bounds, written record by record.

Every record comes out: as a page, or by its address with the reason why it is none. No more than
its cap is held of one that is too large, and after a damaged one reading goes on at the next: one
bad byte in a gigabyte costs one page.
"""

import io
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from llama3lib.data.document import Document, Dropped, refused
from llama3lib.data.encoding import decode
from llama3lib.data.http_body import CutError, UnknownCodingError, read_body
from llama3lib.data.warc_parts import BLOCK, FullError, Part, next_part, part_behind_damage
from llama3lib.data.warc_zst import DictionaryError, unpacked

_PAGES = ("text/html", "application/xhtml", "text/plain")
_MOST_ERRORS = 1000  # a file with more is not an archive with damage but damage
_MOST_HEADER = 1 << 16  # bytes of the headers of one record


def read_warc(
    path: Path, name: str, record_bytes: int, file_bytes: int = 1 << 40
) -> Iterator[Document | Dropped]:
    """Yield every record of an archive, be its records packed one by one, together or not at all.

    Responses with status 200 that hold HTML or text come as documents. Their metadata has `url`,
    `date`, `content_type`, and `truncated` with a reason if the page was cut off on its way.
    All other records come as `Dropped`, with `url` and `date` too. The id is `NAME#OFFSET` with the
    record's place in the file (of a `.warc.zst` in the unpacked one), and `+PLACE` within its
    member of a gzip file if it isn't the first.
    """
    zst = path.name.lower().endswith(".zst")
    try:
        with unpacked(path, file_bytes) if zst else open(path, "rb") as file:
            yield from _all_records(Part(file, 0, file_bytes), name, record_bytes)
    except FullError:
        yield refused(name, "file too large", f"over {file_bytes} bytes")
    except DictionaryError as error:
        yield refused(name, "damaged file", str(error))


def _all_records(part: Part | None, name: str, most: int) -> Iterator[Document | Dropped]:
    """The records of this part and all behind it, with damage told and passed over."""
    errors = 0
    while part is not None and errors < _MOST_ERRORS:
        try:
            yield from _records(part, name, most)
            part = next_part(part)
        except _DamageError as damage:
            place = part.name(name, damage.place)
            yield refused(place, "damaged record", str(damage), **damage.about)
            errors += 1
            part = part_behind_damage(part, damage.place)
    if errors == _MOST_ERRORS:
        yield refused(name, "damaged file", f"over {_MOST_ERRORS - 1} errors")


class _DamageError(Exception):
    """What begins at this place of a part cannot be read."""

    def __init__(self, place: int, reason: str, about: dict[str, str]) -> None:
        super().__init__(reason)
        self.place, self.about = place, about


def _records(part: Part, name: str, most: int) -> Iterator[Document | Dropped]:
    """What the records of a part hold.

    Each is given out when the next one is reached: only then its checksum has been looked at.
    """
    from warcio.archiveiterator import ArchiveIterator

    archive = ArchiveIterator(part, arc2warc=False, block_size=BLOCK)
    archive.INC_RECORD = ""  # it would print to stderr; its count of such errors is enough
    header = _HeaderLines(archive.reader)
    held: Document | Dropped | None = None
    place, about = archive.offset, dict[str, str]()
    try:
        for record in archive:
            if held is not None:
                yield held
            if archive.err_count:
                told = "it is longer than it says"
                yield refused(part.name(name, place), "damaged record", told, **about)
                archive.err_count = 0
            held, place, about = None, archive.offset, _about(record)
            header.left = most + _MOST_HEADER  # sizes of chunks are lines too
            held = _item(record, part.name(name, place), most, about)
            header.left = _MOST_HEADER
        if archive.offset < part.tell() or part.read(1):  # the parser takes some damage for the end
            raise ValueError("no record begins here")
    except FullError:
        raise
    except Exception as error:  # the parser meets anything; each is one lost record
        if held is not None and place != archive.offset:
            yield held
            about = {}
        reason = f"{type(error).__name__}: {error}"
        raise _DamageError(archive.offset, reason, about) from error
    if held is not None:
        yield held


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


def _about(record: Any) -> dict[str, str]:
    """What names a record: its address, which some versions of wget write as `<URI>`, and date."""
    known = record.rec_headers.get_header
    url = (known("WARC-Target-URI") or "").strip().removeprefix("<").removesuffix(">")
    return {"url": url, "date": known("WARC-Date") or ""}


def _item(record: Any, name: str, most: int, about: dict[str, str]) -> Document | Dropped:
    """The page in a record, or why it holds none."""
    known, http = record.rec_headers.get_header, record.http_headers
    int(known("Content-Length") or "without a length")
    if record.rec_type not in ("response", "resource", "conversion"):
        return refused(name, "other record", record.rec_type or "without a type", **about)
    kind = (http.get_header("Content-Type") if http else known("Content-Type")) or ""
    if record.rec_type == "conversion":  # Common Crawl's WET files: text already
        kind = "text/plain"
    if http is None and kind.lower().startswith("application/http"):
        raise ValueError("no HTTP headers in it")
    if http and not str(http.statusline).startswith("200"):
        return refused(name, "other status", str(http.statusline), **about)
    kind = kind or known("WARC-Identified-Payload-Type") or ""
    if not kind.lower().startswith(_PAGES):
        return refused(name, "other type", kind or "none is told", **about)
    truncated = known("WARC-Truncated")
    try:
        raw, whole = _body(record, most)
    except UnknownCodingError as error:
        return refused(name, "unknown encoding", str(error), **about)
    if len(raw) > most:
        return refused(name, "too large", f"over {most} bytes", **about)
    about = {**about, "content_type": kind.split(";")[0].strip().lower()}
    if truncated or not whole:
        about["truncated"] = truncated or "unspecified"
    html = not kind.lower().startswith("text/plain")
    return Document(decode(raw, _charset(kind), html=html), name, about)


def _body(record: Any, most: int) -> tuple[bytes, bool]:
    """The bytes of a page, at most one more than `most`, and whether they are all that was sent.

    Raises ValueError if the record ends too early: then the archive is damaged, not just the page.
    """
    stream, http = record.raw_stream, record.http_headers
    told = [http.get_header(name) or "" if http else "" for name in _CODINGS]
    try:
        raw, whole = read_body(stream, *told, most), True
    except CutError as cut:
        raw, whole = cut.got, False
    if len(raw) <= most:
        while stream.read(_MOST_HEADER):  # what stands behind the last chunk
            pass
        if stream.limit > 0:  # the parser takes what there is for all there is
            raise ValueError("the record ends before it should")
    return raw, whole


_CODINGS = ("Content-Encoding", "Transfer-Encoding")


def _charset(kind: str) -> str | None:
    for part in kind.split(";")[1:]:
        key, _, value = part.partition("=")
        if key.strip().lower() == "charset":
            return value.split(",")[0].strip().strip("\"'") or None  # two types in one header
    return None


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
