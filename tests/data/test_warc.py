"""Archives: what is a page, and what damage costs. The records around it must still be read."""

import gzip
import io
import random
import zlib

import brotli
import pytest
import zstandard

from llama3lib.data import warc
from llama3lib.data.document import Document, Dropped
from llama3lib.data.readers import read_documents
from llama3lib.data.warc import WarcWriter, read_warc

DATE = "2024-05-01T12:00:00Z"
HTML = "text/html; charset=utf-8"


def archive(bodies, kind=HTML, status="200 OK"):
    """Bytes of an archive, and where its records begin."""
    out, places = io.BytesIO(), []
    writer = WarcWriter(out)
    for number, body in enumerate(bodies):
        places.append(out.tell())
        writer.write(f"http://a.example/{number}", body, kind, DATE, status)
    return out.getvalue(), places


def read(folder, raw, name="a.warc.gz", most=1 << 20, **limits):
    (folder / name).write_bytes(raw)
    return list(read_warc(folder / name, name, most, **limits))


def told(items):
    """Numbers of pages, and reasons."""
    return [i.reason if isinstance(i, Dropped) else int(i.metadata["url"][17:]) for i in items]


def noise(seed, size=60_000):
    return f"<p>{seed} ".encode() + random.Random(seed).randbytes(size // 2).hex().encode()


def record(http, kind="response", **headers):
    """A record as plain bytes, put together by hand."""
    length = headers.pop("length", len(http))
    url = headers.pop("url", "http://a.example/0")
    lines = [
        "WARC/1.0",
        f"WARC-Type: {kind}",
        f"WARC-Target-URI: {url}",
        "Content-Type: application/http; msgtype=response",
        *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()),
        *([] if length is None else [f"Content-Length: {length}"]),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + http + b"\r\n\r\n"


def answer(body, *headers):
    lines = ["HTTP/1.1 200 OK", "Content-Type: text/html", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@pytest.mark.parametrize("packed", [True, False])
def test_pages_come_back_with_their_places(tmp_path, packed):
    bodies = [f"<p>page {n} é".encode() for n in range(20)]
    raw, places = archive(bodies)
    if not packed:
        raw = gzip.decompress(raw)
    items = read(tmp_path, raw, "a.warc.gz" if packed else "a.warc")
    assert [d.text.encode() for d in items] == bodies
    assert items[3].metadata == {
        "url": "http://a.example/3",
        "date": DATE,
        "content_type": "text/html",
    }
    if packed:
        assert [d.id for d in items] == [f"a.warc.gz#{place}" for place in places]
    assert read(tmp_path, b"") == []


@pytest.mark.parametrize(
    ("kind", "status", "told_as"),
    [
        ("text/html", "200 OK", 0),
        ("TEXT/HTML;charset=x", "200 OK", 0),
        ("application/xhtml+xml", "200 OK", 0),
        ("text/plain", "200 OK", 0),
        ("image/png", "200 OK", "other type"),
        ("", "200 OK", "other type"),
        ("text/html", "404 Not Found", "other status"),
        ("text/html", "301 Moved", "other status"),
    ],
)
def test_which_answers_are_pages(tmp_path, kind, status, told_as):
    (item,) = read(tmp_path, archive([b"<p>x"], kind, status)[0])
    assert told([item]) == [told_as]
    if isinstance(item, Dropped):
        assert item.detail == (status if told_as == "other status" else kind or "none is told")
        assert item.document.metadata == {"url": "http://a.example/0", "date": DATE}


def test_extracted_text_of_common_crawl(tmp_path):
    (tmp_path / "a.warc.wet.gz").write_bytes(
        gzip.compress(record("ใช่ text".encode(), "conversion"))
    )
    (found,) = read_documents(tmp_path)
    assert found.text == "ใช่ text" and found.metadata["content_type"] == "text/plain"


def test_records_of_other_kinds_are_told_by_their_address(tmp_path):
    kinds = ("request", "metadata", "revisit", "warcinfo", "continuation")
    raw = b"".join(record(b"GET / HTTP/1.1\r\n\r\n", kind) for kind in kinds)
    found = read(tmp_path, raw, "a.warc")
    assert [(one.reason, one.detail) for one in found] == [("other record", k) for k in kinds]
    assert {one.document.metadata["url"] for one in found} == {"http://a.example/0"}
    (page,) = read(tmp_path, record(answer(b"<p>x"), url="<http://a.example/7>"), "a.warc")
    assert page.metadata["url"] == "http://a.example/7"  # so writes wget


def test_the_charset_of_the_header_counts(tmp_path):
    body = "<p>привет".encode("koi8-r")
    for kind in ('text/html; x=y; Charset="koi8-r"', "text/html;charset=koi8-r, text/html"):
        assert read(tmp_path, archive([body], kind)[0])[0].text == "<p>привет"


@pytest.mark.parametrize("place", [0, 2, 100, 300, 10_000, 25_000, -12, -6, -3])
def test_damage_in_the_middle_costs_one_page(tmp_path, place):
    raw, places = archive([noise(n) for n in range(6)])
    broken = bytearray(raw)
    at = places[2] + place if place >= 0 else places[3] + place
    for n in range(at, at + 3):
        broken[n] ^= 0xA5
    found = read(tmp_path, bytes(broken))
    assert [one for one in told(found) if one != "damaged record"] == [0, 1, 3, 4, 5]
    assert told(found).count("damaged record") == 1


def test_damage_at_the_very_start_and_at_the_end(tmp_path):
    raw, places = archive([noise(n) for n in range(4)])
    assert told(read(tmp_path, b"\0" * 9 + raw[9:])) == ["damaged record", 1, 2, 3]
    assert told(read(tmp_path, raw[: places[3] + 9000])) == [0, 1, 2, "damaged record"]
    assert told(read(tmp_path, raw + b"junk" * 9))[:4] == [0, 1, 2, 3]
    assert told(read(tmp_path, b"junk" * 99)) == ["damaged record"]
    plain = gzip.decompress(raw)
    assert told(read(tmp_path, plain[:-9000], "a.warc")) == [0, 1, 2, "damaged record"]
    assert told(read(tmp_path, b"XX" + plain[2:], "a.warc")) == ["damaged record", 1, 2, 3]


@pytest.mark.parametrize("back", range(0, 24, 3))
def test_a_record_is_found_across_the_edge_of_a_block(tmp_path, back):
    """The search for the next record reads blocks; a record may begin at a block's last bytes."""
    raw, _ = archive([b"<p>found"])
    block = 1 << 18
    filler = b"\x1f\x8b\x08" + b"\0" * (block + 1 - 3 - back)  # searching begins at byte 1
    assert told(read(tmp_path, filler + raw)) == ["damaged record", 0]


def test_an_oversized_record_is_passed_over(tmp_path):
    raw, places = archive([b"<p>0", noise(1, 300_000), b"<p>2"])
    found = read(tmp_path, raw, most=100_000)
    assert told(found) == [0, "too large", 2]
    assert found[1].document.id == f"a.warc.gz#{places[1]}"
    plain = read(tmp_path, gzip.decompress(raw), "a.warc", most=100_000)
    assert told(plain) == [0, "too large", 2]
    assert told(read(tmp_path, raw, file_bytes=3)) == ["file too large"]


def test_lengths_that_lie(tmp_path):
    good = record(answer(b"<p>good"))
    for length in (None, "many", -5, 10_000_000):
        packed = gzip.compress(record(answer(b"<p>x"), length=length)) + gzip.compress(good)
        assert told(read(tmp_path, packed)) == ["damaged record", 0]
    headers_only = record(b"", length=99)  # cut off before the first byte of the page
    assert told(read(tmp_path, headers_only[:-4], "a.warc")) == ["damaged record"]
    short = record(answer(b"<p>one and more"), length=50) + good
    assert told(read(tmp_path, short, "a.warc")) == [0, "damaged record", 0]


def test_packed_pages(tmp_path):
    body = b"<p>" + b"words " * 3000
    for coding, packed in (
        ("gzip", gzip.compress(body)),
        ("deflate", zlib.compress(body)),
        ("br", brotli.compress(body)),
    ):
        page = answer(packed, f"Content-Encoding: {coding}")
        assert read(tmp_path, record(page), "a.warc")[0].text == body.decode()
        (cut,) = read(
            tmp_path, record(answer(packed[:-9], f"Content-Encoding: {coding}")), "a.warc"
        )
        assert body.decode().startswith(cut.text) and cut.metadata["truncated"] == "unspecified"
    for coding, pack in (
        ("gzip", gzip.compress),
        ("br", lambda data: brotli.compress(data, quality=1)),
    ):
        bomb = answer(pack(b"a" * 50_000_000), f"Content-Encoding: {coding}")
        assert told(read(tmp_path, record(bomb), "a.warc")) == ["too large"]
    strange = answer(b"\x8b\x02\x80", "Content-Encoding: zstd-of-tomorrow")
    assert told(read(tmp_path, record(strange), "a.warc")) == ["unknown encoding"]


BODY = b"<p>" + b"words " * 40
HALVES = gzip.compress(BODY[:50]) + gzip.compress(BODY[50:])


@pytest.mark.parametrize(
    ("coding", "packed"),
    [
        ("x-gzip", gzip.compress(BODY)),
        ("GZIP", HALVES),  # two members
        ("gzip", HALVES + b"\0" * 40),
        ("gzip", BODY),  # unpacked by the archive, which has kept the header
        ("deflate", BODY),
        ("deflate", zlib.compress(BODY)[2:-4]),  # as some servers mean it
        ("gzip, identity", gzip.compress(BODY)),
        ("deflate, gzip", gzip.compress(zlib.compress(BODY))),
        ("zstd", zstandard.compress(BODY)),
        ("br", brotli.compress(BODY)),
        ("br", BODY.replace(b"<p>", b"")),
        ("gzip, br", brotli.compress(gzip.compress(BODY))),
        ("utf-8", BODY),
        ("none", BODY),
    ],
    ids=range(14),  # packed bytes tell the time: no two processes would agree on the names
)
def test_however_a_page_is_packed(tmp_path, coding, packed):
    (page,) = read(tmp_path, record(answer(packed, f"Content-Encoding: {coding}")), "a.warc")
    assert page.text.encode() in (BODY, BODY[3:]) and "truncated" not in page.metadata


def in_chunks(body, size=7):
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)


@pytest.mark.parametrize(
    ("sent", "headers", "truncated"),
    [
        (in_chunks(BODY) + b"0\r\n\r\n", [], None),
        (in_chunks(BODY) + b"0\r\nX-Sum: 9\r\nX-More: 8\r\n\r\n", [], None),  # trailers
        (in_chunks(BODY).replace(b"7\r\n", b"07;a=b\r\n") + b"0\r\n\r\n", [], None),
        (in_chunks(gzip.compress(BODY), 1) + b"0\r\n\r\n", ["Content-Encoding: gzip"], None),
        (in_chunks(HALVES) + b"0\r\n\r\n", ["Content-Encoding: gzip"], None),
        (BODY, [], None),  # the archive has put them together
        (in_chunks(BODY), [], "unspecified"),  # the last one is missing
        (in_chunks(BODY) + b"9\r\n", [], "unspecified"),
    ],
)
def test_pages_in_chunks(tmp_path, sent, headers, truncated):
    sent = answer(sent, "Transfer-Encoding: chunked", *headers)
    (page,) = read(tmp_path, record(sent), "a.warc")
    assert page.text.encode() == BODY and page.metadata.get("truncated") == truncated


def test_a_chunk_of_another_length_than_it_says_is_damage(tmp_path):
    sent = answer(b"4\r\nhello world\r\n0\r\n\r\n", "Transfer-Encoding: chunked")
    (item,) = read(tmp_path, record(sent), "a.warc")
    assert item.reason == "damaged record" and item.document.metadata["url"]


def test_a_page_that_the_crawler_cut_keeps_its_text(tmp_path):
    body = ("<p>" + "Пример русского текста. " * 50).encode()
    cuts = {
        "plain": record(answer(body[:-3]), WARC_Truncated="length"),
        "gzip": record(
            answer(gzip.compress(body)[:-10], "Content-Encoding: gzip"), WARC_Truncated="time"
        ),
    }
    for name, raw in cuts.items():
        (page,) = read(tmp_path, raw, "a.warc")
        assert page.text.startswith("<p>Пример русского") and page.text.count("\ufffd") <= 1, name
        assert page.metadata["truncated"] == ("time" if name == "gzip" else "length")


def test_records_that_share_a_member_and_a_record_in_two(tmp_path):
    raw, _ = archive([b"<p>0", b"<p>1", b"<p>2"])
    plain = gzip.decompress(raw)
    places = [plain.find(b"WARC/1."), *(at + 4 for at in _ends(plain))]
    whole = read(tmp_path, gzip.compress(plain))
    assert told(whole) == [0, 1, 2]
    assert [one.id for one in whole] == [
        "a.warc.gz#0",
        *(f"a.warc.gz#0+{at}" for at in places[1:3]),
    ]
    doubled = gzip.compress(plain) + gzip.compress(plain)
    assert told(read(tmp_path, doubled)) == [0, 1, 2, 0, 1, 2]
    cut = plain.find(b"<p>1")  # some tools begin a new member wherever they please
    for at in (cut, cut + 2, places[1] + 30):
        parts = gzip.compress(plain[:at]) + gzip.compress(plain[at:])
        assert told(read(tmp_path, parts)) == [0, 1, 2]
    blank = gzip.compress(plain[: places[1]].rstrip()) + gzip.compress(
        b"\r\n\r\n" + plain[places[1] :]
    )
    assert told(read(tmp_path, blank)) == [0, 1, 2]
    broken = plain.replace(b"Content-Length: ", b"Content-Length: many", 1)
    assert told(read(tmp_path, gzip.compress(broken))) == ["damaged record", 1, 2]


def _ends(plain):
    at = plain.find(b"\r\n\r\nWARC/1.")
    while at >= 0:
        yield at
        at = plain.find(b"\r\n\r\nWARC/1.", at + 1)


def test_damage_is_told_by_the_address_if_that_can_be_read(tmp_path):
    raw, places = archive([noise(n) for n in range(3)])
    broken = bytearray(raw)
    broken[places[1] + 20_000] ^= 0xA5
    item = read(tmp_path, bytes(broken))[1]
    assert item.reason == "damaged record" and item.document.id == f"a.warc.gz#{places[1]}"
    assert item.document.metadata["url"] == "http://a.example/1"


def test_a_file_of_nothing_but_damage_ends_soon(tmp_path):
    found = told(read(tmp_path, gzip.compress(b"WARC/1.0\r\nxx") * 2000))
    assert found == ["damaged record"] * warc._MOST_ERRORS + ["damaged file"]
    headers = read(tmp_path, b"WARC/1.0\r\n" * 50_000, "a.warc")
    assert told(headers) == ["damaged record"]
    assert all(isinstance(one, Dropped) and not one.document.text for one in headers)
    assert len(headers[0].detail) <= 200 and not isinstance(headers[0], Document)


PAGES = [f"<p>page {n} é, said in words that come again and again".encode() for n in range(30)]


def zst_archive(dictionary=None):
    """An archive of frames, a record each, with a dictionary in front if one is given."""
    data = zstandard.ZstdCompressionDict(dictionary) if dictionary else None
    packer = zstandard.ZstdCompressor(write_checksum=True, dict_data=data)
    raw, places = archive(PAGES)
    ends = [*places[1:], len(raw)]
    return [packer.compress(gzip.decompress(raw[a:b])) for a, b in zip(places, ends, strict=True)]


def in_front(data):
    return b"\x5d\x2a\x4d\x18" + len(data).to_bytes(4, "little") + data


def test_archives_packed_with_zstandard(tmp_path):
    words = gzip.decompress(archive(PAGES[:3])[0])
    skipped = b"\x50\x2a\x4d\x18\x03\0\0\0abc"
    frames = zst_archive(words)
    for raw in (
        b"".join(zst_archive()),
        in_front(words) + b"".join(frames),
        in_front(zstandard.compress(words)) + skipped.join(frames) + skipped,
    ):
        found = read(tmp_path, raw, "a.warc.zst")
        assert [d.text.encode() for d in found] == PAGES
        assert found[0].id == "a.warc.zst#0" and len({d.id for d in found}) == 30


def test_damage_in_a_frame_costs_its_page(tmp_path):
    frames = zst_archive()
    for bad in (frames[7][:50] + b"\xff\xff" + frames[7][52:], b"?" + frames[7][1:]):
        found = told(read(tmp_path, b"".join([*frames[:7], bad, *frames[8:]]), "a.warc.zst"))
        assert found == [*range(7), "damaged record", *range(8, 30)]
    cut = told(read(tmp_path, b"".join(frames)[:-30], "a.warc.zst"))
    assert cut == [*range(29), "damaged record"]
    assert told(read(tmp_path, b"no archive", "a.warc.zst")) == ["damaged record"]
    broken = in_front(zstandard.compress(bytes(999))[:-3] + b"??") + frames[0]
    assert told(read(tmp_path, broken, "a.warc.zst")) in (["damaged file"], [0])
    bomb = zstandard.compress(bytes(50_000_000))
    assert told(read(tmp_path, bomb, "a.warc.zst", file_bytes=1 << 20)) == ["file too large"]


def test_the_older_format_of_archives_is_refused_with_a_cure(tmp_path):
    (tmp_path / "a.arc.gz").write_bytes(b"")
    with pytest.raises(ValueError, match="a.arc.gz.*must end in one of.*warcio recompress"):
        list(read_documents(tmp_path / "a.arc.gz"))
