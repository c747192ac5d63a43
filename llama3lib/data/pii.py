"""Find personal data in text and take its place (paper section 3.1.1, "PII and safety filtering").

The paper removes whole domains that are full of personal data. This module also masks single finds.
All patterns are bounded and take linear time: text from the web is written by people who know what
a backtracking regular expression does on `a.a.a.a.a.`.

What it can't do: names and addresses need a model; only data with a shape of its own is found.
"""

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from llama3lib.data.document import Document, DocumentStep, Drop
from llama3lib.data.words import count_words
from llama3lib.utils.require import require_all

_EMAIL = re.compile(
    r"(?<![A-Za-z0-9_.+-])[A-Za-z0-9](?:[A-Za-z0-9._%+-]{0,62}[A-Za-z0-9_%+-])?@"
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,5}[A-Za-z]{2,24}(?![A-Za-z0-9_-])"
)
_IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.]*\d|\w)")
_IPV6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:])")
# a card may be followed by the month it ends in, 12/27, but by no other figures
_DIGITS = re.compile(r"(?<![\w.])\d(?:[ -]?\d){12,18}(?! \d(?!\d/\d\d)|-?\d)(?!\w|/\d)")
# the last group starts with a digit: the word that follows may be BIC
_IBAN = re.compile(
    r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?\d[A-Z0-9]{0,2}|[A-Z0-9]{1,3})?(?!\w)"
)
_SSN = re.compile(r"(?<![\w-])(?!000|666|9\d\d)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\w-])")
_PHONE = re.compile(
    r"(?<![\w.,:/-])(?:\+\d{1,3}[ .-]?)?(?:\(\d{1,5}\)[ .-]?)?"
    r"\d{2,5}(?:[ .-]\d{2,5}){1,4}(?![\w-]|[.,:/]\d)"
    r"|(?<![\w.])\+\d{8,15}(?!\w)"
    r"|(?<![\w.])\+\d{1,3}(?:[ -]\d{1,8}){1,5}(?![\w-]|[.,:/]\d)"
    r"|(?<![\w.,:/-])1(?:[ .-]\d{3}){2}[ .-]\d{4}(?![\w-]|[.,:/]\d)"
)
_TOLD_AS_PHONE = re.compile(
    r"(?i)(?:\b(?:tel|tele(?:phone|fono?|fax)|call|fax|mobile?|cell|dial)|phone)\W{0,4}$"
)
_AT_OR_ON = re.compile(r"(?i)\b(?:at|on)\W{0,4}$")
_VERSION_OR_SECTION = re.compile(
    r"(?:\b(?:v(?:er(?:sions?)?)?\.?|release|build|driver|firmware|patch|update|prior to|until)"
    r"|\b(?:sec(?:tions?|\.)|chapter|clause|appendix|annex|table|figure)|§|==|>=|<=|~=|\w/)[\s:]*$",
    re.IGNORECASE,
)
_OR_LATER = re.compile(
    r"\s+(?:\(?or|and) (?:later|earlier|newer|older|higher|above)", re.IGNORECASE
)
_TOLD_AS_ADDRESS = re.compile(
    r"(?i)(?:\b(?:ips?|ipv4|addr(?:ess(?:es)?)?|adresse|dns|(?:name)?server|host|ping|client|peer|"
    r"gateway|proxy)\W{1,4}(?:is |at |was )?|://|@)$"
)
_PORT = re.compile(r":\d{2,5}(?!\d)")
_HEADING = re.compile(r"\.?[ \t\xa0]+[^\W\d_]|\.[ \t\xa0]+\S")
_HIGHEST_SECTION = 24
_RESOLVERS = {"8.8.8.8", "8.8.4.4", "9.9.9.9"}  # known to all; no book has so many sections
# year first, or day and month first with a time behind
_DATE_FIRST = re.compile(
    r"(?:1\d|20)\d\d[-. ](?:0\d|1[0-2])[-. ][0-3]\d(?!\d)"
    r"|[0-3]\d[-. ][01]\d[-. ](?:1\d|20)\d\d(?!\d)"
    r"|[0-3]\d\.[01]\d\.\d\d (?:[01]\d|2[0-4])"
)


def _is_email(found: str, before: str, after: str) -> bool:
    return ".." not in found


def _is_ip(found: str, before: str, after: str) -> bool:
    """Real addresses of one machine in the outside world.

    Not `127.0.0.1`, the network 198.51.0.0/16, C++'s `a::b`, version 3.11.2.1 or section 4.11.16.3.
    Numbers as low as those of sections must be told to be an address.
    """
    try:
        address = ipaddress.ip_address(found)
    except ValueError:
        return False
    if not address.is_global or address.is_multicast or _is_network(found, after):
        return False
    if address.version == 6:
        return int(address) >> 125 == 1  # 2000::/3 is all there is yet
    if _VERSION_OR_SECTION.search(before) or _OR_LATER.match(after):
        return False
    first, *rest = map(int, found.split("."))
    starts_line = not before.rpartition("\n")[2].strip()
    if starts_line and _HEADING.match(after) and max(first, *rest) < 100:
        return False
    if found in _RESOLVERS or _TOLD_AS_ADDRESS.search(before) or _PORT.match(after):
        return True
    return first >= 100 or max(rest) > _HIGHEST_SECTION


def _is_network(found: str, after: str) -> bool:
    """Whether `/16` or the like follows, and the address is the first of that network."""
    length = re.match(r"/\d{1,3}(?![\d/.])", after)
    if not length:
        return False
    try:
        network = ipaddress.ip_network(found + length[0])
    except ValueError:  # bits are set behind the network's: it is a machine in it
        return False
    return network.num_addresses > 1


