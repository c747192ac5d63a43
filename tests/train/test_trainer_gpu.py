"""The trainer on a GPU: the losses of a CPU, in any way of computing them; resumed bit for bit."""

import pytest
import torch
from train_tools import drawn_model, phase, recipe, same, sources, steps_told, stored

from llama3lib.parallel.launch import launch
from llama3lib.train import Trainer, read_metrics

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.many_steps,  # the compiler cannot see through checks of shapes
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]
STEPS = 8


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return sources(tmp_path_factory.mktemp("shards"))


def losses(shards, folder, **changes):
    """Of each step of one run."""
    settings = {"device": "cuda", "precision": "float32"} | changes
    Trainer(recipe(phase("main", STEPS), **settings), shards, folder, model=drawn_model()).fit()
    return [row["loss"] for row in steps_told(folder)]


@pytest.fixture(scope="module")
def plain(shards, tmp_path_factory):
    """In float32 on the CPU."""
    return losses(shards, tmp_path_factory.mktemp("cpu"), device="cpu")


@pytest.mark.parametrize(
    ("changes", "tolerance"),
    [
        ({}, 1e-3),
        ({"checkpointing": True}, 1e-3),
        ({"compile": True}, 1e-3),
        ({"compile": True, "checkpointing": True}, 1e-3),
        ({"micro_batch": 1}, 1e-3),
        ({"precision": "bfloat16"}, 2e-2),
        ({"precision": "bfloat16", "compile": True}, 2e-2),
    ],
    ids=str,
)
def test_losses_are_those_of_the_cpu(shards, plain, tmp_path, changes, tolerance):
    assert losses(shards, tmp_path, **changes) == pytest.approx(plain, rel=tolerance)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_run_that_was_stopped_ends_with_the_same_weights(shards, tmp_path, precision):
    settings = {"device": "cuda", "precision": precision, "save_every": 3}
    config = recipe(phase("main", STEPS), **settings)
    Trainer(config, shards, tmp_path / "whole", model=drawn_model()).fit()

    def stop(record):
        if record["step"] == 5:
            raise RuntimeError("stopped in the midst")

    with pytest.raises(RuntimeError, match="in the midst"):
        Trainer(config, shards, tmp_path / "stopped", model=drawn_model()).fit(stop)
    Trainer(config, shards, tmp_path / "stopped", model=drawn_model()).fit()
    assert same(stored(tmp_path / "stopped"), stored(tmp_path / "whole"))


def test_speed_and_memory_are_those_of_the_gpu(shards, tmp_path):
    losses(shards, tmp_path)
    last = [row for row in read_metrics(tmp_path) if "loss" in row][-1]
    assert 0 < last["mfu"] < 1 and last["memory"] >= torch.cuda.max_memory_allocated() // 2 > 0


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus_share_weights_and_batch(tmp_path):
    file = tmp_path / "ranks.py"
    file.write_text(
        "import sys\n"
        "from llama3lib.cli.main import main\n"
        "set = ['--set', 'device=cuda', '--set', 'phases.0.steps=5']\n"
        "sys.exit(main(['train', 'tiny-cpu', sys.argv[1], '--mesh', 'dp=2', *set]))\n"
    )
    launch(file, str(tmp_path / "run"), ranks=2, seconds=600)
    assert (tmp_path / "run" / "model").is_dir()
