"""In which set of characters a page is: what it says of itself, or else what its bytes look like.

What counts as a declaration is the prescan of the HTML standard: not one in a comment or within
another attribute, not `data-charset`, and no `content` without `http-equiv=content-type`. Unlike
the standard, but as browsers do, a `meta` that is only a string in a script doesn't count.
"""

import re
from collections import Counter
from collections.abc import Iterator

from llama3lib.data.charsets import charset
from llama3lib.data.language import identify_language

_PRESCAN = 1024  # bytes in which a declaration counts whatever the bytes look like
_MOST_HEAD = 1 << 16
_TOKEN = re.compile(
    rb"<!(?=--).*?(?:-->|\Z)|<(?P<tag>meta(?=[\s/])|/?[a-z][^\s>]*)|<[!/?][^>]*(?:>|\Z)",
    re.DOTALL | re.IGNORECASE,
)
_ATTRIBUTE = re.compile(
    rb"""[\s/]*([^\s/>][^\s/>=]*)"""
    rb"""(?:\s*=\s*(?:"([^"]*)(?:"|\Z)|'([^']*)(?:'|\Z)|([^\s>"'][^\s>]*)|(?=>)))?"""
)
_IN_CONTENT = re.compile(rb"""charset\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s;"']+))""", re.IGNORECASE)
_IN_XML = re.compile(rb"""<\?xml[^>]*?encoding[\0- ]*=[\0- ]*(["'])([^>\0- ]*?)\1[^>]*>""")
_NO_MARKUP = {
    tag: re.compile(rb"</" + tag + rb"(?=[\s/>])", re.IGNORECASE)
    for tag in (b"script", b"style", b"title", b"noscript")
}


def declared(page: bytes) -> str | None:
    """The set that a page names in its first 1,024 bytes, by `meta` or as XML; None if it doesn't.

    As the standard has it, a page that could be read so far isn't in UTF-16, whatever it says.
    """
    for start, name in ((b"<\0?\0x\0", "utf-16le"), (b"\0<\0?\0x", "utf-16be")):
        if page.startswith(start):
            return name
    head = page[:_PRESCAN]
    if name := _by_meta(head):
        return name
    found = _IN_XML.match(head)
    return _readable(found[2]) if found else None


def declared_late(page: bytes) -> str | None:
    """The set that a `meta` further down in the head of a page names, as browsers find it too."""
    return _by_meta(page[:_MOST_HEAD])


def _by_meta(head: bytes) -> str | None:
    for attributes in _metas(head):
        label = attributes.get(b"charset")
        if label is None and attributes.get(b"http-equiv", b"").lower() == b"content-type":
            found = _IN_CONTENT.search(attributes.get(b"content", b""))
            label = found and (found[1] or found[2] or found[3])
        if label and (name := _readable(label)):
            return name
    return None


def _metas(head: bytes) -> Iterator[dict[bytes, bytes]]:
    """The attributes of each `meta` before the body; a tag that the end cuts off is none."""
    place = 0
    while token := _TOKEN.search(head, place):
        place, tag = token.end(), (token["tag"] or b"").lower()
        attributes: dict[bytes, bytes] = {}
        while tag and (found := _ATTRIBUTE.match(head, place)):
            place = found.end()
            value = found[2] or found[3] or found[4] or b""
            attributes.setdefault(found[1].lower(), value)
        if place == len(head) or tag == b"body":
            return
        if tag == b"meta":
            yield attributes
        elif tag in _NO_MARKUP:
            end = _NO_MARKUP[tag].search(head, place)
            place = end.start() if end else len(head)


def _readable(label: bytes) -> str | None:
    name = charset(label.decode("latin-1"))
    return {"utf-16le": "utf-8", "utf-16be": "utf-8", "x-user-defined": "windows-1252"}.get(
        name or "", name
    )


# what pages without a declaration are found in, by the names of Python's codecs
_CANDIDATES = {
    "big5hkscs": "big5",
    "cp866": "ibm866",
    "cp874": "windows-874",
    "cp932": "shift_jis",
    "cp949": "euc-kr",
    "cp1250": "windows-1252",
    "cp1251": "windows-1251",
    "cp1252": "windows-1252",
    "cp1253": "windows-1253",
    "cp1255": "windows-1255",
    "cp1256": "windows-1256",
    "euc_jp": "euc-jp",
    "gb18030": "gb18030",
    "iso8859_5": "iso-8859-5",
    "iso8859_7": "iso-8859-7",
    "koi8_r": "koi8-r",
}
_LATIN = "windows-1252"
# languages whose Latin letters are in another set than that of western Europe
_BY_LANGUAGE = {
    **dict.fromkeys("bs cs hr hu pl ro sk sl sq".split(), "windows-1250"),
    **dict.fromkeys("az tr".split(), "windows-1254"),
    **dict.fromkeys("et lt lv".split(), "windows-1257"),
    "vi": "windows-1258",
}
_FEWEST = 6  # bytes that tell of another script; one or two are a copyright sign and a quote
_PARTS, _PART_BYTES = 7, 1000
_ASCII_SECOND = re.compile(rb"[\x81-\xfe][@-~]")
_ASCII = bytes(range(0x80))
_NO_LETTERS = bytes(byte for byte in range(256) if not bytes([byte]).isalpha())


def guess(raw: bytes) -> str:
    """The set that bytes without a declaration, and not in UTF-8, are most likely in.

    Browsers guess too. Lines with letters beyond ASCII are dealt out to a few parts, and each part
    has a vote: a broken letter spoils one. Text that is mostly ASCII is in the Latin set of its
    language, windows-1252 in doubt.
    """
    lines = [line for line in re.split(rb"[<>\r\n]+", raw) if not line.isascii()]
    parts = [_part(lines[start::_PARTS]) for start in range(min(_PARTS, len(lines)))]
    whole = b"\n".join(parts)
    name = _LATIN
    beyond = beyond_ascii(whole)
    if beyond >= _FEWEST and 3 * beyond > len(whole.translate(None, _NO_LETTERS)):
        votes: Counter[str] = Counter()
        for part in parts:
            votes[_vote(part)] += beyond_ascii(part)
        name = votes.most_common(1)[0][0]
    return name if name != _LATIN else _latin(raw, whole)


def _part(lines: list[bytes]) -> bytes:
    """The first lines, up to about so many bytes; lines stay whole."""
    size, part = 0, []
    for line in lines:
        part.append(line)
        size += len(line)
        if size > _PART_BYTES:
            break
    return b"\n".join(part)


def _vote(part: bytes) -> str:
    import charset_normalizer

    names = set(_CANDIDATES)
    if 20 * len(_ASCII_SECOND.findall(part)) < beyond_ascii(part):
        names -= {"big5hkscs", "cp932"}  # a third of their letters end in an ASCII byte
    found = charset_normalizer.from_bytes(
        part, cp_isolation=sorted(names), preemptive_behaviour=False
    ).best()
    return _CANDIDATES[found.encoding] if found else _LATIN


def _latin(raw: bytes, text: bytes) -> str:
    language, _ = identify_language(text.decode("cp1252", "replace"))
    name = _BY_LANGUAGE.get(language, _LATIN)
    controls = bytes(range(0x80, 0xA0))  # where Windows has letters and ISO has none
    if name == "windows-1250" and raw.translate(None, controls) == raw:
        return "iso-8859-2"
    return name


def beyond_ascii(raw: bytes) -> int:
    """How many bytes are no ASCII."""
    return len(raw.translate(None, _ASCII))
