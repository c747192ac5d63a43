"""Run a parser on bytes from strangers in a child process: limited in time and memory.

One child serves many calls, since starting one takes a second. It is killed when a call takes too
long, and a new one is started for the next call. A crash of the parser is an answer too.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
import weakref
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import TypeVar

from llama3lib.utils.processes import end_with_parent, without_main_file

T = TypeVar("T")
_START = 60.0  # seconds for a child to come up; a busy machine needs a few
# how many times as long a call may take by the clock: others share the processor with it
_PATIENCE = 60
_COUNTS_CPU = hasattr(signal, "setitimer")  # not on Windows


class Refused(Exception):
    """The call gave no answer: `reason` is one of few fixed words."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail = reason, detail


class Sandbox:
    """A child process for calls that may hang, swell or crash.

    Memory is limited where the system can do it (not on Windows and macOS). A copy that comes to
    another process, by pickling or forking, starts a child of its own. The child ends with the
    process that started it, even if that is killed.
    """

    def __init__(self, memory_bytes: int = 2 << 30) -> None:
        self.memory_bytes = memory_bytes
        self._forget()

    def _forget(self) -> None:
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._child: BaseProcess | None = None
        self._pipe: Connection | None = None

    def __getstate__(self) -> dict[str, int]:
        return {"memory_bytes": self.memory_bytes}

    def __setstate__(self, state: dict[str, int]) -> None:
        self.memory_bytes = state["memory_bytes"]
        self._forget()

    def call(self, function: Callable[[str], T], text: str, seconds: float = 5.0) -> T:
        """`function(text)`, worked out in the child.

        Raises Refused if it takes longer than `seconds` of processor time ("too slow"), if the
        child dies ("crashed" or "too much memory"), or if the function raises ("refused": a
        ValueError; "failed"). Others on the machine don't slow a call down by that measure, so what
        is too slow is so on a busy one too. A call that only waits is ended by the clock,
        much later; so are all on Windows, which has no such measure.

        Raises ModuleNotFoundError if the function needs a package that isn't there.
        """
        patience = seconds * (_PATIENCE if _COUNTS_CPU else 1)
        if self._owner != os.getpid():
            self._forget()
        with self._lock:
            pipe = self._running()
            try:
                pipe.send((function, text, seconds))
                if not pipe.poll(patience):
                    raise Refused("too slow", f"over {seconds:g} s")
                kind, answer = pipe.recv()
            except Refused:
                self.close()
                raise
            except (EOFError, OSError) as error:
                self._child.join(5)
                slow = _COUNTS_CPU and self._child.exitcode == -signal.SIGPROF
                self.close()
                if slow:
                    raise Refused("too slow", f"over {seconds:g} s") from error
                raise Refused("crashed", type(error).__name__) from error
            except BaseException:  # Ctrl-C between question and answer: the two would mix
                self.close()
                raise
        if kind == "answer":
            return answer
        if kind == "missing":
            raise ModuleNotFoundError(f"No module named {answer!r}", name=answer)
        raise Refused(kind, answer)

    def _running(self) -> Connection:
        if self._child is None or not self._child.is_alive() or self._pipe is None:
            self.close()
            context = multiprocessing.get_context("spawn")
            ours, theirs = context.Pipe()
            self._child = context.Process(target=_serve, args=(theirs, self.memory_bytes))
            self._child.daemon = True
            with without_main_file():
                self._child.start()
            theirs.close()
            self._pipe = ours
            weakref.finalize(self, _end, os.getpid(), self._child, ours)
            if not ours.poll(_START):
                self.close()
                raise Refused("failed", "the child process did not start")
            ours.recv()
        return self._pipe

    def close(self) -> None:
        """End the child; the next call starts another."""
        _end(self._owner, self._child, self._pipe)
        self._child = self._pipe = None


def _end(owner: int, child: BaseProcess | None, pipe: Connection | None) -> None:
    """End a child: asked to, with the last use of its sandbox, or when Python ends."""
    if owner != os.getpid():
        return  # a forked copy: the child is the other's
    if child is not None:
        child.kill()
        child.join(5)
    if pipe is not None:
        pipe.close()


def _serve(pipe: Connection, memory_bytes: int) -> None:
    """The child: answer questions until the other end closes."""
    end_with_parent()
    _limit_memory(memory_bytes)
    if _COUNTS_CPU:
        signal.signal(signal.SIGPROF, signal.SIG_DFL)  # it kills, whatever the parent does with it
    with contextlib.suppress(EOFError, OSError, KeyboardInterrupt):
        pipe.send("up")
        while True:
            function, text, seconds = pipe.recv()
            with _limited_time(seconds):
                reply = _answer(function, text)
            pipe.send(reply)


def _answer(function: Callable[[str], T], text: str) -> tuple[str, T | str]:
    try:
        return "answer", function(text)
    except ValueError as error:
        return "refused", str(error)[:200]
    except MemoryError:
        return "too much memory", ""
    except RecursionError:
        return "refused", "nested too deep"
    except ModuleNotFoundError as error:
        return "missing", error.name or ""
    except Exception as error:
        return "failed", f"{type(error).__name__}: {error}"[:200]


@contextlib.contextmanager
def _limited_time(seconds: float) -> Iterator[None]:
    """End the process if the block needs more processor time; no Python code has to run for it."""
    if not _COUNTS_CPU:
        yield
        return
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _limit_memory(most: int) -> None:
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return
    with contextlib.suppress(ValueError, OSError):  # macOS does not take it
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
