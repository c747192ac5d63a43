"""A view: its controls and one method that draws.

`scene` is a pure function from values to a picture. Everything else follows from it: the live
picture that `static/view.js` moves, the picture stored for pages without a kernel, the table, the
line in plain text, and the recording.
"""

import gzip
import inspect
import json
import threading
from pathlib import Path
from typing import ClassVar

import traitlets

from widgets.core.colours import dark_sheet
from widgets.core.widget import CourseWidget, css, esm
from widgets.view.controls import Control
from widgets.view.paper import WIDTHS, Paper
from widgets.view.scene import Scene
from widgets.view.static_picture import static_picture
from widgets.view.words import listed

STATIC = Path(__file__).parent / "static"
PACK_ABOVE = 30_000
"""Frames of more bytes travel packed."""


class View(CourseWidget):
    """Base of all views.

    A subclass declares controls as class attributes and draws in
    `scene(self, paper, *, control, …) -> Scene`. A control that `scene` does not name never asks
    Python for a picture. Data goes into attributes before `super().__init__(**values)`; after a
    change of data, `refresh()` draws anew.
    """

    _esm = esm("controls", "picture", "frames", "view", folder=STATIC)
    _css = css("view", folder=STATIC) + dark_sheet()
    _spec = traitlets.Dict().tag(sync=True)
    _choices = traitlets.Dict().tag(sync=True)
    _frame = traitlets.Dict().tag(sync=True)
    controls: ClassVar[dict[str, Control]] = {}

    def __init_subclass__(cls, **more: object) -> None:
        super().__init_subclass__(**more)
        named = [(n, c) for base in reversed(cls.__mro__) for n, c in vars(base).items()]
        cls.controls = {name: c for name, c in named if isinstance(c, Control)}
        given = inspect.signature(cls.scene).parameters.values()
        cls.drawn_by = [p.name for p in given if p.kind is p.KEYWORD_ONLY]
        if unknown := [name for name in cls.drawn_by if name not in cls.controls]:
            raise ValueError(f"scene names {listed(unknown)}: {cls.__name__} has no such control")

    def __init__(self, **values: object) -> None:
        self.values: dict[str, object] = {}
        self._lock, self._version, self._seen = threading.RLock(), 0, None
        self._displayed = False
        for name, control in self.controls.items():
            stops = list(control.stops(self, self.values))
            start = control.start if control.start is not None or not stops else stops[0]
            self.values[name] = control.fit(self, self.values, start)
        self.values = self._moved({n: value for n, value in values.items() if value is not None})
        # told as the view opens: a page under load may draw before a later message comes
        super().__init__(_spec=self._described(), _choices=dict(self.values))
        self.on_msg(self._answer)
        self._answer_from_any_thread()

    def scene(self, paper: Paper) -> Scene:
        """Draw on paper; subclasses name their controls after a star."""
        raise NotImplementedError

    def move(self, **values: object) -> None:
        """Set controls. Raises ValueError for an unknown one or a value it may not have."""
        self.values = self._moved(values)
        self._tell()

    def _moved(self, values: dict[str, object]) -> dict[str, object]:
        if unknown := [name for name in values if name not in self.controls]:
            names = listed(self.controls)
            raise ValueError(f"{unknown[0]} is not a control of this view: one of {names}")
        found = dict(self.values)
        for name, control in self.controls.items():
            if name in values:
                found[name] = control.check(self, found, _frozen(values[name]))
            else:
                found[name] = control.fit(self, found, found[name])
        return found

    def refresh(self) -> None:
        """Draw anew after a change of the data behind the view."""
        with self._lock:
            self._version += 1
            self._seen = None
        self._spec = self._described()
        self._tell()

    def fitted(self, values: dict[str, object]) -> dict[str, object]:
        """Values as they can stand together: what has become impossible moves to the nearest."""
        found: dict[str, object] = {}
        for name, control in self.controls.items():
            found[name] = control.fit(self, found, _frozen(values.get(name, self.values[name])))
        return found

    def drawn(
        self, values: dict[str, object] | None = None, width: int = WIDTHS[0]
    ) -> tuple[Paper, Scene]:
        """Paper and scene of a state; of the present one if left out."""
        values = self.values if values is None else values
        paper = Paper(width)
        with self._lock:
            scene = self.scene(paper, **{name: values[name] for name in self.drawn_by})
        return paper, scene

    def frame(
        self, values: dict[str, object] | None = None, width: int = WIDTHS[0]
    ) -> dict[str, object]:
        """All that the page needs to show a state, as it travels."""
        values = self.fitted(self.values if values is None else values)
        key = (width, json.dumps(values, default=str))
        with self._lock:
            if self._seen and self._seen[0] == key:
                return self._seen[1]
            paper, scene = self.drawn(values, width)
            frame = {
                "version": self._version,
                "values": values,
                "stops": {
                    name: _options(control.stops(self, values))
                    for name, control in self.controls.items()
                    if control.changes
                },
                "size": [width, round(paper.height)],
                "title": scene.title,
                "notes": list(scene.notes),
                "say": scene.say or scene.title,
                "table": [{k: str(v) for k, v in row.items()} for row in scene.table],
                "code": scene.code,
                "facts": {name: str(value) for name, value in scene.facts.items()},
                "pieces": paper.pieces,
            }
            self._seen = (key, frame)
        return frame

    def summary(self) -> str:
        return str(self.frame()["title"])

    def table(self) -> list[dict[str, object]]:
        return list(self.drawn()[1].table)

    def static_svg(self) -> str:
        return static_picture(self.frame())

    def _repr_mimebundle_(self, **kwargs: object) -> tuple[dict, dict] | None:
        self._displayed = True
        self._tell()  # the first picture travels ahead: the kernel may be busy afterwards
        return super()._repr_mimebundle_(**kwargs)

    def _described(self) -> dict[str, object]:
        controls = [
            {
                "name": name,
                "kind": control.kind,
                "label": control.label or name,
                "play": control.play,
                "most": getattr(control, "most", None),
                "draws": name in self.drawn_by,
                "stops": _options(control.stops(self, self.values)),
            }
            for name, control in self.controls.items()
        ]
        name = type(self).__name__
        return {"name": name, "controls": controls, "widths": WIDTHS}

    def _tell(self) -> None:
        """Send values, and the picture if it is on a page."""
        with self.hold_sync():
            self._choices = dict(self.values)
            if self._displayed:
                self._frame = self.frame()

    @traitlets.observe("_choices")
    def _chosen(self, change: dict) -> None:
        """A control was moved on the page."""
        self.values = self.fitted(change["new"])

    def _answer(self, _: object, content: dict, buffers: object) -> None:
        for number, width, values in content.get("ask", ()):
            reply: dict[str, object] = {"view": content["view"], "number": number}
            packed = []
            try:
                frame = self.frame(values, width if width in WIDTHS else WIDTHS[0])
                text = json.dumps(frame).encode()
                if len(text) > PACK_ABOVE:
                    packed = [gzip.compress(text, 5)]
                else:
                    reply["frame"] = frame
            except Exception as error:  # told in place of the picture
                reply["error"] = f"{type(error).__name__}: {error}"
            self.send(reply, packed)

    def _answer_from_any_thread(self) -> None:
        """While a cell runs, answers go by the kernel's second thread.

        ipykernel 7.4 sends them where the last message from Python went, which is the thread of
        the busy cell; this attribute of its comm decides that.
        """
        comm = self.comm
        if hasattr(comm, "_reply_subshell_for"):
            comm._reply_subshell_for = lambda data, default: default


def _frozen(value: object) -> object:
    """Lists of JSON as tuples, so that they equal the stops."""
    return tuple(_frozen(v) for v in value) if isinstance(value, list | tuple) else value


def _options(stops: dict[object, str]) -> list[list[object]]:
    return [[value, words] for value, words in stops.items()]
