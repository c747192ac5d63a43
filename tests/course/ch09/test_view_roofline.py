"""The roofline with its dot: the library's costs, the words, and the browser's arithmetic."""

import itertools

import pytest

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
    assert title == "405B in BF16, decode, batch 1: memory-bound, 0.35% of peak FLOP/s used"
    assert f"<title>{title}</title>" in view.static_svg()
    assert view.table()[0]["arithmetic used"] == "0.35%" and view.table()[0]["chips"] == "16"
    assert [row["batch"] for row in view.table()][-1] == "1,024"
    view.step = "prefill 4096"
    assert view.summary().startswith("405B in BF16, prefill, batch 1: compute-bound, ")
    view.setting = "8B FP8"
    assert any("of the operations run in FP8" in note for note in view.frame()["notes"])
    assert "image/svg+xml" in view._repr_mimebundle_()[0]


def test_own_sizes_and_another_chip():
    chip = Chip(
        name="old", flops=1e13, fp8_flops=None, bytes_per_second=1e11, memory_bytes=1e10, source=""
    )
    view = RooflineDot("mine x BF16", sizes={"mine x": get_preset("110m")}, chip=chip)
    assert view.dot() == dot(get_preset("110m"), "BF16", "decode 4096", 1, chip)
    assert "FP8: " not in view.static_svg() and "FLOP/s of one old" in view.static_svg()


def test_the_bend_is_named():
    said = "ridge 295: memory and arithmetic take equally long"
    assert roofline.ridge_words(H100) == said and said in RooflineDot().static_svg()
