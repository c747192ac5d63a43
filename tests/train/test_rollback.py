"""A bad batch: the run goes back to its last checkpoint, and past what led there."""

import logging
import math
import shutil

import pytest
import torch
from train_tools import everything, phase, recipe, same, sources, steps_told, stored, told, weights

from llama3lib.checkpoint import CheckpointManager
from llama3lib.train import DivergedError, StoppedError, Trainer
from llama3lib.train import trainer as module

STEPS, BAD, SAVE = 80, 71, 4  # the alarm wants 64 losses first; the checkpoint before is of 68
SAVED = (BAD - 1) // SAVE * SAVE


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return sources(tmp_path_factory.mktemp("shards"), count=400)


def config(on_spike="rollback", **more):
    one = phase(steps=STEPS, batch_size=2, length=16)
    return recipe(one, save_every=SAVE, on_spike=on_spike, **more)


@pytest.fixture
def batches(monkeypatch):
    """The batches that a trainer takes; the one of `batches.bad` has random bytes instead."""

    class Taken(list):
        bad = BAD
        number = False

    taken, right = Taken(), module.train_step

    def step(model, optimizer, batch, **options):
        taken.append(batch.tokens.clone())
        if len(taken) == taken.bad:
            if taken.number:
                raise DivergedError("loss nan")
            dice = torch.Generator().manual_seed(0)
            batch.tokens.copy_(torch.randint(256, batch.tokens.shape, generator=dice))
        return right(model, optimizer, batch, **options)

    monkeypatch.setattr(module, "train_step", step)
    return taken


def test_told_and_gone_on_from_unless_asked_for(shards, tmp_path, batches):
    result = Trainer(config("tell"), shards, tmp_path).fit()
    assert (result.spikes, result.rollbacks, len(batches)) == (1, 0, STEPS)


def test_back_to_the_checkpoint_and_past_its_batches(shards, tmp_path, batches, caplog):
    with caplog.at_level(logging.WARNING, "llama3lib"):
        result = Trainer(config(), shards, tmp_path / "rolled").fit()
    rolled = list(batches)
    assert (result.spikes, result.rollbacks, result.steps) == (1, 1, STEPS)
    assert f"back to step {SAVED}, {BAD - SAVED} batches are left out" in caplog.text
    (row,) = [row for row in told(tmp_path / "rolled") if "rollback_from" in row]
    assert (row["step"], row["rollback_from"], row["skipped"]) == (SAVED, BAD, BAD - SAVED)
    assert row["spike_loss"] > 4
    assert [row["step"] for row in steps_told(tmp_path / "rolled")] == list(range(1, STEPS + 1))

    batches.clear()
    batches.bad = None
    longer = recipe(phase(steps=STEPS + BAD - SAVED, batch_size=2, length=16), save_every=SAVE)
    Trainer(longer, shards, tmp_path / "plain").fit()
    assert len(rolled) == len(batches)  # in the order of the data, each batch once
    assert all(torch.equal(a, b) for a, b in zip(rolled, batches, strict=True))


def test_the_weights_are_those_of_the_checkpoint_trained_on_the_batches_after(
    shards, tmp_path, batches
):
    model = Trainer(config(), shards, tmp_path / "rolled").fit().model
    batches.bad = None
    short = config(keep_last=100)
    Trainer(short, shards, tmp_path / "witness").fit()
    manager = CheckpointManager(tmp_path / "witness" / "checkpoints")
    for step in manager.steps():
        if step > SAVED:  # so that it goes on from the same checkpoint
            shutil.rmtree(manager.folder / f"step-{step:08}")
    witness = Trainer(short, shards, tmp_path / "witness")
    for _ in range(BAD - SAVED):
        witness.loader.next()
    assert same(weights(witness.fit().model), weights(model))


def test_a_loss_that_is_no_number_is_rolled_back_too(shards, tmp_path, batches):
    batches.number = True
    result = Trainer(config(), shards, tmp_path).fit()
    assert (result.rollbacks, result.steps) == (1, STEPS)
    (row,) = [row for row in told(tmp_path) if "rollback_from" in row]
    assert row["spike_loss"] is None or math.isnan(row["spike_loss"])


def test_before_the_first_checkpoint_it_diverges_as_ever(shards, tmp_path, batches):
    batches.number, batches.bad = True, 2
    with pytest.raises(DivergedError, match=r"step 2: .*No checkpoint yet"):
        Trainer(config(), shards, tmp_path).fit()


def test_killed_between_rollback_and_next_checkpoint_it_does_the_same_again(
    shards, tmp_path, batches
):
    def die(record):
        if len(batches) == BAD + 1:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        Trainer(config(), shards, tmp_path / "killed").fit(die)
    del batches[SAVED:]  # it reads them again
    Trainer(config(), shards, tmp_path / "killed").fit()
    batches.clear()
    Trainer(config(), shards, tmp_path / "whole").fit()
    assert same(stored(tmp_path / "killed"), stored(tmp_path / "whole"))
    assert told(tmp_path / "killed") == told(tmp_path / "whole")
    names = [set(everything(tmp_path / name)) for name in ("killed", "whole")]
    assert names[0] == names[1]


def test_rollbacks_without_end_stop(shards, tmp_path, monkeypatch):
    right, taken = module.train_step, []

    def step(*args, **options):
        taken.append(1)
        if len(taken) > 9:
            raise DivergedError("loss inf")
        return right(*args, **options)

    monkeypatch.setattr(module, "train_step", step)
    with pytest.raises(StoppedError, match="after 10 rollbacks. Last checkpoint: step 8"):
        Trainer(config(), shards, tmp_path).fit()
