"""Does the mean of checkpoints beat the last one? Losses on a line between two, and of means.

The paper's final model is the mean of checkpoints of the annealing (section 3.4.3). Both lists here
are computed with a loss that is given: one of weights between two checkpoints, one of the mean of
the last k.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import torch
import traitlets
from torch import Tensor

from llama3lib.checkpoint import RunningMean
from widgets.base import CourseWidget, css, esm
from widgets.drawing import BLUE, INK, LINE, RED, SOFT, Drawing

SHARES = tuple(i / 20 for i in range(21))
UPPER = {"x": 92, "y": 84, "width": 880, "height": 150}
LOWER = {"x": 92, "y": 316, "width": 880, "height": 150}

Weights = Mapping[str, Tensor]
Points = list[tuple[float, float]]


@torch.no_grad()
def losses_on_line(
    weights_a: Weights,
    weights_b: Weights,
    loss_of: Callable[[dict[str, Tensor]], float],
    shares: Sequence[float] = SHARES,
) -> Points:
    """Losses of the weights (1 - share) of a + share of b, by share.

    Raises ValueError if names or shapes differ, a tensor is not floating-point, or shares do not
    rise within 0 to 1.
    """
    if len(shares) < 2 or not all(x < y for x, y in pairwise(shares)):
        raise ValueError(f"shares={tuple(shares)!r} is not allowed: two or more, rising")
    if not (0 <= shares[0] and shares[-1] <= 1):
        raise ValueError(f"shares={tuple(shares)!r} is not allowed: within 0 to 1")
    ends = {"weights_a": RunningMean(), "weights_b": RunningMean(weights_a)}
    for name, weights in (("weights_a", weights_a), ("weights_b", weights_b)):
        try:
            ends[name].update(weights)  # checks, and float32 or better
        except ValueError as error:
            raise ValueError(f"{name} is not allowed: {error}") from None
    a, b = (mean.mean() for mean in ends.values())
    return [
        (float(t), float(loss_of(_like(weights_a, {n: (1 - t) * a[n] + t * b[n] for n in a}))))
        for t in shares
    ]


@torch.no_grad()
def losses_of_means(
    weights: Sequence[Weights], loss_of: Callable[[dict[str, Tensor]], float]
) -> list[tuple[int, float]]:
    """Losses of the mean of the last k checkpoints, by k from 1 on; the newest one stands last.

    Raises ValueError if there is none, names or shapes differ, or a tensor is not floating-point.
    """
    if not weights:
        raise ValueError("weights is not allowed to be empty: one checkpoint or more")
    mean, found = RunningMean(), []
    for checkpoint in reversed(weights):
        mean.update(checkpoint)
        found.append((mean.count, float(loss_of(_like(checkpoint, mean.mean())))))
    return found


def _like(weights: Weights, wide: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.to(weights[name].dtype) for name, tensor in wide.items()}


def nearest(points: Sequence[Sequence[float]], value: float) -> Sequence[float]:
    """The point whose first number is nearest; the first one of two."""
    return min(points, key=lambda point: abs(point[0] - value))


def nats(value: float) -> str:
    """Two decimals, or three if it is small."""
    return f"{value:.2f}" if value >= 0.01 else f"{value:.3f}"


def headline(name: str, means: Sequence[Sequence[float]], k: float) -> str:
    """The title: what to see."""
    count, loss = nearest(means, k)
    gain = means[0][1] - loss
    if count == 1:
        return f"{name}: the last checkpoint alone has a loss of {loss:.2f} nats"
    mean = f"the mean of {count:.0f} checkpoints is"
    if abs(gain) < 0.0005:
        return f"{name}: no gain, {mean} as good as the last one alone"
    better = f"{nats(abs(gain))} nats {'better' if gain > 0 else 'worse'} than the last one alone"
    return f"{name}: {mean} {better}" if gain > 0 else f"{name}: no gain, {mean} {better}"


def line_words(line: Sequence[Sequence[float]], share: float) -> str:
    """What the chosen point of the line says."""
    at, loss = nearest(line, share)
    lower = min(line[0][1], line[-1][1])
    side = "below" if loss < lower else "above" if loss > lower else "level with"
    how = f"{nats(abs(loss - lower))} nats {side}" if loss != lower else side
    return f"at {at:.2f} of the way the loss is {loss:.3f}, {how} the better end"
