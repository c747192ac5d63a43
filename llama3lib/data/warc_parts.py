"""The parts of an archive's file: each member of a gzip file unpacked, or the whole if it is plain.

As the standard has it, every record is a member of its own. `gzip` on a whole file makes one member
of all, and some tools begin a new one within a record. All are read alike, and damage in one place
leaves the other places readable.
"""

import contextlib
import io
import zlib
from typing import IO

_GZIP, _PLAIN = b"\x1f\x8b\x08", b"\n\r\nWARC/1."  # a record ends with an empty line
BLOCK = 1 << 16
"""Bytes read at once."""
_FIRST = 1 << 11  # packed bytes that hold a record's headers: damage behind them hides no address


class FullError(Exception):
    """More bytes than a file may hold."""


class Part(io.RawIOBase):
    """A part as a stream; its places are counted in unpacked bytes.

    A member that doesn't begin with a record belongs to the part before it.
    """

    def __init__(self, file: IO[bytes], start: int, most: int) -> None:
        self.file, self.start, self.left = file, start, most
        file.seek(start)
        self._unpacker = zlib.decompressobj(31) if file.read(3) == _GZIP else None
        file.seek(start)
        self._ready, self._place, self._size = b"", 0, _FIRST
        self._end: int | None = None
        if self.packed:
            self._skip_blank()

    def _skip_blank(self) -> None:
        with contextlib.suppress(ValueError, zlib.error):  # damage is told to who reads on
            self._ready = self._next()
            record = self._ready.lstrip(b"\r\n")
            self._ready, self._place = record, len(self._ready) - len(record)

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def read(self, size: int = -1) -> bytes:
        """The next bytes, up to `size`; none at the part's end.

        Raises ValueError if the file ends within a member, zlib.error if that is damaged, FullError
        if more bytes come than may.
        """
        block = self._ready or self._next()
        block, self._ready = (block, b"") if size < 0 else (block[:size], block[size:])
        self._place += len(block)
        return block

    def _next(self) -> bytes:
        if self._unpacker is None:
            block = self.file.read(BLOCK)
        else:
            block = b""
            while not block:
                if self._unpacker.eof and (self._end is not None or not self._goes_on()):
                    break
                packed = self._unpacker.unconsumed_tail or self.file.read(self._size)
                if not packed:
                    raise ValueError("the file ends within it")
                block, self._size = self._unpacker.decompress(packed, BLOCK), BLOCK
        self.left -= len(block)
        if self.left < 0:
            raise FullError
        return block

    def _goes_on(self) -> bool:
        """Begin the next member, unless it begins with a record or is none: the end, then."""
        place = self.file.seek(self.file.tell() - len(self._unpacker.unused_data))
        if _starts_a_record(self.file, place) is not False:
            self._end = place
            return False
        self._unpacker = zlib.decompressobj(31)
        return True

    @property
    def packed(self) -> bool:
        """Whether this is a member of a gzip file."""
        return self._unpacker is not None

    def end(self) -> int:
        """Where in the file the part ends, once it has been read."""
        return self.file.tell() if self._end is None else self._end

    def name(self, file: str, place: int = 0) -> str:
        """A name for what begins at a place of the part."""
        if not self.packed:
            return f"{file}#{self.start + place}"
        return f"{file}#{self.start}+{place}" if place else f"{file}#{self.start}"

    def skip_to_record(self, place: int) -> bool:
        """Skip to where the next record begins at or behind a place; False if none does."""
        while self._place < place and self.read(place - self._place):
            pass
        behind = b""
        while block := self.read():
            behind += block
            found = behind.find(_PLAIN)
            if found >= 0:
                rest = behind[found + _PLAIN.find(b"WARC") :]
                self._ready, self._place = rest + self._ready, self._place - len(rest)
                return True
            behind = behind[-len(_PLAIN) + 1 :]
        return False


def next_part(part: Part) -> Part | None:
    """The part behind one that has been read to its end; None at the end of the file."""
    return _part_at(part, part.end())


def _part_at(part: Part, start: int) -> Part | None:
    size = part.file.seek(0, io.SEEK_END)
    return Part(part.file, start, part.left) if start < size else None


def part_behind_damage(part: Part, place: int) -> Part | None:
    """What can be read behind the record at a place that can't; None if there is nothing."""
    if not part.packed:
        return _part_at(part, _next_in_file(part.file, part.start + place + 1))
    again = Part(part.file, part.start, part.left + part.tell())
    try:
        return again if again.skip_to_record(place + 1) else next_part(again)
    except (ValueError, zlib.error):  # what packs it is damaged, so the next member it is
        return _part_at(part, _next_in_file(part.file, part.start + 1))


def _next_in_file(file: IO[bytes], start: int) -> int:
    """Where the next record begins at or after `start`; the file's size if there is none."""
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
    return file.tell()


def _starts_a_record(file: IO[bytes], place: int) -> bool | None:
    """Whether the bytes there unpack to a record's first line; None if they don't unpack at all."""
    here = file.tell()
    file.seek(place)
    compressed = file.read(4096)
    file.seek(here)
    if compressed[:3] != _GZIP:
        return None
    try:
        return zlib.decompressobj(31).decompress(compressed, 16).lstrip(b"\r\n")[:5] == b"WARC/"
    except zlib.error:
        return None
