"""Single things that ranks check, beside being equal to one process; run by `run_checks`."""

import os
import time

import torch
import torch.distributed as dist
from mesh_tools import ARGS, apart, batch_of, full_model, share, whole

from llama3lib.model import Transformer
from llama3lib.parallel import ParallelDims, ParallelPlan, parallelize
from llama3lib.train.loss import next_token_loss


def refused(act, *words):
    """The ValueError of an action, in one line, which every rank raises by itself."""
    try:
        act()
    except ValueError as error:
        text = str(error)
        assert "\n" not in text and all(word in text for word in words), text
    else:
        raise AssertionError(f"nothing was refused: {words}")


def full_states_are_shared_out():
    """A model on the meta device gets its shares, and is then the one that was cut whole."""
    state = full_model(ARGS).state_dict()
    for dims, plan in (
        (dict(tp=2, dp_shard=2), {}),
        (dict(pp=2, tp=2), dict(virtual=2)),
        (dict(cp=2, dp_replicate=2), {}),
    ):
        mesh = ParallelDims(**dims).build_mesh()
        with torch.device("meta"):
            empty = Transformer(ARGS)
        parallel = parallelize(empty, mesh, ParallelPlan(**plan))
        parallel.load_full_state(state)
        for name, parameter in parallel.named_parameters():
            assert torch.equal(whole(parameter.detach()), state[name]), name
        for part in parallel.parts:
            assert not part.freqs_cis.is_meta
        inputs, targets, ids = batch_of()
        expected, _ = parallelize(full_model(ARGS)).backward(
            inputs, targets, ids, next_token_loss, train=False
        )
        mine = share(parallel, (inputs, targets, ids))
        loss, _ = parallel.backward(*mine, next_token_loss, micro_batch=2, train=False)
        assert apart(loss, expected) < 1e-5
    wrong = {name: value for name, value in state.items() if name != "layers.1.ffn_norm.weight"}
    refused(lambda: parallel.load_full_state(wrong), "layers.1.ffn_norm.weight=None")
    state["norm.weight"] = state["norm.weight"][:4]
    refused(lambda: parallel.load_full_state(state), "norm.weight=(4,)", "(32,)")


def other_numbers_are_refused():
    """On two ranks: each says so before it waits for the other."""
    refused(ParallelDims(tp=3).build_mesh, "tp=3", "dp_shard=1", "number of ranks, 2")
    refused(ParallelDims().build_mesh, "tp=1", "number of ranks, 2")
    tp, cp, pp = (ParallelDims(**{name: 2}).build_mesh() for name in ("tp", "cp", "pp"))
    odd = full_model(ARGS.replace(n_heads=3, n_kv_heads=3))
    refused(lambda: parallelize(odd, tp), "tp=2", "n_heads=3")
    refused(lambda: parallelize(full_model(ARGS.replace(n_layers=3)), pp), "pp=2", "n_layers=3")
    tied = full_model(ARGS.replace(tie_embeddings=True))
    refused(lambda: parallelize(tied, pp), "pp=2", "tie_embeddings")
    refused(lambda: parallelize(full_model(ARGS, seed=dist.get_rank()), cp), "same seed")
    inputs, targets, ids = batch_of(length=30)
    parallel = parallelize(full_model(ARGS), cp)
    refused(lambda: parallel.backward(inputs, targets, ids, next_token_loss), "sequence=30", "4")
    inputs, targets, ids = batch_of(rows=3 - dist.get_rank())
    refused(lambda: parallel.backward(inputs, targets, ids, next_token_loss), "on every rank")
    inputs, targets, ids = batch_of()
    parallel = parallelize(full_model(ARGS), pp)
    run = lambda: parallel.backward(inputs, targets, ids, next_token_loss, micro_batch=3)  # noqa: E731
    refused(run, "micro_batch=3", "8 sequences")
    refused(parallel.timeline, "pp=2", "a batch that went through")


def a_ring_sends_as_much_as_a_gather():
    """Elements that a rank gets in one forward pass: all keys and values but its own."""
    mesh = ParallelDims(cp=2).build_mesh()
    inputs, targets, ids = batch_of()
    received = []
    for method in ("all-gather", "ring"):
        parallel = parallelize(full_model(ARGS), mesh, ParallelPlan(context=method))
        parallel.backward(inputs, targets, ids, next_token_loss)
        layers = parallel.parts[0].layers.values()
        received.append([layer.attention.inner_attention.received for layer in layers])
    both = 2 * inputs.numel() // 2 * ARGS.n_kv_heads * ARGS.head_dim
    assert received == [[both] * 4] * 2


def bfloat16_and_recomputation():
    """Close to one process in float32, as bfloat16 is; weights stay in float32."""
    mesh = ParallelDims(dp_shard=2).build_mesh()
    inputs, targets, ids = batch_of()
    expected, _ = parallelize(full_model(ARGS)).backward(inputs, targets, ids, next_token_loss)
    for low in (dict(dtype=torch.bfloat16), dict(param_dtype=torch.bfloat16)):
        plan = ParallelPlan(recompute=True, reshard_after_forward=True, **low)
        parallel = parallelize(full_model(ARGS), mesh, plan)
        mine = share(parallel, (inputs, targets, ids))
        loss, _ = parallel.backward(*mine, next_token_loss, micro_batch=2)
        assert 0 < apart(loss, expected) < 2e-3
        assert all(p.grad.dtype == p.dtype == torch.float32 for p in parallel.parameters())


def one_rank_hangs():
    if dist.get_rank() == 1:
        time.sleep(1000)
    dist.barrier()


def one_rank_dies():
    if dist.get_rank() == 1:
        os._exit(7)
    dist.barrier()


def one_rank_is_wrong():
    assert dist.get_rank() == 0, "not the first"
    dist.barrier()
