"""Exercise 01.1: RMSNorm, and a row whose pattern it loses."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from widgets.core.exercise import Exercise
from widgets.core.forms import like
from widgets.core.judge import Case, Mistake, run

E = Exercise(
    "01.1",
    hints=(
        "RMSNorm asks one question of a row: how large are its numbers typically? "
        "Then it divides by that size. Nothing is subtracted.",
        "Square, average over the last dimension (keep it), add eps, take the root, divide, "
        "multiply by the weight. In half precision do the squares in float32. For the second "
        "part: what does dividing by the size leave of a row like 1000, 1001, 1002?",
        "size = (x.float().pow(2).mean(-1, keepdim=True) + eps).sqrt(), then "
        "(x.float() / size * weight).to(x.dtype). A row that is large everywhere, plus a small "
        "pattern, is flattened: try an offset 200 times the pattern.",
    ),
)
norm = E.part("rms_norm", tolerance=2e-5)
flat = E.part("flattened")


def _mean_square(x: Tensor, dim: int = -1) -> Tensor:
    return x.pow(2).mean(dim, keepdim=True)


def _by_hand(
    x: Tensor,
    weight: Tensor,
    eps: float,
    *,
    size: Callable[[Tensor, float], Tensor] = lambda x, eps: (_mean_square(x) + eps).sqrt(),
    use_weight: bool = True,
) -> Tensor:
    out = x.float() / size(x.float(), eps)
    return (out * weight if use_weight else out).to(x.dtype)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """What torch makes of it."""
    return functional.rms_norm(x, x.shape[-1:], weight, eps)


norm.reference(rms_norm, model=_by_hand)
norm.mistake("eps is outside the root", size=lambda x, eps: _mean_square(x).sqrt() + eps).why(
    "It belongs with the mean of squares, before the root."
)
norm.mistake(
    "the mean is subtracted",
    lambda x, w, eps: functional.layer_norm(x.float(), x.shape[-1:], w.float(), None, eps).to(
        x.dtype
    ),
).why("That is LayerNorm; RMSNorm leaves the mean alone.")
norm.mistake("the weight is missing", use_weight=False).why(
    "Each channel has a learned factor of its own."
)
norm.mistake(
    "squares are summed, not averaged",
    size=lambda x, eps: (x.pow(2).sum(-1, keepdim=True) + eps).sqrt(),
).why("A wider row must not come out smaller.")
norm.mistake("the root is missing", size=lambda x, eps: _mean_square(x) + eps).why(
    "Twice the input must give the same output."
)
norm.mistake("eps is ignored", size=lambda x, eps: _mean_square(x).sqrt()).why(
    "A row of zeros must not give nan."
)
norm.mistake(
    "the mean runs over the wrong dimension", size=lambda x, eps: (_mean_square(x, 0) + eps).sqrt()
).why("Each token is normalised by itself, over its channels.")
norm.mistake(
    "the mean runs over all dimensions", size=lambda x, eps: (x.pow(2).mean() + eps).sqrt()
).why("Each token is normalised by itself, over its channels.")
norm.mistake(
    "the squares are taken in half precision",
    lambda x, w, eps: x * torch.rsqrt(_mean_square(x) + eps) * w,
).why("300 squared is above the largest float16 number. Compute in float32, then go back.")


@norm.cases
def _cases() -> list[tuple]:
    draw = torch.Generator().manual_seed(1)
    ones, square = torch.ones(2), torch.randn(3, 3, generator=draw)
    row = torch.tensor([3.0, 4.0])
    return [
        (row, ones, 0.0),
        (row, torch.tensor([2.0, 10.0]), 0.0),
        (torch.zeros(2), ones, 1e-5),
        (row / 100, ones, 0.01),
        (square, torch.tensor([1.0, 2.0, 3.0]), 1e-5),
        Case((torch.full((2,), 300.0).half(), ones.half(), 1e-5), "x=[300, 300] in float16"),
        (torch.randn(2, 5, 16, generator=draw), torch.randn(16, generator=draw), 1e-5),
    ]


@norm.rule
def _leaves_its_input(function: Callable) -> None:
    x = torch.tensor([3.0, 4.0])
    function(x, torch.ones(2), 1e-5)
    if x.tolist() != [3.0, 4.0]:
        raise Mistake("the input is overwritten", shows="x=[3, 4]", why="Return a new tensor.")


@flat.rule
def _is_flattened(function: Callable) -> None:
    for size in (8, 64):
        shows = f"flattened({size})"
        x = like(run(function, Case((size,), shows), "flattened"), torch.zeros(size))
        if not isinstance(x, Tensor) or x.shape != (size,) or not x.isfinite().all():
            raise Mistake("flattened: a row of `size` numbers is needed", shows=shows)
        x = x.double()
        if bool((x == x[0]).all()):
            raise Mistake("flattened: all numbers are equal", shows=shows, why="LayerNorm gives 0.")
        if float((rms_norm(x, torch.ones_like(x), 1e-5) - 1).abs().max()) > 0.01:
            why = "Some RMSNorm output is more than 1 % away from 1: the mean is still too small."
            raise Mistake("flattened: the row is not flat yet", shows=shows, why=why)
        spread = float(functional.layer_norm(x, x.shape, eps=1e-5).std(correction=0))
        if abs(spread - 1) > 0.02:
            why = f"LayerNorm leaves a spread of {spread:.3f}: "
            why += "next to eps the row varies too little."
            raise Mistake("flattened: LayerNorm lost the pattern too", shows=shows, why=why)
