"""Train `tiny-base`, the small model that comes with the package, from nothing.

    python scripts/train_tiny_base.py                  # about ten minutes on one core
    python scripts/train_tiny_base.py --out my-model --steps 200

Corpus, tokenizer, model and order of the data follow from the seed. What came out is told in
`provenance.json`: recipe, losses, samples, and the SHA-256 of the weights.
"""

import argparse
import hashlib
import itertools
import json
import math
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from llama3lib.checkpoint import load_model, load_tokenizer, save_hf
from llama3lib.data import stories
from llama3lib.inference import SamplingParams, generate
from llama3lib.model import DocumentMask, ModelArgs, Transformer
from llama3lib.model.flops import count_parameters
from llama3lib.tokenizer import Tokenizer, ranks_from_merges, train_bpe
from llama3lib.utils.files import sha256_file

OUT = Path(__file__).parent.parent / "llama3lib" / "assets" / "tiny-base"
N_RANKS, BPE_STORIES, HELD_OUT_SEED = 512, 20_000, 1_000_003
BATCH, LENGTH, PEAK, WARM_UP, END = 8, 256, 5e-3, 0.05, 0.05
PROMPTS = ("One sunny day", "Omar had a red kite.", "Lena had ten coins and went to the market.")


def make_args(vocab_size: int) -> ModelArgs:
    """A Llama 3 in miniature: grouped queries, SwiGLU, RoPE with the paper's base, untied."""
    return ModelArgs(
        dim=128,
        n_layers=4,
        n_heads=8,
        n_kv_heads=2,
        ffn_dim=384,
        vocab_size=vocab_size,
        max_seq_len=512,
    )


def packed_rows(
    tokenizer: Tokenizer, source: Iterator[str]
) -> Iterator[tuple[list[int], list[int]]]:
    """Rows of LENGTH + 1 tokens filled with whole stories end to end, and each token's story."""
    ids: list[int] = []
    documents: list[int] = []
    for number, story in enumerate(source):
        tokens = tokenizer.encode(story, bos=True, eos=True)
        ids += tokens
        documents += [number] * len(tokens)
        while len(ids) > LENGTH:
            yield ids[: LENGTH + 1], documents[: LENGTH + 1]
            ids, documents = ids[LENGTH:], documents[LENGTH:]


def batches(rows: Iterator[tuple[list[int], list[int]]]) -> Iterator[tuple[Tensor, Tensor]]:
    """Token ids and story numbers, each [BATCH, LENGTH + 1]."""
    for group in iter(lambda: list(itertools.islice(rows, BATCH)), []):
        yield torch.tensor([ids for ids, _ in group]), torch.tensor([docs for _, docs in group])


def loss_of(model: Transformer, ids: Tensor, documents: Tensor) -> Tensor:
    """Mean nats per token; the step from one story to the next is not asked for."""
    mask = DocumentMask(documents[:, :-1])
    logits = model(ids[:, :-1], mask.positions(), mask)
    same = documents[:, 1:] == documents[:, :-1]
    targets = ids[:, 1:].masked_fill(~same, -100)
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def rate(step: int, steps: int) -> float:
    """Linear warm-up, then a cosine down to a twentieth."""
    warm = max(1, round(WARM_UP * steps))
    if step < warm:
        return (step + 1) / warm
    way = (step - warm) / max(1, steps - warm)
    return END + (1 - END) * 0.5 * (1 + math.cos(math.pi * way))


def held_out_stories(tokenizer: Tokenizer, seed: int, tokens: int) -> Iterator[str]:
    """Stories of another seed, without those that training on `tokens` tokens of `seed` held too.

    Another seed alone is not enough: the plots with few parts to vary repeat themselves.
    """
    seen, total = set(), 0
    for story in stories(seed):
        seen.add(story)
        total += len(tokenizer.encode(story)) + 2  # begin and end of text
        if total > tokens:
            break
    return (story for story in stories(HELD_OUT_SEED) if story not in seen)


@torch.no_grad()
def held_out_loss(
    model: Transformer, tokenizer: Tokenizer, *, seed: int, tokens: int, n_batches: int = 20
) -> float:
    """Mean nats per token on stories that training never saw."""
    source = batches(packed_rows(tokenizer, held_out_stories(tokenizer, seed, tokens)))
    losses = [loss_of(model, *batch).item() for batch in itertools.islice(source, n_batches)]
    return sum(losses) / len(losses)


def train(model: Transformer, tokenizer: Tokenizer, *, steps: int, seed: int) -> float:
    """Train in place; the mean loss of the last 50 steps."""
    decayed = [p for p in model.parameters() if p.dim() > 1]
    plain = [p for p in model.parameters() if p.dim() == 1]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=PEAK, betas=(0.9, 0.95), fused=True)
    source = batches(packed_rows(tokenizer, stories(seed)))
    recent: list[float] = []
    bar = tqdm(range(steps), desc="tiny-base", unit="step", mininterval=2)
    for step in bar:
        for group in optimizer.param_groups:
            group["lr"] = PEAK * rate(step, steps)
        loss = loss_of(model, *next(source))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        recent = [*recent[-49:], loss.item()]
        bar.set_postfix(loss=f"{sum(recent) / len(recent):.3f}", refresh=False)
    return sum(recent) / len(recent)


