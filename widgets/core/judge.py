"""A wrong answer and its name: cases, known mistakes, and the diagnosis that compares them.

The learner's function runs on cases ordered from the smallest to the largest. When a case fails,
the results are compared with those of *known mistakes* (small wrong functions). The one that
explains every case is named, together with the smallest case that shows it. The right result is
never shown.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from widgets.core.forms import brief, fresh, has_floats_for_wholes, like, same, trouble

_LONG = 120


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


@dataclass
class Known:
    """A known mistake: what it is called, a function that makes it, one sentence of help."""

    name: str
    function: Callable
    why: str = ""


def run(answer: Callable, case: Case, what: str, *, none: bool = False) -> object:
    """Result of the learner's function; an error of its own becomes a `Mistake`.

    So does None, unless it is a result like any other (`none`). NotImplementedError passes
    through: that is "not tried yet".
    """
    try:
        result = answer(*fresh(case.inputs))
    except (NotImplementedError, Mistake):
        raise
    except Exception as error:
        why = said_by(error).rstrip(".") + "."
        raise Mistake(f"{what}: your code stopped", shows=case.shows, why=why) from error
    if result is None and not none:
        raise Mistake(f"{what}: nothing was returned", shows=case.shows, why="Is a return missing?")
    return result


def check_form(got: object, want: object, what: str, shows: str) -> object:
    """`got` in the form of `want`. Raises `Mistake` if type, shape or dtype is another."""
    got = like(got, want)
    if form := trouble(got, want, what):
        raise Mistake(form[0], shows=shows, why=form[1])
    return got


def said_by(error: BaseException) -> str:
    """Kind and message of an error. Even that may fail when the class is the learner's own."""
    try:
        text = str(error)
    except Exception:
        text = "(its message cannot be shown)"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@dataclass
class Diagnosis:
    """What is compared: the reference's results, and the mistakes that are known."""

    reference: Callable
    cases: Sequence[Case]
    known: Sequence[Known]
    what: str
    tolerance: float = 1e-5
    names: Sequence[str] = ()
    """Of the results, if the function returns several."""
    otherwise: tuple[str, str] = ("", "")
    """Name and explanation of a mistake that is not known."""

    @cached_property
    def wanted(self) -> list[object]:
        """What the reference says of each case."""
        return [self.reference(*fresh(case.inputs)) for case in self.cases]

    def judge(self, answer: Callable) -> None:
        """Return quietly if `answer` agrees with the reference on all cases, else raise `Mistake`.

        A known mistake is named if it explains every case; failing that, if it explains the
        smallest case that went wrong.
        """
        raw = [run(answer, case, self.what) for case in self.cases]
        results = [like(*pair) for pair in zip(raw, self.wanted, strict=True)]
        failing = [place for place in range(len(raw)) if not self._is_right(place, results[place])]
        if failing:
            raise self._named(results, failing[0])
        for case, got, want in zip(self.cases, raw, self.wanted, strict=True):
            if has_floats_for_wholes(got, want):
                why = "`/` makes a float, which cannot hold every large number. `//` stays whole."
                raise Mistake("a float, not a whole number", shows=case.shows, why=why)

    def _is_right(self, place: int, result: object) -> bool:
        return same(result, self.wanted[place], self.tolerance)

    def _named(self, results: list[object], first: int) -> Mistake:
        shows, result = self.cases[first].shows, results[first]
        for mistake in self.known:
            if all(self._makes(mistake, place, got) for place, got in enumerate(results)):
                return Mistake(mistake.name, shows=shows, why=mistake.why)
        if form := trouble(result, self.wanted[first], self.what, self.names):
            return Mistake(form[0], shows=shows, why=form[1])
        for mistake in self.known:
            if self._makes(mistake, first, result):
                return Mistake(mistake.name, shows=shows, why=mistake.why)
        name, why = self.otherwise
        told = brief(result)
        many = isinstance(result, Tensor) and result.numel() > 8
        if not why and not many and len(told) <= _LONG:
            shows += f". Yours gives {told}."
        return Mistake(name or f"{self.what}: the values differ", shows=shows, why=why)

    def _makes(self, mistake: Known, place: int, got: object) -> bool:
        """Whether this mistake, made on this case, gives that result."""
        try:
            made = mistake.function(*fresh(self.cases[place].inputs))
        except Exception:  # a wrong function may stop on some case: then it explains nothing there
            return False
        return same(got, like(made, self.wanted[place]), self.tolerance)
