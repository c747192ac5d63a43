"""Train `tiny-base`, the small model that comes with the package, from nothing.

    python scripts/train_tiny_base.py                  # about ten minutes on one core
    python scripts/train_tiny_base.py --out my-model --steps 200

The tokenizer is trained first, then the model by the recipe `small-cpu`, with the package's own
trainer: corpus, tokenizer, model and order of the data follow from the seed. What came out is told
in `provenance.json`: recipe, losses, samples, and the SHA-256 of the weights.
"""

import argparse
import hashlib
import itertools
import json
import platform
import sys
import tempfile
import time
from pathlib import Path

import torch
from tqdm import tqdm

from llama3lib.checkpoint import load_model, load_tokenizer, save_hf
from llama3lib.data.tokens import TokenShard, write_shard
from llama3lib.eval import held_out_loss
from llama3lib.inference import SamplingParams, generate
from llama3lib.model import Transformer
from llama3lib.model.flops import count_parameters
from llama3lib.tokenizer import Tokenizer, ranks_from_merges, train_bpe
from llama3lib.train.config import TrainConfig, load_config
from llama3lib.train.sources import open_sources
from llama3lib.train.trainer import Trainer
from llama3lib.utils.files import sha256_file
from llama3lib.worlds import stories

OUT = Path(__file__).parent.parent / "llama3lib" / "assets" / "tiny-base"
N_RANKS, BPE_STORIES, HELD_OUT_SEED, HELD_OUT = 512, 20_000, 1_000_003, 1000
PROMPTS = ("One sunny day", "Omar had a red kite.", "Lena had ten coins and went to the market.")


def make_tokenizer(seed: int, folder: Path) -> Tokenizer:
    """Byte-pair encoding of many stories; also written to the folder, for the recipe to name."""
    merges = train_bpe(itertools.islice(stories(seed), BPE_STORIES), N_RANKS)
    tokenizer = Tokenizer(ranks_from_merges(merges), name="tiny-base")
    tokenizer.save(folder / "tokenizer.model")
    return tokenizer


def make_config(seed: int, steps: int | None, tokenizer: Path) -> TrainConfig:
    """The recipe `small-cpu`, with the tokenizer just trained."""
    changes = [f"seed={seed}", f"data.stories.seed={seed}", f'tokenizer="{tokenizer.as_posix()}"']
    if steps is not None:
        changes += [f"phases.0.steps={steps}", f"optimizer.warmup={min(100, steps // 2)}"]
    return load_config("small-cpu", changes)


def held_out_shard(tokenizer: Tokenizer, config: TrainConfig, folder: Path) -> TokenShard:
    """Stories of another seed, without those that the training stories hold too.

    Another seed alone is not enough: the plots with few parts to vary repeat themselves.
    """
    source = config.data["stories"]
    seen = set(itertools.islice(stories(source.seed), source.stories))
    fresh = (story for story in stories(HELD_OUT_SEED) if story not in seen)
    return write_shard(itertools.islice(fresh, HELD_OUT), folder, tokenizer)


def measure(model: Transformer, tokenizer: Tokenizer, config: TrainConfig) -> float:
    """Mean nats per token on stories that training never saw."""
    with tempfile.TemporaryDirectory() as folder:
        shard = held_out_shard(tokenizer, config, Path(folder) / "held-out")
        return held_out_loss(model, shard, config.phases[0].length).mean


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


def build(out: Path, run: Path, *, steps: int | None, seed: int, force: bool) -> dict:
    """Train in the folder `run` and write `out`; returns the provenance."""
    started = time.perf_counter()
    run.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer(seed, run)
    config = make_config(seed, steps, run / "tokenizer.model")
    trainer = Trainer(config, open_sources(config, run / "data"), run)
    with tqdm(total=config.total_steps, desc="tiny-base", unit="step", mininterval=2) as bar:
        losses: list[float] = []
        result = trainer.fit(lambda row: (bar.update(), losses.append(row["loss"])))
    model = result.model.eval()
    save_hf(model, out, tokenizer=tokenizer, overwrite=force)
    phase = config.phases[0]
    provenance = {
        "what": "A Llama 3 in miniature that continues small English stories. Not a chat model.",
        "made_by": "scripts/train_tiny_base.py, with llama3lib.train.Trainer",
        "licence": "Apache-2.0",
        "corpus": "llama3lib.worlds.stories: our own grammar; no text of others",
        "corpus_seed": seed,
        "corpus_sha256_of_first_1000": corpus_sha256(seed),
        "tokenizer": f"byte-level BPE, {N_RANKS} tokens, and 256 special ones",
        "parameters": count_parameters(model.args).total,
        "recipe": {
            "name": "small-cpu",
            "stories": config.data["stories"].stories,
            "steps": result.steps,
            "tokens": result.tokens,
            "batch": phase.batch_size,
            "length": phase.length,
            "optimizer": "AdamW, betas 0.9 and 0.95, weight decay 0.1 on matrices, clip 1.0",
            "learning_rate": f"{config.optimizer.peak}, {config.optimizer.warmup} steps of "
            f"warm-up, cosine to {config.optimizer.minimum}",
            "document_mask": config.document_mask,
            "dtype": "float32",
        },
        "train_loss_nats_per_token": round(sum(losses[-50:]) / max(1, len(losses[-50:])), 4),
        "held_out": f"stories of seed {HELD_OUT_SEED} that are not among the training stories",
        "held_out_loss_nats_per_token": round(measure(model, tokenizer, config), 4),
        "seconds_on_one_thread": round(time.perf_counter() - started),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "weights_sha256": sha256_file(out / "model.safetensors"),
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
        sys.exit("llama3lib.worlds.stories has changed since tiny-base was trained: train it again")
    config = make_config(told["corpus_seed"], None, out)
    loss = measure(load_model(out), load_tokenizer(out), config)
    if abs(loss - told["held_out_loss_nats_per_token"]) > 0.01:
        sys.exit(f"{out}: held-out loss is {loss:.4f}, not as told in provenance.json")
    print(f"{out.name}: weights, corpus and held-out loss {loss:.4f} are as told")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument(
        "--run", type=Path, help="folder of the run, kept; gone on with if it is there"
    )
    parser.add_argument("--steps", type=int, help="fewer steps than the recipe's")
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
    with tempfile.TemporaryDirectory() as temporary:
        run = (options.run or Path(temporary)).resolve()
        told = build(options.out, run, steps=options.steps, seed=options.seed, force=options.force)
    print(f"held-out loss {told['held_out_loss_nats_per_token']} nats per token")
    for sample in told["samples"]:
        print(f"- {sample['text']}")


if __name__ == "__main__":
    main()
