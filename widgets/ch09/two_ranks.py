"""Decoding on two processes beside one: the file that chapter 09 starts on two ranks (§6.1).

    torchrun --nproc-per-node 2 two_ranks.py small 3 2 64

Every rank runs `main`: a shape, the number of rounds, sizes of batches. Sides take turns; rank 0
tells what it measured as a line of JSON for each batch.
"""

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist

from llama3lib.inference import LLMEngine, SamplingParams, fuse_projections
from llama3lib.inference.ranks import EngineRanks
from llama3lib.model import ModelArgs, Transformer, get_preset

PROMPT, NEW, SHOWN = 16, 12, 3
"""Tokens of each prompt; tokens of each text that are timed, and of which spans are told."""
SMALL = ModelArgs(
    dim=512, n_layers=8, n_heads=8, n_kv_heads=4, ffn_dim=1536, vocab_size=2048, max_seq_len=256
)
SIDES: dict[str, tuple[int, int, int]] = {
    "one process": (1, 1, 1),
    "PP 2, one micro-batch": (1, 2, 1),
    "PP 2, two micro-batches": (1, 2, 2),
}
"""TP, PP and micro-batches of each side."""
MORE_SIDES = SIDES | {"TP 2": (2, 1, 1)}


def main(shape: str, rounds: int, batches: Sequence[int]) -> None:
    """Measure and tell. `110m` has all sides, and one process with two threads besides."""
    dist.init_process_group("gloo")
    torch.set_num_threads(1)
    args = SMALL if shape == "small" else get_preset(shape).replace(max_seq_len=256)
    sides = SIDES if shape == "small" else MORE_SIDES
    parts: dict[str, tuple[Transformer, EngineRanks | None, int]] = {}
    for side, (tp, pp, micro_batches) in sides.items():
        ranks = None if tp * pp == 1 else EngineRanks(tp, pp)
        part = make_model(args) if ranks is None else ranks.share.cut(make_model(args))
        fuse_projections(part)
        if ranks is not None:
            ranks.join(part)
        parts[side] = part, ranks, micro_batches
    if shape != "small":
        parts["one process, two threads"] = parts["one process"]
    for batch in batches:
        found: dict[str, list[dict[str, Any]]] = {side: [] for side in parts}
        for _ in range(rounds + 1):  # the first one warms up
            for side, (part, ranks, micro_batches) in parts.items():
                dist.barrier()
                threads = 2 if "threads" in side else 1
                found[side].append(on_a_rank(part, ranks, micro_batches, batch, threads))
        if dist.get_rank() == 0:
            timed = {side: rows[1:] for side, rows in found.items()}
            sys.stdout.write(json.dumps({"batch": batch, "sides": timed}) + "\n")
            sys.stdout.flush()
    dist.barrier()


def make_model(args: ModelArgs) -> Transformer:
    """Random weights, the same on all ranks."""
    model = Transformer(args)
    model.init_weights(torch.Generator().manual_seed(0))
    return model.eval()


def on_a_rank(
    part: Transformer, ranks: EngineRanks | None, micro_batches: int, batch: int, threads: int
) -> dict[str, Any]:
    """Rank 0 decodes and tells; the other one does its share, or waits."""
    if dist.get_rank() > 0:
        if ranks is not None:
            ranks.work(part)
        return {}
    torch.set_num_threads(threads)
    options = {} if ranks is None else {"ranks": ranks, "num_micro_batches": micro_batches}
    told = decode(part, batch, **options)
    torch.set_num_threads(1)
    return told


def decode(model: Transformer, batch: int, **options: Any) -> dict[str, Any]:
    """Seconds to write NEW tokens of each text once all have begun, and who worked when."""
    blocks = batch * -(-(PROMPT + 2 * NEW) // 16)
    sizes = {"num_blocks": blocks, "max_num_seqs": batch, "max_num_batched_tokens": 256}
    with LLMEngine(model, prefix_sharing=False, **sizes, **options) as engine:
        for i in range(batch):
            prompt = [(37 * i + k) % 1000 for k in range(PROMPT)]
            engine.add_request(prompt, SamplingParams(max_tokens=2 * NEW))
        begun: set[str] = set()
        while len(begun) < batch:
            begun |= {out.request_id for out in engine.step()}
        written, start = 0, time.perf_counter()
        while written < batch * (NEW // 2):
            written += len(engine.step())
        seconds = (time.perf_counter() - start) / written * batch * NEW
        spans = list(getattr(engine.runner, "spans", []))
    last = max((span.micro_batch for span in spans), default=0)  # it may not be through yet
    first = last - SHOWN * options.get("num_micro_batches", 1)
    shown = [[s.stage, s.micro_batch, s.start, s.end] for s in spans]
    shown = [span for span in shown if first <= span[1] < last]
    return {"seconds": seconds, "spans": shown}


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), [int(word) for word in sys.argv[3:]])
