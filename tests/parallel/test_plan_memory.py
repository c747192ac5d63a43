"""Memory of a layout: by hand, against the module, and against PyTorch's own tracker."""

import dataclasses
from functools import partial

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)

from llama3lib.model import ModelArgs, Transformer, get_preset
from llama3lib.model.flops import count_parameters
from llama3lib.paper.infrastructure import WEIGHTS_PER_GPU
from llama3lib.parallel import apply_activation_checkpointing
from llama3lib.parallel.layout import Layout, in_flight, stage_layers
from llama3lib.parallel.memory import peak_memory, rank_memory, rank_parameters
from llama3lib.train.loss import next_token_loss

# a layer: attention 8·8·2 + 8·4·2 = 192, feed-forward 3·8·16 = 384, norms 16; tables 256 each
SMALL = ModelArgs(dim=8, n_layers=4, n_heads=4, n_kv_heads=2, ffn_dim=16, vocab_size=32)
TOY = ModelArgs(
    dim=128, n_layers=3, n_heads=4, n_kv_heads=2, ffn_dim=384, vocab_size=1000, max_seq_len=256
)


@pytest.mark.parametrize(
    ("layout", "rank", "want"),
    [
        # all 4·592 + 2·256 + 8 = 2,888 parameters; 16 tokens; 32, 24 and 64 numbers a block
        (
            Layout(micro_batches=2),
            0,
            dict(
                weights=2 * 2888,
                gradients=4 * 2888,
                optimizer=12 * 2888,
                residual=2 * 16 * 4 * 32,
                attention=2 * 16 * 4 * 24,
                feed_forward=2 * 16 * 4 * 64,
                head=16 * (2 * 8 * 2 + 4 * 32),
                working=16 * 2 * 2 * 32,
            ),
        ),
        # norms are not cut: 4 · (576/2 + 16) + 512/2 + 8; the stream of both ranks is gathered
        (
            Layout(tp=2, micro_batches=2),
            0,
            dict(weights=2 * 1480, residual=4 * 8 * 32 * 2, working=8 * 2 * 2 * 32),
        ),
        (Layout(cp=2, micro_batches=2), 0, dict(weights=5776, optimizer=6 * 2888, head=8 * 160)),
        # 1F1B: the first of two ranks holds two micro-batches of its two layers
        (
            Layout(pp=2, micro_batches=4),
            0,
            dict(weights=2 * (2 * 592 + 256), attention=2 * 16 * 2 * 2 * 24, head=0),
        ),
        (
            Layout(pp=2, micro_batches=4),
            1,
            dict(weights=2 * (2 * 592 + 264), attention=2 * 16 * 2 * 24, head=2560),
        ),
        # one layer a stage, none in the first: 0, 1, 1; both micro-batches are in flight
        (
            Layout(pp=2, stages=3, micro_batches=2, recompute="selective"),
            0,
            dict(weights=2 * (2 * 592 + 256), residual=2 * 16 * 4 * 16, feed_forward=4 * 1024),
        ),
        # one block at a time is computed again: 120 - 8 numbers, and what its backward adds
        (
            Layout(dp=4, recompute="full", micro_batches=2),
            0,
            dict(optimizer=3 * 2888, residual=2 * 16 * 4 * 8, attention=0, working=16 * 2 * 144),
        ),
        # resharded over 8: an eighth and two layers' share, 722 parameters each
        (
            Layout(dp=8, reshard=True),
            0,
            dict(weights=2 * (361 + 2 * 722), gradients=4 * (361 + 2 * 722)),
        ),
    ],
)
def test_by_hand(layout, rank, want):
    layout.check(SMALL, 16)
    memory = dataclasses.asdict(rank_memory(SMALL, layout, 16, rank))
    assert {name: memory[name] for name in want} == want


@pytest.mark.parametrize("name", ["8B", "405B", "1B"])
def test_all_ranks_together_hold_the_model(name):
    args = get_preset(name)
    count = count_parameters(args)
    held = sum(rank_parameters(args, Layout(tp=8, pp=2), rank) for rank in range(2))
    norms, tied = 7 / 8 * count.norms, args.tie_embeddings * args.vocab_size * args.dim / 8
    assert held == count.total / 8 + norms + tied


def test_the_405b_as_in_the_paper():
    args, layout = get_preset("405B"), Layout(tp=8, pp=16, dp=128, stages=8, micro_batches=16)
    weights = rank_memory(args, layout, 8192, 5).weights / 1e9
    assert weights == pytest.approx(WEIGHTS_PER_GPU.value, rel=0.01)
    layers = stage_layers(args.n_layers, 16, 8)
    assert (layers[0][0], layers[15][7]) == (0, 0)  # only the embedding, only the output
    assert {n for rank in layers for n in rank[1:-1]} == {1} and sum(map(sum, layers)) == 126
    most = max((rank_memory(args, layout, 8192, r) for r in range(16)), key=lambda m: m.total)
    assert peak_memory(args, layout, 8192) == most


@pytest.mark.parametrize(("pp", "stages", "m"), [(4, 1, 8), (4, 1, 2), (4, 2, 4), (4, 3, 10)])
def test_micro_batches_in_flight_are_those_of_the_schedule(pp, stages, m):
    layout = Layout(pp=pp, stages=stages, micro_batches=m)
    for rank in range(pp):
        assert sum(in_flight(layout, rank)) == _most_held(pp, stages, m, rank)


