"""Dialogs and preference pairs out of a user's rows, in the forms that others name them by.

A dialog is `messages`; or `prompt` and `completion`; or Alpaca's `instruction`, `input`, `output`.
A pair is `prompt`, `chosen`, `rejected` as TRL names them, or Alpaca's with `chosen` and
`rejected`. Prompts and answers are texts or lists of messages; a text is one turn of the chat.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from llama3lib.data.encoding import stable_hash
from llama3lib.posttrain.rows import BadRowError, RowAccount, data_files, read_rows
from llama3lib.tokenizer import Message, ToolCall
from llama3lib.utils.require import between, is_whole

T = TypeVar("T", "Dialog", "Pair")
Row = Mapping[str, Any]
Messages = tuple[Message, ...]
_ROLES = ("system", "user", "assistant", "tool", "ipython")
_MESSAGE_KEYS = frozenset(
    ("role", "content", "tool_calls", "tool_call_id", "stop_reason", "context")
)
MOST_BAD = 0.05


@dataclass(frozen=True, kw_only=True)
class Dialog:
    """Messages that end with the assistant.

    learned_from: messages before this one are context; no loss is taken on them.
    tools: functions that the model may call, as OpenAI's interface lists them.
    """

    id: str
    messages: Messages
    learned_from: int = 0
    tools: tuple[Mapping[str, Any], ...] = ()

    def held_out(self, share: float, seed: int = 0) -> bool:
        """Whether it belongs to the share that is kept apart: by hash of all before the first
        answer, so that two answers to one question stay together."""
        between("share", share, 0, 1)
        return _kept_apart(self.messages, share, seed)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A prompt and two answers, the better one first; at times a third that is better still.

    margin: how much better, if the row has a number for it. edited: the chosen answer set right
    by a person, which ranks above it (section 4.2.1); empty without one.
    """

    id: str
    prompt: Messages
    chosen: Messages
    rejected: Messages
    edited: Messages = ()
    margin: float | None = None
    tools: tuple[Mapping[str, Any], ...] = ()

    @property
    def responses(self) -> tuple[Messages, ...]:
        """All answers, the best first."""
        return (self.edited, self.chosen, self.rejected)[not self.edited :]

    @property
    def dialogs(self) -> tuple[Dialog, ...]:
        """The prompt with each answer, the best first; what is learned is the answer alone."""
        start = len(self.prompt)
        return tuple(
            Dialog(id=self.id, messages=self.prompt + r, learned_from=start, tools=self.tools)
            for r in self.responses
        )

    def held_out(self, share: float, seed: int = 0) -> bool:
        """As of a dialog."""
        between("share", share, 0, 1)
        return _kept_apart(self.prompt, share, seed)


def _kept_apart(messages: Messages, share: float, seed: int) -> bool:
    before: list[str] = []
    for message in messages:
        if message.role == "assistant":
            break
        before += [message.role, message.content]
    return stable_hash("\0".join(before), seed) / 2**64 < share


def read_dialogs(
    path: str | Path, account: RowAccount | None = None, *, most_bad: float = MOST_BAD
) -> list[Dialog]:
    """All dialogs of a file or a folder, in memory; `account` learns of each row that is none.

    Raises ValueError if a larger share of the rows than `most_bad` is bad, a file breaks off, or
    there is no such file.
    """
    return _read(path, _dialog, account, most_bad)


def read_pairs(
    path: str | Path, account: RowAccount | None = None, *, most_bad: float = MOST_BAD
) -> list[Pair]:
    """All preference pairs of a file or a folder, as `read_dialogs` reads dialogs."""
    return _read(path, _pair, account, most_bad)


def _read(
    path: str | Path,
    make: Callable[["_Fields", str], T],
    account: RowAccount | None,
    most_bad: float,
) -> list[T]:
    account = RowAccount() if account is None else account
    found: list[T] = []
    seen: dict[str, str] = {}
    for file in data_files(path):
        for line, row in read_rows(file, account):
            fields, place = _Fields(row), f"{file.name}:{line}"
            try:
                name = fields.id() or place
                if name in seen:
                    raise BadRowError("duplicate id", f"{name!r} was that of {seen[name]}")
                found.append(make(fields, name))
                seen[name] = place
                account.unused.update(fields.unused())
            except BadRowError as error:
                account.drop(file.name, line, error)
    account.refuse(most_bad)
    return found


