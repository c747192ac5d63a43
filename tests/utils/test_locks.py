"""Locks end with their process, and keep other processes out or other blocks of this one too."""

import multiprocessing
import os
import threading

import pytest

from llama3lib.utils.locks import locked


def hold(path, there, go):
    with locked(path):
        there.set()
        go.wait()


@pytest.mark.slow
def test_a_lock_is_lost_with_the_process_that_held_it(tmp_path):
    context = multiprocessing.get_context("spawn")
    there, go = context.Event(), context.Event()
    child = context.Process(target=hold, args=(tmp_path / "a.lock", there, go))
    child.start()
    assert there.wait(60)
    for shared in (False, True):
        with locked(tmp_path / "a.lock", shared=shared) as ours:
            assert not ours
    child.kill()
    with locked(tmp_path / "a.lock", wait=True) as ours:
        assert ours
        with locked(tmp_path / "a.lock") as twice:
            assert not twice
    child.join()


def test_a_shared_lock_is_this_process_s_in_every_thread(tmp_path):
    path, found = tmp_path / "new" / "a.lock", []

    def look():
        with locked(path, shared=True) as ours:
            found.append(ours)

    with locked(path, shared=True) as ours:
        look()
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        with locked(path) as alone:  # as another process would ask
            assert ours and not alone
    assert found == [True, True]
    with locked(path) as alone:
        look()
        assert alone and found[2:] == [False]


@pytest.mark.skipif(os.name == "nt", reason="Windows locks in another way")
def test_without_locks_the_work_goes_on_and_says_so(tmp_path, monkeypatch, caplog):
    def flock(handle, what):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    with locked(tmp_path / "a.lock") as ours:
        assert ours
    assert "a.lock cannot be locked" in caplog.text
