"""One training step on several ranks, beside the same step alone: the file that chapter 04 starts.

    torchrun --nproc-per-node 4 four_ranks.py tp=2,dp_shard=2

Every rank runs `main`. "hello" adds up the ranks' numbers; "trace" times the passes of a pipeline;
a mesh takes a step of a small model.
"""

import copy
import itertools
import json
import sys
from collections.abc import Sequence

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.distributed.tensor import DTensor

from llama3lib.model import ModelArgs, Transformer
from llama3lib.parallel import ParallelDims, ParallelModel, parallelize
from llama3lib.worlds import stories

ARGS = ModelArgs(
    dim=64, n_layers=4, n_heads=8, n_kv_heads=4, ffn_dim=128, vocab_size=256, max_seq_len=64
)
ROWS, LENGTH, SEED = 8, 32, 0
IGNORED = -100


def main(asked: Sequence[str]) -> None:
    """Do what is asked, one after the other; rank 0 tells the results as lines of JSON."""
    dist.init_process_group("gloo")
    torch.set_num_threads(1)
    for one in asked:
        if one == "hello":
            total = torch.tensor(dist.get_rank())
            dist.all_reduce(total)
            tell(f"rank {dist.get_rank()} of {dist.get_world_size()}: sum {total}")
            continue
        told = trace() if one == "trace" else step(dims_of(one))
        if dist.get_rank() == 0:
            tell(json.dumps({"mesh": one} | told))
    dist.barrier()
    dist.destroy_process_group()


def tell(words: str) -> None:
    """A line on standard output, which `launch` collects."""
    sys.stdout.write(words + "\n")


def dims_of(text: str) -> ParallelDims:
    """The dimensions of "tp=2,dp_shard=2". Raises ValueError for another form or name."""
    try:
        return ParallelDims(**{k: int(v) for k, v in (part.split("=") for part in text.split(","))})
    except TypeError as error:
        raise ValueError(f"mesh={text!r} is not allowed: as in tp=2,dp_shard=2") from error


def batch() -> tuple[Int[Tensor, "B T"], Int[Tensor, "B T"]]:
    """Bytes of stories, and the byte that follows each."""
    text = " ".join(itertools.islice(stories(SEED), 20)).encode()
    rows = torch.tensor(list(text[: ROWS * (LENGTH + 1)])).view(ROWS, LENGTH + 1)
    return rows[:, :-1], rows[:, 1:]


def loss_of(
    logits: Float[Tensor, "B T V"], targets: Int[Tensor, "B T"], valid: int
) -> Float[Tensor, ""]:
    """The share of these targets in the mean over `valid` of them."""
    flat = logits.flatten(0, 1), targets.flatten()
    return F.cross_entropy(*flat, ignore_index=IGNORED, reduction="sum") / valid


def step(dims: ParallelDims) -> dict[str, float]:
    """Loss and gradients on this mesh against one process.

    apart: the largest distance of a gradient, relative to its length. held: the share of the
    model's numbers that rank 0 keeps.
    """
    single = Transformer(ARGS)
    single.init_weights(torch.Generator().manual_seed(SEED))
    inputs, targets = batch()
    parallel = parallelize(copy.deepcopy(single), dims.build_mesh())
    mine = [part.chunk(dims.dp)[parallel.dp_rank] for part in (inputs, targets)]
    size = 2 if dims.pp > 1 else None
    loss, valid = parallel.backward(*mine, None, loss_of, micro_batch=size)
    alone = loss_of(single(inputs), targets, valid)
    alone.backward()
    far = torch.tensor(largest_distance(single, parallel))
    dist.all_reduce(far, dist.ReduceOp.MAX)
    return {
        "loss": loss.item(),
        "alone": alone.item(),
        "apart": far.item(),
        "held": held(parallel) / sum(p.numel() for p in single.parameters()),
    }


def trace(micro_batches: int = 8, length: int = 256) -> dict[str, object]:
    """When each rank of a pipeline over all ranks worked, in its second batch.

    The model is wide enough for a pass to take longer than a message. spans: rank, forward or
    backward, micro-batch, start and end in seconds.
    """
    dims = ParallelDims(pp=dist.get_world_size())
    layers = 2 * dims.pp
    args = ARGS.replace(dim=256, n_layers=layers, ffn_dim=512, max_seq_len=length)
    model = Transformer(args)
    model.init_weights(torch.Generator().manual_seed(SEED))
    parallel = parallelize(model, dims.build_mesh())
    text = " ".join(itertools.islice(stories(SEED), 20)).encode()
    rows = torch.tensor(list(text[: micro_batches * (length + 1)])).view(micro_batches, -1)
    for _ in range(2):  # the first batch sets buffers up
        parallel.backward(rows[:, :-1], rows[:, 1:], None, loss_of, micro_batch=1)
    found = parallel.timeline()
    spans = [[s.rank, s.action.kind, s.action.micro_batch, s.start, s.end] for s in found.spans]
    return {"spans": spans, "idle": found.idle_share}


def largest_distance(single: Transformer, parallel: ParallelModel) -> float:
    """Over all gradients of which this rank has a part."""
    wanted = {name: p.grad for name, p in single.named_parameters()}
    found = []
    for name, parameter in parallel.named_parameters():
        grad = parameter.grad
        grad = grad.full_tensor() if isinstance(grad, DTensor) else grad
        found.append(((grad - wanted[name]).norm() / wanted[name].norm()).item())
    return max(found)


def held(parallel: ParallelModel) -> int:
    """Numbers of the model that this rank keeps between steps."""
    parts = (p.to_local() if isinstance(p, DTensor) else p for p in parallel.parameters())
    return sum(part.numel() for part in parts)


if __name__ == "__main__":
    main(sys.argv[1:])
