"""How far a reward model can be trusted: on pairs like those it learned from, and on others."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llama3lib.eval import Interval, wilson_interval
from llama3lib.posttrain.reward import check_rewards
from llama3lib.utils.require import require, whole


@dataclass(frozen=True)
class Reliability:
    """What pairs say of a reward model. Ours: the paper tells no such figures."""

    accuracy: Interval
    """Share of pairs whose better answer has the higher reward; equal rewards count half."""
    margin: float
    """Mean reward of the better answer minus that of the worse one."""
    calibration: tuple[tuple[float, float, int], ...]
    """By tenths of the predicted probability that the first of two answers, in a fixed order, is
    the better one: mean prediction, share that was, pairs."""
    shorter_better: Interval | None
    longer_better: Interval | None
    """Accuracy where the better answer is the shorter, or the longer one; None without such pairs.
    A model that loves length is good at the second and bad at the first."""

    @property
    def calibration_error(self) -> float:
        """Mean distance of prediction and share, weighted by pairs."""
        pairs = sum(count for *_, count in self.calibration)
        return sum(abs(p - s) * count for p, s, count in self.calibration) / pairs


def reliability(
    chosen: Sequence[float], rejected: Sequence[float], lengths: Sequence[tuple[int, int]]
) -> Reliability:
    """Of rewards of pairs, the better answer first; lengths: tokens of both answers.

    Raises ValueError if the numbers of values differ, there are none, or one is not finite.
    """
    check_rewards(chosen, rejected)
    require(len(lengths) == len(chosen), "lengths", len(lengths), f"{len(chosen)}, one a pair")
    distance = np.asarray(chosen, float) - np.asarray(rejected, float)
    right = (distance > 0) + 0.5 * (distance == 0)
    longer = np.asarray([a - b for a, b in lengths])
    return Reliability(
        accuracy=_share(right),
        margin=float(distance.mean()),
        calibration=_calibration(distance),
        shorter_better=_share(right[longer < 0]) if (longer < 0).any() else None,
        longer_better=_share(right[longer > 0]) if (longer > 0).any() else None,
    )


def length_slope(rewards: Sequence[float], lengths: Sequence[int]) -> float:
    """By how much a reward rises with each token, by least squares: of answers that are equally
    good it should not.

    Raises ValueError for fewer than two answers, or lengths that are all the same.
    """
    whole("rewards", len(rewards), 2)
    x, y = np.asarray(lengths, float), np.asarray(rewards, float)
    require(len(x) == len(y) and x.std() > 0, "lengths", x.tolist()[:3], "as many, not all alike")
    return float(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum())


def _share(right: np.ndarray) -> Interval:
    return wilson_interval(float(right.mean()), len(right))


def _calibration(distance: np.ndarray) -> tuple[tuple[float, float, int], ...]:
    """Pairs are turned round in every second place: else every answer would be "better"."""
    first_is_better = np.arange(len(distance)) % 2 == 0
    predicted = 1 / (1 + np.exp(-np.where(first_is_better, distance, -distance)))
    bins = np.minimum((predicted * 10).astype(int), 9)
    return tuple(
        (float(predicted[here].mean()), float(first_is_better[here].mean()), int(here.sum()))
        for here in (bins == b for b in range(10))
        if here.any()
    )
