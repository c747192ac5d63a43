"""Run the comparisons of chapters 01, 03 and 05 on three seeds and store what came out.

    python scripts/run_ablations.py                 # more than an hour on two cores
    python scripts/run_ablations.py --only repeats  # one of them, the others are kept

The numbers go to `llama3lib/assets/ablations.json`; the chapters show them beside the runs that the
reader makes.
"""

import argparse
import copy
import json
import math
import multiprocessing
import platform
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import accumulate, islice, product
from pathlib import Path

import torch
from tqdm import tqdm

from llama3lib.data.tokens import TokenShard
from llama3lib.eval import copy_grid, found_needles, held_out_loss, hidden_needles
from llama3lib.model import Transformer
from llama3lib.train import ablations
from llama3lib.train.ablations import run_branch
from llama3lib.train.byte_model import ByteRun, loss_on_texts, train_byte_model
from llama3lib.train.trainer import Trainer
from llama3lib.train.variants import VARIANTS, variant_loss
from llama3lib.utils.files import atomic_write
from llama3lib.worlds import domains, stories

OUT = Path(__file__).parent.parent / "llama3lib" / "assets" / "ablations.json"
RAMP_TOKENS = 900_000
RAMPS = {
    "4": {4: 1.0},
    "4, then 16": {4: 0.25, 16: 0.75},
    "16": {16: 1.0},
    "4, then 64": {4: 0.25, 64: 0.75},
    "64": {64: 1.0},
}
CORPUS = 50_000  # bytes
NORMS = ("Llama (GQA)", "post-norm", "no norms")  # tried again with 12 layers
STAGES, MEASURED = (128, 256, 512), (64, 128, 256, 512, 1024)
MOVED = 500_000.0
DISTANCES = {"an eighth to a half": (1 / 8, 1 / 2), "any distance": (1 / 16, 15 / 16)}
DEPTHS = tuple(i / 8 for i in range(9))
NEEDLES = {
    "alone": {},
    "three others": {"others": 3},
    "three alike": {"others": 3, "alike": 2},
}
Row = dict[str, object]


def loss(model: Transformer, shard: TokenShard, length: int) -> float:
    """Held-out nats a token."""
    return round(held_out_loss(model, shard, length).mean, 4)


def annealing(seed: int, folder: Path) -> list[Row]:
    """Losses on both domains before and after four ways to end, last weights and averaged."""
    shards = domains.text_shards(folder / "data")
    config = ablations.trunk(seed=seed)

    def both(model: Transformer) -> Row:
        return {n: loss(model, shards[f"{n}-test"], 128) for n in ("general", "maths")}

    rows = [{"name": "before", **both(Trainer(config, shards, folder / "trunk").fit().model)}]
    for name, phase in ablations.branches().items():
        result = run_branch(config, phase, shards, folder / "trunk", folder / "branch")
        rows.append({"name": name, **both(result.model)})
        result.model.load_state_dict(result.averaged["branch"])
        rows.append({"name": f"{name}, averaged", **both(result.model)})
    return rows


def batch_ramp(seed: int, folder: Path) -> list[Row]:
    """Loss and processor seconds at equal bytes."""
    shards, rows = domains.text_shards(folder / "data"), []
    for name, sizes in RAMPS.items():
        begun = time.process_time()
        trainer = Trainer(ablations.ramp(sizes, RAMP_TOKENS, seed), shards, folder / name)
        result = trainer.fit()
        seconds = round(time.process_time() - begun, 1)
        found = loss(result.model, shards["general-test"], 64)
        rows.append({"name": name, "steps": result.steps, "loss": found, "seconds": seconds})
    return rows


def document_mask(seed: int, folder: Path) -> list[Row]:
    """Loss on stories of their own after training with and without the mask."""
    shards, rows = domains.story_shards(folder / "data", 4000), []
    for name, mask in (("without mask", False), ("with mask", True)):
        model = Trainer(ablations.packed(mask, 700, seed), shards, folder / name).fit().model
        rows.append({"name": name, "loss": loss(model, shards["stories-test"], 256)})
    return rows


def long_context(seed: int, folder: Path) -> list[Row]:
    """Share of symbols copied right at each length, before and after the stages."""
    shards = domains.copy_shards(folder / "data", (64, *STAGES))
    config = ablations.lengthen(ablations.short_copier(seed=seed), (), shards)
    model = Trainer(config, shards, folder / "short").fit().model
    rows = [
        {"name": "trained on 64", "copied": copied(model)},
        {"name": "theta moved, untrained", "copied": copied(model, MOVED)},
    ]
    for name, theta in (("stages", None), ("theta moved, stages", MOVED)):
        stages = ablations.longer_stages(STAGES, theta=theta)
        longer = replace(config, phases=(*config.phases, *stages))
        shutil.copytree(folder / "short", folder / name)
        rows.append(
            {"name": name, "copied": copied(Trainer(longer, shards, folder / name).fit().model)}
        )
    return rows


