"""Train the two small models that chapter 05 begins its longer lessons with.

    python scripts/make_lesson_models.py             # about a minute on one core
    python scripts/make_lesson_models.py --verify    # check the shipped folders; train nothing

`tiny-copier` has learned to copy strings of 64 symbols; the long-context stages go on from it.
`tiny-half` is a byte model in the middle of its training; annealings branch from it. Neither has a
tokenizer. What came out is told in each folder's `provenance.json`.
"""

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from llama3lib.checkpoint import load_model, save_hf
from llama3lib.data.tokens import TokenShard
from llama3lib.eval import copy_grid, held_out_loss
from llama3lib.model import Transformer
from llama3lib.model.flops import count_parameters
from llama3lib.train import ablations
from llama3lib.train.config import TrainConfig
from llama3lib.train.trainer import Trainer
from llama3lib.utils.files import atomic_write, sha256_file
from llama3lib.worlds import domains

ASSETS = Path(__file__).parent.parent / "llama3lib" / "assets"
SEED = 0
Shards = dict[str, TokenShard]


@dataclass(frozen=True)
class Lesson:
    """A model to make: its data, its recipe, and what is measured on it."""

    what: str
    recipe: str
    data: Callable[[Path], Shards]
    config: Callable[[Shards], TrainConfig]
    measure: Callable[[Transformer, Shards], dict[str, float]]


def _copied(model: Transformer, _: Shards) -> dict[str, float]:
    share = copy_grid(model, lengths=(64,), depths=(0.0,)).share[0, 0]
    return {"share of symbols copied right at length 64": round(float(share), 4)}


def _losses(model: Transformer, shards: Shards) -> dict[str, float]:
    return {
        f"nats a byte, {kind}": round(held_out_loss(model, shards[f"{kind}-test"], 128).mean, 4)
        for kind in ("general", "maths")
    }


LESSONS = {
    "tiny-copier": Lesson(
        what="Copies random strings of 64 symbols that repeat themselves. It knows nothing else.",
        recipe="llama3lib.train.ablations.short_copier",
        data=lambda folder: domains.copy_shards(folder, (64, 128, 256, 512), SEED),
        config=lambda shards: ablations.lengthen(ablations.short_copier(seed=SEED), (), shards),
        measure=_copied,
    ),
    "tiny-half": Lesson(
        what="A byte model in the middle of its training, at a constant rate: the loss can fall.",
        recipe="llama3lib.train.ablations.trunk",
        data=lambda folder: domains.text_shards(folder, SEED),
        config=lambda shards: ablations.trunk(seed=SEED),
        measure=_losses,
    ),
}


def build(name: str, out: Path) -> dict[str, object]:
    """Train one model, export it to `out`, and tell how it was made."""
    lesson, begun = LESSONS[name], time.perf_counter()
    losses: list[float] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        shards = lesson.data(folder / "data")
        config = lesson.config(shards)
        bar = tqdm(total=config.total_steps, desc=name)

        def on_step(record: dict) -> None:
            losses.append(record["loss"])
            bar.update()

        result = Trainer(config, shards, folder / "run").fit(on_step)
        bar.close()
        model = result.model.eval()
        save_hf(model, out, overwrite=True)
        provenance = {
            "what": lesson.what,
            "made_by": f"scripts/make_lesson_models.py, by {lesson.recipe}",
            "licence": "Apache-2.0",
            "corpus": "made by llama3lib.worlds.domains: our own generators; no text of others",
            "parameters": count_parameters(model.args).total,
            "recipe": config.describe(),
            "data_sha256": {key: shards[key].index["sha256"] for key in sorted(shards)},
            "steps": result.steps,
            "tokens": result.tokens,
            "train_loss_nats_of_last_50": round(sum(losses[-50:]) / 50, 4),
            "measured": lesson.measure(model, shards),
            "seconds_on_one_thread": round(time.perf_counter() - begun),
            "torch": torch.__version__,
            "machine": platform.machine(),
            "weights_sha256": sha256_file(out / "model.safetensors"),
        }
    with atomic_write(out / "provenance.json") as file:
        text = json.dumps(provenance, indent=2) + "\n"
        file.write_text(text, encoding="utf-8", newline="\n")
    return provenance


def verify(name: str, out: Path) -> None:
    """Check a shipped folder: weights as told, data unchanged, measured values as told."""
    told = json.loads((out / "provenance.json").read_text(encoding="utf-8"))
    if sha256_file(out / "model.safetensors") != told["weights_sha256"]:
        sys.exit(f"{out}: the weights are not the ones in provenance.json")
    with tempfile.TemporaryDirectory() as temporary:
        shards = LESSONS[name].data(Path(temporary))
        if {key: shards[key].index["sha256"] for key in shards} != told["data_sha256"]:
            sys.exit(f"{name}: its data are made differently now: train it again")
        if LESSONS[name].config(shards).describe() != told["recipe"]:
            sys.exit(f"{name}: {LESSONS[name].recipe} has changed since: train it again")
        found = LESSONS[name].measure(load_model(out), shards)
    for key, value in found.items():
        if abs(value - told["measured"][key]) > 0.01:
            sys.exit(f"{out}: {key} is {value}, not as told in provenance.json")
    print(f"{name}: weights, data and recipe are as told; {found}")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=[], help="which models; both if left out")
    parser.add_argument("--out", type=Path, default=ASSETS, help="their folders are made there")
    parser.add_argument("--verify", action="store_true", help="check the folders; train nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if unknown := sorted(set(options.names) - set(LESSONS)):
        parser.error(f"{unknown[0]!r} is not a model: use {' or '.join(LESSONS)}")
    for name in options.names or LESSONS:
        if options.verify:
            verify(name, options.out / name)
        else:
            print(name, build(name, options.out / name)["measured"])


if __name__ == "__main__":
    main()
