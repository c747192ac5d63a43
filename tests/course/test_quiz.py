"""The quiz: its questions are checked, its order is stable, its state survives."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from prose_tools import REWRITTEN

import widgets
from widgets import Option, Question, Quiz
from widgets.core.progress import ledger
from widgets.core.quiz import questions_of
from widgets.core.widget import esm

CHAPTERS = [file.parent.name[2:] for file in Path(widgets.__file__).parent.glob("ch*/quiz.toml")]


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


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapters_quiz_explains_every_choice(chapter):
    questions = questions_of(chapter)
    assert len(questions) >= 8
    for question in questions:
        assert len(question.options) >= 3
        assert all(len(option.why) > 20 for option in question.options)
    assert len(Quiz(chapter).questions) == len(questions)


QUESTION = """
[[question]]
section = "§1"
prompt = "On {herd.TOKENS:,} tokens, how many {{braces}}?"
right = ["a", "so"]
wrong = [["b", "no"]]
"""


@pytest.fixture
def read_99(monkeypatch, tmp_path):
    """read_99(text) -> the questions of a chapter with this quiz.toml."""
    folder = tmp_path / "widgets" / "ch99"
    folder.mkdir(parents=True)
    monkeypatch.setattr(widgets, "__path__", [*widgets.__path__, str(folder.parent)])

    def read(text):
        (folder / "quiz.toml").write_text(text, encoding="utf-8")
        return questions_of("99")

    yield read
    sys.modules.pop("widgets.ch99", None)


def test_questions_are_data_with_facts_of_the_paper(read_99):
    (question,) = read_99(QUESTION)
    assert question.prompt == "On 15,600,000,000,000 tokens, how many {braces}?"
    assert [option.correct for option in question.options] == [True, False]


@pytest.mark.parametrize(
    "old, new, told",
    [
        ("herd.TOKENS", "herd.TOKEN", "chapter 99.*asks for a fact"),
        ("herd.TOKENS:,", "", "asks for a fact"),
        ("section", "sektion", "section, wrong are needed"),
        ('"no"', '""', "needs a text and a why"),
        ('[["b", "no"]]', '["b", "no"]', "a choice is .text, why."),
        ('[["b", "no"]]', "[]", "2 or more"),
    ],
)
def test_data_that_are_no_quiz_are_refused(read_99, old, new, told):
    with pytest.raises(ValueError, match=told):
        read_99(QUESTION.replace(old, new))


def test_a_chapter_without_a_quiz_is_told():
    with pytest.raises(ValueError, match="'98' has no quiz"):
        Quiz("98")


@pytest.mark.parametrize("chapter", REWRITTEN)
def test_the_right_option_is_known_by_nothing_but_its_words(chapter):
    """Options of like length, the right one seldom the longest, and not always in one place."""
    questions = questions_of(chapter)
    assert len(questions) >= 10
    longest = []
    for question in questions:
        sizes = [len(option.text) for option in question.options]
        assert max(sizes) <= 1.3 * min(sizes) + 4, (question.prompt, sizes)
        right = next(len(option.text) for option in question.options if option.correct)
        longest.append(right == max(sizes) and sizes.count(right) == 1)
    assert sum(longest) <= 0.35 * len(questions)
    shown = Quiz(chapter).questions
    places = [[option["correct"] for option in q["options"]].index(True) for q in shown]
    assert max(map(places.count, places)) <= 0.5 * len(places)
