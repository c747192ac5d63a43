"""From logits to one token: temperature, then top-k, top-p and min-p, then a draw.

Also how likely the model itself held a token, before temperature and the rest (`token_logprobs`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llama3lib.inference.sampling_params import SamplingParams


def sampling_probs(logits: Float[Tensor, "*B V"], params: SamplingParams) -> Float[Tensor, "*B V"]:
    """The distribution that tokens are drawn from, in float32 or wider; each row sums to 1.

    Temperature 0 puts everything on the likeliest token. top_p keeps a token if those before it
    (likeliest first) have not yet passed p, so at least one is always kept.
    """
    wide = logits.double() if logits.dtype == torch.float64 else logits.float()
    if params.temperature == 0:
        best = wide.argmax(-1, keepdim=True)
        return torch.zeros_like(wide).scatter_(-1, best, 1.0)
    # measured from the largest logit, so that a tiny temperature cannot overflow
    # and never divided by what is 0 in this format
    least = torch.finfo(wide.dtype).tiny
    wide = (wide - wide.amax(-1, keepdim=True)) / max(params.temperature, least)
    probs = wide.softmax(-1)
    if 0 < params.top_k < probs.shape[-1]:
        kept = probs.topk(params.top_k, -1)
        probs = _renormalise(torch.zeros_like(probs).scatter_(-1, kept.indices, kept.values))
    if params.top_p < 1:
        ordered, order = probs.sort(dim=-1, descending=True, stable=True)
        before = ordered.cumsum(-1) - ordered
        ordered = ordered.masked_fill(before > params.top_p, 0)
        probs = _renormalise(torch.zeros_like(probs).scatter_(-1, order, ordered))
    if params.min_p > 0:
        floor = params.min_p * probs.amax(-1, keepdim=True)
        probs = _renormalise(probs.masked_fill(probs < floor, 0))
    return probs


def sample(
    logits: Float[Tensor, "B V"], params: SamplingParams, generator: torch.Generator | None = None
) -> Int[Tensor, "B"]:
    """One token a row: the likeliest at temperature 0, else a draw from `sampling_probs`."""
    if params.temperature == 0:
        return logits.argmax(-1)
    probs = sampling_probs(logits, params)
    return torch.multinomial(probs, 1, generator=generator).squeeze(-1)


@dataclass(frozen=True)
class TokenLogprob:
    """Natural logarithm of the probability that the model itself gave to a drawn token."""

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()
    """The likeliest tokens at this place, likeliest first."""


def token_logprobs(
    logits: Float[Tensor, "B V"], tokens: Sequence[int], counts: Sequence[int | None]
) -> list[TokenLogprob | None]:
    """For each row what the model thought of its token: log_softmax of the raw logits.

    counts: how many of the likeliest tokens to name; None for a row where nothing is wanted.
    """
    found: list[TokenLogprob | None] = [None] * len(tokens)
    wanted = [i for i, count in enumerate(counts) if count is not None]
    if not wanted:
        return found
    rows = logits[wanted]
    logprobs = (rows if rows.dtype == torch.float64 else rows.float()).log_softmax(-1)
    most = min(max(counts[i] for i in wanted), logits.shape[-1])
    values, ids = (part.tolist() for part in logprobs.topk(most, -1))
    for row, i in enumerate(wanted):
        top = tuple(zip(ids[row], values[row], strict=True))[: counts[i]]
        found[i] = TokenLogprob(tokens[i], float(logprobs[row, tokens[i]]), top)
    return found


def _renormalise(probs: Float[Tensor, "*B V"]) -> Float[Tensor, "*B V"]:
    return probs / probs.sum(-1, keepdim=True)
