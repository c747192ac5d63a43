"""A locked prediction: say what you expect, then run the cell that reveals it."""

import math
from collections.abc import Sequence
from html import escape

import traitlets

from widgets.core.progress import ledger
from widgets.core.widget import CourseWidget, css, esm

_asked: dict[str, "Prediction"] = {}


class Prediction(CourseWidget):
    """A number or a choice that can be locked once. Made by `predict`."""

    _esm = esm("predict")
    _css = css("predict")
    name = traitlets.Unicode().tag(sync=True)
    question = traitlets.Unicode().tag(sync=True)
    unit = traitlets.Unicode().tag(sync=True)
    choices = traitlets.List(traitlets.Unicode()).tag(sync=True)
    low = traitlets.Float(None, allow_none=True).tag(sync=True)
    high = traitlets.Float(None, allow_none=True).tag(sync=True)
    value = traitlets.Any(None, allow_none=True).tag(sync=True)
    locked = traitlets.Bool(False).tag(sync=True)

    def __init__(self, *, again: bool = False, **traits: object) -> None:
        super().__init__(**traits)
        self._again = again
        before = ledger().prediction(self.name)
        if before is not None and not again:
            self.value, self.locked = before["value"], True
        self.observe(self._lock, "locked")

    def lock(self, value: float | str) -> None:
        """Lock a prediction from code. Raises ValueError if it is locked or out of range."""
        if self.locked:
            raise ValueError(f"prediction {self.name!r} is locked: {self.value}")
        self.value = self._checked(value)
        self.locked = True

    @traitlets.validate("locked")
    def _stays_locked(self, proposal: dict) -> bool:
        if self.locked and not proposal["value"]:
            raise traitlets.TraitError(f"prediction {self.name!r} is locked")
        return proposal["value"]

    @traitlets.validate("value")
    def _stays_said(self, proposal: dict) -> float | str | None:
        if self.locked and proposal["value"] != self.value:
            raise traitlets.TraitError(f"prediction {self.name!r} is locked: {self.value}")
        return proposal["value"]

    def _checked(self, value: float | str) -> float | str:
        if self.choices:
            if value not in self.choices:
                allowed = ", ".join(self.choices)
                raise ValueError(f"value={value!r} is not allowed: use one of {allowed}")
            return value
        number = isinstance(value, int | float) and not isinstance(value, bool)
        number = number and math.isfinite(value)
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        if not (number and low <= value <= high):
            raise ValueError(f"value={value!r} is not allowed: a number from {low} to {high}")
        return value

    def _lock(self, change: dict) -> None:
        if change["new"]:
            ledger().lock_prediction(self.name, self._checked(self.value), again=self._again)

    def summary(self) -> str:
        """One line in place of the widget."""
        choices = f" ({' / '.join(self.choices)})" if self.choices else ""
        return f"Prediction {self.name}: {self.question}{choices}"

    def static_html(self) -> str:
        """The question for paper: choices, or a line for the number."""
        given = "".join(f"<li>☐ {escape(choice)}</li>" for choice in self.choices)
        space = f"<ul>{given}</ul>" if given else f"<p>My guess: ________ {escape(self.unit)}</p>"
        return f"<p><strong>Predict.</strong> {escape(self.question)}</p>{space}"


def predict(
    name: str,
    question: str,
    *,
    unit: str = "",
    choices: Sequence[str] = (),
    low: float | None = None,
    high: float | None = None,
    again: bool = False,
) -> Prediction:
    """Ask for a prediction before the answer is shown: one of `choices`, or a number.

    Once locked it stays, also when the notebook is opened again; `again=True` asks anew, and
    the record says so. Raises ValueError without a question, or if low is above high.
    """
    if not question:
        raise ValueError(f"question={question!r} is not allowed: say what to predict")
    if low is not None and high is not None and low > high:
        raise ValueError(f"low={low} is not allowed: at most high={high}")
    _asked[name] = Prediction(
        name=name,
        question=question,
        unit=unit,
        choices=list(choices),
        low=low,
        high=high,
        again=again,
    )
    return _asked[name]


def asked(name: str) -> Prediction | None:
    """The question of that name, if it was asked in this session."""
    return _asked.get(name)
