"""Files to documents: round trips, odd bytes, damage, and bombs that must not swell."""

import functools
import gzip
import json
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import duckdb
import orjson
import pytest
import zstandard
from timing_tools import patient

from llama3lib.data import readers
from llama3lib.data.document import Document, Dropped
from llama3lib.data.encoding import stable_hash
from llama3lib.data.readers import Limits, read_documents, write_jsonl

TEXTS = [
    "plain",
    "Ünïcödé 中文 ไทย 🦙",
    "two\nlines\u2028and\x85more",
    "",
    'quote " and \\',
    "\x00",
]
DOCUMENTS = [Document(text, f"d{n}", {"url": f"u{n}", "n": n}) for n, text in enumerate(TEXTS)]


def read(path, **limits):
    return list(read_documents(path, Limits(**limits)))


def reasons(items):
    return [item.reason if isinstance(item, Dropped) else "ok" for item in items]


def in_file(folder, name, data):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def parquet(path, query):
    path.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect() as connection:
        connection.execute(f"COPY ({query}) TO '{path}' (FORMAT parquet)")
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "A.JSONL.GZ"])
def test_json_lines_round_trip_and_bytes_that_do_not_change(tmp_path, name):
    written = tmp_path / name
    assert write_jsonl(DOCUMENTS, tmp_path / name.lower()) == len(TEXTS)
    first = (tmp_path / name.lower()).read_bytes()
    write_jsonl(DOCUMENTS, tmp_path / "again" / name.lower())
    assert (tmp_path / "again" / name.lower()).read_bytes() == first
    written.write_bytes(first)
    again = read(written)
    assert [d.text for d in again] == TEXTS
    assert [d.id for d in again] == [f"{name}#{n}" for n in range(len(TEXTS))]
    assert [dict(d.metadata) for d in again] == [{"id": d.id, **d.metadata} for d in DOCUMENTS]


def test_parquet_round_trip(tmp_path):
    rows = "SELECT 'text ' || n AS text, n::INT AS n FROM range(3000) AS t(n)"
    found = read(parquet(tmp_path / "a.parquet", rows))
    assert [d.text for d in found] == [f"text {n}" for n in range(3000)]
    assert found[7].id == "a.parquet#7" and found[7].metadata == {"n": 7}


def test_values_of_a_table_can_be_written_as_json(tmp_path):
    query = """SELECT 'hi' AS text, {'day': DATE '2020-01-02', 'x': 1.5::DECIMAL(5,2)} AS metadata,
        [TIMESTAMP '2020-01-01'] AS l, MAP {DATE '2020-01-01': 1} AS m, 'b'::BLOB AS b"""
    found = read(parquet(tmp_path / "a.parquet", query))
    assert found[0].metadata["day"] == "2020-01-02" and found[0].metadata["x"] == "1.50"
    assert write_jsonl(found, tmp_path / "b.jsonl") == 1
    assert json.loads((tmp_path / "b.jsonl").read_bytes())["metadata"]["m"] == {"2020-01-01": 1}


NO_NUMBERS = [
    "SELECT 'hi' AS text, 'NaN'::DOUBLE AS a, {'b': ['-inf'::FLOAT, 1.5]} AS metadata",
    """SELECT 'NaN, Infinity "-Infinity"' AS text, MAP {'k': 'inf'::DOUBLE} AS a""",
]


@pytest.mark.parametrize("query", NO_NUMBERS)
def test_what_is_no_number_becomes_null_and_words_stay(tmp_path, query):
    found = read(parquet(tmp_path / "a.parquet", query))
    write_jsonl(found, tmp_path / "b.jsonl")
    row = orjson.loads((tmp_path / "b.jsonl").read_bytes())  # a strict parser
    assert row["text"] == found[0].text
    assert row["metadata"] in ({"a": None, "b": [None, 1.5]}, {"a": {"k": None}})


