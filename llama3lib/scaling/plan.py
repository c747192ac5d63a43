"""A sweep as a typed recipe: budgets, models at each, text; and each run worked out from it.

FLOPs are counted once, here: products with all weights that are multiplied, the output matrix
among them, plus attention, forward and backward (`llama3lib.model.flops`). Looking up an embedding
costs nothing, though embeddings count as parameters. Leaving both ends of the model out of the
count is the trap of Kaplan and others (`in_other_counts`).
"""

import dataclasses
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from llama3lib.checkpoint import load_tokenizer
from llama3lib.model import ModelArgs
from llama3lib.model.flops import count_parameters, flops_per_token
from llama3lib.scaling.points import STORED
from llama3lib.train.config import OptimizerConfig, Phase, SourceConfig, TrainConfig
from llama3lib.train.plan import make_plan
from llama3lib.utils.require import is_whole, one_of, positive, require, whole
from llama3lib.utils.settings import build, read_toml, refuse_unknown, with_overrides
from llama3lib.worlds.language import WORDS

TEXT = "text"
_LEAST_STEPS = 50


@dataclass(frozen=True, kw_only=True)
class Budget:
    """One isoFLOP curve: FLOPs, and the (width, layers) of each model."""

    flops: float
    models: tuple[tuple[int, int], ...]
    batch_size: int = 4
    """Sequences a step, fixed for a budget as in the paper (§3.2.1)."""
    cosine: float = 1.0
    """Length of the cosine over that of the run. Above 1 a run stops before its learning rate is
    down, as one that was cut out of a longer run: its loss is too high."""

    def __post_init__(self) -> None:
        positive("flops", self.flops)
        whole("batch_size", self.batch_size, 1)
        ok = math.isfinite(self.cosine) and self.cosine >= 1
        require(ok, "cosine", self.cosine, "1 or more")
        good = all(len(m) == 2 and all(is_whole(n, 1) for n in m) for m in self.models)
        require(self.models and good, "models", self.models, "pairs of width and layers")
        once = len({tuple(m) for m in self.models}) == len(self.models)
        require(once, "models", self.models, "each once")


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """All runs of a sweep. Only `budgets` and `seeds` may change when it goes on."""

    budgets: tuple[Budget, ...]
    seeds: tuple[int, ...] = (0,)
    title: str = "Sweep"
    n_heads: int | None = None
    """Of every model; width / `head_dim` if left out."""
    head_dim: int = 64
    length: int = 64
    """Tokens a sequence."""
    rope_theta: float = 500_000.0
    """Base of the rotary positions; a small one suits short sequences and tiny heads."""
    peak: float = 1e-2
    """Learning rate of a model of width 32; others by the square root of 32 / width."""
    warmup_share: float = 0.05
    end_share: float = 0.05
    """The cosine ends here, as a share of the peak; 0.1 in the paper (§3.2.1)."""
    invented: int | None = None
    """Documents of the invented language to train on."""
    train: SourceConfig | None = None
    """Text of another kind, with `held_out`."""
    held_out: SourceConfig | None = None
    tokenizer: str = "bytes"
    questions: int = 0
    """Of the invented language, to measure accuracy too."""
    test_windows: int = 200
    device: str = "cpu"
    precision: Literal["auto", "float32", "bfloat16"] = "float32"
    compile: bool = False

    def __post_init__(self) -> None:
        flops = [budget.flops for budget in self.budgets]
        once = bool(flops) and len(set(flops)) == len(flops)
        require(once, "budgets", flops, "one or more, each once")
        good = bool(self.seeds) and all(is_whole(seed, 0) for seed in self.seeds)
        require(good, "seeds", self.seeds, "one or more whole numbers from 0")
        require(len(set(self.seeds)) == len(self.seeds), "seeds", self.seeds, "each once")
        for name in ("n_heads", "invented"):
            if getattr(self, name) is not None:
                whole(name, getattr(self, name), 1)
        for name, least in (("head_dim", 1), ("length", 1), ("test_windows", 1), ("questions", 0)):
            whole(name, getattr(self, name), least)
        for name in ("peak", "rope_theta"):
            positive(name, getattr(self, name))
        for name in ("warmup_share", "end_share"):
            require(0 <= getattr(self, name) < 1, name, getattr(self, name), "0 to below 1")
        known = re.fullmatch(r"auto|(cpu|cuda|mps)(:\d+)?", self.device)
        require(known, "device", self.device, "auto, cpu, cuda, cuda:0 or mps")
        kinds = ("auto", "float32", "bfloat16")
        one_of("precision", self.precision, kinds)
        own = self.train is not None and self.held_out is not None
        if (self.invented is None) == (not own) or (self.invented is not None and self.train):
            raise ValueError("give either invented, or both train and held_out")
        if self.invented is not None:
            plain = self.tokenizer == "bytes"
            require(plain, "tokenizer", self.tokenizer, "none for the invented language")
        elif self.questions:
            raise ValueError("questions are those of the invented language: set invented")

    def fixed(self) -> dict[str, Any]:
        """All settings that every run shares, for JSON."""
        settings = json.loads(json.dumps(dataclasses.asdict(self)))
        return {n: v for n, v in settings.items() if n not in ("budgets", "seeds", "title")}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run of a sweep, worked out."""

    budget: float
    model: ModelArgs
    batch_size: int
    steps: int
    length: int
    seed: int
    cosine: float = 1.0

    @property
    def name(self) -> str:
        """For files."""
        flops = f"{self.budget:.4g}".replace("+", "")
        longer = f"-cosine{self.cosine:g}" if self.cosine > 1 else ""
        return f"{flops}-{self.model.dim}x{self.model.n_layers}{longer}-seed{self.seed}"

    @property
    def tokens(self) -> int:
        return self.steps * self.batch_size * self.length

    @property
    def flops(self) -> int:
        return self.tokens * flops_per_token(self.model, self.length).training

    @property
    def parameters(self) -> int:
        return count_parameters(self.model).total

    @property
    def non_embedding(self) -> int:
        count = count_parameters(self.model)
        return count.total - count.embedding - count.output


def vocabulary(config: SweepConfig) -> int:
    """Tokens there are: the tokenizer's, or one a word of the invented language and an end."""
    if config.invented is not None:
        return WORDS + 1
    return load_tokenizer(config.tokenizer).n_vocab


