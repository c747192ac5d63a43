"""The folder of a sweep: its settings, written once, and the text that all its runs read."""

import contextlib
import json
import math
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from llama3lib.checkpoint import load_tokenizer
from llama3lib.data.packing import window_count
from llama3lib.data.tokens import TokenShard, write_token_shard
from llama3lib.scaling.plan import TEXT, Cell, SweepConfig, cells, train_config, vocabulary
from llama3lib.scaling.records import read_json
from llama3lib.train.config import HELD_OUT, SourceConfig
from llama3lib.train.sources import open_source
from llama3lib.utils.files import atomic_write
from llama3lib.utils.locks import locked
from llama3lib.utils.require import require
from llama3lib.worlds.language import MEAN_TOKENS, InventedLanguage

TEST_SEED = 1_000_003
"""Of the text and of the questions to measure on."""
_TEST_DOCUMENTS = 600


def prepare(config: SweepConfig, folder: str | Path) -> None:
    """Write text and settings to the folder, if they are not there.

    Raises ValueError if the folder belongs to a sweep with other settings, once a run of that one
    is finished or being made; for settings that no run can have; and for a text that is too short
    or of another vocabulary.
    """
    for cell in cells(config):  # what cannot be is told before anything is written
        train_config(config, cell)
    known = vocabulary(config)
    for name, shard in open_sweep_data(config, Path(folder)).items():
        if shard.index["vocab_size"] > known:
            size = shard.index["vocab_size"]
            raise ValueError(f"{name}: its vocabulary of {size} is not allowed: at most {known}")
        try:
            window_count(shard, config.length)
        except ValueError as error:
            raise ValueError(f"length={config.length!r} is not allowed: {name}: {error}") from None


def repeats(config: SweepConfig, folder: str | Path, some: Sequence[Cell]) -> str:
    """A warning if some of these runs read their text more than once; empty if not.

    A loss on repeated text is not that of fresh text, which the law is about. Before a text of
    one's own is written nobody knows its length, and nothing is said.
    """
    if config.invented is not None:
        tokens = config.invented * MEAN_TOKENS
    else:
        source = config.train.shard if config.train is not None else None
        place = Path(source) if source is not None else Path(folder) / TEXT
        tokens = len(TokenShard(place)) if place.is_dir() else math.inf
    times = [cell.tokens / tokens for cell in some if cell.tokens > tokens]
    if not times:
        return ""
    return (
        f"{len(times)} of {len(some)} runs read their text more than once, up to about "
        f"{max(times):.1f} times: repeated text teaches less than the law expects"
    )


def open_sweep_data(config: SweepConfig, folder: Path) -> dict[str, TokenShard]:
    """The text of a folder that belongs to this sweep; written by whoever comes first.

    Raises ValueError if the folder belongs to a sweep with other settings.
    """
    require(not folder.exists() or folder.is_dir(), "folder", str(folder), "it is a file")
    note, fixed = folder / "sweep.json", config.fixed()
    with locked(folder / ".lock", wait=True):
        old = read_json(note) if note.is_file() else None
        changed = [name for name in fixed if old is not None and fixed[name] != old.get(name)]
        if changed and (any((folder / "runs").glob("*.json")) or _in_use(folder)):
            name = changed[0]
            raise ValueError(
                f"{name}={fixed[name]!r} is not allowed: {folder} was begun with {old.get(name)!r}"
            )
        shards = _shards(config, folder)
        if old is None or changed:
            with atomic_write(note) as file:
                file.write_text(json.dumps(fixed, indent=1) + "\n", encoding="utf-8")
    return shards


def _in_use(folder: Path) -> bool:
    for path in (folder / "work").glob("*.lock"):
        with locked(path) as free:
            if not free:
                return True
    return False


def _shards(config: SweepConfig, folder: Path) -> dict[str, TokenShard]:
    """Tokens to train on and to measure on; those that are missing are written."""
    if config.invented is None:
        tokenizer = load_tokenizer(config.tokenizer)
        sources: dict[str, SourceConfig | None] = {TEXT: config.train, HELD_OUT: config.held_out}
        return {n: open_source(s, tokenizer, folder / n) for n, s in sources.items() if s}
    sizes = {TEXT: (config.invented, 0), HELD_OUT: (_TEST_DOCUMENTS, TEST_SEED)}
    language = None
    for name, (count, seed) in sizes.items():
        note, made_from = folder / f"{name}.json", {"documents": count, "seed": seed}
        if not note.is_file() or _read(note) != made_from:
            language = language or InventedLanguage()
            words = len(language.words)
            write_token_shard(
                islice(language.documents(seed), count),
                list,
                folder / name,
                vocab_size=words + 1,
                end=words,
                overwrite=True,
            )
            with atomic_write(note) as file:
                file.write_text(json.dumps(made_from) + "\n", encoding="utf-8")
    return {name: TokenShard(folder / name) for name in sizes}


def _read(note: Path) -> dict[str, Any] | None:
    with contextlib.suppress(ValueError):  # damaged: the text is written again
        return read_json(note)
    return None
