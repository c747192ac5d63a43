"""Tiny runs for the tests of the trainer: bytes, one small block, a fraction of a second each."""

import dataclasses
import random

import torch

from llama3lib.checkpoint import CheckpointManager
from llama3lib.data.tokens import write_token_shard
from llama3lib.model import ModelArgs, Transformer
from llama3lib.train import OptimizerConfig, Phase, SourceConfig, TrainConfig, read_metrics

ARGS = ModelArgs(
    dim=16, n_layers=1, n_heads=2, n_kv_heads=1, ffn_dim=32, vocab_size=256, max_seq_len=32
)
# what a run tells that depends on the machine and the moment
TIMES = {"tokens_per_s", "mfu", "memory"}
WORDS = "mill river stone green seven lamps under the old bridge and a boat goes by".split()


def texts(count, seed=0, longest=20):
    """Sentences of very unequal length, so that windows hold one document or many."""
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(1, longest))) for _ in range(count)]


def shard_of(folder, lines):
    """Bytes, each document closed by a 0."""
    return write_token_shard(
        lines, lambda text: list(text.encode()), folder, vocab_size=256, end=0, overwrite=True
    )


def sources(folder, names="ab", count=60, longest=20):
    """A shard of its own for each name."""
    return {name: shard_of(folder / name, texts(count, n, longest)) for n, name in enumerate(names)}


def phase(name="main", steps=6, batch_size=2, length=16, **more):
    return Phase(name=name, steps=steps, batch_size=batch_size, length=length, **more)


def recipe(*phases, names="ab", optimizer=None, **more):
    """A whole recipe; `names` are the sources."""
    settings = {"warmup": 2, "decay_steps": 40, "peak": 1e-2} | (optimizer or {})
    given = {"model": ARGS, "device": "cpu", "save_every": 3, "evaluate_every": 4} | more
    return TrainConfig(
        data={name: SourceConfig(shard=name) for name in names},
        phases=phases or (phase(),),
        optimizer=OptimizerConfig(**settings),
        **given,
    )


def changed(config, **more):
    return dataclasses.replace(config, **more)


def told(folder):
    """Everything a run told, but for what depends on the machine."""
    return [{k: v for k, v in row.items() if k not in TIMES} for row in read_metrics(folder)]


def steps_told(folder):
    return [row for row in told(folder) if "loss" in row]


def weights(model):
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def same(left, right):
    """Whether two dictionaries of tensors are equal bit by bit."""
    return left.keys() == right.keys() and all(torch.equal(left[n], right[n]) for n in left)


def stored(folder, step=None):
    """All tensors of a checkpoint of a run: weights and both moments; the newest by default."""
    manager = CheckpointManager(folder / "checkpoints")
    step = manager.steps()[-1] if step is None else step
    return {
        f"{group}.{name}": tensor
        for group in ("model", "optimizer")
        for name, tensor in manager.load_tensors(step, group).items()
    }


def everything(folder):
    """Every file below a folder with its bytes."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def drawn_model(args=ARGS, seed=0):
    model = Transformer(args)
    model.init_weights(torch.Generator().manual_seed(seed))
    return model
