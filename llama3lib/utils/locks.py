"""A lock that ends with the process that holds it, killed or not: one run, one process.

The system keeps it, not what is written in the file. So there is no left-over lock to judge by its
age or by the number of a process, which says nothing on Windows and on other machines.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from llama3lib.utils.logging import get_logger
from llama3lib.utils.require import require

_log = get_logger(__name__)
LOCK = ".lock"


@contextlib.contextmanager
def locked(path: str | Path, *, wait: bool = False, shared: bool = False) -> Iterator[bool]:
    """Hold the lock of this file inside the block; yields whether it is ours.

    wait: until it is. shared: by all who ask in this process; without it only one of them has it.
    Where the file system has no locks, it counts as ours and the log says so.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    lock, ours = FileLock(path, is_singleton=shared, thread_local=not shared), True
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        ours = False
    except OSError as error:
        _log.warning("%s cannot be locked (%s): start no second process here", path, error)
    try:
        yield ours
    finally:
        lock.release()


@contextlib.contextmanager
def alone_in(folder: str | Path, field: str) -> Iterator[None]:
    """Keep other processes out of the folder of a run inside the block, by its file `.lock`.

    Raises ValueError, which names the folder as `field`, if another one is at work there.
    """
    with locked(Path(folder) / LOCK, shared=True) as ours:
        require(ours, field, str(folder), "another process is at work in this folder")
        yield
