"""Means of checkpoints and of steps, against sums done another way."""

import random
import statistics
from fractions import Fraction

import pytest
import torch

from llama3lib.checkpoint import CheckpointError
from llama3lib.checkpoint.averaging import RunningMean, average_checkpoints
from llama3lib.checkpoint.manager import CheckpointManager


def weights(step, **more):
    rng = torch.Generator().manual_seed(step)
    return {
        "w": torch.randn(7, 3, generator=rng) * 1000,
        "half": torch.randn(5, generator=rng).bfloat16(),
        "wide": torch.randn(5, generator=rng, dtype=torch.float64),
        "turn": torch.randn(4, generator=rng, dtype=torch.complex64),
        "empty": torch.empty(0, 2),
        "ids": torch.arange(3),
        "mask": torch.tensor([True, False]),
    } | more


def save(folder, *steps, **more):
    manager = CheckpointManager(folder, keep_last=100)
    for step in steps:
        manager.save(step, {"model": weights(step, **more), "optimizer": {"m": torch.ones(1)}}, {})
    manager.wait()
    return manager


def exact_mean(tensors):
    """The mean in exact fractions, rounded once."""
    columns = zip(*(tensor.double().flatten().tolist() for tensor in tensors), strict=True)
    means = [float(sum(map(Fraction, column)) / len(column)) for column in columns]
    return torch.tensor(means, dtype=torch.float64).reshape(tensors[0].shape)


@pytest.mark.parametrize("given", ["manager", "folder"])
@pytest.mark.parametrize("steps", [None, [3, 1], [2], [1, 2, 3, 4, 5]])
def test_the_mean_is_exact_to_the_last_bit_of_what_is_stored(tmp_path, given, steps):
    manager = save(tmp_path, 1, 2, 3, 4, 5)
    mean = average_checkpoints(manager if given == "manager" else str(tmp_path), steps)
    every = [weights(step) for step in steps or [1, 2, 3, 4, 5]]
    assert mean.keys() == every[0].keys()
    for name in ("w", "half"):
        wanted = exact_mean([one[name] for one in every]).to(every[0][name].dtype)
        assert mean[name].dtype == every[0][name].dtype and torch.equal(mean[name], wanted)
    wide = exact_mean([one["wide"] for one in every])
    torch.testing.assert_close(mean["wide"], wide, rtol=1e-14, atol=1e-15)
    turn = torch.stack([one["turn"].to(torch.complex128) for one in every]).mean(0)
    assert torch.equal(mean["turn"], turn.to(torch.complex64))
    assert mean["empty"].shape == (0, 2)
    assert torch.equal(mean["ids"], torch.arange(3)) and mean["ids"].dtype == torch.int64
    assert mean["mask"].tolist() == [True, False]


def test_the_mean_of_the_same_is_the_same(tmp_path):
    manager, values = CheckpointManager(tmp_path, keep_last=9), weights(0)
    for step in range(7):
        manager.save(step, {"model": values}, {})
    mean = average_checkpoints(manager)
    for name in values.keys() - {"wide"}:  # whose sums are rounded
        assert torch.equal(mean[name], values[name]), name


def test_sums_are_wider_than_what_is_stored(tmp_path):
    """In bfloat16 512 and eight times 1 stay 512; twice 60,000 is no float16."""
    manager = CheckpointManager(tmp_path, keep_last=9)
    for step in range(9):
        small = torch.tensor([1.0 if step else 512.0]).bfloat16()
        manager.save(step, {"model": {"s": small, "l": torch.tensor([60_000.0]).half()}}, {})
    mean = average_checkpoints(manager)  # the last one may still be on its way
    assert mean["s"] == torch.tensor(520 / 9).bfloat16() != torch.tensor(512 / 9).bfloat16()
    assert mean["l"] == 60_000.0


@pytest.mark.parametrize("steps", [[], [1, 1], [2, 1, 2]])
def test_lists_of_steps_that_make_no_sense(tmp_path, steps):
    with pytest.raises(ValueError, match="one or more steps, each once"):
        average_checkpoints(save(tmp_path, 1, 2), steps)


def test_what_is_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"steps=\[\] is not allowed"):
        average_checkpoints(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
    with pytest.raises(CheckpointError, match="no checkpoint of step 9: 1, 2"):
        average_checkpoints(save(tmp_path, 1, 2), [1, 9])
    (tmp_path / "step-00000002" / "shard-00001-model-00001-of-00001.safetensors").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="has 1 bytes"):
        average_checkpoints(tmp_path)


