"""Texts to learn from: HTML is never markup, and every row is a text or stands in the account."""

import gzip
import json
import sys
from dataclasses import asdict

import pytest

from llama3lib.data.document import Document, Dropped
from llama3lib.data.texts import Account, read_texts, text_files

PAGE = """<!-- made by hand -->
<!DOCTYPE html><html><head><title>Boats</title></head><body><nav><a href="/">Home</a></nav>
<article><h1>Boats</h1><p>The green boat left the harbour at noon, and nobody on the pier saw it
go.</p><p>It came back at night with seven lamps on board.</p></article></body></html>"""
MAIN = "nobody on the pier saw it"


def rows(*items):
    return "".join(json.dumps(item) + "\n" for item in items)


def read(path):
    account = Account()
    return list(read_texts(path, account)), account


def test_pages_are_extracted_whatever_they_come_in(tmp_path):
    (tmp_path / "a.html").write_text(PAGE, "utf-8")
    (tmp_path / "b.xhtml").write_text(f'<?xml version="1.0"?>\n{PAGE}', "utf-8")
    typed = {"text": PAGE, "content_type": "text/html; charset=utf-8"}
    (tmp_path / "c.jsonl").write_text(rows({"text": "\ufeff " + PAGE}, typed), "utf-8")
    texts, account = read(tmp_path)
    assert (len(texts), account.texts, account.lines()) == (4, 4, [])
    assert all(MAIN in text and "<" not in text and "Home" not in text for text in texts)


@pytest.mark.parametrize(
    "row",
    [
        {"text": PAGE, "content_type": "text/plain"},  # whoever says so wants the markup
        {"text": "In HTML, <html> opens a page."},
        {"text": "<p>a part of a page</p>"},
        {"text": "# html\n<!-- no page -->"},
    ],
)
def test_what_is_no_page_stays_as_it_is(tmp_path, row):
    (tmp_path / "a.jsonl").write_text(rows(row), "utf-8")
    assert read(tmp_path / "a.jsonl")[0] == [row["text"]]


def test_every_row_is_a_text_or_has_a_reason(tmp_path):
    good = [{"text": f"story {n}"} for n in range(3)]
    bad = [{"content": "x"}, {"text": None}, {"text": ["x"]}, {"text": " \n\t"}, [1]]
    lines = rows(*good, *bad) + "{cut off\n"
    (tmp_path / "a.jsonl").write_text(lines, "utf-8")
    (tmp_path / "b.html").write_text("<html><body></body></html>")
    (tmp_path / "c.pdf").write_bytes(b"%PDF")
    (tmp_path / "LICENCE").write_text("free")
    (tmp_path / ".hidden").write_text("x")
    texts, account = read(tmp_path)
    assert texts == [row["text"] for row in good]
    assert (account.files, account.rows, account.texts) == (2, 10, 3)
    assert account.reasons == {"no text field": 4, "empty text": 1, "no JSON": 1, "no text": 1}
    told, others = account.lines()
    assert told.startswith("left out 7 of 10 rows: no text field 4 (first: a.jsonl#3), ")
    assert "no text 1 (first: b.html: " in told
    assert others == "not read: files of other kinds (.pdf 1, no ending 1)"
    assert Account(**json.loads(json.dumps(asdict(account)))) == account


@pytest.mark.parametrize("kept", [0.5, 0.99])
def test_a_file_that_breaks_off_is_lost_as_a_whole(tmp_path, kept):
    packed = gzip.compress(rows(*({"text": f"story {n * n}"} for n in range(5000))).encode())
    (tmp_path / "a.jsonl.gz").write_bytes(packed[: int(kept * len(packed))])
    texts, account = read(tmp_path)
    assert len(texts) > 100 and account.rows == len(texts) + 1  # hardly a share of the rows
    assert "damaged file 1 (first: a.jsonl.gz: " in account.problem(0.9)
    assert account.problem(1.0) == ""
    for n in range(19):
        (tmp_path / f"b{n:02}.jsonl").write_text(rows({"text": "whole"}))
    assert read(tmp_path)[1].problem(0.05) == ""


def account_of(*items):
    account = Account(files=1)
    for n, item in enumerate(items):
        name = f"a#{n}"
        account.add(
            Dropped(Document("", name), "read", item)
            if isinstance(item, str)
            else Document("text", name, item)
        )
    return account


def test_what_counts_as_a_loss():
    assert account_of(*["no JSON"] * 5, *[{}] * 95).problem(0.05) == ""
    assert "left out 6 of 100 rows" in account_of(*["no JSON"] * 6, *[{}] * 94).problem(0.05)
    assert "no text is left" in account_of("no JSON").problem(1.0)
    assert "there is no row in it" in account_of().problem(1.0)
    cut = account_of(*[{"truncated": "length", "url": "http://a.example/"}] * 6, *[{}] * 94)
    told = "cut short, but kept 6 (first: a#0 http://a.example/: length)"
    assert cut.texts == 100 and told in cut.problem(0.05)
    # pictures and pages that were not there are no text that was lost
    archive = account_of(*["other type"] * 60, *["other status"] * 30, *[{}] * 10)
    assert archive.problem(0.0) == "" and "left out 90 of 100 rows" in archive.lines()[0]
    assert account_of(*["other type"] * 90, "no text", *[{}] * 9).problem(0.05)


def test_input_that_cannot_be_right_is_refused_before_it_is_read(tmp_path, monkeypatch):
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "part-00000.jsonl").write_text(rows({"text": "x"}))
    assert read(tmp_path)[0] == ["x"]
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(ValueError, match="all that llama3 data wrote; take '.*documents'"):
        text_files(tmp_path)
    (tmp_path / "a.PARQUET").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(ModuleNotFoundError, match="duckdb"):
        text_files(tmp_path / "a.PARQUET")
    assert read(tmp_path / "documents")[0] == ["x"]
