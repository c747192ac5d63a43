"""A command on several ranks: it starts them itself, unless torchrun has done so already.

Each rank runs the same command line. Rank 0 speaks for all. What every rank finds wrong ends the
command at once; after a rank has died, all start again if `restarts` says so.
"""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llama3lib.train.mesh import MeshConfig

_IN_ORDER = (0, 1, 2, 128 + signal.SIGINT)
_WRONG = (ValueError, FileNotFoundError, NotADirectoryError, PermissionError)
_GRACE = 40.0  # seconds to end in order; torchrun kills its ranks after 30


def under_torchrun() -> bool:
    """Whether this process is one rank of several."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def words_of(command: Any, places: Sequence[str] = ()) -> list[str]:
    """A command line's options, but for those that are as always; a dataclass of them in one.

    places: fields that have a place instead of a name, in their order.
    """
    words = [str(getattr(command, name)) for name in places]
    for field in fields(command):
        value, name = getattr(command, field.name), f"--{field.name.replace('_', '-')}"
        if is_dataclass(value):
            words += words_of(value)
        elif field.name not in places and value != field.default:
            words += [name] if value is True else [name, str(value)]
    return words


def start_ranks(
    module: str,
    words: Sequence[str],
    ranks: int,
    restarts: int,
    *,
    again: str = "all start again from the last checkpoint",
) -> int:
    """Run `python -m module words...` on so many ranks of this machine; returns the exit code.

    again: what a restart means, in words.
    No process is left behind, however this one ends. Ctrl-C and SIGTERM reach the ranks as SIGTERM.
    """
    for attempt in range(restarts + 1):
        code = _run(module, words, ranks)
        if code in _IN_ORDER:
            return code
        left = restarts - attempt
        told = f"{again} ({left} left)" if left else "giving up"
        print(f"llama3: a rank was lost; {told}", file=sys.stderr, flush=True)
    return 1


def _run(module: str, words: Sequence[str], ranks: int) -> int:
    elastic = (sys.executable, "-m", "llama3lib.cli.ranks", "--standalone", "--no-python")
    command = [*elastic, f"--nproc-per-node={ranks}", "--monitor-interval=0.2"]
    command += [sys.executable, "-m", module, *words]
    guard = [sys.executable, "-m", "llama3lib.parallel.launch", "inf", str(_GRACE), *command]
    threads = str(max(1, (os.cpu_count() or 1) // ranks))
    environment = {"OMP_NUM_THREADS": threads} | os.environ
    environment |= {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    try:
        process = subprocess.Popen(
            guard, stdin=subprocess.PIPE, env=environment, start_new_session=True
        )
    except OSError as error:
        raise ValueError(f"mesh: no process can be started here: {error}") from None
    try:
        return process.wait()
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    finally:
        process.stdin.close()  # the guard ends all
        process.wait()


def elastic(words: Sequence[str]) -> int:
    """torchrun without its own words; returns how the first rank to fail ended, as a shell does."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main

    logging.disable(logging.CRITICAL)  # also of a process that has to be ended by force
    try:
        main(list(words))
    except ChildFailedError as error:
        code = error.get_first_failure()[1].exitcode
        return 128 - code if code < 0 else code
    except SignalException:
        return 128 + signal.SIGINT
    return 0


def join(mesh: "MeshConfig", device: str) -> int:
    """Take part in what torchrun has started, if it has, and be silent on other ranks than 0.

    Returns the number of this rank. Raises ValueError if there are fewer GPUs than ranks or the
    ranks don't find each other.
    """
    if not under_torchrun():
        return 0
    from llama3lib.train.mesh import meet

    rank = meet(mesh, device)
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module")  # nothing is added in place
    logging.getLogger("torch.distributed").setLevel(logging.ERROR)  # on how it gathers weights
    if rank > 0:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")
        logging.disable(logging.WARNING)
    return rank


def as_rank(run: Callable[[], int]) -> int:
    """Do a rank's work; the exit code. Under torchrun it does not return, for threads that wait
    for a rank that is gone would keep the process from its end."""
    if not under_torchrun():
        return run()
    code = _end_of(run)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(code)


def _end_of(run: Callable[[], int]) -> int:
    """`LOST` for what no rank could foresee."""
    from llama3lib.train.interrupt import LOST

    rank = os.environ["RANK"]
    try:
        return run()
    except _WRONG as error:
        if rank != "0":
            time.sleep(2.0)  # if rank 0 found it too, it says so, and this process is ended
        print(f"llama3: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except Exception as error:
        told = " ".join(str(error).split())
        if any(word in told for word in ("peer", "onnection", "Timed out", "NCCL")):
            if rank != "0":
                time.sleep(2.0)  # whose fault it was says so, and this process is ended
            print(f"llama3: rank {rank} lost another rank: {told[:200]}", file=sys.stderr)
        else:
            traceback.print_exc()
        return LOST
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(elastic(sys.argv[1:]))
