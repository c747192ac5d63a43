"""A run of a recipe as files: shards, phases, notes, decisions. Every file is written whole.

The input is cut into shards. A recipe is cut at its corpus steps into phases: the documents of a
shard flow through all document steps of a phase, then a note is taken for the corpus step that
comes next. When all shards are done, the step decides, and the next phase begins by applying its
decision. One phase of one shard is a task: it reads some files and writes others, and does nothing
else. So it does not matter who runs a task, how often, or what was killed before.
"""

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from llama3lib.data.document import (
    CorpusStep,
    Document,
    DocumentStep,
    Dropped,
    refused,
    verdict,
)
from llama3lib.data.funnel import Funnel, write_report
from llama3lib.data.readers import (
    Limits,
    input_files,
    name_of,
    other_files,
    read_page,
    reader_of,
    to_json,
    write_jsonl,
)
from llama3lib.data.recipe import Recipe
from llama3lib.utils import strict_json
from llama3lib.utils.files import atomic_write
from llama3lib.utils.locks import LOCK, alone_in
from llama3lib.utils.require import require

_GROUP_BYTES = 64 << 20  # small files are put together into shards of about this size


@dataclass(frozen=True)
class Phase:
    """Steps that one pass over the documents can do.

    First `decided` (a corpus step whose decision is known) is applied, then `steps`, then a note
    is taken for `noted`, the corpus step that follows.
    """

    number: int
    decided: CorpusStep | None
    steps: tuple[DocumentStep, ...]
    noted: CorpusStep | None


def phases(recipe: Recipe) -> list[Phase]:
    """Cut a recipe at its corpus steps."""
    found: list[Phase] = []
    decided: CorpusStep | None = None
    steps: list[DocumentStep] = []
    for step in (*recipe.steps, None):
        if step is None or isinstance(step, CorpusStep):
            found.append(Phase(len(found), decided, tuple(steps), step))
            decided, steps = step, []
        else:
            steps.append(step)
    return found


@dataclass(frozen=True)
class Plan:
    """All that a task must know: recipe, input, and the folder where everything is written."""

    recipe: Recipe
    source: Path
    folder: Path
    limits: Limits = field(default_factory=Limits)

    @cached_property
    def phases(self) -> list[Phase]:
        """The phases, in order."""
        return phases(self.recipe)

    @cached_property
    def shards(self) -> list[list[Path]]:
        """The input files of each shard: archives one by one, small pages in groups."""
        groups: list[list[Path]] = []
        size = _GROUP_BYTES
        for file in input_files(self.source):
            page = reader_of(file) is read_page
            if page and size < _GROUP_BYTES:
                groups[-1].append(file)
            else:
                groups.append([file])
                size = 0 if page else _GROUP_BYTES
            size += file.stat().st_size if page else 0
        return groups

    def path(self, phase: int, what: str, shard: int | None = None) -> Path:
        """Where a file of a phase is: `documents`, `notes`, `dropped`, `done` or `decision`."""
        if shard is None:
            return self.folder / "work" / f"phase-{phase}" / f"{what}.json"
        last = phase == len(self.phases) - 1
        if what == "documents" and last:
            return self.folder / "documents" / f"part-{shard:05}.jsonl"
        suffix = "json" if what == "done" else "jsonl"
        return self.folder / "work" / f"phase-{phase}" / what / f"part-{shard:05}.{suffix}"

    def is_done(self, phase: int, shard: int) -> bool:
        """Whether a task has been finished and all that it wrote is still there."""
        written = ["done", "dropped", "documents"]
        written += ["notes"] if self.phases[phase].noted is not None else []
        return all(self.path(phase, what, shard).is_file() for what in written)

    def identity(self) -> dict[str, Any]:
        """What a run is made of; a folder belongs to one identity."""
        root = self.source if self.source.is_dir() else self.source.parent
        files = [file for shard in self.shards for file in shard]
        return {
            "format": 2,
            "title": self.recipe.title,
            "steps": self.recipe.describe(),
            "limits": vars(self.limits),
            "input": [[name_of(file, root), file.stat().st_size] for file in files],
        }


