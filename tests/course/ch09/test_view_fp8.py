"""The FP8 grid: real activations, the library's rounding, and the browser's to the bit."""

import itertools

import pytest
import torch

from llama3lib.checkpoint import load_model, load_tokenizer
from llama3lib.quant.fp8 import BOUND as KERNEL_BOUND
from llama3lib.quant.fp8 import quantize_rows
from widgets.ch09.views import fp8
from widgets.ch09.views.fp8 import (
    OUTLIERS,
    SCHEMES,
    Activations,
    FP8Grid,
    ffn_inputs,
    grid,
    tiny_inputs,
)

CASES = list(itertools.product(OUTLIERS, SCHEMES))


@pytest.fixture(scope="module")
def model():
    return load_model("tiny-base")


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("tiny-base")


def test_the_values_are_what_the_layer_gets(model, tokenizer):
    given = ffn_inputs(model, tokenizer, layer=2, tokens=9, channels=20)
    assert given.values.shape == (9, 20) and len(given.tokens) == 9
    ids = torch.tensor([tokenizer.encode(fp8.TEXT, bos=True)[:10]])
    assert "".join(given.tokens).replace("␣", " ") == tokenizer.decode(ids[0, 1:].tolist())
    # the same by another way: the layer's pieces by hand, up to its second norm
    with torch.no_grad():
        turns, metadata = model.freqs_cis, None
        x = model.tok_embeddings(ids)
        positions = torch.arange(10).unsqueeze(0)
        for number in ("0", "1"):
            x = model.layers[number](x, turns, positions, metadata)
        layer = model.layers["2"]
        x = x + layer.attention(layer.attention_norm(x), turns, positions, metadata)
        want = layer.ffn_norm(x)[0, 1:, :20]
    assert torch.allclose(given.values, want, atol=1e-6)
    assert not model.layers["2"].feed_forward._forward_pre_hooks


def test_a_wrong_layer_or_text_is_refused(model, tokenizer):
    with pytest.raises(ValueError, match="layer=4 is not allowed: 0 to 3"):
        ffn_inputs(model, tokenizer, layer=4)
    with pytest.raises(ValueError, match="text='Hi' is not allowed: 12 tokens or more"):
        ffn_inputs(model, tokenizer, "Hi")
    with pytest.raises(ValueError, match="a row for each token"):
        Activations(("a",), torch.ones(2, 3))


def test_one_scale_for_all_ends_in_zeros():
    """Orders of magnitude of error against the outlier, measured once on other activations."""
    given = tiny_inputs()
    expected = {1: 0.037, 1000: 0.037, 10_000: 0.048, 100_000: 0.36, 1_000_000: 1.0}
    for outlier, about in expected.items():
        got = grid(given, outlier, "tensor").others
        assert about / 2 < got < about * 2 or outlier == 1_000_000
        assert 0.015 < grid(given, outlier, "row").others < 0.04
    worst = grid(given, 1_000_000, "tensor")
    assert worst.others > 0.99 and worst.count("dead") == given.values.numel() - 1


def test_rows_keep_the_harm_at_home_and_the_bound_ends_it():
    given = tiny_inputs()
    row, column = given.largest
    by_row, bounded = (grid(given, 1_000_000, scheme) for scheme in ("row", "bounded"))
    assert by_row.count("dead") == given.values.shape[1] - 1
    assert all(not set(kinds) - {0, 1} for i, kinds in enumerate(by_row.kinds) if i != row)
    assert by_row.neighbours > 0.99 and bounded.neighbours < 0.06
    assert bounded.count("saturated") == 1 and bounded.kinds[row][column] == 3
    assert bounded.back[row, column].abs().item() == pytest.approx(fp8.BOUND)
    assert fp8.BOUND == KERNEL_BOUND
    assert bounded.scales[row] == pytest.approx(1200 / 448)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_kinds_are_what_they_say(scheme):
    given = tiny_inputs()
    for outlier in (1, 10_000, 300_000):
        it = grid(given, outlier, scheme)
        for i, j in itertools.product(*map(range, it.planted.shape)):
            x, back = it.planted[i, j].item(), it.back[i, j].item()
            far = abs(back - x) / abs(x)
            want = 2 if back == 0 else 3 if abs(x) > 1200 and scheme == "bounded" else far > 1 / 16
            assert it.kinds[i][j] == want
    q, scale = quantize_rows(given.values)
    assert torch.equal(grid(given, 1, "row").back, q.float() * scale)


def test_zeros_are_no_losses():
    given = Activations(("a", "b"), torch.tensor([[0.0, 1.0], [0.0, 0.0]]))
    for scheme in SCHEMES:
        it = grid(given, 1_000_000, scheme)
        assert it.kinds[1] == [0, 0] and it.count("dead") == 0


def test_words_table_and_picture_tell_the_same():
    view = FP8Grid()
    it = view.grid()
    dead = it.count("dead")
    assert view.summary() == (
        f"Outlier × 100,000, one scale for all rows: {dead} of 384 values die"
    )
    assert sum(int(row["dead"]) for row in view.table()) == dead > 150
    assert view.static_svg().count(">×<") == dead + 1  # and one in the legend
    view.scheme = "bounded"
    assert view.summary().endswith("bound 1,200: no value dies, 1 saturates")
    assert "comes back as -1,200" in view.frame()["notes"][-1]
    assert view.cell == view.activations.largest
    assert view.cell_words().endswith("off: saturated")
    view.outlier = 1
    assert "saturate" not in view.summary()
