"""The parameter treemap: counts against real modules, areas, Node, JupyterLab by keyboard."""

import pytest
import torch
import traitlets
from hypothesis import given
from hypothesis import strategies as st
from view_tools import kernel_says, run_js

from llama3lib.model import Transformer, get_preset
from widgets.ch01.views.treemap import (
    MAP,
    MODELS,
    ParameterTreemap,
    draw_treemap,
    headline,
    kinds,
    labels,
    layout,
    norms_note,
    part_of,
    share,
    squarify,
    total,
)

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
    boxes = {box.name: box for box in layout(found, *MAP)}
    drawn = [kind for kind in found if kind.part != "norms"]
    whole = total(drawn)
    for kind in drawn:
        area = boxes[kind.name].width * boxes[kind.name].height
        assert area / (MAP[0] * MAP[1]) == pytest.approx(kind.parameters / whole)
    assert set(boxes) == {kind.name for kind in drawn}


def test_words():
    found = kinds(get_preset("8B"))
    assert headline("8B", found) == "8B: 70.2% of 8,030,261,248 parameters are feed-forward"
    assert norms_note(found).endswith("266,240 parameters (0.0033%)")
    assert share(1, 3) == "33.3%"


def test_state_is_checked_and_follows_the_model():
    view = ParameterTreemap()
    assert (view.tied, total(view.kinds())) == (False, 8_030_261_248)
    view.model = "1B"
    assert view.tied
    view.tied = False
    view.model = "3B"
    assert view.tied
    assert total(ParameterTreemap("8B", tied=True).kinds()) == 7_504_924_672
    with pytest.raises(traitlets.TraitError, match="model='7B' is not allowed: one of 8B"):
        view.model = "7B"
    with pytest.raises(traitlets.TraitError, match="selected='w9' is not allowed"):
        view.selected = "w9"
    own = ParameterTreemap("mine", sizes={"mine": get_preset("small")})
    with torch.device("meta"):
        model = Transformer(get_preset("small"))
    assert total(own.kinds()) == sum(p.numel() for p in model.parameters())


def test_static_picture_and_table():
    svg = draw_treemap("8B", get_preset("8B"))
    assert "<title>8B: 70.2% of 8,030,261,248" in svg
    assert "feed_forward.w1 1,879,048,192 (23.4%)" in svg
    rows = ParameterTreemap("405B").table()
    assert rows[-1]["parameters"] == "405,853,388,800"
    assert {row["tensor"]: row["shape"] for row in rows}["attention.wk"] == "126 × [1,024 × 16,384]"


def test_javascript_agrees_with_python(node, tmp_path):
    models = ParameterTreemap().models
    cases = [(name, tied) for name in MODELS for tied in (False, True)]
    given_ = [[models[name]["shapes"], tied] for name, tied in cases]
    got = run_js(node, tmp_path, "treemap", "kindsOf", *given_)
    maps = run_js(node, tmp_path, "treemap", "layout", *[[found, *MAP] for found in got])
    titles = run_js(
        node, tmp_path, "treemap", "headline", *[[c[0], k] for c, k in zip(cases, got, strict=True)]
    )
    for (name, tied), js, boxes, title in zip(cases, got, maps, titles, strict=True):
        found = kinds(get_preset(name), tied)
        assert [(k["name"], k["parameters"]) for k in js] == [(k.name, k.parameters) for k in found]
        assert title == headline(name, found)
        whole = total(found)
        for box, want in zip(boxes, layout(found, *MAP), strict=True):
            assert box == pytest.approx(vars(want) | {"name": want.name})
        sizes = [(150, 110), (90, 22), (200, 10)]
        words = [[kind, whole, *size] for kind in js for size in sizes]
        assert run_js(node, tmp_path, "treemap", "labels", *words) == [
            labels(kind, whole, *size) for kind in found for size in sizes
        ]


@pytest.mark.browser
def test_in_jupyterlab(open_notebook):
    page = open_notebook(["from widgets import ParameterTreemap\nview = ParameterTreemap()\nview"])
    root = page.locator(".l3-treemap")
    root.wait_for()
    assert root.get_attribute("data-total") == "8030261248"
    boxes = page.locator(".l3-treemap [role=option]")
    assert boxes.count() == 10  # nine kinds and the line about the norms
    page.screenshot("treemap-light", ".l3-treemap")

    boxes.first.focus()
    for _ in range(3):
        page.page.keyboard.press("ArrowRight")
    page.page.wait_for_function(
        "() => document.querySelector('.l3-treemap .detail').textContent.startsWith('attention.wq')"
    )
    assert (
        page.locator(".l3-treemap [aria-selected=true]").get_attribute("data-name")
        == "attention.wq"
    )
    kernel_says(page, "view.selected", "'attention.wq'")
    page.screenshot("treemap-focus", ".l3-treemap")

    tied = page.locator(".l3-treemap input[data-trait=tied]")
    tied.focus()
    page.page.keyboard.press("Space")
    page.page.wait_for_function(
        "() => document.querySelector('.l3-treemap').dataset.total === '7504924672'"
    )
    kernel_says(page, "view.tied, sum(k.parameters for k in view.kinds())", "(True, 7504924672)")
    model = page.locator(".l3-treemap select")
    model.focus()
    page.page.keyboard.press("ArrowDown")
    page.page.wait_for_function(
        "() => document.querySelector('.l3-treemap').dataset.total === '70553706496'"
    )
    page.page.wait_for_function("() => !document.querySelector('.l3-treemap input').checked")
    kernel_says(page, "view.model, view.tied", "('70B', False)")
    assert page.median_move_ms(tied, "Space") <= 100


@pytest.mark.browser
def test_dark_theme(open_notebook):
    page = open_notebook(
        ["from widgets import ParameterTreemap\nParameterTreemap('1B')"],
        theme="dark",
    )
    page.locator(".l3-treemap [role=option]").first.wait_for(state="attached")
    page.screenshot("treemap-dark", ".l3-treemap")
    ink = "getComputedStyle(document.querySelector('.l3-treemap text')).fill"
    assert page.page.evaluate(f"() => {ink}").startswith("rgba(255, 255, 255")
