"""Bytes to text as browsers do it: labels, precedence, what is a declaration, broken letters."""

import codecs
import random

import pytest

from llama3lib.data.charsets import charset, decode_as
from llama3lib.data.encoding import decode
from llama3lib.data.sniff import declared

PAGES = [
    (codecs.BOM_UTF8 + "<p>é".encode(), None, "<p>é"),
    (codecs.BOM_UTF16_LE + "<p>é".encode("utf-16-le"), "utf-8", "<p>é"),
    (codecs.BOM_UTF16_BE + "<p>é".encode("utf-16-be"), None, "<p>é"),
    ("<p>é".encode(), None, "<p>é"),
    (b"<p>\xe9 \x93", None, "<p>é “"),
    (b"<p>\xe9 \x93", "iso-8859-1", "<p>é “"),
    (b"<p>\xe9 \x93", "us-ascii", "<p>é “"),
    ("<p>привет".encode("koi8-r"), "KOI8-R", "<p>привет"),
    ("<p>é".encode(), "no-such-set", "<p>é"),
    ("<p>é".encode(), "hex", "<p>é"),
    ("<p>é".encode(), "idna\x00", "<p>é"),
    (b"<p>+AGE-", "utf-7", "<p>+AGE-"),
    (b"<p>C:\\dir \\ud800", "unicode_escape", "<p>C:\\dir \\ud800"),
    (b"\xff\xfe\x00", None, "\ufffd"),
    (b"\xff\xff\x81\x8d", None, "ÿÿ\x81\x8d"),
    (b"", "utf-16", ""),
    ("<p>é".encode("utf-16-le"), "utf-16", "<p>é"),
    # a name for more than the standard of that name
    ("朱镕基".encode("gbk"), "gb2312", "朱镕基"),
    ("𠮷".encode("gb18030") + b"\x80", "x-gbk", "𠮷€"),
    ("①㈱～".encode("cp932"), "x-sjis", "①㈱～"),
    (b"\xad\xa1\xa1\xc1", "x-euc-jp", "①～"),  # not JIS's but NEC's, and no wave dash
    (b"\x1b$B-!\x1b(B", "csISO2022JP", "①"),
    ("똠방각하".encode("cp949"), "ks_c_5601-1987", "똠방각하"),
    ("喆㗎".encode("big5hkscs") + b"\xa1\x45\xa3\xe1", "cn-big5", "喆㗎‧€"),
    ("“İ”".encode("cp1254"), "latin5", "“İ”"),
    ("โ…".encode("cp874"), "tis-620", "โ…"),
    ("Ґґ".encode("koi8-u") + b"\xae", "koi8-ru", "Ґґў"),
    ("שלום".encode("iso8859-8"), "iso-8859-8-i", "שלום"),
    ("Ж€".encode("mac-cyrillic"), "x-mac-ukrainian", "Ж€"),
    (b"a\xff", "x-user-defined", "a\uf7ff"),
    (b"\x1b$)C<script>", "iso-2022-kr", "\ufffd"),
    # what is declared is obeyed, and a broken letter stays alone
    ("é".encode(), "latin1", "Ã©"),
    (b"caf\xe9 ol\xe9", "utf-8", "caf\ufffd ol\ufffd"),
    ("日本".encode("cp932")[:-1] + b"<b>", "shift_jis", "日\ufffd<b>"),
    ("中文".encode("gbk")[:-1] + b" x", "gbk", "中\ufffd x"),
    (b"a\xff\xe1b", "windows-1253", "aοαb".replace("ο", "\ufffd")),
]


@pytest.mark.parametrize(("raw", "told", "text"), PAGES)
def test_pages_in_every_set_of_characters(raw, told, text):
    assert decode(raw, told) == text


HEADS = [
    (b"<meta charset=big5>", "big5"),
    (b"<META/CHARSET = 'x-sjis'/>", "shift_jis"),
    (b"<meta http-equiv=Content-Type content='text/html;charset=\"euc-jp\"'>", "euc-jp"),
    (b"<meta content='a; charset=x charset=koi8-r' http-equiv=content-type>", None),
    (b"<meta content='charset; charset = koi8-r;' http-equiv=content-type>", "koi8-r"),
    (b"<meta charset=latin1>", "windows-1252"),
    (b"<meta charset=utf-16>", "utf-8"),  # it could be read, so it can't be true
    (b"<meta charset=utf-16be>", "utf-8"),
    (b"<meta charset=x-user-defined>", "windows-1252"),
    (b"<meta charset=utf-7><meta charset=koi8-r>", "koi8-r"),
    (b"<meta charset=big5 charset=koi8-r>", "big5"),
    (b"<a title='<meta charset=koi8-r>'><meta charset=big5>", "big5"),
    (b"<!-- <meta charset=koi8-r> --><meta charset=big5>", "big5"),
    (b"<!--><meta charset=koi8-r>", "koi8-r"),  # a whole comment
    (b"<!-- <meta charset=koi8-r>", None),
    (b"<? <meta charset=koi8-r>", None),
    (b"<meta name=description content='text; charset=koi8-r'>", None),
    (b"<meta http-equiv=refresh content='5; charset=koi8-r'>", None),
    (b"<meta data-charset=koi8-r><metadata charset=koi8-r></meta charset=koi8-r>", None),
    (b"<script>'<meta charset=koi8-r>'</script><meta charset=big5>", "big5"),
    (b"<title><meta charset=koi8-r></title>", None),
    (b"<p>write &lt;meta charset=koi8-r>", None),
    (b"<body><meta charset=koi8-r>", None),
    (b"<meta charset='koi8-r>", None),
    (b"<meta charset=koi8-r", None),
    (b" " * 1000 + b"<meta charset=koi8-r>", "koi8-r"),
    (b" " * 1010 + b"<meta charset=koi8-r>", None),
    (b"<?xml version='1.0' encoding='koi8-r'?>", "koi8-r"),
    (b"<?xml version='1.0' encoding='koi8-r'?><meta charset=big5>", "big5"),
    (b"<?xml encoding='utf-16'?>", "utf-8"),
    (b" <?xml encoding='koi8-r'?>", None),
    ("<?xml".encode("utf-16-le"), "utf-16le"),
    ("<?xml".encode("utf-16-be"), "utf-16be"),
]


