"""What a needle test found, and the gate between two stages of long-context training (§3.4.2)."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from llama3lib.utils.require import require


@dataclass(frozen=True, eq=False)
class NeedleGrid:
    """How often the needle was found, by length and depth.

    lengths: tokens, rising. depths: 0 (at the beginning) to 1, rising.
    found, tries [lengths, depths]: counts. nats: mean -log p per answer token, which moves long
    before the counts do.
    """

    lengths: tuple[int, ...]
    depths: tuple[float, ...]
    found: Int[np.ndarray, "L D"]
    tries: Int[np.ndarray, "L D"]
    nats: Float[np.ndarray, "L D"]

    def __post_init__(self) -> None:
        shape = (len(self.lengths), len(self.depths))
        for field in ("found", "tries", "nats"):
            if getattr(self, field).shape != shape:
                raise ValueError(f"{field} has shape {getattr(self, field).shape}: {shape} needed")
        if (self.tries < 1).any() or (self.found < 0).any() or (self.found > self.tries).any():
            raise ValueError("found and tries are not allowed: 0 to tries, and tries 1 or more")

    @property
    def share(self) -> Float[np.ndarray, "L D"]:
        """Found, as a fraction of the tries."""
        return self.found / self.tries

    def worst(self, length: int) -> float:
        """The smallest share of any depth at this length or a shorter one.

        Raises ValueError if the length was not measured.
        """
        if length not in self.lengths:
            raise ValueError(f"length={length!r} was not measured: use one of {self.lengths}")
        return float(self.share[: self.lengths.index(length) + 1].min())

    def solved(self, length: int, at_least: float = 1.0) -> bool:
        """True if the needle is found everywhere up to that length (§3.4.2).

        at_least: the share that counts as found; the paper says "solved", so 1.
        """
        _check_share(at_least)
        return self.worst(length) >= at_least

    def table(self) -> list[dict[str, float]]:
        """One row a cell: length, depth, found, tries, share, nats."""
        share = self.share
        return [
            dict(
                length=length,
                depth=depth,
                found=int(self.found[i, j]),
                tries=int(self.tries[i, j]),
                share=float(share[i, j]),
                nats=float(self.nats[i, j]),
            )
            for i, length in enumerate(self.lengths)
            for j, depth in enumerate(self.depths)
        ]


@dataclass(frozen=True, kw_only=True)
class GateReport:
    """Both numbers the gate looks at, and what it says."""

    length: int
    short_loss: float
    allowed_loss: float
    """Reference plus tolerance."""
    needle_share: float
    """The worst share of any depth up to `length`."""
    needed_share: float

    @property
    def recovered(self) -> bool:
        """True if short texts are read as well as before."""
        return self.short_loss <= self.allowed_loss

    @property
    def solved(self) -> bool:
        """True if the needle is found up to that length."""
        return self.needle_share >= self.needed_share

    @property
    def passed(self) -> bool:
        """True if training may go on to longer texts."""
        return self.recovered and self.solved


@dataclass(frozen=True, kw_only=True)
class LongContextGate:
    """When has a model adapted to a length, so that the next stage may begin? (§3.4.2)

    The paper asks two things: short-context evaluations have fully recovered, and the needle is
    found up to that length. It gives no numbers for either; "solved" is read as always found.

    reference_loss: short-context loss before the first stage, nats per token.
    tolerance: how much above it still counts as recovered; about two standard errors of the loss
    is sensible.
    at_least: share of needles to be found in the worst cell.

    Raises ValueError if a number is not finite, tolerance is below 0, or at_least not above 0
    and at most 1.
    """

    reference_loss: float
    tolerance: float = 0.01
    at_least: float = 1.0

    def __post_init__(self) -> None:
        require(math.isfinite(self.reference_loss), "reference_loss", self.reference_loss, "finite")
        ok = math.isfinite(self.tolerance) and self.tolerance >= 0
        require(ok, "tolerance", self.tolerance, "finite, 0 or more")
        _check_share(self.at_least)

    def check(self, short_loss: float, grid: NeedleGrid, length: int) -> GateReport:
        """Judge one length. A short_loss that is nan does not pass.

        Raises ValueError if the grid has no such length.
        """
        return GateReport(
            length=length,
            short_loss=short_loss,
            allowed_loss=self.reference_loss + self.tolerance,
            needle_share=grid.worst(length),
            needed_share=self.at_least,
        )


def _check_share(at_least: float) -> None:
    require(0 < at_least <= 1, "at_least", at_least, "above 0 and at most 1")
