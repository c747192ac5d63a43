"""JSON that every parser reads."""

import json
from typing import Any


def dumps(value: Any) -> str:
    """One line of JSON, in Unicode; NaN and infinities, which JSON doesn't have, become null.

    Raises TypeError for what JSON can't hold.
    """
    text = json.dumps(value, ensure_ascii=False)
    if "NaN" in text or "Infinity" in text:  # Python's own words for them, unless in a string
        text = json.dumps(json.loads(text, parse_constant=lambda _: None), ensure_ascii=False)
    return text
