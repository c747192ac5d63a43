"""What constrained decoding costs: mask and bookkeeping of a token, and decoding without any.

    python benchmarks/structured_speed.py                # a minute
    python benchmarks/structured_speed.py --rounds 3

- mask: microseconds to compute the allowed tokens, and to apply them to the scores, of one token,
  over 40 random JSON schemas, with the 768 tokens of tiny-base and, where the released vocabulary
  is installed, with 128,256.
- decoding: 16 texts of tiny-base with a schema each against the same texts without, as the time of
  a step.

One thread. All sides run in turn; the median of the rounds is told.
"""

import argparse
import random
import statistics
import sys
import time
from pathlib import Path

import torch

from llama3lib.checkpoint import load_model, load_tokenizer
from llama3lib.inference import LLMEngine, SamplingParams
from llama3lib.inference.logits import adjusted_logits
from llama3lib.inference.sequence import Sequence
from llama3lib.inference.structured import Constraint, StructuredOutputs
from llama3lib.tokenizer import Tokenizer

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from schema_tools import random_document

SCHEMAS = [random_document(random.Random(seed)) for seed in range(40)]
PARAMS = SamplingParams(max_tokens=200)


def spent(dice: torch.Generator, bound: Constraint, vocab_size: int) -> tuple[float, float, int]:
    """Seconds in masks and in all of it, and tokens, of one text of random tokens."""
    sequence = Sequence([0], PARAMS, constraint=bound.copy())
    masks = whole = 0.0
    count = 0
    while count < PARAMS.max_tokens:
        count += 1
        logits = torch.randn(1, vocab_size, generator=dice)
        began = time.perf_counter()
        sequence.constraint.mask()
        masks += time.perf_counter() - began
        began = time.perf_counter()
        row = adjusted_logits(logits, [sequence])[0]
        whole += time.perf_counter() - began
        token = int(row.argmax())
        if token in bound.end_ids:
            break
        began = time.perf_counter()
        sequence.constraint.advance(token)
        whole += time.perf_counter() - began
        if sequence.constraint.must_end:
            break
    return masks, whole, count


def masks(name: str, tokenizer: Tokenizer) -> None:
    began = time.perf_counter()
    made = StructuredOutputs(tokenizer, tokenizer.n_vocab)
    made.regex("a")
    vocabulary = time.perf_counter() - began
    began = time.perf_counter()
    bounds = [made.json(schema) for schema in SCHEMAS]
    compiling = (time.perf_counter() - began) / len(bounds)
    dice = torch.Generator().manual_seed(0)
    found = [spent(dice, bound, tokenizer.n_vocab) for bound in bounds]
    masked, whole, tokens = (sum(one[i] for one in found) for i in range(3))
    print(
        f"{name}: mask {masked / tokens * 1e6:.0f} us a token, applied and followed "
        f"{whole / tokens * 1e6:.0f} us ({tokens} tokens); vocabulary read once "
        f"{vocabulary:.2f} s, a schema compiled in {compiling * 1e3:.1f} ms"
    )


def step_seconds(engine: LLMEngine, bounds: list[Constraint | None]) -> float:
    """Seconds of a decode step of all texts together."""
    for seed, bound in enumerate(bounds):
        params = SamplingParams(max_tokens=60, ignore_eos=True, seed=seed, temperature=1.0)
        engine.add_request("One sunny day ", params, constraint=bound)
    engine.step()
    began = time.perf_counter()
    texts = 0
    while len(engine.scheduler.running) == len(bounds):
        engine.step()
        texts += 1
    seconds = (time.perf_counter() - began) / max(texts, 1)
    for request_id in list(engine.requests):
        engine.abort_request(request_id)
    return seconds


def decoding(rounds: int) -> None:
    tokenizer = load_tokenizer("tiny-base")
    with LLMEngine(load_model("tiny-base"), tokenizer, num_blocks=512) as engine:
        text = {"type": "string", "minLength": 200}
        names = ("a", "b", "c", "d")
        schema = {"type": "object", "properties": dict.fromkeys(names, text)}
        schema["required"] = list(names)
        bound = engine.structured.json(schema)
        sides = {"free": [None] * 16, "bound": [bound] * 16}
        times: dict[str, list[float]] = {side: [] for side in sides}
        for _ in range(rounds):
            for side, bounds in sides.items():
                times[side].append(step_seconds(engine, bounds))
    free, kept = (statistics.median(times[side]) for side in sides)
    ratios = [b / f for f, b in zip(times["free"], times["bound"], strict=True)]
    print(
        f"16 texts of tiny-base: a step {free * 1e3:.2f} ms free, {kept * 1e3:.2f} ms bound, "
        f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    masks("768 tokens", load_tokenizer("tiny-base"))
    try:
        masks("128,256 tokens", Tokenizer.llama3())
    except FileNotFoundError as error:
        print(f"128,256 tokens: not measured ({error})")
    decoding(rounds)


if __name__ == "__main__":
    main()
