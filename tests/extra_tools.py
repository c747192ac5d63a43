"""An environment with one extra and nothing else, out of the packages that are installed here.

What the extra asks for, and what that asks for in turn, is linked into a new virtual environment.
So a package that an extra forgets is missing there, as it would be after pip install on an empty
machine; no network is needed.
"""

import functools
import importlib.metadata
import tomllib
import venv
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]


def needed(*extras):
    """Names of all distributions that the project needs with these extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    own = project["optional-dependencies"]
    queue = [*project["dependencies"], *(line for extra in extras for line in own[extra])]
    found, seen = set(), set()
    while queue:
        wanted = Requirement(queue.pop())
        name, inner = canonicalize_name(wanted.name), tuple(sorted(wanted.extras))
        if (name, inner) in seen:
            continue
        seen.add((name, inner))
        if name == "llama3lib":
            queue += [line for extra in inner for line in own[extra]]
            continue
        found.add(name)
        for line in _requires(name):
            marker = Requirement(line).marker
            if marker is None or any(marker.evaluate({"extra": one}) for one in ("", *inner)):
                queue.append(line.split(";")[0])
    return found


@functools.cache
def _requires(name):
    return importlib.metadata.requires(name) or ()


def environment(folder, *extras):
    """A virtual environment with these extras; returns the folder of its programs."""
    venv.create(folder, symlinks=True)
    site = next(folder.glob("lib/python*/site-packages"))
    for name in needed(*extras):
        distribution = importlib.metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            (site / top).symlink_to(distribution.locate_file(top))
    (site / "llama3lib").symlink_to(ROOT / "llama3lib")
    return folder / "bin"
