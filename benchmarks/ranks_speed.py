"""Decoding on two processes against one: pipeline with one and two micro-batches, and tensor
parallel (§6.1, Figure 24).

    python benchmarks/ranks_speed.py                    # about ten minutes
    python benchmarks/ranks_speed.py --batches 2 128 --rounds 3

Random weights of the 110m shape in float32, fused and packed; each process has one thread, and one
side is also a single process of two threads. All texts of a batch are written at the same time,
after prompts of 16 tokens. Sides take turns in one run; a ratio is one process's seconds over the
other's of the same round, and latency the mean time from one token of a text to its next.
"""

import argparse
import json
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from decode_speed import chip

from llama3lib.inference import LLMEngine, SamplingParams, fuse_projections
from llama3lib.inference.ranks import EngineRanks
from llama3lib.model import Transformer, get_preset
from llama3lib.parallel.launch import launch
from llama3lib.utils.files import atomic_write

PROMPT, NEW, BATCHES = 16, 12, (2, 8, 32, 128)
SIDES = {
    "one process": None,
    "one process, two threads": None,
    "PP 2, one micro-batch": (1, 2, 1),
    "PP 2, two micro-batches": (1, 2, 2),
    "TP 2": (2, 1, 1),
}


@dataclass(frozen=True, kw_only=True)
class Result:
    side: str
    batch: int
    tokens_per_s: float
    latency_ms: float
    ratio: float
    least: float
    largest: float


def make_model() -> Transformer:
    model = Transformer(get_preset("110m").replace(max_seq_len=256))
    model.init_weights(torch.Generator().manual_seed(0))
    return model.eval()


def seconds_of(model: Transformer, batch: int, **options: object) -> float:
    """To write NEW tokens of each text, once all have begun."""
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
        return (time.perf_counter() - start) / written * batch * NEW


def on_a_rank(batches: list[int], rounds: int) -> None:
    """What each rank does; rank 0 tells the seconds of each round as a line of JSON."""
    dist.init_process_group("gloo")
    torch.set_num_threads(1)
    whole = fuse_projections(make_model()) if dist.get_rank() == 0 else None
    meshes = {}
    for side, mesh in SIDES.items():
        if mesh is not None:
            tp, pp, micro_batches = mesh
            ranks = EngineRanks(tp, pp)
            part = fuse_projections(ranks.share.cut(make_model()))
            ranks.join(part)
            meshes[side] = ranks, part, micro_batches
    for batch in batches:
        found = {side: [] for side in SIDES}
        for _ in range(rounds + 1):  # the first one warms up
            for side in SIDES:
                dist.barrier()
                if side not in meshes:
                    if dist.get_rank() == 0:
                        torch.set_num_threads(2 if "two" in side else 1)
                        found[side].append(seconds_of(whole, batch))
                        torch.set_num_threads(1)
                    continue
                ranks, part, micro_batches = meshes[side]
                if dist.get_rank():
                    ranks.work(part)
                else:
                    options = {"ranks": ranks, "num_micro_batches": micro_batches}
                    found[side].append(seconds_of(part, batch, **options))
        if dist.get_rank() == 0:
            sys.stdout.write(json.dumps({"batch": batch, "seconds": found}) + "\n")
            sys.stdout.flush()
    dist.barrier()


def results_of(told: dict) -> list[Result]:
    batch, found, results = told["batch"], told["seconds"], []
    alone = found["one process"][1:]
    for side, seconds in found.items():
        ratios = [one / other for one, other in zip(alone, seconds[1:], strict=True)]
        middle = statistics.median(seconds[1:])
        results.append(
            Result(
                side=side,
                batch=batch,
                tokens_per_s=round(batch * NEW / middle, 1),
                latency_ms=round(1000 * middle / NEW, 1),
                ratio=round(statistics.median(ratios), 2),
                least=round(min(ratios), 2),
                largest=round(max(ratios), 2),
            )
        )
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, nargs="+", default=list(BATCHES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    words = [*map(str, asked.batches), str(asked.rounds)]
    done = launch(__file__, "rank", *words, ranks=2, seconds=3600)
    results = [one for line in done.logs[0].splitlines() for one in results_of(json.loads(line))]
    head = f"{'side':26}{'batch':>6}{'tokens/s':>10}{'ms a token':>12}{'ratio':>7}"
    print(f"{head}  least to largest")
    for r in results:
        print(
            f"{r.side:26}{r.batch:6}{r.tokens_per_s:10.1f}{r.latency_ms:12.1f}{r.ratio:7.2f}"
            f"  {r.least:.2f} to {r.largest:.2f}"
        )
    if asked.out:
        made = {"machine": chip(), "torch": torch.__version__, "rounds": asked.rounds}
        made["results"] = [asdict(r) for r in results]
        with atomic_write(asked.out) as file:
            file.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["rank"]:
        on_a_rank([int(word) for word in sys.argv[2:-1]], int(sys.argv[-1]))
    else:
        main()
