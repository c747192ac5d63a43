"""A cache changes nothing but the time: scores with and without it are the same."""

import contextlib
import gc
import weakref

import pytest
import torch

from llama3lib.inference import KVCache, fuse_projections
from llama3lib.inference.kv_cache import CachedAttention
from llama3lib.model import ModelArgs, ScaledDotProductAttention, Transformer

ARGS = ModelArgs(
    dim=32,
    n_layers=3,
    n_heads=6,
    n_kv_heads=2,
    ffn_dim=48,
    vocab_size=60,
    head_dim=8,
    max_seq_len=40,
)


class _Planned(Exception):
    pass


def make(dtype=torch.float64, args=ARGS):
    model = Transformer(args).to(dtype)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator).to(dtype) * 0.3
    return model.eval()


def tokens_of(rows, length, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(ARGS.vocab_size, (rows, length), generator=generator)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize(
    "pieces", [[20], [1] * 20, [12] + [1] * 8, [5, 7, 1, 4, 3], [1, 19], [19, 1]]
)
def test_every_way_of_cutting_gives_the_uncached_scores(pieces, rows, fused):
    model, tokens = make(), tokens_of(rows, 20)
    expected = model(tokens)
    if fused:
        fuse_projections(model)
    with KVCache(model, batch_size=rows, max_seq_len=20) as cache:
        for piece in tokens.split(pieces, dim=1):
            scores = cache.step(piece)
            assert torch.allclose(scores, expected[:, cache.length - 1], rtol=0, atol=1e-12)
    assert cache.length == 20


@pytest.mark.parametrize(
    ("dtype", "atol"),
    # rounding of one product of this size: about 1e-7 and 1e-2 of logits around 3
    [(torch.float32, 2e-5), (torch.bfloat16, 0.25)],
)
def test_narrow_formats_agree_within_rounding(dtype, atol):
    model, tokens = make(dtype), tokens_of(1, 16)
    expected = model(tokens)[:, -1]
    with KVCache(model, max_seq_len=16) as cache:
        cache.step(tokens[:, :10])
        for piece in tokens[:, 10:].split(1, dim=1):
            scores = cache.step(piece)
    assert scores.dtype == dtype
    assert torch.allclose(scores, expected, rtol=0, atol=atol)


def test_the_model_is_its_old_self_afterwards_also_after_an_error():
    model, tokens = make(), tokens_of(1, 8)
    before = [layer.attention.inner_attention for layer in model.layers.values()]
    names = list(model.state_dict())
    with contextlib.suppress(_Planned), KVCache(model, max_seq_len=8) as cache:
        cache.step(tokens)
        inside = [layer.attention.inner_attention for layer in model.layers.values()]
        assert all(isinstance(module, CachedAttention) for module in inside)
        assert list(model.state_dict()) == names  # the cache is no part of a checkpoint
        raise _Planned
    after = [layer.attention.inner_attention for layer in model.layers.values()]
    assert all(a is b for a, b in zip(after, before, strict=True))
    assert isinstance(after[0], ScaledDotProductAttention)


def test_one_cache_at_a_time():
    model = make()
    with KVCache(model, max_seq_len=8) as cache:
        with (
            pytest.raises(ValueError, match="a cache already"),
            KVCache(model, max_seq_len=8),
        ):
            pass
        cache.step(tokens_of(1, 3))  # the first one still works


def test_the_memory_is_given_back():
    model = make()
    with KVCache(model, max_seq_len=8) as cache:
        cache.step(tokens_of(1, 3))
        store = weakref.ref(cache._store)
    del cache
    gc.collect()
    assert store() is None


def test_no_graph_is_kept():
    model = make().requires_grad_(True)
    with KVCache(model, max_seq_len=8) as cache:
        assert not cache.step(tokens_of(1, 3)).requires_grad


def test_size_in_bytes():
    cache = KVCache(make(torch.float32), batch_size=2, max_seq_len=10)
    layers, both, rows, kv_heads, tokens, head = 3, 2, 2, 2, 10, 8
    assert cache.nbytes == 4 * layers * both * rows * kv_heads * tokens * head


def test_wrong_use_is_told():
    model = make()
    with pytest.raises(ValueError, match="max_seq_len=41"):
        KVCache(model, max_seq_len=41)
    with pytest.raises(ValueError, match="max_seq_len=0"):
        KVCache(model, max_seq_len=0)
    with pytest.raises(ValueError, match="batch_size=0"):
        KVCache(model, batch_size=0, max_seq_len=4)
    with pytest.raises(ValueError, match="inside `with"):
        KVCache(model, max_seq_len=4).step(tokens_of(1, 2))
    with KVCache(model, batch_size=2, max_seq_len=4) as cache:
        with pytest.raises(ValueError, match="batch_size=2"):
            cache.step(tokens_of(1, 2))
        with pytest.raises(ValueError, match="5 tokens after 0"):
            cache.step(tokens_of(2, 5))
        cache.step(tokens_of(2, 4))
        with pytest.raises(ValueError, match="1 tokens after 4"):
            cache.step(tokens_of(2, 1))
