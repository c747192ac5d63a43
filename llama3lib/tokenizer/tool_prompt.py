"""How functions are told in a format that has no place for them: the same to train and to serve.

They are told as the released prompts of Llama 3.1 do it: the system message names the environment
`ipython`, a user message lists the functions as JSON, and the model calls one by JSON alone.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from llama3lib.tokenizer.chat_format import Message

_ENVIRONMENT = "Environment: ipython"


def with_tools(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> list[Message]:
    """The dialog with the environment in its first system message, and the list of functions.

    tools: as OpenAI's interface lists them. Without any the dialog is as it was.
    Raises ValueError for a function without a name.
    """
    if not tools:
        return list(messages)
    system, rest = "", list(messages)
    if rest and rest[0].role == "system":
        system, rest = rest[0].content, rest[1:]
    opening = f"{_ENVIRONMENT}\n\n{system}" if system else _ENVIRONMENT
    return [
        Message(role="system", content=opening),
        Message(role="user", content=tools_text(tools)),
        *rest,
    ]


def tools_text(tools: Iterable[Mapping[str, Any]]) -> str:
    """What the model is told about its functions; the shape is the released one, the words ours."""
    listed = [json.dumps(told_tool(tool), indent=4, ensure_ascii=False) for tool in tools]
    return (
        "Use the functions below to answer where they help, and answer in words where none does.\n"
        "These are the functions, in JSON:\n" + "\n".join(listed) + "\n\n"
        "To call a function, return only JSON: "
        '{"type": "function", "name": NAME, "parameters": {ARGUMENT: VALUE}}'
    )


def told_tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    """A function as a model is told of it: name, description if any, parameters.

    Raises ValueError if it has no name.
    """
    spec = tool.get("function", tool)
    name = spec.get("name") if isinstance(spec, Mapping) else None
    if not isinstance(name, str) or not name:
        raise ValueError(f"tools is not allowed: {tool!r} has no name")
    function: dict[str, Any] = {"name": name}
    if spec.get("description") is not None:
        function["description"] = spec["description"]
    function["parameters"] = spec.get("parameters") or {"type": "object", "properties": {}}
    return {"type": "function", "function": function}
