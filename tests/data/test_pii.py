"""Personal data: finds and look-alikes of each kind, and texts written to take forever."""

import pytest
from timing_tools import assert_linear

from llama3lib.data.document import Document
from llama3lib.data.pii import KINDS, MaskPII, find_pii, iban_is_right, luhn, mask_pii

# text, what is left of it
FINDS = [
    ("write to ada@example.com.", "write to [EMAIL]."),
    ("<a.b+c_d%e@x-y.co.uk>, (z@q.io)", "<[EMAIL]>, ([EMAIL])"),
    ("mailto:ada@example.com?x=1", "mailto:[EMAIL]?x=1"),
    ("邮箱ada@example.com的", "邮箱[EMAIL]的"),
    ("card 4111 1111 1111 1111!", "card [CARD]!"),
    ("4111-1111-1111-1111 or 4111111111111111.", "[CARD] or [CARD]."),
    ("378282246310005, 5555 5555 5555 4444", "[CARD], [CARD]"),
    ("4111 1111 1111 1111 12/27", "[CARD] 12/27"),
    ("to DE89 3704 0044 0532 0130 00 please", "to [IBAN] please"),
    ("GB82WEST12345698765432; NO93 8601 1117 947", "[IBAN]; [IBAN]"),
    ("BE68 5390 0754 7034 BIC KREDBEBB", "[IBAN] BIC KREDBEBB"),
    ("MT84 MALT 0110 0001 2345 MTLC AST0 01S", "[IBAN]"),
    ("number 123-45-6789,", "number [SSN],"),
    ("from 8.8.8.8. Then 81.2.69.142:80", "from [IP]. Then [IP]:80"),
    ("http://8.8.8.8/x", "http://[IP]/x"),
    ("at 2001:4860:4860::8888 too", "at [IP] too"),
    ("call (212) 555-0100.", "call [PHONE]."),
    ("212-555-0100 or 212.555.0100", "[PHONE] or [PHONE]"),
    ("1-800-555-0199", "[PHONE]"),
    ("+1 212 555 0100, +442079460958", "[PHONE], [PHONE]"),
    ("+49 30 1234567 and +49 170 1234567", "[PHONE] and [PHONE]"),
    ("020 7946 0958", "[PHONE]"),
    ("tel: 555-0123", "tel: [PHONE]"),
    ("+81 158-23-2012, 0049 170 12345", "[PHONE], [PHONE]"),
    ("ring at 555-0123", "ring at [PHONE]"),
    ("the host 5.9.12.4 and 5.9.12.4:443", "the host [IP] and [IP]:443"),
    ("it came from 5.9.112.4", "it came from [IP]"),
    ("81.2.69.142/16", "[IP]/16"),  # bits behind the network's: a machine in it
]
LOOKALIKES = [
    "a@b, @name, x@localhost, a@.com, ada@example",
    "a..b@example.com is none",
    "card 4111 1111 1111 1112",  # check digit
    "0000 0000 0000 0000",
    "4111 1111 1111 1111 1111 1111",  # a row of figures
    "id 1234567890123456789012345678",
    "DE88 3704 0044 0532 0130 00",  # checksum
    "the ISO of GB82 is not one",
    "666-12-3456 and 900-12-3456",
    "123-00-4567 and 123-45-0000 and 1-123-45-6789-0",
    "127.0.0.1, 10.0.0.1, 192.168.1.1, 0.0.0.0, 256.1.1.1",
    "v3.11.2.1, version 3.11.2.1, version: 3.11.2.1, release 2.14.10.3, pip==1.2.3.4",
    "section 1.2.3.4 and § 4.3.2.1",
    "1.2.3.4.5 and 1.2.3",
    "a::b and std::vector and dead::beef and ::1 and fe80::1",
    "at 12:30:45 with 00:1B:44:11:3A:B7",
    "on 2021-04-12 and 12.04.2021 and 12-04-2021",
    "on 2021-04-12 14 people came",
    "the years 1204-1318 and 1466-1490, lots 100-250",
    "1 250 500 steps, 48 000 readings, 10.5 to 12.25",
    "3.14159265358979 and +3.14159265 and 1e10",
    "ISBN 978-3-16-148410-0",
    "x-100-200-300",
    "see 4.11.16.3 and (27.2.5.1), Abschnitt 6.2.4.3,",
    "about DNS.\n11.1.7.1. The server\n11.1.7.2 Its names\n 4.8.4.30. Files",
    "Firefox/2.0.0.31, git/1.8.3.1, [GCC 2.7.2.2], Thunderbird 1.5.0.9",
    "prior to 10.3.183.90; driver 10.18.10.42; 10.3.183.90 or later, 8.0.1.250 and newer",
    "the networks 198.51.0.0/16 and 2001:db00::/24, the group 224.0.0.251",
    "until 05.12.1972 00 UTC, 05.12.72 14 hours, 12 04 2021, 2021 04 12 14",
    "open at 1200-1400 and on 0900-1700; Hotel 2019 2020",
    "03894-4801, 100-0001, 89259-565, 00-950, SW1A 1AA, K1A 0B1",
    "0x50 00 00 00 79 00 00 00 74 00, 012 013 023 123, 000 001 010 011",
    "ISBN 3-16-148410-0, 978 0 306 40615 7, ISSN 0317-8471, doi 10.1007/978-3-319",
    "+000000120",
]


