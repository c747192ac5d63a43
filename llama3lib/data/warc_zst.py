"""Archives packed with zstandard (`.warc.zst`): a frame a record, often with a dictionary for all.

As the proposal has it that wget-at and the Internet Archive follow, the dictionary stands in a
skippable frame at the very beginning, itself packed or not.
"""

import contextlib
import io
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from llama3lib.data.warc_parts import FullError

_MAGIC, _DICTIONARY = b"\x28\xb5\x2f\xfd", b"\x5d\x2a\x4d\x18"
_SKIPPED = frozenset(bytes([n]) + b"\x2a\x4d\x18" for n in range(0x50, 0x60))
_MOST_DICTIONARY = 64 << 20  # bytes; zstd itself trains some of 110 KB
_PIECE = 1 << 10  # packed bytes fed at once: what they swell to is in memory before it is counted
_WINDOW = 128 << 20
_DAMAGE = b"\r\n\r\na damaged frame\r\n\r\n"  # no record begins so: the reader tells it


class DictionaryError(ValueError):
    """What should unpack an archive is damaged."""


@contextlib.contextmanager
def unpacked(path: Path, most: int) -> Iterator[IO[bytes]]:
    """The archive as a plain one, in a temporary file, with a mark where a frame is damaged.

    Raises FullError if over `most` bytes come, DictionaryError if the dictionary is damaged.
    """
    with open(path, "rb") as packed, tempfile.TemporaryFile() as plain:
        _Frames(packed, most).write(plain)
        plain.seek(0)
        yield plain


class _Frames:
    """The frames of a file."""

    def __init__(self, file: IO[bytes], most: int) -> None:
        self._file, self._left = file, most
        self._new = _decompressor(self._dictionary()).decompressobj

    def write(self, plain: IO[bytes]) -> None:
        """Write what they hold. Of a damaged one there is what could be unpacked if it is the last:
        else the reader would take what follows for the rest of its record.
        """
        import zstandard

        while magic := self._file.read(4):
            if magic in _SKIPPED:
                self._file.seek(_length(self._file), io.SEEK_CUR)
                continue
            start, begun = self._file.seek(-len(magic), io.SEEK_CUR), plain.tell()
            try:
                whole = self._write_frame(plain)
            except zstandard.ZstdError:
                whole = False
                if self._seek_frame(start + 1):
                    plain.truncate(plain.seek(begun))
            if not whole and plain.tell() == begun:  # else its record is seen to be too short
                plain.write(_DAMAGE)

    def _write_frame(self, plain: IO[bytes]) -> bool:
        """Write what a frame holds; False if the file ends within it."""
        frame = self._new()
        while not frame.eof and (piece := self._file.read(_PIECE)):
            block = frame.decompress(piece)
            self._left -= len(block)
            if self._left < 0:
                raise FullError
            plain.write(block)
        if frame.eof:
            self._file.seek(-len(frame.unused_data), io.SEEK_CUR)
        return frame.eof

    def _seek_frame(self, start: int) -> bool:
        """Go to the next frame at or behind a place; False if there is none."""
        self._file.seek(start)
        behind = b""
        while block := self._file.read(1 << 18):
            behind += block
            if (found := behind.find(_MAGIC)) >= 0:
                self._file.seek(found - len(behind), io.SEEK_CUR)
                return True
            behind = behind[1 - len(_MAGIC) :]
        return False

    def _dictionary(self) -> bytes:
        import zstandard

        if self._file.read(4) != _DICTIONARY:
            self._file.seek(0)
            return b""
        size = _length(self._file)
        if size > _MOST_DICTIONARY:
            raise DictionaryError(f"a dictionary of {size} bytes: at most {_MOST_DICTIONARY}")
        data = self._file.read(size)
        try:
            plain = _decompressor(b"").decompressobj().decompress
            return plain(data) if data.startswith(_MAGIC) else data
        except zstandard.ZstdError as error:
            raise DictionaryError(f"its dictionary: {error}") from None


def _length(file: IO[bytes]) -> int:
    """Of a skippable frame, as it says behind its first four bytes."""
    told = file.read(4)
    return struct.unpack("<I", told)[0] if len(told) == 4 else 0


def _decompressor(dictionary: bytes) -> Any:
    import zstandard

    data = zstandard.ZstdCompressionDict(dictionary) if dictionary else None
    return zstandard.ZstdDecompressor(dict_data=data, max_window_size=_WINDOW)
