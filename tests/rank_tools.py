"""Several gloo processes for a test: started once for many checks, ended whatever happens."""

import datetime
import faulthandler
import json
import os
import tempfile
import time
import traceback
from multiprocessing.connection import wait
from pathlib import Path

import torch
import torch.distributed as dist

from llama3lib.utils.processes import end_with_parent, worker_context

_SLOW_TO_IMPORT = ["torch", "llama3lib.train", "llama3lib.parallel.model"]
_START = 120  # seconds: the first ranks of a run of tests wait for these imports


def run_checks(checks, world, *, seconds=240):
    """Run functions without arguments on `world` ranks, in one launch; their seconds by name.

    The first that fails on any rank ends the launch: other ranks may be waiting for that one.
    Raises AssertionError with what that rank said, or TimeoutError with where each rank was if
    they take longer than `seconds` once started. No process is left behind in any case.
    """
    context = worker_context()
    context.set_forkserver_preload(_SLOW_TO_IMPORT)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ranks = [
            context.Process(target=_rank, args=(rank, world, folder, list(checks), seconds))
            for rank in range(world)
        ]
        try:
            for process in ranks:
                process.start()
            _wait(ranks, lambda: len(_told(folder)) == world, _START)
            _wait(ranks, lambda: False, seconds + 2)
            late = [process for process in ranks if process.is_alive()]
        finally:
            for process in ranks:
                if process.is_alive():
                    process.kill()
                process.join()
        codes = {process.exitcode for process in ranks if process not in late}
        said = "\n".join(f"{rank}: {text}" for rank, text in _told(folder).items() if text)
        if codes - {0}:
            raise AssertionError(said or f"exit codes {codes}")
        if late:
            raise TimeoutError(f"{len(late)} of {world} ranks ran for {seconds} s: {said}")
        return json.loads((folder / "seconds").read_text())


def _wait(ranks, ready, seconds):
    """Until something is ready, a rank has failed, all have ended, or the time is over."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit and not ready() and not any(p.exitcode for p in ranks):
        alive = [process.sentinel for process in ranks if process.is_alive()]
        if not alive:
            break
        wait(alive, timeout=0.2)


def _told(folder):
    return {file.name: file.read_text() for file in sorted(folder.glob("rank*"))}


def _rank(rank, world, folder, checks, seconds):
    end_with_parent()
    torch.set_num_threads(1)
    with open(folder / f"rank{rank}", "w") as log:
        faulthandler.dump_traceback_later(seconds, file=log)
        store, limit = f"file://{folder / 'store'}", datetime.timedelta(seconds=4 * seconds)
        dist.init_process_group(
            "gloo", init_method=store, rank=rank, world_size=world, timeout=limit
        )
        taken = {}
        for check in checks:
            begun = time.perf_counter()
            try:
                check()
            except Exception:
                print(f"in {check}", traceback.format_exc(), file=log, flush=True)
                os._exit(1)
            taken[name_of(check)] = time.perf_counter() - begun
        if rank == 0:
            (folder / "seconds").write_text(json.dumps(taken))
        dist.barrier()
        os._exit(0)  # gloo's threads may wait for ever where process groups are taken down


def name_of(check):
    """A function's name, or what a check calls itself."""
    return getattr(check, "__name__", str(check))
