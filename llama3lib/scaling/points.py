"""Finished training runs as points: how large, how many tokens, what loss; and files of them.

A file may be ours (JSON, or one JSON object a line) or a table of others (CSV, TSV, JSON): columns
are found by the usual names, and what cannot be understood, or in two ways, is refused with its
line.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from numbers import Integral, Real
from pathlib import Path
from statistics import median, median_low
from typing import Any

from llama3lib.scaling.tables import number, read_json, read_table, read_text
from llama3lib.utils import strict_json
from llama3lib.utils.files import atomic_write
from llama3lib.utils.logging import get_logger
from llama3lib.utils.require import one_of, positive, require

_log = get_logger(__name__)
STORED = Path(__file__).parent.parent / "assets" / "scaling"
NAMES = {
    "parameters": (
        *("parameters", "params", "n", "modelsize", "size", "totalparameters", "totalparams"),
        *("nparams", "numparams", "nparameters", "numparameters", "modelparameters"),
    ),
    "tokens": (
        *("tokens", "d", "data", "ntokens", "numtokens", "totaltokens", "tokensseen"),
        *("trainingtokens", "traintokens", "numtrainingtokens", "trainingdata"),
    ),
    "loss": ("loss", "l", "finalloss", "validationloss", "valloss", "evalloss", "testloss"),
    "flops": (
        *("flops", "flop", "c", "compute", "computeflops", "computeflop", "trainingflops"),
        *("trainingflop", "trainingcompute", "trainingcomputeflops", "trainingcomputeflop"),
    ),
    "budget": ("budget", "flopsbudget", "flopbudget"),
    "non_embedding": ("nonembedding", "nonembeddingparameters", "nonembeddingparams"),
    "seed": ("seed",),
    "nll": ("nll", "nllpercharacter", "nllperchar"),
    "accuracy": ("accuracy",),
}
"""Spellings of each column, in small letters and without signs."""
_LARGE = ("parameters", "tokens", "flops", "budget", "non_embedding")


class ColumnError(ValueError):
    """No column fits a field, or several do; naming one is the cure."""

    def __init__(self, told: str, field: str) -> None:
        super().__init__(f"{told}; give names={{{field!r}: …}}")
        self.told = told
        """What is wrong, without the cure."""
        self.field = field


@dataclass(frozen=True, kw_only=True)
class Run:
    """One finished run. Raises ValueError on a number that no run can have, NaN included."""

    parameters: float
    """All of them, embedding and output matrix too."""
    tokens: float
    """Tokens trained on, repeated ones counted each time."""
    loss: float
    """On held-out text, nats a token."""
    flops: float | None = None
    """Spent in training; 6 · parameters · tokens if left out (§3.2.1)."""
    budget: float | None = None
    """FLOPs planned: runs of one budget make one curve; `flops` if left out."""
    non_embedding: float | None = None
    """Parameters without embedding and output matrix."""
    seed: int = 0
    nll: float | None = None
    """Nats a character of the right answers of a task (§3.2.1, first step)."""
    accuracy: float | None = None
    """Share of the task's questions answered right."""

    def __post_init__(self) -> None:
        self._above_0("parameters", "tokens", "loss")
        if self.flops is None:
            object.__setattr__(self, "flops", 6.0 * self.parameters * self.tokens)
        if self.budget is None:
            object.__setattr__(self, "budget", self.flops)
        self._above_0("flops", "budget", "non_embedding", "nll")
        require(isinstance(self.seed, Integral), "seed", self.seed, "a whole number")
        ok = self.accuracy is None or 0 <= self.accuracy <= 1
        require(ok, "accuracy", self.accuracy, "0 to 1")

    def _above_0(self, *names: str) -> None:
        for name in names:
            if getattr(self, name) is not None:
                positive(name, getattr(self, name))

    @property
    def tokens_per_parameter(self) -> float:
        """Chinchilla's rule of thumb says 20; the 405B had 38.5."""
        return self.tokens / self.parameters


def read_runs(path: str | Path, *, names: Mapping[str, str] | None = None) -> list[Run]:
    """Runs from a file: .csv, .tsv, .json (a list, or an object with `runs`) or .jsonl.

    names: the file's column for a field of `Run`, where it is not found by itself, as in
    {"parameters": "Model size (own count)"}.
    Tokens may be missing where FLOPs are given: they are then FLOPs / (6 · parameters). What
    `doubt_of_flops` says of the runs is logged as a warning: the unit may be another one.
    Commas are read between thousands only, and not in a loss, nll or accuracy.

    Raises ValueError naming the file and the line (the row of a .json) of what cannot be read, NaN
    included; `ColumnError` if no column fits a field that is needed, or several fit one.
    """
    path = Path(path)
    table = read_table(path)
    if not table.rows:
        raise ValueError(f"{path}: no rows")
    columns = _columns(path, table.columns, names or {})
    runs = []
    for place, row in table.rows:
        try:
            values = {f: number(row.get(c), c, commas=f in _LARGE) for f, c in columns.items()}
            runs.append(_run(values))
        except ValueError as error:
            raise ValueError(f"{path}, {place}: {error}") from None
    if doubt := doubt_of_flops(runs):
        _log.warning("%s, column %r: %s", path, columns["flops"], doubt)
    return runs


