"""Predictions: locked once, kept, compared; a run without one goes on."""

import ast
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import traitlets

from widgets import predict, reveal
from widgets.core import reveal as card
from widgets.core.progress import ledger

ROOT = Path(__file__).parents[2]
CHAPTERS = sorted(ROOT.glob("chapters/*.ipynb"))


def number(name="99.a", **more):
    return predict(name, "How many GiB?", unit="GiB", **({"low": 0, "high": 100} | more))


def pick(**more):
    return predict("99.b", "Tied?", choices=["yes", "no"], **more)


def test_locked_is_locked():
    it = number()
    it.lock(63)
    with pytest.raises(ValueError, match="is locked: 63"):
        it.lock(64)
    for change in ({"locked": False}, {"value": 1}):
        with pytest.raises(traitlets.TraitError, match="is locked"):
            it.set_trait(*next(iter(change.items())))
    assert (it.value, it.locked) == (63, True)
    assert ledger().prediction("99.a")["value"] == 63


def test_it_is_still_locked_when_the_notebook_is_opened_again():
    number().lock(63)
    again = number()
    assert (again.value, again.locked) == (63, True)
    anew = number(again=True)
    assert not anew.locked
    anew.lock(50)
    assert ledger().prediction("99.a")["earlier"] == [63]


@pytest.mark.parametrize("value", [-1, 101, float("nan"), float("inf"), "63", True, None])
def test_values_out_of_range_are_refused(value):
    it = number()
    with pytest.raises(ValueError, match=r"a number from 0(\.0)? to 100"):
        it.lock(value)
    assert not it.locked
    assert ledger().prediction("99.a") is None


def test_infinity_is_refused_without_limits_too():
    with pytest.raises(ValueError, match="not allowed"):
        number(low=None, high=None).lock(float("inf"))


def test_choices():
    with pytest.raises(ValueError, match="yes, no"):
        pick().lock("perhaps")
    pick().lock("no")
    assert ledger().prediction("99.b")["value"] == "no"


def test_bad_questions():
    with pytest.raises(ValueError, match="question=''"):
        predict("99.c", "")
    with pytest.raises(ValueError, match="low=5"):
        predict("99.c", "?", low=5, high=1)


def test_reveal_without_a_prediction_goes_on(capsys):
    reveal("99.a", 63.0, unit="GiB")
    assert capsys.readouterr().out == "The answer is 63 GiB. (No prediction was locked.)\n"


@pytest.mark.parametrize(
    "guess, truth, told",
    [
        (63, 63.0, "exactly right"),
        (60, 63.0, "within a tenth"),
        (10, 63.0, "6.3 times too low"),
        (100, np.float32(50), "2 times too high"),
        (12.5, torch.tensor(25), "2 times too low"),
        (0, 5, "It is 5 GiB."),
    ],
)
def test_reveal_compares(capsys, guess, truth, told):
    number().lock(guess)
    reveal("99.a", truth, unit="GiB")
    out = capsys.readouterr().out
    assert out.startswith(f"You predicted {guess} GiB. It is ")
    assert told in out
    assert ledger().prediction("99.a")["truth"] == float(truth)


def test_reveal_of_a_choice(capsys):
    pick().lock("no")
    reveal("99.b", "no")
    assert capsys.readouterr().out == "You predicted: no. It is: no, as you predicted.\n"
    reveal("99.b", "yes")
    assert "not what you predicted" in capsys.readouterr().out


def test_static_twin_asks_on_paper():
    assert "☐ yes" in pick().static_html()
    assert "________ GiB" in number().static_html()
    assert "yes / no" in pick().summary()


WHYS = {"yes": "One matrix <serves> twice.", "no": "The 8B has two.", "answer": "It is so."}


@pytest.fixture
def whys(monkeypatch):
    monkeypatch.setattr(card, "whys_of", lambda chapter: {"99.b": WHYS} if chapter == "99" else {})


@pytest.fixture
def shown(monkeypatch):
    """Cards that a notebook would show."""
    cards = []
    monkeypatch.setattr("IPython.get_ipython", lambda: object())
    monkeypatch.setattr("IPython.display.display", cards.append)
    return cards


def test_a_card_tells_guess_truth_and_why_each_choice_is_right_or_wrong(whys, shown):
    pick().lock("yes")
    reveal("99.b", "no")
    (it,) = shown
    assert it.card["question"] == "Tied?" and not it.card["good"]
    assert it.card["told"] == "You predicted: yes. It is: no, not what you predicted."
    assert it.card["options"] == [
        {"sign": "✗", "text": "yes (your guess)", "why": WHYS["yes"]},
        {"sign": "✓", "text": "no", "why": WHYS["no"]},
    ]
    html, plain = it.static_html(), it.summary()
    assert "&lt;serves&gt;" in html and "<serves>" not in html and "Tied?" in html
    assert all(
        words in plain for words in (it.card["told"], "It is so.", "✗ yes (your guess): One")
    )


def test_a_card_without_whys_or_a_question_is_short(whys, shown):
    reveal("99.z", np.float32(2.5), unit="GiB")
    (it,) = shown
    assert it.card["options"] == [] and it.card["question"] == "" and not it.card["good"]
    assert it.summary() == "The answer is 2.5 GiB. (No prediction was locked.)"
    assert it.static_html() == f"<p><strong>{it.summary()}</strong></p>"


def choices_of(file):
    """Choices of each prediction of a chapter, read from the source of its cells."""
    found = {}
    for cell in json.loads(file.read_bytes())["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] != "code" or "predict(" not in source:
            continue
        for call in ast.walk(ast.parse(source)):
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "predict":
                given = {word.arg: word.value for word in call.keywords}
                choices = ast.literal_eval(given["choices"]) if "choices" in given else []
                found[ast.literal_eval(call.args[0])] = choices
    return found


@pytest.mark.parametrize("file", CHAPTERS, ids=lambda file: file.name[:2])
def test_each_why_belongs_to_a_choice_of_its_chapter(file):
    choices, whys = choices_of(file), card.whys_of(file.name[:2])
    assert whys
    for name, told in whys.items():
        sentences = {choice: why for choice, why in told.items() if choice != "right"}
        assert set(sentences) - {"answer"} in (set(), set(choices[name])), name
        assert all(len(sentence) > 20 for sentence in sentences.values())


@pytest.mark.parametrize("file", CHAPTERS, ids=lambda file: file.name[:2])
def test_a_right_choice_is_in_the_file_and_not_in_a_cell(file):
    """Who votes in a lecture has the source of the next cell on the screen."""
    choices, whys = choices_of(file), card.whys_of(file.name[:2])
    source = "".join("".join(cell["source"]) for cell in json.loads(file.read_bytes())["cells"])
    assert re.findall(r'reveal\("P[\d.]+", "[^"]+"\)', source) == []
    looked_up = re.findall(r'reveal\("(P[\d.]+)"\)', source)
    assert len(looked_up) >= 3
    assert {name: whys[name]["right"] for name in looked_up if choices[name]} == {
        name: told["right"] for name, told in whys.items() if told.get("right") in choices[name]
    }


def test_a_right_choice_can_be_left_to_the_file(monkeypatch, shown):
    told = {"right": "b", "a": "It is not so at all.", "b": "It is so, and always was."}
    monkeypatch.setattr(card, "whys_of", lambda chapter: {"99.x": told})
    reveal("99.x")
    (it,) = shown
    assert [(o["text"], o["sign"]) for o in it.card["options"]] == [("a", "✗"), ("b", "✓")]
    with pytest.raises(ValueError, match="99.y has no right choice"):
        reveal("99.y")