def test_json_lines_with_what_is_no_json_are_written_as_json(tmp_path):
    line = (
        b'{"text": "NaN", "a": NaN, "b": [Infinity, -Infinity, 1e999, {"c": [[[NaN]]]}], "NaN": 1}'
    )
    write_jsonl(read(in_file(tmp_path, "a.jsonl", line)), tmp_path / "b.jsonl")
    row = orjson.loads((tmp_path / "b.jsonl").read_bytes())
    known = {"a": None, "b": [None, None, None, {"c": [[[None]]]}], "NaN": 1}
    assert row == {"text": "NaN", "id": "a.jsonl#0", "metadata": known}


def test_rows_without_a_text_are_told_by_their_address(tmp_path):
    rows = b'{"url": "http://a/1"}\n{"text": 5, "metadata": {"url": "http://a/2"}}\n{"url": 7}\n[]'
    found = read(in_file(tmp_path, "a.jsonl", rows))
    addresses = [item.document.metadata for item in found]
    assert addresses == [{"url": "http://a/1"}, {"url": "http://a/2"}, {}, {}]
    query = "SELECT NULL::TEXT AS text, 'http://a/3' AS url UNION ALL SELECT repeat('x', 99), 'u4'"
    found = read(parquet(tmp_path / "b.parquet", query), record_bytes=50)
    assert {(item.reason, item.document.metadata["url"]) for item in found} == {
        ("no text field", "http://a/3"),
        ("too large", "u4"),
    }


def test_a_parquet_file_is_read_alone_whatever_it_is_called(tmp_path):
    plain = parquet(tmp_path / "year=2024" / "ab.parquet", "SELECT 'hi' AS text")
    for name in ("a*.parquet", "a?.parquet", "a[b].parquet"):
        shutil.copy(plain, plain.parent / name)
        assert [d.metadata for d in read(plain.parent / name)] == [{}]


@pytest.mark.parametrize(
    "query",
    ["SELECT 1 AS x", "SELECT 1 AS text", "SELECT 'b'::BLOB AS text", "SELECT NULL::TEXT AS text"],
)
def test_parquet_without_a_text(tmp_path, query):
    assert reasons(read(parquet(tmp_path / "a.parquet", query))) == ["no text field"]


def test_parquet_sizes_are_counted_in_bytes_and_nothing_is_printed(tmp_path, capfd):
    path = parquet(tmp_path / "a.parquet", "SELECT repeat('中', 10) AS text")
    assert reasons(read(path, record_bytes=29)) == ["too large"]
    assert reasons(read(path, record_bytes=30)) == ["ok"]
    assert capfd.readouterr() == ("", "")


def test_a_folder_of_pages_in_the_order_of_names(tmp_path):
    in_file(tmp_path, "b/z.htm", b"<p>z")
    in_file(tmp_path, "b.html", b"<p>b")
    in_file(tmp_path, "a.TXT", b"a")
    in_file(tmp_path, "n.md", b"# n")
    in_file(tmp_path, "skipped.pdf", b"%PDF")
    found = read(tmp_path)
    assert [d.id for d in found] == ["a.TXT", "b.html", "b/z.htm", "n.md"]
    kinds = [d.metadata["content_type"] for d in found]
    assert kinds == ["text/plain", "text/html", "text/html", "text/markdown"]
    in_file(tmp_path, "a.txt", b"x" * 11)
    (tmp_path / "broken.html").symlink_to(tmp_path / "nowhere")
    assert "too large" in reasons(read(tmp_path, record_bytes=10))


@pytest.mark.parametrize("name", ["missing.jsonl", "a.pdf", "folder"])
def test_what_cannot_be_input_is_refused_by_name(tmp_path, name):
    (tmp_path / "folder").mkdir()
    in_file(tmp_path, "a.pdf", b"")
    with pytest.raises(ValueError, match="input=.*is not allowed"):
        read(tmp_path / name)
    with pytest.raises(ValueError, match="record_bytes=0 is not allowed"):
        Limits(record_bytes=0)


