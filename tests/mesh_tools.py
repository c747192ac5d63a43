"""A model on a mesh against the same model on one rank: what every rank checks."""

import copy
import itertools
import math
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

from llama3lib.model import DocumentMask, ModelArgs, Transformer
from llama3lib.parallel import ParallelDims, ParallelModel, ParallelPlan, cut_sequence, parallelize
from llama3lib.parallel.schedules import pipeline_order
from llama3lib.train.loss import next_token_loss
from llama3lib.train.optim import make_adamw

ARGS = ModelArgs(
    dim=32, n_layers=4, n_heads=8, n_kv_heads=4, ffn_dim=64, vocab_size=64, max_seq_len=64
)
ROWS, LENGTH = 8, 32
LIMITS = {torch.float32: 1e-5, torch.float64: 1e-9}


@dataclass
class Setting:
    """A mesh, how it is used, and the batch."""

    name: str
    dims: dict
    plan: dict = field(default_factory=dict)
    documents: bool = True
    micro_batch: int | None = None
    layers: int = 0  # 4 where a pipeline cuts them, else 2
    args: dict = field(default_factory=dict)
    curve: bool = False

    def __str__(self):
        return self.name

    def __call__(self):
        dims = ParallelDims(**self.dims)
        mesh = dims.build_mesh()
        plan = ParallelPlan(**self.plan)
        args = ARGS.replace(n_layers=self.layers or (4 if dims.pp > 1 else 2), **self.args)
        _one_step(args, mesh, plan, self, torch.float32)
        _one_step(args, mesh, plan, self, torch.float64)
        if self.curve:
            same_curve(args, mesh, plan, self, torch.float32)


def full_model(args, dtype=torch.float32, seed=0):
    model = Transformer(args).to(dtype)
    model.init_weights(torch.Generator().manual_seed(seed))
    return model


def batch_of(documents=True, seed=1, rows=ROWS, length=LENGTH):
    """Inputs, targets and document ids; boundaries, and so targets, are unequal between rows."""
    chance = torch.Generator().manual_seed(seed)
    tokens = torch.randint(ARGS.vocab_size, (rows, length + 1), generator=chance)
    ids = torch.zeros_like(tokens)
    if documents:
        starts = torch.rand(tokens.shape, generator=chance) < torch.linspace(0, 0.4, rows)[:, None]
        ids = starts.cumsum(1)
    targets = tokens[:, 1:].masked_fill(ids[:, 1:] != ids[:, :-1], -100)
    return tokens[:, :-1], targets, ids[:, :-1]


def plain_logits(model, inputs, ids):
    mask = DocumentMask(ids)
    return model(inputs, mask.positions(), mask)


def share(parallel, tensors):
    """The rows of this rank's share of a global batch."""
    size = len(tensors[0]) // parallel.dims.dp
    return [x[parallel.dp_rank * size : (parallel.dp_rank + 1) * size] for x in tensors]


def whole(tensor):
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def apart(a, b):
    """Distance over length, in float64."""
    a, b = a.detach().double(), b.detach().double()
    return float((a - b).norm() / b.norm().clamp(min=1e-300))


def _one_step(args, mesh, plan, setting, dtype):
    single = full_model(args, dtype)
    inputs, targets, ids = batch_of(setting.documents)
    parallel = parallelize(copy.deepcopy(single), mesh, plan)
    mine = share(parallel, (inputs, targets, ids))

    logits = plain_logits(single, inputs, ids)
    if dtype == torch.float32 and parallel.dims.pp == 1:
        _same_logits(parallel, mine, logits)
    expected = next_token_loss(logits, targets)
    expected.backward()
    part = setting.micro_batch
    if dtype == torch.float32:
        alone, _ = parallel.backward(*mine, next_token_loss, micro_batch=part, train=False)
        assert apart(alone, expected) < LIMITS[dtype]
        assert all(p.grad is None for p in parallel.parameters())
    loss, valid = parallel.backward(*mine, next_token_loss, micro_batch=part)
    assert valid == int((targets != -100).sum())
    close = LIMITS[dtype]
    assert apart(loss, expected) < close

    if parallel.dims.pp > 1:
        _ran_in_order(parallel, len(mine[0]) // part)

    wanted = dict(single.named_parameters())
    for name, parameter in parallel.named_parameters():
        assert apart(whole(parameter.grad), wanted[name].grad) < close, f"gradient of {name}"
    assert apart(clip(parallel, 0.5), clip(single, 0.5)) < close

    if dtype == torch.float32:
        steps = [torch.optim.SGD(m.parameters(), lr=0.5) for m in (single, parallel)]
    else:
        steps = [make_adamw(m, 1e-2) for m in (single, parallel)]
    for optimizer in steps:
        optimizer.step()
    for name, parameter in parallel.named_parameters():
        assert apart(whole(parameter.detach()), wanted[name]) < close, f"step of {name}"


def _ran_in_order(parallel, micro_batches):
    """The passes of the last batch came as the schedule says, one after the other on each rank."""
    timeline, plan = parallel.timeline(), parallel.plan
    order = pipeline_order(
        parallel.dims.pp, micro_batches, virtual=plan.virtual, run=plan.run, kind=plan.schedule
    )
    for rank, actions in enumerate(order):
        mine = [span for span in timeline.spans if span.rank == rank]
        assert [span.action for span in mine] == actions
        assert all(a.end <= b.start for a, b in itertools.pairwise(mine))
    assert min(span.start for span in timeline.spans) == 0 < timeline.idle_share < 1


def same_curve(args, mesh, plan, setting, dtype, steps=20):
    """Twenty steps of AdamW with clipping have the losses of one process."""
    single = full_model(args, dtype)
    parallel = parallelize(copy.deepcopy(single), mesh, plan)
    optimizers = [make_adamw(model, 3e-3) for model in (single, parallel)]
    for step in range(steps):
        inputs, targets, ids = batch_of(seed=step % 2)
        for optimizer in optimizers:
            optimizer.zero_grad()
        expected = next_token_loss(plain_logits(single, inputs, ids), targets)
        expected.backward()
        mine = share(parallel, (inputs, targets, ids))
        loss, _ = parallel.backward(*mine, next_token_loss, micro_batch=setting.micro_batch)
        assert apart(loss, expected) < LIMITS[dtype], f"loss of step {step}"
        for model in (single, parallel):
            clip(model, 1.0)
        for optimizer in optimizers:
            optimizer.step()
    assert expected < 0.9 * math.log(ARGS.vocab_size), "it learned"


def clip(model, most):
    """Gradient norm before clipping, of a plain model or one on a mesh."""
    if isinstance(model, ParallelModel):
        return model.clip_grad_norm_(most)
    return torch.nn.utils.clip_grad_norm_(model.parameters(), most)


@torch.no_grad()
def _same_logits(parallel, mine, logits):
    """This rank's logits are its part of the single process's."""
    inputs, _, ids = mine
    dims, here = parallel.dims, parallel.dims.coordinates(dist.get_rank())
    (expected,) = share(parallel, (logits,))
    expected = cut_sequence(expected, here["cp"], dims.cp)
    if parallel.plan.loss_parallel:
        expected = expected.chunk(dims.tp, -1)[here["tp"]]
    mask = DocumentMask(ids)
    parts = (inputs, mask.positions())
    tokens, positions = (cut_sequence(x, here["cp"], dims.cp) for x in parts)
    got = parallel.parts[0](tokens, positions, mask)
    assert apart(got, expected) < 1e-5
