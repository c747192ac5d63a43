"""Run a recipe on several seeds and store the reference curve of its losses.

    python scripts/make_reference_curves.py tiny-cpu            # about three minutes
    python scripts/make_reference_curves.py small-cpu           # about an hour on one core

It goes to `llama3lib/assets/reference_curves/NAME.json`; `llama3 train` and chapter 05 hold a run's
own losses against it.
"""

import argparse
import platform
import tempfile
from pathlib import Path

import torch
from tqdm import tqdm

from llama3lib.train.config import load_config
from llama3lib.train.metrics import read_metrics
from llama3lib.train.reference_curves import (
    REFERENCE_CURVES,
    make_reference_curve,
    save_reference_curve,
)
from llama3lib.train.sources import open_sources
from llama3lib.train.trainer import Trainer

BLOCKS = 28


def losses_of(recipe: str, seed: int, data: Path, folder: Path) -> list[float]:
    """The loss of every step of a run; a run that is there already is read, or gone on with."""
    config = load_config(recipe, [f"seed={seed}"])
    trainer = Trainer(config, open_sources(config, data), folder)
    bar = tqdm(total=config.total_steps, desc=f"{recipe}, seed {seed}", mininterval=5)
    trainer.fit(lambda record: bar.update())
    return [row["loss"] for row in read_metrics(folder) if "loss" in row]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--runs", type=Path, help="keep the runs in this folder")
    options = parser.parse_args()
    torch.set_num_threads(1)
    steps = load_config(options.recipe).total_steps
    with tempfile.TemporaryDirectory() as temporary:
        runs = options.runs or Path(temporary)
        curves = [
            losses_of(options.recipe, seed, runs / "data", runs / f"seed-{seed}")
            for seed in options.seeds
        ]
    machine = f"{platform.machine()}, one thread, torch {torch.__version__}"
    block = max(1, steps // BLOCKS)
    curve = make_reference_curve(options.recipe, curves, options.seeds, block, machine)
    REFERENCE_CURVES.mkdir(parents=True, exist_ok=True)
    save_reference_curve(curve, REFERENCE_CURVES / f"{options.recipe}.json")
    print(f"last block: {curve.low[-1]} to {curve.high[-1]}, mean {curve.mean[-1]}")


if __name__ == "__main__":
    main()
