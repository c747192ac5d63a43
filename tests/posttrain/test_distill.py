"""Distillation: brute force in plain float64, gradients by formula, limits, schedules."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llama3lib.posttrain.distill import SoftWeight, distillation_loss
from llama3lib.train.loss import IGNORED, next_token_loss


def draw(seed, b=2, t=5, v=7, ignored=3):
    gen = torch.Generator().manual_seed(seed)
    logits, teacher = (2 * torch.randn(b, t, v, generator=gen).double() for _ in range(2))
    targets = torch.randint(v, (b, t), generator=gen)
    targets.view(-1)[torch.randperm(b * t, generator=gen)[:ignored]] = IGNORED
    return logits, teacher, targets


def softmax(row):
    top = max(row)
    parts = [math.exp(value - top) for value in row]
    return [part / sum(parts) for part in parts]


def brute_force(logits, teacher, targets, soft, tau):
    total, count = 0.0, 0
    for row, other, target in zip(
        logits.flatten(0, 1).tolist(),
        teacher.flatten(0, 1).tolist(),
        targets.flatten().tolist(),
        strict=True,
    ):
        if target == IGNORED:
            continue
        q, p = softmax([v / tau for v in row]), softmax([v / tau for v in other])
        total += soft * tau**2 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
        total -= (1 - soft) * math.log(softmax(row)[target])
        count += 1
    return total / count


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 99), st.sampled_from([0.0, 0.3, 1.0]), st.sampled_from([0.5, 1.0, 4.0]))
def test_it_is_the_formula_and_so_is_its_gradient(seed, soft, tau):
    logits, teacher, targets = draw(seed)
    logits.requires_grad_()
    teacher.requires_grad_()
    loss = distillation_loss(logits, teacher, targets, soft=soft, temperature=tau)
    want = brute_force(logits.detach(), teacher.detach(), targets, soft, tau)
    assert float(loss.detach()) == pytest.approx(want, abs=1e-12)
    (grad,) = torch.autograd.grad(loss, logits)
    asked = (targets != IGNORED).unsqueeze(2)
    one_hot = torch.nn.functional.one_hot(targets.clamp(min=0), 7)
    with torch.no_grad():
        soft_part = tau * ((logits / tau).softmax(2) - (teacher / tau).softmax(2))
        hard_part = logits.softmax(2) - one_hot
        formula = (soft * soft_part + (1 - soft) * hard_part) * asked / asked.sum()
    assert torch.allclose(grad, formula, rtol=0, atol=1e-13)
    assert teacher.grad is None


def test_limits():
    logits, teacher, targets = draw(1)
    plain = next_token_loss(logits, targets)
    assert torch.equal(distillation_loss(logits, teacher, targets, soft=0), plain)
    alike = distillation_loss(teacher, teacher, targets, soft=1, temperature=3)
    assert float(alike) == pytest.approx(0, abs=1e-12)
    # a hot temperature compares centred logits by squares: τ²·KL goes to their variance / 2
    hot = distillation_loss(logits, teacher, targets, soft=1, temperature=1e4)
    apart = (logits - teacher)[targets != IGNORED]
    assert float(hot) == pytest.approx(float(apart.var(1, correction=0).mean() / 2), rel=1e-3)


def test_parts_of_a_batch_add_up_and_float32_is_close():
    logits, teacher, targets = draw(2, b=4)
    valid = int((targets != IGNORED).sum())
    more = {"soft": 0.4, "temperature": 2.0}
    whole = distillation_loss(logits, teacher, targets, **more)
    parts = [
        distillation_loss(logits[i:j], teacher[i:j], targets[i:j], valid=valid, **more)
        for i, j in ((0, 1), (1, 4))
    ]
    assert float(sum(parts)) == pytest.approx(float(whole), abs=1e-12)
    low = distillation_loss(logits.bfloat16(), teacher.bfloat16(), targets, **more)
    assert low.dtype == torch.float32 and float(low) == pytest.approx(float(whole), rel=0.02)


def test_a_token_that_the_teacher_rules_out_is_no_trouble():
    logits, teacher, targets = draw(3)
    teacher[..., 0] = -math.inf
    logits.requires_grad_()
    loss = distillation_loss(logits, teacher, targets, soft=1)
    loss.backward()
    assert loss.isfinite() and logits.grad.isfinite().all()


def test_nothing_to_learn_is_no_loss():
    logits, teacher, targets = draw(4)
    assert float(distillation_loss(logits, teacher, torch.full_like(targets, IGNORED))) == 0


def test_the_weight_of_each_step():
    assert [SoftWeight().at(step) for step in (0, 1, 99)] == [0.5] * 3
    falling = SoftWeight(first=1.0, last=0.2, steps=4)
    found = [falling.at(step) for step in range(6)]
    assert found == pytest.approx([1, 0.8, 0.6, 0.4, 0.2, 0.2])
    smooth = SoftWeight(first=0.0, last=1.0, steps=4, shape="cosine")
    want = [0, (1 - math.sqrt(0.5)) / 2, 0.5, (1 + math.sqrt(0.5)) / 2, 1]
    assert [smooth.at(step) for step in range(5)] == pytest.approx(want)


ONE = torch.zeros(1, 1, 3)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: SoftWeight(first=1.5), "first=1.5"),
        (lambda: SoftWeight(steps=0), "steps=0"),
        (lambda: SoftWeight(shape="step"), "shape='step'"),
        (lambda: SoftWeight().at(-1), "step=-1"),
        (lambda: distillation_loss(ONE, ONE[..., :2], ONE[..., 0].long()), "the same shape"),
        (lambda: distillation_loss(ONE, ONE, ONE[..., 0].long(), soft=-0.1), "soft=-0.1"),
        (lambda: distillation_loss(ONE, ONE, ONE[..., 0].long(), temperature=0), "temperature=0"),
    ],
)
def test_wrong_values_are_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()
