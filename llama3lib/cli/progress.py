"""How far a long command is: a bar in a terminal, a line every so often elsewhere."""

import contextlib
import sys
import time
from collections.abc import Iterator

_LINES = 20  # of the whole, at least: where it is read later, as in the log of a job
_PATIENCE = 60.0  # seconds without a line, at most


class Progress(contextlib.AbstractContextManager):
    """Of what is counted one by one, such as steps: a bar on standard error, or lines.

    unit: what one of them is called. begun: how many were done before.
    """

    def __init__(self, unit: str, total: int, begun: int = 0) -> None:
        from tqdm import tqdm

        self._unit, self._total = unit, total
        self._bar = None
        if sys.stderr.isatty():
            self._bar = tqdm(total=total, initial=begun, unit=unit)
        self._first: tuple[int, float] | None = None
        self._told = 0.0

    def reach(self, done: int, *words: str, now: bool = False) -> None:
        """So many are done; `words` go with it. now: this one is worth a line."""
        if self._bar is not None:
            self._bar.set_postfix_str(", ".join(words), refresh=False)
            self._bar.update(done - self._bar.n)
            return
        clock = time.monotonic()
        if self._first is None:  # from here on: what comes before it is of another kind
            self._first, now = (done, clock), True
        due = done % max(1, self._total // _LINES) == 0 or done == self._total
        if now or due or clock - self._told > _PATIENCE:
            self._told = clock
            begun, start = self._first
            if done > begun:
                rest = max(0, self._total - done) / (done - begun) * (clock - start)
                words = (*words, f"{_spoken(rest)} left")
            count = f"{self._unit} {done:,} of {self._total:,}"
            print(": ".join([count, ", ".join(words)]) if words else count, flush=True)

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()


def _spoken(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}"


def watch_texts(name: str, texts: Iterator[str]) -> Iterator[str]:
    """The texts of a source as they come; tells how many there were so far."""
    if sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(texts, desc=f"reading {name}", unit=" documents", leave=False)
        return
    told = time.monotonic()
    for number, text in enumerate(texts, 1):
        yield text
        if number % 1000 == 0 and time.monotonic() - told > _PATIENCE:
            told = time.monotonic()
            print(f"reading {name}: {number:,} documents", flush=True)