JSON_LINES = [
    (b'{"text": "ok"}', "ok"),
    (b"\xef\xbb\xbf" + b'{"text": "with a mark"}', "ok"),
    (b'{"text": 1}', "no text field"),
    (b'{"texts": "x"}', "no text field"),
    (b"[1, 2]", "no text field"),
    (b"nonsense", "no JSON"),
    (b'{"text": "cut', "no JSON"),
    (b'{"text": "\xff"}', "no JSON"),
    (b'{"text": "x", "n": ' + b"1" * 5000 + b"}", "no JSON"),
    (b"[" * 100_000, "no JSON"),
    (b'{"text": "' + b"x" * 200_000 + b'"}', "too large"),
    (b'{"text": "after"}', "ok"),
]


def test_each_bad_line_costs_one_line(tmp_path):
    path = in_file(tmp_path, "a.jsonl", b"\n\n".join(line for line, _ in JSON_LINES))
    items = read(path, record_bytes=150_000)
    assert reasons(items) == [reason for _, reason in JSON_LINES]
    assert [d.id for d in items if isinstance(d, Document)] == ["a.jsonl#0", "a.jsonl#2"] + [
        f"a.jsonl#{2 * (len(JSON_LINES) - 1)}"
    ]


def test_lone_surrogates_are_replaced_and_can_be_written(tmp_path):
    line = rb'{"text": "a\ud800b", "title": "\udfff"}'
    found = read(in_file(tmp_path, "a.jsonl", line))
    assert found[0].text == "a?b"
    write_jsonl(found, tmp_path / "b.jsonl")
    assert read(tmp_path / "b.jsonl")[0].metadata["title"] == "?"
    assert stable_hash("\ud800") != stable_hash("?")


