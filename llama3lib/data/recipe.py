"""Recipes: which steps, in which order, with which settings, in a TOML file that a person can read.

    title = "My web"

    [[steps]]
    use = "extract"

    [[steps]]
    use = "language"
    keep = ["en", "de"]

`STEPS` names all steps that may be used; the fields of each are its settings.
"""

import dataclasses
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llama3lib.data.dedup.lines import DropRepeatedLines
from llama3lib.data.dedup.minhash import DropNearDuplicates
from llama3lib.data.dedup.urls import KeepNewestURL
from llama3lib.data.document import Step
from llama3lib.data.extract import Extract, StripMarkdown
from llama3lib.data.filters import DropOutliers, DropRepetition, DropWords, GopherRules
from llama3lib.data.language import IdentifyLanguage
from llama3lib.data.mixture import DownsampleKinds
from llama3lib.data.pii import MaskPII
from llama3lib.data.quality import KeepBestPerLanguage, KeepQuality, TagKind
from llama3lib.utils.settings import convert, read_toml, refuse_unknown

_CLASSES = (
    DownsampleKinds,
    DropNearDuplicates,
    DropOutliers,
    DropRepeatedLines,
    DropRepetition,
    DropWords,
    Extract,
    GopherRules,
    IdentifyLanguage,
    KeepBestPerLanguage,
    KeepNewestURL,
    KeepQuality,
    MaskPII,
    StripMarkdown,
    TagKind,
)
STEPS = {kind.name: kind for kind in _CLASSES}


@dataclass(frozen=True)
class Recipe:
    """A title and the steps, ready to run."""

    title: str
    steps: tuple[Step, ...]

    def describe(self) -> list[dict[str, Any]]:
        """The steps with all their settings: what a run was made with."""
        return [{"use": step.name, **settings_of(step)} for step in self.steps]


def settings_of(step: Step) -> dict[str, Any]:
    """A step's settings for JSON or TOML."""
    fields = [field for field in dataclasses.fields(step) if field.repr]
    return {field.name: getattr(step, field.name) for field in fields}


def load_recipe(path: str | Path) -> Recipe:
    """Read a recipe file.

    Raises ValueError if the file is missing or no TOML, or a name or a setting in it is not known;
    the message names the nearest one that is.
    """
    return make_recipe(read_toml(path, "recipe"), folder=Path(path).parent)


def make_recipe(table: Mapping[str, Any], folder: Path | None = None) -> Recipe:
    """A recipe from the contents of its file; paths in it are relative to `folder`.

    Raises ValueError as `load_recipe` does.
    """
    refuse_unknown("recipe", table, ("title", "steps"))
    rows = table.get("steps")
    if not isinstance(rows, Sequence) or isinstance(rows, str) or not rows:
        raise ValueError("steps is not allowed to be empty: one [[steps]] table for each step")
    steps = tuple(make_step(row, folder) for row in rows)
    names = [step.name for step in steps]
    if double := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"use={double[0]!r} is there twice; each step may be used once")
    return Recipe(str(table.get("title", "Recipe")), steps)


def make_step(row: Mapping[str, Any], folder: Path | None = None) -> Step:
    """A step from its table in the recipe: `use` names it, the rest are its settings.

    Raises ValueError for a name, a setting or a type of value that is not known.
    """
    if not isinstance(row, Mapping) or not isinstance(row.get("use"), str):
        raise ValueError(f"steps: {row!r} is not allowed: a table with use = NAME")
    use = row["use"]
    refuse_unknown("use", [use], tuple(STEPS))
    kind = STEPS[use]
    fields = {field.name: field for field in dataclasses.fields(kind) if field.repr}
    settings = {name: value for name, value in row.items() if name != "use"}
    refuse_unknown(use, settings, tuple(fields))
    for name, field in fields.items():
        if field.default is dataclasses.MISSING and name not in settings:
            raise ValueError(f"{use}.{name} is missing")
    values = {n: convert(fields[n].type, value, f"{use}.{n}") for n, value in settings.items()}
    if folder is not None and "model" in values:
        values["model"] = str(folder / values["model"])
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{use}: {error}") from None


WEB = """\
title = "Web pages, in the order of section 3.1.1"

[[steps]]
use = "extract"

[[steps]]
use = "url_dedup"

[[steps]]
use = "strip_markdown"

[[steps]]
use = "language"

[[steps]]
use = "minhash_dedup"
bands = 20  # of 8 rows: a pair of similarity 0.8 is found with probability 0.97
per_language = true

[[steps]]
use = "line_dedup"
per_language = true

[[steps]]
use = "repetition"  # limits one and a half times Gopher's: manuals repeat signatures and phrases
coverage = [0.225, 0.21, 0.195, 0.18, 0.165, 0.15]
top = [0.30, 0.27, 0.24]

[[steps]]
use = "word_list"
words = []

[[steps]]
use = "gopher"
least_words = 30
letters = 0.6  # pages with sums have many figures

[[steps]]
use = "outliers"

[[steps]]
use = "pii"
"""


def web_recipe(**changes: Mapping[str, Any]) -> Recipe:
    """The standard recipe for web pages; `changes` are settings by step: `gopher={...}`.

    Raises ValueError for a step that the recipe doesn't have.
    """
    table = tomllib.loads(WEB)
    refuse_unknown("web_recipe", changes, [row["use"] for row in table["steps"]])
    for row in table["steps"]:
        row |= changes.get(row["use"], {})
    return make_recipe(table)
