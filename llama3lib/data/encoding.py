"""Bytes to text, and text to numbers that are the same on every machine."""

import codecs
import hashlib
import re

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_META = re.compile(
    rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([A-Za-z0-9_:.-]{1,40})""", re.IGNORECASE
)
# what pages call Latin-1 or ASCII has been Windows-1252 for as long as there are browsers
_AS_BROWSERS_DO = {"iso8859-1": "cp1252", "ascii": "cp1252"}
_NO_CHARSETS = frozenset("utf-7 idna punycode raw-unicode-escape unicode-escape".split())


def decode(raw: bytes, declared: str | None = None) -> str:
    """A page's bytes as text.

    Tried in turn: byte-order mark, `declared` (from the HTTP header), the page's own `meta` tag,
    UTF-8, Windows-1252. Never raises: bytes that fit nowhere become the replacement character.
    """
    for mark, name in _MARKS:
        if raw.startswith(mark):
            return raw[len(mark) if name == "utf-8" else 0 :].decode(name, "replace")
    found = _META.search(raw[:2048])
    own = found[1].decode("ascii") if found else None
    if own and own.lower().startswith(("utf-16", "utf-32")):
        own = "utf-8"  # the tag itself could be read as bytes, so this cannot be true
    for name in (declared, own, "utf-8"):
        if text := _try(raw, name):
            return text
    return raw.decode("cp1252", "replace")


def _try(raw: bytes, name: str | None) -> str | None:
    """The text if that set is known, is a text encoding, and fits."""
    try:
        known = codecs.lookup(name).name if name else None
        if known is None or known in _NO_CHARSETS:
            return None
        return raw.decode(_AS_BROWSERS_DO.get(known, known))
    except (LookupError, UnicodeError, ValueError):
        return None


def stable_hash(text: str, seed: int = 0) -> int:
    """A 64-bit hash that is the same on every machine and in every process."""
    salt = seed.to_bytes(8, "little")
    data = text.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8, salt=salt).digest(), "little")
