"""A lock that ends with the process that holds it, killed or not: one run, one process.

The system keeps it, not what is written in the file. So there is no left-over lock to judge by its
age or by the number of a process, which says nothing on Windows and on other machines.
"""

import contextlib
import time
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

from llama3lib.utils.logging import get_logger

try:
    import fcntl
except ImportError:  # Windows
    import msvcrt

    fcntl = None

_log = get_logger(__name__)
_AGAIN = 0.05  # seconds


@contextlib.contextmanager
def locked(path: str | Path, *, wait: bool = False) -> Iterator[bool]:
    """Hold the lock of this file inside the block; yields whether it is ours.

    wait: until it is. Where the file system has no locks, it counts as ours and the log says so.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab", buffering=0) as file:
        while not (ours := _take(file)) and wait:
            time.sleep(_AGAIN)
        try:
            yield ours
        finally:
            if ours and fcntl is None:  # elsewhere closing the file is enough
                with contextlib.suppress(OSError):
                    _windows(file, msvcrt.LK_UNLCK)


def _take(file: FileIO) -> bool:
    try:
        if fcntl is None:
            _windows(file, msvcrt.LK_NBLCK)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # the one here, the other on Windows
        return False
    except OSError as error:
        _log.warning("%s cannot be locked (%s): start no second process here", file.name, error)
    return True


def _windows(file: FileIO, what: int) -> None:
    file.seek(0)  # where the one byte is that gets locked
    msvcrt.locking(file.fileno(), what, 1)
