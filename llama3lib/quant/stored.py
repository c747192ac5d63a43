"""Quantised matrices as named tensors with rows first, as a folder holds them, and back.

Names and shapes are those of compressed-tensors where it has the same numbers (`weight` with one
`weight_scale` a row); its 4-bit layouts have whole zeros, and ours are fractions, so `int4` has a
layout of its own.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Self

import torch
from torch import Tensor, nn

Layout = Mapping[str, tuple[tuple[int, ...], torch.dtype]]
"""Shape and dtype of each stored tensor by the end of its name."""


class StoredLinear(nn.Module, ABC):
    """x · Wᵀ with W in few bits, which can be stored bit for bit.

    scheme: its name in `quantize_model` and in config.json.
    """

    scheme: str

    @staticmethod
    @abstractmethod
    def layout(rows: int, columns: int) -> Layout:
        """What is stored of a matrix of that size."""

    @abstractmethod
    def stored(self) -> dict[str, Tensor]:
        """Its tensors, by the end of their names."""

    @abstractmethod
    def _restore(self, parts: dict[str, Tensor]) -> None:
        """Take over the tensors of `stored`."""

    @property
    @abstractmethod
    def num_rows(self) -> int:
        """O, the length of what it gives."""

    @classmethod
    def empty(cls, **settings: object) -> Self:
        """One without weights yet."""
        made = cls.__new__(cls)
        nn.Module.__init__(made)
        for name, value in settings.items():
            setattr(made, name, value)
        return made

    def restored(self, parts: Mapping[str, Tensor]) -> Self:
        """The same module with these tensors; nothing is rounded again."""
        self._restore(dict(parts))
        return self

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """One matrix of the rows of all, which are the same as before."""
        kept = [part.stored() for part in parts]
        both = {name: torch.cat([one[name] for one in kept]) for name in kept[0]}
        return cls.empty(**_settings(parts[0])).restored(both)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # .to(torch.float32) means the other weights: these numbers are what they are
        before = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, tensor in before.items():
            if self._buffers[name].dtype != tensor.dtype:
                self._buffers[name] = tensor.to(self._buffers[name].device)
        return self

    def _keep(self, **buffers: Tensor) -> None:
        for name, tensor in buffers.items():
            self.register_buffer(name, tensor, persistent=False)


def _settings(module: StoredLinear) -> dict[str, object]:
    """Its plain attributes, besides those that every module has."""
    own = vars(module).keys() - vars(nn.Module()).keys()
    return {name: getattr(module, name) for name in own}
