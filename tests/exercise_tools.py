"""What the tests of every chapter's checkers share."""

import importlib.util
from pathlib import Path
from types import ModuleType


def load_answers(chapter: str) -> ModuleType:
    """`tests/course/chNN/answers.py`, for "NN_REST" `answers_REST.py`: right and wrong answers."""
    number, _, rest = chapter.partition("_")
    name = f"answers_{rest}" if rest else "answers"
    path = Path(__file__).parent / "course" / f"ch{number}" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
