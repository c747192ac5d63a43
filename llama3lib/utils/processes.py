"""Start child processes that need nothing of the file the program was started from."""

import contextlib
import sys
from collections.abc import Iterator


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