def copied(model: Transformer, theta: float | None = None) -> dict[str, float]:
    """Copy accuracy by length; with another base of the positions if that is given."""
    model = copy.deepcopy(model)
    theta = theta or model.args.rope_theta
    model.args = model.args.replace(max_seq_len=max(MEASURED), rope_theta=theta)
    model.to(torch.float32)  # makes the table of positions again
    grid = copy_grid(model, lengths=MEASURED, depths=(0.0,))
    return {str(n): round(float(s), 3) for n, s in zip(MEASURED, grid.share[:, 0], strict=True)}


def needle_depth(seed: int, folder: Path) -> list[Row]:
    """Needles found at each depth of 64 symbols, after 300 more steps at some or any distance."""
    begun, rows = ablations.short_copier(seed=seed), []
    shards = domains.copy_shards(folder / "short", (64,), seed)
    short = Trainer(begun, shards, folder / "run").fit().model
    slower = replace(begun.optimizer, peak=2e-3, warmup=20, minimum=2e-4)
    more = replace(ablations.short_copier(300, seed + 100), optimizer=slower)
    for name, periods in DISTANCES.items():
        shards = domains.copy_shards(folder / name, (64,), seed + 100, periods)
        model = Trainer(more, shards, folder / f"run {name}", model=short).fit().model
        for case, options in NEEDLES.items():
            hidden = [hidden_needles(200, 64, depth, seed=seed, **options) for depth in DEPTHS]
            found = [int(found_needles(model, one).sum()) for one in hidden]
            rows.append({"name": name, "needles": case, "found": found, "tries": 200})
    return rows


def parts(seed: int, folder: Path) -> list[Row]:
    """Held-out loss on stories of models with one other part, at several learning rates."""
    texts, held_out = list(islice(stories(0), 4000)), list(islice(stories(1), 200))
    shallow = [(3, name, rate) for rate in (4e-3, 8e-3, 1.6e-2, 3.2e-2) for name in VARIANTS]
    deep = [(12, name, rate) for rate in (4e-3, 8e-3, 1.6e-2) for name in NORMS]
    rows = []
    for layers, name, rate in shallow + deep:
        run = ByteRun(steps=600, batch_size=8, length=128, lr=rate, seed=seed)
        loss = variant_loss(name, texts, held_out, run, layers)
        found = round(loss, 4) if math.isfinite(loss) else None  # diverged
        rows.append({"name": name, "layers": layers, "rate": rate, "loss": found})
    return rows


def repeats(seed: int, folder: Path) -> list[Row]:
    """Held-out loss after reading 50 kB several times, or as many bytes of new text."""
    texts, held_out = domains.general_texts(1000, seed), domains.general_texts(150, 10_007)
    small, rows = ByteRun().args, []
    sizes = {"small": (small, 8e-3), "large": (small.replace(dim=96, ffn_dim=256), 4e-3)}
    for (name, (args, rate)), times in product(sizes.items(), (1, 2, 4, 8, 14)):
        total = times * CORPUS
        run = ByteRun(args=args, lr=rate, seed=seed, steps=round(total / (12 * 64)))
        for kind, size in {"repeated": CORPUS, "new": total}.items():
            model = train_byte_model(first_bytes(texts, size), run)
            loss = round(loss_on_texts(model, held_out), 4)
            rows.append({"name": name, "text": kind, "times": times, "loss": loss})
    return rows


def first_bytes(texts: list[str], size: int) -> list[str]:
    """As many texts as it takes to have so many bytes."""
    sizes = accumulate(len(text.encode()) + 1 for text in texts)
    return [
        text for text, end in zip(texts, sizes, strict=True) if end - len(text.encode()) <= size
    ]


EXPERIMENTS: dict[str, Callable[[int, Path], list[Row]]] = {
    f.__name__: f
    for f in (batch_ramp, annealing, long_context, document_mask, needle_depth, parts, repeats)
}


def one(name: str, seed: int) -> list[Row]:
    """An experiment with one seed, in a process of one thread."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        rows = EXPERIMENTS[name](seed, Path(folder))
    return [{"experiment": name, "seed": seed, **row} for row in rows]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument(
        "--only", nargs="+", choices=EXPERIMENTS, help="run these anew, keep the rest"
    )
    options = parser.parse_args()
    chosen = options.only or list(EXPERIMENTS)
    kept = []
    if options.only and options.out.is_file():
        kept = json.loads(options.out.read_text(encoding="utf-8"))["rows"]
        kept = [row for row in kept if row["experiment"] not in chosen]
    jobs = [(name, seed) for seed in options.seeds for name in chosen]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.processes, mp_context=context) as pool:
        waiting = [pool.submit(one, *job) for job in jobs]
        rows = kept + [row for done in tqdm(waiting, desc="runs") for row in done.result()]
    told = {
        "made_by": "scripts/run_ablations.py",
        "machine": f"{platform.machine()}, one thread a run, torch {torch.__version__}",
        "unit": "nats a byte on held-out text; share of symbols copied right; processor seconds",
        "rows": rows,
    }
    with atomic_write(options.out) as file:
        file.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
