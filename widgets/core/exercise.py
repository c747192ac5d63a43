"""An exercise as one object: what is asked for, what is right, which mistakes have a name, hints.

The exercises of chapter NN are files of their own, `widgets/chNN/exercises/eK_topic.py`, with one
object `E` each. Whatever `E.cases` and `E.rule` ask is judged in the order of the file.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial

from widgets.core.forms import as_typed
from widgets.core.judge import Case, Diagnosis, Known, Mistake
from widgets.core.time_limit import TimeLimit, Watched, within_limits

Rule = Callable[..., None]
"""Own rule of an exercise: takes the learner's functions, raises `Mistake`."""


class Explained:
    """Mistakes of one name, to be explained: `.why(sentence)`."""

    def __init__(self, mistakes: Sequence[Known]) -> None:
        self._mistakes = mistakes

    def why(self, sentence: str) -> None:
        """What the name alone does not say; never the solution."""
        for mistake in self._mistakes:
            mistake.why = sentence


class Part:
    """One thing that is compared with a reference: a function, or one side of what it does.

    through: how a function is used on a case, if not just called; `through(function, *inputs)`
    gives what is compared. results: names of several results. tolerance: relative to the wanted
    numbers. otherwise: name and explanation of a mistake that none of the known ones explains.
    """

    def __init__(
        self,
        what: str,
        steps: list[Callable],
        *,
        key: str | None = None,
        through: Callable | None = None,
        results: Sequence[str] = (),
        tolerance: float = 1e-5,
        otherwise: tuple[str, str] = ("", ""),
    ) -> None:
        self.what, self.key, self.mistakes = what, key, []
        self._steps, self._through = steps, through
        self._form = {"names": results, "tolerance": tolerance, "otherwise": otherwise}
        self.right: Callable | None = None
        """The reference."""
        self.model: Callable | None = None
        """What has the knobs; with none turned it must do what the reference does."""
        self._cases: Callable | Sequence = ()

    def reference(self, function: Callable, *, model: Callable | None = None) -> Callable:
        """What is right: takes the case, and as keyword-only arguments its knobs.

        With `model` that is a second function of the same results, which has the knobs.
        """
        self.right, self.model = function, model or function
        return function

    def cases(self, cases: Callable[[], Sequence] | Sequence) -> object:
        """Inputs from the smallest to the largest, or a function that makes them; now is judged.

        Tuples are shown to learners by the names in the reference's signature; a `Case` has words
        of its own.
        """
        self._cases = cases
        self._steps.append(lambda given: self._diagnosis.judge(self.used(self._of(given))))
        return cases

    def mistake(self, name: str, *functions: Callable, **knobs: object) -> Explained:
        """A mistake with a name: the reference with other knobs, or functions that make it.

        `.why("…")` after it is what a learner is told beside the name.
        """
        if bool(functions) == bool(knobs) or not all(map(callable, functions)):
            raise ValueError(f"mistake {name!r}: knobs of the reference, or functions, are needed")
        if knobs:
            known = inspect.signature(self.model).parameters if self.model else ()
            for knob in knobs:
                if knob not in known:
                    raise ValueError(f"mistake {name!r}: {knob!r} is no knob of the reference")
            functions = (partial(self.model, **knobs),)
        made = [Known(name, function) for function in functions]
        self.mistakes += made
        return Explained(made)

    def rule(self, rule: Rule) -> Rule:
        """A rule of its own, judged now; it takes the learner's function."""
        self._steps.append(lambda given: rule(self._of(given)))
        return rule

    def _of(self, given: object) -> object:
        return given if self.key is None else given[self.key]

    def used(self, function: Callable) -> Callable:
        """The function as it is used on a case."""
        return partial(self._through, function) if self._through else function

    @cached_property
    def inputs(self) -> list[Case]:
        """The cases, with the words that a learner would type."""
        rows = self._cases() if callable(self._cases) else self._cases
        names = [
            name
            for name, one in inspect.signature(self.right).parameters.items()
            if one.kind is one.POSITIONAL_OR_KEYWORD
        ]
        return [row if isinstance(row, Case) else Case(row, as_typed(names, row)) for row in rows]

    @cached_property
    def _diagnosis(self) -> Diagnosis:
        known = [Known(one.name, self.used(one.function), one.why) for one in self.mistakes]
        right = self.used(self.right)
        return Diagnosis(right, self.inputs, known, self.what, **self._form)


