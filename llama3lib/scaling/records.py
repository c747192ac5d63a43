"""The files of finished runs: one JSON line each, written whole, and checked when they are read."""

import json
import re
from pathlib import Path
from typing import Any

from llama3lib.scaling.plan import Cell
from llama3lib.scaling.points import Run, by_budget
from llama3lib.utils import strict_json
from llama3lib.utils.files import atomic_write

Record = dict[str, Any]
_NEEDED = ("budget", "flops", "parameters", "tokens", "loss", "seed")


def record_path(folder: str | Path, cell: Cell) -> Path:
    """Where the record of a run is, once it is finished."""
    return Path(folder) / "runs" / f"{cell.name}.json"


def write_record(path: Path, record: Record) -> None:
    """Write the line of a run, whole or not at all; NaN and infinities as null."""
    with atomic_write(path) as file:
        file.write_text(strict_json.dumps(record) + "\n", encoding="utf-8")


def read_json(path: Path) -> Record:
    """An object from a file of ours.

    Raises ValueError naming the file if it cannot be read.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    if not isinstance(record, dict):
        raise ValueError(f"{path} is damaged: {record!r} is no object")
    return record


def read_record(path: Path) -> Record:
    """The record of a run that is finished.

    Raises ValueError naming the file if it is damaged.
    """
    cure = "remove it, and its run is made again"
    try:
        record = read_json(path)
        if missing := [name for name in _NEEDED if name not in record]:
            raise ValueError(f"{path} is damaged: {missing[0]} is missing")
        as_run(record)
    except TypeError as error:
        raise ValueError(f"{path} is damaged: {error}; {cure}") from None
    except ValueError as error:
        named = str(error) if str(path) in str(error) else f"{path} is damaged: {error}"
        raise ValueError(f"{named}; {cure}") from None
    return record


def stored_record(folder: str | Path, cell: Cell) -> Record | None:
    """The record of this run; None if it is not finished.

    Raises ValueError if the file is damaged, or holds another run under the same name.
    """
    path = record_path(folder, cell)
    if not path.is_file():
        return None
    record = read_record(path)
    wanted = {
        "budget": cell.budget,
        "batch_size": cell.batch_size,
        "steps": cell.steps,
        "dim": cell.model.dim,
        "n_layers": cell.model.n_layers,
        "seed": cell.seed,
    }
    for name, value in wanted.items():
        if name in record and record[name] != value:
            raise ValueError(
                f"{name}={value!r} is not allowed: {path} is a run with {name}={record[name]!r}; "
                "take another folder, or remove that file"
            )
    return record


def as_run(record: Record) -> Run | None:
    """The run of a record; None if it diverged.

    Raises ValueError or TypeError on numbers that no run can have.
    """
    if record["loss"] is None:
        return None
    names = Run.__dataclass_fields__
    return Run(**{n: v for n, v in record.items() if n in names and v is not None})


def runs_in(folder: str | Path) -> tuple[list[Run], list[str]]:
    """All runs of a sweep's folder, whatever call made them; and which are left out, and why.

    Left out are runs that diverged, and those with a longer cosine than others of their budget:
    one curve is of one kind.

    Raises ValueError naming a file that is damaged.
    """
    found: list[tuple[Run, float, str]] = []
    left_out: list[str] = []
    for path in sorted((Path(folder) / "runs").glob("*.json")):
        run = as_run(read_record(path))
        longer = re.search(r"-cosine([^-]+)-", path.stem)
        if run is None:
            left_out.append(f"{path.stem} (diverged)")
        else:
            found.append((run, float(longer[1]) if longer else 1.0, path.stem))
    shortest: dict[float | None, float] = {}
    for run, cosine, _ in found:
        shortest[run.budget] = min(cosine, shortest.get(run.budget, cosine))
    same = [run for run, cosine, _ in found if cosine == shortest[run.budget]]
    left_out += [
        f"{n} (longer cosine)" for run, cosine, n in found if cosine > shortest[run.budget]
    ]
    return [run for curve in by_budget(same).values() for run in curve], left_out
