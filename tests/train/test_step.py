"""One step: parts add up, recomputing changes no bit, and what diverges changes nothing."""

import math

import pytest
import torch
from train_tools import ARGS, drawn_model, same, sources, weights

from llama3lib.data.loader import Batch, StatefulDataLoader
from llama3lib.model import ModelArgs
from llama3lib.parallel import ParallelPlan, apply_activation_checkpointing, parallelize
from llama3lib.train import DivergedError, make_adamw, train_step
from llama3lib.train.step import backward, batch_loss

WIDE = ModelArgs(
    dim=32, n_layers=3, n_heads=4, n_kv_heads=2, ffn_dim=64, vocab_size=256, max_seq_len=32
)


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    """Six rows, some of one document and some of many."""
    shards = sources(tmp_path_factory.mktemp("shards"), longest=4)
    return StatefulDataLoader(shards, batch_size=6, length=24, seed=5).next()


def gradients(model, batch, plan=None, **options):
    model.zero_grad()
    loss, targets = backward(parallelize(model, plan=plan), batch, **options)
    return float(loss), targets, {n: p.grad.clone() for n, p in model.named_parameters()}


def test_rows_are_unequal_or_the_tests_below_show_nothing(batch):
    targets = (batch.targets != -100).sum(1)
    assert len(set(targets.tolist())) > 2
    assert batch.document_ids.amax() > 1


@pytest.mark.parametrize("micro_batch", [1, 2, 3, 4, 5, 7])
def test_the_gradient_does_not_depend_on_how_a_batch_is_cut(batch, micro_batch):
    model = drawn_model(WIDE).double()
    loss, targets, whole = gradients(model, batch)
    part_loss, part_targets, parts = gradients(model, batch, micro_batch=micro_batch)
    assert part_targets == targets
    assert part_loss == pytest.approx(loss, rel=1e-6)  # the sum over parts is float32
    for name, grad in whole.items():
        torch.testing.assert_close(parts[name], grad, atol=1e-13, rtol=1e-9)


