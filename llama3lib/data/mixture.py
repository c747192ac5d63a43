"""Which share of training comes from which source, and how to find good shares (section 3.1.2).

The paper's two tools: a classifier of what kind of knowledge a page has, to sample less of what the
web has too much of; and scaling laws for the mix: many small models on different mixes predict the
loss of a large one.
"""

import math
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from llama3lib.data.document import CorpusStep, Document, Drop
from llama3lib.data.encoding import stable_hash
from llama3lib.utils.require import require, require_all


def epochs(
    shares: Mapping[str, float], source_tokens: Mapping[str, float], budget: float
) -> dict[str, float]:
    """How often each source is read when `budget` tokens are drawn with these shares.

    Raises ValueError if a source has no tokens but a share, or shares do not sum to 1.
    """
    _check_shares(shares)
    if missing := [
        n for n, share in shares.items() if share > 0 and not source_tokens.get(n, 0) > 0
    ]:
        raise ValueError(f"source_tokens[{missing[0]!r}] is not allowed: more than 0 is needed")
    return {
        name: share * budget / source_tokens[name] if share else 0.0
        for name, share in shares.items()
    }


def mixed_texts(
    sources: Mapping[str, Sequence[str]],
    shares: Mapping[str, float],
    characters: int,
    seed: int = 0,
) -> list[str]:
    """Texts drawn with these shares of the characters, in random order; small sources repeat.

    Raises ValueError if a source with a share has no text, or shares do not sum to 1.
    """
    _check_shares(shares)
    if missing := [name for name, share in shares.items() if share > 0 and not sources.get(name)]:
        raise ValueError(f"sources[{missing[0]!r}] is not allowed to be empty: it has a share")
    rng, out = random.Random(seed), []
    for name, share in sorted(shares.items()):
        size = 0
        while size < share * characters:
            out.append(rng.choice(sources[name]))
            size += len(out[-1])
    rng.shuffle(out)
    return out


def annealing_mix(default: Mapping[str, float], new: str, share: float = 0.3) -> dict[str, float]:
    """The mix that tests a new source: `share` of it, the rest as before (paper section 3.1.3).

    Raises ValueError if the source is in the default mix, or the share is not between 0 and 1.
    """
    _check_shares(default)
    require(new not in default, "new", new, "it is in the default mix")
    require(0 < share < 1, "share", share, "between 0 and 1")
    return {**{name: (1 - share) * part for name, part in default.items()}, new: share}


def _check_shares(shares: Mapping[str, float]) -> None:
    positive = all(share >= 0 for share in shares.values())
    ok = positive and abs(sum(shares.values()) - 1) <= 1e-6
    require_all(ok, "0 or more, together 1", shares=dict(shares))


@dataclass(frozen=True)
class MixLaw:
    """Loss on one held-out set as a function of the mix: c + exp(sum_j t_j r_j) for shares r.

    The form is that of "Data Mixing Laws" (Ye et al. 2024); the paper says that it uses such laws
    and gives none. One law for each held-out set: the more of its own kind, the lower its loss.
    """

    names: tuple[str, ...]
    floor: float
    weights: tuple[float, ...]

    def predict(self, shares: Mapping[str, float]) -> float:
        """The loss that the law expects from a mix."""
        exponent = sum(w * shares[n] for w, n in zip(self.weights, self.names, strict=True))
        return self.floor + math.exp(exponent)


def best_mix(laws: Sequence[MixLaw], step: float = 0.05) -> dict[str, float]:
    """The mix of least predicted mean loss on a grid; every source keeps at least one step.

    Raises ValueError if there is no law, they are about different sources, or the step is not
    positive or too large for so many sources.
    """
    if not laws or len({law.names for law in laws}) != 1:
        raise ValueError("laws is not allowed: at least one, all about the same sources")
    require(0 < step <= 1 / len(laws[0].names), "step", step, "above 0, at most 1 / sources")
    names, parts = laws[0].names, round(1 / step)
    grid = (
        dict(zip(names, (n / parts for n in row), strict=True))
        for row in _compositions(parts, len(names))
    )
    return min(grid, key=lambda mix: sum(law.predict(mix) for law in laws))


