"""The roofline with its dot: the library's costs, the words, and the browser's arithmetic."""

import itertools

import pytest
import traitlets
from view_tools import run_js

from llama3lib.inference.roofline import H100, Chip, chips_needed, predict_seconds, step_cost
from llama3lib.model import get_preset
from llama3lib.paper import inference as facts
from widgets.ch09.views import roofline
from widgets.ch09.views.roofline import BATCHES, FORMATS, MODELS, STEPS, RooflineDot, dot

CASES = list(itertools.product(MODELS, FORMATS, STEPS, BATCHES))


def test_the_dot_is_the_librarys_step():
    args = get_preset("405B")
    it = dot(args, "BF16", "decode 4096", 64)
    want = step_cost(args, num_tokens=64, num_sequences=64, context_tokens=4096)
    assert it.cost == want and it.tokens == 64
    assert it.chips == chips_needed(args, H100, cache_tokens=64 * 4096)
    assert it.seconds == predict_seconds(want, H100, it.chips)
    read = dot(args, "FP8", "prefill 4096", 2)
    assert read.cost == step_cost(
        args, num_tokens=8192, num_sequences=2, context_tokens=4096, fp8_ffn=True
    )
    assert read.tokens == 8192 and read.chips == 8


def test_the_papers_set_ups_hold_the_405b():
    args = get_preset("405B")
    assert dot(args, "BF16", "decode 4096", 1).chips == facts.GPUS_BF16.value
    assert dot(args, "FP8", "decode 4096", 1).chips == 8


@pytest.mark.parametrize("model, fmt, step", [*itertools.product(MODELS, FORMATS, STEPS)])
def test_every_dot_lies_on_the_roof_or_under_it(model, fmt, step):
    for batch in BATCHES:
        it = dot(get_preset(model), fmt, step, batch)
        memory_roof = it.cost.intensity * H100.bytes_per_second
        roof = H100.fp8_flops if fmt == "FP8" else H100.flops
        assert it.rate <= min(memory_roof, roof) * (1 + 1e-9)
        assert max(it.used, it.busy) == pytest.approx(1)
        if it.bound == "memory":
            assert it.rate == pytest.approx(memory_roof)
            assert fmt == "FP8" or it.used == pytest.approx(it.cost.intensity / H100.ridge)
        elif fmt == "BF16":
            assert it.rate == pytest.approx(H100.flops)
        low, high = roofline.ends(H100)
        assert low < it.rate < high and roofline.LEFT < it.cost.intensity < roofline.RIGHT


def test_no_batch_passes_the_limit_of_its_context():
    args = get_preset("70B")
    limit = roofline.intensity_limit(args, 4096)
    found = [dot(args, "BF16", "decode 4096", batch).cost.intensity for batch in BATCHES]
    assert found == sorted(found) and found[-1] < limit
    huge = step_cost(args, num_tokens=2**30, num_sequences=2**30, context_tokens=4096)
    assert huge.intensity == pytest.approx(limit, rel=1e-4)


def test_words_table_and_picture_tell_the_same():
    view = RooflineDot()
    it = view.dot()
    assert it.bound == "memory" and it.used < 0.01
    title = view.summary()
    assert title == "405B BF16, decode, batch 1: memory bounds; 0.35% of the arithmetic is used"
    assert f"<title>{title}</title>" in view.static_svg()
    assert view.table()[0]["arithmetic used"] == "0.35%" and view.table()[0]["chips"] == "16"
    assert [row["batch"] for row in view.table()][-1] == "1,024"
    view.step = "prefill 4096"
    assert view.summary().startswith("405B BF16, prefill, batch 1: arithmetic bounds; the memory")
    view.setting = "8B FP8"
    assert "of the operations run in FP8" in view.static_svg()
    assert "image/svg+xml" in view._repr_mimebundle_()[0]


def test_own_sizes_and_another_chip():
    chip = Chip(
        name="old", flops=1e13, fp8_flops=None, bytes_per_second=1e11, memory_bytes=1e10, source=""
    )
    view = RooflineDot("mine x BF16", sizes={"mine x": get_preset("110m")}, chip=chip)
    assert view.dot() == dot(get_preset("110m"), "BF16", "decode 4096", 1, chip)
    assert "FP8: " not in view.static_svg() and "FLOP/s of one old" in view.static_svg()


@pytest.mark.parametrize(
    "field, wrong", [("batch", 3), ("step", "decode 5"), ("setting", "9B BF16")]
)
def test_the_state_is_checked(field, wrong):
    with pytest.raises(traitlets.TraitError, match=f"{field}={wrong!r} is not allowed: one of"):
        setattr(RooflineDot(), field, wrong)


def test_numbers_in_words():
    assert [roofline.three(v) for v in (0.34567, 15.13, 7184, 123456.7)] == [
        "0.346", "15.1", "7,180", "123,457",
    ]  # fmt: skip
    assert roofline.scaled(811.7e9, "B") == "812 GB" and roofline.scaled(0.5, "B") == "0.5 B"
    assert [roofline.duration(s) for s in (0.0151, 2.041)] == ["15.1 ms", "2.04 s"]
    assert [roofline.percent(p) for p in (0.00352, 0.474, 1)] == ["0.35%", "47%", "100%"]


def test_the_roofline_in_javascript(node, tmp_path):
    told = RooflineDot().facts

    def js(function, *cases):
        return run_js(node, tmp_path, "roofline", function, *([told, *case] for case in cases))

    for case, got in zip(CASES, js("dotOf", *CASES), strict=True):
        model, *rest = case
        want = dot(get_preset(model), *rest)
        assert (got["chips"], got["bound"], got["tokens"]) == (want.chips, want.bound, want.tokens)
        mine = [got[n] for n in ("seconds", "used", "busy", "rate")]
        assert mine == pytest.approx([want.seconds, want.used, want.busy, want.rate], rel=1e-12)
        cost = [got["cost"][n] for n in ("flops", "fp8", "weights", "cache")]
        python = [want.cost.flops, want.cost.fp8_flops, want.cost.weight_bytes]
        assert cost == pytest.approx([*python, want.cost.cache_bytes], rel=1e-12)
    for case, title, lines in zip(CASES, js("headline", *CASES), js("notes", *CASES), strict=True):
        model, fmt, step, _ = case
        args, it = get_preset(model), dot(get_preset(model), *case[1:])
        assert title == roofline.headline(model, fmt, step, it)
        assert lines == roofline.notes(args, fmt, step, it, H100)
    wide = list(itertools.product(MODELS, FORMATS, STEPS))
    want = [roofline.table_rows(get_preset(m), fmt, step, H100) for m, fmt, step in wide]
    assert js("tableRows", *wide) == want


def test_the_bend_is_named():
    said = "ridge 295: memory and arithmetic take equally long"
    assert roofline.ridge_words(H100) == said and said in RooflineDot().static_svg()
