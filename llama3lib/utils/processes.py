"""Child processes that need nothing of the main file, and that end with their parent."""

import contextlib
import multiprocessing
import os
import sys
import threading
from collections.abc import Iterator
from multiprocessing.context import BaseContext

_SLOW_TO_IMPORT = ["torch", "llama3lib.train"]


def worker_context() -> BaseContext:
    """How processes that compute with PyTorch are started: clean, and quick where that is possible.

    Importing PyTorch takes seconds. On Linux a server imports it once and then forks itself for
    each worker; it has computed nothing, so no thread or lock is copied. Elsewhere each worker
    starts from nothing and imports it again.
    """
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_SLOW_TO_IMPORT)
    return context


@contextlib.contextmanager
def without_main_file() -> Iterator[None]:
    """Children that are spawned in this block do not run the main file again.

    A spawned child imports the file that the program was started from; without a main guard it
    would start all over, and hang or multiply. What a child of ours runs lives in modules, so it
    can do without. Functions and classes of the main file can't be sent to such a child.
    """
    main = sys.modules["__main__"]
    saved = {name: getattr(main, name) for name in ("__file__", "__spec__") if hasattr(main, name)}
    try:
        main.__spec__ = None
        if hasattr(main, "__file__"):
            del main.__file__
        yield
    finally:
        for name, value in saved.items():
            setattr(main, name, value)


def end_with_parent() -> None:
    """End this process when the one that started it has ended, even if that was killed.

    Called in a child of `multiprocessing`. One that waits for work from a pool holds both ends of
    the pool's pipe itself: nothing else would tell it that nobody is there any more.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_outlive, args=(parent,), daemon=True).start()


def _outlive(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)
