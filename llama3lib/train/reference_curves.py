"""Reference loss curves: what a recipe gave on other seeds, to hold one's own run against."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from llama3lib.train.config import TrainConfig, load_config
from llama3lib.utils.require import one_of, require

REFERENCE_CURVES = Path(__file__).parent.parent / "assets" / "reference_curves"


@dataclass(frozen=True)
class ReferenceCurve:
    """Mean loss of blocks of steps over several seeds, with the lowest and the highest one.

    `steps[i]` is the last step of block i. All losses are nats a token.
    """

    recipe: str
    seeds: tuple[int, ...]
    steps: tuple[int, ...]
    low: tuple[float, ...]
    mean: tuple[float, ...]
    high: tuple[float, ...]
    machine: str = ""

    def compare(self, losses: Sequence[float]) -> "Comparison":
        """Hold a run's losses, one a step from the first on, against the curve.

        A block is inside if it is at most half the way from lowest to highest outside of them: with
        few seeds the lowest and the highest are not the ends of what can happen.

        Raises ValueError if there is not a whole block of losses.
        """
        own = blocks(losses, self.steps[0])[: len(self.steps)]
        if not own:
            raise ValueError(f"losses has {len(losses)} steps, a block needs {self.steps[0]}")
        n = len(own)
        low, high = np.array(self.low[:n]), np.array(self.high[:n])
        slack = np.maximum((high - low) / 2, 0.01)
        inside = (np.array(own) >= low - slack) & (np.array(own) <= high + slack)
        return Comparison(tuple(own), tuple(bool(ok) for ok in inside))


@dataclass(frozen=True)
class Comparison:
    """A run in blocks, and which of them are inside the reference."""

    losses: tuple[float, ...]
    inside: tuple[bool, ...]

    @property
    def share(self) -> float:
        """Share of the blocks inside."""
        return sum(self.inside) / len(self.inside)


def blocks(losses: Sequence[float], size: int) -> list[float]:
    """Means of whole blocks of `size` losses."""
    count = len(losses) // size
    return np.asarray(losses[: count * size], dtype=float).reshape(count, size).mean(1).tolist()


def make_reference_curve(
    recipe: str, curves: Sequence[Sequence[float]], seeds: Sequence[int], block: int, machine: str
) -> ReferenceCurve:
    """The curve from the losses of several runs of a recipe.

    Raises ValueError for fewer than two runs, runs of different length, or too short for a block.
    """
    if len(curves) < 2 or len({len(curve) for curve in curves}) != 1:
        raise ValueError("curves is not allowed: two or more, all with the same number of steps")
    require(1 <= block <= len(curves[0]), "block", block, f"1 to {len(curves[0])} steps of a run")
    rows = np.array([blocks(curve, block) for curve in curves])
    steps = tuple(block * (n + 1) for n in range(rows.shape[1]))
    low, mean, high = (tuple(np.round(f(0), 4).tolist()) for f in (rows.min, rows.mean, rows.max))
    return ReferenceCurve(recipe, tuple(seeds), steps, low, mean, high, machine)


def reference_curve_names() -> list[str]:
    """The curves that come along."""
    return sorted(path.stem for path in REFERENCE_CURVES.glob("*.json"))


def load_reference_curve(name: str) -> ReferenceCurve:
    """A curve that comes along.

    Raises ValueError if there is none of that name.
    """
    one_of("name", name, reference_curve_names())
    table = json.loads((REFERENCE_CURVES / f"{name}.json").read_text(encoding="utf-8"))
    rows = {key: tuple(v) if isinstance(v, list) else v for key, v in table.items()}
    return ReferenceCurve(**rows)


def save_reference_curve(curve: ReferenceCurve, path: str | Path) -> None:
    """Write a curve for `load_reference_curve`."""
    Path(path).write_text(json.dumps(asdict(curve), indent=1) + "\n", encoding="utf-8")


def reference_curve_of(config: TrainConfig) -> ReferenceCurve | None:
    """A recipe's own curve; None without one, or if what makes it is not as it was then."""
    if config.reference not in reference_curve_names():
        return None
    curve = load_reference_curve(config.reference)
    measured = load_config(curve.recipe)
    names = ("model", "data", "tokenizer", "phases", "optimizer", "document_mask")
    same = all(getattr(config, name) == getattr(measured, name) for name in names)
    return curve if same else None
