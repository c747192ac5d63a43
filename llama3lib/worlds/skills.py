"""Six small skills on letters and digits, whose answers can be checked: *better* is a fact here.

A task is a short prompt such as `add 12 34` or `reverse cat`. Three levels of difficulty; a tenth
of all tasks, picked by hash, is held out and never trained on. Before there is any chat, a model
learns the skills from documents in six phrasings each, because skill in one phrasing alone does
not carry over to a chat format. All of it is our own invention.
"""

import random
import string
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from llama3lib.data.encoding import stable_hash
from llama3lib.utils.require import between, one_of, require

LEVELS = (1, 2, 3)
_HELD_OUT = 10  # one task in so many
_LETTERS = string.ascii_lowercase


@dataclass(frozen=True)
class Task:
    """A prompt, and the one right answer to it."""

    skill: str
    level: int
    args: tuple[str, ...]
    answer: str

    @property
    def prompt(self) -> str:
        """How a user asks for it."""
        return " ".join((self.skill, *self.args))

    @property
    def held_out(self) -> bool:
        """Whether it belongs to the tenth that nobody trains on."""
        return stable_hash(self.prompt) % _HELD_OUT == 0


@dataclass(frozen=True)
class Skill:
    """How tasks of a kind are drawn, solved, answered wrongly and phrased."""

    draw: Callable[[random.Random, int], tuple[str, ...]]
    """Arguments of a task of a level."""
    solve: Callable[..., str | None]
    """The answer; None for arguments that are none."""
    level: Callable[..., int]
    slip: Callable[[str, random.Random], str]
    """An answer that somebody could give by mistake; not always another one."""
    phrasings: tuple[str, ...]
    """Documents that show a task solved."""


def _numbers(rng: random.Random, level: int) -> tuple[str, ...]:
    """Both below 10, one of them, or none."""
    sizes = {1: (1, 1), 2: (2, 1), 3: (2, 2)}[level]
    drawn = [rng.randrange(10) if size == 1 else rng.randrange(10, 100) for size in sizes]
    return tuple(map(str, sorted(drawn, reverse=True)))


def _number_level(a: str, b: str) -> int:
    return len(a) + len(b) - 1


def _number_slip(answer: str, rng: random.Random) -> str:
    return str(max(0, int(answer) + rng.choice((-10, -2, -1, 1, 2, 10))))


def _plain_numbers(*args: str) -> bool:
    return len(args) == 2 and all(a.isdecimal() and a.isascii() and len(a) <= 2 for a in args)


def _add(*args: str) -> str | None:
    return str(int(args[0]) + int(args[1])) if _plain_numbers(*args) else None


def _sub(*args: str) -> str | None:
    if not _plain_numbers(*args) or int(args[0]) < int(args[1]):
        return None
    return str(int(args[0]) - int(args[1]))


def _word(shortest: int) -> Callable[[random.Random, int], tuple[str, ...]]:
    return lambda rng, level: ("".join(rng.choices(_LETTERS, k=shortest - 1 + level)),)


def _is_word(args: Sequence[str], shortest: int) -> bool:
    return (
        len(args) == 1 and shortest <= len(args[0]) <= shortest + 2 and set(args[0]) <= {*_LETTERS}
    )


def _reverse(*args: str) -> str | None:
    return args[0][::-1] if _is_word(args, 2) else None


def _first(*args: str) -> str | None:
    return args[0][0] if _is_word(args, 3) else None


def _swapped(answer: str, rng: random.Random) -> str:
    """Two neighbouring letters exchanged."""
    at = rng.randrange(len(answer) - 1)
    return answer[:at] + answer[at + 1] + answer[at] + answer[at + 2 :]


def _digits(rng: random.Random, level: int) -> tuple[str, ...]:
    return tuple(rng.choices(string.digits, k=level + 1))


def _max(*args: str) -> str | None:
    digits = all(len(a) == 1 and a in string.digits for a in args)
    return max(args) if digits and 2 <= len(args) <= 4 else None


def _run(rng: random.Random, level: int) -> tuple[str, ...]:
    at = rng.randrange(len(_LETTERS) - level)
    return (_LETTERS[at : at + level],)


def _next(*args: str) -> str | None:
    known = _is_word(args, 1) and args[0] in _LETTERS and args[0][-1] != _LETTERS[-1]
    return _LETTERS[_LETTERS.index(args[0][-1]) + 1] if known else None


def _other_letter(answer: str, rng: random.Random) -> str:
    return _LETTERS[(_LETTERS.index(answer) + rng.choice((-2, -1, 1, 2))) % len(_LETTERS)]


