"""Run a parser on bytes from strangers in a child process: limited in time and memory.

One child serves many calls, since starting one takes a second. It is killed when a call takes too
long, and a new one is started for the next call. A crash of the parser is an answer too.
"""

import contextlib
import multiprocessing
import os
import threading
import weakref
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import TypeVar

from llama3lib.utils.processes import without_main_file

T = TypeVar("T")
_START = 60.0  # seconds for a child to come up; a busy machine needs a few


class Refused(Exception):
    """The call gave no answer: `reason` is one of few fixed words."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail = reason, detail


class Sandbox:
    """A child process for calls that may hang, swell or crash.

    Memory is limited where the system can do it (not on Windows and macOS). A copy that comes to
    another process, by pickling or forking, starts a child of its own.
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

        Raises Refused if it takes longer than `seconds` ("too slow"), if the child dies ("crashed"
        or "too much memory"), or if the function raises ("refused": a ValueError; "failed").
        """
        if self._owner != os.getpid():
            self._forget()
        with self._lock:
            pipe = self._running()
            try:
                pipe.send((function, text))
                if not pipe.poll(seconds):
                    raise Refused("too slow", f"over {seconds:g} s")
                kind, answer = pipe.recv()
            except Refused:
                self.close()
                raise
            except (EOFError, OSError) as error:
                self.close()
                raise Refused("crashed", type(error).__name__) from error
            except BaseException:  # Ctrl-C between question and answer: the two would mix
                self.close()
                raise
        if kind == "answer":
            return answer
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
    _limit_memory(memory_bytes)
    pipe.send("up")
    while True:
        try:
            function, text = pipe.recv()
        except (EOFError, OSError, KeyboardInterrupt):
            return
        try:
            reply = ("answer", function(text))
        except ValueError as error:
            reply = ("refused", str(error)[:200])
        except MemoryError:
            reply = ("too much memory", "")
        except RecursionError:
            reply = ("refused", "nested too deep")
        except KeyboardInterrupt:
            return
        except Exception as error:
            reply = ("failed", f"{type(error).__name__}: {error}"[:200])
        pipe.send(reply)


def _limit_memory(most: int) -> None:
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return
    with contextlib.suppress(ValueError, OSError):  # macOS does not take it
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
