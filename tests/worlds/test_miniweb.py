"""The mini-web: the same everywhere, true to its word, and found by a crawler."""

import hashlib
import os
import random
import subprocess
import sys
from collections import Counter

import pytest
from timing_tools import patient

from llama3lib.data.document import Document
from llama3lib.data.extract import extract_text
from llama3lib.data.pii import find_pii, iban_is_right, luhn
from llama3lib.data.readers import read_documents
from llama3lib.worlds.miniweb import crawl, make_web, prose
from llama3lib.worlds.miniweb.pages import LAYOUTS
from llama3lib.worlds.miniweb.web import GOOD, JUNK

PRINT = """
import hashlib
from llama3lib.worlds.miniweb import make_web
told = repr([(p.url, p.date, p.html, p.lines, p.pii) for p in make_web(200, 3).pages])
print(hashlib.sha256(told.encode()).hexdigest())
"""


@pytest.fixture(scope="module")
def web():
    return make_web(600, seed=1)


def layout_of(web):
    layouts = {site.host: site.layout for site in web.sites}
    return lambda page: layouts[page.url.split("/")[2]]


def test_one_seed_one_web_whatever_the_hash_seed():
    told = repr([(p.url, p.date, p.html, p.lines, p.pii) for p in make_web(200, 3).pages])
    expected = hashlib.sha256(told.encode()).hexdigest()
    for seed in ("0", "12345"):
        command = [sys.executable, "-c", PRINT]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=patient(60)
        )
        assert done.stdout.strip() == expected
    assert make_web(200, 4).pages != make_web(200, 3).pages


def test_all_kinds_are_there_and_about_as_many_as_asked_for(web):
    assert set(web.kinds()) == {*GOOD, *JUNK}
    assert 0.97 * 600 <= len(web.pages) <= 1.03 * 600
    assert {layout_of(web)(page) for page in web.pages} == set(LAYOUTS)
    least = make_web(50)
    assert set(least.kinds()) == {*GOOD, *JUNK}
    for pages, sites in ((49, 16), (600, 7)):
        with pytest.raises(ValueError, match=f"pages={pages}, sites={sites} are not allowed"):
            make_web(pages, sites=sites)


def test_addresses_and_dates(web):
    newest = web.newest()
    assert len({(page.url, page.date) for page in web.pages}) == len(web.pages)
    assert [page.date for page in web.pages] == sorted(page.date for page in web.pages)
    assert all(page.older == (newest[page.url] is not page) for page in web.pages)
    urls = set(newest)
    copies = [page for page in web.pages if page.copy_of]
    assert copies and all(page.copy_of in urls - {page.url} for page in copies)


def test_the_lines_are_what_extraction_gives(web):
    layout = layout_of(web)
    seen = Counter()
    for page in web.pages:
        if layout(page) in ("semantic", "named"):
            text = extract_text(page.html)
            assert text == page.text, page.url
            assert not any(line in text for line in page.frame)
            seen[layout(page)] += 1
    assert min(seen.values()) > 50 and len(seen) == 2


def test_in_other_layouts_all_lines_are_there_in_order_with_the_frame_around_them(web):
    layout = layout_of(web)
    for page in web.pages:
        if layout(page) == "bare":
            lines = iter(extract_text(page.html).split("\n"))
            assert all(line in lines for line in page.lines), page.url


def test_planted_personal_data_is_where_it_is_said_to_be(web):
    with_finds = [page for page in web.pages if page.pii]
    assert len(with_finds) > 20
    for page in with_finds:
        assert all(text in page.text for _, text in page.pii)


def test_planted_personal_data_is_valid_and_found():
    rng = random.Random(0)
    seen = Counter()
    for _ in range(600):
        kind, text = prose.planted_pii(rng)
        digits = "".join(filter(str.isdigit, text))
        assert kind != "card" or (luhn(digits) and len(digits) == 16)
        assert kind != "iban" or iban_is_right(text)
        sentence = f"It is told that {text} is it."
        found = [(find.kind, sentence[find.start : find.end]) for find in find_pii(sentence)]
        assert found == [(kind, text)]
        seen[kind] += 1
    assert set(seen) == {"email", "phone", "ip", "card", "iban", "ssn"}


def test_formulas_and_programs_survive(web):
    sums = next(p for p in web.pages if p.kind == "sums" and layout_of(web)(p) == "named")
    assert "$" in sums.text and "<math>" in sums.html and "$" in extract_text(sums.html)
    program = next(p for p in web.pages if p.kind == "program" and layout_of(web)(p) == "named")
    assert any(line.startswith("    return") for line in extract_text(program.html).split("\n"))


def test_the_crawl_finds_every_page_in_both_snapshots(tmp_path):
    web = make_web(150, seed=2, sites=9)
    paths = crawl(web, tmp_path, files=4)
    assert [path.name for path in paths[:2]] == ["crawl-0-0.warc.gz", "crawl-0-1.warc.gz"]
    found = list(read_documents(tmp_path))
    assert all(isinstance(one, Document) for one in found)
    early = [page for page in web.pages if page.date <= "2023"]
    expected = Counter((p.url, p.date, p.html) for p in [*early, *web.newest().values()])
    assert Counter((d.metadata["url"], d.metadata["date"], d.text) for d in found) == expected
    assert early and {page.older for page in early} == {True}
