"""Exercises: `check` says what is wrong, `hint` helps in three steps, `fill` lets CI solve them.

The checkers of chapter NN live in `widgets.chNN.exercises`: a table CHECKS of functions that raise
`Mistake` on a wrong answer, and a table HINTS of three texts each.
"""

import copy
import importlib
import os
import re
import traceback
from types import ModuleType

from widgets.core.judge import Mistake
from widgets.core.progress import ledger

_NAME = re.compile(r"(\d\d)\.\d+")
_LEVELS = {1: "the idea", 2: "the structure", 3: "nearly the code"}


def check(name: str, answer: object) -> bool:
    """Say whether an answer is right, and if not, which mistake it is; True if it is right.

    Never raises for a learner, whatever their code does. With LLAMA3LIB_STRICT=1 (in CI) an
    answer that is not right raises AssertionError.
    """
    checker = _table(name, "CHECKS")
    told = None
    try:
        if answer is None or answer is Ellipsis:
            raise NotImplementedError
        checker(answer)
    except NotImplementedError:
        told = f"… {name}: not tried yet. hint({name!r}) gives the idea."
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit too: a learner's code may do anything
        told = f"✗ {name}: {_words(error)}{_own_line(error)}"
    else:
        print(f"✓ {name}: right")
        ledger().record_check(name, passed=True)
        return True
    print(told)
    if not told.startswith("…"):
        ledger().record_check(name, passed=False)
    if os.environ.get("LLAMA3LIB_STRICT") == "1":
        raise AssertionError(f"{name} is not solved: {told}")
    return False


def hint(name: str, level: int = 1) -> None:
    """Print a hint: 1 the idea, 2 the structure, 3 nearly the code."""
    hints = _table(name, "HINTS")
    if level not in _LEVELS:
        raise ValueError(f"level={level!r} is not allowed: 1, 2 or 3")
    print(f"Hint {level} of 3, {_LEVELS[level]}: {hints[level - 1]}")
    if level < 3:
        print(f"More: hint({name!r}, {level + 1})")
    ledger().record_hint(name, level)


def _chapter(name: str) -> ModuleType:
    found = _NAME.fullmatch(name)
    try:
        if found:
            return importlib.import_module(f"widgets.ch{found[1]}.exercises")
    except ModuleNotFoundError as error:
        if error.name not in (f"widgets.ch{found[1]}", f"widgets.ch{found[1]}.exercises"):
            raise
    raise ValueError(f"name={name!r} is not an exercise: names look like '01.1'")


def _table(name: str, table: str) -> object:
    entries = getattr(_chapter(name), table)
    if name not in entries:
        raise ValueError(f"name={name!r} is not an exercise: use one of {', '.join(entries)}")
    return entries[name]


def _words(error: BaseException) -> str:
    """What an error says. Even that may fail when the class is the learner's own."""
    try:
        text = str(error)
    except Exception:
        text = "(its message cannot be shown)"
    if isinstance(error, Mistake):
        return text
    return f"your code stopped with {type(error).__name__}" + (f": {text}" if text else "")


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
