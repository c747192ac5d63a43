"""Time in tests, on machines of any speed and beside any load.

No test compares differences of a clock, which fails beside a busy neighbour. What must grow in
proportion is measured in CPU time (`assert_linear`), what must be quick in CPU time of this
machine (`cpu_seconds`), and what must end is waited for (`deadline`, `wait_until`), longer where
the machine is slower (`patient`).
"""

import contextlib
import functools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

SLOWNESS = "LLAMA3_TEST_SLOWNESS"
"""Environment variable that tells the processes of a run what was measured at its beginning."""
_ADDITIONS, _QUIET = 4_000_000, 0.2


@functools.cache
def slowness() -> float:
    """How many times as long things take here and now as on a quiet laptop; at least 1."""
    if SLOWNESS not in os.environ:
        begun, total = time.perf_counter(), 0
        for number in range(_ADDITIONS):
            total += number
        os.environ[SLOWNESS] = f"{max(1.0, (time.perf_counter() - begun) / _QUIET):.2f}"
    return float(os.environ[SLOWNESS])


def patient(seconds: float) -> float:
    """A time limit for this machine, from one that is ample on a quiet laptop."""
    return seconds * slowness()


def wait_until(true: Callable[[], object], seconds: float = 60.0) -> None:
    """Return once `true()` is; AssertionError if that takes too long."""
    end = time.monotonic() + patient(seconds)
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


@contextlib.contextmanager
def deadline(seconds: float, what: str = "this") -> Iterator[None]:
    """AssertionError in the middle of a block that does not end; nothing on Windows."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not _MAIN:
        yield
        return

    def ring(*_: object) -> None:
        raise AssertionError(f"{what} does not end in {patient(seconds):.0f} seconds")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, patient(seconds))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


_MAIN = threading.main_thread()


def cpu_seconds(function: Callable[[], object], repeat: int = 1) -> float:
    """CPU time that this process takes for a call: the least of several."""

    def once() -> float:
        begun = time.process_time()
        function()
        return time.process_time() - begun

    return min(once() for _ in range(repeat))


def assert_linear(
    function: Callable[[object], object], short: object, long: object, *, at_most: float
) -> None:
    """AssertionError if the long input takes over `at_most` times the CPU time of the short one.

    The least of several runs counts. The long input is tried again only if it seems too slow: a
    neighbour may slow a run down, and none speeds it up. Less than a millisecond is a millisecond.
    """
    base = max(cpu_seconds(lambda: function(short), 3), 1e-3)
    times: list[float] = []
    while not times or (min(times) > at_most * base and len(times) < 5):
        times.append(cpu_seconds(lambda: function(long)))
        base = min(base, max(cpu_seconds(lambda: function(short)), 1e-3))
    growth = min(times) / base
    assert growth <= at_most, f"{growth:.1f} times the time, {at_most} allowed"
