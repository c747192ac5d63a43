"""The comparisons of chapter 05: a few runs of the trainer each, which differ in one thing only.

Small enough for a lesson: a byte model of 80,000 parameters, or a symbol model that learns to copy.
What they learn is in `llama3lib.worlds.domains`, so that every machine has the same.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from llama3lib.data.tokens import TokenShard
from llama3lib.model import ModelArgs
from llama3lib.train.config import ASSETS, OptimizerConfig, Phase, SourceConfig, TrainConfig
from llama3lib.train.trainer import Trainer, TrainResult
from llama3lib.utils.require import one_of
from llama3lib.worlds.domains import SYMBOLS

BYTE_CELL = ModelArgs(
    dim=48, n_layers=2, n_heads=3, n_kv_heads=3, ffn_dim=128, vocab_size=256, max_seq_len=256
)
COPIER = ModelArgs(
    dim=64,
    n_layers=2,
    n_heads=2,
    n_kv_heads=2,
    ffn_dim=176,
    vocab_size=SYMBOLS + 1,
    max_seq_len=64,
    rope_theta=10_000.0,
)
STORED = ASSETS / "ablations.json"
_HERE = SourceConfig(shard="given to the trainer as it is")


# ---- annealing and averaging (sections 3.1.3, 3.4.3)


def trunk(steps: int = 1000, seed: int = 0) -> TrainConfig:
    """Constant learning rate after the warm-up; 2 % of what is read is mathematics."""
    phase = Phase(
        name="trunk",
        steps=steps,
        batch_size=8,
        length=128,
        rate="constant",
        mix={"general": 0.98, "maths": 0.02},
    )
    return TrainConfig(
        model=BYTE_CELL,
        data={"general": _HERE, "maths": _HERE},
        phases=(phase,),
        optimizer=OptimizerConfig(peak=6e-3, warmup=min(50, steps // 4)),
        seed=seed,
        device="cpu",
        save_every=10_000,
        evaluate_every=10_000,
    )


def branches(steps: int = 250, share: float = 0.3) -> dict[str, Phase]:
    """Four ways to spend the last steps: with or without decay, with or without more maths."""
    more = {"general": 1 - share, "maths": share}

    def phase(rate: str, mix: dict[str, float] | None) -> Phase:
        return Phase(
            name="branch",
            steps=steps,
            batch_size=8,
            length=128,
            rate=rate,
            mix=mix,
            average_every=max(1, steps // 21),
        )

    return {
        "constant rate": phase("constant", None),
        "rate to 0": phase("anneal", None),
        "constant rate, more maths": phase("constant", more),
        "rate to 0, more maths": phase("anneal", more),
    }


def stored_runs(experiment: str) -> list[dict[str, Any]]:
    """What `scripts/run_ablations.py` found: a row for each setting and seed, of one experiment.

    Raises ValueError for an experiment that it does not have.
    """
    rows = json.loads(STORED.read_text(encoding="utf-8"))["rows"]
    one_of("experiment", experiment, tuple(dict.fromkeys(row["experiment"] for row in rows)))
    return [row for row in rows if row["experiment"] == experiment]


def run_branch(
    config: TrainConfig,
    phase: Phase,
    sources: Mapping[str, TokenShard],
    begun: Path,
    folder: Path,
) -> TrainResult:
    """Go on from a finished run with one more phase, in a folder of its own."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(begun, folder)
    longer = replace(config, phases=(*config.phases, phase))
    return Trainer(longer, sources, folder).fit()


# ---- batch ramp (section 3.4.1)


def ramp(sizes: Mapping[int, float], tokens: int, seed: int = 0, length: int = 64) -> TrainConfig:
    """A run over so many tokens; each batch size, in turn, gets its share of them.

    The rate is constant and falls to 0 over the last quarter of the tokens, with the last batch
    size: a cosine over steps would lower it sooner for those who take more steps.
    """
    last = list(sizes)[-1]
    parts = [(f"batch-{size}", size, share) for size, share in sizes.items()]
    parts[-1] = (parts[-1][0], last, sizes[last] - 0.25)
    phases = [
        Phase(
            name=name,
            steps=max(1, round(share * tokens / (size * length))),
            batch_size=size,
            length=length,
            rate="anneal" if name == "anneal" else "constant",
        )
        for name, size, share in [*parts, ("anneal", last, 0.25)]
    ]
    total = sum(phase.steps for phase in phases)
    return TrainConfig(
        model=BYTE_CELL,
        data={"general": _HERE},
        phases=tuple(phases),
        optimizer=OptimizerConfig(peak=8e-3, warmup=max(1, min(50, total // 10))),
        seed=seed,
        device="cpu",
        save_every=100_000,
        evaluate_every=100_000,
    )


# ---- document mask (section 3.2)


def packed(mask: bool, steps: int, seed: int = 0) -> TrainConfig:
    """Stories packed into windows of 256 bytes, with or without the mask between them."""
    phase = Phase(name="packed", steps=steps, batch_size=6, length=256)
    return TrainConfig(
        model=BYTE_CELL,
        data={"stories": _HERE},
        phases=(phase,),
        optimizer=OptimizerConfig(peak=8e-3, warmup=max(1, steps // 20), minimum=4e-4),
        seed=seed,
        device="cpu",
        document_mask=mask,
        save_every=100_000,
        evaluate_every=100_000,
    )


# ---- long context (section 3.4.2)


def short_copier(steps: int = 700, seed: int = 0) -> TrainConfig:
    """A model that has only seen strings of 64 symbols."""
    phase = Phase(name="short", steps=steps, batch_size=32, length=64, mix={"copy-64": 1.0})
    return _copier((phase,), seed)


def longer_stages(
    lengths: Sequence[int],
    *,
    steps: int = 60,
    theta: float | None = None,
    short_share: float = 0.3,
    gate: bool = False,
) -> tuple[Phase, ...]:
    """One stage a length, each with as many symbols a step; some strings stay short."""
    return tuple(
        Phase(
            name=f"stage-{length}",
            steps=steps,
            batch_size=max(1, 2048 // length),
            length=length,
            rate="constant",
            rope_theta=theta,
            mix={f"copy-{length}": 1 - short_share, "copy-64": short_share},
            gate=gate,
            gate_every=max(1, steps // 2),
            most_steps=6 * steps,
        )
        for length in lengths
    )


def _copier(phases: tuple[Phase, ...], seed: int) -> TrainConfig:
    return TrainConfig(
        model=COPIER,
        data={"copy-64": _HERE},
        phases=phases,
        optimizer=OptimizerConfig(peak=4e-3, warmup=50, minimum=1.3e-3),
        seed=seed,
        device="cpu",
        save_every=100_000,
        evaluate_every=100_000,
    )


def lengthen(
    config: TrainConfig,
    stages: Sequence[Phase],
    sources: Mapping[str, TokenShard],
) -> TrainConfig:
    """The run that goes on with longer strings."""
    data = dict.fromkeys(sorted(sources), _HERE)
    decay = replace(config.optimizer, decay_steps=config.total_steps)
    return replace(config, data=data, phases=(*config.phases, *stages), optimizer=decay)
