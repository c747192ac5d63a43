"""A quiz with an explanation for every choice, usable by keyboard, readable without a kernel.

The questions of chapter NN are data, `widgets/chNN/quiz.toml`: each [[question]] has `section`,
`prompt`, `right = [text, why]` and `wrong = [[text, why], ...]`. "{herd.TOKENS:,}" in a text is a
fact of `llama3lib.paper`; a brace is written twice.
"""

import random
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib import resources
from types import SimpleNamespace

import traitlets

from llama3lib.paper import Fact, all_facts
from widgets.core.progress import ledger
from widgets.core.widget import CourseWidget, css, esm


@dataclass(frozen=True)
class Option:
    """One choice, and why it is right or wrong."""

    text: str
    why: str
    correct: bool = False

    def __post_init__(self) -> None:
        if not self.text or not self.why:
            raise ValueError(f"option {self.text!r} needs a text and a why")


@dataclass(frozen=True)
class Question:
    """A question with two or more choices, exactly one of them right.

    Raises ValueError if that is not so, or if an option comes twice.
    """

    prompt: str
    options: Sequence[Option]
    section: str
    """Where the paper says it, as "§3.2"; or "ours"."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", tuple(self.options))
        right = sum(option.correct for option in self.options)
        if len(self.options) < 2 or right != 1:
            found = f"{right} right options of {len(self.options)}"
            raise ValueError(f"question {self.prompt!r} has {found}: 2 or more, exactly 1 right")
        if len({option.text for option in self.options}) != len(self.options):
            raise ValueError(f"question {self.prompt!r} has the same option twice")


def questions_of(chapter: str) -> list[Question]:
    """The questions of a chapter, from its `quiz.toml`. Raises ValueError if they are not so."""
    try:
        file = resources.files(f"widgets.ch{chapter}") / "quiz.toml"
        told = tomllib.loads(file.read_text(encoding="utf-8"))
    except (ModuleNotFoundError, FileNotFoundError):
        raise ValueError(f"chapter={chapter!r} has no quiz") from None
    return [_question(entry, f"quiz.toml of chapter {chapter}") for entry in told["question"]]


def _question(entry: dict, place: str) -> Question:
    keys = {"section", "prompt", "right", "wrong"}
    if set(entry) != keys:
        raise ValueError(f"{place}: {', '.join(sorted(keys))} are needed, {sorted(entry)} came")
    options = []
    for number, pair in enumerate([entry["right"], *entry["wrong"]]):
        if not isinstance(pair, list) or len(pair) != 2:
            raise ValueError(f"{place}: {pair!r} is not allowed: a choice is [text, why]")
        options.append(Option(*(_filled(text, place) for text in pair), correct=number == 0))
    return Question(_filled(entry["prompt"], place), options, entry["section"])


@cache
def _facts() -> dict[str, SimpleNamespace]:
    """The paper's single facts by module and name, as bare values."""
    found: dict[str, SimpleNamespace] = {}
    for name, fact in all_facts():
        if isinstance(fact, Fact):
            module, _, short = name.partition(".")
            setattr(found.setdefault(module, SimpleNamespace()), short, fact.value)
    return found


def _filled(text: str, place: str) -> str:
    try:
        return text.format_map(_facts())
    except (KeyError, AttributeError, ValueError, IndexError) as error:
        raise ValueError(f"{place}: {text!r} asks for a fact that is not there: {error}") from error


class Quiz(CourseWidget):
    """Quiz("01"): one question after another; wrong answers may be tried again.

    questions: those of the chapter of that name, if left out. Options are shuffled once, by the
    seed. What was answered is kept in the progress file and is there again when the notebook is
    opened anew. Raises ValueError without questions, or if a prompt comes twice.
    """

    _esm = esm("quiz")
    _css = css("quiz")
    name = traitlets.Unicode().tag(sync=True)
    questions = traitlets.List().tag(sync=True)
    answers = traitlets.Dict().tag(sync=True)
    """Number of a question -> the option chosen last."""

    def __init__(
        self, name: str, questions: Sequence[Question] | None = None, *, seed: int = 0
    ) -> None:
        questions = questions_of(name) if questions is None else questions
        if not questions:
            raise ValueError("questions is empty: a quiz needs at least one")
        if len({q.prompt for q in questions}) != len(questions):
            raise ValueError(f"quiz {name!r} has the same prompt twice")
        rng = random.Random(f"{name}-{seed}")
        self._questions = [
            Question(q.prompt, rng.sample(list(q.options), len(q.options)), q.section)
            for q in questions
        ]
        shown = [
            {
                "prompt": q.prompt,
                "section": q.section,
                "options": [
                    {"text": o.text, "why": o.why, "correct": o.correct} for o in q.options
                ],
            }
            for q in self._questions
        ]
        super().__init__(name=name, questions=shown)
        self.answers = self._remembered()
        self.observe(self._keep, "answers")

    @property
    def score(self) -> tuple[int, int]:
        """Questions whose last answer is right, and questions in all."""
        right = sum(
            self._questions[int(number)].options[option].correct
            for number, option in self.answers.items()
        )
        return right, len(self._questions)

    def _remembered(self) -> dict[str, int]:
        kept = ledger().read()["quiz"].get(self.name, {})
        found = {}
        for number, question in enumerate(self._questions):
            last = kept.get(question.prompt, {}).get("last")
            for place, option in enumerate(question.options):
                if option.text == last:
                    found[str(number)] = place
        return found

    def _keep(self, change: dict) -> None:
        for number, place in change["new"].items():
            if change["old"].get(number) != place:
                question = self._questions[int(number)]
                option = question.options[place]
                ledger().record_answer(self.name, question.prompt, option.text, option.correct)

    def summary(self) -> str:
        """One line in place of the widget."""
        return f"Quiz {self.name}: {len(self._questions)} questions; run this cell to answer them"

    def static_html(self) -> str:
        """All questions with folded explanations: reads and prints without JavaScript."""
        parts = [f"<p><strong>Quiz {escape(self.name)}</strong></p><ol>"]
        for question in self._questions:
            options = "".join(f"<li>{escape(o.text)}</li>" for o in question.options)
            whys = "".join(
                f"<li>{'✓' if o.correct else '✗'} {escape(o.text)}: {escape(o.why)}</li>"
                for o in question.options
            )
            parts.append(
                f"<li>{escape(question.prompt)} <em>({escape(question.section)})</em>"
                f'<ol type="a">{options}</ol>'
                f'<details><summary>Answers</summary><ol type="a">{whys}</ol></details></li>'
            )
        return "".join(parts) + "</ol>"
