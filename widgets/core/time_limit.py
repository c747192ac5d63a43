"""No check waits for ever. A call that takes too long is ended, and told."""

import ctypes
import reprlib
import threading
import time
from collections.abc import Callable
from functools import wraps

from torch import Tensor

from widgets.core.judge import Mistake

A_CALL, IN_ALL = 5.0, 40.0
"""Seconds that one call of the learner's function, and all of them together, may take."""
_LOOK, _AGAIN = 0.2, 0.002


class _Stuck(BaseException):
    """Raised inside the learner's code; no Exception, so that `except Exception` lets it pass."""


class Patience:
    """The learner's function; while it runs, a second thread looks at the clock.

    The thread ends a call that is too long by an exception in the caller's thread. It does so
    again and again until the call is over, for a bare `except:` may swallow the first one.
    """

    def __init__(self, function: Callable) -> None:
        self._function = function
        self._caller = ctypes.c_ulong(threading.get_ident())
        self._over = threading.Event()
        self._inside, self._began, self._spent = False, 0.0, 0.0
        self._inputs: tuple = ()
        self._stopped_call = False
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def __call__(self, *inputs: object) -> object:
        self._inputs, self._began = inputs, time.monotonic()
        self._inside = True
        try:
            return self._function(*inputs)
        finally:
            self._inside = False
            self._spent += time.monotonic() - self._began

    def _watch(self) -> None:
        pause = _LOOK
        while not self._over.wait(pause):
            now = time.monotonic() - self._began
            if self._inside and (now > A_CALL or self._spent + now > IN_ALL):
                self._stopped_call, pause = now > A_CALL, _AGAIN
                self._raise(ctypes.py_object(_Stuck))

    def _raise(self, error: ctypes.py_object | None) -> None:
        """Let the caller's thread raise this at its next step; None takes it back."""
        ctypes.pythonapi.PyThreadState_SetAsyncExc(self._caller, error)

    def close(self) -> None:
        """End the second thread; after this nothing is raised any more."""
        while self._thread.is_alive():
            try:
                self._over.set()
                self._thread.join()
            except _Stuck:  # one that was under way
                continue
        self._raise(None)

    def mistake(self) -> Mistake:
        """What to tell of a call that was ended."""
        told = ", ".join(_told(value) for value in self._inputs)
        if self._stopped_call:
            why = f"It was stopped after {A_CALL:g} seconds. Which loop never comes to its end?"
            return Mistake("your code does not end", shows=told, why=why)
        why = f"It was stopped after {IN_ALL:g} seconds in all. Most answers need less than 3."
        return Mistake("your code is too slow", shows=told, why=why)


_SHORT = reprlib.Repr()
_SHORT.maxlist = _SHORT.maxtuple = 8
_SHORT.maxother = 60


def _told(value: object) -> str:
    """An input in few words, however long it has become."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {list(value.shape)}"
    return _SHORT.repr(value)


def patiently(name: str, checker: Callable[[Callable], None]) -> Callable[[object], None]:
    """A checker of the function `name`, that ends also if the function does not."""

    @wraps(checker)
    def judge(answer: object) -> None:
        if not callable(answer):
            raise Mistake("check needs the function", why=f"Hand over {name} itself, not called.")
        watched = Patience(answer)
        try:
            checker(watched)
        except _Stuck as stuck:
            watched.close()
            raise watched.mistake() from stuck
        finally:
            watched.close()

    return judge