def test_a_file_that_stops_early_says_so(tmp_path):
    rows = b"".join(b'{"text": "%s"}\n' % bytes(str(n) * 50, "ascii") for n in range(5000))
    for name, packed in (("a.jsonl.gz", gzip.compress(rows)), ("a.jsonl.zst", zst(rows))):
        for part in (packed[: len(packed) // 2], packed[:-1], packed + b"junk"):
            found = reasons(read(in_file(tmp_path, name, part)))
            assert found[-1] == "damaged file" and found.count("ok") >= 0
        assert reasons(read(in_file(tmp_path, name, packed + packed))) == ["ok"] * 10_000
    for name in ("b.jsonl.gz", "b.jsonl.zst", "b.parquet"):
        assert reasons(read(in_file(tmp_path, name, b"junk" * 9))) == ["damaged file"]


def zst(data):
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


def test_zstandard_keeps_all_that_came_before_the_damage(tmp_path):
    rows = b"".join(b'{"text": "%d"}\n' % n for n in range(500))
    found = reasons(read(in_file(tmp_path, "a.jsonl.zst", zst(rows) + zst(rows)[:-9])))
    assert found.count("ok") >= 500 and found[-1] == "damaged file"
    skippable = b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"note"
    found = reasons(read(in_file(tmp_path, "b.jsonl.zst", skippable + zst(rows) + skippable)))
    assert found == ["ok"] * 500


BOMB = """
import json, sys
from collections import Counter
from llama3lib.data.document import Dropped
from llama3lib.data.readers import read_documents
found = Counter(
    item.reason if isinstance(item, Dropped) else "ok" for item in read_documents(sys.argv[1])
)
# not ru_maxrss: a child inherits the peak of the process that started it
lines = open("/proc/self/status").read().splitlines()
most = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
print(json.dumps([dict(found), most // 1024]))
"""
GIGABYTE = 1 << 30


def memory_of_reading(path):
    """What came of it, and the most memory in MiB that a process of its own needed."""
    if not Path("/proc/self/status").exists():
        pytest.skip("memory is measured on Linux only")
    told = subprocess.run(
        [sys.executable, "-c", BOMB, str(path)],
        capture_output=True,
        text=True,
        timeout=patient(120),
    )
    assert told.returncode == 0, told.stderr
    return json.loads(told.stdout)


def swelling(open_for_writing, path, head=b"", unit=b"a" * (1 << 20)):
    with open(path, "wb") as raw, open_for_writing(raw) as file:
        file.write(head)
        for _ in range(GIGABYTE // len(unit)):
            file.write(unit)
    assert path.stat().st_size < 2 << 20
    return path


class gz:
    """Like GzipFile, but a piece that comes a thousand times is packed once."""

    def __init__(self, raw):
        self.raw, self.sum, self.size = raw, 0, 0
        self.packed = functools.cache(self._packed)

    def __enter__(self):
        self.raw.write(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff")
        return self

    def _packed(self, piece):
        packer = zlib.compressobj(9, wbits=-15)
        return packer.compress(piece) + packer.flush(zlib.Z_FULL_FLUSH)

    def write(self, piece):
        self.raw.write(self.packed(piece))
        self.sum, self.size = zlib.crc32(piece, self.sum), self.size + len(piece)

    def __exit__(self, *_):
        self.raw.write(b"\x03\x00" + struct.pack("<II", self.sum, self.size & 0xFFFFFFFF))


def zst_writer(raw):
    return zstandard.ZstdCompressor(level=3).stream_writer(raw, closefd=False)


@pytest.mark.slow
@pytest.mark.parametrize(("suffix", "writer"), [("gz", gz), ("zst", zst_writer)])
def test_a_gigabyte_in_a_megabyte_of_json_lines(tmp_path, suffix, writer):
    path = swelling(writer, tmp_path / f"a.jsonl.{suffix}", b'{"text": "')
    found, most = memory_of_reading(path)
    assert found == {"too large": 1} and most < 512


HEAD = (
    b"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: http://a.example/\r\n"
    b"Content-Type: application/http; msgtype=response\r\nContent-Length: 1073741824\r\n"
)
HTTP = b"\r\nHTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("head", "unit", "reason"),
    [
        (HEAD + HTTP, b"a" * (1 << 20), "too large"),
        (HEAD, b"X: y\r\n" * (1 << 17), "damaged record"),  # headers without end
        (HEAD + b"X: ", b"a" * (1 << 20), "damaged record"),  # one line without end
    ],
)
def test_a_gigabyte_in_a_megabyte_of_warc(tmp_path, head, unit, reason):
    found, most = memory_of_reading(swelling(gz, tmp_path / "a.warc.gz", head, unit))
    assert set(found) == {reason} and most < 512


@pytest.mark.slow
def test_three_gigabytes_in_a_megabyte_of_parquet(tmp_path):
    query = "SELECT repeat('a', 10000000) AS text FROM range(300)"
    path = parquet(tmp_path / "a.parquet", query)
    assert path.stat().st_size < 1 << 20
    found, most = memory_of_reading(path)
    assert found == {"too large": 300} and most < 512


def test_a_file_may_not_swell_over_its_own_limit(tmp_path):
    rows = b'{"text": "' + b"x" * 1000 + b'"}\n'
    path = in_file(tmp_path, "a.jsonl.gz", gzip.compress(rows * 1000))
    found = reasons(read(path, file_bytes=200_000))
    assert found[-1] == "damaged file" and 0 < found.count("ok") < 200
    plain = in_file(tmp_path, "a.jsonl", rows)
    assert reasons(read(plain, file_bytes=10)) == ["damaged file"]
    assert readers.reader_of(path) is readers.read_jsonl


def test_empty_lines_without_end_are_refused_early(tmp_path):
    path = tmp_path / "bomb.jsonl.gz"
    with gzip.open(path, "wb") as file:
        file.write(b'{"text": "kept"}\n\n\n{"text": "kept too"}\n')
        file.writelines([b"\n" * 2_000_000, b'{"text": "never reached"}\n'])
    *kept, last = read_documents(path)
    assert [document.text for document in kept] == ["kept", "kept too"]
    assert last.reason == "damaged file"
    assert "empty lines" in last.detail
