"""Runs killed at chosen and at random moments end with the same bits, and never hang."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from timing_tools import patient

SCRIPT = Path(__file__).with_name("killed_runs.py")


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked")
@pytest.mark.parametrize(
    ("chosen", "random"), [(8, 6), pytest.param(60, 100, marks=pytest.mark.long)]
)
def test_a_killed_run_ends_with_the_bits_of_one_that_was_not(tmp_path, chosen, random):
    command = [sys.executable, str(SCRIPT), str(tmp_path), str(chosen), str(random)]
    done = subprocess.run(
        command,
        capture_output=True,
        encoding="utf-8",
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=patient(20 * (chosen + random)),
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["wrong"] == [], "\n".join(told["wrong"]) + done.stderr[-3000:]
    assert told["hangs"] == 0
    assert told["kills"] >= chosen + random
