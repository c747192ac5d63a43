"""From the sources of a recipe to token shards on disk, made once and then reused."""

import contextlib
import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from llama3lib.checkpoint import load_tokenizer
from llama3lib.data.document import Document
from llama3lib.data.readers import input_files, read_documents
from llama3lib.data.tokens import TokenShard, write_shard
from llama3lib.tokenizer import Tokenizer
from llama3lib.train.config import HELD_OUT, SourceConfig, TrainConfig
from llama3lib.utils.files import atomic_write
from llama3lib.worlds import stories


def open_sources(config: TrainConfig, folder: str | Path) -> dict[str, TokenShard]:
    """The shards of all sources of a recipe; those that are missing are written below `folder`.

    Raises ValueError if a source cannot be read, is empty, or has another vocabulary than the
    model.
    """
    folder = Path(folder)
    tokenizer = open_tokenizer(config.tokenizer)
    shards = {}
    for name, source in _all_sources(config).items():
        shard = open_source(source, tokenizer, folder / name)
        if shard.index["vocab_size"] > config.model.vocab_size:
            raise ValueError(
                f"model.vocab_size={config.model.vocab_size} is not allowed: "
                f"the tokens of {name!r} go up to {shard.index['vocab_size'] - 1}"
            )
        shards[name] = shard
    return shards


def _all_sources(config: TrainConfig) -> Mapping[str, SourceConfig]:
    if config.held_out is None:
        return config.data
    return {**config.data, HELD_OUT: config.held_out}


def open_tokenizer(name: str) -> Tokenizer | None:
    """As `load_tokenizer`, but None for `bytes`."""
    return None if name == "bytes" else load_tokenizer(name)


def open_source(source: SourceConfig, tokenizer: Tokenizer | None, folder: Path) -> TokenShard:
    """The shard of one source; written to `folder` unless it is there or was one already."""
    if source.shard is not None:
        return TokenShard(source.shard)
    origin = {"source": asdict(source), "input": _input(source), "tokenizer": _name(tokenizer)}
    note = folder.with_name(f"{folder.name}.json")
    with contextlib.suppress(OSError, ValueError):  # missing or damaged: it is written again
        if json.loads(note.read_text(encoding="utf-8")) == origin:
            return TokenShard(folder)
    note.unlink(missing_ok=True)  # first: or one who is killed here leaves it to a new shard
    shard = write_shard(_texts(source), folder, tokenizer)
    with atomic_write(note) as file:
        file.write_text(json.dumps(origin, indent=2) + "\n", encoding="utf-8")
    return shard


def _name(tokenizer: Tokenizer | None) -> str:
    if tokenizer is None:
        return "bytes"
    pieces = sorted(tokenizer.mergeable_ranks, key=tokenizer.mergeable_ranks.__getitem__)
    digest = hashlib.sha256(b"\0".join(pieces)).hexdigest()
    return f"{tokenizer.n_vocab} tokens, {digest}"


def _input(source: SourceConfig) -> list[list[str | int]]:
    """Names, sizes and times of the files read, so that a change of them is seen."""
    if source.documents is None:
        return []
    stats = [(file, file.stat()) for file in input_files(source.documents)]
    return [[str(file), stat.st_size, stat.st_mtime_ns] for file, stat in stats]


def _texts(source: SourceConfig) -> Iterator[str]:
    if source.stories is not None:
        return itertools.islice(stories(source.seed), source.stories)
    items = read_documents(source.documents or "")
    return (item.text for item in items if isinstance(item, Document) and item.text)