def check_folder(plan: Plan) -> bool:
    """Whether an earlier run is to be resumed in the output folder; nothing is written.

    Raises ValueError if the folder holds something else, or a run of another recipe or input, or
    lies within the input.
    """
    note = plan.folder / "run.json"
    ok = not plan.folder.resolve().is_relative_to(plan.source.resolve())
    require(ok, "output", str(plan.folder), "it lies within the input")
    identity = json.loads(json.dumps(plan.identity()))
    if note.is_file():
        if _read_identity(note) != identity:
            raise ValueError(
                f"output={str(plan.folder)!r} is not allowed: it has a run with another recipe or "
                "input; take an empty folder"
            )
        return True
    ok = not plan.folder.exists() or (plan.folder.is_dir() and not any(_foreign(plan.folder)))
    require(ok, "output", str(plan.folder), "it is not an empty folder")
    return False


@contextlib.contextmanager
def open_folder(plan: Plan) -> Iterator[None]:
    """Have the output folder for this run, and alone inside the block.

    Raises ValueError as `check_folder`, and if another process is at work there.
    """
    check_folder(plan)  # before the lock makes a folder
    with alone_in(plan.folder, "output"):
        if not check_folder(plan):  # somebody else may have begun meanwhile
            text = json.dumps(plan.identity(), indent=2) + "\n"
            with atomic_write(plan.folder / "run.json") as file:
                file.write_text(text, encoding="utf-8")
        yield


def _read_identity(path: Path) -> Any:
    """What `run.json` says; None if it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None


def _foreign(folder: Path) -> Iterator[Path]:
    """What is in a folder, but for what a run that was killed at its very start leaves there."""
    own = (".run.json.*.tmp", LOCK)
    return (path for path in folder.iterdir() if not any(map(path.match, own)))


def read_shard(plan: Plan, phase: int, shard: int) -> Iterator[Document | Dropped]:
    """What flows into a phase: the input's documents, or what the phase before has written.

    Files that no reader knows are told with the first shard.
    """
    if phase > 0:
        yield from read_part(plan.path(phase - 1, "documents", shard))
        return
    root = plan.source if plan.source.is_dir() else plan.source.parent
    for file in other_files(plan.source) if shard == 0 else ():
        yield refused(name_of(file, root), "other file", file.suffix or "no suffix")
    for file in plan.shards[shard]:
        yield from reader_of(file)(file, root, plan.limits)


def read_part(path: Path) -> Iterator[Document]:
    """The documents of a file that `write_jsonl` wrote."""
    with open(path, encoding="utf-8") as file:
        for line in file:
            yield Document(**json.loads(line))


def read_decision(plan: Plan, phase: Phase) -> Any:
    """The prepared decision that a phase applies; None if it applies none."""
    if phase.decided is None:
        return None
    text = plan.path(phase.number - 1, "decision").read_text(encoding="utf-8")
    return phase.decided.prepare(json.loads(text))


def apply_decision(
    step: CorpusStep, decision: Any, documents: Iterable[Document]
) -> Iterator[Document | Dropped]:
    """Apply a corpus step to a stream, its decision being known."""
    for document in documents:
        yield verdict(step.name, document, step.apply(document, decision))


Watch = Callable[[str, Iterator[Any]], Iterator[Any]]
"""Passes on what flows through a task and may tell how much; the text says of what."""


def run_task(plan: Plan, phase: Phase, shard: int, watch: Watch | None = None) -> None:
    """One phase of one shard, from file to file; does nothing if it has been done before."""
    if plan.is_done(phase.number, shard):
        return
    funnel = Funnel(keep_dropped=True)
    funnel.count("read")
    items = funnel.leaving("read", read_shard(plan, phase.number, shard))
    if watch is not None:
        items = watch(f"shard {shard + 1} of {len(plan.shards)}", items)
    if phase.decided is not None:
        name = phase.decided.name
        funnel.count(name)
        entering = funnel.entering(name, items)
        decision = read_decision(plan, phase)
        items = funnel.leaving(name, apply_decision(phase.decided, decision, entering))
    for step in phase.steps:
        funnel.count(step.name)
        items = funnel.leaving(step.name, step(funnel.entering(step.name, items)))
    finish_task(plan, phase, shard, list(items), funnel)


def finish_task(
    plan: Plan, phase: Phase, shard: int, documents: list[Document], funnel: Funnel
) -> None:
    """Write what a task has made; the mark that it is done comes last."""
    number = phase.number
    read = funnel.count("read")  # readers have no input to count: what they gave and refused
    read.documents_in = read.documents_out + sum(read.reasons.values())
    read.characters_in = read.characters_out
    if number > 0:
        funnel.counts.remove(read)
    fallen = (strict_json.dumps(Fallen.of(item)) for item in funnel.dropped or ())
    _write_lines(plan.path(number, "dropped", shard), fallen)
    if phase.noted is not None:
        noted = phase.noted
        notes = (json.dumps([doc.id, noted.collect(doc)], ensure_ascii=False) for doc in documents)
        _write_lines(plan.path(number, "notes", shard), notes)
    write_jsonl(documents, plan.path(number, "documents", shard))
    with atomic_write(plan.path(number, "done", shard)) as file:
        file.write_text(json.dumps(funnel.as_dict()) + "\n", encoding="utf-8")


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        for line in lines:
            file.write(line.encode("utf-8", "replace") + b"\n")


def read_notes(plan: Plan, phase: int) -> Iterator[tuple[str, Any]]:
    """The notes of all shards, in the order of the documents."""
    for shard in range(len(plan.shards)):
        yield from read_shard_notes(plan, phase, shard)


def read_shard_notes(plan: Plan, phase: int, shard: int) -> Iterator[tuple[str, Any]]:
    """The notes of one shard."""
    with open(plan.path(phase, "notes", shard), encoding="utf-8") as file:
        for line in file:
            name, note = json.loads(line)
            yield name, note


def run_decision(plan: Plan, phase: Phase) -> None:
    """Let the corpus step after a phase decide, from the notes of all shards."""
    if phase.noted is None or plan.path(phase.number, "decision").is_file():
        return
    write_decision(plan, phase, phase.noted.decide(read_notes(plan, phase.number)))


def write_decision(plan: Plan, phase: Phase, decision: Any) -> None:
    """Write a corpus step's decision for the next phase to read."""
    with atomic_write(plan.path(phase.number, "decision")) as file:
        file.write_text(json.dumps(decision, ensure_ascii=False), encoding="utf-8")


