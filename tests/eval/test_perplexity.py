"""Loss by position: a float64 loop one token at a time, transformers, and closed forms."""

import math

import numpy as np
import pytest
import torch

from llama3lib.checkpoint import hf
from llama3lib.data.tokens import write_token_shard
from llama3lib.eval import PositionLoss, held_out_loss, loss_by_position
from llama3lib.model import ModelArgs, Transformer

ARGS = ModelArgs(
    dim=32, n_layers=2, n_heads=4, n_kv_heads=2, ffn_dim=64, vocab_size=96, max_seq_len=48
)


@pytest.fixture(scope="module")
def model():
    made = Transformer(ARGS)
    generator = torch.Generator().manual_seed(0)
    for parameter in made.parameters():
        if parameter.dim() > 1:  # wide weights, so that positions differ
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.2
    return made.eval()


def rows(n, length, seed=1):
    return torch.randint(96, (n, length), generator=torch.Generator().manual_seed(seed))


def one_at_a_time(model, tokens, starts=(0,)):
    """-log p of each next token, in float64, each from a fresh pass over its own document."""
    truth = Transformer(model.args).double()
    truth.load_state_dict(model.state_dict())
    losses = []
    with torch.no_grad():
        for t in range(1, len(tokens)):
            begin = max(s for s in starts if s < t)
            if t in starts:
                losses.append(math.nan)
                continue
            logits = truth(tokens[None, begin:t])[0, -1]
            losses.append(float(logits.logsumexp(0) - logits[tokens[t]]))
    return losses


def test_equals_the_float64_loop(model):
    tokens = rows(3, 21)
    made = loss_by_position(model, tokens, batch_size=2)
    want = np.array([one_at_a_time(model, row) for row in tokens])
    np.testing.assert_allclose(made.nats, want, atol=1e-5)
    assert made.targets == 60 and made.mean == pytest.approx(want.mean(), abs=1e-6)
    assert made.perplexity == pytest.approx(math.exp(want.mean()), rel=1e-5)
    assert made.bits_per_byte(4.0) == pytest.approx(want.mean() / math.log(2) / 4)
    assert made.positions.tolist() == [list(range(20))] * 3


def test_documents_are_kept_apart_and_the_step_between_them_is_not_asked(model):
    tokens = rows(2, 20)
    ids = torch.zeros_like(tokens)
    ids[0, 7:], ids[0, 15:], ids[1, 10:] = 1, 2, 5
    made = loss_by_position(model, tokens, document_ids=ids)
    want = [one_at_a_time(model, tokens[0], (0, 7, 15)), one_at_a_time(model, tokens[1], (0, 10))]
    np.testing.assert_allclose(made.nats, want, atol=1e-5)
    assert made.targets == 38 - 3
    assert made.positions[0].tolist() == [*range(7), *range(8), *range(4)]
    at_zero = [
        made.nats[0, 0],
        made.nats[0, 7],
        made.nats[0, 15],
        made.nats[1, 0],
        made.nats[1, 10],
    ]
    first = made.by_position()[0]
    assert first.targets == 5 and first.loss == pytest.approx(np.mean(at_zero))


def test_equals_transformers(model):
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(**hf.args_to_config(ARGS, torch.float32))
    theirs = transformers.LlamaForCausalLM(config).eval()
    weights = dict(hf.to_hf_tensor(n, p.detach(), ARGS) for n, p in model.named_parameters())
    theirs.load_state_dict(weights)
    tokens = rows(4, 33)
    with torch.no_grad():
        want = theirs(tokens, labels=tokens).loss.item()
    assert loss_by_position(model, tokens).mean == pytest.approx(want, abs=1e-5)


