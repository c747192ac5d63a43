"""Train a byte model seven times: once as it should be, and six times with one planted bug.

    python scripts/make_buggy_curves.py            # about a minute on one core
    python scripts/make_buggy_curves.py --plot curves.html

The losses, which chapter 05 asks to be told apart, go to `llama3lib/assets/buggy-curves.json`. The
loop is written out here, because the library's has none of these bugs.
"""

import argparse
import json
import platform
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from plotly.subplots import make_subplots
from torch import Tensor
from tqdm import tqdm

from llama3lib.data.tokens import TokenShard
from llama3lib.model import Transformer
from llama3lib.train import ablations, lr_at, make_adamw
from llama3lib.utils.files import atomic_write
from llama3lib.worlds import domains

OUT = Path(__file__).parent.parent / "llama3lib" / "assets" / "buggy-curves.json"
STEPS, EVERY, WARMUP, BATCH, LENGTH = 400, 10, 40, 8, 128
PEAK, TOO_HIGH = 6e-3, 1.5e-1
ORDER = {
    "A": "gradients never cleared",
    "B": "the same batch again and again",
    "C": "the future is visible",
    "D": "the rate reaches 0 half-way",
    "E": "labels not shifted",
    "F": "no warm-up and too high a rate",
}


@dataclass
class Curve:
    """What one run shows every so many steps."""

    train: list[float]
    held_out: list[float]


class NoMask:
    """Hides nothing: each byte sees all bytes of its row, also those to come."""

    mask = torch.ones(LENGTH, LENGTH, dtype=torch.bool)


def windows(shard: TokenShard, starts: np.ndarray) -> Tensor:
    """Rows of LENGTH + 1 bytes [B, T + 1] that begin at these places."""
    places = starts[:, None] + np.arange(LENGTH + 1)
    return torch.from_numpy(np.asarray(shard.tokens)[places].astype(np.int64))


def loss_of(model: Transformer, rows: Tensor, bug: str) -> Tensor:
    """Mean nats a byte, as the loop with this bug computes it."""
    inputs, targets = rows[:, :-1], rows[:, 1:]
    if bug == "labels not shifted":
        targets = inputs
    mask = NoMask() if bug == "the future is visible" else None
    logits = model(inputs, None, mask)
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def rate_of(step: int, bug: str) -> float:
    """The learning rate of a step, as the loop with this bug sets it."""
    if bug == "no warm-up and too high a rate":
        return TOO_HIGH
    if bug == "the rate reaches 0 half-way":
        return lr_at(step, PEAK, WARMUP, STEPS // 2)
    return lr_at(step, PEAK, WARMUP, STEPS + 1)


def train(shards: dict[str, TokenShard], bug: str) -> Curve:
    """One run; the same seed, data and settings for all but the bug."""
    rng = np.random.default_rng(0)
    model = Transformer(ablations.BYTE_CELL)
    model.init_weights(torch.Generator().manual_seed(0))
    optimizer = make_adamw(model, PEAK)
    text, test = shards["general"], shards["general-test"]
    held_out = windows(test, np.arange(0, len(test) - LENGTH - 1, LENGTH)[:64])
    curve, recent = Curve([], []), []
    for step in tqdm(range(1, STEPS + 1), desc=bug):
        starts = rng.integers(len(text) - LENGTH - 1, size=BATCH)
        if step == 1 or bug != "the same batch again and again":
            rows = windows(text, starts)
        loss = loss_of(model, rows, bug)
        if bug != "gradients never cleared":
            optimizer.zero_grad()
        loss.backward()
        if bug != "gradients never cleared":  # clipping would hide how they grow
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = rate_of(step, bug)
        optimizer.step()
        recent.append(loss.item())
        if step % EVERY == 0:
            with torch.no_grad():
                measured = loss_of(model, held_out, bug).item()
            curve.train.append(round(sum(recent) / EVERY, 3))
            curve.held_out.append(round(measured, 3))
            recent.clear()
    return curve


def plot(curves: dict[str, Curve], path: Path) -> None:
    """All curves on one page, to look at."""
    figure = make_subplots(2, 4, subplot_titles=list(curves))
    x = list(range(EVERY, STEPS + 1, EVERY))
    for place, curve in enumerate(curves.values()):
        where = {"row": place // 4 + 1, "col": place % 4 + 1, "showlegend": place == 0}
        figure.add_scatter(x=x, y=curve.train, name="train", line_color="blue", **where)
        figure.add_scatter(x=x, y=curve.held_out, name="held-out", line_color="red", **where)
        healthy = curves["healthy"].train
        figure.add_scatter(x=x, y=healthy, name="healthy", line_color="grey", **where)
    figure.write_html(path)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--plot", type=Path, help="also draw all curves on this HTML page")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        shards = domains.text_shards(Path(folder))
        names = {"healthy": "healthy"} | ORDER
        curves = {name: train(shards, bug) for name, bug in names.items()}
    told = {
        "made_by": "scripts/make_buggy_curves.py",
        "machine": f"{platform.machine()}, one thread, torch {torch.__version__}",
        "unit": f"nats a byte; every {EVERY} steps, training loss as the mean of those steps",
        "steps": STEPS,
        "every": EVERY,
        "curves": {n: {"train": c.train, "held-out": c.held_out} for n, c in curves.items()},
        "bugs": ORDER,
    }
    with atomic_write(options.out) as file:
        file.write_text(json.dumps(told) + "\n", encoding="utf-8", newline="\n")
    if options.plot:
        plot(curves, options.plot)


if __name__ == "__main__":
    main()
