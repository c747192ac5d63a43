"""No check waits for ever. A call that takes too long is ended, and the learner is told."""

import ctypes
import threading
import time
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, wraps

from widgets.core.forms import short
from widgets.core.judge import Mistake

SECONDS_PER_CALL, SECONDS_IN_ALL = 5.0, 40.0
"""That one call of the learner's function, and all of them together, may compute."""
_LOOK, _AGAIN = 0.2, 0.002
_WAITING = 0.2  # what a second counts in which nothing is computed


def _clock() -> float:
    """Seconds of computing, and a part of all seconds: other programs may keep the machine busy."""
    return time.process_time() + _WAITING * time.monotonic()


class Stuck(BaseException):
    """Raised inside the learner's code; no Exception, so that `except Exception` lets it pass."""


class TimeLimit:
    """While a learner's function runs, a second thread looks at the clock.

    The thread ends a call that is too long by an exception in the caller's thread. It does so
    again and again until the call is over, for a bare `except:` may swallow the first one.
    """

    def __init__(self) -> None:
        self._caller = ctypes.c_ulong(threading.get_ident())
        self._over = threading.Event()
        self.inside, self._began, self._spent = False, 0.0, 0.0
        self._inputs: tuple = ()
        self._seconds: float | None = None
        self._times = 1
        self._told: Mistake | None = None
        self._ended_a_call = False
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def call(self, function: Callable, inputs: tuple) -> object:
        """The function's result, unless its time runs out."""
        self._inputs, self._began = inputs, _clock()
        self.inside = True
        try:
            return function(*inputs)
        finally:
            self.inside = False
            self._spent += _clock() - self._began

    def _watch(self) -> None:
        pause = _LOOK
        while not self._over.wait(pause):
            now, most = _clock() - self._began, self._most
            if self.inside and (now > most or self._spent + now > SECONDS_IN_ALL):
                self._ended_a_call, pause = now > most, _AGAIN
                # at the next step of the caller's thread
                ctypes.pythonapi.PyThreadState_SetAsyncExc(self._caller, ctypes.py_object(Stuck))

    @property
    def _most(self) -> float:
        return self._seconds or self._times * SECONDS_PER_CALL

    def close(self) -> None:
        """End the second thread; after this nothing is raised any more."""
        while True:
            try:
                self._over.set()
                self._thread.join()
                # one under way arrives here; to take it back by PyThreadState_SetAsyncExc(…, None)
                # would leave the interpreter waiting for it, for ever under a debugger
                for _ in range(100):
                    pass
                return
            except Stuck:
                continue

    @contextmanager
    def within(self, seconds: float, told: Mistake) -> Iterator[None]:
        """Inside, a call may take so many seconds; a longer one is this mistake."""
        self._seconds, self._told = seconds, told
        yield
        self._seconds, self._told = None, None  # not after an error: it is told with these

    @contextmanager
    def longer(self, times: int) -> Iterator[None]:
        """Inside, a call may take so many times as long: something is trained in it."""
        self._times = times
        yield
        self._times = 1  # not after an error, as above

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """While something of ours runs that the learner's code has called, the clock stands."""
        self.inside, paused = False, _clock()
        try:
            yield
        finally:
            self._began += _clock() - paused
            self.inside = True

    def mistake(self) -> Mistake:
        """What to tell of a call that was ended."""
        shows = ", ".join(short(value) for value in self._inputs)
        if self._ended_a_call and self._told:
            return self._told
        if self._ended_a_call:
            why = f"It was stopped after {self._most:g} seconds. "
            why += "Which loop never comes to its end?"
            return Mistake("your code does not end", shows=shows, why=why)
        why = f"It was stopped after {SECONDS_IN_ALL:g} seconds in all. Most answers need less "
        return Mistake("your code is too slow", shows=shows, why=f"{why}than 3.")


class Watched:
    """A learner's function under a time limit. A function that it returns is watched as well."""

    def __init__(self, function: Callable, limit: TimeLimit) -> None:
        self._function, self.limit = function, limit
        self.__name__ = getattr(function, "__name__", "function")

    def __call__(self, *inputs: object, **named: object) -> object:
        function = partial(self._function, **named) if named else self._function
        if self.limit.inside:  # called by the learner's own code
            return function(*inputs)
        result = self.limit.call(function, inputs)
        plain = isinstance(result, types.FunctionType | types.MethodType | partial)
        return Watched(result, self.limit) if plain else result

    def uncounted(self, function: Callable) -> Callable:
        """A function of ours that is handed to the learner's: its time is not theirs."""

        @wraps(function)
        def ours(*inputs: object) -> object:
            with self.limit.stopped():
                return function(*inputs)

        return ours


def within_limits(work: Callable[[TimeLimit], None]) -> None:
    """Do work that calls a learner's functions; raises `Mistake` if one of them does not end."""
    limit = TimeLimit()
    try:
        work(limit)
    except Stuck as stuck:
        limit.close()
        raise limit.mistake() from stuck
    finally:
        limit.close()
