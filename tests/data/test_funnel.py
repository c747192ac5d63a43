"""Documents, steps, and the account: nothing may get lost between them."""

import json
from collections import Counter
from dataclasses import FrozenInstanceError, dataclass
from typing import ClassVar

import pytest

from llama3lib.data import CorpusStep, Document, DocumentStep, Drop, Funnel, run, write_report
from llama3lib.data.document import Dropped
from llama3lib.data.funnel import StepCount


@dataclass(frozen=True)
class AtLeast(DocumentStep):
    name: ClassVar[str] = "at_least"
    size: int = 3

    def apply(self, document):
        if len(document.text) < self.size:
            return Drop("short", str(len(document.text)))
        return document.but(document.text.upper(), size=len(document.text))


class First(CorpusStep):
    """Keeps the first document of each text."""

    name = "first"

    def collect(self, document):
        return document.text

    def decide(self, notes):
        kept = {}
        for name, text in notes:
            kept.setdefault(text, name)
        return sorted(kept.values())

    def prepare(self, decision):
        return set(decision)

    def apply(self, document, decision):
        return document if document.id in decision else Drop("copy")


TEXTS = ["abc", "ab", "", "ABC", "abcd", "abcd", "x"]
DOCUMENTS = [Document(text, f"d{n}") for n, text in enumerate(TEXTS)]


def test_documents_do_not_change():
    document = Document("text", "a", {"x": 1})
    other = document.but(y=2)
    assert other.metadata == {"x": 1, "y": 2} and document.metadata == {"x": 1}
    assert document.but("") == Document("", "a", {"x": 1}) and document.but() == document
    with pytest.raises(FrozenInstanceError):
        document.text = "other"


def test_the_account_adds_up():
    funnel = Funnel(keep_dropped=True)
    left = list(run(DOCUMENTS, [AtLeast(), First()], funnel))
    assert [d.id for d in left] == ["d0", "d4"] and [d.text for d in left] == ["ABC", "ABCD"]
    one, two = funnel.counts
    assert (one.documents_in, one.documents_out) == (7, 4)
    assert (one.characters_in, one.characters_out) == (17, 14)
    assert one.reasons == Counter(short=3) and two.reasons == Counter(copy=2)
    assert two.documents_in == one.documents_out and two.documents_out == len(left)
    assert [(d.document.id, d.step, d.reason) for d in funnel.dropped][:2] == [
        ("d1", "at_least", "short"),
        ("d2", "at_least", "short"),
    ]
    assert len(funnel.dropped) + len(left) == len(DOCUMENTS)


def test_nothing_happens_before_it_is_asked_for():
    def endless():
        while True:
            yield Document("long enough", "a")

    stream = run(endless(), [AtLeast()])
    assert next(stream).text == "LONG ENOUGH"


def test_no_steps_no_documents_and_two_steps_of_one_name():
    assert list(run(DOCUMENTS, [])) == DOCUMENTS
    funnel = Funnel()
    assert list(run([], [AtLeast(), First()], funnel)) == []
    assert [count.step for count in funnel.counts] == ["at_least", "first"]
    with pytest.raises(ValueError, match="'at_least' is there twice"):
        run(DOCUMENTS, [AtLeast(), AtLeast(5)])


def test_accounts_of_shards_add_up_to_that_of_the_whole():
    whole, sum_of_parts = Funnel(), Funnel()
    list(run(DOCUMENTS, [AtLeast()], whole))
    for start in range(0, len(DOCUMENTS), 2):
        part = Funnel()
        list(run(DOCUMENTS[start : start + 2], [AtLeast()], part))
        sum_of_parts.add(Funnel.from_dict(json.loads(json.dumps(part.as_dict()))))
    assert sum_of_parts.as_dict() == whole.as_dict()
    assert Funnel.from_dict(whole.as_dict()).counts == whole.counts


def test_a_few_of_those_that_fell_are_kept_whatever_their_order():
    documents = [Document(f"{n % 10} " * 500, f"d{n}", {"url": f"http://h/{n}"}) for n in range(40)]

    def samples(rows):
        count = StepCount("step")
        for row in rows:
            count.drop(Dropped(row, "step", "odd" if int(row.id[1:]) % 2 else "even", "told"))
        return count

    whole = samples(documents)
    assert [len(found) for found in whole.samples.values()] == [3, 3]
    parts = samples(documents[:7])
    for start in range(7, 40, 11):
        parts.add(samples(documents[start : start + 11]))
    assert parts.samples == samples(documents[::-1]).samples == whole.samples
    assert all(int(one["id"][1:]) % 2 for one in whole.samples["odd"])
    one = whole.samples["odd"][0]
    assert one["url"] == f"http://h/{one['id'][1:]}" and one["detail"] == "told"
    assert len(one["text"]) == 300


def test_a_report_is_escaped_and_whole(tmp_path):
    funnel = Funnel()
    count = funnel.count("<script>alert(1)</script>")
    count.drop(
        Dropped(Document("<b>\ud800", "<i>", {"url": "http://h/?<u>"}), "x", "a & <b>", "<p>")
    )
    count.reasons["a & <b>"] = 2
    write_report(funnel, tmp_path / "new", "Title {x} <i>")
    page = (tmp_path / "new" / "funnel.html").read_text(encoding="utf-8")
    assert "<script>" not in page and "&lt;script&gt;" in page and "a &amp; &lt;b&gt; 2" in page
    assert "<title>Title {x} &lt;i&gt;</title>" in page
    assert "<b>http://h/?&lt;u&gt;</b> &lt;p&gt;" in page and "&lt;b&gt;?" in page
    assert "src=" not in page and "href=" not in page  # nothing is fetched
    told = json.loads((tmp_path / "new" / "funnel.json").read_text(encoding="utf-8"))
    assert told["title"] == "Title {x} <i>" and told["steps"] == funnel.as_dict()["steps"]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "funnel.html",
        "funnel.json",
    ]
    write_report(Funnel(), tmp_path)
