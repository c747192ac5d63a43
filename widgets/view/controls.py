"""The controls of a view, declared in its class; each is also an attribute with its value."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from widgets.view.words import listed

if TYPE_CHECKING:
    from widgets.view.view import View

Stops = Sequence[object] | Mapping[object, str]
"""Values, or values with the words for each."""


class Control:
    """A value that a reader sets. Its place in the class is its place on the page.

    stops: the values it may have, or a mapping from value to words; or a function of the view and
    of all values so far, if they depend on them. No stops at all hides the control in that state,
    which must not depend on it.
    start: the value at first, for views that name none.
    text: words for a value.
    recorded: the stops kept in a recording: a list of them, or how many; all if left out.
    """

    kind = "slider"
    free = False
    """Whether any value is allowed."""

    def __init__(
        self,
        stops: Stops | Callable[["View", dict], Stops] = (),
        label: str = "",
        *,
        start: object = None,
        text: Callable[[Any], str] = str,
        play: int | None = None,
        recorded: Sequence[object] | int | None = None,
    ) -> None:
        self._stops, self.label, self.start = stops, label, start
        self.text, self.play, self.recorded = text, play, recorded
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, view: "View | None", owner: type) -> Any:
        return self if view is None else view.values[self.name]

    def __set__(self, view: "View", value: object) -> None:
        view.move(**{self.name: value})

    @property
    def changes(self) -> bool:
        """Whether the stops depend on the view or on other values."""
        return callable(self._stops)

    def stops(self, view: "View", values: dict) -> dict[object, str]:
        """Each value it may have now, with its words."""
        found = self._stops(view, values) if callable(self._stops) else self._stops
        return dict(found) if isinstance(found, Mapping) else {v: self.text(v) for v in found}

    def check(self, view: "View", values: dict, value: object) -> object:
        """The stop equal to a value. Raises ValueError if there is none."""
        stops = list(self.stops(view, values))
        if not stops:
            raise ValueError(f"{self.name}={value!r} is not allowed: hidden at the other values")
        if value not in stops:
            raise ValueError(f"{self.name}={value!r} is not allowed: one of {_few(stops)}")
        return stops[stops.index(value)]

    def fit(self, view: "View", values: dict, value: object) -> object:
        """The same, or the nearest stop where the value has become impossible."""
        stops = list(self.stops(view, values))
        if value in stops or not stops:
            return stops[stops.index(value)] if stops else value
        places = [v if isinstance(v, tuple) else (v,) for v in (*stops, value)]
        if {type(n) for place in places for n in place} <= {int, float, bool}:
            *there, here = places
            away = [sum(abs(a - b) for a, b in zip(one, here, strict=False)) for one in there]
            return stops[away.index(min(away))]
        return stops[0]


def _few(stops: Sequence[object]) -> str:
    """The stops as an error names them: all, or the first and the last of many."""
    few = stops if len(stops) <= 24 else [*stops[:3], "…", stops[-1]]
    return listed(few)


class Slider(Control):
    """Stops in order. play: milliseconds a stop, with a button that runs through them."""


class Choice(Control):
    """A list to choose from."""

    kind = "choice"


class Toggle(Control):
    """On or off."""

    kind = "toggle"

    def __init__(self, label: str = "", *, start: bool = False) -> None:
        super().__init__((False, True), label, start=start)


class Text(Control):
    """A line of text. most: how many characters are read. recorded: what a recording offers."""

    kind, free = "text", True

    def __init__(
        self, label: str = "", *, start: str = "", most: int = 400, recorded: Sequence[str] = ()
    ) -> None:
        super().__init__((), label, start=start, recorded=recorded)
        self.most = most

    def check(self, view: "View", values: dict, value: object) -> str:
        if not isinstance(value, str) or len(value) > self.most:
            raise ValueError(
                f"{self.name}={value!r:.60} is not allowed: a text of at most {self.most} "
                "characters"
            )
        return value

    def fit(self, view: "View", values: dict, value: object) -> str:
        return str(value)[: self.most]


class Pick(Control):
    """Chosen in the picture: pieces with put=(its name, value).

    play: a button that runs through the stops; without it nothing stands beside the picture.
    """

    kind = "pick"
