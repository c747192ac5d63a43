"""Seeds repeat, threads are given back, devices and formats are chosen aloud, loggers are quiet."""

import logging
import random
import subprocess
import sys

import numpy as np
import pytest
import torch

import llama3lib
from llama3lib.utils.device import pick_device, pick_dtype
from llama3lib.utils.logging import get_logger
from llama3lib.utils.seed import LARGEST_SEED, make_generator, one_thread, seed_everything


def _draws(seed):
    generator = seed_everything(seed)
    drawn = torch.randint(1_000_000, (4,), generator=generator)
    return random.random(), np.random.rand(), float(torch.rand(())), drawn.tolist()


@pytest.fixture(autouse=True)
def _sources_as_before():
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    yield
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])


def test_a_seed_repeats_every_source():
    first, other = _draws(7), _draws(8)
    assert first == _draws(7)
    assert all(a != b for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("seed", [-1, LARGEST_SEED + 1, 1.0, True, None])
def test_other_seeds_are_refused(seed):
    with pytest.raises(ValueError, match="seed=.*whole number from 0"):
        seed_everything(seed)


def test_one_thread_is_given_back_even_after_an_error():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with pytest.raises(RuntimeError), one_thread():
            assert torch.get_num_threads() == 1
            raise RuntimeError
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_the_cpu_is_always_there(caplog):
    with caplog.at_level(logging.INFO, "llama3lib"):
        device = pick_device("cpu")
        assert pick_dtype(device) == torch.float32
    assert device == torch.device("cpu")
    assert "asked for" in caplog.text and "float32" in caplog.text


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "", "meta", "cpu:cuda"])
def test_unknown_devices_are_refused(name):
    with pytest.raises(ValueError, match="device=.*auto"):
        pick_device(name)


def _pretend(monkeypatch, *, cuda=0, mps=False, capability=(9, 0)):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    "there, want", [({"cuda": 1, "mps": True}, "cuda"), ({"mps": True}, "mps"), ({}, "cpu")]
)
def test_auto_takes_the_best_and_says_why(monkeypatch, caplog, there, want):
    _pretend(monkeypatch, **there)
    with caplog.at_level(logging.INFO, "llama3lib"):
        assert pick_device() == torch.device(want)
    assert f"device {want}" in caplog.text


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps"])
def test_what_is_missing_is_refused(monkeypatch, name):
    _pretend(monkeypatch)
    with pytest.raises(ValueError, match=f"device='{name}'.*torch sees"):
        pick_device(name)


def test_a_gpu_by_number(monkeypatch):
    _pretend(monkeypatch, cuda=2)
    assert pick_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ValueError, match="device='cuda:2'.*2 CUDA GPUs"):
        pick_device("cuda:2")


@pytest.mark.parametrize("capability, want", [((8, 0), torch.bfloat16), ((7, 5), torch.float32)])
def test_format_of_a_gpu(monkeypatch, caplog, capability, want):
    _pretend(monkeypatch, cuda=1, capability=capability)
    with caplog.at_level(logging.INFO, "llama3lib"):
        assert pick_dtype(torch.device("cuda")) == want
    loud = [record.levelno >= logging.WARNING for record in caplog.records]
    assert loud == [want == torch.float32]


def test_loggers_stand_below_the_library():
    assert get_logger("llama3lib.model").name == "llama3lib.model"
    assert get_logger("chapter").name == "llama3lib.chapter"
    assert get_logger("llama3library").name == "llama3lib.llama3library"
    with pytest.raises(ValueError, match="name=''"):
        get_logger("")


def test_a_warning_stays_silent_until_asked_for():
    code = "from llama3lib.utils.logging import get_logger; get_logger('x').warning('hello')"
    quiet = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert quiet.stderr == ""
    code = "import logging; logging.basicConfig();" + code
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "hello" in asked.stderr


def test_version():
    assert llama3lib.__version__[0].isdigit()


def test_a_generator_has_the_seed_or_one_of_its_own():
    one, same = (torch.randint(10**9, (4,), generator=make_generator(7)) for _ in range(2))
    assert torch.equal(one, same)
    assert make_generator(None).initial_seed() != make_generator(None).initial_seed()
