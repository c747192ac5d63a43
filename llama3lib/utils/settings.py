"""Settings from TOML tables into dataclasses: nothing unknown, nothing of another type.

A mistyped name is refused together with the nearest one that exists, so that no setting is
silently without effect.
"""

import dataclasses
import difflib
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from llama3lib.utils.require import one_of, require

T = TypeVar("T")


def read_toml(path: str | Path, what: str) -> dict[str, Any]:
    """The contents of a TOML file.

    Raises ValueError if it is missing or no TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise ValueError(f"{what} {str(path)!r} cannot be read: {error}") from None


def refuse_unknown(where: str, names: Iterable[object], allowed: Sequence[str]) -> None:
    """Raises ValueError for the first name that is not allowed, with the nearest one that is."""
    for name in names:
        if name not in allowed:
            near = difflib.get_close_matches(str(name), allowed, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"one of {sorted(allowed)}"
            raise ValueError(f"{where}: {name!r} is not known: {hint}")


def with_overrides(table: Mapping[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """A copy of a table with changes such as `optimizer.peak=1e-3` or `phases.0.steps=50`.

    What stands behind `=` is read as TOML; what is no TOML is taken as a string. A number picks a
    row of a list.

    Raises ValueError for a change without `=` or a path that leads nowhere.
    """
    out = _copied(table)
    for change in changes:
        path, found, text = change.partition("=")
        require(found and path.strip(), "set", change, "NAME=VALUE, as in seed=1")
        *parents, last = path.strip().split(".")
        where: Any = out
        for part in parents:
            where = _inside(where, part, change)
        if isinstance(where, list):
            where[_row(where, last, change)] = _toml_value(text)
        else:
            where[last] = _toml_value(text)
    return out


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _copied(part) for name, part in value.items()}
    return [_copied(part) for part in value] if isinstance(value, list) else value


def _inside(where: Any, part: str, change: str) -> Any:
    if isinstance(where, list):
        return where[_row(where, part, change)]
    found = where.setdefault(part, {})
    require(isinstance(found, dict | list), "set", change, f"{part!r} is no table")
    return found


def _row(rows: list, part: str, change: str) -> int:
    ok = part.isdecimal() and int(part) < len(rows)
    require(ok, "set", change, f"{part!r} is no row 0 to {len(rows) - 1}")
    return int(part)


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()


def build(kind: type[T], table: Any, where: str) -> T:
    """A dataclass from a table; inner dataclasses, lists and tables of them too.

    Raises ValueError for a name that is not known or missing, or a value of another type; the
    dataclass's own checks are told with the place where they failed.
    """
    require(isinstance(table, Mapping), where, table, "a table")
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}
    refuse_unknown(where, table, tuple(fields))
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING
        if required and field.default_factory is dataclasses.MISSING and name not in table:
            raise ValueError(f"{where}: {name} is missing")
    values = {n: convert(fields[n].type, value, f"{where}.{n}") for n, value in table.items()}
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from None


def convert(kind: Any, value: Any, where: str) -> Any:
    """A TOML value as a type wants it: whole numbers do for fractions, lists become tuples.

    Raises ValueError if it does not fit.
    """
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        kinds = [part for part in parts if part is not type(None)]
        return convert(kinds[0], value, where)
    if origin is typing.Literal:
        one_of(where, value, list(parts))
        return value
    if dataclasses.is_dataclass(kind):
        return value if isinstance(value, kind) else build(kind, value, where)
    if origin is tuple:
        return _tuple(parts, value, where)
    if origin in (dict, Mapping):
        require(isinstance(value, Mapping), where, value, "a table")
        return {name: convert(parts[1], part, f"{where}.{name}") for name, part in value.items()}
    return _plain(kind, value, where)


def _tuple(parts: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    require(isinstance(value, list | tuple), where, value, "a list")
    ok = parts[-1] is Ellipsis or len(value) == len(parts)
    require(ok, where, value, f"a list of {len(parts)}")
    rows = dataclasses.is_dataclass(parts[0])  # of which the reader wants to know which
    places = (f"{where}.{n}" if rows else where for n in range(len(value)))
    return tuple(convert(parts[0], part, at) for part, at in zip(value, places, strict=True))


def _plain(kind: type, value: Any, where: str) -> Any:
    wanted = (int, float) if kind is float else kind
    ok = isinstance(value, wanted) and (not isinstance(value, bool) or kind is bool)
    require(ok, where, value, kind.__name__)
    require(value == value, where, value, "a number")
    return float(value) if kind is float else value
