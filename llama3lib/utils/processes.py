"""Start child processes that need nothing of the file the program was started from."""

import contextlib
import multiprocessing
import sys
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
