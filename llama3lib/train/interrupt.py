"""Ctrl-C between two steps instead of in the midst of one, SIGTERM as if it were Ctrl-C, and an
end to waiting for other ranks."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

LOST = 75
"""Exit code of a rank that could not go on for a reason that may pass: another rank is gone."""


class StoppedError(RuntimeError):
    """The run cannot go on; the last checkpoint is whole and told in the message."""


@contextlib.contextmanager
def stop_between_steps() -> Iterator[threading.Event]:
    """Ctrl-C sets the event; a second one interrupts at once. Elsewhere than in the main thread
    nothing is changed, since only that one gets signals; nor where Ctrl-C is to be ignored."""
    stop = threading.Event()
    before = signal.getsignal(signal.SIGINT)
    elsewhere = threading.current_thread() is not threading.main_thread()
    if elsewhere or before in (signal.SIG_IGN, None):  # None: a handler that is not Python's
        yield stop
        return

    def on_interrupt(number: int, frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def given_up_after(seconds: float, rank: int) -> Iterator[Callable[[], None]]:
    """End this process, one of several, if what is yielded is not called for so long.

    A rank that hangs lets all others wait inside a message, where nothing else could end them.
    Only the first rank that is left says so: its end makes torchrun end the rest.
    """
    over, last = threading.Event(), time.monotonic()

    def beat() -> None:
        nonlocal last
        last = time.monotonic()

    def watch() -> None:
        limit = seconds + 0.5 * rank
        while not over.wait(min(1.0, seconds / 4)):
            if time.monotonic() - last > limit:
                told = f"llama3: rank {rank}: no step for {seconds:g} s: a rank gives no answer\n"
                os.write(2, told.encode())
                os._exit(LOST)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield beat
    finally:
        over.set()


@contextlib.contextmanager
def terminated_in_order() -> Iterator[None]:
    """SIGTERM, as of a job array that is cancelled, does what Ctrl-C does: save, then stop."""
    before = signal.getsignal(signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread() or before is None:
        yield  # only the main thread gets signals; None: a handler that is not Python's
        return

    def on_end(number: int, frame: object) -> None:
        if signal.getsignal(signal.SIGINT) in (signal.SIG_IGN, None):  # as behind nohup
            raise KeyboardInterrupt
        signal.raise_signal(signal.SIGINT)

    signal.signal(signal.SIGTERM, on_end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
