"""Functions that a model may call: which are offered, and the call in what it answers.

How they are told to it stands in `llama3lib.tokenizer.tool_prompt`.
"""

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from llama3lib.serve.openai.types import ChatRequest, ToolSpec
from llama3lib.tokenizer import ChatFormat, ChatTemplate
from llama3lib.tokenizer.tool_calls import CALL_STARTS


def offered_tools(form: ChatRequest) -> list[ToolSpec]:
    """The tools that the model is told of."""
    return [] if form.tool_choice == "none" else list(form.tools or ())


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
