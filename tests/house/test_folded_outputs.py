"""No stored output of a chapter answers a question before the reader has."""

import copy
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from fold_outputs import FOLDED, as_html, between, fold, open_outputs

CHAPTERS = sorted(ROOT.glob("chapters/*.ipynb"))
VIEW = "application/vnd.jupyter.widget-view+json"


def data(**kinds):
    named = {"plain": "text/plain", "html": "text/html", "png": "image/png"}
    named |= {"svg": "image/svg+xml", "markdown": "text/markdown", "view": VIEW}
    content = {named[kind]: value for kind, value in kinds.items()}
    return {"output_type": "display_data", "data": content, "metadata": {}}


def printed(text):
    return {"output_type": "stream", "name": "stdout", "text": text}


def question(name):
    return data(view={"model_id": "0"}, html="<p>?</p>", plain=f"Prediction {name}: how many?")


def code(name, source, *outputs):
    outputs = list(outputs)
    return {"cell_type": "code", "id": name, "metadata": {}, "source": source, "outputs": outputs}


@pytest.fixture
def cells():
    """Two questions that overlap, and what is shown before, between and after."""
    return [
        code("before", "x", printed("early")),
        code("ask", 'print(1)\npredict(\n    "P01.1", "?")', printed("given"), question("P01.1")),
        {"cell_type": "markdown", "id": "text", "metadata": {}, "source": "words"},
        code("ask2", 'predict("P01.2", "?")', printed("spoils 1"), question("P01.2"), printed("2")),
        code("show", 'reveal("P01.1", 7)\ny', printed("seven"), data(png="iVBOR", plain="A view")),
        code("show2", ["z\n", 'reveal("P01.2", 8)'], printed(["ei", "ght"])),
        code("after", "z", printed("late")),
    ]


def test_what_stands_between_a_question_and_its_answer_is_found(cells):
    found = {cell["id"]: (waiting, asked) for cell, waiting, asked in between(cells)}
    assert found == {
        "ask": ([], ["P01.1"]),
        "ask2": (["P01.1"], ["P01.2"]),
        "show": (["P01.1", "P01.2"], []),
        "show2": (["P01.2"], []),
    }
    assert open_outputs(cells) == ["ask2", "show", "show2"]


def test_folded_it_is_one_closed_detail_that_gives_nothing_away(cells):
    before = copy.deepcopy(cells)
    fold({"cells": cells})
    assert open_outputs(cells) == []
    assert [cells[i] for i in (0, 1, 2, 6)] == [before[i] for i in (0, 1, 2, 6)]
    first, asked, last = cells[3]["outputs"]
    assert asked == before[3]["outputs"][1]
    assert "lock prediction P01.1 first" in first["data"]["text/html"]
    assert "P01.1 and P01.2" in last["data"]["text/html"]
    (shown,) = cells[4]["outputs"]
    assert shown["data"].keys() == {"text/html", "text/plain"}
    assert shown["data"]["text/plain"] == FOLDED
    html = shown["data"]["text/html"]
    assert html.startswith("<details><summary>") and html.count("<details") == 1
    assert "<pre>seven</pre>" in html and 'src="data:image/png;base64,iVBOR"' in html
    assert "<pre>eight</pre>" in cells[5]["outputs"][0]["data"]["text/html"]


def test_folding_twice_changes_nothing(cells):
    once = copy.deepcopy(fold({"cells": cells}))
    assert fold({"cells": cells}) == once


@pytest.mark.parametrize(
    ("output", "html"),
    [
        (printed('a < b & "c"\n'), '<pre>a &lt; b &amp; "c"</pre>'),
        (data(html="<b>1</b>", plain="1", view={}), "<b>1</b>"),
        (data(png="iV\n", svg="<svg/>", plain='A "view"\nrows', view={}), "image/png;base64,iV"),
        (data(png="iV", plain='A "view"\nrows'), 'alt="A &quot;view&quot;"'),
        (data(svg="<svg/>", plain="A view"), "data:image/svg+xml;base64,PHN2Zy8+"),
        (data(markdown="| a |\n| - |\n| 1 |", plain="<Markdown>"), "<td>1</td>"),
        (data(plain="<x>", view={}), "<pre>&lt;x&gt;</pre>"),
        ({"output_type": "error", "ename": "E", "evalue": "<"}, "<pre>E: &lt;</pre>"),
    ],
)
def test_each_kind_of_output_needs_no_script(output, html):
    told = as_html(output)
    assert html in told and "widget" not in told


@pytest.mark.parametrize("file", CHAPTERS, ids=lambda file: file.stem)
def test_no_chapter_answers_before_the_reader(file):
    cells = json.loads(file.read_bytes())["cells"]
    assert open_outputs(cells) == []
    checked = [cell["id"] for cell, waiting, _ in between(cells) if waiting]
    tags = {cell["id"]: cell["metadata"].get("tags", []) for cell in cells}
    # a comparison would need the output that is folded: such a cell asserts instead
    assert checked and not [name for name in checked if "nbval-check-output" in tags[name]]
