"""Sweeps in trouble: Ctrl-C, killed parents and workers, two at once in one folder."""

import contextlib
import json
import logging
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from timing_tools import deadline, patient, wait_until

from llama3lib.scaling import Budget, SweepConfig, cells, finished, one_run, run_sweep
from llama3lib.scaling import sweep as sweep_module
from llama3lib.scaling.records import record_path
from llama3lib.scaling.sweep import BusyError, prepare, waiting
from llama3lib.scaling.workers import side_by_side
from llama3lib.utils.locks import locked

CONFIG = SweepConfig(
    budgets=(Budget(flops=2e8, models=((4, 1), (6, 1)), batch_size=1),),
    invented=300,
    n_heads=1,
    length=32,
    test_windows=10,
)
ENDLESS = replace(
    CONFIG,  # runs of hours: whoever waits for their end fails
    budgets=(Budget(flops=1e13, models=((4, 1), (6, 1), (8, 1), (10, 1)), batch_size=1),),
)
FOLDERS = [str(folder) for folder in Path(__file__).parents[:2]]  # of this file and its tools
posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    run_sweep(CONFIG, folder, processes=1)
    return folder


@pytest.fixture
def copy(made, tmp_path):
    return shutil.copytree(made, tmp_path / "copy")


# ---- processes

PROGRAM = """
import signal
import sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
sys.path[:0] = {folders!r}
from test_sweep_trouble import ENDLESS, run_sweep
run_sweep(ENDLESS, {folder!r}, processes=2)
"""


@contextlib.contextmanager
def endless(folder):
    """A sweep with two runs of hours under way, and two to come; its process and its workers."""
    program = PROGRAM.format(folders=FOLDERS, folder=str(folder))
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(lambda: len(begun(folder)) == 2 or parent.poll() is not None)
        children = psutil.Process(parent.pid).children(recursive=True)
        yield parent, children
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(parent.pid, signal.SIGKILL)
        parent.communicate()


def begun(folder):
    return list(folder.glob("work/*/metrics.jsonl"))


def check_stopped(folder, children):
    _, alive = psutil.wait_procs(children, timeout=patient(60))
    assert not alive
    assert len(begun(folder)) == 2  # none was begun afterwards
    saved = list(folder.glob("work/*/checkpoints/step-*/manifest.json"))
    assert {path.parts[-4] for path in saved} == {path.parts[-2] for path in begun(folder)}
    assert not list(folder.glob("runs/*.json"))


@pytest.mark.slow
@posix
@pytest.mark.parametrize("whom", ["group", "parent"])
def test_an_interrupt_saves_the_runs_under_way_and_begins_no_other(whom, tmp_path):
    with endless(tmp_path) as (parent, children):
        if whom == "group":
            os.killpg(parent.pid, signal.SIGINT)
        else:
            os.kill(parent.pid, signal.SIGINT)
        _, told = parent.communicate(timeout=patient(60))
        assert parent.returncode != 0 and "KeyboardInterrupt" in told
        check_stopped(tmp_path, children)


@pytest.mark.slow
@posix
def test_workers_stop_when_their_parent_is_gone(tmp_path):
    with endless(tmp_path) as (parent, children):
        parent.kill()
        assert parent.wait(60) == -signal.SIGKILL
        check_stopped(tmp_path, children)


def work(job, stop):
    """What a worker does in these tests."""
    kind, value = job
    if kind == "fail":
        raise ValueError("a planted mistake")
    if kind == "die":
        os._exit(value)
    if kind == "deaf":
        wait_until(lambda: False)
    if kind == "wait":
        wait_until(stop)
        raise KeyboardInterrupt
    return value, os.getpid()


@pytest.fixture
def no_worker_left():
    """Asks whether all processes that this test started are gone; others may have their own."""
    before = {process.pid for process in multiprocessing.active_children()}
    return lambda: {process.pid for process in multiprocessing.active_children()} <= before


@pytest.mark.slow
def test_workers_answer_and_an_error_comes_back_with_its_place(no_worker_left):
    jobs = {str(n): ("return", n) for n in range(5)}
    answers = dict(side_by_side(work, jobs, 2))
    assert {name: value for name, (value, _) in answers.items()} == {n: int(n) for n in jobs}
    assert os.getpid() not in {process for _, process in answers.values()}
    jobs = {"long": ("wait", 0), "bad": ("fail", 0), "next": ("return", 1)}
    with pytest.raises(ValueError, match="a planted mistake") as caught:
        list(side_by_side(work, jobs, 2))
    assert "in work" in caught.value.__notes__[0]
    assert no_worker_left()


@pytest.mark.slow
def test_a_worker_that_dies_is_told_by_the_name_of_its_run(no_worker_left):
    with pytest.raises(RuntimeError, match=r"bad: its process ended by itself \(exit code 7\)"):
        list(side_by_side(work, {"long": ("wait", 0), "bad": ("die", 7)}, 2))
    assert no_worker_left()


@pytest.mark.slow
@posix
def test_a_second_interrupt_kills_workers_that_do_not_stop(no_worker_left):
    answers = side_by_side(work, {"quick": ("return", 3), "deaf": ("deaf", 0)}, 2)
    assert next(answers)[0] == "quick"
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    with deadline(30), pytest.raises(KeyboardInterrupt):
        answers.throw(KeyboardInterrupt)
    assert no_worker_left()


# ---- two at once


def test_a_run_that_another_process_makes_is_left_to_it(tmp_path, caplog):
    prepare(CONFIG, tmp_path)
    cell, other = cells(CONFIG)
    with locked(tmp_path / "work" / f"{cell.name}.lock") as ours:
        assert ours
        with pytest.raises(BusyError, match=cell.name):
            one_run(CONFIG, cell, tmp_path)
        with caplog.at_level(logging.WARNING):
            (run,) = run_sweep(CONFIG, tmp_path, processes=1)
        assert f"{cell.name} is being made by another process" in caplog.text
        assert run.parameters == other.parameters
        with pytest.raises(ValueError, match=r"peak=0\.02"):
            prepare(replace(CONFIG, peak=0.02), tmp_path)
    assert waiting(CONFIG, tmp_path) == [cell]
    assert len(run_sweep(CONFIG, tmp_path, processes=1)) == 2
    assert not list((tmp_path / "work").glob("*"))


def test_a_run_that_was_finished_meanwhile_is_not_made_again(copy, monkeypatch):
    monkeypatch.setattr(sweep_module, "Trainer", None)  # whoever trains fails
    cell = cells(CONFIG)[0]
    assert one_run(CONFIG, cell, copy) == json.loads(record_path(copy, cell).read_text())


@pytest.mark.slow
def test_two_sweeps_in_one_folder_share_the_runs(made, tmp_path):
    program = f"""
        import sys
        sys.path[:0] = {FOLDERS!r}
        from test_sweep_trouble import CONFIG, run_sweep, sweep_module
        class Told(sweep_module.Trainer):
            def fit(self, on_step):
                print("trained")
                return super().fit(on_step)
        sweep_module.Trainer = Told
        run_sweep(CONFIG, {str(tmp_path)!r}, processes=1)
    """
    line = [sys.executable, "-c", textwrap.dedent(program)]
    both = [subprocess.Popen(line, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = "".join(process.communicate(timeout=patient(60))[0] for process in both)
    assert [process.returncode for process in both] == [0, 0]
    assert told.count("trained") == len(cells(CONFIG))
    assert not list((tmp_path / "work").glob("*"))
    assert finished(CONFIG, tmp_path) == finished(CONFIG, made)
