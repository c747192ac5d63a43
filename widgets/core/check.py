"""What a notebook calls: `check` says what is wrong, `hint` helps in three steps.

`fill` lets CI solve a chapter's exercises.
"""

import copy
import importlib
import os
import pkgutil
import re
import traceback

from widgets.core.exercise import Exercise
from widgets.core.judge import Mistake, said_by
from widgets.core.progress import ledger

_NAME = re.compile(r"(\d\d)\.(\d+)")
_FILE = re.compile(r"e(\d+)_\w+")
_LEVELS = {1: "the idea", 2: "the structure", 3: "nearly the code"}


def check(name: str, answer: object) -> bool:
    """Say whether an answer is right, and if not, which mistake it is; True if it is right.

    Never raises for a learner, whatever their code does. With LLAMA3LIB_STRICT=1 (in CI) an
    answer that is not right raises AssertionError.
    """
    exercise = find_exercise(name)
    verdict = None
    try:
        if answer is None or answer is Ellipsis:
            raise NotImplementedError
        exercise.check(answer)
    except NotImplementedError:
        verdict = f"… {name}: not tried yet. hint({name!r}) gives the idea."
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit too: a learner's code may do anything
        verdict = f"✗ {name}: {_words(error)}{_own_line(error)}"
    else:
        print(f"✓ {name}: right")
        ledger().record_check(name, passed=True)
        return True
    print(verdict)
    if not verdict.startswith("…"):
        ledger().record_check(name, passed=False)
    if os.environ.get("LLAMA3LIB_STRICT") == "1":
        raise AssertionError(f"{name} is not solved: {verdict}")
    return False


def hint(name: str, level: int = 1) -> None:
    """Print a hint: 1 the idea, 2 the structure, 3 nearly the code."""
    hints = find_exercise(name).hints
    if level not in _LEVELS:
        raise ValueError(f"level={level!r} is not allowed: 1, 2 or 3")
    print(f"Hint {level} of 3, {_LEVELS[level]}: {hints[level - 1]}")
    if level < 3:
        print(f"More: hint({name!r}, {level + 1})")
    ledger().record_hint(name, level)


def exercises(chapter: str) -> dict[str, str]:
    """Number of each exercise of a chapter -> the module it stands in, found by its file's name.

    Raises ValueError if two files have one number.
    """
    package = f"widgets.ch{chapter}.exercises"
    try:
        path = importlib.import_module(package).__path__
    except ModuleNotFoundError as error:
        if error.name not in (f"widgets.ch{chapter}", package):
            raise
        return {}
    files = (_FILE.fullmatch(one.name) for one in pkgutil.iter_modules(path))
    found: dict[str, str] = {}
    for file in sorted(filter(None, files), key=lambda file: int(file[1])):
        if (name := f"{chapter}.{file[1]}") in found:
            raise ValueError(f"two files for exercise {name}: {found[name]} and {file[0]}")
        found[name] = f"{package}.{file[0]}"
    return found


def find_exercise(name: str) -> Exercise:
    """The exercise of that number. Raises ValueError if there is none."""
    matched = _NAME.fullmatch(name)
    known = exercises(matched[1]) if matched else {}
    if name in known:
        return importlib.import_module(known[name]).E
    allowed = f"use one of {', '.join(known)}" if known else "names look like '01.1'"
    raise ValueError(f"name={name!r} is not an exercise: {allowed}")


def _words(error: BaseException) -> str:
    return str(error) if isinstance(error, Mistake) else f"your code stopped with {said_by(error)}"


def _own_line(error: BaseException) -> str:
    """Where in the learner's own cell it happened, if an error of theirs is behind it."""
    cause = error.__cause__ or (None if isinstance(error, Mistake) else error)
    if cause is None:
        return ""
    frames = traceback.extract_tb(cause.__traceback__)
    own = [f for f in frames if "ipykernel" in f.filename or f.filename.startswith("<")]
    if not own:
        return ""
    where = f"\n   In {own[-1].name}, line {own[-1].lineno}"
    return f"{where}: {own[-1].line}" if own[-1].line else where


def solutions_from(notebook: object) -> dict[str, str]:
    """Source of every cell tagged `solution:NAME`. Raises ValueError if a name comes twice."""
    found: dict[str, str] = {}
    for cell, name in _tagged(notebook, "solution:"):
        if name in found:
            raise ValueError(f"solution {name!r} appears twice")
        found[name] = cell.source
    return found


def fill(notebook: object, solutions: dict[str, str]) -> object:
    """A copy in which each cell tagged `exercise:NAME` holds the solution of that name.

    Raises ValueError if an exercise has no solution or a solution no exercise.
    """
    filled = copy.deepcopy(notebook)
    left = dict(solutions)
    for cell, name in _tagged(filled, "exercise:"):
        if name not in left:
            raise ValueError(f"exercise {name!r} has no solution")
        cell.source = left.pop(name)
    if left:
        raise ValueError(f"solutions without an exercise: {', '.join(sorted(left))}")
    return filled


def _tagged(notebook: object, prefix: str) -> list[tuple[object, str]]:
    return [
        (cell, tag.removeprefix(prefix))
        for cell in notebook.cells
        for tag in cell.metadata.get("tags", ())
        if tag.startswith(prefix)
    ]
