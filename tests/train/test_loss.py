import pytest
import torch
import torch.nn.functional as F

from llama3lib.train.loss import IGNORED, count_valid, next_token_loss


def random_case(dtype, scale=3.0, rows=3, length=5, vocab=11, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(rows, length, vocab, generator=generator, dtype=torch.float64)
    targets = torch.randint(vocab, (rows, length), generator=generator)
    targets[torch.rand(rows, length, generator=generator) < 0.3] = IGNORED
    return logits.to(dtype), targets


def brute_force(logits, targets):
    """One position at a time, in float64."""
    total, count = 0.0, 0
    for row, wanted in zip(logits.double().flatten(0, 1), targets.flatten().tolist(), strict=True):
        if wanted != IGNORED:
            total += float(torch.logsumexp(row, 0) - row[wanted])
            count += 1
    return total / max(count, 1)


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-12), (torch.float32, 1e-6), (torch.bfloat16, 1e-6)],
)
def test_against_a_sum_by_hand(dtype, tolerance):
    for seed in range(10):
        logits, targets = random_case(dtype, seed=seed)
        assert float(next_token_loss(logits, targets)) == pytest.approx(
            brute_force(logits, targets), rel=tolerance, abs=tolerance
        )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_gradient_is_pytorchs(dtype):
    logits, targets = random_case(dtype)
    ours, theirs = (logits.clone().requires_grad_() for _ in range(2))
    next_token_loss(ours, targets).backward()
    F.cross_entropy(theirs.flatten(0, 1), targets.flatten(), ignore_index=IGNORED).backward()
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-7, rtol=1e-5)
    assert not ours.grad[targets == IGNORED].any()


def test_gradient_by_finite_differences():
    logits, targets = random_case(torch.float64, rows=1)
    logits.requires_grad_()
    next_token_loss(logits, targets, 3).backward()
    for place in ((0, 0, 0), (0, 2, 5), (0, 4, 10)):
        moved = []
        for step in (1e-5, -1e-5):
            other = logits.detach().clone()
            other[place] += step
            moved.append(float(next_token_loss(other, targets, 3)))
        slope = (moved[0] - moved[1]) / 2e-5
        assert float(logits.grad[place]) == pytest.approx(slope, abs=1e-8)


def test_a_second_backward_is_refused_not_wrong():
    logits, targets = random_case(torch.float32)
    loss = next_token_loss(logits.requires_grad_(), targets)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified"):
        loss.backward()


def test_logits_so_large_that_a_probability_is_zero():
    logits = torch.tensor([[[0.0, 500.0, -500.0], [1e4, 0.0, 0.0]]], requires_grad=True)
    loss = next_token_loss(logits, torch.tensor([[2, 1]]))
    assert float(loss.detach()) == pytest.approx((1000 + 1e4) / 2)
    loss.backward()
    assert torch.isfinite(logits.grad).all()


def test_parts_add_up_to_the_whole():
    logits, targets = random_case(torch.float64, rows=4)
    whole = next_token_loss(logits, targets)
    valid = count_valid(targets)
    parts = [
        next_token_loss(a, t, valid) for a, t in zip(logits.split(1), targets.split(1), strict=True)
    ]
    assert float(sum(parts)) == pytest.approx(float(whole), rel=1e-12)
    # the mean of the parts' own means is something else as soon as they differ in length
    means = torch.stack(
        [next_token_loss(a, t) for a, t in zip(logits.split(1), targets.split(1), strict=True)]
    )
    assert abs(float(means.mean() - whole)) > 1e-4


def test_nothing_asked_for_is_no_loss_and_no_gradient():
    logits = torch.randn(1, 3, 5, requires_grad=True)
    loss = next_token_loss(logits, torch.full((1, 3), IGNORED))
    loss.backward()
    assert float(loss.detach()) == 0
    assert not logits.grad.any()


def test_not_a_number_stays_one():
    logits = torch.full((1, 2, 3), float("nan"))
    assert torch.isnan(next_token_loss(logits, torch.zeros(1, 2, dtype=torch.long)))
