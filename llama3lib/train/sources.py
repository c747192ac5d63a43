"""From the sources of a recipe to token shards on disk, made once and then reused."""

import contextlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from llama3lib.checkpoint import load_tokenizer
from llama3lib.data.texts import Account, read_texts, text_files
from llama3lib.data.tokens import TokenShard, write_shard
from llama3lib.tokenizer import Tokenizer
from llama3lib.train.config import HELD_OUT, SourceConfig, TrainConfig
from llama3lib.utils.files import atomic_write
from llama3lib.worlds import stories

Watch = Callable[[str, Iterator[str]], Iterator[str]]
"""Gets the name of a source and its texts, passes them on, and may tell how far they are."""


@dataclass(frozen=True)
class Stock:
    """What a source holds."""

    documents: int
    tokens: int
    account: Account = field(default_factory=Account)
    exact: bool = True
    """False: the tokens, or stories, were reckoned from the first ones."""

    def __len__(self) -> int:
        return self.tokens


def open_sources(
    config: TrainConfig,
    folder: str | Path,
    *,
    watch: Watch | None = None,
    on_source: Callable[[str, Stock], None] | None = None,
) -> dict[str, TokenShard]:
    """The shards of all sources of a recipe; those that are missing are written below `folder`.

    on_source: gets the name of each source that is ready, and what it holds.

    Raises ValueError naming the source if it cannot be read, is empty, loses more rows than its
    `most_left_out`, or has another tokenizer or more tokens than the model; what can be told
    without reading, before any is written.
    """
    folder, shards = Path(folder), {}
    tokenizer = load_tokenizer(config.tokenizer)
    for name, source in all_sources(config).items():
        check_source(config, name, source, tokenizer)
    for name, source in all_sources(config).items():
        shards[name] = open_source(source, tokenizer, folder / name, watch)
        if on_source is not None:
            on_source(name, stock_of(shards[name], source, folder / name))
    return shards


def all_sources(config: TrainConfig) -> Mapping[str, SourceConfig]:
    """The sources of a recipe with the held-out text, by name."""
    if config.held_out is None:
        return config.data
    return {**config.data, HELD_OUT: config.held_out}


def check_source(
    config: TrainConfig, name: str, source: SourceConfig, tokenizer: Tokenizer
) -> None:
    """Raises ValueError for what is wrong with a source and can be told without reading it."""
    size = tokenizer.n_vocab
    with _named(name):
        if source.shard is not None:
            size = _given_shard(source, tokenizer).index["vocab_size"]
        elif source.documents is not None:
            text_files(source.documents)
    check_vocabulary(config, name, size)


def check_vocabulary(config: TrainConfig, name: str, size: int) -> None:
    """Raises ValueError if the model has no place for so many tokens."""
    if size > config.model.vocab_size:
        raise ValueError(
            f"model.vocab_size={config.model.vocab_size} is not allowed: "
            f"the tokens of {name!r} go up to {size - 1}"
        )


def open_source(
    source: SourceConfig, tokenizer: Tokenizer, folder: Path, watch: Watch | None = None
) -> TokenShard:
    """The shard of one source; written to `folder` unless it is there or was one already.

    Raises ValueError as `open_sources` does, naming the source by the folder's name.
    """
    name, note, account = folder.name, _note(folder), Account()
    with _named(name):
        if source.shard is not None:
            return _given_shard(source, tokenizer)
        origin = _origin(source, tokenizer)
    if shard := written_shard(source, tokenizer, folder):
        refuse_losses(name, source, stock_of(shard, source, folder).account)
        return shard
    note.unlink(missing_ok=True)  # first: or one who is killed here leaves it to a new shard
    texts = texts_of(source, account)
    texts = watch(name, texts) if watch is not None else texts
    texts = _up_to_the_end(texts, lambda: refuse_losses(name, source, account))
    shard = write_shard(texts, folder, tokenizer)
    with atomic_write(note) as file:
        told = json.dumps(origin | {"rows": asdict(account)}, indent=2)
        file.write_text(told + "\n", encoding="utf-8")
    return shard


def written_shard(source: SourceConfig, tokenizer: Tokenizer, folder: Path) -> TokenShard | None:
    """The shard in the folder if it was written from this source as it is now."""
    with contextlib.suppress(OSError, ValueError):  # missing or damaged: it is written again
        told = json.loads(_note(folder).read_text(encoding="utf-8"))
        if told.pop("rows", None) is not None and told == _origin(source, tokenizer):
            return TokenShard(folder)
    return None


def stock_of(shard: TokenShard, source: SourceConfig, folder: Path) -> Stock:
    """What a shard holds, and what was left out when it was written to the folder."""
    account = Account()
    if source.documents is not None:
        account = Account(**json.loads(_note(folder).read_text(encoding="utf-8"))["rows"])
    return Stock(shard.index["documents"], len(shard), account)


def texts_of(source: SourceConfig, account: Account) -> Iterator[str]:
    """The texts of a source that has not been made into tokens yet."""
    if source.stories is not None:
        return itertools.islice(stories(source.seed), source.stories)
    return read_texts(source.documents or "", account)


def refuse_losses(name: str, source: SourceConfig, account: Account) -> None:
    """Raises ValueError if more rows were left out than the source may lose."""
    if source.documents is not None and (problem := account.problem(source.most_left_out)):
        raise ValueError(f"{_setting(name)}: {problem}")


def _up_to_the_end(texts: Iterator[str], then: Callable[[], None]) -> Iterator[str]:
    """The texts; too many losses show only at their end, and nothing may be kept then."""
    yield from texts
    then()


def _setting(name: str) -> str:
    return "held_out" if name == HELD_OUT else f"data.{name}"


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{_setting(name)}: {error}") from None


def _given_shard(source: SourceConfig, tokenizer: Tokenizer) -> TokenShard:
    shard = TokenShard(source.shard or "")
    if shard.index.get("tokenizer") not in (None, tokenizer.digest):
        raise ValueError(
            f"shard={source.shard!r} is not allowed: its tokens are not of the recipe's tokenizer"
        )
    return shard


def _note(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.json")


def _origin(source: SourceConfig, tokenizer: Tokenizer) -> dict[str, Any]:
    """All that the tokens depend on: names, sizes and times of the files read, for one."""
    files = [] if source.documents is None else text_files(source.documents)
    stats = [(file, file.stat()) for file in files]
    given = {key: value for key, value in asdict(source).items() if key != "most_left_out"}
    return {
        "source": given,
        "input": [[str(file), stat.st_size, stat.st_mtime_ns] for file, stat in stats],
        "tokenizer": tokenizer.digest,
    }
