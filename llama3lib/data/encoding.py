"""Bytes to text, and text to numbers that are the same on every machine."""

import codecs
import hashlib

from llama3lib.data.charsets import charset, decode_as
from llama3lib.data.sniff import beyond_ascii, declared_late, guess
from llama3lib.data.sniff import declared as declared_by

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16le"),
    (codecs.BOM_UTF16_BE, "utf-16be"),
)


def decode(raw: bytes, declared: str | None = None, *, html: bool = True) -> str:
    """A page's bytes as text, as browsers read it.

    What comes first counts: a byte-order mark, `declared` (from the HTTP header), and with `html`
    what the page says of itself. It is obeyed: bytes that fit nowhere are replaced, one by one. A
    page that says nothing is in UTF-8 if all but few bytes fit, else in the set it looks like.
    """
    for mark, name in _MARKS:
        if raw.startswith(mark):
            return decode_as(raw[len(mark) :], name)
    name = charset(declared) if declared else None
    if name is None and html:
        name = declared_by(raw)
    if name is None:
        name = _undeclared(raw, html)
    return decode_as(raw, name)


def _undeclared(raw: bytes, html: bool) -> str:
    if raw.isascii():
        return "iso-2022-jp" if b"\x1b$B" in raw else "utf-8"
    if _is_utf8(raw):
        return "utf-8"
    return (declared_late(raw) if html else None) or guess(raw)


def _is_utf8(raw: bytes) -> bool:
    """Whether there are letters beyond ASCII, with at most one in five broken or cut off."""
    text, _ = codecs.utf_8_decode(raw, "replace", False)
    broken = text.count("\ufffd")
    whole = len(text) - (len(raw) - beyond_ascii(raw)) - broken
    return whole > 0 and 4 * broken <= whole


def stable_hash(text: str, seed: int = 0) -> int:
    """A 64-bit hash that is the same on every machine and in every process."""
    salt = seed.to_bytes(8, "little")
    data = text.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8, salt=salt).digest(), "little")
