"""Schedule, optimizer groups, and the small byte model: closed forms, determinism, no leaks."""

import math

import numpy as np
import pytest
import torch

from llama3lib.train import (
    ByteRun,
    compare_texts,
    loss_on_texts,
    lr_at,
    make_adamw,
    train_byte_model,
)
from llama3lib.train.byte_model import as_bytes

TEXTS = [f"the mill of number {i} stands at the river and grinds {i * 7} sacks" for i in range(60)]
QUICK = ByteRun(steps=30, batch_size=4, length=32)


def test_schedule_has_its_corners():
    assert lr_at(0, 1.0, 10, 100, 0.1) == 0
    assert lr_at(5, 1.0, 10, 100, 0.1) == 0.5
    assert lr_at(10, 1.0, 10, 100, 0.1) == 1.0
    assert lr_at(55, 1.0, 10, 100, 0.1) == pytest.approx(0.55)
    assert lr_at(100, 1.0, 10, 100, 0.1) == lr_at(500, 1.0, 10, 100, 0.1) == pytest.approx(0.1)


def test_schedule_agrees_with_transformers():
    from transformers import get_cosine_schedule_with_warmup

    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=3e-4)
    schedule = get_cosine_schedule_with_warmup(optimizer, 20, 200)
    for step in range(200):
        assert schedule.get_last_lr()[0] == pytest.approx(lr_at(step, 3e-4, 20, 200), abs=1e-12)
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize("wrong", [(-1, 1.0, 0, 5), (0, 1.0, -1, 5), (0, 1.0, 5, 5)])
def test_schedule_refuses_what_is_no_schedule(wrong):
    with pytest.raises(ValueError, match="are not allowed"):
        lr_at(*wrong)


def test_norms_do_not_decay():
    model = train_byte_model(TEXTS, ByteRun(steps=1, batch_size=1, length=16))
    decayed, plain = make_adamw(model, 1e-3).param_groups
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)
    assert {p.dim() for p in plain["params"]} == {1}
    count = sum(len(group["params"]) for group in (decayed, plain))
    assert count == len(list(model.parameters()))


def test_bytes_and_owners():
    data, owners = as_bytes(["ab", "c"])
    assert data.tolist() == [97, 98, 0, 99, 0] and owners.tolist() == [0, 0, 0, 1, 1]
    with pytest.raises(ValueError, match="empty"):
        as_bytes([])


def test_training_learns_repeats_exactly_and_starts_knowing_nothing():
    seen = []
    first = train_byte_model(TEXTS, QUICK, lambda step, loss: seen.append(loss))
    again = train_byte_model(TEXTS, QUICK)
    assert all(
        torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True)
    )
    assert abs(seen[0] - math.log(256)) < 0.3 and np.mean(seen[-5:]) < seen[0] - 1
    other = train_byte_model(TEXTS, ByteRun(steps=30, batch_size=4, length=32, seed=1))
    assert not torch.equal(first.output.weight, other.output.weight)


def test_held_out_loss_is_the_mean_over_all_bytes_asked_for():
    model = train_byte_model(TEXTS, QUICK)
    text = "the mill of number 3 stands here"  # one window of 32, and its closing byte
    ids = torch.tensor([list(text.encode()) + [0]])
    with torch.no_grad():
        logits = model(ids[:, :-1])
    want = torch.nn.functional.cross_entropy(logits[0], ids[0, 1:]).item()
    assert loss_on_texts(model, [text, "x" * 10], length=32) == pytest.approx(want, rel=1e-5)
    with pytest.raises(ValueError, match="a window needs"):
        loss_on_texts(model, ["x"], length=32)


def test_comparison_does_not_depend_on_the_number_of_processes():
    corpora = {"all": TEXTS, "few": TEXTS[:5]}
    run = ByteRun(steps=8, batch_size=2, length=16)
    one, two = (
        compare_texts(corpora, {"x": TEXTS[:9]}, seeds=(0, 1), run=run, processes=n) for n in (1, 2)
    )
    assert one == two and len(one["all"]) == 2
    with pytest.raises(ValueError, match="not allowed to be empty"):
        compare_texts({}, {"x": TEXTS})


@pytest.mark.parametrize("field", ["steps", "batch_size", "length"])
def test_sizes_are_checked(field):
    with pytest.raises(ValueError, match=f"{field}=0 is not allowed"):
        ByteRun(**{field: 0})
    with pytest.raises(ValueError, match="a window needs"):
        train_byte_model(["ab"])
