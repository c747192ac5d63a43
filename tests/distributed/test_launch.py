"""The launcher: words of each rank, limits, restarts, and no process left behind."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from timing_tools import wait_until

from llama3lib.parallel.launch import LaunchError, launch

pytestmark = pytest.mark.distributed
FILE = Path(__file__).with_name("ranks_file.py")


def left_behind(mark):
    """Processes that were started with this word among their arguments."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if mark in words and process.status() != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


@pytest.fixture
def mark(tmp_path):
    """A word of this test alone; nothing that was started with it may run afterwards."""
    yield tmp_path.name
    assert left_behind(tmp_path.name) == []


def test_each_rank_tells_its_own(mark):
    done = launch(FILE, "works", mark, ranks=2, threads=1)
    assert done.logs == ("rank 0: 1, 1 threads\n", "rank 1: 1, 1 threads\n")
    assert done.seconds > 0


def test_a_rank_that_fails_is_named_with_its_own_words(mark):
    with pytest.raises(LaunchError, match="rank 1 failed") as caught:
        launch(FILE, "raises", mark, ranks=2)
    assert "ValueError: rank 1 has had enough" in str(caught.value)


def test_a_rank_that_hangs_ends_with_the_time(mark):
    with pytest.raises(LaunchError, match="seconds=20 are over; last lines: rank 0: rank 0"):
        launch(FILE, "hangs", mark, ranks=2, seconds=20)


def test_a_killed_rank_starts_all_again(mark):
    done = launch(FILE, "dies once", mark, ranks=2, max_restarts=2)
    assert [log.count("1 threads") for log in done.logs] == [2, 2]


def test_a_killed_parent_leaves_nobody(mark):
    asks = f"from llama3lib.parallel.launch import launch; launch({str(FILE)!r}, 'hangs', "
    parent = subprocess.Popen([sys.executable, "-c", asks + f"{mark!r}, ranks=2)"])
    wait_until(lambda: len(left_behind(mark)) >= 4, 60)  # guard, torchrun, two ranks
    parent.kill()
    parent.wait()
    wait_until(lambda: not left_behind(mark), 30)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"ranks": 0}, "ranks=0"),
        ({"ranks": 2, "seconds": 0}, "seconds=0"),
        ({"ranks": 2, "max_restarts": -1}, "max_restarts=-1"),
        ({"ranks": 2, "threads": 0}, "threads=0"),
    ],
)
def test_wrong_values_are_named(wrong, said):
    with pytest.raises(ValueError, match=said):
        launch(FILE, "works", **wrong)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match="file='.*nothing.py' is not allowed: a file that exists"):
        launch(tmp_path / "nothing.py", ranks=2)


def test_where_no_process_may_start(monkeypatch):
    def forbidden(*args, **kwargs):
        raise PermissionError("not here")

    monkeypatch.setattr(subprocess, "Popen", forbidden)
    with pytest.raises(LaunchError, match="no process can be started here: not here"):
        launch(FILE, "works", ranks=2)


@pytest.mark.long
def test_twenty_restarts_of_twenty(mark):
    for _ in range(20):
        done = launch(FILE, "dies once", mark, ranks=2, max_restarts=1)
        assert [log.count("1 threads") for log in done.logs] == [2, 2]
