"""What every view must do, in every state, at every width; one test file for all of them."""

import base64
import gzip
import itertools
import json
import random
import re
import xml.etree.ElementTree as ET

import pytest
from view_samples import SAMPLES, sample

import widgets
from widgets.view import View
from widgets.view.measure import text_width
from widgets.view.paper import STEM, WIDTHS
from widgets.view.record import record

MANY = 24
"""States of a view that are looked at: the first, and others drawn at random."""
_TRANSLATE = re.compile(r"translate\((-?[\d.]+) (-?[\d.]+)\)")


@pytest.fixture(scope="module")
def views():
    """Each view once, made when first asked for."""
    made: dict[str, View] = {}
    return lambda name: made.setdefault(name, sample(name))


def states(view, most=MANY):
    """Values of the controls that draw, with no more than `most` states."""
    draws = {n: list(c.stops(view, view.values)) for n, c in view.controls.items() if not c.free}
    draws = {name: stops for name, stops in draws.items() if stops and name in view.drawn_by}
    rng = random.Random(0)
    all_ = list(itertools.islice(itertools.product(*draws.values()), 20_000))
    chosen = all_ if len(all_) <= most else [all_[0], all_[-1], *rng.sample(all_, most - 2)]
    return [view.fitted(view.values | dict(zip(draws, one, strict=True))) for one in chosen]


def test_every_view_of_the_course_has_a_sample():
    named = [name for name in widgets.__all__ if isinstance(getattr(widgets, name), type)]
    assert {n for n in named if issubclass(getattr(widgets, n), View)} == set(SAMPLES)


def texts(element, x=0.0):
    """Left end, right end and words of every text below an element."""
    moved = _TRANSLATE.match(element.get("transform", ""))
    x += float(moved[1]) if moved else 0.0
    if element.tag == "text":
        size = float(element.get("font-size", 14))
        wide = text_width(element.text or "", size, bold=element.get("font-weight") == "600")
        at = x + float(element.get("x", 0))
        left = at - {"middle": wide / 2, "end": wide}.get(element.get("text-anchor"), 0)
        yield left, left + wide, element.text
    for part in element:
        yield from texts(part, x)


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("width", WIDTHS)
def test_pictures_are_whole(views, name, width):
    view = views(name)
    for values in states(view, MANY if width == WIDTHS[0] else 6):
        frame = view.frame(values, width)
        picture = ET.fromstring(f"<svg>{''.join(frame['pieces'])}</svg>")
        cut = [t for t in texts(picture) if t[0] < -3 or t[1] > width + 3]
        assert not cut, f"cut off at {values}: {cut[:3]}"
        keys = [e.get("data-key") for e in picture.iter() if e.get("data-key")]
        assert len(keys) == len(set(keys)), f"a key stands twice at {values}"
        assert frame["title"].strip()
        assert frame["size"][1] <= (560 if width == WIDTHS[0] else 900)
        json.dumps(frame)


@pytest.mark.parametrize("name", SAMPLES)
def test_what_can_be_chosen_is_allowed(views, name):
    view = views(name)
    for values in states(view, 6):
        for piece in ET.fromstring(f"<svg>{''.join(view.frame(values)['pieces'])}</svg>").iter():
            if put := piece.get("data-put"):
                control, value = json.loads(put)
                found = view.controls[control].check(view, values, _tuples(value))
                assert json.loads(json.dumps(found)) == value
                assert piece.get("data-tip") or piece.get("aria-label"), "nothing to read out"


def _tuples(value):
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


@pytest.mark.parametrize("name", SAMPLES)
def test_every_control_that_draws_changes_the_picture(views, name):
    view = views(name)
    for control in view.drawn_by:
        if view.controls[control].free:
            continue
        pictures = set()
        for values in states(view):
            for stop in view.controls[control].stops(view, values):
                other = view.fitted(values | {control: stop})
                pictures.add(json.dumps([view.frame(other)[k] for k in ("pieces", "title")]))
                if len(pictures) > 1:
                    break
            if len(pictures) > 1:
                break
        assert len(pictures) > 1, f"{control} changes nothing"


@pytest.mark.parametrize("name", SAMPLES)
def test_stored_form_is_complete(views, name):
    view = views(name)
    svg = view.static_svg()
    root = ET.fromstring(svg)
    assert STEM not in svg
    assert "<script" not in svg
    space = "{http://www.w3.org/2000/svg}"
    assert root.find(f"{space}title").text == view.summary()
    ids = set(re.findall(r'id="([^"]+)"', svg))
    assert set(re.findall(r"url\(#([^)]+)\)", svg)) <= ids
    plain = view._repr_mimebundle_()[0]["text/plain"]
    assert plain.startswith(view.summary())


@pytest.mark.parametrize("name", SAMPLES)
def test_bad_values_are_named(views, name):
    view = views(name)
    before = dict(view.values)
    for control in view.controls:
        with pytest.raises(ValueError, match=f"^{control}="):
            setattr(view, control, object())
    assert view.values == before
    with pytest.raises(ValueError, match="no_such_control"):
        view.move(no_such_control=1)


@pytest.mark.parametrize("most", [3, pytest.param(None, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", SAMPLES)
def test_a_recording_holds_the_same_pictures(views, name, most):
    view = views(name)
    packed = re.search(r'octet-stream">([^<]+)<', record(view, most=most))[1]
    assert len(packed) < 600_000
    data = json.loads(gzip.decompress(base64.b64decode(packed)))
    kept, state = [], []
    for length, changes in data["states"]:
        state = (state + [None] * length)[:length]
        for place, text in zip(changes[::2], changes[1::2], strict=True):
            state[place] = text
        kept.append([data["texts"][i] for i in state])
    stops = [control["stops"] for control in data["controls"]]
    whole = dict(
        zip(itertools.product(*(range(len(s)) for s in stops)), data["places"], strict=True)
    )
    for place in random.Random(1).sample(sorted(whole), min(8, len(whole))):
        if whole[place] < 0:
            continue
        names = [control["name"] for control in data["controls"]]
        values = {n: s[i] for n, s, i in zip(names, stops, place, strict=True)}
        head, *pieces = kept[whole[place]]
        frame = view.frame(view.values | {n: _tuples(v) for n, v in values.items()})
        assert pieces == frame["pieces"]
        assert json.loads(head)["title"] == frame["title"]
