"""What `fit` and `predict` have in common: points, their law, and how figures are written."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from llama3lib.eval.intervals import Interval
    from llama3lib.scaling import PowerLawFit, Run, ScalingLaw

Axis = Literal["parameters", "tokens", "non_embedding"]
Method = Literal["isoflop", "parametric"]


def points_of(points: str, columns: Sequence[str] = ()) -> "list[Run]":
    """Runs of a file, of a sweep's folder, or of the points that come along under that name.

    columns: which column holds a field, as in loss=train_loss; of a file only.
    Of a folder all runs that are finished count, also those of a sweep that was interrupted; which
    ones are left out is told. Without any, its points.json is read.

    Raises ValueError if there are none, for a damaged file, and for a column that cannot be.
    """
    from llama3lib.scaling.points import (
        ColumnError,
        doubt_of_flops,
        read_runs,
        stored_names,
        stored_path,
    )
    from llama3lib.scaling.records import runs_in

    names, path = _named(columns), Path(points)
    if path.is_dir():
        if names:
            raise ValueError(f"column={columns[0]!r} is not allowed with a sweep's folder")
        runs, left_out = runs_in(path)
        if left_out:
            print(f"left out: {', '.join(left_out)}", file=sys.stderr)
        if runs:
            return runs
        path = path / "points.json"
        if left_out or not path.is_file():
            raise ValueError(f"{points!r} is not allowed: no run is finished there")
    if not path.exists() and points in stored_names():
        path = stored_path(points)
    try:
        found = read_runs(path, names=names)
    except ColumnError as error:
        raise ValueError(f"{error.told}; give --column {error.field}=NAME") from None
    if doubt := doubt_of_flops(found):
        print(f"doubt it: {doubt}", file=sys.stderr)
    return found


def isoflop_law(runs: "Sequence[Run]", axis: Axis, *, floor: bool = False) -> "ScalingLaw":
    """The law of the minima.

    Raises ValueError if the runs do not make isoFLOP curves; it says so if the formula for all
    runs could be fitted to them.
    """
    from llama3lib.scaling import fit_isoflop
    from llama3lib.scaling.parametric import check_runs

    try:
        return fit_isoflop(runs, axis, floor="fit" if floor else 0.0)
    except ValueError as error:
        try:
            count = len(check_runs(runs))
        except ValueError:
            raise error from None
        raise ValueError(f"{error}; --method parametric fits one formula to all {count}") from None


def _named(columns: Sequence[str]) -> dict[str, str]:
    names: dict[str, str] = {}
    for item in columns:
        field, sign, column = item.partition("=")
        if not (sign and field and column) or field in names:
            raise ValueError(f"column={item!r} is not allowed: FIELD=COLUMN, each field once")
        names[field] = column
    return names


def tell_misfit(what: str, law: "PowerLawFit", cure: str) -> None:
    """Say so where a law does not fit its own points."""
    from llama3lib.scaling.isoflop import DOUBTFUL

    if law.misfit is not None and law.misfit > DOUBTFUL:
        print(
            f"the law of the {what} misses its own points ({law.misfit:.1f} times their error ",
            end="",
        )
        print(f"bars): try {cure}, or doubt it")


def with_interval(value: "Interval", form: str) -> str:
    """A figure with its interval."""
    return f"{value.score:{form}} ({value.low:{form}} to {value.high:{form}})"
