"""Calls of functions as texts: written as one of the released formats, read in all of them.

Besides the formats of the release (JSON with or without its type, `<function=...>`, a Python
list, a search, code), calls are read as ChatML models (`<tool_call>`) and Mistral's write them.
"""

import ast
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

TOOL_FORMATS = ("json", "function_tag", "python_list")
CODE_INTERPRETER = "code_interpreter"
SEARCH_TOOLS = ("brave_search", "wolfram_alpha")
CALL_STARTS = ("{", "[", "<function=", "<tool_call>", "[TOOL_CALLS]")
"""What a text begins with that may be a call."""
_FUNCTION_TAG = re.compile(r"\s*<function=([^>]+)>\s*(\{.*\}|)\s*(?:</function>)?\s*", re.DOTALL)
_SEARCH_CALL = re.compile(r"\s*(\w+)\.call\(query=(\".*\")\)\s*", re.DOTALL)
_CALL_TAG = re.compile(r"<tool_call>(.*?)(?:</tool_call>\s*|$)", re.DOTALL)
_LIST_TAG = "[TOOL_CALLS]"


@dataclass(frozen=True, kw_only=True)
class ToolCall:
    """A function the assistant wants to have called.

    id: what an answer names it by, where a chat template asks for it.
    """

    name: str
    arguments: Mapping[str, Any]
    id: str | None = None


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


def parse_tool_calls(text: str, *, tagged: bool = False) -> tuple[ToolCall, ...]:
    """The calls that a text consists of; none if it is ordinary text.

    tagged: it stood behind `<|python_tag|>`. As in the released code a custom call is looked for
    first, also there.
    """
    try:
        return tuple(_custom(text.strip())) or (_builtin(text) if tagged else ())
    except (ValueError, TypeError, KeyError, SyntaxError, MemoryError, RecursionError):
        # what a model writes may be anything; then it is no call
        return _builtin(text) if tagged else ()


def _python(value: Any) -> str:
    return json.dumps(value) if isinstance(value, str) else repr(value)


def _builtin(text: str) -> tuple[ToolCall, ...]:
    search = _SEARCH_CALL.fullmatch(text)
    if search and search[1] in SEARCH_TOOLS:
        try:
            return (ToolCall(name=search[1], arguments={"query": json.loads(search[2])}),)
        except json.JSONDecodeError:
            pass  # not a well-formed query, so it is code
    return (ToolCall(name=CODE_INTERPRETER, arguments={"code": text}),)


def _custom(text: str) -> Iterable[ToolCall]:
    if tag := _FUNCTION_TAG.fullmatch(text):
        return [ToolCall(name=tag[1].strip(), arguments=_arguments(tag[2]))]
    if text.startswith("<tool_call>") and not _CALL_TAG.sub("", text):
        return [_of_json(json.loads(body)) for body in _CALL_TAG.findall(text)]
    if text.startswith("{"):
        return [_of_json(json.loads(text))]
    if text.startswith(_LIST_TAG):
        return [_of_json(one) for one in json.loads(text[len(_LIST_TAG) :])]
    return _of_python(text) if text.startswith("[") else ()


def _of_json(data: Any) -> ToolCall:
    """A call has a name, and arguments under one of two names; others raise an error."""
    if isinstance(data.get("function"), dict):  # as OpenAI's interface writes it
        data = data["function"]
    found = [data[key] for key in ("parameters", "arguments") if key in data]
    named = isinstance(data["name"], str) and data["name"]
    if not named or len(found) != 1 or data.get("type", "function") != "function":
        raise ValueError("no call")
    return ToolCall(name=data["name"], arguments=_arguments(found[0]))


def _arguments(value: Any) -> Mapping[str, Any]:
    """An object, also as a text; nothing at all where a function takes none."""
    if isinstance(value, str):
        value = json.loads(value) if value.strip() else {}
    value = {} if value is None else value
    if not isinstance(value, dict):
        raise ValueError("no arguments")
    return value


def _of_python(text: str) -> Iterable[ToolCall]:
    tree = ast.parse(text, mode="eval").body  # reads the text; nothing of it is run
    if not (isinstance(tree, ast.List) and tree.elts):
        return ()
    return [_of_node(node) for node in tree.elts]


def _of_node(call: ast.expr) -> ToolCall:
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and not call.args):
        raise ValueError("no call")
    arguments = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    return ToolCall(name=call.func.id, arguments=arguments)
