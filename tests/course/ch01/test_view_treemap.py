"""The parameter treemap: counts against real modules, areas, words and choices."""

import json
import xml.etree.ElementTree as ET

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llama3lib.model import Transformer, get_preset
from widgets.ch01.views.treemap import (
    MODELS,
    ParameterTreemap,
    headline,
    kinds,
    labels,
    layout,
    norms_note,
    part_of,
    sentence,
    share,
    squarify,
    table_rows,
    total,
)
from widgets.view.measure import text_width

TOTALS = {
    "8B": 8_030_261_248,
    "70B": 70_553_706_496,
    "405B": 405_853_388_800,
    "1B": 1_235_814_400,
    "3B": 3_212_749_824,
}


@pytest.mark.parametrize("name", TOTALS)
def test_totals_are_the_published_ones(name):
    assert total(kinds(get_preset(name))) == TOTALS[name]


@pytest.mark.parametrize("name", ["8B", "1B", "tiny"])
def test_kinds_are_the_tensors_of_a_real_model(name):
    with torch.device("meta"):
        model = Transformer(get_preset(name))
    real = {}
    for path, weight in model.named_parameters():
        steps = path.removesuffix(".weight").split(".")
        kind = ".".join(steps[2:] if steps[0] == "layers" else steps)
        count, _ = real.get(kind, (0, None))
        real[kind] = (count + 1, tuple(weight.shape))
    found = {kind.name: (kind.copies, kind.shape) for kind in kinds(get_preset(name))}
    assert found == real


def test_what_if_the_8b_were_tied():
    assert total(kinds(get_preset("8B"), tied=True)) == 7_504_924_672
    assert total(kinds(get_preset("1B"), tied=False)) == 1_235_814_400 + 128_256 * 2048


def test_parts():
    assert [part_of(n) for n in ("tok_embeddings", "output", "norm", "attention.wq")] == [
        "embedding",
        "output",
        "norms",
        "attention",
    ]
    assert part_of("attention_norm") == part_of("ffn_norm") == "norms"
    assert part_of("feed_forward.w2") == "feed_forward"


@given(
    sizes=st.lists(st.floats(0.01, 1000), min_size=1, max_size=12),
    width=st.floats(10, 2000),
    height=st.floats(10, 2000),
)
def test_squarify_fills_the_rectangle_in_proportion(sizes, width, height):
    boxes = squarify([(str(i), size) for i, size in enumerate(sizes)], 0.0, 0.0, width, height)
    whole = sum(sizes)
    for size, box in zip(sizes, boxes, strict=True):
        assert box.width * box.height == pytest.approx(width * height * size / whole, rel=1e-6)
        assert box.x >= -1e-6
        assert box.y >= -1e-6
        assert box.x + box.width <= width * (1 + 1e-6)
        assert box.y + box.height <= height * (1 + 1e-6)
    for i, a in enumerate(boxes):  # areas add up and nothing overlaps
        for b in boxes[i + 1 :]:
            wide = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
            high = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
            assert min(wide, high) <= 1e-6 * max(width, height)


def test_empty_sizes_are_refused():
    with pytest.raises(ValueError, match="above 0"):
        squarify([("a", 1.0), ("b", 0.0)], 0, 0, 10, 10)
    assert squarify([], 0, 0, 10, 10) == []


def test_areas_follow_counts():
    found = kinds(get_preset("405B"))
    boxes = {box.name: box for box in layout(found, 900, 400)}
    drawn = [kind for kind in found if kind.part != "norms"]
    whole = total(drawn)
    for kind in drawn:
        area = boxes[kind.name].width * boxes[kind.name].height
        assert area / (900 * 400) == pytest.approx(kind.parameters / whole)
    assert set(boxes) == {kind.name for kind in drawn}


def test_words():
    found = kinds(get_preset("8B"))
    assert headline("8B", found) == "8B: 70.2% of 8,030,261,248 parameters are feed-forward"
    assert norms_note(found).endswith("266,240 parameters (0.0033%)")
    assert share(1, 3) == "33.3%"


def test_state_is_checked_and_follows_the_model():
    view = ParameterTreemap()
    assert total(view.kinds()) == 8_030_261_248
    view.model = "1B"  # released tied
    assert total(view.kinds()) == TOTALS["1B"]
    view.tied = False
    assert total(view.kinds()) == TOTALS["1B"] + 128_256 * 2048
    view.model = "8B"  # as it was released, for it has no such question
    assert (view.tied, total(view.kinds())) == (None, TOTALS["8B"])
    assert total(ParameterTreemap("8B", tied=True).kinds()) == 7_504_924_672
    assert ParameterTreemap("8B", tied=False).tied is None
    with pytest.raises(ValueError, match="model='7B' is not allowed: one of 8B"):
        view.model = "7B"
    with pytest.raises(ValueError, match="model='7B' is not allowed: one of 8B"):
        ParameterTreemap("7B")
    with pytest.raises(ValueError, match="selected='w9' is not allowed"):
        view.selected = "w9"
    own = ParameterTreemap("mine", sizes={"mine": get_preset("small")})
    with torch.device("meta"):
        model = Transformer(get_preset("small"))
    assert total(own.kinds()) == sum(p.numel() for p in model.parameters())


def test_a_choice_that_a_tied_model_lacks_is_left():
    view = ParameterTreemap("8B")
    view.selected = "output"
    view.tied = True
    assert view.selected != "output"
    assert "output" not in {kind.name for kind in view.kinds()}


@pytest.mark.parametrize("name", MODELS)
def test_picture_note_and_table(name):
    view = ParameterTreemap(name)
    frame, found = view.frame(), view.kinds()
    assert frame["title"] == headline(name, found)
    assert frame["table"] == table_rows(found)
    assert frame["facts"]["total"] == str(total(found))
    picture = ET.fromstring(f"<svg>{''.join(frame['pieces'])}</svg>")
    spots = {json.loads(e.get("data-put"))[1]: e for e in picture.iter() if e.get("data-put")}
    drawn = [kind for kind in found if kind.part != "norms"]
    assert sorted(spots) == sorted([*(kind.name for kind in drawn), "norms"])
    view.selected = drawn[-1].name
    assert view.frame()["notes"] == [spots[drawn[-1].name].get("data-tip")]
    view.selected = "norms"
    assert view.frame()["notes"] == [norms_note(found)]


def test_words_of_the_405b():
    view = ParameterTreemap("405B")
    assert view.table()[-1]["parameters"] == "405,853,388,800"
    shapes = {row["tensor"]: row["shape"] for row in view.table()}
    assert shapes["attention.wk"] == "126 × [1,024 × 16,384]"
    told = sentence(kinds(get_preset("8B"))[0], TOTALS["8B"])
    assert told.endswith("32 × [14,336 × 4,096] = 1,879,048,192 parameters, 23.4%")


@pytest.mark.parametrize("size", [(150, 110), (90, 22), (200, 10), (60, 60)])
def test_labels_fit_their_box(size):
    for kind in kinds(get_preset("8B")):
        lines = labels(kind, TOTALS["8B"], *size)
        assert all(text_width(line, 14) <= size[0] - 12 for line in lines)
        assert 19 * len(lines) <= max(size[1], 19)
