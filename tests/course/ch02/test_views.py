"""The four views of chapter 02: their arithmetic, and that pictures and tables show it."""

import itertools
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from view_samples import SOURCE_TOKENS, some_funnel, some_pairs

from llama3lib.data import Document, Dropped
from llama3lib.data.dedup.minhash import exact_jaccard, lsh_probability
from llama3lib.paper import data as facts
from llama3lib.tokenizer import Tokenizer, ranks_from_merges, train_bpe
from widgets.ch02.views import mixture, tokenizers
from widgets.ch02.views.funnel import FunnelExplorer
from widgets.ch02.views.mixture import MixtureExplorer
from widgets.ch02.views.scurve import (
    SCurve,
    found_shares,
    half_way,
    headline,
    measured_pairs,
)
from widgets.ch02.views.tokenizers import TokenizerCompare, cut
from widgets.view.paper import WIDTHS

FIRST = ("maths", "code")


def words_of(frame):
    """All texts of a picture, in order."""
    picture = ET.fromstring(f"<svg>{''.join(frame['pieces'])}</svg>")
    return [t.text for t in picture.iter("text")]


def test_funnel_shows_reasons_in_turn():
    view = FunnelExplorer(some_funnel(), kept=[Document("good", "k")], step="gopher")
    reasons = [row["reason"] for row in view.journeys["gopher"]]
    assert reasons[:2] == ["too short", "symbols"] and len(reasons) == 5
    assert view.summary() == "Of 10 documents 4 are left (40%)"
    view.document = 4
    assert view.shown()["reason"] == reasons[-1]
    assert view.frame()["facts"] == {"shown": f"gopher/4/{reasons[-1]}"}
    view.step = "kept"
    assert view.document == 0 and view.shown()["text"] == "good"
    view.step = "extract"  # a document fell there, but was not kept to look at
    assert view.shown() is None and view.frame()["notes"][1].startswith("No document was kept")
    with pytest.raises(ValueError, match="step='pii' is not allowed: one of extract, gopher, kept"):
        view.step = "pii"
    rows = {row["step"]: row["what happened"] for row in view.table()}
    assert rows["gopher"] == "9 in, 4 out: too short 3, symbols 2"


def test_funnel_shows_texts_of_strangers_as_text():
    hostile = "text <b>0</b> \x00 & " + "x" * 400 + "\nline" * 60
    dropped = [Dropped(Document(hostile, "d"), "gopher", "<i>", "1 & 2")]
    view = FunnelExplorer(some_funnel(), dropped, step="gopher")
    for width in WIDTHS:
        words = words_of(view.frame(width=width))
        assert "text <b>0</b> \ufffd &" in words
        assert "✗ <i> · 1 & 2" in words
        more = next(w for w in words if w.endswith("more lines"))
        lines = view.shown()["text"].count("\n")
        assert words.count("line") + int(more.split()[2]) == lines, f"a line is lost at {width}"


def test_scurve_half_way_and_expected_counts():
    assert abs(lsh_probability(half_way(14, 8), 14, 8) - 0.5) < 1e-6
    pairs = some_pairs()
    rows = found_shares(pairs, 14, 8)
    assert sum(row["pairs"] for row in rows) == len(pairs)
    by_hand = [any(all(p.agree[b * 8 : b * 8 + 8]) for b in range(14)) for p in pairs]
    assert sum(row["found"] for row in rows) == sum(by_hand)


def test_measured_pairs_are_those_of_the_texts():
    words = [f"w{i}" for i in range(80)]
    texts = {
        "a": " ".join(words),
        "b": " ".join(words[:70] + ["x"] * 10),
        "c": "nothing alike here",
    }
    near, far = measured_pairs(texts, [("a", "b"), ("a", "c")])
    assert near.jaccard == exact_jaccard(texts["a"], texts["b"])
    assert abs(np.mean(near.agree) - near.jaccard) < 0.15 and far.jaccard == 0