@pytest.mark.parametrize("micro_batch", [None, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_checkpointing_changes_no_bit(batch, micro_batch, dtype):
    model, other = drawn_model(WIDE), drawn_model(WIDE)
    apply_activation_checkpointing(other)
    assert weights(other).keys() == weights(model).keys()
    plan = ParallelPlan(dtype=None if dtype == torch.float32 else dtype)
    plain = gradients(model, batch, plan, micro_batch=micro_batch)
    again = gradients(other, batch, plan, micro_batch=micro_batch)
    assert plain[:2] == again[:2]
    assert same(plain[2], again[2])


def test_checkpointing_keeps_less(batch):
    def kept(model):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t: sizes.append(t.numel()) or t, lambda t: t
        ):
            model(batch.inputs)
        return sum(sizes)

    model = drawn_model(WIDE)
    before = kept(model)
    assert kept(apply_activation_checkpointing(model)) < before / 2


def test_bfloat16_is_close_and_leaves_weights_in_float32(batch):
    model, other = drawn_model(WIDE), drawn_model(WIDE)
    loss, _, exact = gradients(model, batch)
    rough_loss, _, rough = gradients(other, batch, ParallelPlan(dtype=torch.bfloat16))
    assert rough_loss != loss and rough_loss == pytest.approx(loss, rel=2e-3)
    for name, grad in exact.items():
        assert rough[name].dtype == torch.float32
        angle = torch.cosine_similarity(rough[name].flatten(), grad.flatten(), 0)
        assert angle > 0.99, name
    half = parallelize(other, plan=ParallelPlan(dtype=torch.bfloat16))
    train_step(half, make_adamw(other, 1e-2), batch)
    assert all(parameter.dtype == torch.float32 for parameter in other.parameters())


def test_the_norm_is_that_of_the_whole_gradient_before_clipping(batch):
    model, other = drawn_model(), drawn_model()
    _, targets, grads = gradients(model, batch)
    norm = math.sqrt(sum(float((g.double() ** 2).sum()) for g in grads.values()))
    told = train_step(parallelize(other), make_adamw(other, 0.0), batch, clip=norm / 10)
    assert told.grad_norm == pytest.approx(norm, rel=1e-5) and told.targets == targets
    left = math.sqrt(sum(float((p.grad.double() ** 2).sum()) for p in other.parameters()))
    assert left == pytest.approx(norm / 10, rel=1e-4)
    assert told.loss == pytest.approx(math.log(256), abs=0.1)


def test_a_step_forgets_the_gradient_of_the_one_before(batch):
    model, other = drawn_model(), drawn_model()
    gradients(model, batch)  # left lying in .grad
    for one in (model, other):
        train_step(parallelize(one), make_adamw(one, 1e-2), batch)
    assert same(weights(model), weights(other))


def test_documents_do_not_see_each_other(batch):
    """Another first document changes no gradient of the second one's tokens' loss."""
    row = int(batch.document_ids.amax(1).argmax())
    tokens, owners = batch.tokens[row : row + 1].clone(), batch.document_ids[row : row + 1]
    first = owners[0] == 0
    asked = Batch(tokens, owners, ("a",))
    moved = tokens.clone()
    moved[0, first] = (moved[0, first] + 1) % 256
    model = drawn_model()
    logits = []
    for ids in (tokens, moved):
        told = {}
        hook = model.output.register_forward_hook(lambda m, i, o, t=told: t.update(o=o))
        backward(parallelize(model), Batch(ids, owners, asked.sources))
        hook.remove()
        logits.append(told["o"][0].detach())
    inside = ~first[:-1]
    torch.testing.assert_close(logits[0][inside], logits[1][inside], atol=1e-6, rtol=1e-5)
    assert (logits[0] - logits[1])[first[:-1]].abs().max() > 1e-3


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_what_diverges_changes_nothing(batch, poison):
    model = drawn_model()
    optimizer = make_adamw(model, 1e-2)
    train_step(parallelize(model), optimizer, batch)
    with torch.no_grad():
        model.layers["0"].feed_forward.w1.weight[3, 3] = poison
    before = weights(model)
    moments = {i: s["exp_avg"].clone() for i, s in enumerate(optimizer.state.values())}
    with pytest.raises(DivergedError, match=r"loss nan, gradient norm nan"):
        train_step(parallelize(model), optimizer, batch)
    after = weights(model)
    assert all(torch.equal(after[n].nan_to_num(), before[n].nan_to_num()) for n in before)
    assert same({i: s["exp_avg"] for i, s in enumerate(optimizer.state.values())}, moments)


def test_a_finite_loss_with_an_infinite_gradient_is_no_step_either(batch):
    model = drawn_model()
    before = weights(model)
    model.output.weight.register_hook(lambda grad: grad * math.inf)
    with pytest.raises(DivergedError, match=r"loss 5\.\d+, gradient norm (nan|inf)"):
        train_step(parallelize(model), make_adamw(model, 1e-2), batch)
    assert same(weights(model), before)


def test_a_batch_without_targets_moves_nothing_but_by_decay():
    tokens = torch.randint(256, (2, 9), generator=torch.Generator().manual_seed(0))
    alone = Batch(tokens, torch.arange(9).expand(2, 9), ("a", "a"))  # nine documents of one token
    model = drawn_model()
    optimizer = make_adamw(model, 1e-2, weight_decay=0.0)
    before = weights(model)
    told = train_step(parallelize(model), optimizer, alone)
    assert (told.loss, told.grad_norm) == (0.0, 0.0)
    assert same(weights(model), before)


def test_batch_loss_is_a_sum_and_trains_nothing(batch):
    model = drawn_model(ARGS)
    total, count = batch_loss(model, batch)
    loss, targets, _ = gradients(model, batch)
    assert count == targets and total / count == pytest.approx(loss, rel=1e-6)