def report(plan: Plan) -> Funnel:
    """Put the accounts of all tasks together; write `funnel.json` and `funnel.html`."""
    funnel = Funnel()
    for phase in plan.phases:
        for shard in range(len(plan.shards)):
            text = plan.path(phase.number, "done", shard).read_text(encoding="utf-8")
            funnel.add(Funnel.from_dict(json.loads(text)))
    write_report(funnel, plan.folder, plan.recipe.title)
    return funnel


class Fallen(NamedTuple):
    """A line of the files below `dropped`: which document, or record, fell where, and why."""

    id: str
    step: str
    reason: str
    detail: str
    url: str

    @classmethod
    def of(cls, item: Dropped) -> "Fallen":
        """The line for an item."""
        url = str(item.document.metadata.get("url") or "")
        return cls(item.document.id, item.step, item.reason, item.detail, url)


def dropped(plan: Plan) -> Iterator[Fallen]:
    """All drops of a run; by phase, then by shard."""
    for phase in plan.phases:
        for shard in range(len(plan.shards)):
            with open(plan.path(phase.number, "dropped", shard), encoding="utf-8") as file:
                yield from (Fallen(*json.loads(line)) for line in file)


def output_text(plan: Plan) -> str:
    """All documents of a finished run as JSON lines, for comparing runs."""
    last = len(plan.phases) - 1
    parts = [plan.path(last, "documents", shard) for shard in range(len(plan.shards))]
    return "".join(to_json(doc) + "\n" for part in parts for doc in read_part(part))
