"""Dialogs of OpenAI's interface in the model's own chat format, and their answers.

Nothing in a message can become a control token: `ChatFormat` and `ChatTemplate` read all contents
as plain text.
"""

from typing import Any

from pydantic_core import from_json

from llama3lib.serve.openai import types as wire
from llama3lib.serve.openai.answer import AnswerWriter, TextDelta, finite
from llama3lib.serve.openai.errors import APIError, unsupported, wrong
from llama3lib.serve.openai.tools import offered_tools
from llama3lib.serve.openai.types import ChatMessage, ChatRequest, ToolCallEntry
from llama3lib.tokenizer import ChatFormat, ChatTemplate, Message, ToolCall
from llama3lib.tokenizer.tool_prompt import told_tool, with_tools

_ROLES = {"developer": "system", "tool": "ipython"}
_KNOWN = ("system", "developer", "user", "assistant", "tool")
# calls of these names have a form of their own in the released format, with this one argument
_BUILTIN = {"code_interpreter": "code", "brave_search": "query", "wolfram_alpha": "query"}


def chat_prompt(chat_format: ChatFormat | ChatTemplate, form: ChatRequest) -> list[int]:
    """Ids of the dialog, up to where the assistant begins to speak.

    Raises APIError (400) for a message that cannot be told to the model, or that its template
    refuses.
    """
    messages = [_message(message, place) for place, message in enumerate(form.messages)]
    told = [told_tool(tool.model_dump()) for tool in offered_tools(form)]
    if isinstance(chat_format, ChatFormat):
        messages = with_tools(messages, told)
        return chat_format.encode_dialog(messages, add_generation_prompt=True).ids
    try:
        return chat_format.encode_dialog(messages, add_generation_prompt=True, tools=told).ids
    except ValueError as error:
        raise wrong("messages", str(error)) from None


def _message(message: ChatMessage, place: int) -> Message:
    where = f"messages[{place}]"
    if message.role not in _KNOWN:
        raise wrong(f"{where}.role", f"one of {', '.join(_KNOWN)}")
    if message.tool_calls and message.role != "assistant":
        raise wrong(f"{where}.tool_calls", "only the assistant has them")
    calls = tuple(
        _call(call, f"{where}.tool_calls[{i}]") for i, call in enumerate(message.tool_calls or ())
    )
    if message.content is None and not calls:
        raise wrong(f"{where}.content", "text is needed")
    return Message(
        role=_ROLES.get(message.role, message.role),
        content=_text(message, where),
        tool_calls=calls,
        tool_call_id=message.tool_call_id if message.role == "tool" else None,
        stop_reason="end_of_message" if calls else None,  # what follows is the tool's answer
    )


def _text(message: ChatMessage, where: str) -> str:
    if message.content is None or isinstance(message.content, str):
        return message.content or ""
    texts = []
    for i, part in enumerate(message.content):
        if part.type != "text":
            raise unsupported(f"{where}.content[{i}].type", "only text is supported")
        if part.text is None:
            raise wrong(f"{where}.content[{i}].text", "text is needed")
        texts.append(part.text)
    return "\n".join(texts)


def _call(call: ToolCallEntry, where: str) -> ToolCall:
    where = f"{where}.function.arguments"
    arguments = call.function.arguments
    if arguments is None or isinstance(arguments, str):
        try:  # clients send nothing at all for a function that takes nothing
            arguments = from_json(arguments, allow_inf_nan=False) if arguments else {}
        except ValueError:
            arguments = None
    if not isinstance(arguments, dict):
        raise wrong(where, "a JSON object in a string is needed")
    needed = _BUILTIN.get(call.function.name)
    if needed and not isinstance(arguments.get(needed), str):
        raise wrong(where, f'a call of {call.function.name} needs "{needed}"')
    return ToolCall(name=call.function.name, arguments=arguments, id=call.id)


def not_a_chat_model(model: str) -> APIError:
    """400: a base model continues text, it does not answer."""
    return APIError(
        400,
        f"{model} is no chat model: it continues text, so ask /v1/completions "
        "(the server's option --chat lets it be asked all the same)",
        param="model",
        code="not_a_chat_model",
    )


class ChatWriter(AnswerWriter):
    """Answers of /v1/chat/completions."""

    prefix, whole_object = "chatcmpl", "chat.completion"
    event_object = "chat.completion.chunk"

    def first_events(self, **usage: Any) -> list[bytes]:
        opening = wire.AnswerMessage(role="assistant", content="")
        return [self.event([_choice(reader.index, opening)], **usage) for reader in self.readers]

    def choice(self, delta: TextDelta) -> wire.ChatChoice:
        message = wire.AnswerMessage(role="assistant", content=delta.text, refusal=None)
        if delta.tool_calls:
            message = wire.AnswerMessage(
                role="assistant", content=None, refusal=None, tool_calls=delta.tool_calls
            )
        return wire.ChatChoice(
            index=delta.index,
            message=message,
            logprobs=self._logprobs(delta),
            finish_reason=delta.finish_reason,
        )

    def choices(self, delta: TextDelta) -> list[wire.ChatChoice]:
        made = []
        index, logprobs = delta.index, self._logprobs(delta) if delta.logprobs else None
        if delta.tool_calls:
            calls = [{"index": i, **call} for i, call in enumerate(delta.tool_calls)]
            made.append(_choice(index, wire.AnswerMessage(tool_calls=calls), logprobs))
        elif delta.text or logprobs:
            made.append(_choice(index, wire.AnswerMessage(content=delta.text), logprobs))
        if delta.finish_reason:
            made.append(_choice(index, wire.AnswerMessage(), reason=delta.finish_reason))
        return made

    def _logprobs(self, delta: TextDelta) -> wire.ChatLogprobs | None:
        if not self._wants_logprobs:
            return None
        return wire.ChatLogprobs(
            content=[
                wire.ChatTokenLogprob(
                    **self._token(one.token_id, one.logprob),
                    top_logprobs=[wire.TopLogprob(**self._token(i, p)) for i, p in one.top],
                )
                for one in (told.logprob for told in delta.logprobs)
            ]
        )

    def _token(self, token_id: int, logprob: float) -> dict[str, Any]:
        raw = list(self._tokenizer.token_bytes(token_id))
        return {"token": self._name(token_id), "logprob": finite(logprob), "bytes": raw}


def _choice(
    index: int,
    message: wire.AnswerMessage,
    logprobs: wire.ChatLogprobs | None = None,
    reason: str | None = None,
) -> wire.ChatChoice:
    return wire.ChatChoice(index=index, delta=message, logprobs=logprobs, finish_reason=reason)
