"""Variants of the block: equal in size, and each differs in what its name says."""

import pytest
import torch
from torch import nn

from llama3lib.model import Transformer
from llama3lib.train.byte_model import ByteRun
from llama3lib.train.variants import BASE, VARIANTS, variant_loss

SIZES = {name: v.build(v.args()) for name, v in VARIANTS.items()}


def built(name):
    model = SIZES[name]
    model.init_weights(torch.Generator().manual_seed(0))
    return model.eval()


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def test_all_have_the_same_number_of_parameters():
    counts = {name: parameters(model) for name, model in SIZES.items()}
    assert counts.pop("no norms") == counts["MHA"] - 2 * BASE.dim * BASE.n_layers
    assert set(counts.values()) == {parameters(Transformer(BASE))}


def test_the_first_is_the_model_page_as_it_stands():
    plain = Transformer(BASE)
    plain.init_weights(torch.Generator().manual_seed(0))
    tokens = torch.arange(20)[None]
    with torch.no_grad():
        assert torch.equal(plain(tokens), built("Llama (GQA)")(tokens))


def test_without_rope_positions_are_not_read():
    tokens, moved = torch.arange(20)[None], torch.arange(20)[None] * 3
    with torch.no_grad():
        for name, same in (("no RoPE", True), ("Llama (GQA)", False)):
            assert torch.equal(built(name)(tokens), built(name)(tokens, moved)) is same


def test_only_after_a_post_norm_is_the_stream_of_size_1():
    x = 7 * torch.randn(1, 5, BASE.dim, generator=torch.Generator().manual_seed(1))
    for name, one in (("post-norm", True), ("Llama (GQA)", False)):
        model = built(name)
        with torch.no_grad():
            out = model.layers["0"](x, model.freqs_cis, torch.arange(5)[None])
        size = out.pow(2).mean(-1).sqrt()
        assert torch.allclose(size, torch.ones(1, 5), atol=1e-3) is one


def test_layer_norm_alone_ignores_an_offset_and_without_norms_nothing_is_changed():
    x = torch.randn(3, BASE.dim, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        for name, same in (("LayerNorm", True), ("Llama (GQA)", False)):
            norm = built(name).layers["1"].ffn_norm
            assert torch.allclose(norm(x), norm(x + 5), atol=1e-4) is same
        assert torch.equal(built("no norms").layers["1"].ffn_norm(x), x)


def test_relu_layer_has_no_gate():
    layer = built("ReLU").layers["0"].feed_forward
    x = torch.randn(4, BASE.dim, generator=torch.Generator().manual_seed(3))
    by_hand = (x @ layer.w1.weight.T).clamp(min=0) @ layer.w2.weight.T
    with torch.no_grad():
        assert torch.allclose(layer(x), by_hand, atol=1e-6)
    assert [type(part) for part in layer.children()] == [nn.Linear, nn.Linear]


@pytest.mark.parametrize("name", ["MQA", "post-norm", "no norms"])
def test_each_learns_and_a_seed_gives_the_same_loss(name):
    texts = ["abcdefgh" * 60]
    run = ByteRun(steps=40, batch_size=4, length=32)
    first = variant_loss(name, texts, texts, run)
    assert first == variant_loss(name, texts, texts, run)
    assert first < 4  # 5.5 is what a uniform guess costs


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match=r"name='GLU' is not allowed: one of \('Llama \(GQA\)'"):
        variant_loss("GLU", ["text"], ["text"])