@pytest.mark.parametrize(("head", "name"), HEADS)
def test_what_a_page_says_of_itself(head, name):
    assert declared(head) == name


def test_which_declaration_comes_first():
    page = "<meta charset=koi8-r>Ж".encode("koi8-r")
    assert decode(page).endswith("Ж")
    assert decode(page, "none-such").endswith("Ж")
    assert decode(page, "windows-1252").endswith("ö")
    assert decode(codecs.BOM_UTF8 + "<meta charset=koi8-r>Ж".encode(), "big5").endswith("Ж")
    assert decode("# charset\n<meta charset=koi8-r>Ж".encode(), html=False).endswith("Ж")
    far = b"<head>" + b"<link rel=x>" * 100 + b"<meta charset=koi8-r>"  # read on, as browsers do
    assert decode(far + "Да".encode("koi8-r")).endswith("Да")
    assert decode(far + "Да, это UTF-8".encode()).endswith("Да, это UTF-8")


TEXTS = {
    "windows-1251": "Вчера вечером мы ходили в старый парк, и дети кормили уток хлебом.",
    "koi8-r": "Вчера вечером мы ходили в старый парк, и дети кормили уток хлебом.",
    "gbk": "昨天晚上我们去了公园，孩子们给鸭子喂面包，天气非常好，大家都很高兴。",
    "big5": "昨天晚上我們去了公園，孩子們給鴨子餵麵包，天氣非常好，大家都很高興。",
    "shift_jis": "きのうの夜、私たちは古い公園へ行き、子供たちはアヒルにパンをやりました。",
    "euc-jp": "きのうの夜、私たちは古い公園へ行き、子供たちはアヒルにパンをやりました。",
    "euc-kr": "어제 저녁에 우리는 오래된 공원에 갔고 아이들은 오리에게 빵을 주었습니다.",
    "iso-8859-7": "Χθες το βράδυ πήγαμε στο παλιό πάρκο και τα παιδιά τάισαν τις πάπιες.",
    "windows-1255": "אתמול בערב הלכנו לפארק הישן והילדים האכילו את הברווזים בלחם.",
    "windows-874": "เมื่อวานตอนเย็นเราไปสวนสาธารณะและเด็ก ๆ ให้อาหารเป็ด",
    "windows-1252": "Gestern Abend gingen wir in den Park, und “die Kinder” fütterten süße Enten.",
    "iso-8859-2": "Wczoraj wieczorem poszliśmy do starego parku, a dzieci karmiły kaczki chlebem.",
    "windows-1250": "Včera večer jsme šli do starého parku a děti krmily kachny; „bylo to krásné“.",
    "windows-1254": "Dün akşam eski parka gittik ve çocuklar ördeklere ekmek verdiler, güneş açtı.",
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_page_that_says_nothing_is_in_the_set_it_looks_like(name):
    codec = {"euc-kr": "cp949", "windows-874": "cp874"}.get(name, name)
    lines = "\n".join(f"<p>{number}. {TEXTS[name]}</p>" for number in range(12))
    raw = lines.encode(codec)
    assert decode(raw) == lines
    line = f"<p>7. {TEXTS[name]}</p>"
    at = raw.find(line.encode(codec)) + len(line.encode(codec)) - 6
    kept = lines[: lines.find(line) + len(line) - 8]
    assert decode(raw[:at] + b"\xff" + raw[at:]).startswith(kept)  # a byte that is none
    assert decode(raw[: at - 1]).startswith(kept)  # cut within a letter


@pytest.mark.parametrize(
    "text", ["© 2020 Foo Ltd.", "naïve résumé", "Müller: „Grüße“", "It’s 20 £ – or more", "café"]
)
def test_a_few_letters_beyond_ascii_are_those_of_western_europe(text):
    assert decode(text.encode("cp1252")) == text


def test_utf8_with_a_few_broken_letters_is_still_utf8():
    text = "Пример русского текста. " * 20
    raw = text.encode()
    assert decode(raw[:-2]).startswith(text[:-2])  # the archive has cut it
    assert decode(raw[:101] + b"\xff" + raw[101:]).count("\ufffd") <= 3
    assert decode(raw[1:]).endswith(text[1:])
    assert decode("ein Wort: schön".encode()[:-1]) == "ein Wort: schö"
    assert decode("<p>é</p>".encode() + b" d\xe9j\xe0 vu" * 5) == "<p>Ã©</p>" + " déjà vu" * 5
    assert decode("夜、公園へ".encode("iso2022_jp")) == "夜、公園へ"


def test_any_bytes_become_text_in_any_set():
    rng = random.Random(0)
    labels = "utf-8 utf-16le gbk gb18030 big5 euc-jp iso-2022-jp shift_jis euc-kr koi8-u macintosh"
    for number in range(3000):
        raw = bytes(rng.choices((*range(0x80, 0x100), *b"<aB0~\x1b$B\n"), k=rng.randint(0, 30)))
        for name in labels.split():
            text = decode_as(raw, name)
            text.encode("utf-8")
            if name not in ("utf-16le", "iso-2022-jp"):  # markup stays where it is
                assert text.count("<") == raw.count(b"<"), (number, name, raw)
    assert charset("A" * 1000) is None and charset(" Latin1\n") == "windows-1252"
