"""Our models in EleutherAI's `lm-eval`, whose tasks most published scores come from.

    lm = lm_eval_model(model, tokenizer, write)
    lm_eval.simple_evaluate(lm, tasks=["arc_easy"])

`lm-eval` is not needed by anything else here and is imported only when the adapter is made.
"""

import math
from typing import Any, Protocol

from tqdm.auto import tqdm

from llama3lib.eval.multiple_choice import score_continuations
from llama3lib.eval.texts import text_windows
from llama3lib.model import Transformer
from llama3lib.tokenizer import Tokenizer
from llama3lib.utils.require import at_least, require

Pair = tuple[list[int], list[int]]
"""Prompt ids, continuation ids."""


class Write(Protocol):
    """How text is generated, given from outside: this package knows no generation loop.

    def write(prompt_ids, *, max_tokens, stop, temperature, top_p):
        params = SamplingParams(
            max_tokens=max_tokens, stop=stop, temperature=temperature, top_p=top_p
        )
        return "".join(generate(model, tokenizer, prompt_ids, params))
    """

    def __call__(
        self,
        prompt_ids: list[int],
        *,
        max_tokens: int,
        stop: tuple[str, ...],
        temperature: float,
        top_p: float,
    ) -> str: ...


def lm_eval_model(
    model: Transformer,
    tokenizer: Tokenizer,
    generate: Write | None = None,
    *,
    bos: bool = True,
    batch_size: int = 8,
    max_new_tokens: int = 256,
) -> Any:
    """An `lm_eval.api.model.LM` around a model: log-likelihoods, rolling ones, and generation.

    generate: for tasks that want text; without it they raise ValueError.
    bos: begin-of-text token in front of every prompt, as Llama 3 was trained and as lm-eval's own
    `hf` has it from an exported folder. (A rolling log-likelihood asks for what follows it; `hf`
    puts a second one there, and scores it, unless it is given `add_bos_token=False`.)
    max_new_tokens: of a task that says nothing.

    Texts longer than the position table lose their beginning, as with lm-eval's own models.
    Raises ImportError saying how to get lm-eval, ValueError on sizes below 1.
    """
    for field, value in (("batch_size", batch_size), ("max_new_tokens", max_new_tokens)):
        at_least(field, value, 1)
    try:
        from lm_eval.api.model import TemplateLM
    except ImportError as error:
        raise ImportError("lm-eval 0.4.13 or later is needed: pip install lm-eval") from error

    class Llama3Lib(_Bridge, TemplateLM):
        """Texts to pairs of ids by lm-eval's template, everything else by the bridge."""

    return Llama3Lib(model, tokenizer, generate, bos, batch_size, max_new_tokens)


class _Bridge:
    """The methods that lm-eval calls, written down without importing it."""

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        generate: Write | None = None,
        bos: bool = True,
        batch_size: int = 8,
        max_new_tokens: int = 256,
    ) -> None:
        super().__init__()
        self.model, self.tokenizer, self.generate = model, tokenizer, generate
        self.bos, self.batch_size, self.max_new_tokens = bos, batch_size, max_new_tokens
        self.room = model.args.max_seq_len
        self._device = next(model.parameters()).device

    @property
    def eot_token_id(self) -> int:
        return self.tokenizer.eos_id

    @property
    def prefix_token_id(self) -> int:
        return self.tokenizer.bos_id

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **kwargs: Any
    ) -> list[int]:
        return self.tokenizer.encode(
            string, bos=self.bos if add_special_tokens is None else add_special_tokens
        )

    def _loglikelihood_tokens(
        self, requests: list[tuple], disable_tqdm: bool = False, **kwargs: Any
    ) -> list[tuple[float, bool]]:
        results = self._score([(r[1], r[2]) for r in requests], disable_tqdm)
        for (texts, *_), result in zip(requests, results, strict=True):
            self.cache_hook.add_partial("loglikelihood", texts, result)
        return results

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        windows = [self._windows(request.args[0]) for request in requests]
        scored = iter(self._score([pair for part in windows for pair in part], disable_tqdm))
        sums = [math.fsum(next(scored)[0] for _ in part) for part in windows]
        for request, result in zip(requests, sums, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, result)
        return sums

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        from lm_eval.models.utils import normalize_gen_kwargs

        if self.generate is None:
            raise ValueError("generate=None is not allowed for a task that wants text")
        texts = []
        for request in tqdm(requests, desc="generation", disable=disable_tqdm):
            context, wishes = request.args
            texts.append(self._write(context, normalize_gen_kwargs(wishes, self.max_new_tokens)))
            self.cache_hook.add_partial("generate_until", request.args, texts[-1])
        return texts

    def _write(self, context: str, wishes: dict[str, Any]) -> str:
        most = wishes["max_gen_toks"]
        require(most < self.room, "max_gen_toks", most, f"below max_seq_len={self.room}")
        return self.generate(
            self.tok_encode(context)[most - self.room :],
            max_tokens=most,
            stop=tuple(stop for stop in wishes["until"] if stop),
            temperature=float(wishes.get("temperature") or 0.0),
            top_p=float(wishes.get("top_p") or 1.0),
        )

    def _score(self, pairs: list[Pair], quiet: bool) -> list[tuple[float, bool]]:
        """Log-likelihood and greediness of each pair, its beginning cut off if it is too long."""
        cut = [self._fit(*pair) for pair in pairs]
        order = sorted(range(len(cut)), key=lambda i: -sum(map(len, cut[i])))
        results: list[tuple[float, bool]] = [(0.0, True)] * len(cut)
        step = 64 * self.batch_size  # like lengths share a part, and the bar moves
        for start in tqdm(range(0, len(order), step), desc="log-likelihoods", disable=quiet):
            part = order[start : start + step]
            scored = score_continuations(
                self.model, [cut[i] for i in part], batch_size=self.batch_size
            )
            for i, one in zip(part, scored, strict=True):
                results[i] = (one.log_prob, one.greedy)
        return results

    def _fit(self, prompt: list[int], continuation: list[int]) -> Pair:
        if len(continuation) > self.room:
            raise ValueError(
                f"a continuation of {len(continuation)} tokens is not allowed: "
                f"max_seq_len={self.room} is the most"
            )
        return prompt[len(continuation) - self.room - 1 :], continuation

    def _windows(self, text: str) -> list[Pair]:
        """Windows that ask for each token of a text once, the first after begin-of-text."""
        return text_windows([self.tokenizer.bos_id, *self.tokenizer.encode(text)], self.room)
