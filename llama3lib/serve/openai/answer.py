"""From the tokens that the engine brings to the bodies and events that clients read."""

import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from llama3lib.inference import TokenLogprob
from llama3lib.serve.engine_thread import TokenDelta
from llama3lib.serve.openai import types as wire
from llama3lib.serve.openai.tools import may_become_call
from llama3lib.tokenizer import Tokenizer

_LEAST = -9999.0  # JSON has no minus infinity


@dataclass(frozen=True)
class Told:
    """Where in the text a token begins, which one it is, and what the model thought of it."""

    begin: int
    token_id: int
    logprob: TokenLogprob | None
    """None for the first token of a prompt, which nothing stands before."""


@dataclass
class TextDelta:
    """What can be sent of one text now."""

    index: int
    text: str = ""
    logprobs: list["Told"] = field(default_factory=list)
    tool_calls: list[dict[str, Any]] = field(default_factory=list)
    finish_reason: str | None = None


class TextReader:
    """One text of a request: what has come, and what of it is sure.

    Log-probabilities wait for their text, so that tokens which a stop string cuts off are not told.
    read_calls: finds the call of a function in the ids of a whole answer; None if there are none
    to call. What may become a call is held back until that is known.
    opening, opening_ids: the prompt, if it is to stand in front of the text.
    """

    def __init__(
        self,
        index: int,
        tokenizer: Tokenizer,
        read_calls: Callable[[list[int]], list[dict[str, Any]]] | None = None,
        opening: str = "",
        opening_ids: Sequence[int] = (),
    ) -> None:
        self.index, self.token_ids = index, []
        self.finish_reason: str | None = None
        self._tokenizer, self._decoder = tokenizer, tokenizer.stream_decoder()
        self._read_calls, self._held, self._opening_ids = read_calls, opening, opening_ids
        self._sent, self._decoded = 0, len(opening)
        self._logprobs: list[Told] = []
        self._tag = tokenizer.special_tokens.get("<|python_tag|>")

    def push(self, deltas: Iterable[TokenDelta]) -> TextDelta:
        """Take what has come; give what can be sent."""
        for delta in deltas:
            if delta.prompt_logprobs is not None:
                self._logprobs += self._of_prompt(delta.prompt_logprobs)
            self._held += delta.text
            self.token_ids += delta.token_ids
            for logprob in delta.logprobs:
                self._logprobs.append(Told(self._decoded, logprob.token_id, logprob))
                self._decoded += len(self._decoder.push(logprob.token_id))
            self.finish_reason = delta.finish_reason or self.finish_reason
        ready = TextDelta(self.index, finish_reason=self.finish_reason)
        if self._read_calls and self._may_call():
            if not self.finish_reason:
                return ready
            ready.tool_calls = self._calls()
        if ready.tool_calls:
            ready.finish_reason, self._held = "tool_calls", ""
            ready.logprobs, self._logprobs = self._logprobs, []
            return ready
        ready.text, self._held = self._held, ""
        self._sent += len(ready.text)
        whole = sum(told.begin < self._sent for told in self._logprobs)
        ready.logprobs, self._logprobs = self._logprobs[:whole], self._logprobs[whole:]
        return ready

    def _of_prompt(self, logprobs: Sequence[TokenLogprob | None]) -> Iterator[Told]:
        """A begin-of-text token that the prompt did not name takes no room in the text."""
        decoder = self._tokenizer.stream_decoder()
        pieces = [decoder.push(token) for token in self._opening_ids]
        begin = self._decoded - sum(map(len, pieces)) - len(decoder.flush())
        for piece, token, logprob in zip(pieces, self._opening_ids, logprobs, strict=True):
            yield Told(max(begin, 0), token, logprob)
            begin += len(piece)

    def _may_call(self) -> bool:
        if self._sent:
            return False  # words have been sent already
        return self.token_ids[:1] == [self._tag] or may_become_call(self._held)

    def _calls(self) -> list[dict[str, Any]]:
        """Only a whole answer can be a call: not one that was cut by its length or a stop."""
        whole = self._tokenizer.decode(self.token_ids) == self._held
        if self.finish_reason != "stop" or not whole:
            return []
        return self._read_calls(self.token_ids)


class AnswerWriter(ABC):
    """Bodies and events of one request."""

    prefix, whole_object, event_object = "", "", ""

    def __init__(
        self, model: str, tokenizer: Tokenizer, readers: list[TextReader], *, logprobs: bool
    ) -> None:
        self.readers, self._tokenizer, self._wants_logprobs = readers, tokenizer, logprobs
        self._head = {
            "id": f"{self.prefix}-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": model,
        }

    def take(self, deltas: list[TokenDelta]) -> list[TextDelta]:
        """What can be sent after these; one for each text that has any."""
        by_text: dict[int, list[TokenDelta]] = {}
        for delta in deltas:
            by_text.setdefault(delta.index, []).append(delta)
        return [self.readers[index].push(some) for index, some in by_text.items()]

    def event(self, choices: list[Any], **usage: Any) -> bytes:
        """One event of a stream."""
        body = wire.Answer(object=self.event_object, choices=choices, **self._head, **usage)
        return b"data: " + body.json_bytes() + b"\n\n"

    def whole(self, deltas: list[TextDelta], usage: wire.Usage) -> bytes:
        """The body of an answer that is not streamed."""
        merged = {reader.index: TextDelta(reader.index) for reader in self.readers}
        for delta in deltas:
            one = merged[delta.index]
            one.text += delta.text
            one.logprobs += delta.logprobs
            one.tool_calls += delta.tool_calls
            one.finish_reason = delta.finish_reason or one.finish_reason
        choices = [self.choice(delta) for delta in merged.values()]
        head = self._head | {"object": self.whole_object}
        return wire.Answer(**head, choices=choices, usage=usage).json_bytes()

    def usage(self, prompt_tokens: int, cached_tokens: int) -> wire.Usage:
        """Tokens so far."""
        written = sum(len(reader.token_ids) for reader in self.readers)
        return wire.Usage(
            prompt_tokens=prompt_tokens,
            completion_tokens=written,
            total_tokens=prompt_tokens + written,
            prompt_tokens_details=wire.CachedTokens(cached_tokens=cached_tokens),
        )

    def first_events(self, **usage: Any) -> list[bytes]:
        """What a stream begins with."""
        return []

    @abstractmethod
    def choice(self, delta: TextDelta) -> Any:
        """A whole text."""

    @abstractmethod
    def choices(self, delta: TextDelta) -> list[Any]:
        """What is new in a text; none if nothing is."""

    def _name(self, token_id: int) -> str:
        # a token may be a part of a character: its bytes are then written as \xNN
        return self._tokenizer.token_bytes(token_id).decode("utf-8", "backslashreplace")


def finite(logprob: float) -> float:
    """A number that JSON can hold."""
    return logprob if logprob > _LEAST else _LEAST  # also where it is no number