class Exercise(Part):
    """Exercise("09.1", "kv_cache_bytes", hints=…): one function; or several, with `part` for each.

    values: the keys of an answer that is a dict of plain values, and no function; then every rule
    takes that dict.
    """

    def __init__(
        self,
        number: str,
        function: str = "",
        *,
        hints: tuple[str, str, str],
        values: Sequence[str] = (),
        **form: object,
    ) -> None:
        super().__init__(function, [], **form)
        self.number, self.hints, self.values = number, hints, values
        self.parts: list[Part] = []

    def part(self, name: str, *, through: Callable | None = None, **form: object) -> Part:
        """A function of an answer that has several; with `through`, one side of the only one.

        Such a side has the reference of the exercise.
        """
        if self.what:
            part = Part(f"{self.what}, {name}", self._steps, through=through, **form)
            part.reference(self.right, model=self.model)
        else:
            part = Part(name, self._steps, key=name, through=through, **form)
        self.parts.append(part)
        return part

    @property
    def functions(self) -> list[str]:
        """Names of the functions in an answer that is a dict of them."""
        return [part.key for part in self.parts if part.key]

    def rule(self, rule: Rule) -> Rule:
        """A rule of its own, judged now; it takes all functions of the answer, or the values."""

        def step(given: object) -> None:
            rule(*given.values()) if self.functions else rule(given)

        self._steps.append(step)
        return rule

    def check(self, answer: object) -> None:
        """Return quietly if the answer is right. Raises `Mistake` or NotImplementedError."""
        if self.values:
            self._judge(self._values_of(answer))
        else:
            within_limits(lambda limit: self._judge(self._watched(answer, limit)))

    def _judge(self, given: object) -> None:
        for step in self._steps:
            step(given)

    def _watched(self, answer: object, limit: TimeLimit) -> object:
        names = self.functions
        if not names:
            if not callable(answer):
                why = f"Hand over {self.what} itself, not called."
                raise Mistake("check needs the function", why=why)
            return Watched(answer, limit)
        if not isinstance(answer, Mapping) or set(answer) != set(names):
            wanted = ", ".join(f'"{name}": {name}' for name in names)
            raise Mistake("check needs all functions", why=f"Call it with {{{wanted}}}.")
        for name in names:
            if not callable(answer[name]):
                why = f"Hand over {name} itself, not called."
                raise Mistake("check needs the function", why=why)
        return {name: Watched(answer[name], limit) for name in names}

    def _values_of(self, answer: object) -> Mapping:
        """The learner's dict with exactly these keys; all of them None counts as not tried."""
        names = self.values
        if not isinstance(answer, Mapping):
            why = f"The keys are {', '.join(names)}; {type(answer).__name__} came."
            raise Mistake("check needs the dict", why=why)
        if foreign := sorted(map(str, set(answer) - set(names))):
            why = f"Allowed: {', '.join(names)}."
            raise Mistake(f"{foreign[0]!r} is not one of the keys", why=why)
        if all(answer.get(name) is None for name in names):
            raise NotImplementedError
        if missing := sorted(set(names) - set(answer)):
            raise Mistake(f"{missing[0]!r} is missing")
        return answer

    def wrong_answers(self, right: object) -> Iterator[tuple[str, object]]:
        """Each known mistake as an answer: its name, and `right` with this mistake in it."""
        for part in (self, *self.parts):
            for known in part.mistakes:
                function = known.function
                yield known.name, function if part.key is None else {**right, part.key: function}
