"""What every checker of an exercise is built from: cases, known mistakes, and a diagnosis.

A checker runs the learner's function on cases ordered from the smallest to the largest. When a
case fails, the learner's results are compared with those of *known mistakes* (small wrong
functions). The one that explains every case is named, together with the smallest case that shows
it. The right result is never shown.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


class Mistake(AssertionError):
    """A wrong answer with a name. `name` is short and stable, so that tests can hold on to it."""

    def __init__(self, name: str, *, shows: str = "", why: str = "") -> None:
        self.name, self.shows, self.why = name, shows, why
        parts = [name + ".", why, f"Smallest input that shows it: {shows}" if shows else ""]
        super().__init__(" ".join(part for part in parts if part))


@dataclass(frozen=True)
class Case:
    """One input. `shows` is how a learner would type it."""

    inputs: tuple
    shows: str


@dataclass(frozen=True)
class Known:
    """A known mistake: what it is called, a function that makes it, one sentence of help."""

    name: str
    function: Callable
    why: str = ""


def same(got: object, want: object, tolerance: float = 1e-5) -> bool:
    """Equal shapes and values within the tolerance, relative to the size of the wanted ones."""
    if isinstance(want, Tensor):
        if not isinstance(got, Tensor) or got.shape != want.shape:
            return False
        if not (want.is_floating_point() and got.is_floating_point()):
            return torch.equal(got, want) if got.dtype == want.dtype else False
        got, want = got.detach().double(), want.detach().double()
        return torch.allclose(got, want, rtol=tolerance, atol=tolerance, equal_nan=True)
    if isinstance(want, list | tuple):
        ok = isinstance(got, list | tuple) and len(got) == len(want)
        return ok and all(same(*pair, tolerance) for pair in zip(got, want, strict=True))
    return type(got) is type(want) and got == want


def attempt(function: Callable, case: Case) -> object:
    """Run on clones, so that a function that writes into its input cannot spoil the next case."""
    inputs = tuple(x.clone() if isinstance(x, Tensor) else x for x in case.inputs)
    return function(*inputs)


def _agrees(function: Callable, case: Case, got: object, tolerance: float) -> bool:
    try:
        return same(got, attempt(function, case), tolerance)
    except (RuntimeError, IndexError, ValueError, TypeError):
        return False


def diagnose(
    answer: Callable,
    reference: Callable,
    cases: Sequence[Case],
    known: Sequence[Known],
    *,
    what: str,
    tolerance: float = 1e-5,
) -> None:
    """Return quietly if `answer` agrees with `reference` on all cases, else raise a `Mistake`.

    A known mistake is named if it explains every case; failing that, if it explains the smallest
    case that went wrong. NotImplementedError passes through: that is "not tried yet".
    """
    results, failing = [], []
    for case in cases:
        result = run(answer, case, what)
        results.append(result)
        if not same(result, attempt(reference, case), tolerance):
            failing.append((case, result))
    if not failing:
        return
    case, result = failing[0]
    for mistake in known:
        pairs = zip(cases, results, strict=True)
        if all(_agrees(mistake.function, c, r, tolerance) for c, r in pairs):
            raise Mistake(mistake.name, shows=case.shows, why=mistake.why)
    check_form(result, attempt(reference, case), what, case.shows)
    for mistake in known:
        if _agrees(mistake.function, case, result, tolerance):
            raise Mistake(mistake.name, shows=case.shows, why=mistake.why)
    got = (
        ""
        if isinstance(result, Tensor) and result.numel() > 8
        else f" Yours gives {brief(result)}."
    )
    raise Mistake(f"{what}: the values differ", shows=case.shows + "." + got)


def run(answer: Callable, case: Case, what: str) -> object:
    """Result of the learner's function; an error of its own, or None, becomes a `Mistake`."""
    try:
        result = attempt(answer, case)
    except NotImplementedError:
        raise
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        raise Mistake(f"{what}: your code stopped", shows=case.shows, why=text) from error
    if result is None:
        raise Mistake(f"{what}: nothing was returned", shows=case.shows, why="Is a return missing?")
    return result


def check_form(got: object, want: object, what: str, shows: str) -> None:
    """Raise a `Mistake` if type, shape or dtype is not what the exercise asked for."""
    if isinstance(want, list | tuple):
        if not isinstance(got, list | tuple) or len(got) != len(want):
            raise Mistake(f"{what}: {len(want)} results are needed", shows=shows)
        for one, other in zip(got, want, strict=True):
            check_form(one, other, what, shows)
        return
    if not isinstance(got, type(want)):
        why = f"{type(want).__name__} is needed, {type(got).__name__} came."
        raise Mistake(f"{what}: wrong type", shows=shows, why=why)
    if not isinstance(want, Tensor):
        return
    if got.shape != want.shape:
        why = f"{tuple(want.shape)} is needed, {tuple(got.shape)} came."
        raise Mistake(f"{what}: wrong shape", shows=shows, why=why)
    if got.dtype != want.dtype:
        why = f"{want.dtype} is needed, {got.dtype} came."
        raise Mistake(f"{what}: wrong dtype", shows=shows, why=why)


def brief(value: object) -> str:
    """A value as a learner would read it: small tensors as rounded lists."""
    if isinstance(value, Tensor):
        if value.is_floating_point():
            return str([round(v, 4) for v in value.detach().double().flatten().tolist()])
        return str(value.tolist())
    return repr(value)


def functions_of(answer: object, names: Sequence[str]) -> list[Callable]:
    """The functions handed to `check` as a dict, in the order asked for."""
    if not isinstance(answer, dict) or set(answer) != set(names):
        wanted = ", ".join(f'"{name}": {name}' for name in names)
        raise Mistake("check needs all functions", why=f"Call it with {{{wanted}}}.")
    return [answer[name] for name in names]
