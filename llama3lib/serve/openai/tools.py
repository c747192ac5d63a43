"""Functions that a model may call: how they are told to it, and the call in what it answers.

They are told as the released prompts of Llama 3.1 do it: the system message names the environment
`ipython`, a user message lists the functions as JSON, and the model calls one by JSON alone.
"""

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from llama3lib.serve.openai.types import ChatRequest, ToolSpec
from llama3lib.tokenizer import ChatFormat, ChatTemplate, Message
from llama3lib.tokenizer.tool_calls import CALL_STARTS

_ENVIRONMENT = "Environment: ipython"


def offered_tools(form: ChatRequest) -> list[ToolSpec]:
    """The tools that the model is told of."""
    return [] if form.tool_choice == "none" else list(form.tools or ())


def with_tools(messages: list[Message], tools: Sequence[ToolSpec]) -> list[Message]:
    """The dialog with the environment in its first system message, and the list of functions."""
    system, rest = "", messages
    if messages[0].role == "system":
        system, rest = messages[0].content, messages[1:]
    opening = f"{_ENVIRONMENT}\n\n{system}" if system else _ENVIRONMENT
    return [
        Message(role="system", content=opening),
        Message(role="user", content=tools_text(tools)),
        *rest,
    ]


def tools_text(tools: Iterable[ToolSpec]) -> str:
    """What the model is told about its functions; the shape is the released one, the words ours."""
    listed = [json.dumps(told_tool(tool), indent=4, ensure_ascii=False) for tool in tools]
    return (
        "Use the functions below to answer where they help, and answer in words where none does.\n"
        "These are the functions, in JSON:\n" + "\n".join(listed) + "\n\n"
        "To call a function, return only JSON: "
        '{"type": "function", "name": NAME, "parameters": {ARGUMENT: VALUE}}'
    )


def told_tool(tool: ToolSpec) -> dict[str, Any]:
    """A function as a model is told of it, by us or by its own template."""
    spec = tool.function
    function: dict[str, Any] = {"name": spec.name}
    if spec.description is not None:
        function["description"] = spec.description
    function["parameters"] = spec.parameters or {"type": "object", "properties": {}}
    return {"type": "function", "function": function}


def may_become_call(text: str) -> bool:
    """Whether a text that began so may still turn out to be a call of a function."""
    start = text.lstrip()
    return any(start.startswith(s) or s.startswith(start) for s in CALL_STARTS)


def read_tool_calls(
    chat_format: ChatFormat | ChatTemplate, ids: Sequence[int], offered: frozenset[str]
) -> list[dict[str, Any]]:
    """The calls in a finished answer, as OpenAI's clients read them; [] if it is ordinary text.

    Only functions that were offered can be called; anything else is what the model said.
    """
    made = []
    for call in chat_format.decode_assistant(ids).tool_calls:
        arguments = _strict_json(call.arguments)
        if call.name not in offered or arguments is None:
            return []
        made.append(tool_call(call.name, arguments))
    return made


def tool_call(name: str, arguments: str) -> dict[str, Any]:
    """A call as OpenAI's clients read it; `arguments` is JSON."""
    function = {"name": name, "arguments": arguments}
    return {"id": f"call_{uuid.uuid4().hex[:24]}", "type": "function", "function": function}


def _strict_json(arguments: Mapping[str, Any]) -> str | None:
    """JSON that every client can read, or None: Python's own notation allows more."""
    if not all(isinstance(name, str) for name in arguments):
        return None  # f(**{}) has an argument without a name
    try:
        text = json.dumps(dict(arguments), ensure_ascii=False, allow_nan=False)
        text.encode("utf-8")
    except (TypeError, ValueError, RecursionError):
        return None
    return text
