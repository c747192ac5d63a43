"""The forms of results: what counts as the same, how it is told, and what is no result at all.

The reference's own result says what is wanted. A learner's result is first brought to that form,
if that loses nothing: a NumPy scalar is a number, a list will do for a tuple, an array for a
tensor. `like` does this for every exercise alike.
"""

import dataclasses
import math
import reprlib
from collections.abc import Mapping, Sequence
from numbers import Integral, Real

import numpy as np
import torch
from torch import Tensor

_FEW = 8
"""Numbers of a tensor that are told one by one."""


def single(value: object) -> object:
    """A tensor or array of one number, or a NumPy scalar, as a Python number; all else as it is."""
    is_one = isinstance(value, Tensor) and value.numel() == 1 and value.dim() < 2
    is_one = is_one or (isinstance(value, np.ndarray | np.generic) and value.size == 1)
    return value.item() if is_one and value.ndim < 2 else value


def is_number(value: object) -> bool:
    """Whether it is a number, and not True or False."""
    return isinstance(value, Real) and not isinstance(value, bool)


def like(got: object, want: object) -> object:
    """`got` in the form of `want` where that loses nothing; all else as it came."""
    if isinstance(want, Tensor):
        return _tensor_like(got, want)
    if isinstance(want, Mapping):
        if isinstance(got, Mapping) and set(got) == set(want):
            return {key: like(got[key], want[key]) for key in want}
        return got
    if isinstance(want, list | tuple):
        row = _row(got)
        if row is None or len(row) != len(want):
            return got
        return type(want)(like(*pair) for pair in zip(row, want, strict=True))
    plain = single(got)
    if is_number(want) and is_number(plain):
        if isinstance(want, Integral):
            return int(plain) if plain == plain // 1 else plain
        return float(plain)
    return plain if isinstance(want, bool | str) and isinstance(plain, type(want)) else got


def _tensor_like(got: object, want: Tensor) -> object:
    if want.dim() == 0 and is_number(plain := single(got)):
        if want.is_floating_point() or isinstance(plain, Integral):
            return torch.tensor(plain, dtype=want.dtype)
    if isinstance(got, np.ndarray) and got.dtype.kind in "biuf":
        got = torch.from_numpy(got.copy())
    if isinstance(got, Tensor) and _is_whole(got) and _is_whole(want):
        return got.to(want.dtype)
    return got


def _is_whole(tensor: Tensor) -> bool:
    kinds = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
    return tensor.dtype in kinds


def _row(value: object) -> list | None:
    """The entries of a list, tuple, range, array or tensor; None for all else."""
    if isinstance(value, list | tuple | range):
        return list(value)
    if isinstance(value, np.ndarray | Tensor) and value.ndim > 0:
        return list(value)
    return None


def has_floats_for_wholes(got: object, want: object) -> bool:
    """Whether a float stands where a whole number is wanted. `got` must be of the same form."""
    if isinstance(want, Mapping):
        return any(has_floats_for_wholes(got[key], want[key]) for key in want)
    if isinstance(want, list | tuple):
        pairs = zip(_row(got), want, strict=True)
        return any(has_floats_for_wholes(*pair) for pair in pairs)
    return type(want) is int and isinstance(single(got), float)


def same(got: object, want: object, tolerance: float = 1e-5) -> bool:
    """Equal but for the tolerance, relative to the size of the wanted numbers."""
    try:
        return _same(got, want, tolerance)
    except Exception:  # a learner's object may do anything when it is compared
        return False


def _same(got: object, want: object, tolerance: float) -> bool:
    if isinstance(want, Tensor):
        if not isinstance(got, Tensor) or got.shape != want.shape:
            return False
        if not (want.is_floating_point() and got.is_floating_point()):
            return torch.equal(got, want) if got.dtype == want.dtype else False
        got, want = got.detach().double(), want.detach().double()
        return torch.allclose(got, want, rtol=tolerance, atol=tolerance, equal_nan=True)
    if isinstance(want, list | tuple):
        ok = isinstance(got, list | tuple) and len(got) == len(want)
        return ok and all(_same(*pair, tolerance) for pair in zip(got, want, strict=True))
    if isinstance(want, Mapping):
        ok = isinstance(got, Mapping) and set(got) == set(want)
        return ok and all(_same(got[key], want[key], tolerance) for key in want)
    if isinstance(want, float) and isinstance(got, float):
        both_nan = math.isnan(got) and math.isnan(want)
        return both_nan or math.isclose(got, want, rel_tol=tolerance, abs_tol=1e-12)
    return type(got) is type(want) and bool(got == want)


