"""From a request to what the engine needs: prompts as ids, and settings. All checks are here."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llama3lib.inference import LLMEngine, SamplingParams
from llama3lib.inference.structured import Constraint
from llama3lib.serve.openai.chat import chat_prompt
from llama3lib.serve.openai.errors import APIError, too_long, wrong
from llama3lib.serve.openai.structured import constraint_of
from llama3lib.serve.openai.types import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    TokenizeRequest,
)
from llama3lib.serve.settings import Limits
from llama3lib.tokenizer import ChatFormat, ChatTemplate, Tokenizer

_OPENAI_DEFAULTS = {"temperature": 1.0}
_COMPLETION_TOKENS = 16  # OpenAI's default
_TOKENS_OF_A_MESSAGE = 4  # header and closing token at least


@dataclass(frozen=True)
class PreparedRequest:
    """What is asked of the engine: `n` texts after each prompt."""

    prompts: list[list[int]]
    params: SamplingParams
    n: int
    openings: list[str]
    """What is repeated in front of the texts of each prompt (echo)."""
    constraint: Constraint | None = None
    """What all texts keep to."""


class PromptReader:
    """Checks requests against the engine's sizes and the server's limits."""

    def __init__(self, engine: LLMEngine, limits: Limits) -> None:
        self.tokenizer, self.limits = _tokenizer(engine), limits
        self.vocab_size = engine.model.args.vocab_size
        self.structured = engine.structured
        cache_room = engine.blocks.num_blocks * engine.blocks.block_size
        self.context = min(engine.model.args.max_seq_len, cache_room)
        self.most_samples = min(engine.scheduler.max_num_seqs, limits.max_texts)
        self._longest = max(map(len, self.tokenizer.mergeable_ranks))

    def completion(self, form: CompletionRequest) -> PreparedRequest:
        """Raises APIError (400) for what cannot be served."""
        given = self._prompts("prompt", form.prompt)
        n = self._samples(form, len(given))
        prompts = [self._ids("prompt", prompt) for prompt in given]
        self._check_logprobs("logprobs", form.logprobs)
        most = form.max_tokens
        if most is None:
            most = self._most_tokens(prompts, _COMPLETION_TOKENS)
        params = self._params(form, prompts, most, form.logprobs, "prompt")
        openings = [""] * len(given)
        if form.echo:
            openings = [p if isinstance(p, str) else self.tokenizer.decode(p) for p in given]
            params = dataclasses.replace(params, prompt_logprobs=form.logprobs)
        constraint = constraint_of(form, self.structured)
        return PreparedRequest(prompts, params, n, openings, constraint)

    def chat(self, form: ChatRequest, chat_format: ChatFormat | ChatTemplate) -> PreparedRequest:
        """Raises APIError (400) for what cannot be served."""
        least = _TOKENS_OF_A_MESSAGE * len(form.messages)
        if least >= self.context:
            raise too_long("messages", least + 1, self.context)
        for message in form.messages:
            self._may_fit("messages", message.content if isinstance(message.content, str) else "")
        n = self._samples(form, 1)
        prompts = [chat_prompt(chat_format, form)]
        self._check_logprobs("top_logprobs", form.top_logprobs)
        asked = form.max_completion_tokens or form.max_tokens
        most = asked or self._most_tokens(prompts, self.context)
        logprobs = (form.top_logprobs or 0) if form.logprobs else None
        params = self._params(form, prompts, most, logprobs, "messages")
        return PreparedRequest(prompts, params, n, [""], constraint_of(form, self.structured))

    def embedding(self, form: EmbeddingRequest) -> list[list[int]]:
        """The inputs as ids. Raises APIError (400) for what cannot be served."""
        given = self._prompts("input", form.input)
        if len(given) > self.limits.max_inputs:
            raise wrong("input", f"at most {self.limits.max_inputs} texts")
        return [self._ids("input", one) for one in given]

    def tokens(self, form: TokenizeRequest, chat_format: ChatFormat | None) -> list[int]:
        """Ids of a text or a dialog. Raises APIError (400) for what cannot be read."""
        if (form.prompt is None) == (form.messages is None):
            raise wrong("prompt", "either prompt or messages is needed")
        if form.prompt is not None:
            return self.tokenizer.encode(form.prompt, bos=form.add_special_tokens is not False)
        if chat_format is None:
            raise wrong("messages", "only a chat model reads them")
        dialog = ChatRequest(model="", messages=form.messages, tools=form.tools)
        return chat_prompt(chat_format, dialog)

    def _prompts(self, param: str, prompt: Any) -> list[Any]:
        """A list of texts, or of lists of ids."""
        if isinstance(prompt, str):
            return [prompt]
        if isinstance(prompt, list) and prompt:
            if all(isinstance(item, str) for item in prompt):
                return prompt
            if all(type(item) is int for item in prompt):
                return [prompt]
            if all(isinstance(item, list) for item in prompt):
                return prompt
        raise wrong(param, "a text, ids, or a list of texts or of lists of ids is needed")

    def _samples(self, form: CompletionRequest | ChatRequest, num_prompts: int) -> int:
        n = form.n or 1
        if n > self.most_samples:
            raise wrong("n", f"at most {self.most_samples}")
        if n * num_prompts > self.limits.max_texts:
            raise wrong("prompt", f"at most {self.limits.max_texts} texts, prompts times n")
        return n

    def _ids(self, param: str, prompt: str | list[Any]) -> list[int]:
        if not prompt:
            raise wrong(param, "at least one token is needed")
        if isinstance(prompt, str):
            self._may_fit(param, prompt)
            ids = self.tokenizer.encode(prompt, bos=True)
        else:
            ids = prompt
        if len(ids) > self.context:
            raise too_long(param, len(ids), self.context)
        if not isinstance(prompt, str):
            self.check_ids(param, ids)
        return ids

    def check_ids(self, param: str, ids: list[Any]) -> None:
        """Raises APIError (400) for what is no id."""
        if not all(type(i) is int and 0 <= i < self.vocab_size for i in ids):
            raise wrong(param, f"ids are whole numbers from 0 to {self.vocab_size - 1}")
        try:
            self.tokenizer.decode(ids)  # a model may have more rows than its tokenizer has ids
        except ValueError:
            raise wrong(param, "an id is not in the vocabulary") from None

    def _may_fit(self, param: str, text: str) -> None:
        """Refuse what is too long even if all its tokens are long; it is never tokenised then."""
        least = len(text) // self._longest  # a character is one byte or more
        if least >= self.context:
            raise too_long(param, least + 1, self.context)

    def _most_tokens(self, prompts: Sequence[Sequence[int]], default: int) -> int:
        """How long answers may be if the request does not say."""
        room = self.context - max(map(len, prompts))
        return max(1, min(default, room, self.limits.max_tokens or room))

    def _check_logprobs(self, param: str, count: int | None) -> None:
        if count is not None and count > self.limits.max_logprobs:
            raise wrong(param, f"at most {self.limits.max_logprobs}")

    def _params(
        self,
        form: CompletionRequest | ChatRequest,
        prompts: Sequence[Sequence[int]],
        max_tokens: int,
        logprobs: int | None,
        param: str,
    ) -> SamplingParams:
        needed = max(map(len, prompts)) + max_tokens
        if needed > self.context:
            raise too_long(param, needed, self.context)
        if self.limits.max_tokens is not None and max_tokens > self.limits.max_tokens:
            raise wrong("max_tokens", f"at most {self.limits.max_tokens}")
        stops = form.stops
        longest = self.limits.max_stop_length
        if len(stops) > self.limits.max_stops or not all(0 < len(s) <= longest for s in stops):
            raise wrong("stop", f"at most {self.limits.max_stops} texts of 1 to {longest} letters")
        if any(i < 0 for i in form.stop_token_ids or ()):
            raise wrong("stop_token_ids", "0 or more")
        given = _sampling_fields(form)
        if given.get("min_tokens", 0) > max_tokens:
            raise wrong("min_tokens", f"at most {max_tokens}, the length of the answer")
        if "logit_bias" in given:
            given["logit_bias"] = self._biases(given["logit_bias"])
        given["top_k"] = max(given.get("top_k", 0), 0)  # vLLM's clients say -1 for all
        if "seed" in given:
            given["seed"] %= 2**63
        return SamplingParams(
            **_OPENAI_DEFAULTS | given | {"max_tokens": max_tokens, "logprobs": logprobs}
        )

    def _biases(self, given: dict[str, float]) -> dict[int, float]:
        """By id: JSON has only texts as names."""
        known = f"names are ids, 0 to {self.vocab_size - 1}"
        if not all(name.isascii() and name.isdecimal() and len(name) < 10 for name in given):
            raise wrong("logit_bias", known)
        biases = {int(name): bias for name, bias in given.items()}
        if not all(token < self.vocab_size for token in biases):
            raise wrong("logit_bias", known)
        if not all(-100 <= bias <= 100 for bias in biases.values()):
            raise wrong("logit_bias", "values are -100 to 100")
        return biases


def _sampling_fields(form: CompletionRequest | ChatRequest) -> dict[str, Any]:
    """What a request says of the fields of SamplingParams; a new one needs nothing here."""
    names = {field.name for field in dataclasses.fields(SamplingParams)}
    given = {name: getattr(form, name) for name in names & type(form).model_fields.keys()}
    return {name: value for name, value in given.items() if value is not None}


def _tokenizer(engine: LLMEngine) -> Tokenizer:
    if engine.tokenizer is None:
        raise ValueError("engine is not allowed: it has no tokenizer")
    return engine.tokenizer


def checked_model(model: str | None, served: str) -> None:
    """Raises APIError (404) if another model is asked for."""
    if model is not None and model != served:
        raise unknown_model()


def unknown_model() -> APIError:
    """404: this server has one model, under one name."""
    return APIError(
        404,
        "there is no such model here; GET /v1/models tells what there is",
        param="model",
        code="model_not_found",
    )
