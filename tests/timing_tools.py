"""Time in tests, on machines of any speed and beside any load.

No test compares differences of a clock, which fails beside a busy neighbour. What must grow in
proportion is measured in CPU time (`assert_linear`), and what must end is waited for (`deadline`,
`wait_until`), longer where things are slower (`patient`).
"""

import contextlib
import functools
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import psutil

Input = TypeVar("Input")
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


def alive(process: psutil.Process) -> bool:
    """Whether a process that may be nobody's child any more still runs."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


@contextlib.contextmanager
def deadline(seconds: float, what: str = "this") -> Iterator[None]:
    """AssertionError in the middle of a block that does not end. Nothing on Windows."""
    if not hasattr(signal, "setitimer"):
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


def assert_linear(
    function: Callable[[Input], object], short: Input, long: Input, *, at_most: float
) -> None:
    """AssertionError if the long input takes over `at_most` times the CPU time of the short one.

    The least of three runs counts for the short input, of up to five for the long one, which is
    tried again only if it seems too slow. Less than a millisecond counts as a millisecond.
    """
    base = max(1e-3, min(_cpu_seconds(function, short) for _ in range(3)))
    growth = math.inf
    for _ in range(5):
        growth = min(growth, _cpu_seconds(function, long) / base)
        if growth <= at_most:
            return
    raise AssertionError(f"{growth:.1f} times the time, {at_most} allowed")


def _cpu_seconds(function: Callable[[Input], object], given: Input) -> float:
    begun = time.process_time()
    function(given)
    return time.process_time() - begun
