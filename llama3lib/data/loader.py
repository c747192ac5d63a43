"""Batches of training windows whose order is a pure function of (seed, step).

Nothing is shuffled in memory and nothing has to be remembered but the step: a random permutation
that can be asked for any single place (a Feistel network) says which window comes when. So a run
can resume at any step, on any number of machines, and sees the same batches.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from llama3lib.data.encoding import stable_hash
from llama3lib.data.packing import Packed, window, window_count
from llama3lib.data.tokens import TokenShard
from llama3lib.utils.require import require, require_all

_ROUNDS = 4


def permuted(place: int, size: int, key: int) -> int:
    """Where a random permutation of 0 ... size - 1 sends `place`, without making a table.

    A Feistel network mixes the two halves of the number; results beyond `size` are sent through
    again ("cycle walking"). Each key is another permutation.

    Raises ValueError if place is not in 0 ... size - 1.
    """
    require(0 <= place < size, "place", place, f"0 to {size - 1}")
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    while True:
        left, right = place >> half, place & mask
        for number in range(_ROUNDS):
            left, right = right, left ^ (_mix(right, key, number) & mask)
        place = (left << half) | right
        if place < size:
            return place


def _mix(value: int, key: int, number: int) -> int:
    value = (value + key + number * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return value ^ (value >> 31)


@dataclass(frozen=True)
class Batch:
    """Windows for one step: `tokens` and `document_ids` [B, T + 1], `sources` [B]."""

    tokens: Int[Tensor, "B T1"]
    document_ids: Int[Tensor, "B T1"]
    sources: tuple[str, ...]
    asked: Bool[Tensor, "B T1"] | None = None
    """Of dialogs, the tokens that a loss is taken on; None: on all."""
    ranks: Int[Tensor, "B T1"] | None = None
    """Of rankings, see `Packed`."""

    @property
    def inputs(self) -> Int[Tensor, "B T"]:
        """What the model reads."""
        return self.tokens[:, :-1]

    @property
    def targets(self) -> Int[Tensor, "B T"]:
        """What it should say; -100 where the next token belongs to another document, or is not
        asked for. Of rankings the ranks, which stand where the answers end."""
        if self.ranks is not None:
            return self.ranks[:, :-1]
        wanted = self.document_ids[:, 1:] == self.document_ids[:, :-1]
        if self.asked is not None:
            wanted &= self.asked[:, 1:]
        return self.tokens[:, 1:].masked_fill(~wanted, -100)


class StatefulDataLoader:
    """An endless stream of batches from one or several sources, resumable by one number.

    `sources` maps names to shards; `weights` gives each source's share of the windows (all equal
    if not given). Which sources the rows of step s are from is a function of (seed, s); a row takes
    its source's next window in random order, and after all of them the source begins a new epoch
    in a new order. With `ranks` > 1 each rank gets its rows of the same global batch.

    A run whose batch size or mix changes goes on with another loader: `first_step` is the step it
    begins with and `drawn` says how many windows of each source were used up before, so that none
    comes twice in an epoch.

    `state_dict` and `load_state_dict` follow torchdata's loader of the same name.

    Raises ValueError for unknown sources, weights that are not positive, a bad seed or bad sizes.
    """

    def __init__(
        self,
        sources: Mapping[str, TokenShard],
        *,
        batch_size: int,
        length: int,
        weights: Mapping[str, float] | None = None,
        seed: int = 0,
        rank: int = 0,
        ranks: int = 1,
        first_step: int = 0,
        drawn: Mapping[str, int] | None = None,
    ) -> None:
        weights = dict.fromkeys(sources, 1.0) if weights is None else weights
        _check(sources, weights, batch_size, rank, ranks)
        require(0 <= seed < 1 << 64, "seed", seed, "0 to 2^64 - 1")
        self.sources, self.batch_size, self.length = dict(sources), batch_size, length
        self.seed, self.rank, self.ranks = seed, rank, ranks
        self.step = self.first_step = first_step
        self.names = sorted(name for name in sources if weights[name] > 0)
        total = sum(weights[name] for name in self.names)
        self.weights = {name: weights[name] / total for name in self.names}
        self.windows = {name: window_count(sources[name], length) for name in self.names}
        before = [(drawn or {}).get(name, 0) for name in self.names]
        ok = first_step >= 0 and min(before) >= 0
        require_all(ok, "0 or more", first_step=first_step, drawn=drawn)
        self._before = np.asarray(before, dtype=np.int64)
        self._counts = self._before.copy()  # windows drawn before `step`

    def __iter__(self) -> Iterator[Batch]:
        while True:
            yield self.next()

    def next(self) -> Batch:
        """The batch of the current step; the step moves on."""
        picks = self.picks(self.step)
        places, counts = [], self._counts.copy()
        for pick in picks:
            places.append((pick, int(counts[pick])))
            counts[pick] += 1
        rows = [self._row(*place) for place in places[self.rank :: self.ranks]]
        self._counts, self.step = counts, self.step + 1
        tokens = torch.from_numpy(np.stack([row.tokens for row in rows]))
        owners = torch.from_numpy(np.stack([row.document_ids for row in rows]))
        mine = places[self.rank :: self.ranks]
        names = tuple(self.names[pick] for pick, _ in mine)
        return Batch(tokens, owners, names, _asked(rows), _ranks(rows))

    def picks(self, step: int) -> list[int]:
        """The source (its place in `names`) of each row of the global batch of a step.

        Systematic sampling: one random offset, then equal strides through the weights. So each
        batch has the shares that the weights ask for, to within one row.
        """
        offset = stable_hash(f"{step}", self.seed) / 2**64
        edges = np.cumsum([self.weights[name] for name in self.names])
        marks = (np.arange(self.batch_size) + offset) / self.batch_size
        return np.minimum(np.searchsorted(edges, marks, "right"), len(edges) - 1).tolist()

    def _row(self, pick: int, count: int) -> Packed:
        name = self.names[pick]
        epoch, place = divmod(count, self.windows[name])
        key = stable_hash(f"{name}:{epoch}", self.seed)
        return window(self.sources[name], permuted(place, self.windows[name], key), self.length)

    def drawn(self) -> dict[str, int]:
        """Windows of each source that have been used so far, all epochs together."""
        return dict(zip(self.names, self._counts.tolist(), strict=True))

    def epochs(self) -> dict[str, float]:
        """How often each source has been read so far."""
        pairs = zip(self.names, self._counts, strict=True)
        return {name: float(count / self.windows[name]) for name, count in pairs}

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on: the step, and what must be the same for it to mean it."""
        return {
            "step": self.step,
            "seed": self.seed,
            "batch_size": self.batch_size,
            "length": self.length,
            "weights": dict(self.weights),
            "windows": dict(self.windows),
            "data": {name: self.sources[name].digest for name in self.names},
            "first_step": self.first_step,
            "before": dict(zip(self.names, self._before.tolist(), strict=True)),
            "drawn": self._counts.tolist(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken; rank and number of ranks may differ.

        Raises ValueError if the data or the settings are others: the order would be another.
        """
        mine = self.state_dict()
        fixed = (
            "seed",
            "batch_size",
            "length",
            "weights",
            "windows",
            "data",
            "first_step",
            "before",
        )
        for name in fixed:
            if state.get(name) != mine[name]:
                raise ValueError(f"{name}={state.get(name)!r} was saved, this is {mine[name]!r}")
        step, drawn = state.get("step"), state.get("drawn")
        whole = isinstance(step, int) and isinstance(drawn, list)
        if not whole or step < self.first_step:
            raise ValueError(f"step={step!r}, drawn={drawn!r} are not what state_dict gives")
        rows = (step - self.first_step) * self.batch_size + int(self._before.sum())
        if len(drawn) != len(self.names) or sum(drawn) != rows:
            raise ValueError(f"drawn={drawn!r} does not fit step={step!r}")
        self.step, self._counts = step, np.asarray(drawn, dtype=np.int64)


def _asked(rows: Sequence[Packed]) -> Tensor | None:
    """Which tokens of a batch are asked for; None if none of its rows is of dialogs."""
    if all(row.asked is None for row in rows):
        return None
    every = [np.ones(len(r.tokens), np.bool_) if r.asked is None else r.asked for r in rows]
    return torch.from_numpy(np.stack(every))


def _ranks(rows: Sequence[Packed]) -> Tensor | None:
    """Of a batch of rankings. Raises ValueError if only some of its rows are."""
    kinds = {row.ranks is None for row in rows}
    require(len(kinds) == 1, "data", "rankings and others", "sources that are all rankings or none")
    return None if True in kinds else torch.from_numpy(np.stack([row.ranks for row in rows]))


def _check(
    sources: Mapping[str, TokenShard],
    weights: Mapping[str, float],
    batch_size: int,
    rank: int,
    ranks: int,
) -> None:
    ok = sources and set(weights) == set(sources)
    require_all(ok, f"{sorted(sources)} needed", weights=sorted(weights))
    least, total = min(weights.values()), sum(weights.values())
    require_all(least >= 0 and 0 < total < np.inf, "0 or more, one above 0", weights=dict(weights))
    if batch_size < 1 or not 0 <= rank < ranks or batch_size < ranks:
        raise ValueError(
            f"batch_size={batch_size!r}, rank={rank!r}, ranks={ranks!r} are not allowed: "
            "at least one row for each rank, and rank below ranks"
        )
