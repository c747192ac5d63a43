"""Broken files of every format: no crash, no hang, and each is cleaned or refused with a reason."""

import contextlib
import gzip
import io
import json
import random
from collections import Counter

import duckdb
import pytest
import zstandard
from timing_tools import deadline

from llama3lib.data.document import Document, Dropped
from llama3lib.data.extract import Extract
from llama3lib.data.readers import Limits, read_documents, to_json
from llama3lib.data.warc import WarcWriter
from llama3lib.utils.sandbox import Sandbox
from llama3lib.worlds.miniweb import make_web

SUFFIXES = {
    "warc": "warc",
    "warc.gz": "warc.gz",
    "jsonl": "jsonl",
    "jsonl.gz": "jsonl.gz",
    "jsonl.zst": "jsonl.zst",
    "parquet": "parquet",
    "page": "html",
    "extract": "",
}
REASONS = {
    "read": {"too large", "no JSON", "no text field", "damaged file", "damaged record",
             "file too large", "unknown encoding", "other record", "other status", "other type"},
    "extract": {"no text", "refused", "too slow", "too much memory", "failed"},
}  # fmt: skip
LIMITS = Limits(record_bytes=1 << 20, file_bytes=8 << 20)
MOST_SECONDS = 5.0


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """A sound file of each format, as bytes."""
    pages = make_web(50).pages[:6]
    out = io.BytesIO()
    writer = WarcWriter(out)
    for page in pages:
        writer.write(page.url, page.html.encode(), "text/html; charset=utf-8", page.date)
    rows = [Document(page.text, page.url, {"date": page.date}) for page in pages]
    lines = "".join(to_json(row) + "\n" for row in rows).encode()
    table = tmp_path_factory.mktemp("table") / "a.parquet"
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE t (text TEXT, n INT, l INT[], day DATE)")
        connection.executemany(
            "INSERT INTO t VALUES (?, ?, [1, 2], '2024-01-01')",
            [[row.text, n] for n, row in enumerate(rows)],
        )
        connection.execute(f"COPY t TO '{table}' (FORMAT parquet)")
    html = "".join(page.html for page in pages).encode()
    return {
        "warc": gzip.decompress(out.getvalue()),
        "warc.gz": out.getvalue(),
        "jsonl": lines,
        "jsonl.gz": gzip.compress(lines),
        "jsonl.zst": zstandard.compress(lines),
        "parquet": table.read_bytes(),
        "page": html,
        "extract": html,
    }


SNIPPETS = [
    b"\0" * 50, b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", "привет".encode("koi8-r"),
    "日本".encode("shift_jis"), "é".encode("utf-16"), b"<div>" * 3000, b"[" * 3000,
    b'{"text":' * 500,
    b"<table><tr><td>" * 1000, b"<!--", b"<script>", b"<![CDATA[", b"<?php ",
    b"<p " + b"a=1 " * 2000,
    b"&#x110000;&#0;&amp" * 200, b"WARC/1.0\r\n", b"\r\n\r\n", b"Content-Length: -1\r\n",
    b"Content-Length: 99999999999\r\n", b"\x1f\x8b\x08", b"Transfer-Encoding: chunked\r\n",
    b"Content-Encoding: gzip\r\n", b"charset=utf-16", b"<meta charset=unicode_escape>", b"NaN",
    b'"\\ud800"', b"1e999", b"-" * 400, b"<math><annotation encoding=tex>", b"<pre>" * 300,
    b"\n" * 3000, b"a" * 70_000, b"<svg/>" * 500, b"PAR1", b"\x28\xb5\x2f\xfd",
]  # fmt: skip


def mutated(data, rng):
    """The bytes with one to six faults: bits turned, pieces cut, doubled, put in or swapped."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        place, size = rng.randrange(len(data) + 1), rng.choice((1, 2, 8, 60, 900))
        fault = rng.randrange(7)
        if fault == 0 and place < len(data):
            data[place] ^= 1 << rng.randrange(8)
        elif fault == 1:
            data[place : place + size] = rng.randbytes(size)
        elif fault == 2:
            del data[place : place + size]
        elif fault == 3:
            data[place:place] = data[place : place + size] * rng.randint(1, 5)
        elif fault == 4:
            data[place:place] = rng.choice(SNIPPETS)
        elif fault == 5 and rng.random() < 0.4:
            del data[place:]
        elif fault == 6:
            start = rng.randrange(len(data) + 1)
            data[place : place + size] = data[start : start + size]
    return bytes(data)


def packed_again(kind, data, rng):
    """Half of the packed files are broken before they are packed: the damage lies deeper then."""
    if rng.random() < 0.5 or kind not in ("jsonl.gz", "jsonl.zst", "warc.gz"):
        return mutated(data, rng)
    if kind == "jsonl.zst":
        whole = zstandard.ZstdDecompressor().decompress(data)
        return zstandard.compress(mutated(whole, rng))
    return gzip.compress(mutated(gzip.decompress(data), rng), 1, mtime=0)


def outcome(kind, data, folder, step):
    """The reasons that came out, or `documents`; what is no sound document fails the test."""
    if kind == "extract":
        text = data.decode("latin-1" if data[:1] > b"\x80" else "utf-8", "surrogateescape")
        items = list(step([Document(text, "a")]))
    else:
        path = folder / f"fuzzed.{SUFFIXES[kind]}"
        path.write_bytes(data)
        items = list(read_documents(path, LIMITS))
    told = set()
    for item in items:
        if isinstance(item, Dropped):
            allowed = REASONS["extract" if kind == "extract" else "read"]
            assert item.reason in allowed, (item.step, item.reason, item.detail)
            assert len(item.detail) <= 300
            told.add(item.reason)
        else:
            item.text.encode("utf-8")  # no half surrogate pairs
            json.loads(to_json(item).encode("utf-8", "replace"))
            told.add("documents")
    return told or {"nothing"}


def fuzz(samples, folder, count, seed):
    """Reasons for so many inputs of all kinds in turn."""
    table = Counter()
    with contextlib.closing(Sandbox()) as sandbox:
        step = Extract(seconds=3, sandbox=sandbox)
        step.apply(Document("<p>a child is up", "a"))
        for number in range(count):
            kind = list(SUFFIXES)[number % len(SUFFIXES)]
            rng = random.Random(f"{seed}-{number}")
            data = packed_again(kind, samples[kind], rng)
            name = f"input {number} of seed {seed}, a {kind}"
            try:
                with deadline(MOST_SECONDS, name):
                    told = outcome(kind, data, folder, step)
            except Exception as error:
                error.add_note(name)
                raise
            table.update((kind, reason) for reason in told)
    return table


def show(table):
    for (kind, reason), n in sorted(table.items()):
        print(f"{kind:10} {reason:18} {n:6,}")


def test_sound_samples_are_read(samples, tmp_path):
    with contextlib.closing(Sandbox()) as sandbox:
        for kind, data in samples.items():
            found = outcome(kind, data, tmp_path, Extract(sandbox=sandbox, seconds=60))
            assert found == {"documents"} or kind == "extract", kind


def test_a_few_hundred_broken_files(samples, tmp_path):
    table = fuzz(samples, tmp_path, 320, seed=0)
    assert {kind for kind, _ in table} == set(SUFFIXES)
    assert {"damaged file", "damaged record", "no JSON"} <= {reason for _, reason in table}


@pytest.mark.long
def test_ten_thousand_broken_files(samples, tmp_path, capsys):
    table = fuzz(samples, tmp_path, 10_000, seed=1)
    with capsys.disabled():
        print()
        show(table)
    assert {kind for kind, _ in table} == set(SUFFIXES)