def doubt_of_flops(runs: Sequence[Run]) -> str | None:
    """What is odd if most runs have FLOPs below 0.3 or above 3 times 6 · parameters · tokens."""
    shares = [run.flops / run.parameters / run.tokens / 6 for run in runs]
    if 2 * sum(not 0.3 <= share <= 3 for share in shares) <= len(shares):
        return None
    return (
        f"flops are {median(shares):.3g} times 6 · parameters · tokens: "
        "are they in FLOPs, and of whole runs?"
    )


def write_runs(
    path: str | Path, runs: Iterable[Run], provenance: Mapping[str, Any] | None = None
) -> None:
    """Write runs as JSON for `read_runs`, whole or not at all, with where they come from.

    NaN and infinities in `provenance` become null.
    """
    origin = strict_json.dumps(dict(provenance or {}), indent=1, default=_plain)
    known = [{k: v for k, v in asdict(run).items() if v is not None} for run in runs]
    lines = [strict_json.dumps(run, default=_plain) for run in known]
    body = ",\n  ".join(lines)
    with atomic_write(path) as file:
        text = f'{{\n"provenance": {origin},\n"runs": [\n  {body}\n]\n}}\n'
        file.write_text(text, encoding="utf-8")


def provenance(path: str | Path) -> dict[str, Any]:
    """What a file of ours says about where its runs come from; empty for files of others.

    Raises ValueError if the file cannot be read.
    """
    path = Path(path)
    text = read_text(path)
    table = read_json(path, text) if path.suffix.lower() == ".json" else None
    said = table.get("provenance") if isinstance(table, dict) else None
    return dict(said) if isinstance(said, dict) else {}


def stored_names() -> list[str]:
    """Point files that come along."""
    return sorted(path.stem for path in STORED.glob("*.json"))


def stored_path(name: str) -> Path:
    """The file of points that comes along under that name.

    Raises ValueError if there is none.
    """
    one_of("points", name, stored_names())
    return STORED / f"{name}.json"


def by_budget(runs: Sequence[Run], tolerance: float = 0.01) -> dict[float, list[Run]]:
    """Runs of each budget, from the smallest budget up; the key is the median of the group's.

    tolerance: how far above its group's smallest budget a run may lie, as a share. Budgets that
    are 6 · parameters · tokens of rounded numbers are never quite the same: 0.01 is enough for
    four digits. For coarser numbers give it here, or set `budget` of each run to what was planned
    (a file may have a column for it). 0 asks for equal budgets.

    Raises ValueError for a tolerance outside 0 to 1.
    """
    require(0 <= tolerance < 1, "tolerance", tolerance, "0 or more, below 1")
    groups: list[list[Run]] = []
    for run in sorted(runs, key=lambda run: run.budget):
        # measured from the group's first, so that a chain of small steps ends
        if not groups or run.budget > groups[-1][0].budget * (1 + tolerance):
            groups.append([])
        groups[-1].append(run)
    return {
        median_low(run.budget for run in group): sorted(
            group, key=lambda run: (run.parameters, run.seed)
        )
        for group in groups
    }


def _columns(path: Path, columns: Sequence[str], names: Mapping[str, str]) -> dict[str, str]:
    """Which column of the file holds which field."""
    known, have = [field.name for field in fields(Run)], list(dict.fromkeys(columns))
    for field, column in names.items():
        if field not in known:
            raise ValueError(f"{field!r} is no field of a run: one of {known}")
        if column not in have:
            raise ValueError(f"{path}: no column {column!r} for {field}, only {have}")
        same = [other for other in names if names[other] == column]
        if len(same) > 1:
            raise ValueError(f"{path}: column {column!r} is named for {same}: one field only")
    free = [column for column in have if column not in names.values()]
    plain = {column: re.sub(r"\W|_", "", column).lower() for column in free}
    found = dict(names)
    for field, spellings in NAMES.items():
        fit = [] if field in names else [c for c in free if plain[c] in spellings]
        if len(fit) > 1:
            raise ColumnError(f"{path}: columns {fit} all fit {field}", field)
        if fit:
            found[field] = fit[0]
    for field in ("parameters", "loss", "tokens"):
        if field not in found and not (field == "tokens" and "flops" in found):
            raise ColumnError(f"{path}: no column for {field}, only {have}", field)
    for column in found.values():
        if columns.count(column) > 1:
            raise ValueError(f"{path}: two columns are called {column!r}: rename one")
    return found


def _run(values: Mapping[str, float | None]) -> Run:
    given: dict[str, Any] = {name: value for name, value in values.items() if value is not None}
    for name in ("parameters", "loss"):
        if name not in given:
            raise ValueError(f"{name} is missing")
    if "tokens" not in given:
        if "flops" not in given:
            raise ValueError("tokens is missing")
        # with 0 parameters there is no quotient; Run then refuses those
        given["tokens"] = given["flops"] / 6 / (given["parameters"] or math.nan)
    if "seed" in given and given["seed"].is_integer():
        given["seed"] = int(given["seed"])
    return Run(**given)


def _plain(value: object) -> int | float:
    """A number of NumPy as one of Python, which JSON knows."""
    if not isinstance(value, Real):
        raise TypeError(f"{value!r} cannot be written as JSON")
    return int(value) if isinstance(value, Integral) else float(value)