def luhn(digits: str) -> bool:
    """Whether the check digit of a card number is right."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 * (value > 9)
    return total % 10 == 0


def _is_card(found: str, before: str, after: str) -> bool:
    digits = re.sub(r"\D", "", found)
    known = digits[0] in "3456" and len(digits) in (13, 14, 15, 16, 19)
    return known and luhn(digits) and len(set(digits)) > 1


def iban_is_right(text: str) -> bool:
    """Whether the two check digits of an international bank account number are right."""
    text = text.replace(" ", "")
    if not 15 <= len(text) <= 34:
        return False
    moved = text[4:] + text[:4]
    return int("".join(str(int(sign, 36)) for sign in moved)) % 97 == 1


def _is_iban(found: str, before: str, after: str) -> bool:
    return iban_is_right(found)


def _is_ssn(found: str, before: str, after: str) -> bool:
    return not re.search(r"\+\d{1,3}[ .-]?$", before)  # a phone number


def _is_phone(found: str, before: str, after: str) -> bool:
    """Enough digits, and something that tells it from a date, a range or a row of figures."""
    digits = re.sub(r"\D", "", found)
    if not 7 <= len(digits) <= 15:
        return False
    if re.fullmatch(r"\d{4}[-. ]\d{2}[-. ]\d{2}|\d{2}[-. ]\d{2}[-. ]\d{4}", found):
        return False  # a date
    if _DATE_FIRST.match(found):
        return False  # a date and something counted
    if re.fullmatch(r"1[-. ]\d{3}[-. ]\d{3}[-. ]\d{4}", found):
        return True
    if found.startswith(("+", "(")):
        return not found.startswith("+0")
    if _TOLD_AS_PHONE.search(before):
        return True
    if _AT_OR_ON.search(before) and re.fullmatch(r"\d{3}[-. ]\d{4}", found):
        return True
    if re.fullmatch(r"\d{5}-\d{4}", found):
        return False  # a postcode of the United States
    groups = re.split(r"[ .-]", found)
    if re.fullmatch(r"\d{3}[-. ]\d{3}[-. ]\d{4}", found):  # North American shape
        return digits[0] not in "01"
    if found.startswith("00"):  # from abroad; else a row of figures
        return digits[2] != "0" and 11 <= len(digits) and len(groups[-1]) > 2
    return found.startswith("0") and len(groups) >= 2 and 9 <= len(digits) <= 11


@dataclass(frozen=True)
class Kind:
    """One kind of personal data: its look, what tells it from look-alikes, its mask."""

    name: str
    pattern: re.Pattern[str]
    is_real: Callable[[str, str, str], bool]
    mask: str


KINDS = (
    Kind("email", _EMAIL, _is_email, "[EMAIL]"),
    Kind("iban", _IBAN, _is_iban, "[IBAN]"),
    Kind("card", _DIGITS, _is_card, "[CARD]"),
    Kind("ssn", _SSN, _is_ssn, "[SSN]"),
    Kind("ip", _IPV4, _is_ip, "[IP]"),
    Kind("ip", _IPV6, _is_ip, "[IP]"),
    Kind("phone", _PHONE, _is_phone, "[PHONE]"),
)


@dataclass(frozen=True, slots=True)
class Find:
    """A piece of personal data: its kind and its place in the text."""

    kind: str
    start: int
    end: int


def find_pii(text: str) -> list[Find]:
    """All finds, in order, without overlap; where two overlap the earlier kind of `KINDS` wins."""
    finds: list[Find] = []
    taken = bytearray(len(text))
    for kind in KINDS:
        for match in kind.pattern.finditer(text):
            begin, end = match.span()
            real = kind.is_real(match[0], text[max(0, begin - 24) : begin], text[end : end + 24])
            if real and not any(taken[begin:end]):
                taken[begin:end] = b"\1" * (end - begin)
                finds.append(Find(kind.name, begin, end))
    return sorted(finds, key=lambda find: find.start)


def mask_pii(text: str) -> tuple[str, Counter[str]]:
    """The text with every find replaced by its mask, and how many there were of each kind."""
    finds = find_pii(text)
    return "".join(_masked(text, finds)), Counter(find.kind for find in finds)


def _masked(text: str, finds: list[Find]) -> Iterator[str]:
    masks = {kind.name: kind.mask for kind in KINDS}
    place = 0
    for find in finds:
        yield text[place : find.start]
        yield masks[find.kind]
        place = find.end
    yield text[place:]


@dataclass(frozen=True, kw_only=True)
class MaskPII(DocumentStep):
    """Mask personal data; drop documents that are made of it.

    The counts go to the metadata under `pii`, never the finds themselves.
    """

    name: ClassVar[str] = "pii"
    most_per_1000_words: float = 50.0
    """Above this a document is a list of people: it is dropped (`personal data`)."""
    most_free: int = 5
    """So many finds are always only masked, however short the document is."""

    def __post_init__(self) -> None:
        ok = self.most_per_1000_words >= 0 and self.most_free >= 0
        require_all(
            ok, "0 or more", most_per_1000_words=self.most_per_1000_words, most_free=self.most_free
        )

    def apply(self, document: Document) -> Document | Drop:
        text, counts = mask_pii(document.text)
        if not counts:
            return document
        total, words = sum(counts.values()), max(1, count_words(document.text))
        if total > self.most_free and 1000 * total / words > self.most_per_1000_words:
            return Drop("personal data", f"{total} finds in {words} words")
        return document.but(text, pii=dict(sorted(counts.items())))
