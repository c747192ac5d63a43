"""Children that end with their parent, however that ends."""

import subprocess
import sys

import psutil
from timing_tools import alive, wait_until

POOL = """
import os, sys, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from llama3lib.utils.processes import end_with_parent, without_main_file
with without_main_file(), ProcessPoolExecutor(
    2, get_context("spawn"), initializer=end_with_parent
) as pool:
    print(*{pool.submit(os.getpid).result() for _ in range(9)}, flush=True)
    pool.submit(time.sleep, 600)  # one is at work, the other waits for some
"""


def test_workers_of_a_pool_end_with_a_parent_that_was_killed():
    parent = subprocess.Popen([sys.executable, "-c", POOL], stdout=subprocess.PIPE, text=True)
    parent.stdout.readline()
    workers = psutil.Process(parent.pid).children(recursive=True)
    parent.kill()
    parent.communicate()
    assert len(workers) >= 2
    wait_until(lambda: not any(map(alive, workers)), 30)