@pytest.mark.parametrize(
    "more, words",
    [
        ({"extra": torch.ones(1)}, "first extra"),
        ({"w": torch.ones(3, 7)}, r"w has shape \[3, 7\], \[7, 3\] is expected"),
        ({"w": torch.ones(7, 3).double()}, "w is torch.float64, not torch.float32"),
        ({"ids": torch.tensor([0, 1, 3])}, "ids has other whole numbers"),
        ({"mask": torch.tensor([True, True])}, "mask has other"),
    ],
)
def test_checkpoints_of_different_models(tmp_path, more, words):
    save(tmp_path, 1)
    save(tmp_path, 2, **more)
    with pytest.raises(ValueError, match=f"step 2: .*{words}"):
        average_checkpoints(tmp_path)


def test_a_running_mean_is_the_mean():
    rng = random.Random(0)
    values = [rng.uniform(-5, 5) for _ in range(1000)]
    running = RunningMean()
    for value in values:
        running.update(
            {
                "narrow": torch.full((2,), value).bfloat16(),
                "usual": torch.full((3,), value),
                "wide": torch.full((1,), value, dtype=torch.float64),
            }
        )
    mean = running.mean()
    assert running.count == 1000
    assert [mean[name].dtype for name in mean] == [torch.float32, torch.float32, torch.float64]
    exact = statistics.fmean(values)
    assert mean["wide"].item() == pytest.approx(exact, rel=0, abs=1e-14)
    assert mean["usual"].tolist() == pytest.approx([exact] * 3, rel=0, abs=2e-6)
    rounded = statistics.fmean(torch.tensor(values).bfloat16().tolist())
    assert mean["narrow"].tolist() == pytest.approx([rounded] * 2, rel=0, abs=2e-6)


def test_a_running_mean_follows_parameters_and_gives_copies():
    parameter = torch.nn.Parameter(torch.ones(2))
    running = RunningMean({"p": parameter})
    running.update({"p": parameter})
    mean = running.mean()
    with torch.no_grad():
        parameter.mul_(3)
    running.update({"p": parameter})
    assert mean["p"].tolist() == [1.0, 1.0] and not mean["p"].requires_grad
    assert running.mean()["p"].tolist() == [2.0, 2.0] and running.count == 2
    running.mean()["p"].zero_()
    assert running.mean()["p"].tolist() == [2.0, 2.0]
    assert parameter.tolist() == [3.0, 3.0]


@pytest.mark.parametrize("way", ["load_state", "in place"])
def test_a_running_mean_lives_in_a_checkpoint(tmp_path, way):
    steps = [{"a": torch.randn(4), "b": torch.randn(())} for _ in range(6)]
    through, manager = RunningMean(steps[0]), CheckpointManager(tmp_path)
    for step in steps[:3]:
        through.update(step)
    manager.save(3, {"model": steps[0], "mean": through.state()}, {})
    for step in steps[3:]:
        through.update(step)
    again = RunningMean(steps[0])
    if way == "in place":
        manager.restore({"model": steps[0], "mean": again.state()})
    else:
        count = manager.load_tensors(3, "mean")["count"]
        state = {"mean": manager.load_tensors(3, "mean.mean"), "count": count}
        again = RunningMean()
        again.load_state(state)
        state["mean"]["a"].zero_()
    assert again.count == 3
    for step in steps[3:]:
        again.update(step)
    assert again.count == through.count == 6
    assert all(torch.equal(again.mean()[name], through.mean()[name]) for name in "ab")


def test_running_means_refuse_and_keep_what_they_have():
    running = RunningMean()
    with pytest.raises(ValueError, match="count=0"):
        running.mean()
    running.update({"a": torch.ones(2)})
    before = running.mean()["a"].tolist()
    for bad, words in (
        ({"b": torch.ones(2)}, "first a"),
        ({"a": torch.ones(2), "b": torch.ones(1)}, "first b"),
        ({"a": torch.ones(3)}, r"a has shape \[3\], \[2\] is expected"),
    ):
        with pytest.raises(ValueError, match=words):
            running.update(bad)
        with pytest.raises(ValueError, match=words):
            running.load_state({"mean": bad, "count": torch.tensor(5)})
    assert running.count == 1 and running.mean()["a"].tolist() == before
    for tensor in (torch.ones(2, dtype=torch.int64), torch.ones(2) > 0):
        with pytest.raises(ValueError, match="n is torch"):
            RunningMean({"n": tensor})
