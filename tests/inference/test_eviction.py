"""A cache that forgets: what is kept is what the policy says, and nothing else changes."""

import pytest
import torch

from llama3lib.inference import KVCache
from llama3lib.inference.attend import attend
from llama3lib.inference.eviction import EvictingAttention, EvictingCache
from llama3lib.model import ModelArgs, Transformer
from llama3lib.model.attention import ScaledDotProductAttention

SHAPE = {"dim": 32, "n_layers": 2, "n_heads": 6, "n_kv_heads": 2, "ffn_dim": 48, "head_dim": 8}
POLICIES = ("window", "sinks", "scores")
TOKENS = torch.randint(60, (3, 41), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def model():
    made = Transformer(ModelArgs(**SHAPE, vocab_size=60, max_seq_len=64)).double().eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in made.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator).double() * 0.3
    return made


class Masked(torch.nn.Module):
    """Plain attention under a mask [T, S]."""

    def __init__(self, mask):
        super().__init__()
        self.mask = mask

    def forward(self, q, k, v, attn_metadata=None):
        return attend(q, k.transpose(1, 2), v.transpose(1, 2), self.mask)


@torch.no_grad()
def masked(model, mask):
    inner = [layer.attention.inner_attention for layer in model.layers.values()]
    for layer in model.layers.values():
        layer.attention.inner_attention = Masked(mask)
    try:
        return model(TOKENS)
    finally:
        for layer, one in zip(model.layers.values(), inner, strict=True):
            layer.attention.inner_attention = one


@pytest.mark.parametrize("policy", POLICIES)
def test_with_room_for_all_nothing_is_forgotten(model, policy):
    with EvictingCache(model, policy=policy, max_blocks=11, block_size=4) as cache:
        parts = [cache.read(part) for part in TOKENS.split([1, 6, 1, 20, 13], 1)]
        assert cache.tokens_kept == 41
    with torch.no_grad():
        torch.testing.assert_close(torch.cat(parts, 1), model(TOKENS))


@pytest.mark.parametrize("policy", POLICIES[:2])
@pytest.mark.parametrize("max_blocks", [2, 5])
def test_a_window_is_a_mask(model, policy, max_blocks):
    block = torch.arange(41) // 4
    near = block[:, None] - block < max_blocks - (policy == "sinks")
    seen = (near | (block == 0)) if policy == "sinks" else near
    mask = seen & torch.ones(41, 41, dtype=torch.bool).tril()
    with EvictingCache(model, policy=policy, max_blocks=max_blocks, block_size=4) as cache:
        made = torch.cat([cache.read(part) for part in TOKENS.split([9, 1, 1, 30], 1)], 1)
        assert cache.tokens_kept <= max_blocks * 4
    torch.testing.assert_close(made, masked(model, mask))


def test_by_scores_the_least_read_of_the_older_blocks_goes_in_each_row():
    inner = EvictingAttention("scores", max_blocks=5, block_size=2)
    inner.keys = torch.arange(10.0).view(1, 1, 10, 1).expand(2, 1, 10, 1)
    inner.values = inner.keys
    old = [[9.0, 9, 1, 1, 5, 5], [1.0, 0, 2, 2, 5, 5]]
    inner.scores = torch.tensor([row + [0.0] * 4 for row in old])
    inner._evict(coming=1)
    assert inner.keys[:, 0, :, 0].tolist() == [
        [0, 1, 4, 5, 6, 7, 8, 9],
        [2, 3, 4, 5, 6, 7, 8, 9],
    ]
    assert inner.scores[1].tolist() == [2, 2, 5, 5, 0, 0, 0, 0]


def test_scores_add_up_to_the_queries_that_gave_them(model):
    with EvictingCache(model, policy="scores", max_blocks=20, block_size=4) as cache:
        cache.read(TOKENS)
        for layer in model.layers.values():
            given = layer.attention.inner_attention.scores.sum(1)
            torch.testing.assert_close(given, torch.full((3,), 41.0 * 6).double())
    assert isinstance(model.layers["0"].attention.inner_attention, ScaledDotProductAttention)


def test_wrong_input_is_named(model):
    cases = [
        (dict(policy="oldest", max_blocks=4), "policy='oldest'"),
        (dict(policy="window", max_blocks=1), "max_blocks=1"),
        (dict(policy="window", max_blocks=2, block_size=0), "block_size=0"),
    ]
    for options, message in cases:
        with pytest.raises(ValueError, match=message):
            EvictingCache(model, **options)
    cache = EvictingCache(model, policy="window", max_blocks=2)
    with pytest.raises(ValueError, match="not in the model"):
        cache.read(TOKENS)
    with KVCache(model, max_seq_len=9), pytest.raises(ValueError, match="a cache already"):
        cache.__enter__()
    with cache, pytest.raises(ValueError, match="position 69"):
        cache.read(torch.zeros(1, 70, dtype=torch.long))
    assert isinstance(model.layers["1"].attention.inner_attention, ScaledDotProductAttention)
