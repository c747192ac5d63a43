"""Means of weights: of several checkpoints of a run, or of all steps while it goes on.

"We compute the average of model checkpoints (Polyak averaging) during annealing to produce the
final pre-trained model" (§3.4.3).
"""

import os
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from llama3lib.checkpoint.manager import CheckpointManager
from llama3lib.utils.require import require


def average_checkpoints(
    manager: CheckpointManager | str | os.PathLike, steps: Sequence[int] | None = None
) -> dict[str, Tensor]:
    """The mean of the "model" tensors of some steps, or of all steps there are (§3.4.3).

    Sums are float64 and the result has the dtype that is stored; whole numbers and truth values
    must be the same in every checkpoint. One checkpoint is in memory at a time, besides the sums.
    Raises ValueError on no steps, a step twice, other names, shapes or dtypes than in the first,
    and CheckpointError for a step that is missing or damaged.
    """
    if not isinstance(manager, CheckpointManager):
        manager = CheckpointManager(manager)
    manager.wait()  # the newest one counts too
    steps = list(manager.steps() if steps is None else steps)
    require(steps and len(set(steps)) >= len(steps), "steps", steps, "one or more steps, each once")
    first = manager.load_tensors(steps[0], "model")
    sums = {name: tensor.to(_sum_dtype(tensor.dtype)) for name, tensor in first.items()}
    kinds = {name: tensor.dtype for name, tensor in first.items()}
    del first
    for step in steps[1:]:
        _add(sums, kinds, manager.load_tensors(step, "model"), step)
    return {name: _finish(total, len(steps), kinds[name]) for name, total in sums.items()}


class RunningMean:
    """The mean of named tensors over the updates so far, kept in float32 or better.

    With each update the mean moves by 1/count of the way to the new value, so no history is kept.
    `state` is made of tensors and may lie in a checkpoint that fills them in place: pass the
    tensors at the start then, so that it has its shapes from step 0.
    """

    def __init__(self, named_tensors: Mapping[str, Tensor] | None = None) -> None:
        """named_tensors: whose shapes and devices the means take; left out, the first update's.

        Raises ValueError for tensors that are not floating-point.
        """
        self._count = torch.zeros((), dtype=torch.int64)
        self._means: dict[str, Tensor] = {}
        if named_tensors is not None:
            self._means = {name: _zeros(name, tensor) for name, tensor in named_tensors.items()}

    @property
    def count(self) -> int:
        """How many updates there were."""
        return int(self._count)

    @torch.no_grad()
    def update(self, named_tensors: Mapping[str, Tensor]) -> None:
        """Take the tensors as they are now into the mean.

        Raises ValueError, and changes nothing, if names or shapes are others than before.
        """
        if not self._means:
            self._means = {name: _zeros(name, tensor) for name, tensor in named_tensors.items()}
        _check_like(self._means, named_tensors)
        self._count += 1
        for name, mean in self._means.items():
            value = named_tensors[name].detach().to(mean.device, mean.dtype)
            mean.add_((value - mean) / self.count)

    def mean(self) -> dict[str, Tensor]:
        """Copies of the means. Raises ValueError if there was no update."""
        if not self.count:
            raise ValueError("count=0: there is no mean before the first update")
        return {name: mean.clone() for name, mean in self._means.items()}

    def state(self) -> dict[str, Tensor | dict[str, Tensor]]:
        """The tensors themselves: {"mean": by name, "count": a 0-dim int64}.

        Filling them in place is as good as `load_state`.
        """
        return {"mean": self._means, "count": self._count}

    @torch.no_grad()
    def load_state(self, state: Mapping) -> None:
        """Go on from what `state` gave. Raises ValueError if names or shapes are others."""
        if not self._means:
            self._means = {name: _zeros(name, value) for name, value in state["mean"].items()}
        _check_like(self._means, state["mean"])
        for name, mean in self._means.items():
            mean.copy_(state["mean"][name])
        self._count.copy_(state["count"])


def _sum_dtype(dtype: torch.dtype) -> torch.dtype:
    if dtype.is_complex:
        return torch.complex128
    return torch.float64 if dtype.is_floating_point else dtype


def _add(
    sums: dict[str, Tensor], kinds: dict[str, torch.dtype], more: dict[str, Tensor], step: int
) -> None:
    _check_like(sums, more, f"step {step}")
    for name, total in sums.items():
        if more[name].dtype != kinds[name]:
            raise ValueError(f"step {step}: {name} is {more[name].dtype}, not {kinds[name]}")
        if total.dtype == kinds[name] and not (total.is_floating_point() or total.is_complex()):
            if not torch.equal(total, more[name]):
                raise ValueError(f"step {step}: {name} has other whole numbers: no mean exists")
        else:
            total += more[name]


def _finish(total: Tensor, count: int, dtype: torch.dtype) -> Tensor:
    summed = total.is_floating_point() or total.is_complex()
    return (total / count).to(dtype) if summed else total


def _zeros(name: str, tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        raise ValueError(f"{name} is {tensor.dtype}: a floating-point tensor is needed")
    wide = torch.float64 if tensor.dtype == torch.float64 else torch.float32
    return torch.zeros_like(tensor, dtype=wide, requires_grad=False)


def _check_like(known: Mapping[str, Tensor], new: Mapping[str, Tensor], where: str = "now") -> None:
    """Names and shapes of both are the same."""
    if odd := sorted(known.keys() ^ new.keys()):
        raise ValueError(f"{where}: tensors are missing or unexpected, first {odd[0]}")
    for name, tensor in known.items():
        if tensor.shape != new[name].shape:
            found, wanted = list(new[name].shape), list(tensor.shape)
            raise ValueError(f"{where}: {name} has shape {found}, {wanted} is expected")
