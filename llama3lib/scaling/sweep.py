"""Run a sweep on the trainer: side by side, one thread each, and again from where it was stopped.

Every finished run is one JSON line in a file of its own, written whole or not at all, and a run is
locked while it is made. So any number of processes, or of machines that share a folder (a job
array), can work on one sweep; each run has the same result wherever and beside whatever it is made.
"""

import contextlib
import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from llama3lib.data.packing import window_count
from llama3lib.data.tokens import TokenShard
from llama3lib.eval import held_out_loss
from llama3lib.model import Transformer
from llama3lib.scaling.folder import TEST_SEED, open_sweep_data, prepare, repeats
from llama3lib.scaling.plan import TEXT, Cell, SweepConfig, cells, share, train_config
from llama3lib.scaling.points import Run
from llama3lib.scaling.records import Record, as_run, record_path, stored_record, write_record
from llama3lib.scaling.task import answer
from llama3lib.scaling.workers import side_by_side
from llama3lib.train.config import HELD_OUT
from llama3lib.train.step import DivergedError
from llama3lib.train.trainer import Trainer
from llama3lib.utils.device import pick_device
from llama3lib.utils.locks import locked
from llama3lib.utils.logging import get_logger
from llama3lib.utils.require import at_least
from llama3lib.utils.seed import one_thread
from llama3lib.worlds.language import InventedLanguage

_log = get_logger(__name__)


class BusyError(RuntimeError):
    """Another process is making this run."""


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
    One that another process is making is left to it. Ctrl-C saves the runs under way and begins no
    other.

    Raises ValueError if the folder belongs to a sweep with other settings, or for parts,
    processes and devices that cannot be.
    """
    at_least("processes", processes, 1)
    if on_step is not None and processes > 1:
        raise ValueError(f"processes={processes!r} is not allowed with on_step: 1")
    pick_device(config.device)
    todo = waiting(config, folder, part)
    if warning := repeats(config, folder, todo):
        _log.warning("%s", warning)
    with contextlib.closing(_records(config, Path(folder), todo, processes, on_step)) as records:
        for name, record in records:
            if record is None:
                _log.warning("%s is being made by another process: left to it", name)
            elif on_run is not None:
                on_run(record)
    return finished(config, folder)


def waiting(config: SweepConfig, folder: str | Path, part: tuple[int, int] = (1, 1)) -> list[Cell]:
    """Prepare the folder; the runs of this part that are not finished, the longest first.

    Raises ValueError as `run_sweep`.
    """
    mine = share(cells(config), part)
    prepare(config, folder)
    return [cell for cell in mine if stored_record(folder, cell) is None]


def finished(config: SweepConfig, folder: str | Path) -> list[Run]:
    """The runs of this sweep that are in the folder and did not diverge.

    Raises ValueError naming a file that is damaged or holds another run.
    """
    found = []
    for cell in cells(config):
        record = stored_record(folder, cell)
        if record is None:
            continue
        run = as_run(record)
        if run is None:
            _log.warning("%s diverged and is left out", cell.name)
        else:
            found.append(run)
    return found


def diverged(config: SweepConfig, folder: str | Path) -> list[str]:
    """Names of the runs of this sweep that were made and diverged."""
    stored = {cell.name: stored_record(folder, cell) for cell in cells(config)}
    return [name for name, record in stored.items() if record and record["loss"] is None]


def one_run(
    config: SweepConfig,
    cell: Cell,
    folder: str | Path,
    on_step: Callable[[Record], None] | None = None,
    *,
    stop: Callable[[], bool] | None = None,
) -> Record:
    """Make one run and write its line. A run that was cut short goes on from its checkpoint.

    A run that is finished is not made again: its record is returned.
    stop: asked after each step; if it says yes, the run is saved and KeyboardInterrupt raised.

    Raises BusyError if another process is making this run.
    """
    folder = Path(folder)
    lock = folder / "work" / f"{cell.name}.lock"
    with locked(lock) as ours:
        if not ours:
            raise BusyError(f"{cell.name} is being made by another process")
        record = stored_record(folder, cell)
        if record is None:
            record = _made(config, cell, folder, on_step, stop)
            write_record(record_path(folder, cell), record)
            shutil.rmtree(_work(config, cell, folder), ignore_errors=True)
    with contextlib.suppress(OSError):  # whoever takes it now finds the run finished
        lock.unlink()
    return record


def _made(
    config: SweepConfig,
    cell: Cell,
    folder: Path,
    on_step: Callable[[Record], None] | None,
    stop: Callable[[], bool] | None,
) -> Record:
    start, shards = time.process_time(), open_sweep_data(config, folder)
    record: Record = {
        "budget": cell.budget,
        "flops": cell.flops,
        "parameters": cell.parameters,
        "non_embedding": cell.non_embedding,
        "tokens": cell.tokens,
        "epochs": round(cell.tokens / len(shards[TEXT]), 3),
        "loss": None,
        "seed": cell.seed,
        "steps": cell.steps,
        "batch_size": cell.batch_size,
        "dim": cell.model.dim,
        "n_layers": cell.model.n_layers,
    }
    work = _work(config, cell, folder)

    def report(step: Record) -> None:
        if on_step is not None:
            on_step(step)
        if stop is not None and stop():
            trainer.save()
            trainer.checkpoints.wait()
            raise KeyboardInterrupt

    with one_thread():
        try:
            trainer = Trainer(train_config(config, cell), {TEXT: shards[TEXT]}, work)
            model = trainer.fit(report).model
        except DivergedError as error:
            _log.warning("%s: %s", cell.name, error)
        else:
            record |= _measured(config, cell, model, shards[HELD_OUT])
    record["seconds"] = round(time.process_time() - start, 1)
    return record


def _measured(config: SweepConfig, cell: Cell, model: Transformer, shard: TokenShard) -> Record:
    windows = min(config.test_windows, window_count(shard, config.length))
    try:
        test = held_out_loss(model, shard, config.length, windows=windows, batch_size=50)
    except ValueError as error:  # it diverged in its very last step
        _log.warning("%s: %s", cell.name, error)
        return {}
    if not math.isfinite(test.mean):
        return {}
    record: Record = {"loss": round(test.mean, 5)}
    if config.questions:
        record |= answer(model, InventedLanguage(), config.questions, TEST_SEED)
    return record


def _records(
    config: SweepConfig,
    folder: Path,
    todo: Sequence[Cell],
    processes: int,
    on_step: Callable[[Record], None] | None,
) -> Iterator[tuple[str, Record | None]]:
    """Name and record of each run; None for one that another process is making."""
    if processes == 1 or len(todo) < 2:
        for cell in todo:
            yield cell.name, _attempt(config, folder, cell, on_step=on_step)
        return
    jobs = {cell.name: cell for cell in todo}
    yield from side_by_side(partial(_attempt, config, folder), jobs, processes)


def _attempt(
    config: SweepConfig,
    folder: Path,
    cell: Cell,
    stop: Callable[[], bool] | None = None,
    on_step: Callable[[Record], None] | None = None,
) -> Record | None:
    try:
        return one_run(config, cell, folder, on_step, stop=stop)
    except BusyError:
        return None


def _work(config: SweepConfig, cell: Cell, folder: Path) -> Path:
    """Where a run is made; another place for other settings, whose checkpoints would not fit."""
    settings = json.dumps([config.fixed(), train_config(config, cell).describe()], sort_keys=True)
    return folder / "work" / f"{cell.name}-{hashlib.sha256(settings.encode()).hexdigest()[:8]}"
