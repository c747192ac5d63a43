"""Decoding and prefill, ours against transformers, in turn, in one process on one thread.

    python benchmarks/decode_speed.py                  # several minutes
    python benchmarks/decode_speed.py --quick          # a fifth of the work, a rougher answer

Both sides get the same random weights of the 110m shape and the same prompt, and must give the
same first tokens in float32. In each round every side runs once; a ratio is peer's seconds over
ours in the same round, so above 1 means that ours is faster. Printed: median, least and largest
ratio over the rounds. Run it on a quiet machine: what else runs slows the sides unequally.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import transformers
from torch import Tensor
from transformers import LlamaForCausalLM

from llama3lib.checkpoint import hf
from llama3lib.inference import SamplingParams, fuse_projections, generate_tokens
from llama3lib.model import ModelArgs, Transformer, get_preset
from llama3lib.utils.files import atomic_write

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
OURS = "llama3lib"


@dataclass(frozen=True, kw_only=True)
class Result:
    """One job in one dtype against one peer. Rates are tokens per second of the median round."""

    job: str
    dtype: str
    peer: str
    rate: float
    peer_rate: float
    ratio: float
    least: float
    largest: float


def chip() -> str:
    """Name of the processor, as far as the system tells it."""
    info = Path("/proc/cpuinfo")
    names = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    found = (line.partition(":")[2].strip() for line in names if line.startswith("model name"))
    return next(found, platform.processor() or platform.machine())


def make_pair(args: ModelArgs, dtype: torch.dtype) -> tuple[Transformer, LlamaForCausalLM]:
    """The same random weights in both implementations."""
    ours = Transformer(args)
    ours.init_weights(torch.Generator().manual_seed(0))
    ours.to(dtype).eval()
    config = transformers.LlamaConfig(**hf.args_to_config(args, dtype))
    theirs = LlamaForCausalLM(config).to(dtype).eval()
    weights = [hf.to_hf_tensor(name, p.detach(), args) for name, p in ours.named_parameters()]
    missing, odd = theirs.load_state_dict(dict(weights), strict=False)
    assert not odd, odd
    assert set(missing) <= {"lm_head.weight"}, missing
    theirs.tie_weights()
    theirs.generation_config.eos_token_id = None  # random weights must not end early
    return ours, theirs


def sides(
    ours: Transformer, theirs: LlamaForCausalLM, prompt: Tensor, new: int
) -> dict[str, Callable[[], list[int]]]:
    """Each returns the new ids of one greedy generation."""
    ids, mask = prompt[0].tolist(), torch.ones_like(prompt)
    params = SamplingParams(max_tokens=new, ignore_eos=True)

    def transformers_with(**options: str) -> list[int]:
        out = theirs.generate(
            prompt, attention_mask=mask, max_new_tokens=new, do_sample=False, **options
        )
        return out[0, len(ids) :].tolist()

    return {
        OURS: lambda: list(generate_tokens(ours, ids, params)),
        "transformers": transformers_with,
        "transformers, static cache": lambda: transformers_with(cache_implementation="static"),
    }


def compare(
    job: str, dtype: str, runs: dict[str, Callable[[], list[int]]], *, rounds: int, tokens: int
) -> list[Result]:
    """Warm up, check that all agree in float32, then time the sides in turn."""
    given = {name: run() for name, run in runs.items()}
    if dtype == "float32":  # in bfloat16 rounding may turn a close choice
        assert all(ids[:8] == given[OURS][:8] for ids in given.values()), given
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    results = []
    for peer in [name for name in runs if name != OURS]:
        ratios = [a / b for a, b in zip(seconds[peer], seconds[OURS], strict=True)]
        results.append(
            Result(
                job=job,
                dtype=dtype,
                peer=peer,
                rate=tokens / statistics.median(seconds[OURS]),
                peer_rate=tokens / statistics.median(seconds[peer]),
                ratio=statistics.median(ratios),
                least=min(ratios),
                largest=max(ratios),
            )
        )
    return results


def measure(dtype: str, options: argparse.Namespace) -> list[Result]:
    """Decode and prefill in one dtype."""
    args = get_preset(options.preset)
    ours, theirs = make_pair(args, DTYPES[dtype])
    if not options.plain:
        fuse_projections(ours)
    generator = torch.Generator().manual_seed(1)
    results = []
    for job, length, new in (("decode", 16, options.tokens), ("prefill", options.prompt, 1)):
        prompt = torch.randint(args.vocab_size, (1, length), generator=generator)
        runs = sides(ours, theirs, prompt, new)
        tokens = new if job == "decode" else length
        results += compare(job, dtype, runs, rounds=options.rounds, tokens=tokens)
    return results


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="110m")
    parser.add_argument("--dtype", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=64, help="new tokens of a decode round")
    parser.add_argument("--prompt", type=int, default=256, help="tokens of a prefill round")
    parser.add_argument("--plain", action="store_true", help="without fuse_projections")
    parser.add_argument("--quick", action="store_true", help="5 rounds of 16 tokens")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.tokens = 5, 16
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, one thread")
    results = []
    for dtype in options.dtype:
        for result in measure(dtype, options):
            results.append(result)
            print(
                f"{result.job:8} {result.dtype:9} {result.rate:8.1f} tok/s against "
                f"{result.peer_rate:8.1f} of {result.peer:27} "
                f"{result.ratio:.2f}x ({result.least:.2f}-{result.largest:.2f})",
                flush=True,
            )
    if options.json:
        told = {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "chip": chip(),
            "rounds": options.rounds,
            "results": [asdict(result) for result in results],
        }
        with atomic_write(options.json) as temporary:
            temporary.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
