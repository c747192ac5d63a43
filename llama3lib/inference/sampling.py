"""From logits to one token: temperature, then top-k, top-p and min-p, then a draw.

Also how likely the model itself held a token, before temperature and the rest (`token_logprobs`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llama3lib.utils.require import is_whole, require, whole


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """How to choose tokens and when to stop. Raises ValueError naming field, value, allowed."""

    temperature: float = 0.0
    """0: always the likeliest token (greedy); 1: the model's own distribution."""
    top_k: int = 0
    """Keep the k likeliest tokens; 0 keeps all."""
    top_p: float = 1.0
    """Keep the likeliest tokens until their probabilities reach p; 1 keeps all."""
    min_p: float = 0.0
    """Drop tokens less likely than this fraction of the likeliest one's probability."""
    max_tokens: int = 128
    seed: int | None = None
    """The same seed gives the same text; None draws afresh each time."""
    stop: Sequence[str] = field(default_factory=tuple)
    """Strings that end the text; they are not part of it."""
    stop_token_ids: Sequence[int] = field(default_factory=tuple)
    ignore_eos: bool = False
    """Go on after the tokenizer's stop tokens."""
    logprobs: int | None = None
    """Also tell log-probabilities: of the drawn token, and of so many of the likeliest; None: no.
    Only the engine tells them."""

    def __post_init__(self) -> None:
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)
        object.__setattr__(self, "stop", stop)
        object.__setattr__(self, "stop_token_ids", tuple(self.stop_token_ids))
        self._number("temperature", 0, math.inf, "a finite number, 0 or more")
        self._number("top_p", 0, 1, "above 0 and at most 1")
        self._number("min_p", 0, 1, "0 or more and below 1")
        self._require(self.top_p > 0, "top_p", "above 0 and at most 1")
        self._require(self.min_p < 1, "min_p", "0 or more and below 1")
        for name, least in (("top_k", 0), ("max_tokens", 1)):
            whole(name, getattr(self, name), least)
        counts_fit = self.logprobs is None or is_whole(self.logprobs, 0)
        self._require(counts_fit, "logprobs", "None or a whole number, 0 or more")
        seed_fits = self.seed is None or (is_whole(self.seed, 0) and self.seed < 2**63)
        self._require(seed_fits, "seed", "None or a whole number from 0 to 2^63 - 1")
        ids_fit = all(is_whole(i, 0) for i in self.stop_token_ids)
        self._require(ids_fit, "stop_token_ids", "whole numbers, 0 or more")
        good = all(isinstance(text, str) and text for text in self.stop)
        self._require(good, "stop", "strings that are not empty")

    def _number(self, name: str, low: float, high: float, allowed: str) -> None:
        value = getattr(self, name)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        good = number and math.isfinite(value) and low <= value <= high
        self._require(good, name, allowed)

    def _require(self, ok: bool, name: str, allowed: str) -> None:
        require(ok, name, getattr(self, name), allowed)


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
