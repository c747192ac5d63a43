"""An engine as a function: texts in, finished texts out."""

import functools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from numbers import Integral
from typing import Any

from jaxtyping import Float
from torch import Tensor

from llama3lib.inference.outputs import RequestOutput
from llama3lib.inference.sampling_params import SamplingParams
from llama3lib.inference.structured import Constraint
from llama3lib.tokenizer import ChatFormat, ChatTemplate, Message, Tokenizer, chat_format_of
from llama3lib.utils.logging import get_logger
from llama3lib.utils.require import require

_log = get_logger(__name__)
Prompt = str | Iterable[int]


class Offline(ABC):
    """What an engine does for a program that waits for whole answers."""

    tokenizer: Tokenizer | None

    @abstractmethod
    def add_request(self, prompt: Prompt, params: SamplingParams | None = None, **more: Any) -> str:
        """Queue a prompt; see `LLMEngine`."""

    @abstractmethod
    def step(self) -> list[RequestOutput]:
        """One pass through the model; see `LLMEngine`."""

    @abstractmethod
    def abort_request(self, request_id: str) -> bool:
        """End a request; see `LLMEngine`."""

    @abstractmethod
    def check_open(self) -> None:
        """Raise ValueError if the engine takes nothing more."""

    def generate(
        self,
        prompts: Prompt | Iterable[Prompt],
        params: SamplingParams | Iterable[SamplingParams] | None = None,
        *,
        constraint: Constraint | None = None,
    ) -> RequestOutput | list[RequestOutput]:
        """The finished text of a prompt, or those of several, in their order.

        prompts: a text or its ids; or several of either. params: for all, or one for each.

        One prompt that cannot be served raises ValueError. Of several, it fails alone: its output
        has no text, the `finish_reason` "error", and what is wrong in `error`; the log warns.
        """
        prompts, alone = _several(prompts)
        outputs = self._finished(prompts, params, constraint=constraint)
        if alone:
            _raise_error(outputs[0])
            return outputs[0]
        for place, output in enumerate(outputs):
            if output.error is not None:
                _log.warning("prompt %d of %d failed: %s", place, len(outputs), output.error)
        return outputs

    def chat(
        self,
        messages: Iterable[Message | Mapping[str, str]],
        params: SamplingParams | None = None,
        *,
        chat_format: ChatFormat | ChatTemplate | None = None,
        constraint: Constraint | None = None,
    ) -> RequestOutput:
        """The assistant's answer to a dialog: messages, or mappings with "role" and "content".

        chat_format: how the dialog becomes ids; as the tokenizer's folder says if left out.
        Raises ValueError for a dialog that cannot be told to the model, or not be served.
        """
        chat_format = chat_format or self._chat_format
        dialog = chat_format.encode_dialog(_dialog(messages), add_generation_prompt=True)
        return self.generate(dialog.ids, params, constraint=constraint)

    @functools.cached_property
    def _chat_format(self) -> ChatFormat | ChatTemplate:
        if self.tokenizer is None:
            raise ValueError("messages are not allowed: the engine has no tokenizer")
        return chat_format_of(self.tokenizer)

    def embed(
        self, prompts: Prompt | Iterable[Prompt], *, mean: bool = True
    ) -> Float[Tensor, "*T D"] | list[Float[Tensor, "*T D"]]:
        """Hidden states of a text after the last norm, or of each of several texts.

        mean: over all tokens, the begin-of-text token included, [D]; else each token's, [T, D].
        A model that was not trained for it gives vectors that tell similar texts only roughly.
        Raises ValueError for a prompt that cannot be read.
        """
        prompts, alone = _several(prompts)
        params = SamplingParams(max_tokens=0)
        outputs = self._finished(prompts, params, states="mean" if mean else "all")
        for output in outputs:
            _raise_error(output)
        return outputs[0].states if alone else [output.states for output in outputs]

    def _finished(
        self,
        prompts: list[Prompt],
        params: SamplingParams | Iterable[SamplingParams] | None,
        **options: Any,
    ) -> list[RequestOutput]:
        """The last output of each; one that is not taken has only its error."""
        self.check_open()
        same = params is None or isinstance(params, SamplingParams)
        each = [params] * len(prompts) if same else list(params)
        require(len(each) == len(prompts), "params", f"{len(each)} of them", "one for each prompt")
        done: dict[str | int, RequestOutput] = {}
        wanted: list[str | int] = []
        try:
            for place, (prompt, one) in enumerate(zip(prompts, each, strict=True)):
                try:
                    wanted.append(self.add_request(prompt, one, **options))
                except ValueError as error:
                    wanted.append(place)
                    done[place] = RequestOutput.failed(str(error))
            while any(name not in done for name in wanted):
                done |= {out.request_id: out for out in self.step() if out.finished}
        finally:
            for name in wanted:
                self.abort_request(name)
        return [done[name] for name in wanted]


def _several(prompts: Prompt | Iterable[Prompt]) -> tuple[list[Prompt], bool]:
    """Prompts as a list, and whether it was one alone: a text, or ids."""
    if isinstance(prompts, str):
        return [prompts], True
    require(isinstance(prompts, Iterable), "prompts", prompts, "a text, ids, or several of them")
    prompts = list(prompts)
    alone = bool(prompts) and all(isinstance(item, Integral) for item in prompts)
    return ([prompts], True) if alone else (prompts, False)


def _raise_error(output: RequestOutput) -> None:
    if output.error is not None:
        raise ValueError(output.error)


def _dialog(messages: Iterable[Message | Mapping[str, str]]) -> list[Message]:
    found = []
    for place, message in enumerate(messages):
        if isinstance(message, Mapping):
            unknown = set(message) - {"role", "content"}
            require(not unknown, f"messages[{place}]", sorted(unknown), "role and content")
            message = Message(**message)
        found.append(message)
    return found
