"""`llama3 train --mesh`: starts its ranks, outlives their deaths, and leaves nobody behind."""

import os
import random
import signal
import socket
import subprocess
import sys

import psutil
import pytest
from timing_tools import patient, wait_until
from train_tools import same, steps_told, stored

from llama3lib.cli.main import main

pytestmark = pytest.mark.distributed
RECIPE = """
tokenizer = "bytes"
device = "cpu"
save_every = 5
evaluate_every = 1000

[model]
dim = 16
n_layers = 1
n_heads = 2
n_kv_heads = 2
ffn_dim = 32
vocab_size = 256
max_seq_len = 32

[data.stories]
stories = 20

[optimizer]
warmup = 2

[[phases]]
name = "main"
steps = 60
batch_size = 2
length = 16
"""


class Command:
    """A command that was started in a folder, and all that it starts."""

    def __init__(self, folder, *words, **environment):
        self.process = subprocess.Popen(
            [sys.executable, "-m", *words],
            cwd=folder,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.own, self.family = psutil.Process(self.process.pid), set()

    def ranks(self):
        """The processes that train, by rank."""
        found = {}
        with_children = [*self.own.children(recursive=True)]
        self.family |= set(with_children)
        for process in with_children:
            try:
                number = process.environ().get("RANK")
            except psutil.Error:
                continue
            if number is not None:
                found[int(number)] = process
        return found

    def end(self, seconds=120):
        out, err = self.process.communicate(timeout=patient(seconds))
        wait_until(lambda: not any(p.is_running() for p in self.family), 20)
        return self.process.returncode, out, err


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A recipe, and a run of it on two ranks that nobody disturbs."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "tiny.toml").write_text(RECIPE)
    code, out, err = train(folder, "whole", "dp=2").end()
    assert code == 0, err
    assert err == "" and "60 steps" in out and (folder / "whole" / "model").is_dir()
    return folder


def train(folder, run, mesh, *more, **environment):
    words = ("llama3lib.cli.main", "train", "tiny.toml", run, "--mesh", mesh, *more)
    return Command(folder, *words, **environment)


def step_of(folder):
    rows = steps_told(folder)
    return rows[-1]["step"] if rows else 0


def kill_at_random(folder, command, chance, kills):
    """`kill -9` of a rank, each time a few steps later, at any moment of a step."""
    for _ in range(kills):
        begun = step_of(folder)
        goal = min(58, begun + chance.randint(1, 12))
        wait_until(lambda goal=goal: step_of(folder) >= goal and len(command.ranks()) == 2, 120)
        victim = chance.choice(sorted(command.ranks().items()))[1]
        victim.kill()
        wait_until(lambda victim=victim: not victim.is_running(), 20)


@pytest.mark.parametrize("runs", [1, pytest.param(4, marks=pytest.mark.long)])
def test_a_run_whose_ranks_are_killed_ends_with_the_same_weights(work, runs):
    """Three kills in each run; `LLAMA3_KILLS` asks for more runs in the long version."""
    runs = runs if runs == 1 else int(os.environ.get("LLAMA3_KILLS", 3 * runs)) // 3
    for number in range(runs):
        name, kills = f"killed-{runs}-{number}", 2 if runs == 1 else 3
        command = train(work, name, "dp=2", "--restarts", "20")
        kill_at_random(work / name, command, random.Random(number), kills)
        code, _, err = command.end(240)
        assert code == 0, err
        lines = err.splitlines()
        assert sum("a rank was lost; all start again" in line for line in lines) == kills, err
        assert all(line.startswith("llama3: ") for line in lines) and len(lines) <= 3 * kills, err
        assert same(stored(work / name), stored(work / "whole"))
        assert steps_told(work / name) == steps_told(work / "whole")


def test_ctrl_c_saves_on_all_ranks(work):
    command = train(work, "stopped", "tp=2")
    wait_until(lambda: step_of(work / "stopped") >= 3 and len(command.ranks()) == 2, 120)
    command.process.send_signal(signal.SIGINT)
    code, out, err = command.end()
    assert code == 130, err
    assert "--mesh tp=2" in out.splitlines()[-1]
    step = int(out.split("saved after step ")[1].split(".")[0])
    assert step >= 3 and step_of(work / "stopped") == step


def test_a_rank_that_hangs_is_given_up(work):
    command = train(work, "hangs", "dp=2,timeout=8")
    wait_until(lambda: step_of(work / "hangs") >= 3 and len(command.ranks()) == 2, 120)
    command.ranks()[1].suspend()
    code, _, err = command.end()
    assert code == 1
    assert err.splitlines() == [
        "llama3: rank 0: no step for 8 s: a rank gives no answer",
        "llama3: a rank was lost; giving up",
    ]


def test_under_torchrun_and_where_the_port_is_taken(work):
    port = socket.socket()
    port.bind(("127.0.0.1", 0))
    port.listen()
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port.getsockname()[1])}
    words = ("llama3lib.train", "tiny.toml", "port", "--mesh", "dp=2,timeout=5")
    command = Command(work, *words, RANK="0", WORLD_SIZE="2", LOCAL_RANK="0", **place)
    code, _, err = command.end()
    port.close()
    assert code == 2 and err.count("\n") == 1
    assert f"the ranks don't find each other at 127.0.0.1:{place['MASTER_PORT']}" in err


@pytest.mark.parametrize(
    ("mesh", "said"),
    [
        ("dp=3", "batch=2 is not allowed: a multiple of dp=3"),
        ("tp=4", "n_heads=2"),
        ("dp=0", "dp=0"),
        ("pp=2", "pp=2"),
        ("width=2", "width"),
    ],
)
def test_a_mesh_that_does_not_fit_starts_nobody(tmp_path, capsys, mesh, said):
    (tmp_path / "tiny.toml").write_text(RECIPE)
    code = main(["train", str(tmp_path / "tiny.toml"), str(tmp_path / "run"), "--mesh", mesh])
    out, err = capsys.readouterr()
    assert code == 2 and out == "" and err.count("\n") == 1
    assert said in err and not (tmp_path / "run").exists()
