"""The bytes of a page as a browser gets them from a server's answer: put together and unpacked.

Some archives keep answers as they came, in chunks and compressed. Others undo both and leave the
headers that announce them: a header is believed if the bytes agree.
"""

import itertools
import re
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from llama3lib.data.charsets import charset

_BLOCK = 1 << 16
_PIECE = 1 << 10  # packed bytes fed at once: what they swell to is in memory before it is counted
_SIZE = re.compile(rb"\s*([0-9a-fA-F]{1,8})[ \t]*(?:;[^\n]*)?\r?\n")
# what servers announce although nothing is packed; some write the set of characters there
_NOT_PACKED = frozenset(("", "identity", "none", "binary", "7bit", "8bit"))


class CutError(ValueError):
    """The bytes end too early; `got` is what could be read."""

    def __init__(self, got: bytes) -> None:
        super().__init__("it ends before it should")
        self.got = got


class UnknownCodingError(ValueError):
    """The page is packed in a way that can't be undone here."""


def read_body(stream: Any, coding: str, transfer: str, most: int) -> bytes:
    """The body in `stream`, as `Content-Encoding` and `Transfer-Encoding` say; at most one byte
    more than `most`.

    Raises UnknownCodingError, CutError, or for damage ValueError, zlib.error and the like.
    """
    transfers, got, size = _names(transfer), list[bytes](), 0
    blocks = _unchunked(stream) if "chunked" in transfers else _blocks(stream)
    for name in reversed([*_names(coding), *transfers]):
        if name != "chunked":
            blocks = _unpacked(name, blocks)
    try:
        for block in blocks:
            got.append(block)
            size += len(block)
            if size > most:
                break
    except EOFError as error:
        raise CutError(b"".join(got)) from error
    return b"".join(got)[: most + 1]


def _names(header: str) -> list[str]:
    names = [name.strip().lower().removeprefix("x-") for name in header.split(",")]
    return [name for name in names if name not in _NOT_PACKED and not charset(name)]


def _blocks(stream: Any) -> Iterator[bytes]:
    while block := stream.read(_BLOCK):
        yield block


def _unchunked(stream: Any) -> Iterator[bytes]:
    """What stands in the chunks, without their sizes and the trailers behind the last."""
    line = stream.readline(_BLOCK)
    if not _SIZE.fullmatch(line):  # the archive has put them together already
        yield line
        yield from _blocks(stream)
        return
    while found := _SIZE.fullmatch(line):
        left = int(found[1], 16)
        if left == 0:
            for _ in _blocks(stream):
                pass
            return
        while left:
            block = stream.read(min(left, _BLOCK))
            if not block:
                raise EOFError
            left -= len(block)
            yield block
        rest = stream.readline(_BLOCK)
        line = stream.readline(_BLOCK)
        if rest.strip() or (line.endswith(b"\n") and not _SIZE.fullmatch(line)):
            raise ValueError("a chunk is not as long as it says")
    raise EOFError


def _unpacked(name: str, blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The blocks unpacked, all members of a gzip; as they are if they aren't packed."""
    first = b""
    while len(first) < 4 and (block := next(blocks, b"")):
        first += block
    new = _unpacker(name, first[:_PIECE])
    if new is None:
        yield first
        yield from blocks
        return
    unpacker = new()
    for block in itertools.chain([first], blocks):
        for start in range(0, len(block), _PIECE):
            piece = block[start : start + _PIECE]
            while piece:
                yield unpacker.decompress(piece)
                if isinstance(unpacker, _Brotli):
                    yield from unpacker.rest()
                if not unpacker.eof:
                    break
                piece = unpacker.unused_data
                if name != "gzip" or not piece.strip(b"\0"):  # padding, if anything
                    return
                unpacker = new()
    if not unpacker.eof:
        raise EOFError


def _unpacker(name: str, first: bytes) -> Callable[[], Any] | None:
    """What unpacks bytes that begin like this; None if they aren't packed at all."""
    if name == "gzip":
        return (lambda: zlib.decompressobj(31)) if first.startswith(b"\x1f\x8b") else None
    if name == "zstd":
        import zstandard

        unpacker = zstandard.ZstdDecompressor(max_window_size=8 << 20)
        return unpacker.decompressobj if first.startswith(b"\x28\xb5\x2f\xfd") else None
    choices = {"deflate": (zlib.decompressobj, lambda: zlib.decompressobj(-15)), "br": (_Brotli,)}
    if name not in choices:
        raise UnknownCodingError(name)
    if first.lstrip().startswith(b"<"):
        return None
    for new in choices[name]:  # with a header and without: it works or doesn't
        try:
            new().decompress(first)
            return new
        except zlib.error:
            continue
    return None


class _Brotli:
    """brotli's decompressor with the names, and the error, that zlib's has."""

    unused_data = b""

    def __init__(self) -> None:
        import brotli

        self._stream, self._error = brotli.Decompressor(), brotli.error

    @property
    def eof(self) -> bool:
        return self._stream.is_finished()

    def decompress(self, piece: bytes) -> bytes:
        """The beginning of what a piece holds; `rest` gives the rest."""
        try:
            return self._stream.process(piece, output_buffer_limit=_BLOCK)
        except self._error as error:
            raise zlib.error(str(error)) from None

    def rest(self) -> Iterator[bytes]:
        """What is left of the last piece: a few bytes can hold gigabytes."""
        while not self.eof and not self._stream.can_accept_more_data():
            yield self.decompress(b"")