@pytest.mark.parametrize(("text", "masked"), FINDS)
def test_finds(text, masked):
    assert mask_pii(text)[0] == masked
    assert mask_pii(masked) == (masked, {})  # masks are no finds


@pytest.mark.parametrize("text", LOOKALIKES)
def test_lookalikes_stay(text):
    assert mask_pii(text) == (text, {})


def test_luhn_and_iban_against_every_slip_of_one_digit():
    assert luhn("4111111111111111") and luhn("79927398713") and luhn("0")
    for place in range(16):
        for digit in set("0123456789") - {"4111111111111111"[place]}:
            wrong = "4111111111111111"[:place] + digit + "4111111111111111"[place + 1 :]
            assert not luhn(wrong)
    right = "DE89370400440532013000"
    assert iban_is_right(right) and not iban_is_right("DE89") and not iban_is_right(right * 2)
    for place in range(2, 22):
        for digit in set("0123456789") - {right[place]}:
            assert not iban_is_right(right[:place] + digit + right[place + 1 :])


def test_finds_are_in_order_and_never_overlap():
    text = " ".join(text for text, _ in FINDS)
    finds = find_pii(text)
    assert {find.kind for find in finds} == {kind.name for kind in KINDS}
    assert all(one.end <= other.start for one, other in zip(finds, finds[1:], strict=False))
    assert [find.kind for find in find_pii("8.8.8.8@example.com")] == ["email"]
    assert [find.kind for find in find_pii("020-555-4111111111111111")] != ["card", "card"]


ADVERSARIAL = ["a.", "a@", "a@a.", "a-", "1", "1 ", "1-", "1.", "12.34.", "+1 ", "(1", "(1)", "a:",
    "::", "1:", "DE89", "DE89 3704 ", "A", "0000 ", "123-45-", "8.8.8.8", "8.8.8.8 ", "é@",
    "+12-", "1 234 567 ", " ", "%a", "a@b.c", "v."]  # fmt: skip


@pytest.mark.parametrize("unit", ADVERSARIAL)
def test_linear_time(unit):
    short, long = unit * (5000 // len(unit)), unit * (20_000 // len(unit))
    assert_linear(find_pii, short, long, at_most=8)
    assert_linear(find_pii, f"x {short}!", f"x {long}!", at_most=8)


def test_the_step():
    step = MaskPII(most_free=2, most_per_1000_words=100)
    clean = Document("nothing here", "a")
    assert step.apply(clean) is clean
    found = step.apply(Document("ada@example.com or 8.8.8.8", "a", {"url": "u"}))
    assert found.text == "[EMAIL] or [IP]"
    assert found.metadata == {"url": "u", "pii": {"email": 1, "ip": 1}}
    assert "ada" not in str(found.metadata)
    listing = step.apply(Document("ada@example.com " * 3, "a"))
    assert listing.reason == "personal data" and listing.detail == "3 finds in 3 words"
    long = step.apply(Document("ada@example.com " * 3 + "word " * 27, "a"))
    assert long.metadata["pii"] == {"email": 3}  # exactly at the limit
    with pytest.raises(ValueError, match="most_free=-1"):
        MaskPII(most_free=-1)
