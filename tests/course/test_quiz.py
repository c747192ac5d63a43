"""The quiz: its questions are checked, its order is stable, its state survives."""

import json
import subprocess

import pytest

from widgets import Option, Question, Quiz
from widgets.core.progress import ledger
from widgets.core.widget import esm


def options(*right):
    return [Option(text, f"because {text}", text in right) for text in "abcd"]


def quiz(seed=0, name="99"):
    return Quiz(name, [Question(p, options("b"), "§3.2") for p in ("one", "two")], seed=seed)


def place(it, number, text):
    return [o["text"] for o in it.questions[number]["options"]].index(text)


@pytest.mark.parametrize("right", ["", "ab"])
def test_exactly_one_option_is_right(right):
    with pytest.raises(ValueError, match="exactly 1"):
        Question("q", options(*right), "ours")


def test_other_mistakes_in_questions():
    with pytest.raises(ValueError, match="needs a text and a why"):
        Option("text", "")
    with pytest.raises(ValueError, match="same option twice"):
        Question("q", [Option("a", "x", True), Option("a", "y")], "ours")
    with pytest.raises(ValueError, match="2 or more"):
        Question("q", [Option("a", "x", True)], "ours")
    with pytest.raises(ValueError, match="questions is empty"):
        Quiz("99", [])
    with pytest.raises(ValueError, match="same prompt twice"):
        Quiz("99", [Question("q", options("a"), "ours")] * 2)


def test_order_depends_on_the_seed_alone():
    assert quiz().questions == quiz().questions
    assert any(quiz(seed).questions != quiz().questions for seed in range(1, 5))


def test_answers_are_kept_with_tries():
    it = quiz()
    it.answers = {"0": place(it, 0, "a")}
    it.answers = it.answers | {"0": place(it, 0, "b")}
    it.answers = it.answers | {"1": place(it, 1, "b")}
    assert it.score == (2, 2)
    kept = ledger().read()["quiz"]["99"]
    assert kept["one"] == {"tries": 2, "right": True, "first_right": False, "last": "b"}
    assert kept["two"] == {"tries": 1, "right": True, "first_right": True, "last": "b"}


def test_answers_are_there_again_in_any_order():
    it = quiz()
    it.answers = {"1": place(it, 1, "c")}
    for seed in range(4):
        again = quiz(seed)
        assert again.answers == {"1": place(again, 1, "c")}
    assert quiz(name="98").answers == {}
    assert ledger().read()["quiz"]["99"]["two"]["tries"] == 1  # opening is not answering


def test_static_twin_has_every_question_option_and_explanation():
    it = Quiz("99", [Question("is a < b?", options("b"), "§3.2")])
    html = it.static_html()
    assert "is a &lt; b?" in html
    assert html.count("because") == 4
    assert html.index("<details>") < html.index("because")
    assert html.count("✓") == 1
    assert "script" not in html


def test_verdicts_in_javascript(node, tmp_path):
    it = quiz()
    it.answers = {"1": place(it, 1, "b")}
    module = tmp_path / "quiz.mjs"
    module.write_text(esm("quiz"), encoding="utf-8")
    code = (
        f"import {{ verdicts }} from {module.as_uri()!r};"
        f"console.log(JSON.stringify(verdicts({json.dumps(it.questions)}, {it.answers})))"
    )
    command = [node, "--input-type=module", "-e", code]
    out = subprocess.run(command, capture_output=True, encoding="utf-8", check=True, timeout=60)
    assert json.loads(out.stdout) == [None, True]
