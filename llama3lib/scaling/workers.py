"""Jobs side by side in processes that end when told to, and when whoever started them is gone.

Each worker has one pipe. A job is sent when the worker is free, so none waits inside it; and a
pipe that is closed means "stop", whether its other end closed it or was killed.
"""

import contextlib
import pickle
import signal
import traceback
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

import torch

from llama3lib.utils.logging import get_logger
from llama3lib.utils.processes import without_main_file, worker_context

_log = get_logger(__name__)
Job = TypeVar("Job")
Result = TypeVar("Result")
Work = Callable[[Job, Callable[[], bool]], Result]


def side_by_side(
    work: Work[Job, Result], jobs: Mapping[str, Job], processes: int
) -> Iterator[tuple[str, Result]]:
    """Yield name and result of each job as it is finished, begun in the order given.

    work: called in a process of its own, of one thread, with a job and a question to ask now and
    then: shall it stop? It must be a function of a module, or a partial of one.
    After an error, Ctrl-C, or when nobody wants more results, no job is begun; those under way are
    told to stop, and waited for. A second Ctrl-C kills them.

    Raises what a job raises, and RuntimeError if a process ends by itself.
    """
    left, workers = list(reversed(jobs.items())), []
    busy: dict[Connection, tuple[str, BaseProcess]] = {}

    def begin(pipe: Connection, process: BaseProcess) -> None:
        name, job = left.pop()
        busy[pipe] = name, process
        with contextlib.suppress(OSError):  # it is gone: told below
            pipe.send(job)

    try:
        for _ in range(min(processes, len(jobs))):
            workers.append(_start(work))
            begin(*workers[-1])
        while busy:
            for pipe in wait(list(busy)):
                name, process = busy.pop(pipe)
                result = _answer(pipe, name, process)
                if left:
                    begin(pipe, process)
                yield name, result
    finally:
        _end(workers, [name for name, _ in busy.values()])


def _start(work: Work[Job, Result]) -> tuple[Connection, BaseProcess]:
    context = worker_context()
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, work))
    with without_main_file():
        process.start()
    theirs.close()
    return ours, process


def _answer(pipe: Connection, name: str, process: BaseProcess) -> Any:
    try:
        fine, result = pipe.recv()
    except (EOFError, OSError):
        process.join()
        raise RuntimeError(
            f"{name}: its process ended by itself (exit code {process.exitcode}); "
            "start again, and the run goes on from its checkpoint"
        ) from None
    if not fine:
        raise result
    return result


def _end(workers: list[tuple[Connection, BaseProcess]], busy: list[str]) -> None:
    if busy:
        _log.warning("waiting for %s: saved at the next step, then stopped", ", ".join(busy))
    for pipe, _ in workers:
        pipe.close()
    try:
        for _, process in workers:
            process.join()
    except BaseException:  # a second Ctrl-C
        for _, process in workers:
            process.kill()
            process.join()
        raise


def _serve(pipe: Connection, work: Work[Job, Result]) -> None:
    """The worker: one job after the other, until the pipe is closed."""
    for number in (signal.SIGINT, signal.SIGTERM):  # sent to all: the pipe says when to stop
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)

    def stop() -> bool:
        try:
            return pipe.poll()  # nothing is sent while a job is under way: so it is closed
        except OSError:
            return True

    while True:
        try:
            job = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            answer = True, work(job, stop)
        except BaseException as error:
            answer = False, _portable(error)
        try:
            pipe.send(answer)
        except OSError:  # nobody is left to be told
            return


def _portable(error: BaseException) -> BaseException:
    """The error with its traceback as a note, as far as it can be sent."""
    error.add_note(traceback.format_exc())
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    except Exception:
        plain = RuntimeError(f"{type(error).__name__}: {error}")
        plain.add_note(traceback.format_exc())
        return plain
    return error