def test_batches_pieces_and_pairs_change_nothing(model, monkeypatch):
    tokens = rows(7, 25)
    want = loss_by_position(model, tokens, batch_size=7)
    monkeypatch.setattr("llama3lib.eval.perplexity._LOGITS", 96 * 2 * 5)  # pieces of 5 positions
    in_parts = loss_by_position(model, iter([tokens[:3], tokens[3:]]), batch_size=2)
    np.testing.assert_allclose(in_parts.nats, want.nats, atol=1e-5)
    pairs = [(part, torch.zeros_like(part)) for part in (tokens[:4], tokens[4:])]
    np.testing.assert_allclose(loss_by_position(model, pairs).nats, want.nats, atol=1e-5)


def test_a_model_that_knows_nothing_is_as_surprised_as_can_be():
    blank = Transformer(ARGS)
    torch.nn.init.zeros_(blank.output.weight)
    made = loss_by_position(blank, rows(3, 11))
    assert made.mean == pytest.approx(math.log(96)) and made.perplexity == pytest.approx(96)
    assert made.standard_error == pytest.approx(0, abs=1e-6)


def test_bins_and_standard_errors():
    rng = np.random.default_rng(0)
    nats = rng.random((40, 12))
    nats[:, 5] = math.nan
    nats[3:, 11] = math.nan
    places = np.tile(np.arange(12), (40, 1))
    made = PositionLoss(nats, places)
    bins = made.bins([0, 5, 6, 12])
    assert [(b.start, b.stop, b.targets) for b in bins] == [(0, 5, 200), (5, 6, 0), (6, 12, 203)]
    assert math.isnan(bins[1].loss) and math.isnan(bins[1].standard_error)
    assert bins[0].loss == pytest.approx(nats[:, :5].mean())
    # rows of equal size: the standard error is that of the rows' means
    want = nats[:, :5].mean(1).std(ddof=1) / math.sqrt(40)
    assert bins[0].standard_error == pytest.approx(want)
    one = made.by_position()[2]
    assert one.standard_error == pytest.approx(nats[:, 2].std(ddof=1) / math.sqrt(40))
    assert made.mean == pytest.approx(np.nanmean(nats))
    assert math.isnan(PositionLoss(nats[:1], places[:1]).standard_error)
    nothing = PositionLoss(np.full((2, 3), math.nan), places[:2, :3])
    assert nothing.targets == 0 and math.isnan(nothing.mean) and math.isnan(nothing.perplexity)
    assert PositionLoss(nats + 800, places).perplexity == math.inf


def test_standard_error_knows_that_a_rows_tokens_hang_together():
    rng = np.random.default_rng(1)
    means = []
    for _ in range(300):
        level = rng.normal(2.0, 0.5, (20, 1))  # every row has its own difficulty
        nats = level + rng.normal(0, 0.1, (20, 50))
        means.append(PositionLoss(nats, np.tile(np.arange(50), (20, 1))))
    spread = np.std([m.mean for m in means])
    assert np.mean([m.standard_error for m in means]) == pytest.approx(spread, rel=0.1)
    naive = means[0].nats.std() / math.sqrt(means[0].targets)
    assert naive < 0.3 * spread


def test_modes_gradients_and_dtypes_are_left_as_they_are(model):
    mixed = Transformer(ARGS)
    mixed.load_state_dict(model.state_dict())
    mixed.train()
    mixed.layers["1"].eval()
    modes = [m.training for m in mixed.modules()]
    want = loss_by_position(model, rows(2, 17))
    np.testing.assert_allclose(loss_by_position(mixed, rows(2, 17)).nats, want.nats, atol=1e-5)
    assert [m.training for m in mixed.modules()] == modes
    assert all(p.grad is None for p in mixed.parameters())
    with pytest.raises(ValueError):
        loss_by_position(mixed, rows(2, 90))
    assert [m.training for m in mixed.modules()] == modes  # after an error too

    half = mixed.to(torch.bfloat16)
    lower = loss_by_position(half, rows(2, 17))
    assert lower.nats.dtype == np.float32
    assert lower.mean == pytest.approx(want.mean, abs=0.05)
    assert loss_by_position(half.double(), rows(2, 17)).nats.dtype == np.float64


