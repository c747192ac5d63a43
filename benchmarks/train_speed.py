"""Training steps, ours against the same model in transformers, in turn, on one thread.

    python benchmarks/train_speed.py                    # about half an hour
    python benchmarks/train_speed.py --shape 15m --no-compile --rounds 3

Both sides get the same random weights, batches, fused AdamW and clipping, and must give the same
loss. One round is one step of each side; a ratio is the peer's seconds over ours in the same round,
so above 1 means that ours is faster. Printed: median, least and largest ratio, and the share of the
peak that a large matrix product reaches here (6 FLOP per parameter and token, both sides alike).
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import transformers
from torch import nn
from transformers import LlamaForCausalLM

from llama3lib.checkpoint import hf
from llama3lib.data.loader import Batch
from llama3lib.model import ModelArgs, Transformer
from llama3lib.model.flops import count_parameters
from llama3lib.parallel import ParallelPlan, parallelize
from llama3lib.train.metrics import peak_flops
from llama3lib.train.optim import make_adamw
from llama3lib.train.step import train_step
from llama3lib.utils.files import atomic_write

SHAPES = {
    "15m": (dict(dim=288, n_layers=6, n_heads=6, n_kv_heads=2, ffn_dim=768), 4),
    "110m": (dict(dim=768, n_layers=12, n_heads=12, n_kv_heads=4, ffn_dim=2304), 1),
}
LENGTH, VOCAB, CLIP, RATE = 256, 32_000, 1.0, 1e-4
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class Result:
    """One shape in one precision. Rates are tokens per second of the median round."""

    shape: str
    dtype: str
    compiled: bool
    rate: float
    peer_rate: float
    ratio: float
    least: float
    largest: float
    share_of_peak: float


def make_pair(args: ModelArgs) -> tuple[Transformer, LlamaForCausalLM]:
    """The same random weights in both implementations."""
    ours = Transformer(args)
    ours.init_weights(torch.Generator().manual_seed(0))
    theirs = LlamaForCausalLM(transformers.LlamaConfig(**hf.args_to_config(args, torch.float32)))
    weights = [hf.to_hf_tensor(name, p.detach(), args) for name, p in ours.named_parameters()]
    theirs.load_state_dict(dict(weights), strict=False)
    theirs.tie_weights()
    return ours.train(), theirs.train()


def our_step(
    model: Transformer, batch: Batch, dtype: torch.dtype, compiled: bool
) -> Callable[[], float]:
    """A step through the trainer's own function."""
    optimizer = make_adamw(model, RATE)
    plan = ParallelPlan(dtype=None if dtype == torch.float32 else dtype, compile=compiled)
    parallel = parallelize(model, plan=plan)

    def step() -> float:
        told = train_step(parallel, optimizer, batch, clip=CLIP)
        return told.loss

    return step


def their_step(
    model: LlamaForCausalLM, batch: Batch, dtype: torch.dtype, compiled: bool
) -> Callable[[], float]:
    """The same step as a plain loop around transformers' model and loss."""
    if compiled:
        model.compile()
    optimizer = torch.optim.AdamW(_groups(model), lr=RATE, betas=(0.9, 0.95), fused=True)
    inputs = batch.inputs.contiguous()
    # transformers shifts labels itself: a first label that nobody reads, then our targets
    labels = torch.cat([batch.tokens[:, :1], batch.targets], dim=1)[:, :-1].contiguous()
    last = batch.targets[:, -1:]

    def step() -> float:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
            loss = model(
                input_ids=inputs,
                labels=labels,
                shift_labels=torch.cat([labels[:, 1:], last], dim=1),
                use_cache=False,
            ).loss
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        return loss.item()

    return step


def _groups(model: nn.Module) -> list[dict]:
    trained = list(model.parameters())
    return [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": 0.1},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
    ]


def measure(shape: str, dtype: str, compiled: bool, rounds: int, peak: float) -> Result:
    """Warm up, check that both agree, then time the sides in turn."""
    sizes, rows = SHAPES[shape]
    args = ModelArgs(**sizes, vocab_size=VOCAB, max_seq_len=LENGTH, tie_embeddings=True)
    ours, theirs = make_pair(args)
    tokens = torch.randint(VOCAB, (rows, LENGTH + 1), generator=torch.Generator().manual_seed(1))
    batch = Batch(tokens, torch.zeros_like(tokens), ("random",) * rows)
    pairs = ((our_step, ours), (their_step, theirs))
    steps = [make(model, batch, DTYPES[dtype], compiled) for make, model in pairs]
    for _ in range(3):
        losses = [step() for step in steps]
        gap = abs(losses[0] - losses[1])
        assert gap < (1e-4 if dtype == "float32" else 2e-2), losses
    seconds: list[list[float]] = [[], []]
    for number in range(rounds):
        for side in (0, 1) if number % 2 else (1, 0):
            start = time.perf_counter()
            steps[side]()
            seconds[side].append(time.perf_counter() - start)
    ratios = [b / a for a, b in zip(*seconds, strict=True)]
    count, n = rows * LENGTH, count_parameters(args).total
    rate, peer_rate = (count / statistics.median(part) for part in seconds)
    return Result(
        shape=shape,
        dtype=dtype,
        compiled=compiled,
        rate=rate,
        peer_rate=peer_rate,
        ratio=statistics.median(ratios),
        least=min(ratios),
        largest=max(ratios),
        share_of_peak=6 * n * rate / peak,
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--dtype", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, one thread")
    peaks = {name: peak_flops(torch.device("cpu"), DTYPES[name]) for name in options.dtype}
    results = []
    for shape in options.shape:
        for dtype in options.dtype:
            for compiled in (False,) if options.no_compile else (False, True):
                torch.compiler.reset()
                found = measure(shape, dtype, compiled, options.rounds, peaks[dtype])
                results.append(found)
                print(
                    f"{shape:5} {dtype:9} {'compiled' if compiled else 'eager':9}"
                    f"{found.rate:7.0f} tok/s against {found.peer_rate:7.0f}: {found.ratio:.2f}x "
                    f"({found.least:.2f}-{found.largest:.2f}), {found.share_of_peak:.0%} of peak",
                    flush=True,
                )
    if options.json:
        told = {"torch": torch.__version__, "transformers": transformers.__version__}
        told |= {"gemm_peak_gflops": {name: peak / 1e9 for name, peak in peaks.items()}}
        told |= {"rounds": options.rounds, "results": [asdict(result) for result in results]}
        with atomic_write(options.json) as temporary:
            temporary.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
