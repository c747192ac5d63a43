"""K = 16 answers to each of some prompts: the engine, whose answers share the prompt's pages,
against 16 calls of `generate` with a cache each, and against padded batches of 16.

    python benchmarks/rejection_speed.py                # about five minutes
    python benchmarks/rejection_speed.py --rounds 2

Random weights of the 110m shape in float32, one thread, drawn at temperature 1; answers end where a
fixed rule ends them, so that they are of unequal length: the engine and the single calls go on
with what is left, a padded batch runs until its longest answer is done. Sides take turns in one
process; a ratio is the other's seconds over the engine's of the same round.
"""

import argparse
import json
import random
import statistics
from dataclasses import asdict
from pathlib import Path

import torch
from batch_speed import Result, compare
from decode_speed import chip, make_pair
from transformers import LlamaForCausalLM

from llama3lib.inference import LLMEngine, SamplingParams, fuse_projections, generate_tokens
from llama3lib.model import Transformer, get_preset
from llama3lib.utils.files import atomic_write

K, PROMPTS, LENGTH = 16, 2, 128


def lengths_of() -> list[list[int]]:
    """Tokens of each answer: 8 to 64, most of them short."""
    rng = random.Random(0)
    return [[min(64, 8 + int(rng.expovariate(1 / 16))) for _ in range(K)] for _ in range(PROMPTS)]


def on_engine(model: Transformer, prompts: list[list[int]], lengths: list[list[int]]) -> None:
    """All prompts at once. One request for each length that a prompt has, so that answers end
    where they do on the other sides; the prompt's pages are shared all the same."""
    blocks = sum(-(-(LENGTH + n) // 16) for some in lengths for n in some)
    with LLMEngine(model, num_blocks=blocks, max_num_seqs=K * PROMPTS) as engine:
        for prompt, some in zip(prompts, lengths, strict=True):
            for n in sorted(set(some)):
                params = SamplingParams(max_tokens=n, temperature=1.0, seed=n, ignore_eos=True)
                engine.add_request(prompt, params, n=some.count(n))
        while engine.has_work:
            engine.step()


def one_by_one(model: Transformer, prompts: list[list[int]], lengths: list[list[int]]) -> None:
    for prompt, some in zip(prompts, lengths, strict=True):
        for n in some:
            params = SamplingParams(max_tokens=n, temperature=1.0, seed=n, ignore_eos=True)
            list(generate_tokens(model, prompt, params))


def padded(model: LlamaForCausalLM, prompts: list[list[int]], lengths: list[list[int]]) -> None:
    for prompt, some in zip(prompts, lengths, strict=True):
        ids = torch.tensor([prompt])
        model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=max(some),
            do_sample=True,
            num_return_sequences=K,
            pad_token_id=0,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    ours, theirs = make_pair(get_preset("110m"), torch.float32)
    fuse_projections(ours)
    rng, lengths = random.Random(1), lengths_of()
    prompts = [[rng.randrange(1000) for _ in range(LENGTH)] for _ in range(PROMPTS)]
    runs = {
        "engine": lambda: on_engine(ours, prompts, lengths),
        "16 calls of generate": lambda: one_by_one(ours, prompts, lengths),
        "padded batches of 16": lambda: padded(theirs, prompts, lengths),
    }
    for run in runs.values():
        run()
    tokens = sum(map(sum, lengths))
    found: list[Result] = compare("K = 16", "float32", runs, asked.rounds, tokens)
    mean = statistics.mean(n for some in lengths for n in some)
    print(f"{PROMPTS} prompts of {LENGTH} tokens, answers of {mean:.0f} tokens on average")
    for r in found:
        told = f"{r.ratio:.2f} ({r.least:.2f} to {r.largest:.2f}) times as fast as {r.other}"
        print(f"engine {r.rate:.0f} tokens/s, {told} ({r.other_rate:.0f})")
    if asked.out:
        made = {
            "machine": chip(),
            "torch": torch.__version__,
            "results": [asdict(r) for r in found],
        }
        with atomic_write(asked.out) as file:
            file.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
