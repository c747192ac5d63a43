"""The four views of chapter 02: their arithmetic, the browser's, and a move in JupyterLab."""

import inspect
import itertools

import numpy as np
import pytest
import traitlets
from view_tools import kernel_says, run_js

from llama3lib.data import Document, Dropped, Funnel
from llama3lib.data.dedup.minhash import exact_jaccard, lsh_probability
from llama3lib.paper import data as facts
from llama3lib.tokenizer import Tokenizer, ranks_from_merges, train_bpe
from widgets.ch02.views import mixture, scurve, tokenizers
from widgets.ch02.views.funnel import FunnelExplorer, bars, draw_funnel, headline, told
from widgets.ch02.views.mixture import MixtureExplorer
from widgets.ch02.views.scurve import (
    BANDS,
    ROWS,
    Pair,
    SCurve,
    found_shares,
    half_way,
    measured_pairs,
)
from widgets.ch02.views.tokenizers import TokenizerCompare, cut

TOKENS = {"general": 900.0, "maths": 80.0, "code": 20.0, "multilingual": 40.0}


def some_funnel():
    funnel = Funnel(keep_dropped=True)
    for step, came, left, reasons in (
        ("extract", 10, 9, {"no text": 1}),
        ("gopher", 9, 4, {"too short": 3, "symbols": 2}),
        ("pii", 4, 4, {}),
    ):
        count = funnel.count(step)
        count.documents_in, count.documents_out = came, left
        count.reasons.update(reasons)
    for number, reason in enumerate(["too short"] * 3 + ["symbols"] * 2):
        document = Document(f"text <b>{number}</b>", f"d{number}", {"url": f"http://x/{number}"})
        funnel.dropped.append(Dropped(document, "gopher", reason, f"{number} words"))
    return funnel


def some_pairs():
    draw = np.random.default_rng(3)
    return [
        Pair(j, tuple((draw.random(256) < j).astype(int).tolist()))
        for j in np.linspace(0.02, 1, 60)
    ]


def test_funnel_shows_reasons_in_turn_and_escapes_nothing_itself():
    view = FunnelExplorer(some_funnel(), kept=[Document("good", "k")], step="gopher")
    reasons = [row["reason"] for row in view.journeys["gopher"]]
    assert reasons[:2] == ["too short", "symbols"] and len(reasons) == 5
    assert view.shown()["text"] == "text <b>0</b>"  # the browser puts it in as text
    assert view.summary() == "Of 10 documents 4 are left (40%)"
    view.document = 99
    assert view.shown()["reason"] == reasons[-1]
    view.step = "kept"
    assert view.document == 0 and view.shown()["text"] == "good"
    with pytest.raises(traitlets.TraitError, match="step='nowhere' is not allowed"):
        view.step = "nowhere"
    svg = draw_funnel(bars(some_funnel()))
    assert "gopher: 9 in, 4 out: too short 3, symbols 2" in svg


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


def test_scurve_state_is_checked():
    view = SCurve(some_pairs())
    for field, wrong in (("bands", 3), ("rows", 0)):
        with pytest.raises(traitlets.TraitError, match=f"{field}={wrong} is not allowed"):
            setattr(view, field, wrong)
    view.bands, view.rows = 128, 16
    assert view.used_bands == 16  # 256 numbers are there


def test_mixture_is_the_librarys_arithmetic_and_shares_stay_possible():
    view = MixtureExplorer(TOKENS, budget=1000)
    assert sum(view.shares().values()) == pytest.approx(1)
    assert tuple(round(100 * s) for s in mixture.paper_shares().values()) == facts.MIX.value
    assert view.epochs()["code"] == pytest.approx(0.17 * 1000 / 20)
    with pytest.raises(traitlets.TraitError, match="maths=90 is not allowed: 0 to 75"):
        view.maths = 90
    with pytest.raises(ValueError, match="tokens="):
        MixtureExplorer({"general": 1.0}, 10)
    assert "code: 17%, read 8.5 times, much repetition" in view.static_svg()


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
    view = TokenizerCompare({"ours": own_tokenizer}, text)
    view.text = "x" * 1000
    assert len(view.text) == tokenizers.MOST
    assert "<script>" not in TokenizerCompare({"o": own_tokenizer}, "<script>").static_html()
    with pytest.raises(ValueError, match="tokenizers"):
        TokenizerCompare({}, "x")