class _Fields:
    """A row, and which of its keys were asked for."""

    def __init__(self, row: Row) -> None:
        self.row, self.asked, self.within = row, {"id"}, set[str]()

    def id(self) -> str | None:
        value = self.row.get("id")
        if value is None:
            return None
        if not (isinstance(value, str) or is_whole(value, 0)) or value == "":
            raise BadRowError("bad id", f"{value!r}: a text or a whole number is needed")
        return str(value)

    def has(self, *keys: str) -> bool:
        return all(self.row.get(key) is not None for key in keys)

    def get(self, key: str) -> Any:
        self.asked.add(key)
        return self.row.get(key)

    def messages(self, key: str) -> Messages:
        """A list of messages."""
        value = self.get(key)
        if not isinstance(value, list) or not value:
            raise BadRowError("no messages", f"{key} must be a list of messages, not empty")
        for one in value:
            if isinstance(one, dict):
                self.within |= {f"{key}[].{name}" for name in one if name not in _MESSAGE_KEYS}
        return tuple(_message(one, f"{key}[{n}]") for n, one in enumerate(value))

    def turns(self, key: str, role: str) -> Messages:
        """A list of messages, or a text as one turn."""
        if isinstance(self.get(key), list):
            return self.messages(key)
        text = _text(self.get(key), key)
        return (Message(role=role, content=_not_empty(text, key, role)),)

    def tools(self) -> tuple[Mapping[str, Any], ...]:
        value = self.get("tools")
        if isinstance(value, str):  # as some tables store it
            value = _parsed(value, "tools")
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(tool, dict) for tool in value):
            raise BadRowError("bad tools", "a list of functions is needed")
        return tuple(value)

    def unused(self) -> set[str]:
        return {key for key in self.row if key not in self.asked} | self.within


def _dialog(fields: _Fields, name: str) -> Dialog:
    start = 0
    if fields.has("messages"):
        messages = fields.messages("messages")
    elif fields.has("prompt", "completion"):
        prompt, answer = fields.turns("prompt", "user"), fields.turns("completion", "assistant")
        messages, start = prompt + answer, len(prompt)
        _begins_with_answer(answer, "completion")
    elif fields.has("instruction", "output"):
        messages = _alpaca(fields) + fields.turns("output", "assistant")
    else:
        raise _missing(fields.row, "messages", "prompt with completion", "instruction with output")
    _check_order(messages)
    _ends_with_answer(messages, "the dialog")
    return Dialog(id=name, messages=messages, learned_from=start, tools=fields.tools())


def _pair(fields: _Fields, name: str) -> Pair:
    if not fields.has("chosen", "rejected"):
        raise _missing(fields.row, "chosen with rejected")
    keys = ["chosen", "rejected"] + ["edited"] * fields.has("edited")
    answers = [fields.turns(key, "assistant") for key in keys]
    if fields.has("prompt"):
        prompt = fields.turns("prompt", "user")
    elif fields.has("instruction"):
        prompt = _alpaca(fields)
    elif all(isinstance(fields.row[key], list) for key in keys):
        prompt = _common(answers)
    else:
        raise _missing(fields.row, "prompt", "instruction")
    # some sets repeat the prompt in front of both answers
    if all(answer[: len(prompt)] == prompt for answer in answers):
        answers = [answer[len(prompt) :] for answer in answers]
    for key, answer in zip(keys, answers, strict=True):
        _begins_with_answer(answer, key)
        _check_order(prompt + answer)
        _ends_with_answer(answer, key)
    if answers[0] == answers[1]:
        raise BadRowError("no preference", "chosen and rejected are the same")
    chosen, rejected, *edited = answers
    return Pair(
        id=name,
        prompt=prompt,
        chosen=chosen,
        rejected=rejected,
        edited=edited[0] if edited else (),
        margin=_number(fields.get("margin"), "margin"),
        tools=fields.tools(),
    )


def _missing(row: Row, *forms: str) -> BadRowError:
    there = ", ".join(sorted(map(str, row))) or "nothing"
    return BadRowError("missing key", f"{' or '.join(forms)} is needed, there is {there}")


