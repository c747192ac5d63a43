"""Which examples are worth learning from: scores, and what says the same (paper section 4.2.3).

An example is good if the reward model or a judge finds it so: the two often disagree, and taking
both loses fewest good ones. Among examples that say the same, the best and hardest are kept:
embeddings are clustered, each cluster is sorted by quality times difficulty, and an example stays
if it is not too similar to any that stayed before it. The paper takes RoBERTa's embeddings and
tells no threshold and no number of clusters; here embeddings are given.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llama3lib.utils.require import require, require_all, whole

_ROWS = 4096  # compared with all centres at a time, so that memory does not grow with the data

Item = TypeVar("Item")
Scores = Sequence[float] | Tensor


@dataclass(frozen=True)
class Good:
    """Which examples are good, and by whose word."""

    kept: list[int]
    """Places of the good ones, in order."""
    by_both: int
    by_reward_alone: int
    by_judge_alone: int

    @property
    def agreement(self) -> float:
        """Share of the good ones that both call good; 1 if there are none."""
        return self.by_both / len(self.kept) if self.kept else 1.0


@dataclass(frozen=True)
class Copy:
    """An example that is dropped, and the one for which it is."""

    place: int
    like: int
    """Place of the most similar one that is kept."""
    cosine: float


@dataclass(frozen=True)
class Distinct:
    """What is left when examples that say the same are kept once. Every place is in one list."""

    kept: list[int]
    """In order."""
    copies: list[Copy]
    """In order of their places."""
    clusters: Int[Tensor, "M"]
    """The cluster of each example."""


def scores_of(
    items: Sequence[Item], given: Scores | Callable[[Item], float], field: str = "scores"
) -> Float[Tensor, "M"]:
    """One number for each item, as numbers or as a function that gives it, in float64.

    Raises ValueError that names the place of a number that is not finite, or for another count.
    """
    values = [given(item) for item in items] if callable(given) else given
    require(len(values) == len(items), field, len(values), f"{len(items)}, one an item")
    found = torch.as_tensor(values, dtype=torch.float64)
    for place in (~found.isfinite()).nonzero()[:1].flatten().tolist():
        require(False, f"{field}[{place}]", float(found[place]), "a finite number")
    return found


def good_by_either(rewards: Scores, judged: Scores, *, top: float = 0.25) -> Good:
    """The examples in the top share of rewards, or with the highest mark that the judge gave.

    Equal rewards at the border are all in. The highest mark is the highest that occurs: 3 for
    general English and 2 for code in the paper, so kinds with different scales come one by one.

    Raises ValueError for a share outside 0 to 1, no examples, or numbers as `scores_of`.
    """
    require(0 < top <= 1, "top", top, "above 0, up to 1")
    whole("examples", len(rewards))
    reward, mark = scores_of(rewards, rewards, "rewards"), scores_of(rewards, judged, "judged")
    count = max(1, round(top * len(reward)))
    high, best = reward >= reward.topk(count).values[-1], mark == mark.max()
    return Good(
        kept=(high | best).nonzero().flatten().tolist(),
        by_both=int((high & best).sum()),
        by_reward_alone=int((high & ~best).sum()),
        by_judge_alone=int((best & ~high).sum()),
    )


def semantic_dedup(
    embeddings: Float[Tensor, "M D"],
    quality: Scores,
    difficulty: Scores,
    *,
    threshold: float,
    clusters: int = 1,
    seed: int = 0,
) -> Distinct:
    """Keep what is not too similar to something better: cosine below `threshold` to all kept.

    Only examples of one cluster are compared, so that time grows with the sum of squares of the
    clusters' sizes; copies on both sides of a border stay. With `clusters=1` all are compared.
    Of equally good and hard ones the first stays.

    Raises ValueError for an embedding without direction, a score below 0 (the product of two such
    would be high), a threshold outside 0 to 1, or another count of anything.
    """
    require(0 < threshold < 1, "threshold", threshold, "between 0 and 1")
    rows = _directions(embeddings)
    found = k_means(rows, clusters, seed=seed)
    worth = _not_below_0(rows, quality, "quality") * _not_below_0(rows, difficulty, "difficulty")
    order = worth.argsort(descending=True, stable=True)
    kept, copies = [], []
    for cluster in range(clusters):
        mine = order[found[order] == cluster]
        stayed, fell = _greedy(rows, mine.tolist(), threshold)
        kept += stayed
        copies += fell
    return Distinct(sorted(kept), sorted(copies, key=lambda copy: copy.place), found)


def k_means(
    rows: Float[Tensor, "M D"], clusters: int, *, steps: int = 25, seed: int = 0
) -> Int[Tensor, "M"]:
    """The cluster of each row of length 1, by cosine. The same seed gives the same clusters.

    Centres begin far apart (k-means++); one that loses all its rows takes the row that fits worst.

    Raises ValueError for more clusters than rows.
    """
    whole("clusters", clusters)
    require_all(clusters <= len(rows), "as many rows at least", clusters=clusters, rows=len(rows))
    draw = torch.Generator().manual_seed(seed)
    centres = rows[torch.randint(len(rows), (1,), generator=draw)]
    far = (1 - rows @ centres[0]).clamp(min=0)
    while len(centres) < clusters:
        # rows that are all alike leave nothing to draw by
        chances = far.cpu() if bool(far.any()) else torch.ones(len(rows))
        chosen = rows[torch.multinomial(chances, 1, generator=draw)]
        centres = torch.cat([centres, chosen])
        far = torch.minimum(far, (1 - rows @ chosen[0]).clamp(min=0))
    found = torch.full((len(rows),), -1, device=rows.device)
    for _ in range(steps):
        nearest = [(part @ centres.T).max(1) for part in rows.split(_ROWS)]
        cosine = torch.cat([one.values for one in nearest])
        before, found = found, torch.cat([one.indices for one in nearest])
        if torch.equal(before, found):
            break
        centres = torch.zeros_like(centres).index_add_(0, found, rows)
        empty = (torch.bincount(found, minlength=clusters) == 0).nonzero().flatten()
        centres[empty] = rows[cosine.argsort(stable=True)[: len(empty)]]
        centres /= centres.norm(dim=1, keepdim=True).clamp(min=1e-12)
    return found


def _greedy(
    rows: Float[Tensor, "M D"], order: Sequence[int], threshold: float
) -> tuple[list[int], list[Copy]]:
    """Of the places in `order` those that stay, and the others with what they are like."""
    kept, copies = [], []
    stored = rows.new_empty(len(order), rows.shape[1])
    for place in order:
        if kept:
            cosine, like = (stored[: len(kept)] @ rows[place]).max(0)
            if cosine >= threshold:
                copies.append(Copy(place, kept[int(like)], min(1.0, float(cosine))))
                continue
        stored[len(kept)] = rows[place]
        kept.append(place)
    return kept, copies


def _directions(embeddings: Float[Tensor, "M D"]) -> Float[Tensor, "M D"]:
    """Rows of length 1. In float64: equal rows shall be found equal wherever they stand."""
    require(embeddings.ndim == 2, "embeddings", tuple(embeddings.shape), "a row an example")
    rows = embeddings.detach().double()
    length = rows.norm(dim=1, keepdim=True)
    bad = ~(length.isfinite() & (length > 0)).flatten()
    for place in bad.nonzero()[:1].flatten().tolist():
        told = f"of length {float(length[place]):g}"
        require(False, f"embeddings[{place}]", told, "a row with a direction")
    return rows / length


def _not_below_0(rows: Float[Tensor, "M D"], given: Scores, field: str) -> Float[Tensor, "M"]:
    values = scores_of(rows, given, field)
    for place in (values < 0).nonzero()[:1].flatten().tolist():
        require(False, f"{field}[{place}]", float(values[place]), "0 or more")
    return values.to(rows.device)
