"""URL de-duplication: which addresses are one, and which version stays."""

import itertools
import random
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama3lib.data.dates import instant
from llama3lib.data.dedup.urls import KeepNewestURL, normalize_url
from llama3lib.data.document import Document, Dropped

SAME = [
    ("http://example.com", "https://example.com/"),
    ("HTTP://EXAMPLE.com/a", "https://example.com/a"),
    ("http://www.example.com/a/", "https://example.com/a"),
    ("http://example.com:80/a", "https://example.com/a"),
    ("https://example.com:443/a", "https://example.com/a"),
    ("https://example.com./a", "https://example.com/a"),
    ("https://example.com/a#part", "https://example.com/a"),
    ("  https://example.com/a\n", "https://example.com/a"),
    ("https://example.com/a?b=2&a=1", "https://example.com/a?a=1&b=2"),
    ("https://example.com/a?utm_source=x&a=1&fbclid=y&GCLID=z", "https://example.com/a?a=1"),
    ("https://example.com/?PHPSESSID=1", "https://example.com/"),
    ("https://example.com/a?q=%7e", "https://example.com/a?q=~"),
    ("https://example.com/a?q=a+b", "https://example.com/a?q=a%20b"),
    ("https://example.com/a?q=%c3%bc", "https://example.com/a?q=ü"),
    ("https://user:secret@example.com/a", "https://example.com/a"),
    (" <https://example.com/a> ", "https://example.com/a"),
]
OTHERS = [
    ("https://example.com/a", "https://example.com/A"),
    ("https://example.com/a", "https://example.com/b"),
    ("https://example.com/a", "https://example.org/a"),
    ("https://example.com:8080/a", "https://example.com/a"),
    ("https://en.example.com/a", "https://example.com/a"),
    ("https://example.com/a?q=1", "https://example.com/a?q=2"),
    ("https://example.com/a?q", "https://example.com/a"),
    ("https://example.com/a?q=1", "https://example.com/a?q=1&q=1"),
    ("ftp://example.com/a", "https://example.com/a"),
    # text in an old character set: other bytes are another page
    ("https://example.com/a?q=%C4%E3", "https://example.com/a?q=%CA%C0"),
    ("https://example.com/a?q=%FF", "https://example.com/a?q=%EF%BF%BD"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_spellings_of_one_address(one, other):
    assert normalize_url(one) == normalize_url(other)


@pytest.mark.parametrize(("one", "other"), OTHERS)
def test_different_addresses_stay_different(one, other):
    assert normalize_url(one) != normalize_url(other)


@pytest.mark.parametrize(
    "url",
    ["", "example.com/a", "mailto:a@b.c", "http://[::1", "http://a:999999/", "http:///x", "?"],
)
def test_what_is_no_address_is_left_alone(url):
    assert normalize_url(f" {url} ") == url


@settings(max_examples=500, deadline=None)
@given(st.text(st.characters() | st.sampled_from("ht:/?#&=%.[]@w"), max_size=30))
def test_any_text_has_one_spelling_that_is_stable(text):
    url = normalize_url(f"http://host.example/{''.join(text.split())}")
    assert normalize_url(url) == url
    url.encode("utf-8")
    normalize_url(text)


def test_a_lone_surrogate_in_the_query_is_no_reason_to_stop():
    document = Document("text", "a", {"url": "http://a.example/?q=\ud800"})
    assert list(KeepNewestURL()([document])) == [document]


def pages(*rows):
    return [
        Document("text", f"d{n}", {"url": url, "date": date} if url else {})
        for n, (url, date) in enumerate(rows)
    ]


def kept(documents):
    return [d.id for d in KeepNewestURL()(documents) if not isinstance(d, Dropped)]


def test_the_newest_version_wins_wherever_it_stands():
    rows = [("http://a.example/", f"2023-0{month}-01") for month in range(1, 5)]
    for order in itertools.permutations(rows):
        (name,) = kept(pages(*order))
        assert order[int(name[1:])] == rows[-1]


def test_of_equal_dates_the_last_stays_and_no_date_is_oldest():
    url = "http://a.example/"
    assert kept(pages((url, "2023"), (url, "2023"), (url, "2023"))) == ["d2"]
    assert kept(pages((url, "2023"), (url, ""))) == ["d0"]
    assert kept(pages((url, ""), (url, ""))) == ["d1"]


def test_documents_without_url_stay():
    assert kept(pages(("", ""), ("", ""), ("http://a.example", "1"))) == ["d0", "d1", "d2"]
    odd = [Document("t", "a", {"url": None}), Document("t", "b", {"url": 7}), Document("t", "c")]
    assert kept(odd) == ["a", "b", "c"]


def test_drops_name_the_version_that_stays():
    items = list(
        KeepNewestURL()(pages(*[("http://a.example", d) for d in ("2021", "2022", "2023")]))
    )
    told = {item.document.id: (item.reason, item.detail) for item in items[:2]} if items else {}
    assert told["d0"] == ("older version", "newest: d2") == told["d1"]


def test_against_brute_force():
    rng = random.Random(3)
    for _ in range(50):
        rows = [(f"http://h/{rng.randint(0, 9)}", f"20{rng.randint(10, 14)}") for _ in range(40)]
        best = {}
        for place, (url, date) in enumerate(rows):
            best[url] = max(best.get(url, ("", -1)), (date, place))
        assert kept(pages(*rows)) == sorted(
            (f"d{place}" for _, place in best.values()), key=lambda name: int(name[1:])
        )


def test_the_same_id_twice_is_refused():
    with pytest.raises(ValueError, match="not allowed twice"):
        list(KeepNewestURL()([Document("a", "x"), Document("b", "x")]))


INSTANTS = [
    ("2024-05-01T12:00:00Z", "2024-05-01T12:00:00"),
    ("2024-05-01T01:30:00+05:30", "2024-04-30T20:00:00"),
    ("2024-05-01T12:00:00.123456789Z", "2024-05-01T12:00:00.123456"),
    ("2024-05-01 12:00:00+02", "2024-05-01T10:00:00"),
    ("2024-05-01", "2024-05-01T00:00:00"),
    ("2024-05", "2024-05-01T00:00:00"),
    ("2024", "2024-01-01T00:00:00"),
    ("20240501120000", "2024-05-01T12:00:00"),
    ("Wed, 01 May 2024 14:00:00 +0200", "2024-05-01T12:00:00"),
    (1714564800, "2024-05-01T12:00:00"),
    ("1714564800000", "2024-05-01T12:00:00"),
]


@pytest.mark.parametrize(("date", "moment"), INSTANTS)
def test_dates_are_instants(date, moment):
    assert instant(date) == datetime.fromisoformat(moment).isoformat(timespec="microseconds")


@pytest.mark.parametrize(
    "date", ["", "22", "soon", None, True, [], {"a": 1}, float("nan"), float("inf"), 10**400,
             "0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-05:00", "2024-02-30", "٢٠٢٤-13"]
)  # fmt: skip
def test_what_is_no_date_is_older_than_all(date):
    assert instant(date) == "" < instant("0001")


def test_the_newest_by_the_clock_not_by_the_alphabet():
    url = "http://a.example/"
    dates = ["2024-05-01T23:00:00-05:00", "2024-05-02T03:00:00Z", "Wed, 01 May 2024 12:00:00 GMT"]
    for order in itertools.permutations(dates):
        (name,) = kept(pages(*((url, date) for date in order)))
        assert order[int(name[1:])] == dates[0]
