"""Fused blocks give the same scores with fewer and larger products."""

import pytest
import torch

from llama3lib.checkpoint import load_model, save_hf
from llama3lib.inference import (
    SamplingParams,
    fuse_projections,
    generate_tokens,
    unfuse_projections,
)
from llama3lib.inference.fuse import PackedLinear, PlainLinear, _can_pack
from llama3lib.model import DocumentMask, Transformer, get_preset
from llama3lib.quant import quantize_model


def make(dtype, **changes):
    model = Transformer(get_preset("tiny").replace(**changes))
    model.init_weights(torch.Generator().manual_seed(0))
    return model.to(dtype).eval()


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("options", [{"pack": False}, {}, {"one_text": True}])
def test_scores_of_all_positions_are_the_same(options, tied):
    model = make(torch.float32, tie_embeddings=tied)
    tokens = torch.randint(512, (2, 30), generator=torch.Generator().manual_seed(1))
    documents = DocumentMask(torch.arange(30).div(10, rounding_mode="floor").expand(2, -1))
    with torch.no_grad():
        plain, packed_rows = model(tokens), model(tokens, documents.positions(), documents)
        fuse_projections(model, **options)
        assert torch.allclose(model(tokens), plain, rtol=0, atol=1e-5)
        again = model(tokens, documents.positions(), documents)
        assert torch.allclose(again, packed_rows, rtol=0, atol=1e-5)


def test_float64_is_exact_to_rounding_and_is_never_packed():
    model, tokens = make(torch.float64), torch.arange(20)[None]
    expected = model(tokens)
    fuse_projections(model)
    assert isinstance(model.output, PlainLinear)
    assert torch.allclose(model(tokens), expected, rtol=0, atol=1e-13)
    with pytest.raises(ValueError, match="pack=True"):
        fuse_projections(make(torch.float64), pack=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_product_is_the_plain_one(dtype):
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(96, 64, generator=generator).to(dtype)
    if not _can_pack(weight):
        pytest.skip("this processor has no kernels for packed weights")
    for rows in (1, 5, 300):
        x = torch.randn(1, rows, 64, generator=generator).to(dtype)
        got, expected = PackedLinear(weight)(x), PlainLinear(weight)(x)
        step = torch.finfo(dtype).eps
        assert torch.allclose(got.float(), expected.float(), rtol=2 * step, atol=40 * step)


def test_greedy_text_is_the_same():
    prompt, params = [5, 6, 7], SamplingParams(max_tokens=40)
    plain = list(generate_tokens(make(torch.float32), prompt, params))
    fused = list(generate_tokens(fuse_projections(make(torch.float32)), prompt, params))
    assert plain == fused


def test_the_three_matrices_are_not_kept_beside_the_fused_one():
    model = make(torch.float32)
    before = sum(p.numel() for p in model.parameters())
    fuse_projections(model, pack=False)
    tensors = {t.data_ptr(): t.numel() for t in [*model.parameters(), *model.buffers()]}
    position_table = model.freqs_cis.numel()
    assert sum(tensors.values()) - position_table == before


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("one_text", [False, True])
def test_there_and_back_changes_no_bit(one_text, dtype, tied, tmp_path):
    model = make(dtype, tie_embeddings=tied)
    tokens = torch.arange(20)[None]
    before, scores = {k: v.clone() for k, v in model.state_dict().items()}, model(tokens)
    fuse_projections(model, one_text=one_text)
    with pytest.raises(ValueError, match="parameters"):  # a fused model is not saved by mistake
        save_hf(model, tmp_path / "fused")
    unfuse_projections(model)
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert torch.equal(model(tokens), scores)
    assert not model.training
    model(tokens).sum().backward()  # takes gradients again
    assert all(p.grad is not None for p in model.parameters())
    save_hf(model, tmp_path / "plain")
    assert torch.equal(load_model(tmp_path / "plain")(tokens), scores)


def test_a_plain_model_is_not_unfused():
    with pytest.raises(ValueError, match="not fused"):
        unfuse_projections(make(torch.float32))


def test_twice_is_refused():
    with pytest.raises(ValueError, match="fused already"):
        fuse_projections(fuse_projections(make(torch.float32)))


@pytest.mark.parametrize("scheme", ["fp8", "fp8-unbounded", "int8", "int8-dynamic", "int4"])
def test_fused_and_quantised_holds_the_numbers_of_quantised_alone(scheme):
    shape = {"dim": 64, "ffn_dim": 192, "n_heads": 4, "n_kv_heads": 2, "head_dim": 16}
    models = [make(torch.float32, n_layers=4, **shape) for _ in range(2)]
    alone = quantize_model(models[0], scheme)
    both = fuse_projections(models[1], scheme=scheme)
    inner = both.layers["1"].feed_forward
    joined = torch.cat([alone.layers["1"].feed_forward.get_submodule(w).dequantized()
                        for w in ("w1", "w3")])  # fmt: skip
    assert torch.equal(inner.w13.dequantized(), joined)
    kept = hasattr(both.layers["0"].feed_forward.w2, "dequantized")
    assert kept == (not scheme.startswith("fp8")) == hasattr(both.output, "dequantized")
    tokens = torch.randint(512, (1, 12), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        close = 2e-2 if scheme.startswith("int") else 1e-4
        assert (both(tokens) - alone(tokens)).abs().max() < close * alone(tokens).abs().max()


def test_what_was_replaced_is_not_replaced_again():
    with pytest.raises(ValueError, match="fused or quantised before"):
        fuse_projections(quantize_model(make(torch.float32), "int8"), scheme="int8")
    with pytest.raises(ValueError, match="fused or quantised before"):
        quantize_model(fuse_projections(make(torch.float32)), "int8")
    with pytest.raises(ValueError, match="its weights of before are gone"):
        unfuse_projections(fuse_projections(quantize_model(make(torch.float32), "int8")))
    with pytest.raises(ValueError, match="scheme='int3' is not allowed"):
        fuse_projections(make(torch.float32), scheme="int3")


def test_one_row_is_the_first_of_many():
    """One row takes another way through the packed product than several do."""
    for dtype in (torch.float32, torch.bfloat16):
        weight = torch.randn(96, 64, generator=torch.Generator().manual_seed(3)).to(dtype)
        if not _can_pack(weight):
            pytest.skip("this processor has no kernels for packed weights")
        x = torch.randn(7, 1, 64, generator=torch.Generator().manual_seed(4)).to(dtype)
        layer = PackedLinear(weight)
        got, many = torch.cat([layer(row[None]) for row in x]), layer(x)
        assert got.shape == many.shape
        step = torch.finfo(dtype).eps
        assert torch.allclose(got.float(), many.float(), rtol=2 * step, atol=40 * step)
