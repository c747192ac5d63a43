"""Weights as whole numbers of 8 or 4 bits; activations stay as they are, but for one scheme.

Writing one text, a CPU waits for weights, not for arithmetic: with half the bytes it waits half as
long. Not in the paper, which serves on GPUs; the schemes are common ones (ours to choose).
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int8
from torch import Tensor

from llama3lib.quant.stored import Layout, StoredLinear

_TINY = 1e-12


class _Int8Rows(StoredLinear):
    """A matrix of 8-bit whole numbers, each row with a scale."""

    scale_dtype: ClassVar[torch.dtype]

    @classmethod
    def layout(cls, rows: int, columns: int) -> Layout:
        return {
            "weight": ((rows, columns), torch.int8),
            "weight_scale": ((rows, 1), cls.scale_dtype),
        }

    @property
    def num_rows(self) -> int:
        return self.q.shape[0]

    def stored(self) -> dict[str, Tensor]:
        return {"weight": self.q, "weight_scale": self.scale.unsqueeze(1)}

    def _restore(self, parts: dict[str, Tensor]) -> None:
        self._keep(q=parts["weight"], scale=parts["weight_scale"].flatten())


class Int8Linear(_Int8Rows):
    """x · Wᵀ with each row of W as 8-bit whole numbers and one scale, rounded to the nearest.

    On a CPU products are taken in bfloat16, whose kernel was six times as fast as float32's.
    """

    scheme, scale_dtype = "int8", torch.bfloat16

    def __init__(self, weight: Float[Tensor, "O I"]) -> None:
        super().__init__()
        wide = weight.detach().float()
        scale = (wide.abs().amax(1).clamp(min=_TINY) / 127.5).bfloat16()
        # rounded with the scale that is kept, so that its own rounding costs nothing
        q = (wide / scale.float().unsqueeze(1)).round().clamp(-128, 127).to(torch.int8)
        self._keep(q=q, scale=scale)

    def forward(self, x: Float[Tensor, "*B I"]) -> Float[Tensor, "*B O"]:
        rows = x.reshape(-1, x.shape[-1])
        if rows.device.type == "cpu":
            done = torch._weight_int8pack_mm(rows.bfloat16(), self.q, self.scale)
        else:
            done = F.linear(rows, self.q.to(rows.dtype)) * self.scale.to(rows.dtype)
        return done.to(x.dtype).view(*x.shape[:-1], -1)

    def dequantized(self) -> Float[Tensor, "O I"]:
        """The weights that the product really uses, in float32."""
        return self.q.float() * self.scale.float().unsqueeze(1)


class Int8DynamicLinear(_Int8Rows):
    """x · Wᵀ in 8-bit whole numbers on both sides: W as in `Int8Linear`, and each row of x, too.

    The rows of x get their scales at each call ("dynamic"), as in the paper's FP8 recipe. The
    products are exact sums in 32 bits; on a CPU they were up to five times as fast as those of
    `Int8Linear`, most for many rows.
    """

    scheme, scale_dtype = "int8-dynamic", torch.float32

    def __init__(self, weight: Float[Tensor, "O I"]) -> None:
        super().__init__()
        q, scale = _whole_rows(weight.detach().float())
        self._keep(q=q, scale=scale.flatten())

    def forward(self, x: Float[Tensor, "*B I"]) -> Float[Tensor, "*B O"]:
        q, scale = _whole_rows(x.reshape(-1, x.shape[-1]).float())
        if q.device.type == "cpu":
            sums = torch._int_mm(q, self.q.t()).float()
        else:  # the kernel there takes no small batches
            sums = F.linear(q.float(), self.q.float())
        return (sums * scale * self.scale).to(x.dtype).view(*x.shape[:-1], -1)

    def dequantized(self) -> Float[Tensor, "O I"]:
        """The weights that the product really uses, in float32."""
        return self.q.float() * self.scale.unsqueeze(1)


def _whole_rows(x: Float[Tensor, "M I"]) -> tuple[Int8[Tensor, "M I"], Float[Tensor, "M 1"]]:
    """Each row in whole numbers from -127 to 127, and the scale that gives it back."""
    scale = x.abs().amax(-1, keepdim=True).clamp(min=_TINY) / 127
    return (x / scale).round().to(torch.int8), scale


class Int4Linear(StoredLinear):
    """x · Wᵀ with each group of 32 weights of a row as 4-bit whole numbers, a scale and a zero.

    CPU only: the packed order is that of PyTorch's kernel. Products are taken in bfloat16.

    Raises ValueError for sizes that the kernel cannot pack.
    """

    GROUP = 32
    BLOCK = 64  # rows that the kernel packs together, at most
    scheme = "int4"

    def __init__(self, weight: Float[Tensor, "O I"]) -> None:
        super().__init__()
        self.check(weight)
        rows, columns = weight.shape
        groups = weight.detach().float().view(rows, -1, self.GROUP)
        low, high = groups.amin(-1, keepdim=True), groups.amax(-1, keepdim=True)
        scale = ((high - low) / 15).clamp(min=1e-6)
        # the kernel gives back (q - 8) · scale + zero
        zero = low + 8 * scale
        scale, zero = scale.bfloat16(), zero.bfloat16()
        q = ((groups - zero.float()) / scale.float() + 8).round().clamp(0, 15)
        self._pack(q.to(torch.int32).view(rows, columns), scale.squeeze(-1), zero.squeeze(-1))

    def _pack(self, whole: Tensor, scale: Tensor, zero: Tensor) -> None:
        packed = torch._convert_weight_to_int4pack_for_cpu(whole, innerKTiles=2)
        both = torch.stack([scale, zero], -1).transpose(0, 1).contiguous()
        self._keep(packed=packed, scale_and_zero=both)

    @classmethod
    def layout(cls, rows: int, columns: int) -> Layout:
        groups = (rows, columns // cls.GROUP)
        return {
            "weight_packed": ((rows, columns // 2), torch.uint8),
            "weight_scale": (groups, torch.bfloat16),
            "weight_zero": (groups, torch.bfloat16),
        }

    @property
    def num_rows(self) -> int:
        return self.scale_and_zero.shape[1]

    def stored(self) -> dict[str, Tensor]:
        """Two q a byte, the first in its lower half; a weight is (q - 8) · scale + zero."""
        q = (self._centred() + 8).to(torch.uint8)
        scale, zero = self.scale_and_zero.transpose(0, 1).contiguous().unbind(2)
        return {
            "weight_packed": q[:, ::2] | q[:, 1::2] << 4,
            "weight_scale": scale,
            "weight_zero": zero,
        }

    def _restore(self, parts: dict[str, Tensor]) -> None:
        q = parts["weight_packed"].to(torch.int32)
        whole = torch.stack([q & 15, q >> 4], -1).flatten(1)
        self._pack(whole, parts["weight_scale"], parts["weight_zero"])

    @classmethod
    def joined(cls, parts: Sequence["Int4Linear"]) -> "Int4Linear":
        if any(part.packed.shape[0] % cls.BLOCK for part in parts):
            return super().joined(parts)
        made = cls.empty()
        packed = torch.cat([part.packed for part in parts])
        both = torch.cat([part.scale_and_zero for part in parts], 1)
        made._keep(packed=packed, scale_and_zero=both)
        return made

    @classmethod
    def check(cls, weight: Float[Tensor, "O I"]) -> None:
        """Raises ValueError for a matrix that cannot be packed; builds nothing."""
        rows, columns = weight.shape
        if rows % 16 or columns % cls.GROUP:
            raise ValueError(
                f"weight of {rows} x {columns} is not allowed: multiples of 16 and {cls.GROUP}"
            )
        if weight.device.type != "cpu":
            raise ValueError(f"device={weight.device} is not allowed: 4-bit products need a CPU")

    def forward(self, x: Float[Tensor, "*B I"]) -> Float[Tensor, "*B O"]:
        rows = x.reshape(-1, x.shape[-1]).bfloat16()
        done = torch._weight_int4pack_mm_for_cpu(rows, self.packed, self.GROUP, self.scale_and_zero)
        return done.to(x.dtype).view(*x.shape[:-1], -1)

    def dequantized(self) -> Float[Tensor, "O I"]:
        """The weights that the product really uses, in float32."""
        groups, rows, _ = self.scale_and_zero.shape
        scale, zero = self.scale_and_zero.float().transpose(0, 1).unsqueeze(-1).unbind(2)
        return (self._centred().view(rows, groups, -1) * scale + zero).view(rows, -1)

    def _centred(self) -> Float[Tensor, "O I"]:
        """q - 8, in float32."""
        groups, rows, _ = self.scale_and_zero.shape
        # only the kernel can read the packed order: with scale 1 and zero 0 it tells q - 8
        plain = torch.stack([torch.ones(groups, rows), torch.zeros(groups, rows)], -1).bfloat16()
        one_hot = torch.eye(groups * self.GROUP, dtype=torch.bfloat16)
        q = torch._weight_int4pack_mm_for_cpu(one_hot, self.packed, self.GROUP, plain)
        return q.float().t().contiguous()
