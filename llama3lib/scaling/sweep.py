"""Run a sweep on the trainer: side by side, one thread each, and again from where it was stopped.

Every finished run is one JSON line in a file of its own, written whole or not at all. So any number
of processes, or of machines that share a folder (a job array), can work on one sweep; each run has
the same result wherever and beside whatever it is made.
"""

import json
import multiprocessing
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from llama3lib.data.packing import window_count
from llama3lib.data.tokens import TokenShard, write_token_shard
from llama3lib.eval import held_out_loss
from llama3lib.scaling.language import InventedLanguage
from llama3lib.scaling.plan import TEXT, Cell, SweepConfig, cells, train_config
from llama3lib.scaling.points import Run
from llama3lib.scaling.task import answer
from llama3lib.train.config import HELD_OUT, SourceConfig
from llama3lib.train.sources import open_source, open_tokenizer
from llama3lib.train.step import DivergedError
from llama3lib.train.trainer import Trainer
from llama3lib.utils.files import atomic_write
from llama3lib.utils.logging import get_logger
from llama3lib.utils.processes import without_main_file
from llama3lib.utils.seed import one_thread

_log = get_logger(__name__)
_TEST_SEED, _TEST_DOCUMENTS = 1_000_003, 600
Record = dict[str, Any]


def run_sweep(
    config: SweepConfig,
    folder: str | Path,
    *,
    processes: int = 2,
    part: tuple[int, int] = (1, 1),
    on_run: Callable[[Record], None] | None = None,
    on_step: Callable[[Record], None] | None = None,
) -> list[Run]:
    """Make every run that is not in `folder` yet; returns all that are finished.

    part: (i, n) makes only the i-th of n shares of the runs, for a job array of n jobs; prepare
    the folder with `prepare` before such jobs start.
    on_run: told each record as it is finished.
    on_step: told what the trainer logs of each step; needs processes=1.
    A run whose loss became no number is recorded as such, warned of, and left out of the result.

    Raises ValueError if the folder belongs to a sweep with other settings, or for parts and
    processes that cannot be.
    """
    if processes < 1:
        raise ValueError(f"processes={processes!r} is not allowed: 1 or more")
    if on_step is not None and processes > 1:
        raise ValueError(f"processes={processes!r} is not allowed with on_step: 1")
    todo = waiting(config, folder, part)
    for record in _records(config, Path(folder), todo, processes, on_step):
        if on_run is not None:
            on_run(record)
    return finished(config, folder)


def waiting(config: SweepConfig, folder: str | Path, part: tuple[int, int] = (1, 1)) -> list[Cell]:
    """Prepare the folder; the runs of this part that are not finished, the longest first.

    Raises ValueError as `run_sweep`.
    """
    number, parts = part
    if not 1 <= number <= parts:
        raise ValueError(f"part={part!r} is not allowed: (i, n) with i from 1 to n")
    prepare(config, folder)
    mine = cells(config)[number - 1 :: parts]
    return [cell for cell in mine if not _file(Path(folder), cell).is_file()]


def prepare(config: SweepConfig, folder: str | Path) -> None:
    """Write text and settings to the folder, if they are not there.

    Raises ValueError if the folder belongs to a sweep with other settings.
    """
    folder, told = Path(folder), config.fixed()
    note = folder / "sweep.json"
    if note.is_file():
        old = json.loads(note.read_text(encoding="utf-8"))
        if changed := [name for name in told if told[name] != old.get(name)]:
            name = changed[0]
            raise ValueError(
                f"{name}={told[name]!r} is not allowed: {folder} was begun with {old.get(name)!r}"
            )
    _shards(config, folder)
    with atomic_write(note) as file:
        file.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def finished(config: SweepConfig, folder: str | Path) -> list[Run]:
    """The runs of this sweep that are in the folder and did not diverge."""
    folder, found = Path(folder), []
    for cell in cells(config):
        if not _file(folder, cell).is_file():
            continue
        record = json.loads(_file(folder, cell).read_text(encoding="utf-8"))
        if record["loss"] is None:
            _log.warning("%s diverged and is left out", cell.name)
            continue
        names = Run.__dataclass_fields__
        found.append(Run(**{n: v for n, v in record.items() if n in names and v is not None}))
    return found


def one_run(
    config: SweepConfig,
    cell: Cell,
    folder: str | Path,
    on_step: Callable[[Record], None] | None = None,
) -> Record:
    """Make one run and write its line. A run that was cut short goes on from its checkpoint."""
    folder, begun = Path(folder), time.process_time()
    shards, work = _shards(config, folder), folder / "work" / cell.name
    record: Record = {
        "budget": cell.budget,
        "flops": cell.flops,
        "parameters": cell.parameters,
        "non_embedding": cell.non_embedding,
        "tokens": cell.tokens,
        "loss": None,
        "seed": cell.seed,
        "steps": cell.steps,
        "batch_size": cell.batch_size,
        "dim": cell.model.dim,
        "n_layers": cell.model.n_layers,
    }
    with one_thread():
        try:
            trainer = Trainer(train_config(config, cell), {TEXT: shards[TEXT]}, work)
            model = trainer.fit(on_step).model
        except DivergedError as error:
            _log.warning("%s: %s", cell.name, error)
        else:
            windows = min(config.test_windows, window_count(shards[HELD_OUT], config.length))
            test = held_out_loss(
                model, shards[HELD_OUT], config.length, windows=windows, batch_size=50
            )
            record["loss"] = round(test.mean, 5)
            if config.questions:
                record |= answer(model, InventedLanguage(), config.questions, _TEST_SEED)
    record["seconds"] = round(time.process_time() - begun, 1)
    with atomic_write(_file(folder, cell)) as file:
        file.write_text(json.dumps(record) + "\n", encoding="utf-8")
    shutil.rmtree(work, ignore_errors=True)
    return record


def _records(
    config: SweepConfig,
    folder: Path,
    todo: Sequence[Cell],
    processes: int,
    on_step: Callable[[Record], None] | None,
) -> Iterator[Record]:
    if processes == 1 or len(todo) < 2:
        for cell in todo:
            yield one_run(config, cell, folder, on_step)
        return
    context = multiprocessing.get_context("spawn")
    with (
        without_main_file(),
        ProcessPoolExecutor(
            min(processes, len(todo)),
            mp_context=context,
            initializer=torch.set_num_threads,
            initargs=(1,),
        ) as pool,
    ):
        jobs = [pool.submit(one_run, config, cell, folder) for cell in todo]
        try:
            for job in as_completed(jobs):
                yield job.result()
        except BaseException:  # Ctrl-C too: what has not begun shall not begin
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _file(folder: Path, cell: Cell) -> Path:
    return folder / "runs" / f"{cell.name}.json"


def _shards(config: SweepConfig, folder: Path) -> dict[str, TokenShard]:
    """Tokens to train on and to measure on; written by whoever comes first."""
    if config.invented is None:
        tokenizer = open_tokenizer(config.tokenizer)
        sources: dict[str, SourceConfig | None] = {TEXT: config.train, HELD_OUT: config.held_out}
        return {n: open_source(s, tokenizer, folder / n) for n, s in sources.items() if s}
    sizes = {TEXT: (config.invented, 0), HELD_OUT: (_TEST_DOCUMENTS, _TEST_SEED)}
    language = None
    for name, (count, seed) in sizes.items():
        note, told = folder / f"{name}.json", {"documents": count, "seed": seed}
        if not note.is_file() or json.loads(note.read_text(encoding="utf-8")) != told:
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
                file.write_text(json.dumps(told) + "\n", encoding="utf-8")
    return {name: TokenShard(folder / name) for name in sizes}
