"""What tests use instead of clocks says no when it should, and only then."""

import itertools
import subprocess
import sys
import time

import pytest
import timing_tools
from timing_tools import SLOWNESS, assert_linear, deadline, patient, slowness, wait_until


@pytest.fixture
def costs(monkeypatch):
    """A process whose CPU time is what its work says."""
    used = [0.0]
    monkeypatch.setattr(timing_tools.time, "process_time", lambda: used[0])
    return lambda seconds: used.__setitem__(0, used[0] + seconds)


def test_growth_in_proportion_passes_and_its_square_does_not(costs):
    assert_linear(costs, 1.0, 4.0, at_most=8)
    assert_linear(costs, 1e-9, 4e-3, at_most=8)  # what takes no time at all is linear
    with pytest.raises(AssertionError, match=r"16\.0 times the time, 8 allowed"):
        assert_linear(costs, 1.0, 16.0, at_most=8)


def test_a_disturbed_run_is_tried_again(costs):
    disturbances = itertools.chain([20.0, 9.0], itertools.repeat(0.0))
    assert_linear(lambda n: costs(n + (next(disturbances) if n > 1 else 0)), 1.0, 4.0, at_most=8)


def test_a_slower_machine_gets_more_time(monkeypatch):
    slowness.cache_clear()
    monkeypatch.setenv(SLOWNESS, "3")
    assert patient(10) == 30
    slowness.cache_clear()
    monkeypatch.delenv(SLOWNESS)
    assert slowness() >= 1
    child = subprocess.run(  # it is told, and does not measure again
        [sys.executable, "-c", "import os; print(os.environ['LLAMA3_TEST_SLOWNESS'])"],
        capture_output=True,
        encoding="utf-8",
    )
    assert float(child.stdout) == slowness()
    slowness.cache_clear()


@pytest.mark.skipif(sys.platform == "win32", reason="no alarm signal")
def test_what_does_not_end_is_stopped(monkeypatch):
    monkeypatch.setattr(timing_tools, "slowness", lambda: 1.0)
    with pytest.raises(AssertionError, match="the loop does not end in 0 seconds"):
        with deadline(0.05, "the loop"):
            while True:
                pass
    with deadline(0.05):
        pass
    time.sleep(0.1)  # the alarm is off


def test_waiting_ends_with_the_wish_or_the_time(monkeypatch):
    monkeypatch.setattr(timing_tools, "slowness", lambda: 1.0)
    answers = iter([False, 0, "there"])
    wait_until(lambda: next(answers))
    with pytest.raises(AssertionError, match="waited in vain"):
        wait_until(lambda: False, 0.02)
