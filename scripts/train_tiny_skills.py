"""Train `tiny-skills`, the small base model that post-training begins with, from nothing.

    python scripts/train_tiny_skills.py             # about three minutes on one core
    python scripts/train_tiny_skills.py --verify    # check the shipped folder; train nothing

It reads bytes; Llama 3's control tokens stand at byte values that no text has, so that dialogs can
be written. It has seen six skills in documents and no dialog at all. What came out is told in
`provenance.json`.
"""

import argparse
import json
import platform
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import torch
from tqdm import tqdm

from llama3lib.checkpoint import load_model, save_hf
from llama3lib.data.tokens import TokenShard, write_shard
from llama3lib.eval import held_out_loss
from llama3lib.inference import SamplingParams, generate
from llama3lib.model import ModelArgs, Transformer
from llama3lib.model.flops import count_parameters
from llama3lib.tokenizer import Tokenizer
from llama3lib.train.config import OptimizerConfig, Phase, SourceConfig, TrainConfig
from llama3lib.train.trainer import Trainer
from llama3lib.utils.files import atomic_write, sha256_file
from llama3lib.worlds import skills

OUT = Path(__file__).parent.parent / "llama3lib" / "assets" / "tiny-skills"
SEED, DOCUMENTS, HELD_OUT = 1, 370_000, 2_000
STEPS, BATCH, LENGTH, WRONG = 2_200, 48, 64, 0.05
ARGS = ModelArgs(
    dim=64, n_layers=3, n_heads=4, n_kv_heads=2, ffn_dim=176, vocab_size=256, max_seq_len=256
)


def make_config(steps: int) -> TrainConfig:
    """The recipe; its data are written beside the run."""
    return TrainConfig(
        title="tiny-skills",
        model=ARGS,
        data={"skills": SourceConfig(shard="skills")},
        phases=(Phase(name="main", steps=steps, batch_size=BATCH, length=LENGTH),),
        optimizer=OptimizerConfig(peak=4e-3, warmup=min(100, steps // 2), minimum=2e-4),
        seed=SEED,
        device="cpu",
        precision="float32",
        save_every=steps,
    )


def shards(folder: Path) -> dict[str, TokenShard]:
    """Documents to train on, and others, without mistakes, of the held-out tasks."""
    tokenizer = Tokenizer.of_bytes()
    seen = skills.documents(SEED, wrong=WRONG)
    fresh = skills.documents(SEED, wrong=0, held_out=True)
    return {
        "skills": write_shard(islice(seen, DOCUMENTS), folder / "skills", tokenizer),
        "held-out": write_shard(islice(fresh, HELD_OUT), folder / "held-out", tokenizer),
    }


def measure(model: Transformer, held_out: TokenShard) -> dict[str, float]:
    """Nats a byte on documents of held-out tasks, and the share of such tasks solved by skill."""
    told = {"held_out_nats_per_byte": round(held_out_loss(model, held_out, LENGTH).mean, 4)}
    tokenizer = Tokenizer.of_bytes()
    params = SamplingParams(temperature=0.0, max_tokens=8)
    solved: dict[str, list[bool]] = {name: [] for name in skills.SKILLS}
    for task in skills.exam(240):
        said = "".join(generate(model, tokenizer, f"{task.prompt} ->", params))
        solved[task.skill].append(skills.is_correct(task.prompt, said))
    shares = {f"solved, {name}": sum(got) / len(got) for name, got in solved.items()}
    return told | {name: round(share, 3) for name, share in shares.items()}


def build(out: Path, steps: int) -> dict[str, object]:
    """Train, export to `out`, and tell how it was made."""
    begun, losses = time.perf_counter(), []
    with tempfile.TemporaryDirectory() as temporary:
        made = shards(Path(temporary))
        trainer = Trainer(make_config(steps), made, Path(temporary) / "run")
        with tqdm(total=steps, desc="tiny-skills", unit="step", mininterval=2) as bar:
            result = trainer.fit(lambda row: (bar.update(), losses.append(row["loss"])))
        model = result.model.eval()
        save_hf(model, out, tokenizer=Tokenizer.of_bytes(), overwrite=True)
        digests = {name: shard.index["sha256"] for name, shard in made.items()}
        measured = measure(model, made["held-out"])
    provenance = {
        "what": "A small base model of bytes that has seen six skills in documents, and no dialog.",
        "made_by": "scripts/train_tiny_skills.py, with llama3lib.train.Trainer",
        "licence": "Apache-2.0",
        "corpus": "llama3lib.worlds.skills: our own generator; no text of others",
        "documents": DOCUMENTS,
        "wrong_documents": WRONG,
        "data_sha256": digests,
        "tokenizer": "bytes; control tokens at byte values that UTF-8 has no use for",
        "parameters": count_parameters(model.args).total,
        "recipe": make_config(steps).describe(),
        "steps": result.steps,
        "tokens": result.tokens,
        "train_loss_nats_of_last_50": round(sum(losses[-50:]) / len(losses[-50:]), 4),
        "measured": measured,
        "seconds_on_one_thread": round(time.perf_counter() - begun),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "weights_sha256": sha256_file(out / "model.safetensors"),
    }
    with atomic_write(out / "provenance.json") as file:
        text = json.dumps(provenance, indent=2) + "\n"
        file.write_text(text, encoding="utf-8", newline="\n")
    return provenance


def verify(out: Path) -> None:
    """Check the shipped folder: weights as told, data unchanged, measured values as told."""
    told = json.loads((out / "provenance.json").read_text(encoding="utf-8"))
    if sha256_file(out / "model.safetensors") != told["weights_sha256"]:
        sys.exit(f"{out}: the weights are not the ones in provenance.json")
    with tempfile.TemporaryDirectory() as temporary:
        made = shards(Path(temporary))
        if {name: shard.index["sha256"] for name, shard in made.items()} != told["data_sha256"]:
            sys.exit("llama3lib.worlds.skills has changed since: train it again")
        found = measure(load_model(out), made["held-out"])
    for name, value in found.items():
        if abs(value - told["measured"][name]) > 0.03:
            sys.exit(f"{out}: {name} is {value}, not as told in provenance.json")
    print(f"{out.name}: weights and data are as told; {found}")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--verify", action="store_true", help="check the folder; train nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.verify:
        verify(options.out)
        return
    told = build(options.out, options.steps)
    print(told["parameters"], "parameters,", told["measured"])


if __name__ == "__main__":
    main()
