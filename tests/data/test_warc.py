"""Archives: what is a page, and what damage costs. The records around it must still be read."""

import gzip
import io
import random
import zlib

import pytest

from llama3lib.data import warc
from llama3lib.data.document import Document, Dropped
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
    lines = [
        "WARC/1.0",
        f"WARC-Type: {kind}",
        "WARC-Target-URI: http://a.example/0",
        "Content-Type: application/http; msgtype=response",
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
    ("kind", "status", "pages"),
    [
        ("text/html", "200 OK", 1),
        ("TEXT/HTML;charset=x", "200 OK", 1),
        ("application/xhtml+xml", "200 OK", 1),
        ("text/plain", "200 OK", 1),
        ("image/png", "200 OK", 0),
        ("text/html", "404 Not Found", 0),
        ("text/html", "301 Moved", 0),
    ],
)
def test_which_answers_are_pages(tmp_path, kind, status, pages):
    assert len(read(tmp_path, archive([b"<p>x"], kind, status)[0])) == pages


def test_extracted_text_of_common_crawl_and_requests(tmp_path):
    wet = record("ใช่ text".encode(), "conversion")
    found = read(tmp_path, wet + record(b"GET / HTTP/1.1\r\n\r\n", "request"), "a.warc")
    assert [d.text for d in found] == ["ใช่ text"]
    assert found[0].metadata["content_type"] == "text/plain"


def test_the_charset_of_the_header_counts(tmp_path):
    body = "<p>привет".encode("koi8-r")
    found = read(tmp_path, archive([body], 'text/html; x=y; Charset="koi8-r"')[0])
    assert found[0].text == "<p>привет"


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
    for coding, packed in (("gzip", gzip.compress(body)), ("deflate", zlib.compress(body))):
        page = answer(packed, f"Content-Encoding: {coding}")
        assert read(tmp_path, record(page), "a.warc")[0].text == body.decode()
        cut = answer(packed[:-20], f"Content-Encoding: {coding}")
        assert told(read(tmp_path, record(cut), "a.warc")) == ["damaged record"]
    bomb = answer(gzip.compress(b"a" * 50_000_000), "Content-Encoding: gzip")
    assert told(read(tmp_path, record(bomb), "a.warc")) == ["too large"]
    strange = answer(b"\x8b\x02\x80", "Content-Encoding: zstd-of-tomorrow")
    assert told(read(tmp_path, record(strange), "a.warc")) == ["unknown encoding"]
    chunks = answer(b"5\r\nhello\r\n0\r\n\r\n", "Transfer-Encoding: chunked")
    assert read(tmp_path, record(chunks), "a.warc")[0].text == "hello"


def test_one_gzip_around_all_is_told(tmp_path):
    raw, _ = archive([b"<p>0", b"<p>1", b"<p>2"])
    assert told(read(tmp_path, gzip.compress(gzip.decompress(raw)))) == [0, "damaged record"]


def test_a_file_of_nothing_but_damage_ends_soon(tmp_path):
    found = told(read(tmp_path, gzip.compress(b"WARC/1.0\r\nxx") * 2000))
    assert found == ["damaged record"] * warc._MOST_ERRORS + ["damaged file"]
    headers = read(tmp_path, b"WARC/1.0\r\n" * 50_000, "a.warc")
    assert told(headers) == ["damaged record"]
    assert all(isinstance(one, Dropped) and not one.document.text for one in headers)
    assert len(headers[0].detail) <= 200 and not isinstance(headers[0], Document)
