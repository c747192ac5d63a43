"""Dialogs to ids and loss mask together (§4.1.1 for the idea; the released code for the bytes).

    <|begin_of_text|><|start_header_id|>user<|end_header_id|>\\n\\nHi<|eot_id|>...

A header names the speaker, a closing token says who is next: `<|eot_id|>` ends a turn,
`<|eom_id|>` ends a message that waits for a tool's answer. Contents are kept to the letter and
never read as special tokens. (Hugging Face's templates trim contents and, for 3.1, add a system
header with dates; Meta's format does neither.)
"""

import ast
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llama3lib.tokenizer import special
from llama3lib.tokenizer.tokenizer import Tokenizer
from llama3lib.utils.require import require

ROLES = ("system", "user", "assistant", "ipython")
TOOL_FORMATS = ("json", "function_tag", "python_list")
CODE_INTERPRETER = "code_interpreter"
SEARCH_TOOLS = ("brave_search", "wolfram_alpha")
_STOPS = {"end_of_turn": special.END_OF_TURN, "end_of_message": special.END_OF_MESSAGE}
_FUNCTION_TAG = re.compile(r"\s*<function=([^>]+)>(\{.*\})(?:</function>)?\s*", re.DOTALL)
_SEARCH_CALL = re.compile(r"\s*(\w+)\.call\(query=(\".*\")\)\s*", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class ToolCall:
    """A function the assistant wants to have called."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Message:
    """One message of a dialog.

    role: system, user, assistant, or ipython (what a tool answered; "tool" is accepted).
    context: text added after the content by a blank line, for instance a passage found.
    stop_reason: "end_of_turn" or "end_of_message"; only for the assistant.
    """

    role: str
    content: str = ""
    context: str | None = None
    tool_calls: Sequence[ToolCall] = field(default_factory=tuple)
    stop_reason: str | None = None

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
    """Encodes and decodes dialogs with one tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
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
        # as the released code: a custom call first, also behind the tag
        call = _parse_custom(text) or (_parse_builtin(text) if tagged else None)
        return Message(
            role="assistant",
            content="" if call else text,
            tool_calls=(call,) if call else (),
            stop_reason=stop_reason,
        )


def format_tool_call(call: ToolCall, tool_format: str = "json") -> str:
    """The text of a call: code as it is, a built-in search as `.call(query=...)`, else as asked."""
    if call.name == CODE_INTERPRETER:
        return str(call.arguments["code"])
    if call.name in SEARCH_TOOLS:
        return f"{call.name}.call(query={json.dumps(call.arguments['query'], ensure_ascii=False)})"
    if tool_format == "json":
        return json.dumps(
            {"type": "function", "name": call.name, "parameters": dict(call.arguments)}
        )
    if tool_format == "function_tag":
        return f"<function={call.name}>{json.dumps(dict(call.arguments))}</function>"
    arguments = ", ".join(f"{key}={_python(value)}" for key, value in call.arguments.items())
    return f"[{call.name}({arguments})]"


def _python(value: Any) -> str:
    return json.dumps(value) if isinstance(value, str) else repr(value)


def _parse_builtin(text: str) -> ToolCall:
    search = _SEARCH_CALL.fullmatch(text)
    if search and search[1] in SEARCH_TOOLS:
        try:
            return ToolCall(name=search[1], arguments={"query": json.loads(search[2])})
        except json.JSONDecodeError:
            pass  # not a well-formed query, so it is code
    return ToolCall(name=CODE_INTERPRETER, arguments={"code": text})


def _parse_custom(text: str) -> ToolCall | None:
    """A custom call in any of the three formats, or None: then it is ordinary text."""
    try:
        if tag := _FUNCTION_TAG.fullmatch(text):
            return ToolCall(name=tag[1], arguments=json.loads(tag[2]))
        if text.lstrip().startswith("{"):
            data = json.loads(text)
            if data.get("type") == "function" and isinstance(data.get("parameters"), dict):
                return ToolCall(name=data["name"], arguments=data["parameters"])
        if text.strip().startswith("["):
            return _parse_python_list(text.strip())
    except (ValueError, TypeError, KeyError, SyntaxError, MemoryError, RecursionError):
        pass  # what a model writes may be anything; then it is no call
    return None


def _parse_python_list(text: str) -> ToolCall | None:
    tree = ast.parse(text, mode="eval").body  # reads the text; nothing of it is run
    if not (isinstance(tree, ast.List) and len(tree.elts) == 1):
        return None
    call = tree.elts[0]
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and not call.args):
        return None
    arguments = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    return ToolCall(name=call.func.id, arguments=arguments)