def test_softmax_is_wide_where_bfloat16_would_lose_the_loss(model):
    half = Transformer(ARGS)
    half.load_state_dict(model.state_dict())
    half = half.to(torch.bfloat16)
    tokens = rows(4, 40)
    with torch.no_grad():
        logits = half(tokens[:, :-1]).double()
    want = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).item()
    assert loss_by_position(half, tokens).mean == pytest.approx(want, abs=1e-6)


@pytest.fixture(scope="module")
def shard(tmp_path_factory):
    texts = ["abcdefgh" * 3, "xyz", "a much longer story of nothing in particular, so far"]
    folder = tmp_path_factory.mktemp("shard") / "s"

    def encode(text):
        return [byte % 90 for byte in text.encode()]

    return write_token_shard(texts, encode, folder, vocab_size=96, end=95)


def test_held_out_loss_reads_windows_document_by_document(model, shard):
    made = held_out_loss(model, shard, 20, batch_size=3)
    flat = torch.from_numpy(shard.tokens.astype(np.int64))
    count = (len(flat) - 1) // 20
    want = []
    for i in range(count):
        begin = i * 20
        inside = {int(s) - begin for s in shard.starts if begin < s <= begin + 20} | {0}
        want.append(one_at_a_time(model, flat[begin : begin + 21], tuple(sorted(inside))))
    np.testing.assert_allclose(made.nats, want, atol=1e-5)
    assert made.targets < made.nats.size  # there are borders in it
    some = held_out_loss(model, shard, 20, windows=2)
    np.testing.assert_allclose(some.nats, made.nats[[0, count // 2]], atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 500}, "a window needs 501"),
        ({"length": 20, "windows": 0}, r"windows=0 is not allowed: 1 to the shard's \d"),
        ({"length": 20, "windows": 99}, "windows=99"),
        ({"length": 20, "batch_size": 0}, "batch_size=0"),
    ],
)
def test_wrong_windows_are_named(model, shard, options, message):
    with pytest.raises(ValueError, match=message):
        held_out_loss(model, shard, **options)


def test_wrong_input_is_named(model):
    tokens = rows(2, 10)
    cases = [
        (dict(tokens=tokens + 90), r"tokens has id \d+: 0 to 95"),
        (dict(tokens=tokens - 95), r"tokens has id -\d+"),
        (dict(tokens=tokens[:, :1]), r"tokens has shape \(2, 1\)"),
        (dict(tokens=tokens[:0]), r"tokens has shape \(0, 10\)"),
        (dict(tokens=[tokens.float()]), "dtype torch.float32: whole numbers"),
        (dict(tokens=[]), "tokens is not allowed to be empty"),
        (dict(tokens=[tokens, tokens[:, :8]]), "rows of 8: 10 as in the first"),
        (dict(tokens=[(tokens, tokens[:, :8])]), r"document_ids has shape \(2, 8\): \(2, 10\)"),
        (dict(tokens=[tokens], document_ids=tokens), "document_ids is not allowed with batches"),
        (dict(tokens=tokens, batch_size=0), "batch_size=0"),
        (dict(tokens=rows(1, 60)), "max_seq_len=48"),
    ]
    for arguments, message in cases:
        with pytest.raises(ValueError, match=message):
            loss_by_position(model, **arguments)
    made = loss_by_position(model, tokens)
    for edges in ([0], [3, 3], [0, 10], [-1, 4]):
        with pytest.raises(ValueError, match="edges="):
            made.bins(edges)
    with pytest.raises(ValueError, match="bytes_per_token=0"):
        made.bits_per_byte(0)
    with pytest.raises((ValueError, TypeError), match="positions"):  # TypeError: checked shapes
        PositionLoss(made.nats, made.positions[:, :8])


def test_a_broken_model_is_told(model):
    broken = Transformer(ARGS)
    torch.nn.init.constant_(broken.output.weight, math.nan)
    with pytest.raises(ValueError, match="gives nan"):
        loss_by_position(broken, rows(1, 9))
