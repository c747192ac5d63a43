"""What an answer has to keep to: a schema or pattern that was sent, or a call of a function.

A call is forced in one form, `{"type": "function", "name": NAME, "parameters": {...}}`, so that
it can be cut out of the answer to the letter.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from llama3lib.inference.structured import Constraint, StructuredOutputs, schema_text
from llama3lib.serve.openai.errors import APIError, unsupported, wrong
from llama3lib.serve.openai.tools import offered_tools, tool_call
from llama3lib.serve.openai.types import ChatRequest, CompletionRequest, ToolSpec

_ANY_OBJECT: dict[str, Any] = {"type": "object"}
_KINDS = ("json", "regex", "choice", "grammar")
# no beginning of a call, in any form that is read as one
_WORDS = r"/\s*([^\s{\[<](.|\n)*)?/"
Wish = tuple[str, str, Any]
"""The field that says it, the method of `StructuredOutputs`, and what that is given."""


def constraint_of(
    form: CompletionRequest | ChatRequest, structured: StructuredOutputs
) -> Constraint | None:
    """What the answers to a request keep to; None if they are free.

    Raises APIError: 400 for what cannot be kept to, 501 if the package for it is missing.
    """
    wish = _wish(form)
    if isinstance(form, ChatRequest):
        wish = _with_calls(form, wish)
    if wish is None:
        return None
    param, kind, value = wish
    try:
        return getattr(structured, kind)(value)
    except ValueError as error:  # it tells of what the client has sent, of nothing else
        raise wrong(param, str(error)) from None
    except ModuleNotFoundError as error:
        raise APIError(501, str(error), param=param, code="not_installed") from None


def _wish(form: CompletionRequest | ChatRequest) -> Wish | None:
    wishes = [*_of_response_format(form.response_format or {})]
    wishes += _of_mapping("structured_outputs", form.structured_outputs or {})
    wishes += [
        (f"guided_{kind}", kind, value)
        for kind in _KINDS
        if (value := getattr(form, f"guided_{kind}")) is not None
    ]
    if len(wishes) > 1:
        raise wrong(wishes[1][0], f"not allowed together with {wishes[0][0]}")
    return wishes[0] if wishes else None


def _of_response_format(given: dict[str, Any]) -> Iterator[Wish]:
    kind = given.get("type", "text")
    if kind == "json_object":
        yield "response_format", "json", _ANY_OBJECT
    elif kind == "json_schema":
        inner = given.get("json_schema")
        if not isinstance(inner, dict) or not isinstance(inner.get("schema"), dict):
            raise wrong("response_format", 'json_schema with a "schema" is needed')
        yield "response_format", "json", inner["schema"]
    elif kind != "text":
        raise wrong("response_format", "type is text, json_object or json_schema")


def _of_mapping(param: str, given: dict[str, Any]) -> Iterator[Wish]:
    """As vLLM's field has it: one of several kinds; options of its own are let through if unset."""
    for kind, value in given.items():
        if value in (None, False):
            continue
        if kind == "json_object":
            yield f"{param}.json_object", "json", _ANY_OBJECT
        elif kind in _KINDS:
            yield f"{param}.{kind}", kind, value
        elif kind != "disable_any_whitespace":  # there never is any
            raise unsupported(f"{param}.{kind}")


def _with_calls(form: ChatRequest, wish: Wish | None) -> Wish | None:
    """A call of one of the functions; or, unless that is forced, what was wished for."""
    tools, must_call = _callable(form)
    if must_call:
        return "tool_choice", "grammar", _calls(tools)
    if not any(tool.function.strict for tool in tools) and not (tools and wish):
        return wish
    if wish is None:
        return "tools", "grammar", _calls(tools, or_else=_WORDS)
    param, kind, value = wish
    if kind != "json":
        raise wrong(param, "not allowed together with tools that may be called")
    return param, "grammar", _calls(tools, or_else=f"%json {_json(param, value)}")


def _callable(form: ChatRequest) -> tuple[list[ToolSpec], bool]:
    """The functions that may be called, and whether one must be."""
    tools, choice = offered_tools(form), form.tool_choice
    if choice in (None, "none", "auto"):
        return tools, False
    if choice != "required":
        named = choice.get("function") if isinstance(choice, dict) else None
        name = named.get("name") if isinstance(named, dict) else None
        if not isinstance(name, str):
            allowed = "none, auto, required, or a function by its name"
            raise unsupported("tool_choice", allowed)
        tools = [tool for tool in tools if tool.function.name == name]
    if not tools:
        raise wrong("tool_choice", "there is no such function in tools")
    return tools, True


def _calls(tools: Iterable[ToolSpec], *, or_else: str = "") -> str:
    """A grammar in Lark: a call of one of the functions by their schemas, or else something."""
    rules, starts = [], []
    for place, tool in enumerate(tools):
        spec = tool.function
        schema = spec.parameters or _ANY_OBJECT
        text = _json(f"tools[{place}].function.parameters", schema)
        starts.append(f"call_{place}")
        rules += [
            f'call_{place}: {json.dumps(_opening(spec.name))} arguments_{place} "}}"',
            f"arguments_{place}: %json {text}",
        ]
    if or_else:
        starts.append("other")
        rules.append(f"other: {or_else}")
    return "\n".join([f"start: {' | '.join(starts)}", *rules])


def _json(param: str, schema: Any) -> str:
    try:
        return schema_text(schema)
    except ValueError as error:
        raise wrong(param, str(error)) from None


def _opening(name: str) -> str:
    return f'{{"type": "function", "name": {json.dumps(name)}, "parameters": '


def read_forced_call(text: str, offered: Iterable[str]) -> list[dict[str, Any]]:
    """The call in a whole answer that kept to a grammar of calls; [] if it is something else."""
    for name in offered:
        opening = _opening(name)
        if text.startswith(opening):
            return [tool_call(name, text[len(opening) : -1])]
    return []
