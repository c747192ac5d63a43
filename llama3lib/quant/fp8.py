"""FP8 matrix products as in section 6 of the paper.

Numbers of 8 bits (e4m3: 4 for the exponent, 3 for the fraction) reach from 0.002 to 448 only. So
each row is first divided by a scale that brings its largest number to 448. One scale for a whole
tensor would do that for the largest row only, and let the others sink into the small end.
"""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from llama3lib.quant.stored import Layout, StoredLinear
from llama3lib.utils.require import require

FP8 = torch.float8_e4m3fn
LARGEST = 448.0
"""Largest number that e4m3 can hold."""
BOUND = 1200.0
"""The paper bounds the scales, for tokens such as dates have activations so large that all else in
their row would vanish. The released kernels clamp the row's largest number to 1200 before they
divide by 448; what is larger saturates."""
_TINY = 1e-12


def quantize_rows(
    x: Float[Tensor, "*B I"], upper_bound: float | None = None
) -> tuple[Shaped[Tensor, "*B I"], Float[Tensor, "*B 1"]]:
    """Each row in FP8, and the scale that gives it back: x is about q · scale.

    upper_bound: the largest number of a row counts as at most this; 1200 in the paper.

    Raises ValueError for a bound that is not above 0.
    """
    require(upper_bound is None or upper_bound > 0, "upper_bound", upper_bound, "above 0, or None")
    wide = x.float()
    largest = wide.abs().amax(-1, keepdim=True)
    return _divide(wide, largest, upper_bound)


def fp8_tensorwise(
    x: Float[Tensor, "*B I"], upper_bound: float | None = None
) -> tuple[Shaped[Tensor, "*B I"], Float[Tensor, ""]]:
    """The same with one scale for all: what the paper found to be worse."""
    wide = x.float()
    return _divide(wide, wide.abs().amax(), upper_bound)


def _divide(
    wide: Tensor, largest: Tensor, upper_bound: float | None
) -> tuple[Tensor, Float[Tensor, "*B"]]:
    if upper_bound is not None:
        largest = largest.clamp(max=upper_bound)
    scale = largest.clamp(min=_TINY) / LARGEST
    return (wide / scale).clamp(-LARGEST, LARGEST).to(FP8), scale


def scaled_mm(
    x: Shaped[Tensor, "M I"],
    x_scale: Float[Tensor, "M 1"],
    w: Shaped[Tensor, "O I"],
    w_scale: Float[Tensor, "O 1"],
    dtype: torch.dtype,
) -> Float[Tensor, "M O"]:
    """(x · scale) times (w · scale) transposed.

    On chips with FP8 arithmetic (compute capability 8.9 and up) the product is taken in FP8;
    elsewhere the same numbers are multiplied in float32.
    """
    if x.is_cuda and torch.cuda.get_device_capability(x.device) >= (8, 9):
        out = torch.bfloat16 if dtype == torch.float32 else dtype
        done = torch._scaled_mm(x, w.t(), scale_a=x_scale, scale_b=w_scale.t(), out_dtype=out)
        return done.to(dtype)
    return ((x.float() @ w.float().t()) * x_scale * w_scale.t()).to(dtype)


class FP8Linear(StoredLinear):
    """x · Wᵀ with both in FP8, each row with its own scale.

    The weights are converted once, the activations at each call ("dynamic" scaling). rowwise=False
    is one scale for each tensor, to compare with.
    """

    def __init__(
        self,
        weight: Float[Tensor, "O I"],
        *,
        upper_bound: float | None = BOUND,
        rowwise: bool = True,
    ) -> None:
        super().__init__()
        self.rowwise, self.upper_bound = rowwise, upper_bound
        quantize = quantize_rows if rowwise else fp8_tensorwise
        q, scale = quantize(weight.detach())
        self._keep(q=q, scale=scale.expand(weight.shape[0], 1).contiguous())

    @property
    def scheme(self) -> str:
        """Which of the three recipes it is."""
        if not self.rowwise:
            return "fp8-tensorwise"
        return "fp8-unbounded" if self.upper_bound is None else "fp8"

    @staticmethod
    def layout(rows: int, columns: int) -> Layout:
        return {"weight": ((rows, columns), FP8), "weight_scale": ((rows, 1), torch.float32)}

    @property
    def num_rows(self) -> int:
        return self.q.shape[0]

    def stored(self) -> dict[str, Tensor]:
        return {"weight": self.q, "weight_scale": self.scale}

    def _restore(self, parts: dict[str, Tensor]) -> None:
        self._keep(q=parts["weight"], scale=parts["weight_scale"])

    def forward(self, x: Float[Tensor, "*B I"]) -> Float[Tensor, "*B O"]:
        rows = x.flatten(0, -2)
        quantize = quantize_rows if self.rowwise else fp8_tensorwise
        q, scale = quantize(rows, self.upper_bound)
        scale = scale.expand(rows.shape[0], 1).contiguous()
        return scaled_mm(q, scale, self.q, self.scale, x.dtype).view(*x.shape[:-1], -1)

    def dequantized(self) -> Float[Tensor, "O I"]:
        """The weights that the product really uses, in float32."""
        return self.q.float() * self.scale