def test_javascript_agrees_with_python(node, tmp_path):
    choices = list(itertools.product(BANDS, ROWS))
    used = [(scurve.fitting_bands(b, r), r) for b, r in choices]
    got = run_js(
        node, tmp_path, "scurve", "fittingBands", *[[list(BANDS), b, r] for b, r in choices]
    )
    assert got == [b for b, _ in used]
    titles = run_js(node, tmp_path, "scurve", "headline", *[list(pair) for pair in used])
    assert titles == [scurve.headline(*pair) for pair in used]
    pairs = some_pairs()
    sent = [[p.jaccard, "".join(map(str, p.agree))] for p in pairs]
    for (bands, rows), got in zip(
        [(14, 8), (1, 1), (16, 16)],
        run_js(
            node, tmp_path, "scurve", "foundShares", [sent, 14, 8], [sent, 1, 1], [sent, 16, 16]
        ),
        strict=True,
    ):
        for mine, theirs in zip(found_shares(pairs, bands, rows), got, strict=True):
            assert mine["found"] == theirs["found"]
            assert mine["expected"] == pytest.approx(theirs["expected"])
    view = MixtureExplorer(TOKENS, budget=1000)
    times = run_js(node, tmp_path, "mixture", "epochs", [view.shares(), TOKENS, 1000])[0]
    assert times == pytest.approx(view.epochs())
    notes = [0.0, 0.434, 1.0, 3.96, 4.2]
    assert run_js(node, tmp_path, "mixture", "note", *[[n] for n in notes]) == [
        mixture.note(n) for n in notes
    ]
    cutting = {"maths": 90, "code": 17, "multilingual": 8}
    assert run_js(node, tmp_path, "mixture", "cutBack", [cutting, "maths"])[0]["maths"] == 75
    rows = bars(some_funnel())
    assert run_js(node, tmp_path, "funnel", "headline", [rows]) == [headline(rows)]
    assert run_js(node, tmp_path, "funnel", "told", *[[row] for row in rows]) == list(
        map(told, rows)
    )


@pytest.mark.browser
def test_funnel_in_jupyterlab(open_notebook):
    code = (
        "from llama3lib.data import Document, Dropped, Funnel\nfrom widgets import FunnelExplorer\n"
    )
    code += inspect.getsource(some_funnel)
    code += (
        "\nview = FunnelExplorer(some_funnel(), kept=[Document('good', 'k')], step='gopher')\nview"
    )
    page = open_notebook([code])
    root = page.locator(".l3-funnel")
    root.wait_for()
    assert root.get_attribute("data-shown") == "gopher/0/too short"
    assert page.locator(".l3-funnel .text").inner_text() == "text <b>0</b>"
    page.screenshot("funnel-light", ".l3-funnel")
    which = page.locator(".l3-funnel input[data-trait=document]")
    assert page.median_move_ms(which, "ArrowRight", 4) <= 100
    page.locator(".l3-funnel select").select_option("kept")
    page.page.wait_for_function(
        "() => document.querySelector('.l3-funnel').dataset.shown === 'kept/0/kept'"
    )
    kernel_says(page, "view.step, view.document", "('kept', 0)")


@pytest.mark.browser
def test_scurve_in_jupyterlab(open_notebook):
    code = "import numpy as np\nfrom widgets.ch02.views.scurve import Pair, SCurve\n"
    code += inspect.getsource(some_pairs) + "\nview = SCurve(some_pairs())\nview"
    page = open_notebook([code])
    root = page.locator(".l3-scurve")
    root.wait_for()
    want = sum(p.is_found(14, 8) for p in some_pairs())
    assert root.get_attribute("data-found") == str(want)
    page.screenshot("scurve-light", ".l3-scurve")
    rows = page.locator(".l3-scurve input[data-trait=rows]")
    rows.focus()
    page.page.keyboard.press("ArrowLeft")
    want = sum(p.is_found(14, 7) for p in some_pairs())
    page.page.wait_for_function(
        f"() => document.querySelector('.l3-scurve').dataset.found === '{want}'"
    )
    kernel_says(page, "view.rows", "7")
    assert page.median_move_ms(rows, "ArrowRight", 6) <= 100


@pytest.mark.browser
def test_mixture_in_jupyterlab(open_notebook):
    code = f"from widgets import MixtureExplorer\nview = MixtureExplorer({TOKENS}, 1000)\nview"
    page = open_notebook([code], theme="dark")
    page.locator(".l3-mixture").wait_for()
    page.screenshot("mixture-dark", ".l3-mixture")
    maths = page.locator(".l3-mixture input[data-trait=maths]")
    maths.focus()
    page.page.keyboard.press("End")  # 60 percent
    page.page.wait_for_function(
        "() => document.querySelector('.l3-mixture').dataset.epochs.split(' ')[1] === '7.5000'"
    )
    kernel_says(page, "view.maths, round(view.epochs()['maths'], 1)", "(60, 7.5)")
    assert page.median_move_ms(maths, "ArrowLeft", 5) <= 100


@pytest.mark.browser
def test_tokenizers_in_jupyterlab(open_notebook):
    code = (
        "from llama3lib.checkpoint import load_tokenizer\nfrom widgets import TokenizerCompare\n"
        "view = TokenizerCompare({'stories': load_tokenizer('tiny-base')}, 'One sunny day')\nview"
    )
    page = open_notebook([code])
    root = page.locator(".l3-tokenizers")
    root.wait_for()
    page.page.wait_for_function(
        "() => document.querySelector('.l3-tokenizers').dataset.counts.startsWith('13 13')"
    )
    page.screenshot("tokenizers-light", ".l3-tokenizers")
    box = page.locator(".l3-tokenizers textarea")
    box.focus()
    page.page.keyboard.press("End")
    assert page.median_move_ms(box, "a", 7) <= 100
    kernel_says(page, "view.text[:14]", "'One sunny daya'")
