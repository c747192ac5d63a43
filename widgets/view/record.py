"""A view for a page without a kernel: all its states, drawn beforehand.

Every text that occurs is kept once, every state as its difference from the one before, packed and
written into the page. Nothing is asked of a network.
"""

import base64
import gzip
import itertools
import json
from collections.abc import Iterator, Sequence
from html import escape

from widgets.view.controls import Control
from widgets.view.paper import WIDTHS
from widgets.view.view import View

MOST_STATES = 5_000


def record(view: View, *, width: int = WIDTHS[0], most: int | None = None) -> str:
    """HTML of a view that moves without a kernel; `page` makes a whole page of several.

    Controls have the stops that their declaration keeps in recordings. One of any value (text) has
    its value and those named there, and becomes a list to choose from.
    most: stops of each control, if fewer are to be kept.
    Raises ValueError if that makes more than MOST_STATES states.
    """
    kept: dict[str, list] = {}
    for name, control in view.controls.items():
        if name in view.drawn_by:
            stops = _kept(view, control, kept)
            kept[name] = _thinned(stops, most or len(stops), view.values[name])
    count = 1
    for stops in kept.values():
        count *= len(stops)
    if count > MOST_STATES:
        raise ValueError(
            f"{type(view).__name__} has {count:,} states, at most {MOST_STATES:,} are recorded: "
            "give its controls fewer stops with recorded="
        )
    data = _packed(view, kept, width)
    text = base64.b64encode(gzip.compress(json.dumps(data, ensure_ascii=False).encode(), 9))
    return (
        f'<figure class="l3-recorded"><div class="l3-place">{view.static_svg()}</div>'
        f'<script type="application/octet-stream">{text.decode()}</script></figure>'
    )


def page(recordings: Sequence[str], *, title: str) -> str:
    """A whole page, complete by itself, from disk or from any server."""
    script = (
        f"{View._esm}\nfor (const one of document.querySelectorAll('.l3-recorded')) revive(one);"
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title>\n<style>{View._css}</style></head>\n"
        f'<body>{"".join(recordings)}<script type="module">{script}</script></body></html>\n'
    )


def _kept(view: View, control: Control, before: dict[str, list]) -> list[object]:
    """The stops of a control in a recording: those it has in any state of the controls before."""
    if control.free:
        return list(dict.fromkeys([view.values[control.name], *control.recorded]))
    states = _states(view, before) if control.changes else [view.values]
    stops = list(dict.fromkeys(stop for state in states for stop in control.stops(view, state)))
    now, wanted = view.values[control.name], control.recorded
    if now not in stops:  # it is hidden now, or in every state
        stops.insert(0, now)
    if isinstance(wanted, int):
        stops = _thinned(stops, wanted, now)
    elif wanted is not None and not isinstance(wanted, int):
        stops = [stop for stop in stops if stop in wanted or stop == now]
    return stops


def _thinned(stops: list[object], most: int, now: object) -> list[object]:
    """First, last and some between; the present one always."""
    if len(stops) <= most:
        return stops
    places = {round(i * (len(stops) - 1) / (most - 1)) for i in range(most)}
    return [stop for i, stop in enumerate(stops) if i in places or stop == now]


def _packed(view: View, kept: dict[str, list], width: int) -> dict[str, object]:
    texts: dict[str, int] = {}
    states, before = [], []
    allowed = json.loads(json.dumps(kept))  # as options are: pairs become lists
    wanted = [tuple(values[name] for name in kept) for values in _states(view, kept)]
    fitted = [_seen(view, kept, values) for values in _states(view, kept)]
    alone = [one for one, fits in zip(wanted, fitted, strict=True) if one == fits]
    for one in alone:  # the others lead to one of these
        frame = dict(view.frame(view.values | dict(zip(kept, one, strict=True)), width))
        frame["stops"] = {
            name: [option for option in stops if name not in kept or option[0] in allowed[name]]
            for name, stops in frame["stops"].items()
        }
        head = json.dumps({k: v for k, v in frame.items() if k != "pieces"}, ensure_ascii=False)
        state = [texts.setdefault(text, len(texts)) for text in (head, *frame["pieces"])]
        states.append(_difference(before, state))
        before = state
    spec = json.loads(json.dumps(view._spec))
    for control in spec["controls"]:
        if control["kind"] == "text" and len(kept.get(control["name"], ())) > 1:
            control["kind"] = "choice"
            control["stops"] = [[words, words] for words in kept[control["name"]]]
        elif control["name"] in kept:
            names = allowed[control["name"]]
            control["stops"] = [option for option in control["stops"] if option[0] in names]
    numbers = {one: number for number, one in enumerate(alone)}
    places = [numbers.get(one, -1) for one in fitted]  # -1: leads to a state that is not kept
    controls = [{"name": name, "stops": stops} for name, stops in kept.items()]
    start = {"spec": spec, "start": view.values, "controls": controls}
    return start | {"texts": list(texts), "places": places, "states": states}


def _states(view: View, kept: dict[str, list]) -> Iterator[dict[str, object]]:
    for values in itertools.product(*kept.values()):
        yield view.values | dict(zip(kept, values, strict=True))


def _seen(view: View, kept: dict[str, list], values: dict[str, object]) -> tuple[object, ...]:
    """The state that these values lead to: what is hidden in it stays as it is now."""
    found = view.fitted(values)
    for name in kept:
        control = view.controls[name]
        if not control.free and not control.stops(view, found):
            found[name] = view.values[name]
    return tuple(found[name] for name in kept)


def _difference(before: list[int], after: list[int]) -> list[object]:
    """Length, and place and number of all that differs."""
    changed = [
        (i, number) for i, number in enumerate(after) if i >= len(before) or before[i] != number
    ]
    return [len(after), [part for pair in changed for part in pair]]