def _most_held(pp, stages, m, rank):
    """Forward passes before the first backward one, counted along the order of a rank's work."""
    if stages == 1:
        return min(m, pp - rank)
    rounds = m // pp
    first_round = m // rounds + (m % rounds > 0)
    forwards = [(n, v) for v in range(stages) for n in range(first_round)]
    warm = [one for one in forwards if one[1] < stages - 1]
    return min(stages * m, len(warm) + 2 * (pp - rank - 1) + 1)


class _FusedNorm(torch.autograd.Function):
    """RMSNorm that keeps its input and one number a row, as the kernels of GPUs do."""

    @staticmethod
    def forward(ctx, x, weight):
        scale = x.float().square().mean(-1, keepdim=True).rsqrt()
        ctx.save_for_backward(x, weight, scale)
        return x * scale.to(x.dtype) * weight

    @staticmethod
    def backward(ctx, grad):
        x, weight, scale = ctx.saved_tensors
        return grad * weight * scale.to(x.dtype), (grad * x).flatten(0, -2).sum(0)


def _selective(model, ffn_dim):
    """Keep results of products and attention; that of the last product of a block is not used."""
    aten = torch.ops.aten
    attention = aten._scaled_dot_product_flash_attention_for_cpu.default

    def policy(ctx, op, *args, **kwargs):
        keep = op is attention or (op is aten.mm.default and args[0].shape[-1] != ffn_dim)
        return CheckpointPolicy.MUST_SAVE if keep else CheckpointPolicy.PREFER_RECOMPUTE

    contexts = partial(create_selective_checkpoint_contexts, policy)
    for block in model.layers.values():
        block.forward = partial(checkpoint, block.forward, use_reentrant=False, context_fn=contexts)


def _tracked(args, batch, length, recompute):
    """Bytes kept after a forward pass, and the peak of the second of two micro-batches."""
    torch.set_default_dtype(torch.bfloat16)
    try:
        model = Transformer(args)
    finally:
        torch.set_default_dtype(torch.float32)
    if recompute == "full":
        apply_activation_checkpointing(model)
    elif recompute == "selective":
        _selective(model, args.ffn_dim)
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)  # of the first
    tokens = torch.zeros(batch, length, dtype=torch.long)
    tracker = MemTracker()
    tracker.track_external(model)
    with tracker:
        loss = next_token_loss(model(tokens), tokens)
        now = tracker.get_tracker_snapshot("current")[tokens.device]
        kept = next(size for kind, size in now.items() if getattr(kind, "name", "") == "ACT")
        loss.backward()
    return kept, tracker.get_tracker_snapshot("peak")[tokens.device]["Total"]


def _compare(args, batch, length, recompute):
    kept, peak = _tracked(args, batch, length, recompute)
    layout = Layout(sequences=batch, micro_batches=2, recompute=recompute)
    told = rank_memory(args, layout, length, 0)
    assert told.activations == pytest.approx(kept, rel=0.1)
    # here gradients are in BF16 too, and the CPU makes FP32 of the logits first
    loss = batch * length * 3 * 2 * args.vocab_size
    need = 2 * told.weights + told.activations + max(told.working, loss)
    assert need == pytest.approx(peak, rel=0.1)


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.nn.RMSNorm, "forward", lambda n, x: _FusedNorm.apply(x, n.weight))


@pytest.mark.parametrize("recompute", ["none", "selective", "full"])
def test_real_tensors_need_what_is_told(recompute, as_on_a_gpu):
    _compare(TOY, 2, 256, recompute)


@pytest.mark.parametrize(
    "layers", [2, pytest.param(32, marks=[pytest.mark.long, pytest.mark.many_steps])]
)
@pytest.mark.parametrize("recompute", ["none", "selective", "full"])
def test_the_8b_would_need_what_is_told(layers, recompute, as_on_a_gpu, monkeypatch):
    monkeypatch.setattr(Transformer, "_check_positions", lambda self, positions: None)
    args = get_preset("8B").replace(n_layers=layers, max_seq_len=8192)
    with FakeTensorMode():
        _compare(args, 1, 8192, recompute)


@pytest.mark.parametrize(
    ("layout", "sequence", "named"),
    [
        (dict(tp=16), 8192, "tp=16"),
        (dict(cp=4), 8190, "sequence=8190"),
        (dict(pp=3), 8192, "pp=3"),
        (dict(stages=2), 8192, "stages=2"),
        (dict(pp=4, stages=2, micro_batches=3), 8192, "micro_batches=3"),
    ],
)
def test_what_cannot_be_cut_is_refused(layout, sequence, named):
    with pytest.raises(ValueError, match=named):
        Layout(**layout).check(get_preset("8B"), sequence)


@pytest.mark.parametrize("field", ["tp", "dp", "stages", "micro_batches"])
def test_numbers_below_one_are_refused(field):
    with pytest.raises(ValueError, match=f"{field}=0"):
        Layout(**{field: 0})
    with pytest.raises(ValueError, match="recompute='some'"):
        Layout(recompute="some")
