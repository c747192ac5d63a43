"""Runs killed at chosen and at random moments end with the same bits, and never hang."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("killed_runs.py")
LONG = os.environ.get("LLAMA3_LONG_TESTS") == "1"
CHOSEN, RANDOM = (60, 100) if LONG else (12, 12)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked")
def test_a_killed_run_ends_with_the_bits_of_one_that_was_not(tmp_path):
    command = [sys.executable, str(SCRIPT), str(tmp_path), str(CHOSEN), str(RANDOM)]
    done = subprocess.run(
        command,
        capture_output=True,
        encoding="utf-8",
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=3000,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["wrong"] == [], "\n".join(told["wrong"]) + done.stderr[-3000:]
    assert told["hangs"] == 0
    assert told["kills"] >= CHOSEN + RANDOM
