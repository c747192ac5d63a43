"""Sets of characters as browsers read them (the WHATWG Encoding Standard), by Python's codecs.

A label on the web often means more than the codec of that name: `gb2312` is GB18030, `shift_jis`
and `euc-kr` are Windows' supersets of them, `iso-8859-1` is windows-1252. Python has a codec close
to each; where one differs from the standard is written down here. What is left: 191 rare characters
of Hong Kong in Big5 come out as the replacement character, 6 as a look-alike.
"""

import codecs
import functools
import re

_REPLACED = "\ufffd"
# Python's codec where it isn't that of the standard's own name
_CODECS = {
    "big5": "big5hkscs",
    "euc-jp": "euc_jp",
    "euc-kr": "cp949",
    "gbk": "gb18030",
    "iso-2022-jp": "iso2022_jp_ext",
    "iso-8859-8-i": "iso8859-8",
    "macintosh": "mac-roman",
    "shift_jis": "cp932",
    "utf-16be": "utf-16-be",
    "utf-16le": "utf-16-le",
    "windows-874": "cp874",
    "x-mac-cyrillic": "mac-cyrillic",
}
_MULTIBYTE = frozenset("big5 euc-jp euc-kr gb18030 gbk iso-2022-jp shift_jis".split())
_UNICODE = frozenset("utf-8 utf-16be utf-16le".split())
# single bytes that the standard maps otherwise
_BYTES = {"koi8-u": {0xAE: "ў", 0xBE: "Ў"}, "windows-1255": {0xCA: "\u05ba"}}
_JIS = str.maketrans("〜‖−¢£¬", "～∥－￠￡￢")
_GB = {0xE5E5: "\u3000", 0xE7C7: "ḿ"}
_GB |= zip(range(0xE78D, 0xE797), "︐︒︑︓︔︕︖︗︘︙", strict=True)
_GB |= zip((0xE81E, 0xE826, 0xE82B, 0xE82C), "龴龵龶龷", strict=True)
_GB |= zip((0xE832, 0xE843, 0xE854, 0xE864), "龸龹龺龻", strict=True)
# what comes out of a codec otherwise than out of a browser, and from nothing else
_SIGNS = {
    "big5": str.maketrans("•､‾∼♁☉¥¢£", "‧﹑¯～⊕⊙￥￠￡"),
    "euc-jp": _JIS,
    "gb18030": _GB,
    "gbk": _GB,
    "iso-2022-jp": _JIS,
    "shift_jis": dict.fromkeys(range(0xF8F0, 0xF8F4), _REPLACED),
}
# the bytes of a letter that isn't there
_PAIR = re.compile(rb"[\x81-\xfe][\x80-\xff]")
_BROKEN = {
    "cp932": re.compile(rb"[\x81-\x9f\xe0-\xfc][\x80-\xff]"),
    "euc_jp": re.compile(rb"\x8f[\xa1-\xfe][\x80-\xff]|[\x8e\x8f\xa1-\xfe][\x80-\xff]"),
    "gb18030": re.compile(rb"[\x81-\xfe](?:[\x80-\xff]|[0-9](?:[\x81-\xfe](?:[0-9]|\Z)|\Z))"),
    "iso2022_jp_ext": re.compile(rb"[!-~]{2}"),
}


@functools.lru_cache(maxsize=256)
def charset(label: str) -> str | None:
    """The standard's name for a label such as `latin1` or `x-sjis`; None if browsers know none."""
    import webencodings

    found = webencodings.lookup(label) if len(label) < 50 and label.isascii() else None
    return found.name if found else None


def decode_as(raw: bytes, name: str) -> str:
    """Bytes as text, `name` being one that `charset` gives; bytes that fit nowhere are replaced.

    As in browsers, `replacement` stands for sets that could hide markup, and gives one sign for
    all.
    """
    if name == "replacement":
        return _REPLACED if raw else ""
    if name in _UNICODE:
        return raw.decode(_CODECS.get(name, name), "replace")
    if name not in _MULTIBYTE:
        return codecs.charmap_decode(raw, "strict", _table(name))[0]
    text = raw.decode(_CODECS.get(name, name), _HANDLER)
    return text.translate(_SIGNS[name]) if name in _SIGNS else text


@functools.cache
def _table(name: str) -> str:
    """The 256 characters of a set of single bytes; what Windows left open is a control sign."""
    if name == "x-user-defined":
        return "".join(chr(byte if byte < 0x80 else 0xF700 + byte) for byte in range(256))
    codec, own = _CODECS.get(name, name), _BYTES.get(name, {})
    signs = []
    for byte in range(256):
        sign = bytes([byte]).decode(codec, "replace")
        if sign == _REPLACED and 0x80 <= byte < 0xA0:
            sign = chr(byte)
        signs.append(own.get(byte, sign))
    return "".join(signs)


def _as_browsers_do(error: UnicodeError) -> tuple[str, int]:
    """What stands for bytes that a codec doesn't know, and where to go on.

    A sign that is in Windows' set is taken from there. Else the bytes of a broken letter are
    replaced, but never an ASCII byte: markup behind it stays markup.
    """
    if not isinstance(error, UnicodeDecodeError):
        raise error
    rest, start = error.object[error.start : error.start + 4], error.start
    if error.encoding == "gb18030" and rest[0] == 0x80:
        return "€", start + 1
    if sign := _windows_sign(error.encoding, rest[:2]):
        return sign, start + 2
    letter = _BROKEN.get(error.encoding, _PAIR).match(rest)
    return _REPLACED, start + (letter.end() if letter else 1)


def _windows_sign(codec: str, pair: bytes) -> str:
    """The sign that only Windows' variant of a set has, or ""."""
    if codec == "iso2022_jp_ext":
        codec, pair = "euc_jp", bytes(byte | 0x80 for byte in pair if 0x20 < byte < 0x7F)
    if codec == "euc_jp" and len(pair) == 2 and 0xA0 < min(pair) and max(pair) < 0xFF:
        # NEC's and IBM's additions
        row, column = pair[0] - 0xA1, pair[1] - 0xA1
        lead = row // 2 + (0x81 if row < 62 else 0xC1)
        trail = column + (0x9F if row % 2 else 0x40 + (column >= 63))
        codec, pair = "cp932", bytes([lead, trail])
    elif codec == "big5hkscs" and pair[0] == 0xA3:  # where the euro is
        codec = "cp950"
    else:
        return ""
    try:
        return pair.decode(codec)
    except UnicodeDecodeError:
        return ""


_HANDLER = "llama3lib-as-browsers-do"
codecs.register_error(_HANDLER, _as_browsers_do)
