"""Rotary position embedding: position turns each pair of channels by an angle (§3.2, Table 3).

A pair is read as one complex number, so "turn it" is "multiply it". Meta's weights pair
neighbours (0, 1), (2, 3), ...; Hugging Face's pair the two halves (0, H/2), (1, H/2 + 1), ...
The two differ by a permutation of the rows of `wq` and `wk`, and by nothing else.
"""

import math

import torch
from jaxtyping import Complex, Float, Shaped
from torch import Tensor

from llama3lib.model.args import RopeScaling
from llama3lib.utils.require import require


def rope_frequencies(
    head_dim: int, theta: float, scaling: RopeScaling | None = None
) -> Float[Tensor, "half"]:
    """Radians per position of each pair, fastest first, in float64.

    Pair i turns by theta^(-2i/head_dim). With `scaling` (released Llama 3.1 code, not in the
    paper) the slow pairs turn `factor` times slower still. For head_dim 128, theta 500,000 and
    the released values: 29 pairs kept, 6 blended, 29 divided by 8.

    Raises ValueError if head_dim is not an even number above 0 or theta not above 0.
    """
    ok = head_dim > 0 and head_dim % 2 == 0
    require(ok, "head_dim", head_dim, "an even whole number above 0")
    require(theta > 0, "theta", theta, "a number above 0")
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim
    freqs = float(theta) ** -exponents
    if scaling is None:
        return freqs
    # how often each pair turns within the original context decides what happens to it
    turns = scaling.original_max_seq_len * freqs / (2 * math.pi)
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    keep = ((turns - low) / (high - low)).clamp(0, 1)  # 1: untouched, 0: divided by factor
    return keep * freqs + (1 - keep) * freqs / scaling.factor


def precompute_freqs_cis(
    head_dim: int,
    length: int,
    theta: float,
    scaling: RopeScaling | None = None,
    *,
    dtype: torch.dtype = torch.complex64,
    device: torch.device | str | None = None,
) -> Complex[Tensor, "S half"]:
    """Table of unit complex numbers: row p, column i is exp(1j · p · frequency_i).

    Angles are computed in float64 whatever `dtype` is: in float32 the angle at position
    100,000 is already wrong in the third decimal.
    """
    if device is not None and torch.device(device).type == "meta":
        return torch.empty(length, head_dim // 2, dtype=dtype, device="meta")
    # the CPU computes the angles: some accelerators have no float64
    freqs = rope_frequencies(head_dim, theta, scaling).cpu()
    angles = torch.outer(torch.arange(length, dtype=torch.float64, device="cpu"), freqs)
    return torch.polar(torch.ones_like(angles), angles).to(dtype).to(device or "cpu")


def apply_rotary_emb(
    x: Float[Tensor, "B T N H"], freqs_cis: Complex[Tensor, "#B T half"]
) -> Float[Tensor, "B T N H"]:
    """Turn each neighbouring pair of every head by its position's angle; lengths do not change.

    Works in float32 at least (float64 if the table is complex128): in bfloat16 the angles of
    far positions would blur. Returns the dtype of x.
    """
    wide = torch.float64 if freqs_cis.dtype == torch.complex128 else torch.float32
    if torch.compiler.is_compiling():  # the compiler writes no code for complex numbers
        return _turn_real(x.to(wide), torch.view_as_real(freqs_cis)).to(x.dtype)
    pairs = torch.view_as_complex(x.to(wide).unflatten(-1, (-1, 2)))
    turned = pairs * freqs_cis.unsqueeze(2)  # the same angle for every head
    return torch.view_as_real(turned).flatten(-2).to(x.dtype)


def _turn_real(
    x: Float[Tensor, "B T N H"], parts: Float[Tensor, "#B T half 2"]
) -> Float[Tensor, "B T N H"]:
    """The same turn written out: (a + bi)(c + si) = (ac - bs) + (as + bc)i."""
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = parts.unsqueeze(2).unbind(-1)
    return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2)


def interleaved_to_half(weight: Shaped[Tensor, "NH *D"], n_heads: int) -> Shaped[Tensor, "NH *D"]:
    """Reorder the rows of wq or wk from Meta's layout (neighbours) to Hugging Face's (halves)."""
    rows, *rest = weight.shape
    _check_heads(rows, n_heads)
    return (
        weight.reshape(n_heads, rows // n_heads // 2, 2, *rest).transpose(1, 2).reshape(rows, *rest)
    )


def half_to_interleaved(weight: Shaped[Tensor, "NH *D"], n_heads: int) -> Shaped[Tensor, "NH *D"]:
    """Reorder the rows of wq or wk from Hugging Face's layout (halves) to Meta's (neighbours)."""
    rows, *rest = weight.shape
    _check_heads(rows, n_heads)
    return (
        weight.reshape(n_heads, 2, rows // n_heads // 2, *rest).transpose(1, 2).reshape(rows, *rest)
    )


def _check_heads(rows: int, n_heads: int) -> None:
    ok = n_heads > 0 and rows % (2 * n_heads) == 0
    require(ok, "n_heads", n_heads, f"{rows} rows must split into even heads")
