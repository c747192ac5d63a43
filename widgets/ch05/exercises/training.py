"""Chapter 05: what is really trained for an exercise, without leaving anything behind."""

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch

from llama3lib.data.tokens import TokenShard
from llama3lib.model import Transformer
from llama3lib.train import TrainConfig, Trainer
from llama3lib.worlds import domains

_NEVER = 1_000_000


@cache
def _room() -> tempfile.TemporaryDirectory:
    """A folder for data, removed when Python ends."""
    return tempfile.TemporaryDirectory(prefix="llama3-course-")


def folder(name: str) -> Path:
    return Path(_room().name) / name


def shards(texts: Mapping[str, list[str]]) -> dict[str, TokenShard]:
    """Texts by name, as bytes."""
    return {name: domains.byte_shard(rows, folder(name)) for name, rows in texts.items()}


def fit(
    config: TrainConfig, sources: Mapping[str, TokenShard], model: Transformer | None = None
) -> Transformer:
    """Train without leaving anything behind; an average of the last phase, if there is one."""
    config = replace(config, save_every=_NEVER, evaluate_every=_NEVER, device="cpu")
    with tempfile.TemporaryDirectory(prefix="llama3-course-") as folder:
        result = Trainer(config, sources, folder, model=model).fit()
    if average := result.averaged.get(config.phases[-1].name):
        result.model.load_state_dict(average)
    return result.model.eval()


def lengthen_table(model: Transformer, length: int) -> Transformer:
    model.args = model.args.replace(max_seq_len=max(length, model.args.max_seq_len))
    return model.to(torch.float32)  # makes the table of positions again