def samples(model: Transformer, tokenizer: Tokenizer) -> list[dict]:
    """What the model writes, for the provenance."""
    told = []
    for prompt, temperature in zip(PROMPTS, (0.0, 0.8, 0.8), strict=True):
        params = SamplingParams(temperature=temperature, seed=0, max_tokens=120)
        text = prompt + "".join(generate(model, tokenizer, prompt, params))
        told.append({"prompt": prompt, "temperature": temperature, "text": text})
    return told


def corpus_sha256(seed: int, n: int = 1000) -> str:
    """Digest of the first stories of the seed, so that a change of the grammar shows."""
    text = "\n".join(itertools.islice(stories(seed), n))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def build(out: Path, *, steps: int, seed: int, force: bool) -> dict:
    """Train and write the folder; returns the provenance."""
    started = time.perf_counter()
    merges = train_bpe(itertools.islice(stories(seed), BPE_STORIES), N_RANKS)
    tokenizer = Tokenizer(ranks_from_merges(merges), name="tiny-base")
    model = Transformer(make_args(tokenizer.n_vocab))
    model.init_weights(torch.Generator().manual_seed(seed))
    train_loss = train(model, tokenizer, steps=steps, seed=seed)
    model.eval()
    tokens = steps * BATCH * LENGTH
    held_out = held_out_loss(model, tokenizer, seed=seed, tokens=tokens)
    save_hf(model, out, tokenizer=tokenizer, overwrite=force)
    weights = out / "model.safetensors"
    provenance = {
        "what": "A Llama 3 in miniature that continues small English stories. Not a chat model.",
        "made_by": "scripts/train_tiny_base.py",
        "licence": "Apache-2.0",
        "corpus": "llama3lib.data.stories: our own grammar; no text of others",
        "corpus_seed": seed,
        "corpus_sha256_of_first_1000": corpus_sha256(seed),
        "tokenizer": f"byte-level BPE, {N_RANKS} tokens, and 256 special ones",
        "parameters": count_parameters(model.args).total,
        "recipe": {
            "steps": steps,
            "tokens": tokens,
            "batch": BATCH,
            "length": LENGTH,
            "optimizer": "AdamW, betas 0.9 and 0.95, weight decay 0.1 on matrices, clip 1.0",
            "learning_rate": f"{PEAK}, {WARM_UP:.0%} warm-up, cosine to {END:.0%}",
            "document_mask": True,
            "dtype": "float32",
        },
        "train_loss_nats_per_token": round(train_loss, 4),
        "held_out": f"stories of seed {HELD_OUT_SEED} that are not among the training stories",
        "held_out_loss_nats_per_token": round(held_out, 4),
        "seconds_on_one_thread": round(time.perf_counter() - started),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "weights_sha256": sha256_file(weights),
        "samples": samples(model, tokenizer),
    }
    text = json.dumps(provenance, indent=2, ensure_ascii=False) + "\n"
    (out / "provenance.json").write_text(text, encoding="utf-8", newline="\n")
    return provenance


def verify(out: Path) -> None:
    """Check the shipped folder: weights as told, grammar unchanged, held-out loss as told."""
    told = json.loads((out / "provenance.json").read_text(encoding="utf-8"))
    if sha256_file(out / "model.safetensors") != told["weights_sha256"]:
        sys.exit(f"{out}: the weights are not the ones in provenance.json")
    if corpus_sha256(told["corpus_seed"]) != told["corpus_sha256_of_first_1000"]:
        sys.exit("llama3lib.data.stories has changed since tiny-base was trained: train it again")
    loss = held_out_loss(
        load_model(out),
        load_tokenizer(out),
        seed=told["corpus_seed"],
        tokens=told["recipe"]["tokens"],
    )
    if abs(loss - told["held_out_loss_nats_per_token"]) > 0.01:
        sys.exit(f"{out}: held-out loss is {loss:.4f}, not as told in provenance.json")
    print(f"{out.name}: weights, corpus and held-out loss {loss:.4f} are as told")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--force", action="store_true", help="replace the folder if it exists")
    parser.add_argument("--verify", action="store_true", help="check the folder; train nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.verify:
        verify(options.out)
        return
    if options.out.exists() and any(options.out.iterdir()) and not options.force:
        sys.exit(f"{options.out} is not empty: use --force to replace it")
    told = build(options.out, steps=options.steps, seed=options.seed, force=options.force)
    print(f"held-out loss {told['held_out_loss_nats_per_token']} nats per token")
    for sample in told["samples"]:
        print(f"- {sample['text']}")


if __name__ == "__main__":
    main()
