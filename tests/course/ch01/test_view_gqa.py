"""The GQA explorer: formula against a real cache, traits, browser arithmetic, JupyterLab."""

import pytest
import traitlets
from view_tools import kernel_says, run_js

from llama3lib.model import get_preset
from widgets.ch01.views.gqa import (
    CONTEXTS,
    MODELS,
    GQAExplorer,
    cache_cost,
    compare,
    draw_gqa,
    headline,
    kv_head_choices,
    shape_of,
    sharing,
    traffic_note,
)

GIB = 2**30


@pytest.mark.parametrize(
    "name, per_token, at_8k, at_128k, mha",
    [
        ("8B", 131_072, 1.0, 16.0, 64.0),
        ("70B", 327_680, 2.5, 40.0, 320.0),
        ("405B", 516_096, 3.9375, 63.0, 1008.0),
    ],
)
def test_cache_of_the_released_models(name, per_token, at_8k, at_128k, mha):
    args = get_preset(name)
    assert cache_cost(args, 8, 1024).bytes_per_token == per_token
    assert cache_cost(args, 8, 8192).cache_bytes / GIB == at_8k
    assert cache_cost(args, 8, 131_072).cache_bytes / GIB == at_128k
    assert cache_cost(args, args.n_heads, 131_072).cache_bytes / GIB == mha


def test_weights_read_are_those_of_the_model_without_its_input_embedding():
    args = get_preset("8B")
    assert cache_cost(args, 8, 1).weight_bytes == 2 * (8_030_261_248 - 128_256 * 4096)
    fewer = cache_cost(args, 8, 1).weight_bytes - cache_cost(args, 4, 1).weight_bytes
    assert fewer == 2 * 2 * 4 * 32 * 4096 * 128  # 2 bytes; wk and wv; 4 heads; 32 layers
    tied = get_preset("1B")
    assert cache_cost(tied, 8, 1).weight_bytes == 2 * 1_235_814_400


