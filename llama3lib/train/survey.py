"""What the sources of a recipe hold and what is wrong with them, told before a run."""

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path

from llama3lib.checkpoint import load_tokenizer
from llama3lib.data.texts import Account
from llama3lib.data.tokens import TokenShard
from llama3lib.tokenizer import Tokenizer
from llama3lib.train.config import HELD_OUT, SourceConfig, TrainConfig
from llama3lib.train.prepare import check_lengths, held_out_windows
from llama3lib.train.sources import (
    Stock,
    Watch,
    all_sources,
    check_source,
    refuse_losses,
    stock_of,
    texts_of,
    written_shard,
)

_STORIES = 1000
_LETTERS = 1_000_000  # of a source that are made into tokens; the rest is reckoned from them


def survey(
    config: TrainConfig,
    folder: Path,
    *,
    watch: Watch | None = None,
    on_source: Callable[[str, Stock], None] | None = None,
) -> dict[str, Stock]:
    """Read all sources and write nothing; what a run in `folder` has written already is used.

    Every document is read, as a run would; of long sources only the beginning is made into tokens.

    Raises ValueError with all that is wrong, in one sentence each.
    """
    tokenizer, stocks, problems = load_tokenizer(config.tokenizer), {}, []
    for name, source in all_sources(config).items():
        try:
            check_source(config, name, source, tokenizer)
            stocks[name] = _look(name, source, tokenizer, folder / "data" / name, watch)
            if on_source is not None:
                on_source(name, stocks[name])
            refuse_losses(name, source, stocks[name].account)
        except ValueError as error:
            problems.append(str(error))
    problems = problems or _too_short(config, stocks)
    if problems:
        raise ValueError("; ".join(problems))
    return stocks


def source_lines(config: TrainConfig, name: str, stock: Stock) -> list[str]:
    """For people, after the lines of the plan."""
    about = "" if stock.exact else "about "
    holds = f"{about}{stock.documents:,} documents, {about}{stock.tokens:,} tokens"
    if name != HELD_OUT:
        epochs = config.tokens_from(name) / stock.tokens if stock.tokens else 0.0
        lines = [f"data        {name}: {holds}, {epochs:.2f} epochs"]
    else:
        lines = [f"held out    {holds}"]
    return lines + [f"{'':12}{line}" for line in stock.account.lines()]


def _look(
    name: str, source: SourceConfig, tokenizer: Tokenizer, folder: Path, watch: Watch | None
) -> Stock:
    shard = None
    if source.shard is not None:
        shard = TokenShard(source.shard)
    elif folder.is_dir():
        shard = written_shard(source, tokenizer, folder)
    if shard is not None:
        return stock_of(shard, source, folder)
    account = Account()
    texts = texts_of(source, account)
    if source.stories is not None:
        texts = itertools.islice(texts, _STORIES)
    documents = letters = tokens = counted = 0
    for text in watch(name, texts) if watch is not None else texts:
        documents, letters = documents + 1, letters + len(text)
        if counted < _LETTERS:
            counted += len(text)
            tokens += len(tokenizer.encode(text)) + 2  # with begin- and end-of-text
    every = source.stories or documents  # of stories only the first ones were read
    if documents:
        tokens = round(tokens * letters / counted * every / documents)
    return Stock(every, tokens, account, exact=(counted, documents) == (letters, every))


def _too_short(config: TrainConfig, stocks: Mapping[str, Stock]) -> list[str]:
    try:
        check_lengths(config, stocks)
        if HELD_OUT in stocks:
            held_out_windows(config, stocks[HELD_OUT])
    except ValueError as error:
        return [str(error)]
    return []
