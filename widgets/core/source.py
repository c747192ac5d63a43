"""The library's own source, read at the moment it is shown."""

import inspect
from pathlib import Path
from typing import Any

import llama3lib

_ROOT = Path(llama3lib.__file__).parent.parent


def source_of(thing: object) -> tuple[str, str]:
    """File and line, and the source text, of a function, method or class.

    Raises ValueError if it has no Python source.
    """
    thing = inspect.unwrap(thing) if callable(thing) else thing
    try:
        lines, first = inspect.getsourcelines(thing)
        file = Path(inspect.getsourcefile(thing))
    except (TypeError, OSError):
        raise ValueError(f"{thing!r} has no Python source to show") from None
    place = file.relative_to(_ROOT).as_posix() if file.is_relative_to(_ROOT) else file.name
    return f"{place}, line {first}", inspect.cleandoc("\n" + "".join(lines))


class Source:
    """Source text that a notebook shows highlighted and a terminal shows plain."""

    def __init__(self, thing: object) -> None:
        self.place, self.text = source_of(thing)

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        fence = "`" * 4
        return {
            "text/plain": f"# {self.place}\n{self.text}",
            "text/markdown": f"*{self.place}*\n\n{fence}python\n{self.text}\n{fence}",
        }

    def __repr__(self) -> str:
        return f"# {self.place}\n{self.text}"


def show_source(thing: object) -> Source:
    """The source of a function, method or class of the library, as a cell's result."""
    return Source(thing)
