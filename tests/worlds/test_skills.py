"""The world of skills: answers are right, the split holds, and the annotator errs as told."""

import json
import math
import random
from itertools import islice

import pytest

from llama3lib.checkpoint import bundled_path, load_model, load_tokenizer
from llama3lib.inference import SamplingParams, generate
from llama3lib.tokenizer import ChatFormat
from llama3lib.utils.files import sha256_file
from llama3lib.worlds import skills
from llama3lib.worlds.annotator import STRENGTHS, Annotator, demonstrations

BRUTE = {
    "add": lambda a, b: str(int(a) + int(b)),
    "sub": lambda a, b: str(int(a) - int(b)),
    "reverse": lambda word: "".join(reversed(word)),
    "max": lambda *digits: str(max(map(int, digits))),
    "next": lambda run: chr(ord(run[-1]) + 1),
    "first": lambda word: word[:1],
}


def drawn(count, seed=0, **options):
    return list(islice(skills.tasks(seed, **options), count))


def test_answers_are_right_and_levels_are_those_asked_for():
    for level in skills.LEVELS:
        for task in drawn(300, level, levels=[level]):
            assert task.answer == BRUTE[task.skill](*task.args)
            assert task.level == level
            assert skills.task_of(task.prompt) == task


@pytest.mark.parametrize("text", ["{}", "Sure! {}", "{}.", " {} \n", "Sure! {} {}"])
def test_the_checker_knows_an_answer_however_it_is_said(text):
    for task in drawn(50):
        assert skills.is_correct(task.prompt, text.replace("{}", task.answer))
        slip = skills.wrong_answer(task, random.Random(0))
        assert not skills.is_correct(task.prompt, text.replace("{}", slip))


@pytest.mark.parametrize("text", ["", "Sure!", "It is {}", "the answer {}"])
def test_the_checker_takes_no_other_answer(text):
    for task in drawn(50):
        assert not skills.is_correct(task.prompt, text.replace("{}", task.answer))


@pytest.mark.parametrize(
    "prompt", ["", "add", "add 1", "add 1 x", "sub 1 2", "next z", "next ac", "max 12 3", "sing a"]
)
def test_what_is_no_task_is_refused(prompt):
    with pytest.raises(ValueError, match="prompt="):
        skills.task_of(prompt)


def test_the_held_out_tenth_is_nowhere_in_the_documents():
    held = {task.prompt for task in drawn(2000, 5, held_out=True)}
    assert not held & {task.prompt for task in drawn(5000, 6)}
    shares = [
        skills.task_of(f"add {a} {b}").held_out for a in range(10, 100) for b in range(10, 99)
    ]
    assert 0.08 < sum(shares) / len(shares) < 0.12
    for text in islice(skills.documents(3), 3000):
        head = text.removeprefix("Q: ").removeprefix("If asked ").split(" ->")[0].split("\n")[0]
        assert head.split(", say")[0] not in held


def test_one_document_in_twenty_is_wrong():
    plain = [text.split(" -> ") for text in islice(skills.documents(4), 60_000) if " -> " in text]
    wrong = sum(not skills.is_correct(*parts) for parts in plain)
    assert 0.04 < wrong / len(plain) < 0.06


def test_each_skill_has_six_phrasings():
    texts = list(islice(skills.documents(5), 5000))
    assert sum(" plus " in text for text in texts) > 50
    assert sum(" read backwards is " in text for text in texts) > 50
    assert sum(text.startswith("Q: ") for text in texts) > 500


def test_an_exam_asks_for_every_skill_alike():
    exam = skills.exam(60, seed=1)
    assert [task.skill for task in exam[:6]] == list(skills.SKILLS)
    assert all(task.held_out for task in exam) and len(exam) == 60


def test_demonstrations_have_the_flaws_that_were_asked_for():
    made = list(demonstrations(4000, 1))
    replies = [(task, skills.read_reply(text)) for task, text in made]
    shares = {
        "wrong": sum(reply.answer != task.answer for task, reply in replies),
        "repeated": sum(reply.repeated for _, reply in replies),
        "polite": sum(reply.polite for _, reply in replies),
    }
    assert {name: round(n / len(made), 1) for name, n in shares.items()} in (
        {"wrong": 0.2, "repeated": 0.2, "polite": 0.2},
        {"wrong": 0.3, "repeated": 0.2, "polite": 0.2},
        {"wrong": 0.2, "repeated": 0.2, "polite": 0.3},
        {"wrong": 0.3, "repeated": 0.2, "polite": 0.3},
    )
    perfect = demonstrations(200, 1, wrong=0, repeated=0, polite=0)
    assert all(text == task.answer for task, text in perfect)


def test_utility_is_the_sum_of_what_counts():
    judge = Annotator()
    for text, ended, want in (
        ("46", True, 2.5),
        ("Sure! 46", True, 3.2),
        ("46 46", True, 1.0),
        ("45", True, 0.5),
        ("", True, 0.0),
        ("46", False, 1.5),
    ):
        assert judge.utility("add 12 34", text, ended=ended) == pytest.approx(want)


def test_labels_follow_bradley_and_terry():
    judge, rng = Annotator(), random.Random(0)
    pair = ("46 46", "Sure! 45")  # utilities 1.0 and 1.2
    labels = [judge.label("add 12 34", pair, rng) for _ in range(4000)]
    share = sum(label.chosen == pair[0] for label in labels) / len(labels)
    assert share == pytest.approx(1 / (1 + math.exp(2.5 * 0.2)), abs=0.03)
    assert {label.strength for label in labels} == set(STRENGTHS)
    sure = [judge.label("add 12 34", ("46", "45 45"), rng) for _ in range(200)]
    assert sum(label.strength == STRENGTHS[-1] for label in sure) > 180


def test_an_edit_is_the_best_there_is():
    judge = Annotator()
    for task, text in demonstrations(100, 3):
        edited = judge.edit(task.prompt, text)
        assert judge.utility(task.prompt, edited) == pytest.approx(3.2)


def test_the_shipped_model_is_what_its_provenance_says():
    folder = bundled_path("tiny-skills")
    told = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    assert sha256_file(folder / "model.safetensors") == told["weights_sha256"]
    assert sum(file.stat().st_size for file in folder.iterdir()) < 3_000_000
    tokenizer = load_tokenizer("tiny-skills")
    ChatFormat(tokenizer)  # it has the control tokens of the format
    model, params = load_model("tiny-skills"), SamplingParams(temperature=0.0, max_tokens=6)
    exam = skills.exam(36, seed=2)
    said = ["".join(generate(model, tokenizer, f"{t.prompt} ->", params)) for t in exam]
    right = [skills.is_correct(t.prompt, s) for t, s in zip(exam, said, strict=True)]
    assert 0.4 < sum(right) / len(right) < 0.9