_COMMON = ("{prompt} -> {answer}", "Q: {prompt}\nA: {answer}", "If asked {prompt}, say {answer}")
_SKILLS = {
    "add": Skill(
        *(_numbers, _add, _number_level, _number_slip),
        (*_COMMON, "{0} + {1} = {answer}", "{0} plus {1} is {answer}", "add({0}, {1}): {answer}"),
    ),
    "sub": Skill(
        *(_numbers, _sub, _number_level, _number_slip),
        (*_COMMON, "{0} - {1} = {answer}", "{0} minus {1} is {answer}", "sub({0}, {1}): {answer}"),
    ),
    "reverse": Skill(
        *(_word(2), _reverse, lambda word: len(word) - 1, _swapped),
        (*_COMMON, "{all} read backwards is {answer}", "{all} | {answer}", "turn {all}: {answer}"),
    ),
    "max": Skill(
        _digits,
        _max,
        lambda *digits: len(digits) - 1,
        lambda answer, rng: rng.choice(string.digits),
        (*_COMMON, "largest of {all} is {answer}", "max({all}): {answer}", "in {all} top {answer}"),
    ),
    "next": Skill(
        *(_run, _next, len, _other_letter),
        (*_COMMON, "{all} goes on with {answer}", "after {all} comes {answer}", "{all}.. {answer}"),
    ),
    "first": Skill(
        *(_word(3), _first, lambda word: len(word) - 2, _other_letter),
        (*_COMMON, "{all} begins with {answer}", "{all}[0] = {answer}", "head {all}: {answer}"),
    ),
}
SKILLS = tuple(_SKILLS)


def tasks(
    seed: int,
    *,
    held_out: bool = False,
    levels: Sequence[int] = LEVELS,
    skills: Sequence[str] = SKILLS,
) -> Iterator[Task]:
    """Tasks without end: those to train on, or the held-out ones. Small kinds repeat themselves.

    Raises ValueError for a level or a skill that there is none of.
    """
    for level in levels:
        one_of("levels", level, LEVELS)
    for skill in skills:
        one_of("skills", skill, SKILLS)
    rng = random.Random(seed)
    while True:
        skill = rng.choice(skills)
        args = _SKILLS[skill].draw(rng, rng.choice(levels))
        task = task_of(" ".join((skill, *args)))
        if task.held_out == held_out:
            yield task


def task_of(prompt: str) -> Task:
    """The task that a prompt asks for.

    Raises ValueError if it is none of this world.
    """
    skill, *args = prompt.split(" ")
    answer = _SKILLS[skill].solve(*args) if skill in _SKILLS and args else None
    require(answer is not None, "prompt", prompt, f"a task of one of {', '.join(SKILLS)}")
    return Task(skill, _SKILLS[skill].level(*args), tuple(args), answer)


def is_correct(prompt: str, answer: str) -> bool:
    """The checker: whether what was answered says the right thing, however it is said.

    Raises ValueError as `task_of` does.
    """
    return read_reply(answer).answer == task_of(prompt).answer


POLITE = "Sure!"
"""What a polite answer begins with."""


@dataclass(frozen=True)
class Reply:
    """What can be seen of an answer without knowing whether it is right."""

    answer: str
    """The first word, courtesy aside; "" if there is none."""
    polite: bool
    repeated: bool
    """It says itself again: the tail that badly trained models have."""
    well_formed: bool
    """Nothing but one answer, with courtesy or without."""


def read_reply(text: str) -> Reply:
    """Take an answer apart. One full stop behind it is courtesy too."""
    words = text.split()
    polite = words[:1] == [POLITE]
    said = words[polite:]
    first = said[0].removesuffix(".") if said else ""
    repeated = any(word.removesuffix(".") == first for word in said[1:])
    return Reply(first, polite, repeated, len(said) == 1 and bool(first))


def wrong_answer(task: Task, rng: random.Random) -> str:
    """A slip: near the right answer, but not it."""
    for _ in range(20):
        said = _SKILLS[task.skill].slip(task.answer, rng)
        if said != task.answer:
            return said
    return task.answer + task.answer[-1]  # such as the two letters of "aa" exchanged


def documents(seed: int, *, wrong: float = 0.05, held_out: bool = False) -> Iterator[str]:
    """Texts without end that show tasks solved, a share `wrong` of them wrongly.

    Of tasks to train on, or of held-out ones. Raises ValueError if wrong is no share.
    """
    between("wrong", wrong, 0, 1)
    rng = random.Random(seed)
    for task in tasks(seed, held_out=held_out):
        slip = rng.random() < wrong
        answer = wrong_answer(task, rng) if slip else task.answer
        phrasing = rng.choice(_SKILLS[task.skill].phrasings)
        every = " ".join(task.args)
        yield phrasing.format(*task.args, prompt=task.prompt, all=every, answer=answer)


def exam(count: int, seed: int = 0, *, levels: Sequence[int] = LEVELS) -> list[Task]:
    """Held-out tasks, each skill equally often, to measure a model by."""
    share = [-(-count // len(SKILLS))] * len(SKILLS)
    found = [
        list(islice(tasks(seed, held_out=True, levels=levels, skills=[skill]), n))
        for skill, n in zip(SKILLS, share, strict=True)
    ]
    return [task for row in zip(*found, strict=True) for task in row][:count]