def test_scurve_shows_what_the_signatures_tell():
    pairs = some_pairs()
    view = SCurve(pairs)
    for bands, rows in ((14, 8), (1, 1), (128, 16)):
        view.move(bands=bands, rows=rows)
        found = sum(p.is_found(view.used_bands, rows) for p in pairs)
        frame = view.frame()
        assert frame["facts"] == {"found": str(found)}
        assert f"found: {found} of 60 real pairs" in frame["notes"][0]
        assert sum(int(row["found"]) for row in view.table()) == found
        assert view.summary() == headline(view.used_bands, rows)
    assert view.used_bands == 16  # 256 numbers are there
    assert "256 of 256 numbers are used (128 bands of 16 would need more)" in frame["notes"][0]


def test_mixture_is_the_librarys_arithmetic():
    view = MixtureExplorer(SOURCE_TOKENS, budget=1000)
    assert sum(view.shares().values()) == pytest.approx(1)
    assert tuple(round(100 * s) for s in mixture.paper_shares().values()) == facts.MIX.value
    assert view.epochs() == pytest.approx(
        {
            "general": 0.5 / 0.9,
            "maths": 0.25 / 0.08,
            "code": 0.17 / 0.02,
            "multilingual": 0.08 / 0.04,
        }
    )
    assert view.summary() == "Read most often: code, 8.5 epochs"
    assert ">8.5 epochs, much repetition<" in view.static_svg()
    assert [row["epochs"] for row in view.table()] == ["0.56", "3.12", "8.50", "2.00"]
    assert view.frame()["facts"]["epochs"].split()[1] == "3.1250"
    with pytest.raises(ValueError, match="tokens="):
        MixtureExplorer({"general": 1.0}, 10)


def test_mixture_leaves_no_source_less_than_nothing():
    view = MixtureExplorer(SOURCE_TOKENS, budget=1000)
    with pytest.raises(ValueError, match="maths=90 is not allowed: one of 0, 1, 2, …, 60"):
        view.maths = 90
    view.move(maths=60, code=35)
    assert view.multilingual == 5 and view.shares()["general"] == pytest.approx(0)
    view.maths = 20  # what has given way stays where it is
    assert (view.code, view.multilingual) == (35, 5)
    for maths, code in itertools.product(*(getattr(MixtureExplorer, n).recorded for n in FIRST)):
        assert min(100 - maths - code, mixture.MOST) >= max(MixtureExplorer.multilingual.recorded)


@pytest.fixture(scope="module")
def own_tokenizer():
    return Tokenizer(
        ranks_from_merges(train_bpe(["the river and the mill and the bridge"] * 3, 280))
    )


def test_tokenizers_cut_everything_and_nothing_twice(own_tokenizer):
    text = "the mill, ä 🙂\nx"
    rows = {row["name"]: row for row in cut({"ours": own_tokenizer}, text)}
    assert "".join(rows["characters"]["pieces"]) == text
    assert rows["bytes"]["count"] == len(text.encode())
    assert rows["ours"]["count"] == len(own_tokenizer.encode(text)) < rows["bytes"]["count"]
    with pytest.raises(ValueError, match="tokenizers"):
        TokenizerCompare({}, "x")


def test_tokenizers_show_every_piece_or_say_how_many_not(own_tokenizer):
    view = TokenizerCompare({"ours": own_tokenizer}, "the river\n<b>")
    rows = cut(view.tokenizers, view.text)
    assert view.summary() == tokenizers.headline(rows)
    assert view.frame()["facts"]["counts"] == " ".join(str(row["count"]) for row in rows)
    shown = words_of(view.frame())
    assert shown[:16] == ["characters: 13 tokens, 1.00 characters each", *"the·river⏎<b>",
                          "bytes: 13 tokens, 1.00 characters each", "t"]  # fmt: skip
    view.text = "ä🙂 " * 133
    for width in WIDTHS:
        counts = []
        for word in words_of(view.frame(width=width)):
            if "characters each" in word:
                counts.append(0)
            else:
                counts[-1] += int(word.split()[2]) if word.startswith("… and") else 1
        assert counts == [399, 7 * 133, len(own_tokenizer.encode(view.text))]
    view.text = ""
    assert view.summary() == "No text"
    with pytest.raises(ValueError, match="^text='xxx.*at most 400 characters"):
        view.text = "x" * 401