def trouble(
    got: object, want: object, what: str, names: Sequence[str] = ()
) -> tuple[str, str] | None:
    """Name and explanation if type, shape or dtype is not what was asked for, else None."""
    if isinstance(want, list | tuple):
        if not isinstance(got, list | tuple) or len(got) != len(want):
            why = f"({', '.join(names)}), in this order." if names else _came(got)
            return f"{what}: {len(want)} results are needed", why
        parts = [f"{what}, {name}" for name in names] or [what] * len(want)
        found = (trouble(*one) for one in zip(got, want, parts, strict=True))
        return next(filter(None, found), None)
    if is_number(want):
        if not is_number(got):
            return f"{what}: a number is needed", _came(got)
        if math.isnan(got) and not math.isnan(want):
            why = "Was something divided by 0, or a logarithm taken of a number below 0?"
            return f"{what}: NaN, which is no number", why
        return None
    if not isinstance(got, type(want)):
        needed = "True or False" if isinstance(want, bool) else type(want).__name__
        return f"{what}: wrong type", f"{needed} is needed, {type(got).__name__} came."
    if isinstance(want, Mapping) and set(got) != set(want):
        return f"{what}: other keys", f"The keys {', '.join(map(str, want))} are needed."
    if isinstance(want, Tensor):
        for name, asked, came in (
            ("shape", list(want.shape), list(got.shape)),
            ("dtype", want.dtype, got.dtype),
        ):
            if asked != came:
                return f"{what}: wrong {name}", f"{asked} is needed, {came} came."
    return None


def _came(got: object) -> str:
    return f"{type(got).__name__} came."


def fresh(value: object) -> object:
    """A copy, so that a function that writes into its input cannot spoil the next case."""
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, np.ndarray):
        return value.copy()
    if type(value) in (list, tuple, set):
        return type(value)(fresh(one) for one in value)
    if type(value) is dict:
        return {key: fresh(one) for key, one in value.items()}
    return value


# In words -------------------------------------------------------------------------------------


def brief(value: object) -> str:
    """A result as a learner would read it: small tensors as rounded lists."""
    if isinstance(value, Tensor):
        if value.is_floating_point():
            return str([round(v, 4) for v in value.detach().double().flatten().tolist()])
        return str(value.tolist())
    return repr(value)


def as_typed(names: Sequence[str], inputs: Sequence[object]) -> str:
    """A call's inputs in few words, as in "x=[3, 4], eps=0" or "q of shape [1, 2, 2, 2]"."""
    return ", ".join(_typed(*one) for one in zip(names, inputs, strict=False))


def _typed(name: str, value: object) -> str:
    if isinstance(value, np.ndarray | Tensor) and math.prod(value.shape) > _FEW:
        return f"{name} of shape {list(value.shape)}"
    return f"{name}={short(value)}"


def short(value: object) -> str:
    """An input in few words, however long it is."""
    if isinstance(value, np.ndarray | Tensor):
        if math.prod(value.shape) > _FEW:
            return f"a tensor of shape {list(value.shape)}"
        return short(value.tolist())
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple) and value and all(map(is_number, value)):
        inside = ", ".join(short(v) for v in value[:_FEW]) + ", ..." * (len(value) > _FEW)
        return f"[{inside}]" if isinstance(value, list) else f"({inside})"
    if callable(value):
        return getattr(value, "__name__", None) or repr(value)
    if dataclasses.is_dataclass(value):
        return _fields(value)
    return _SHORT.repr(value)


def _fields(value: object) -> str:
    """A dataclass with the fields that are not left at their defaults."""
    told = [
        f"{field.name}={short(getattr(value, field.name))}"
        for field in dataclasses.fields(value)
        if field.repr and getattr(value, field.name) != field.default
    ]
    return f"{type(value).__name__}({', '.join(told)})"


_SHORT = reprlib.Repr()
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = _SHORT.maxset = _FEW
_SHORT.maxother, _SHORT.maxstring, _SHORT.maxlong = 80, 60, 60
