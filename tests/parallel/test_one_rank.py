"""A model without a mesh goes the same way, and is what the trainer had before."""

import copy

import pytest
import torch
from mesh_tools import ARGS, batch_of, clip, full_model

from llama3lib.data.loader import Batch
from llama3lib.parallel import ParallelPlan, parallelize
from llama3lib.train.loss import next_token_loss
from llama3lib.train.step import backward


@pytest.mark.parametrize("micro_batch", [None, 3])
def test_one_rank_is_the_plain_loop(micro_batch):
    model = full_model(ARGS)
    parallel = parallelize(copy.deepcopy(model), plan=ParallelPlan(recompute=True))
    inputs, _, ids = batch_of()
    last = torch.zeros(len(inputs), 1, dtype=torch.long)
    batch = Batch(torch.cat((inputs, last), 1), torch.cat((ids, ids[:, -1:]), 1), ("a",) * 8)
    wanted = batch.targets
    expected, valid = backward(parallelize(model), batch, micro_batch=micro_batch)
    loss, counted = parallel.backward(inputs, wanted, ids, next_token_loss, micro_batch=micro_batch)
    assert counted == valid and torch.equal(loss, expected)
    for (name, a), b in zip(parallel.named_parameters(), model.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad), name
    assert torch.isclose(clip(parallel, 0.1), clip(model, 0.1), rtol=1e-6)


@pytest.mark.parametrize("micro_batch", [0, -1, 1.5])
def test_micro_batches_have_sequences(micro_batch):
    with pytest.raises(ValueError, match="micro_batch="):
        parallelize(full_model(ARGS)).backward(
            *batch_of(), next_token_loss, micro_batch=micro_batch
        )


def test_stages_need_a_pipeline():
    with pytest.raises(ValueError, match="virtual=2 .*pp=1"):
        parallelize(full_model(ARGS), plan=ParallelPlan(virtual=2))
