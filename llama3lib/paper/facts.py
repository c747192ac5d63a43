"""The two shapes a number of the paper can have here: a single fact, or a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

RELIABILITIES = {
    "paper": "paper",
    "paper v3": "paper, version 3",
    "paper v1": "paper, first version",
    "figure": "read off a figure of the paper",
    "code": "released code, not the paper",
    "card": "model card, not the paper",
    "computed": "computed from the paper's numbers",
}


def _check(section: str, reliability: str) -> None:
    if not section:
        raise ValueError(f"section={section!r} is not allowed: say where it stands")
    if reliability not in RELIABILITIES:
        allowed = ", ".join(RELIABILITIES)
        raise ValueError(f"reliability={reliability!r} is not allowed: use one of {allowed}")


@dataclass(frozen=True)
class Fact:
    """One number (or word) with its unit, where it stands, and how far to trust it."""

    value: Any
    unit: str
    section: str
    reliability: str = "paper"
    note: str = ""

    def __post_init__(self) -> None:
        if self.value is None:
            raise ValueError("value=None is not allowed: a fact has a value")
        _check(self.section, self.reliability)

    def cite(self) -> str:
        """Where it stands, as a reader wants it: "§3.2, Table 3 (paper)"."""
        return f"{self.section} ({RELIABILITIES[self.reliability]})"

    def __str__(self) -> str:
        shown = f"{self.value:,}" if isinstance(self.value, int) else str(self.value)
        return f"{shown} {self.unit}".strip()


@dataclass(frozen=True)
class Table:
    """A table of the paper: rows by name, columns by name, None where the paper prints a dash."""

    title: str
    section: str
    columns: tuple[str, ...]
    rows: Mapping[str, Sequence[Any]]
    reliability: str = "paper"
    marks: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """(row, column) -> what is special about that cell."""
    note: str = ""

    def __post_init__(self) -> None:
        _check(self.section, self.reliability)
        if len(set(self.columns)) != len(self.columns):
            raise ValueError(f"columns={self.columns!r} is not allowed: each name only once")
        for name, values in self.rows.items():
            if len(values) != len(self.columns):
                raise ValueError(
                    f"row {name!r} has {len(values)} values for {len(self.columns)} columns"
                )
        # read-only copies: the paper does not change because a notebook writes into a table
        rows = {name: tuple(values) for name, values in self.rows.items()}
        object.__setattr__(self, "rows", MappingProxyType(rows))
        object.__setattr__(self, "marks", MappingProxyType(dict(self.marks)))
        for row, column in self.marks:
            self.cell(row, column)

    def row(self, name: str) -> dict[str, Any]:
        """One row as column -> value. Raises ValueError listing the rows."""
        self._known("row", name, self.rows)
        return dict(zip(self.columns, self.rows[name], strict=True))

    def column(self, name: str) -> dict[str, Any]:
        """One column as row -> value. Raises ValueError listing the columns."""
        self._known("column", name, self.columns)
        at = self.columns.index(name)
        return {row: values[at] for row, values in self.rows.items()}

    def cell(self, row: str, column: str) -> Any:
        """One value. Raises ValueError listing the names there are."""
        self._known("column", column, self.columns)
        return self.row(row)[column]

    def to_records(self) -> list[dict[str, Any]]:
        """Rows as dictionaries with the row's name first, ready to be shown."""
        return [{"": name, **self.row(name)} for name in self.rows]

    def cite(self) -> str:
        """Where it stands: "§2, Table 2 (paper)"."""
        return f"{self.section} ({RELIABILITIES[self.reliability]})"

    def _known(self, what: str, name: str, names: Any) -> None:
        if name not in names:
            raise ValueError(
                f"{what}={name!r} is not in {self.title!r}: use one of {', '.join(names)}"
            )
