"""Settings of a request for text. Without torch, so that a command line can show them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from llama3lib.utils.require import is_whole, require, whole


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """How to choose tokens and when to stop. Raises ValueError naming field, value, allowed.

    Args:
        temperature: 0 takes the likeliest token always (greedy), 1 is the model's own
            distribution; 0 or more.
        top_k: Keep the k likeliest tokens; 0 keeps all.
        top_p: Keep the likeliest tokens until their probabilities reach p; above 0, 1 keeps all.
        min_p: Drop tokens less likely than this fraction of the likeliest one's probability;
            below 1, 0 drops none.
        presence_penalty: Taken off the logit of each token that the text has already; -2 to 2.
        frequency_penalty: Taken off the logit of a token for each time that the text has it;
            from -2 to 2.
        repetition_penalty: Logits of tokens of prompt and text are divided by it if above 0,
            else multiplied; above 0, 1 changes nothing.
        logit_bias: Added to the logits of these tokens, by id; each from -100 to 100.
        max_tokens: At most so many new tokens; 0 only reads the prompt.
        min_tokens: Nothing ends the text before so many new tokens; 0 to max_tokens.
        seed: The same seed gives the same text; None draws afresh each time.
        stop: Strings that end the text; they are not part of it.
        stop_token_ids: Tokens that end the text, besides the tokenizer's own.
        ignore_eos: Go on after the tokenizer's stop tokens.
        logprobs: Also tell log-probabilities: of the drawn token, and of so many of the likeliest,
            0 or more; None: no. Only the engine tells them.
        prompt_logprobs: The same of the tokens of the prompt.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: Mapping[int, float] = field(default_factory=dict, hash=False)
    max_tokens: int = 128
    min_tokens: int = 0
    seed: int | None = None
    stop: Sequence[str] = field(default_factory=tuple)
    stop_token_ids: Sequence[int] = field(default_factory=tuple)
    ignore_eos: bool = False
    logprobs: int | None = None
    prompt_logprobs: int | None = None

    def __post_init__(self) -> None:
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)
        object.__setattr__(self, "stop", stop)
        object.__setattr__(self, "stop_token_ids", tuple(self.stop_token_ids))
        self._number("temperature", 0, math.inf, "a finite number, 0 or more")
        self._number("top_p", 0, 1, "above 0 and at most 1")
        self._number("min_p", 0, 1, "0 or more and below 1")
        self._require(self.top_p > 0, "top_p", "above 0 and at most 1")
        self._require(self.min_p < 1, "min_p", "0 or more and below 1")
        for name in ("presence_penalty", "frequency_penalty"):
            self._number(name, -2, 2, "-2 to 2")
        self._number("repetition_penalty", 0, math.inf, "a finite number above 0")
        self._require(self.repetition_penalty > 0, "repetition_penalty", "a finite number above 0")
        self._check_bias()
        for name in ("top_k", "max_tokens", "min_tokens"):
            whole(name, getattr(self, name), 0)
        fits = self.min_tokens <= self.max_tokens
        self._require(fits, "min_tokens", f"0 to max_tokens={self.max_tokens}")
        for name in ("logprobs", "prompt_logprobs"):
            count = getattr(self, name)
            fits = count is None or is_whole(count, 0)
            self._require(fits, name, "None or a whole number, 0 or more")
        seed_fits = self.seed is None or (is_whole(self.seed, 0) and self.seed < 2**63)
        self._require(seed_fits, "seed", "None or a whole number from 0 to 2^63 - 1")
        ids_fit = all(is_whole(i, 0) for i in self.stop_token_ids)
        self._require(ids_fit, "stop_token_ids", "whole numbers, 0 or more")
        good = all(isinstance(text, str) and text for text in self.stop)
        self._require(good, "stop", "strings that are not empty")

    @property
    def changes_logits(self) -> bool:
        """Whether logits are changed (see `logits`) before a token is chosen from them."""
        penalties = self.presence_penalty or self.frequency_penalty or self.repetition_penalty != 1
        return bool(penalties or self.logit_bias or self.min_tokens)

    def _check_bias(self) -> None:
        for token, bias in self.logit_bias.items():
            require(is_whole(token, 0), "logit_bias", token, "token ids, 0 or more")
            good = _is_number(bias) and -100 <= bias <= 100
            require(good, f"logit_bias[{token}]", bias, "-100 to 100")
        object.__setattr__(self, "logit_bias", dict(self.logit_bias))

    def _number(self, name: str, low: float, high: float, allowed: str) -> None:
        value = getattr(self, name)
        self._require(_is_number(value) and low <= value <= high, name, allowed)

    def _require(self, ok: bool, name: str, allowed: str) -> None:
        require(ok, name, getattr(self, name), allowed)


def _is_number(value: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value)
