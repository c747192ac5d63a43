"""JSON that every parser reads."""

import json
from collections.abc import Callable
from typing import Any


def dumps(
    value: Any, *, indent: int | None = None, default: Callable[[Any], Any] | None = None
) -> str:
    """JSON in Unicode, one line without `indent`; NaN and infinities, which it hasn't, become null.

    `default` is as in `json.dumps`. Raises TypeError for what JSON can't hold.
    """
    text = json.dumps(value, ensure_ascii=False, indent=indent, default=default)
    if "NaN" in text or "Infinity" in text:  # Python's own words for them, unless in a string
        text = json.dumps(loads(text), ensure_ascii=False, indent=indent)
    return text


def loads(text: str | bytes) -> Any:
    """What JSON says, with None for the NaN and the infinities that some writers put in it.

    Raises ValueError for what is no JSON.
    """
    return json.loads(text, parse_constant=lambda _: None)
