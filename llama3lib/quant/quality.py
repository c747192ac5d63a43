"""Is the quantised model as good? Compare how many responses score, not a few averages (§6.2).

Benchmarks did not show the paper what too large scales do: most answers stay right, and a few are
corrupted. So it compared the distributions of a reward model's scores over 100,000 responses
(Figure 26). A few corrupted responses hardly move the mean; they fill the low end, the tail.

`compare_scores` takes scores from anywhere. Where no reward model is at hand, `mean_log_prob` of
the model in full precision is ours to stand in: a corrupted text is one that it finds unlikely.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from llama3lib.model import Transformer
from llama3lib.utils.require import at_least, require

Interval = tuple[float, float]


@dataclass(frozen=True)
class ScoreComparison:
    """Two sets of scores side by side; every interval is a bootstrap of 95%."""

    first_mean: float
    second_mean: float
    mean_difference: float
    """Second minus first."""
    mean_difference_interval: Interval
    ks_distance: float
    """Kolmogorov-Smirnov: the largest gap between the two shares of scores below any value."""
    ks_p_value: float
    """Chance of such a gap if both came from one distribution."""
    tail_below: float
    """Scores under this one are the tail: a low quantile of the first set."""
    first_tail: float
    """Share of the first set in the tail."""
    second_tail: float
    second_tail_interval: Interval


def compare_scores(
    first: Float[Tensor, "R"],
    second: Float[Tensor, "Q"],
    *,
    tail: float = 0.01,
    paired: bool = False,
    resamples: int = 1000,
    generator: torch.Generator | None = None,
) -> ScoreComparison:
    """How the distribution of the second scores differs from that of the first.

    tail: the lowest share of the first scores; the same share of the second should lie there.
    paired: number i of both answers the same prompt; then pairs are drawn together, which makes
    the interval of the difference narrower. The p-value takes no notice of pairs.

    Raises ValueError for scores that are not finite, for fewer than 2, for a tail without a
    score, for pairs of different numbers, and for fewer than 1 resamples.
    """
    first, second = _checked("first", first), _checked("second", second)
    require(1 / len(first) <= tail < 1, "tail", tail, f"{1 / len(first):.3g} to below 1")
    if paired and len(first) != len(second):
        raise ValueError(f"paired scores are needed: {len(first)} first and {len(second)} second")
    at_least("resamples", resamples, 1)
    differences, shares = [], []
    for _ in range(resamples):
        chosen = torch.randint(len(first), (len(first),), generator=generator)
        others = chosen
        if not paired:
            others = torch.randint(len(second), (len(second),), generator=generator)
        one, other = first[chosen], second[others]
        differences.append(other.mean() - one.mean())
        shares.append(_share_below(other, _low_quantile(one, tail)))
    below, distance = _low_quantile(first, tail), ks_distance(first, second)
    return ScoreComparison(
        first_mean=first.mean().item(),
        second_mean=second.mean().item(),
        mean_difference=(second.mean() - first.mean()).item(),
        mean_difference_interval=_middle(differences),
        ks_distance=distance,
        ks_p_value=ks_p_value(distance, len(first), len(second)),
        tail_below=below.item(),
        first_tail=_share_below(first, below).item(),
        second_tail=_share_below(second, below).item(),
        second_tail_interval=_middle(shares),
    )


def _checked(name: str, scores: Float[Tensor, "R"]) -> Float[Tensor, "R"]:
    if scores.dim() != 1 or len(scores) < 2 or not scores.isfinite().all():
        raise ValueError(f"{name} is not allowed: one row of at least 2 finite scores")
    return scores.detach().cpu().double()


def _low_quantile(scores: Float[Tensor, "R"], share: float) -> Float[Tensor, ""]:
    """The score that just this share of all scores are below, if no two are equal."""
    below = min(int(share * len(scores) + 1e-9), len(scores) - 1)
    return scores.kthvalue(below + 1).values


def _share_below(scores: Float[Tensor, "R"], value: Float[Tensor, ""]) -> Float[Tensor, ""]:
    return (scores < value).double().mean()


def _middle(values: list[Float[Tensor, ""]]) -> Interval:
    edges = torch.stack(values).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64))
    return edges[0].item(), edges[1].item()


def ks_distance(first: Float[Tensor, "R"], second: Float[Tensor, "Q"]) -> float:
    """The largest gap between the shares of scores at or below a value, over all values."""
    values = torch.cat([first, second])
    shares = [
        torch.searchsorted(scores.sort().values, values, right=True).double() / len(scores)
        for scores in (first, second)
    ]
    return (shares[0] - shares[1]).abs().max().item()


def ks_p_value(distance: float, first_count: int, second_count: int) -> float:
    """Chance of at least this distance between two samples of one distribution.

    Kolmogorov's limit for many scores, 2 Σ (-1)^(k-1) exp(-2 k² x²), with Stephens' correction
    for few; close for 20 scores and more. Equal scores make it cautious, too large.
    """
    root = math.sqrt(first_count * second_count / (first_count + second_count))
    x = (root + 0.12 + 0.11 / root) * distance
    if x < 0.2:  # the sum converges slowly there, and is 1 to twelve digits
        return 1.0
    terms = [(-1) ** (k - 1) * math.exp(-2 * (k * x) ** 2) for k in range(1, 101)]
    return min(1.0, max(0.0, 2 * math.fsum(terms)))


@torch.inference_mode()
def mean_log_prob(
    model: Transformer,
    prompts: Sequence[Sequence[int]],
    responses: Sequence[Sequence[int]],
    *,
    batch_size: int = 16,
) -> Float[Tensor, "R"]:
    """How likely the model finds each response after its prompt: mean log-probability a token.

    prompts, responses: ids, one list each. Rows of a batch are filled up on the right, where
    causal attention keeps the filling from being seen. In nats, float64.

    Raises ValueError for different numbers of prompts and responses, for an empty one, and for a
    batch_size below 1.
    """
    if len(prompts) != len(responses):
        raise ValueError(
            f"responses is not allowed: {len(responses)} of them to {len(prompts)} prompts"
        )
    at_least("batch_size", batch_size, 1)
    for name, rows in (("prompts", prompts), ("responses", responses)):
        for i, row in enumerate(rows):
            if not len(row):
                raise ValueError(f"{name}[{i}]=[] is not allowed: at least one token")
    pairs = list(zip(prompts, responses, strict=True))
    means = [
        _mean_log_prob(model, pairs[start : start + batch_size])
        for start in range(0, len(pairs), batch_size)
    ]
    return torch.cat(means) if means else torch.zeros(0, dtype=torch.float64)


def _mean_log_prob(
    model: Transformer, pairs: list[tuple[Sequence[int], Sequence[int]]]
) -> Float[Tensor, "B"]:
    device = model.norm.weight.device
    length = max(len(prompt) + len(response) for prompt, response in pairs)
    rows = torch.zeros(len(pairs), length, dtype=torch.long, device=device)
    asked = torch.zeros(len(pairs), length - 1, dtype=torch.bool, device=device)
    for i, (prompt, response) in enumerate(pairs):
        rows[i, : len(prompt) + len(response)] = torch.tensor([*prompt, *response], device=device)
        asked[i, len(prompt) - 1 : len(prompt) + len(response) - 1] = True
    h = model.hidden_states(rows[:, :-1])
    logits = model.output(h[asked])  # only where a token of a response is foretold
    wide = logits if logits.dtype == torch.float64 else logits.float()
    losses = F.cross_entropy(wide, rows[:, 1:][asked], reduction="none").double()
    per_token = torch.zeros(asked.shape, dtype=torch.float64, device=device)
    per_token[asked] = -losses
    return (per_token.sum(1) / asked.sum(1)).cpu()
