"""The learner's copy: my-course/ is made from chapters/, and new editions are brought into it.

    python -m widgets.core.learner_copy                 make it, or bring in what is new
    python -m widgets.core.learner_copy start-over 03   a chapter anew; the old one is kept beside

A copy has no outputs when it is made, so no answer stands before its question. `.base` in it
holds each chapter as it was copied: what a learner changed is the difference to that.
"""

import io
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import nbformat

from llama3lib.utils.files import atomic_write
from widgets.core.merge_cells import Cells, cleared, merge, same

ROOT = Path(__file__).parents[2]
COURSE = "my-course"


def update(root: Path = ROOT) -> Iterator[str]:
    """Make my-course/ or bring it up to date; a line for whatever a learner should know.

    A chapter that cannot be read or written is told and left as it is; the others go on.
    """
    course = root / COURSE
    if not course.exists():
        yield f"{COURSE}/ is made: your own copy of the chapters, to work and write in."
    for edition in _chapters(root):
        try:
            yield from _bring(edition, course)
        except (OSError, ValueError) as error:
            yield f"{COURSE}/{edition.name} is left as it was: {error}"


def start_over(number: str, root: Path = ROOT) -> Iterator[str]:
    """Make a chapter ("03") new and keep the old one beside it.

    Raises ValueError if there is no such chapter.
    """
    found = [file for file in _chapters(root) if file.name[:2] == number]
    if not found:
        numbers = ", ".join(file.name[:2] for file in _chapters(root))
        raise ValueError(f"chapter={number!r} is not allowed: use one of {numbers}")
    (edition,) = found
    new, mine = _read(edition), root / COURSE / edition.name
    if mine.exists():
        yield f"Your chapter {number} is kept as {COURSE}/{_aside(mine, 'old').name}."
    _begin(new, mine)
    yield f"{COURSE}/{mine.name} is new. Locked predictions and the report stay as they are."


def _bring(edition: Path, course: Path) -> Iterator[str]:
    """Bring one chapter into the course."""
    new, mine = _read(edition), course / edition.name
    if not mine.exists():
        _begin(new, mine)
        return
    try:
        book = _read(mine)
    except ValueError as error:
        kept = _aside(mine, "damaged")
        _begin(new, mine)
        yield f"{COURSE}/{mine.name} cannot be read ({error})."
        yield f"  It is kept as {COURSE}/{kept.name}, and a new copy stands in its place."
        return
    base = _base(mine)
    if base is not None and _equal(base, cleared(new.cells)):
        return
    book.cells, told = merge(base or [], book.cells, new.cells)
    book.nbformat_minor = max(book.nbformat_minor, 5)
    _write(book, mine)
    _keep_base(new, mine)  # last: after a crash before this line the same merge changes nothing
    yield f"{COURSE}/{mine.name}: a new edition of the chapter is in; what you wrote is kept."
    yield from (f"  {line}." for line in told)


def _begin(new: nbformat.NotebookNode, mine: Path) -> None:
    new.cells = cleared(new.cells)
    _write(new, mine)
    _keep_base(new, mine)


def _chapters(root: Path) -> list[Path]:
    return sorted((root / "chapters").glob("[0-9][0-9]_*.ipynb"))


def _base_path(mine: Path) -> Path:
    return mine.parent / ".base" / mine.name


def _base(mine: Path) -> Cells | None:
    """The chapter as it was copied; None if that is lost, and every difference is the learner's."""
    try:
        return _read(_base_path(mine)).cells
    except (OSError, ValueError):
        return None


def _keep_base(new: nbformat.NotebookNode, mine: Path) -> None:
    kept = nbformat.NotebookNode(new | {"cells": cleared(new.cells)})
    _write(kept, _base_path(mine))


def _equal(base: Cells, new: Cells) -> bool:
    """Whether two editions say the same, under the same ids and tags."""
    if [(cell.id, cell.metadata) for cell in base] != [(cell.id, cell.metadata) for cell in new]:
        return False
    return all(map(same, base, new))


def _read(path: Path) -> nbformat.NotebookNode:
    """A notebook. Raises ValueError if it is none."""
    text = path.read_text(encoding="utf-8")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of ids that are missing or double: we mend them
            book = nbformat.reads(text, as_version=4)
        good = all(
            isinstance(c.source, str) and c.cell_type and c.metadata is not None for c in book.cells
        )
    except Exception as error:  # whatever stands in a damaged file, nbformat may trip over it
        reason = str(error).partition("\n")[0][:120]
        raise ValueError(f"it is no notebook: {reason}") from error
    if not good:
        raise ValueError("it is no notebook: a cell has no text")
    return book


def _write(book: nbformat.NotebookNode, path: Path) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(nbformat.writes(book) + "\n", encoding="utf-8", newline="\n")


def _aside(path: Path, word: str) -> Path:
    """Rename a notebook to a free name beside it; the new path."""
    names = (f"{path.stem}.{word}{number}.ipynb" for number in ["", *range(2, 10_000)])
    kept = next(path.with_name(name) for name in names if not path.with_name(name).exists())
    os.rename(path, kept)
    return kept


def main(words: Sequence[str]) -> int:
    """Command line."""
    if words and (words[0] != "start-over" or len(words) != 2):
        print("Say which chapter: start-over 03")
        return 2
    if isinstance(sys.stdout, io.TextIOWrapper):  # a line of a cell may hold any sign
        sys.stdout.reconfigure(errors="replace")
    try:
        for line in start_over(words[1]) if words else update():
            print(line, flush=True)
    except (OSError, ValueError) as error:
        print(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
