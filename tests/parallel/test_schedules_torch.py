"""Our orders against those of torch.distributed.pipelining's own classes."""

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.pipelining import PipelineStage, schedules
from torch.testing._internal.distributed.fake_pg import FakeStore

from llama3lib.parallel import pipeline_order


@pytest.fixture
def fake_ranks():
    """fake_ranks(n): this process is rank 0 of n that answer at once."""

    def start(world):
        dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=world)

    yield start
    dist.destroy_process_group()


@pytest.mark.parametrize(
    ("name", "pp", "virtual", "m", "ours"),
    [
        ("GPipe", 4, 1, 6, dict(kind="gpipe")),
        ("1F1B", 2, 1, 4, {}),
        ("1F1B", 4, 1, 8, {}),
        ("1F1B", 4, 1, 5, {}),
        ("1F1B", 8, 1, 16, {}),
        ("Interleaved1F1B", 2, 2, 4, {}),
        ("Interleaved1F1B", 4, 2, 8, {}),
        ("Interleaved1F1B", 4, 2, 10, dict(run=5)),  # Figure 6
        ("Interleaved1F1B", 4, 3, 12, {}),
        ("Interleaved1F1B", 4, 2, 3, {}),
        ("Interleaved1F1B", 8, 4, 22, dict(run=11)),
        ("LoopedBFS", 2, 2, 4, dict(kind="gpipe")),
        ("LoopedBFS", 4, 3, 6, dict(kind="gpipe")),
    ],
)
def test_the_same_order_as_pytorch(fake_ranks, name, pp, virtual, m, ours):
    fake_ranks(pp)
    stages = [
        PipelineStage(nn.Identity(), stage, pp * virtual, torch.device("cpu"))
        for stage in range(0, pp * virtual, pp)
    ]
    kind = schedules.get_schedule_class(name)
    single = issubclass(kind, schedules.PipelineScheduleSingle)
    made = kind(stages[0] if single else stages, m, loss_fn=torch.sum)
    theirs = made._get_pipeline_order() if single else made.pipeline_order
    for rank, order in enumerate(pipeline_order(pp, m, virtual=virtual, **ours)):
        if name == "1F1B" and rank == pp - 1:
            # what PyTorch shows of its last rank counts forward passes from 1; it runs them from 0
            order = [a._replace(micro_batch=a.micro_batch + (a.kind == "F")) for a in order]
        computed = [str(action) for action in theirs[rank] if action is not None]
        assert list(map(str, order)) == [a for a in computed if "REDUCE" not in a]
