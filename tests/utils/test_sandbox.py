"""The sandbox: every way in which a call may go wrong, and the call after it."""

import gc
import os
import pickle
import signal
import subprocess
import sys
import threading

import psutil
import pytest
from timing_tools import alive, wait_until

from llama3lib.data.extract import Extract
from llama3lib.utils.sandbox import Refused, Sandbox

# functions that a child can import; what they are asked to do is in their argument
UPPER = str.upper


@pytest.fixture(scope="module")
def sandbox():
    with_child = Sandbox(memory_bytes=1 << 30)
    yield with_child
    with_child.close()


def refused(sandbox, function, text, reason, seconds=5.0):
    with pytest.raises(Refused) as caught:
        sandbox.call(function, text, seconds=seconds)
    assert caught.value.reason == reason
    assert sandbox.call(UPPER, "still here", seconds=30) == "STILL HERE"
    return caught.value.detail


def test_an_answer_and_one_child_for_many(sandbox):
    assert sandbox.call(UPPER, "abc") == "ABC"
    child = sandbox._child.pid
    assert [sandbox.call(len, "x" * n) for n in (0, 1, 5_000_000)] == [0, 1, 5_000_000]
    assert len(sandbox.call(UPPER, "x" * 3_000_000)) == 3_000_000
    assert sandbox._child.pid == child != os.getpid()


def test_too_slow(sandbox):
    child = sandbox.call(UPPER, "x") and sandbox._child.pid
    assert refused(sandbox, exec, "while True: pass", "too slow", 0.3) == "over 0.3 s"
    assert sandbox._child.pid != child
    # what never comes back to Python: an expression that goes on for years
    refused(sandbox, exec, "import re; re.match('(a+)+b', 'a' * 60)", "too slow", 0.3)
    # what only waits is ended by the clock
    refused(sandbox, exec, "import time; time.sleep(600)", "too slow", 0.005)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="Windows counts no processor time")
def test_time_that_others_take_does_not_count(sandbox):
    """A child that is stopped for longer than its limit, as by a busy machine, still answers."""
    sandbox.call(UPPER, "x")
    child = sandbox._child.pid
    os.kill(child, signal.SIGSTOP)
    going_on = threading.Timer(1.0, os.kill, (child, signal.SIGCONT))
    going_on.start()
    assert sandbox.call(UPPER, "waited", seconds=0.2) == "WAITED"
    going_on.join()
    assert sandbox._child.pid == child


def test_a_package_that_is_missing_is_no_answer(sandbox):
    with pytest.raises(ModuleNotFoundError) as caught:
        sandbox.call(exec, "import lxml_of_tomorrow.html")
    assert caught.value.name == "lxml_of_tomorrow"
    assert sandbox.call(UPPER, "still here") == "STILL HERE"


def test_a_child_ends_with_a_parent_that_was_killed(tmp_path):
    code = "from llama3lib.utils.sandbox import Sandbox; import time; box = Sandbox()\n"
    code += "box.call(str.upper, 'x'); print(box._child.pid, flush=True)\n"
    code += "box.call(exec, 'import time; time.sleep(600)', seconds=600)"
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.communicate()
    wait_until(lambda: not alive(child), 30)


@pytest.mark.parametrize(
    "text",
    [
        "import os; os._exit(3)",
        "import os; os.kill(os.getpid(), 9)",
        "raise SystemExit(0)",
    ],
)
def test_crash(sandbox, text):
    refused(sandbox, exec, text, "crashed")


@pytest.mark.skipif(sys.platform != "linux", reason="the limit on memory works on Linux")
def test_memory(sandbox):
    refused(sandbox, exec, "x = bytearray(3 << 30)", "too much memory")


def test_errors_have_two_kinds(sandbox):
    assert refused(sandbox, exec, "raise ValueError('no ' * 900)", "refused") == ("no " * 900)[:200]
    assert refused(sandbox, exec, "f = lambda: f()\nf = eval('lambda g: g(g)')\nf(f)", "refused")
    assert "KeyError" in refused(sandbox, exec, "{}['x']", "failed")
    assert sandbox.call(eval, "1 + 1") == 2


def test_questions_and_answers_that_cannot_travel(sandbox):
    with pytest.raises(Exception, match=r"(?i)pickle|local"):
        sandbox.call(lambda text: text, "x")
    assert sandbox.call(UPPER, "after") == "AFTER"
    refused(sandbox, eval, "lambda: 0", "crashed")  # no function of a child's own comes back


def test_after_the_child_was_killed_from_outside(sandbox):
    sandbox.call(UPPER, "x")
    sandbox._child.kill()
    sandbox._child.join()
    assert sandbox.call(UPPER, "again", seconds=30) == "AGAIN"
    sandbox.close()
    sandbox.close()
    assert sandbox.call(UPPER, "and again", seconds=30) == "AND AGAIN"


def test_a_copy_has_a_child_of_its_own(sandbox):
    sandbox.call(UPPER, "x")
    copy = pickle.loads(pickle.dumps(sandbox))
    assert copy.memory_bytes == sandbox.memory_bytes and copy._child is None
    try:
        assert copy.call(UPPER, "copy", seconds=30) == "COPY"
        assert copy._child.pid != sandbox._child.pid
    finally:
        copy.close()
    assert sandbox.call(UPPER, "mine") == "MINE"


def test_two_threads_do_not_mix_their_answers(sandbox):
    wrong = []

    def ask(letter):
        for n in range(50):
            if sandbox.call(UPPER, letter * n, seconds=30) != letter.upper() * n:
                wrong.append(letter)

    threads = [threading.Thread(target=ask, args=(letter,)) for letter in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_step_can_be_sent_to_another_process():
    step = pickle.loads(pickle.dumps(Extract(seconds=3)))
    assert step == Extract(seconds=3) and step.sandbox._child is None


def test_a_sandbox_that_nobody_holds_any_more_ends_its_child():
    sandbox = Sandbox()
    assert sandbox.call(str.upper, "a") == "A"
    child = sandbox._child
    del sandbox
    gc.collect()
    assert not child.is_alive()
