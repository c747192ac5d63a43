"""Dialogs to ids and loss mask together (§4.1.1 for the idea; the released code for the bytes).

    <|begin_of_text|><|start_header_id|>user<|end_header_id|>\\n\\nHi<|eot_id|>...

A header names the speaker, a closing token says who is next: `<|eot_id|>` ends a turn,
`<|eom_id|>` ends a message that waits for a tool's answer. Contents are kept to the letter and
never read as special tokens. (Hugging Face's templates trim contents and, for 3.1, add a system
header with dates; Meta's format does neither.)
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from llama3lib.tokenizer import special
from llama3lib.tokenizer.tokenizer import Tokenizer
from llama3lib.tokenizer.tool_calls import (
    CODE_INTERPRETER,
    TOOL_FORMATS,
    ToolCall,
    format_tool_call,
    parse_tool_calls,
)
from llama3lib.utils.require import require

ROLES = ("system", "user", "assistant", "ipython")
_NEEDED = (special.BEGIN_OF_TEXT, special.START_HEADER, special.END_HEADER)
_NEEDED += (special.END_OF_TURN, special.END_OF_MESSAGE, special.PYTHON_TAG)
_STOPS = {"end_of_turn": special.END_OF_TURN, "end_of_message": special.END_OF_MESSAGE}


@dataclass(frozen=True, kw_only=True)
class Message:
    """One message of a dialog.

    role: system, user, assistant, or ipython (what a tool answered; "tool" is accepted).
    context: text added after the content by a blank line, for instance a passage found.
    stop_reason: "end_of_turn" or "end_of_message"; only for the assistant.
    tool_call_id: which call a tool answers, where a chat template asks for it.
    """

    role: str
    content: str = ""
    context: str | None = None
    tool_calls: Sequence[ToolCall] = field(default_factory=tuple)
    stop_reason: str | None = None
    tool_call_id: str | None = None

    def __post_init__(self) -> None:
        if self.role == "tool":
            object.__setattr__(self, "role", "ipython")
        require(self.role in ROLES, "role", self.role, f"use one of {', '.join(ROLES)}")
        if not isinstance(self.content, str):
            raise ValueError(f"content is a {type(self.content).__name__}: a string is needed")
        if self.stop_reason is not None and self.stop_reason not in _STOPS:
            allowed = " or ".join(_STOPS)
            raise ValueError(f"stop_reason={self.stop_reason!r} is not allowed: {allowed}")
        if self.tool_calls and self.role != "assistant":
            raise ValueError(f"tool_calls are not allowed for role={self.role!r}: assistant only")
        object.__setattr__(self, "tool_calls", tuple(self.tool_calls))


@dataclass(frozen=True)
class EncodedDialog:
    """Ids of a dialog, and for each whether a loss is taken there (§4.1.3)."""

    ids: list[int]
    loss_mask: list[bool]


class ChatFormat:
    """Encodes and decodes dialogs with one tokenizer.

    Raises ValueError if it lacks a control token of the format.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        missing = [name for name in _NEEDED if name not in tokenizer.special_tokens]
        if missing:
            raise ValueError(
                f"tokenizer {tokenizer.name!r} is not allowed: it has no {missing[0]}, which "
                "Llama 3's chat format needs, and no chat_template lies beside it"
            )
        self.tokenizer = tokenizer

    def encode_dialog(
        self,
        messages: Iterable[Message],
        *,
        add_generation_prompt: bool = False,
        tool_format: str = "json",
    ) -> EncodedDialog:
        """The whole dialog, begin-of-text first.

        The loss mask is True on what the assistant says and on the token that ends it, False on
        headers and on everybody else. add_generation_prompt: end with the header of an empty
        assistant message, for the model to go on from.
        Raises ValueError on an empty dialog without a generation prompt or an unknown format.
        """
        if tool_format not in TOOL_FORMATS:
            allowed = ", ".join(TOOL_FORMATS)
            raise ValueError(f"tool_format={tool_format!r} is not allowed: use one of {allowed}")
        ids, mask = [self.tokenizer.bos_id], [False]
        for message in messages:
            header, body = self.encode_message(message, tool_format=tool_format)
            ids += header + body
            mask += [False] * len(header) + [message.role == "assistant"] * len(body)
        if add_generation_prompt:
            header = self.encode_header("assistant")
            ids += header
            mask += [False] * len(header)
        elif len(ids) == 1:
            raise ValueError("messages is empty: a dialog needs at least one message")
        return EncodedDialog(ids, mask)

    def encode_header(self, role: str) -> list[int]:
        """Ids of `<|start_header_id|>role<|end_header_id|>` and the blank line."""
        names, encode = self.tokenizer.special_tokens, self.tokenizer.encode
        role_ids = [names[special.START_HEADER], *encode(role), names[special.END_HEADER]]
        return role_ids + encode("\n\n")

    def encode_message(
        self, message: Message, *, tool_format: str = "json"
    ) -> tuple[list[int], list[int]]:
        """Ids of the header and of the body with its closing token."""
        encode, names = self.tokenizer.encode, self.tokenizer.special_tokens
        body = encode(message.content)
        if message.context is not None:
            body += encode("\n\n") + encode(message.context)
        for call in message.tool_calls:
            if (
                call.name == CODE_INTERPRETER
            ):  # the released code tags no search, though it reads such
                body.append(names[special.PYTHON_TAG])
            body += encode(format_tool_call(call, tool_format))
        body.append(names[_STOPS[message.stop_reason or "end_of_turn"]])
        return self.encode_header(message.role), body

    def decode_assistant(self, ids: Sequence[int]) -> Message:
        """Read what the model wrote: text, or a call of a built-in or a custom tool.

        A header in front and the closing token may be there or not.
        """
        names = self.tokenizer.special_tokens
        ids = list(ids)
        if ids and ids[0] == names[special.START_HEADER]:
            header = self.encode_header("assistant")
            ids = ids[len(header) :] if ids[: len(header)] == header else ids
        stop_reason = None
        for reason, name in _STOPS.items():
            if ids and ids[-1] == names[name]:
                ids, stop_reason = ids[:-1], reason
                break
        tagged = bool(ids) and ids[0] == names[special.PYTHON_TAG]
        text = self.tokenizer.decode(ids[1:] if tagged else ids)
        calls = parse_tool_calls(text, tagged=tagged)
        return Message(
            role="assistant",
            content="" if calls else text,
            tool_calls=calls,
            stop_reason=stop_reason,
        )
