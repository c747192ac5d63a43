"""What lies beside a vocabulary: how its texts begin and end, and how its dialogs are written.

Hugging Face's folders say it in several files that need not agree. As transformers does, a text
begins as `tokenizer.json` (or `add_bos_token`) says; it ends at every end that any file names.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llama3lib.tokenizer import special
from llama3lib.utils.require import is_whole

LLAMA3_NAMES = {
    "bos_token": special.BEGIN_OF_TEXT,
    "eos_token": special.END_OF_TEXT,
    "pad_token": special.PAD,
}
_NAMED = ("bos_token", "eos_token", "pad_token", "unk_token")
_LLAMA3_ENDS = (special.END_OF_TEXT, special.END_OF_MESSAGE, special.END_OF_TURN)


@dataclass(frozen=True, kw_only=True)
class TextRules:
    """How texts of a vocabulary begin and end; Llama 3's where nothing is given."""

    names: Mapping[str, str] = field(default_factory=lambda: dict(LLAMA3_NAMES))
    """What is called bos_token, eos_token, pad_token, unk_token."""
    begins_with_bos: bool = True
    """Whether bos_token stands in front of every text."""
    ends: frozenset[int] = frozenset()
    """Ids at which a text ends, besides eos_token and the three ends of Llama 3."""
    num_rows: int = 0
    """Rows of the model's embedding; those that no token has have no text."""
    chat_templates: Mapping[str, str] = field(default_factory=dict)
    """Jinja templates of dialogs by name; the usual one is called "default"."""

    def stop_ids(self, special_tokens: Mapping[str, int]) -> frozenset[int]:
        """All ids at which a text ends."""
        named = (self.names.get("eos_token"), *_LLAMA3_ENDS)
        return self.ends | {special_tokens[name] for name in named if name in special_tokens}


def read_rules(folder: Path, special_tokens: Mapping[str, int], base: TextRules) -> TextRules:
    """The rules of a folder; `base` is what its vocabulary says by itself.

    Raises ValueError naming the file, the field and what is allowed.
    """
    config = _object(folder / "tokenizer_config.json")
    places = [folder / "generation_config.json", folder / "config.json"]
    others = {path: _object(path) for path in places}
    ends, begins = set(), []
    for path, data in others.items():
        ends |= set(_ids(path, data, "eos_token_id"))
        begins += _ids(path, data, "bos_token_id")
    names = dict(_names(folder, config))
    by_id = {i: name for name, i in special_tokens.items()}
    if "bos_token" not in names and begins and begins[0] in by_id:
        names["bos_token"] = by_id[begins[0]]
    if not config:
        names = {**base.names, **names}
    says = config.get("add_bos_token")
    return TextRules(
        names=names,
        begins_with_bos=says if isinstance(says, bool) else base.begins_with_bos,
        ends=frozenset(ends),
        num_rows=rows if is_whole(rows := others[folder / "config.json"].get("vocab_size")) else 0,
        chat_templates=dict(_templates(folder, config)),
    )


def has_chat_template(folder: Path) -> bool:
    """Whether a folder says how its dialogs are written; a damaged file says nothing."""
    try:
        return any(True for _ in _templates(folder, _object(folder / "tokenizer_config.json")))
    except ValueError:
        return False


def _names(folder: Path, config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    older = _object(folder / "special_tokens_map.json")  # where the config names none
    for key in _NAMED:
        value = config.get(key) or older.get(key)
        value = value.get("content") if isinstance(value, dict) else value
        if isinstance(value, str) and value:
            yield key, value
        elif value is not None:
            path = folder / "tokenizer_config.json"
            raise ValueError(f"{path}: {key}={value!r} is not allowed: the text of a token")


def _templates(folder: Path, config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """By name; a later one takes the place of an earlier one of the same name."""
    given, path = config.get("chat_template"), folder / "tokenizer_config.json"
    listed = [{"name": "default", "template": given}] if isinstance(given, str) else given or []
    for entry in listed if isinstance(listed, list) else [listed]:
        pair = (entry.get("name"), entry.get("template")) if isinstance(entry, dict) else (0, 0)
        if not all(isinstance(part, str) for part in pair):
            raise ValueError(
                f"{path}: chat_template is not allowed: a text, or a list of name and template"
            )
        yield pair
    files = [("default", folder / "chat_template.jinja")]
    more = sorted((folder / "additional_chat_templates").glob("*.jinja"))
    for name, file in [*files, *((file.stem, file) for file in more)]:
        if file.is_file():
            try:
                yield name, file.read_text(encoding="utf-8")
            except UnicodeDecodeError as error:
                raise ValueError(f"{file} is not UTF-8: {error}") from None


def _ids(path: Path, data: Mapping[str, Any], key: str) -> list[int]:
    value = data.get(key)
    ids = value if isinstance(value, list) else [] if value is None else [value]
    if not all(is_whole(i, 0) for i in ids):
        raise ValueError(f"{path}: {key}={value!r} is not allowed: an id, or a list of ids")
    return ids


def _object(path: Path) -> dict[str, Any]:
    """A JSON object; empty if there is no such file. Raises ValueError naming a damaged one."""
    if not path.is_file():
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not readable JSON: {error}") from None
    if not isinstance(data, dict):
        raise ValueError(f"{path} is not a JSON object")
    return data
