"""Start a file on several ranks of this machine, from a notebook or a test, and always clean up.

torchrun (`torch.distributed.run`) starts the ranks and starts them again after a crash; what
stands here is around it: a time limit, each rank's words, and an end to every process, also when
the one that asked is killed. `python -m llama3lib.parallel.launch` is the guard that sees to it.
"""

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from llama3lib.utils.require import at_least, positive, require, whole

GRACE = 5.0
"""Seconds between asking the ranks to end and ending them."""
_ASKED = 124
"""Exit code of the guard when the time was over, as of the command `timeout`."""
_TAIL = 2000  # characters of a rank's words in an error


class LaunchError(RuntimeError):
    """The ranks did not come to their end; the message holds the words of the first to fail."""


@dataclass(frozen=True)
class Launched:
    """How it ended: what each rank wrote, and the seconds it took."""

    logs: tuple[str, ...]
    seconds: float


def launch(
    file: str | Path,
    *args: str,
    ranks: int,
    seconds: float = 120.0,
    max_restarts: int = 0,
    threads: int = 1,
) -> Launched:
    """Run `file` with these arguments on so many ranks, and wait for their end.

    seconds: for all of it. max_restarts: how often all ranks start again after one has failed.
    threads: of PyTorch in each rank.

    Raises ValueError naming the field for a wrong value, and LaunchError if a rank fails, the time
    is over, or no process may be started. No process is left behind in any case.
    """
    whole("ranks", ranks)
    whole("threads", threads)
    positive("seconds", seconds)
    at_least("max_restarts", max_restarts, 0)
    path = Path(file)
    require(path.is_file(), "file", str(file), "a file that exists")
    with tempfile.TemporaryDirectory(prefix="ranks-") as folder:
        command = [*_torchrun(ranks, max_restarts, folder), str(path), *args]
        guard = [
            sys.executable,
            "-m",
            "llama3lib.parallel.launch",
            str(seconds),
            str(GRACE),
            *command,
        ]
        begun = time.monotonic()
        try:
            process = subprocess.Popen(
                guard,
                stdin=subprocess.PIPE,  # closes when this process ends, however it ends
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=_environment(threads),
            )
        except OSError as error:
            raise LaunchError(f"no process can be started here: {error}") from error
        try:
            told = process.stdout.read()  # `communicate` would close the guard's standard input
        finally:  # Ctrl-C too: the guard ends all
            process.stdin.close()
            process.wait()
            process.stdout.close()
        logs = tuple(_log(Path(folder), rank) for rank in range(ranks))
        taken = time.monotonic() - begun
    if process.returncode == 0:
        return Launched(logs, taken)
    if process.returncode == _ASKED:
        raise LaunchError(f"seconds={seconds:g} are over; {_last_words(logs)}")
    raise LaunchError(_failed(logs, told.decode(errors="replace")))


def _torchrun(ranks: int, max_restarts: int, folder: str) -> list[str]:
    return [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
        *(f"--nproc-per-node={ranks}", f"--max-restarts={max_restarts}"),
        *(f"--log-dir={folder}", "--redirects=3", "--monitor-interval=0.2"),
    ]


def _environment(threads: int) -> dict[str, str]:
    """That of this process. Restarted ranks must not read the store of those that died."""
    return os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "PYTHONUNBUFFERED": "1",
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
    }


def _log(folder: Path, rank: int) -> str:
    """What a rank wrote, in all its starts; its errors behind it."""
    starts = sorted(folder.glob(f"*/attempt_*/{rank}"))
    files = [start / f"{name}.log" for start in starts for name in ("stdout", "stderr")]
    return "".join(f.read_text(encoding="utf-8", errors="replace") for f in files if f.exists())


def _last_words(logs: Sequence[str]) -> str:
    ends = [log.strip().splitlines()[-1] if log.strip() else "nothing" for log in logs]
    return "last lines: " + "; ".join(f"rank {rank}: {end}" for rank, end in enumerate(ends))


def _failed(logs: Sequence[str], told: str) -> str:
    """The rank whose own traceback it is, not that of one who missed another."""
    broken = [(rank, log) for rank, log in enumerate(logs) if "Traceback" in log]
    own = [(rank, log) for rank, log in broken if "peer" not in log]
    for rank, log in (own or broken)[:1]:
        return f"rank {rank} failed:\n{log[-_TAIL:]}"
    return f"the ranks ended with an error; {_last_words(logs)}\n{told[-_TAIL:]}"


# ---- the guard


def guard(seconds: float, grace: float, command: Sequence[str]) -> int:
    """Run a command to its end, to the end of its time, or of whoever holds our standard input.

    grace: seconds between asking it to end and ending it.
    """
    gone = threading.Event()
    threading.Thread(target=_wait_for_end_of_input, args=(gone,), daemon=True).start()
    own = psutil.Popen(command, stdin=subprocess.DEVNULL)
    end, family = time.monotonic() + seconds, {own}
    code = None
    while code is None and not gone.is_set() and time.monotonic() < end:
        family |= _descendants(own)  # whose parent has died can't be found any more later
        try:
            code = own.wait(0.1)
        except psutil.TimeoutExpired:
            continue
    _end_all(own, family | _descendants(own), grace)
    return code if code is not None else _ASKED


def _wait_for_end_of_input(gone: threading.Event) -> None:
    while os.read(0, 1):  # not sys.stdin, whose lock a waiting thread would keep at the end
        pass
    gone.set()


def _descendants(process: psutil.Process) -> set[psutil.Process]:
    try:
        return set(process.children(recursive=True))
    except psutil.NoSuchProcess:
        return set()


def _end_all(own: psutil.Process, family: set[psutil.Process], grace: float) -> None:
    """Ask torchrun to end, which asks its ranks; then end whatever is left."""
    if own.is_running():
        own.terminate()
        try:
            own.wait(grace)
        except psutil.TimeoutExpired:
            family |= _descendants(own)
    for process in family:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(family, GRACE)


if __name__ == "__main__":
    sys.exit(guard(float(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]))
