"""How long do the ranks of a real pipeline wait, and does the simulation say so? (§3.3.2)

    python benchmarks/pipeline_idle.py                  # two ranks of one thread, about a minute

For each setting one batch is trained several times. The measured share is 1 - busy / (PP · wall),
from when each pass was computed; the simulated one plays the same order with the median time of
each stage's forward and backward pass. Printed: both in percent, and their distance in points.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from llama3lib.model import ModelArgs, Transformer
from llama3lib.parallel import ParallelDims, ParallelPlan, parallelize
from llama3lib.parallel.launch import launch
from llama3lib.parallel.schedules import Timeline, pipeline_order, simulate
from llama3lib.utils.files import atomic_write
from llama3lib.worlds.four_ranks import loss_of

SETTINGS = ((1, 2), (1, 4), (1, 8), (2, 4), (2, 8))  # V, M
SHAPE = dict(dim=512, n_layers=8, n_heads=8, n_kv_heads=4, ffn_dim=1536, vocab_size=2048)
LENGTH, ROUNDS = 256, 7


def simulated(found: list[Timeline], pp: int, virtual: int, micro_batches: int) -> float:
    """Idle share of the same order, with the median time of each stage's passes."""
    times: dict[tuple[str, int], list[float]] = {}
    for timeline in found:
        for span in timeline.spans:
            key = span.action.kind, span.action.stage
            times.setdefault(key, []).append(span.end - span.start)
    stages = range(pp * virtual)
    forward, backward = (
        [statistics.median(times[kind, stage]) for stage in stages] for kind in "FB"
    )
    order = pipeline_order(pp, micro_batches, virtual=virtual)
    return simulate(order, forward=forward, backward=backward).idle_share


def on_a_rank() -> None:
    """What each rank does; rank 0 tells a line of JSON for each setting."""
    dist.init_process_group("gloo")
    torch.set_num_threads(1)
    pp = dist.get_world_size()
    mesh = ParallelDims(pp=pp).build_mesh()
    for virtual, micro_batches in SETTINGS:
        model = Transformer(ModelArgs(**SHAPE, max_seq_len=LENGTH))
        model.init_weights(torch.Generator().manual_seed(0))
        parallel = parallelize(model, mesh, ParallelPlan(virtual=virtual))
        draw = torch.Generator().manual_seed(1)
        rows = torch.randint(SHAPE["vocab_size"], (micro_batches, LENGTH + 1), generator=draw)
        found = []
        for _ in range(ROUNDS + 1):
            dist.barrier()
            parallel.backward(rows[:, :-1], rows[:, 1:], None, loss_of, micro_batch=1)
            found.append(parallel.timeline())
        found = found[1:]  # the first batch sets buffers up
        told = {
            "V": virtual,
            "M": micro_batches,
            "measured": statistics.median(one.idle_share for one in found),
            "least": min(one.idle_share for one in found),
            "most": max(one.idle_share for one in found),
            "simulated": simulated(found, pp, virtual, micro_batches),
            "formula": 1 - 1 / (1 + (pp - 1) / (virtual * micro_batches)),
        }
        if dist.get_rank() == 0:
            sys.stdout.write(json.dumps(told) + "\n")
    dist.destroy_process_group()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    done = launch(__file__, "rank", ranks=options.ranks, seconds=600)
    rows = [json.loads(line) for line in done.logs[0].splitlines() if line.startswith("{")]
    for row in rows:
        far = 100 * (row["measured"] - row["simulated"])
        spread = f"({row['least']:.1%} to {row['most']:.1%})"
        print(f"V {row['V']}, M {row['M']:2}: idle {row['measured']:.1%} {spread}, ", end="")
        print(f"simulated {row['simulated']:.1%}, formula {row['formula']:.1%}: {far:+.1f} points")
    if options.out is not None:
        with atomic_write(options.out) as file:
            file.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:] == ["rank"]:
        on_a_rank()
    else:
        main()
