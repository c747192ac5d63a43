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


def run_checks(checks, world, *, seconds=240):
    """Run functions without arguments on `world` ranks, in one launch; their seconds by name.

    The first that fails on any rank ends the launch: other ranks may be waiting for that one.
    Raises AssertionError with what that rank said, TimeoutError if all takes longer than `seconds`,
    with where each rank was. No process is left behind in any case.
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
            limit = time.monotonic() + seconds + 5
            while any(process.is_alive() for process in ranks) and time.monotonic() < limit:
                wait([process.sentinel for process in ranks if process.is_alive()], timeout=1)
                if any(process.exitcode for process in ranks):
                    break
            late = [process for process in ranks if process.is_alive()]
        finally:
            for process in ranks:
                if process.is_alive():
                    process.kill()
            for process in ranks:
                process.join()
        told = {file.name: file.read_text() for file in sorted(folder.glob("rank*"))}
        said = "\n".join(f"{name}: {text}" for name, text in told.items() if text)
        if any(process.exitcode for process in ranks if process not in late):
            raise AssertionError(said or [process.exitcode for process in ranks])
        if late:
            raise TimeoutError(f"{len(late)} of {world} ranks ran for {seconds} s: {said}")
        return json.loads((folder / "seconds").read_text())


def _rank(rank, world, folder, checks, seconds):
    end_with_parent()
    torch.set_num_threads(1)
    with open(folder / f"rank{rank}", "w") as log:
        faulthandler.dump_traceback_later(seconds, file=log)
        store, limit = f"file://{folder / 'store'}", datetime.timedelta(seconds=seconds)
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
            taken[str(check)] = time.perf_counter() - begun
        if rank == 0:
            (folder / "seconds").write_text(json.dumps(taken))
        dist.barrier()
        os._exit(0)  # gloo's threads may wait for ever where process groups are taken down