def _alpaca(fields: _Fields) -> Messages:
    """The instruction, and its input below it if there is one."""
    text = _not_empty(_text(fields.get("instruction"), "instruction"), "instruction", "user")
    more = fields.get("input")
    more = "" if more is None else _text(more, "input")
    return (Message(role="user", content=f"{text}\n\n{more}" if more.strip() else text),)


def _common(answers: Sequence[Messages]) -> Messages:
    """The messages that all begin with: the prompt, where none is given by itself."""
    same = 0
    while all(len(a) > same + 1 for a in answers) and len({a[same] for a in answers}) == 1:
        same += 1
    while same and answers[0][same - 1].role == "assistant":
        same -= 1  # it belongs to the answers, which happen to begin alike
    if not same:
        raise BadRowError("missing key", "prompt is needed: the answers do not begin alike")
    return answers[0][:same]


def _message(value: Any, where: str) -> Message:
    if not isinstance(value, dict):
        raise BadRowError("no message", f"{where} is a {type(value).__name__}")
    role = value.get("role")
    if role not in _ROLES:
        raise BadRowError("unknown role", f"{where}: {role!r}, allowed are {', '.join(_ROLES)}")
    calls = tuple(_call(call, where) for call in value.get("tool_calls") or ())
    content = value.get("content")
    text = "" if content is None and calls else _text(content, f"{where}.content")
    if not calls:
        _not_empty(text, where, role)
    context = value.get("context")
    try:
        return Message(
            role=role,
            content=text,
            context=None if context is None else _text(context, f"{where}.context"),
            tool_calls=calls,
            stop_reason=value.get("stop_reason"),
            tool_call_id=value.get("tool_call_id"),
        )
    except ValueError as error:
        raise BadRowError("bad message", f"{where}: {error}") from None


def _text(value: Any, where: str) -> str:
    """A text, or the texts of a list of parts."""
    if isinstance(value, list) and value and all(_is_text_part(part) for part in value):
        value = "".join(part["text"] for part in value)
    if not isinstance(value, str):
        raise BadRowError("not text", f"{where} is a {type(value).__name__}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise BadRowError("not text", f"{where} holds half a surrogate pair") from None
    return value


def _is_text_part(part: Any) -> bool:
    return (
        isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
    )


def _not_empty(text: str, where: str, role: str) -> str:
    if not text.strip() and role not in ("tool", "ipython"):  # a tool may answer nothing
        raise BadRowError("empty answer" if role == "assistant" else "empty message", where)
    return text


def _call(value: Any, where: str) -> ToolCall:
    """As OpenAI's interface writes it, or the function alone."""
    function = value.get("function", value) if isinstance(value, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str) or not name:
        raise BadRowError("bad tool call", f"{where}: a function with a name is needed")
    given = function.get("arguments", function.get("parameters"))
    given = _parsed(given, where) if isinstance(given, str) and given.strip() else given or {}
    if not isinstance(given, dict):
        raise BadRowError("bad tool call", f"{where}: arguments must be an object")
    call_id = value.get("id")
    return ToolCall(name=name, arguments=given, id=call_id if isinstance(call_id, str) else None)


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRowError("bad tool call", f"{where}: no JSON: {error}") from None


def _number(value: Any, where: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadRowError("not a finite number", f"{where}={value!r}")
    return float(value)


def _begins_with_answer(answer: Messages, where: str) -> None:
    if not answer or answer[0].role != "assistant":
        raise BadRowError("wrong order", f"{where} must begin with the assistant")


def _ends_with_answer(messages: Messages, where: str) -> None:
    if not messages or messages[-1].role != "assistant":
        raise BadRowError("no answer", f"{where} must end with the assistant")


_BEFORE = {
    "user": ("start", "assistant"),
    "assistant": ("user", "ipython"),
    "ipython": ("call", "ipython"),
}


def _check_order(messages: Sequence[Message]) -> None:
    """A system message first if any; user and assistant in turn; tools after a call.

    Raises BadRowError naming the first message that is out of place.
    """
    last = "start"
    for n, message in enumerate(messages):
        if message.role == "system":
            if n and messages[0].role == "system":
                raise BadRowError("two system turns", f"messages 0 and {n}")
            if n:
                raise BadRowError("wrong order", f"message {n}: system after {last}")
            continue
        if last not in _BEFORE[message.role]:
            raise BadRowError("wrong order", f"message {n}: {message.role} after {last}")
        last = "call" if message.tool_calls else message.role