def test_neighbours_share_and_every_kv_head_serves_as_many():
    assert sharing(8, 2) == [0, 0, 0, 0, 1, 1, 1, 1]
    assert kv_head_choices(12) == [12, 6, 4, 3, 2, 1]
    for kv_heads in kv_head_choices(128):
        heads = sharing(128, kv_heads)
        assert {heads.count(kv) for kv in range(kv_heads)} == {128 // kv_heads}


def test_bad_numbers_of_heads_are_refused():
    with pytest.raises(ValueError, match="kv_heads=3 is not allowed: one of 8, 4, 2, 1"):
        sharing(8, 3)
    with pytest.raises(ValueError, match="kv_heads=0"):
        cache_cost(get_preset("8B"), 0, 1)
    with pytest.raises(ValueError, match="n_heads=0"):
        kv_head_choices(0)


def test_state_is_checked_and_follows_the_model():
    view = GQAExplorer()
    assert (view.model, view.kv_heads, view.cost().cache_bytes / GIB) == ("405B", 8, 63.0)
    for field, wrong in (("kv_heads", 3), ("model", "9B"), ("context", 1000)):
        with pytest.raises(traitlets.TraitError, match=f"{field}={wrong!r} is not allowed"):
            setattr(view, field, wrong)
    view.kv_heads = 128
    view.model = "8B"
    assert view.kv_heads == 32  # the 8B has no 128 heads
    assert "no sharing" in view.summary()
    own = GQAExplorer("mine", sizes={"mine": get_preset("tiny")})
    assert own.kv_heads == 2


def test_static_picture_and_table_tell_the_same():
    svg = draw_gqa("405B", get_preset("405B"), 8, 131_072)
    assert "<title>405B: 16 query heads share each KV head" in svg
    assert "63.0 GiB" in svg and "1,008 GiB" in svg
    rows = GQAExplorer().table()
    assert [row["cache"] for row in rows] == ["1,008 GiB", "63.0 GiB", "63.0 GiB", "7.875 GiB"]
    assert "image/svg+xml" in GQAExplorer()._repr_mimebundle_()[0]


def test_javascript_agrees_with_python(node, tmp_path):
    cases = [
        (name, kv, context)
        for name in MODELS
        for kv in kv_head_choices(get_preset(name).n_heads)
        for context in CONTEXTS
    ]
    shapes = {name: shape_of(get_preset(name)) for name in MODELS}
    given = [[shapes[name], kv, context] for name, kv, context in cases]
    got = run_js(node, tmp_path, "gqa", "compare", *given)
    for (name, kv, context), rows in zip(cases, got, strict=True):
        for (label, cost), (want, python) in zip(
            rows, compare(get_preset(name), kv, context), strict=True
        ):
            assert label == want
            assert cost == vars(python) | {"traffic_bytes": python.traffic_bytes}
    titles = run_js(node, tmp_path, "gqa", "headline", *[[n, shapes[n], k, c] for n, k, c in cases])
    assert titles == [headline(name, get_preset(name), kv, c) for name, kv, c in cases]
    notes = run_js(node, tmp_path, "gqa", "trafficNote", *[[rows[1][1]] for rows in got])
    assert notes == [traffic_note(cache_cost(get_preset(n), k, c)) for n, k, c in cases]
    heads = run_js(node, tmp_path, "gqa", "sharing", [128, 8], [32, 32], [64, 1])
    assert heads == [sharing(128, 8), sharing(32, 32), sharing(64, 1)]
    assert run_js(node, tmp_path, "gqa", "kvHeadChoices", [12]) == [kv_head_choices(12)]


@pytest.mark.browser
def test_in_jupyterlab(open_notebook):
    page = open_notebook(["from widgets import GQAExplorer\nview = GQAExplorer()\nview"])
    root = page.locator(".l3-gqa")
    root.wait_for()
    assert root.get_attribute("data-cache") == str(63 * GIB)
    assert page.locator(".l3-gqa .wire").count() == 128
    page.screenshot("gqa-light", ".l3-gqa")

    heads = page.locator(".l3-gqa input[data-trait=kv_heads]")
    heads.focus()
    page.page.keyboard.press("ArrowLeft")  # to the left are more heads
    want = cache_cost(get_preset("405B"), 16, 131_072).cache_bytes
    page.page.wait_for_function(
        f"() => document.querySelector('.l3-gqa').dataset.cache === '{want}'"
    )
    assert heads.get_attribute("aria-valuetext") == "16"
    assert "8 query heads share" in page.locator(".l3-gqa .l3-title").inner_text()
    page.page.wait_for_function(
        "() => document.querySelector('.l3-gqa .l3-voice').textContent.length > 9"
    )
    kernel_says(page, "view.kv_heads, view.cost().cache_bytes", f"(16, {want})")

    page.locator(".l3-gqa select").select_option("8B")
    heads.focus()
    page.page.keyboard.press("Home")
    page.page.wait_for_function("() => document.querySelectorAll('.l3-gqa .wire').length === 32")
    page.page.wait_for_function(
        f"() => document.querySelector('.l3-gqa').dataset.cache === '{64 * GIB}'"
    )
    kernel_says(page, "view.model, view.kv_heads", "('8B', 32)")

    tokens = page.locator(".l3-gqa input[data-trait=context]")
    down = page.median_move_ms(tokens, "ArrowLeft", 7)
    kernel_says(page, "view.context", "1024")
    page.locator(".l3-gqa select").select_option("405B")
    more = page.median_move_ms(heads, "ArrowRight", 5)
    assert max(down, more) <= 100


@pytest.mark.browser
def test_dark_theme(open_notebook):
    page = open_notebook(
        ["from widgets import GQAExplorer\nGQAExplorer('70B', kv_heads=64)"],
        theme="dark",
    )
    page.locator(".l3-gqa .wire").first.wait_for(state="attached")
    page.screenshot("gqa-dark", ".l3-gqa")
    hollow = "getComputedStyle(document.querySelector('.l3-gqa .head.hollow')).fill"
    paper = "getComputedStyle(document.querySelector('.l3-gqa')).backgroundColor"
    assert page.page.evaluate(f"() => {hollow} === {paper}")