def _compositions(total: int, count: int) -> Iterable[tuple[int, ...]]:
    """All ways to write `total` as `count` whole numbers of at least 1."""
    if count == 1:
        yield (total,)
        return
    for first in range(1, total - count + 2):
        for rest in _compositions(total - first, count - 1):
            yield (first, *rest)


def fit_mix_law(mixes: Sequence[Mapping[str, float]], losses: Sequence[float]) -> MixLaw:
    """Fit the law to small runs, by least squares on log(loss - floor) for the best floor.

    The constant is part of the weights, since shares sum to one.

    Raises ValueError if there are fewer runs than sources plus one, other numbers of losses, or
    losses that are not positive.
    """
    if not mixes or len(mixes) != len(losses):
        raise ValueError(f"{len(mixes)} mixes, {len(losses)} losses: one each, at least one")
    names = tuple(sorted(mixes[0]))
    for mix in mixes:
        _check_shares(mix)
        if tuple(sorted(mix)) != names:
            raise ValueError(f"mix {dict(mix)!r} is not allowed: sources {list(names)} needed")
    if len(mixes) < len(names) + 1:
        raise ValueError(f"{len(mixes)} runs are too few for {len(names)} sources: one more")
    ok = all(math.isfinite(loss) and loss > 0 for loss in losses)
    require_all(ok, "finite and above 0", losses=list(losses))
    shares = np.array([[mix[name] for name in names] for mix in mixes])
    seen = np.array(losses, dtype=float)
    floors = np.linspace(0, 0.98 * seen.min(), 50)
    for _ in range(5):  # look closer around the best floor
        fits = [_fit_above(float(floor), shares, seen) for floor in floors]
        place = min(range(len(fits)), key=lambda n: fits[n][0])
        _, floor, weights = fits[place]
        floors = np.linspace(floors[max(place - 1, 0)], floors[min(place + 1, 49)], 50)
    return MixLaw(names, floor, tuple(weights.tolist()))


def _fit_above(
    floor: float, shares: np.ndarray, seen: np.ndarray
) -> tuple[float, float, np.ndarray]:
    """Squared error, floor and weights of the best law with this floor."""
    weights, *_ = np.linalg.lstsq(shares, np.log(seen - floor), rcond=None)
    return float(((floor + np.exp(shares @ weights) - seen) ** 2).sum()), floor, weights


@dataclass(frozen=True, kw_only=True)
class DownsampleKinds(CorpusStep):
    """Let no kind of knowledge have more than `most_share` of the documents.

    The kind is in the metadata under `key` (see `TagKind`). Which documents of a kind go is decided
    by a hash of the id, so it is random but the same in every run.
    """

    name: ClassVar[str] = "downsample"
    most_share: float = 0.5
    key: str = "kind"

    def __post_init__(self) -> None:
        require(0 < self.most_share <= 1, "most_share", self.most_share, "above 0, at most 1")

    def _kind(self, document: Document) -> str:
        return str(document.metadata.get(self.key, ""))

    def collect(self, document: Document) -> Any:
        return self._kind(document)

    def decide(self, notes: Iterable[tuple[str, Any]]) -> dict[str, float]:
        """For each kind the share of its documents that stays.

        Taking away from one kind raises the share of the others, so limits are found together: if
        the m largest kinds are cut to c documents each and the others have r, then c is
        `most_share` of m c + r.
        """
        counts = Counter(kind for _, kind in notes)
        sizes = sorted(counts.values(), reverse=True)
        most = float(max(sizes, default=0))
        if len(sizes) * self.most_share < 1:  # cannot be had: all kinds alike is the nearest
            most = float(min(sizes, default=0))
        elif most > self.most_share * sum(sizes):
            for cut in range(1, len(sizes)):
                most = self.most_share * sum(sizes[cut:]) / (1 - cut * self.most_share)
                if sizes[cut] <= most:
                    break
        return {kind: min(1.0, most / n) for kind, n in counts.items()}

    def apply(self, document: Document, decision: dict[str, float]) -> Document | Drop:
        kind = self._kind(document)
        if stable_hash(document.id, seed=1) / 2**64 >= decision[kind]:
            return Drop("too much of a kind", f"{kind}: {decision[kind]:.0%} stay")
        return document