def cells(config: SweepConfig) -> list[Cell]:
    """Every run, the longest first, so that processes side by side end together.

    Raises ValueError for a model too large for its budget (fewer than 50 steps), and for runs that
    would have one name: budgets that differ only after four digits.
    """
    vocab_size = vocabulary(config)
    found = [
        _cell(config, budget, model, vocab_size, seed)
        for seed in config.seeds
        for budget in config.budgets
        for model in budget.models
    ]
    names: dict[str, Cell] = {}
    for cell in found:
        other = names.setdefault(cell.name, cell)
        if other is not cell:
            both = [other.budget, cell.budget]
            raise ValueError(f"budgets={both!r} is not allowed: runs of both are {cell.name!r}")
    return sorted(found, key=lambda cell: (cell.seed, -cell.steps * cell.batch_size))


def share(found: Sequence[Cell], part: tuple[int, int]) -> list[Cell]:
    """The runs of one part of a job array: (i, n) is the i-th of n.

    Raises ValueError if there is no such part.
    """
    number, parts = part
    require(1 <= number <= parts, "part", part, "(i, n) with i from 1 to n")
    return list(found[number - 1 :: parts])


def _cell(
    config: SweepConfig, budget: Budget, shape: Sequence[int], vocab_size: int, seed: int
) -> Cell:
    dim, layers = shape
    heads = max(1, dim // config.head_dim) if config.n_heads is None else config.n_heads
    model = ModelArgs(
        dim=dim,
        n_layers=layers,
        n_heads=heads,
        n_kv_heads=heads,
        ffn_dim=8 * max(1, round(dim / 3)),
        vocab_size=vocab_size,
        max_seq_len=config.length,
        rope_theta=config.rope_theta,
    )
    each = flops_per_token(model, config.length).training * budget.batch_size * config.length
    steps = round(budget.flops / each)
    if steps < _LEAST_STEPS:
        raise ValueError(
            f"models={(dim, layers)} is not allowed at {budget.flops:.3g} FLOPs: {steps} steps of "
            f"{each:.3g}, {_LEAST_STEPS} at least; take a smaller model or batch_size"
        )
    return Cell(
        budget=budget.flops,
        model=model,
        batch_size=budget.batch_size,
        steps=steps,
        length=config.length,
        seed=seed,
        cosine=budget.cosine,
    )


def train_config(config: SweepConfig, cell: Cell) -> TrainConfig:
    """The trainer's recipe: the cosine ends with the run, unless `Budget.cosine` says otherwise."""
    peak = config.peak * math.sqrt(32 / cell.model.dim)
    phase = Phase(name="main", steps=cell.steps, batch_size=cell.batch_size, length=cell.length)
    optimizer = OptimizerConfig(
        peak=peak,
        warmup=max(1, round(config.warmup_share * cell.steps)),
        minimum=config.end_share * peak,
        decay_steps=round(cell.cosine * cell.steps) if cell.cosine > 1 else None,
    )
    return TrainConfig(
        title=cell.name,
        model=cell.model,
        data={TEXT: SourceConfig(shard="given to the trainer as it is")},
        phases=(phase,),
        optimizer=optimizer,
        tokenizer=config.tokenizer,
        seed=cell.seed,
        device=config.device,
        precision=config.precision,
        compile=config.compile,
        save_every=2000,
        keep_last=1,
        evaluate_every=cell.steps,
    )


def sweep_seconds(config: SweepConfig, processes: int = 1) -> float:
    """About how long all runs take on this machine, so many at a time; a few steps of each tell."""
    plans = [make_plan(train_config(config, cell)) for cell in cells(config)]
    return sum(plan.seconds for plan in plans) / processes


def sweep_names() -> list[str]:
    """The sweeps that come along."""
    return sorted(path.stem for path in STORED.glob("*.toml"))


def load_sweep(name: str, changes: Sequence[str] = ()) -> SweepConfig:
    """Read a sweep: a TOML file, or the name of one that comes along; `changes` override it.

    Raises ValueError naming the setting that is wrong.
    """
    path = Path(name)
    if not path.is_file():
        require(not path.suffix and path.name == name, "sweep", name, "there is no such file")
        refuse_unknown("sweep", [name], sweep_names())
        path = STORED / f"{name}.toml"
    return build(SweepConfig, with_overrides(read_toml(path, "sweep"), changes), "sweep")
