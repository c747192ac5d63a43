"""Settings of a request for text. Without torch, so that a command line can show them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

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
    """At most so many new tokens."""
    seed: int | None = None
    """The same seed gives the same text; None draws afresh each time."""
    stop: Sequence[str] = field(default_factory=tuple)
    """Strings that end the text; they are not part of it."""
    stop_token_ids: Sequence[int] = field(default_factory=tuple)
    """Tokens that end the text, besides the tokenizer's own."""
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
