"""Ctrl-C between two steps instead of in the midst of one, and SIGTERM as if it were Ctrl-C."""

import contextlib
import signal
import threading
from collections.abc import Iterator


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
