"""Reading vocabularies: Meta's `tokenizer.model` and Hugging Face's `tokenizer.json`."""

import base64
import binascii
import importlib.util
import json
from functools import cache
from pathlib import Path

from llama3lib.tokenizer.bpe import LLAMA3_PATTERN

_GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def read_vocabulary(path: Path) -> dict:
    """Keyword arguments for `Tokenizer` from a file, or from a folder that holds one."""
    if path.is_dir():
        for name in ("tokenizer.model", "tokenizer.json", "original/tokenizer.model"):
            if (path / name).is_file():
                return read_vocabulary(path / name)
        raise FileNotFoundError(f"{path} holds no tokenizer.model and no tokenizer.json")
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    raw = path.read_bytes()
    if raw.lstrip()[:1] == b"{":
        return _read_json(raw, path)
    return _read_meta(raw, path)


def find_llama3_vocabulary() -> Path:
    """Path of the released vocabulary inside the installed package `llama-models`."""
    spec = importlib.util.find_spec("llama_models")  # finds the folder without running its code
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for place in ("llama3", "models/llama3"):
            path = Path(folder, place, "tokenizer.model")
            if path.is_file():
                return path
    raise FileNotFoundError(
        "the released Llama 3 vocabulary is not here: it comes with the package llama-models "
        "(Llama 3 Community Licence); install it with pip install llama-models"
    )


def _read_meta(raw: bytes, path: Path) -> dict:
    ranks: dict[bytes, int] = {}
    seen: set[int] = set()
    for number, line in enumerate(raw.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            encoded, rank_text = line.split()
            token, rank = base64.b64decode(encoded, validate=True), int(rank_text)
        except (ValueError, binascii.Error):
            raise ValueError(
                f"{path}, line {number}: {line[:60]!r} is not base64, a space and a rank"
            ) from None
        if token in ranks or rank in seen:
            raise ValueError(f"{path}, line {number}: token or rank {rank} appears twice")
        ranks[token] = rank
        seen.add(rank)
    if not ranks:
        raise ValueError(f"{path} holds no tokens")
    if seen != set(range(len(ranks))):
        raise ValueError(f"{path}: ranks must be 0 to {len(ranks) - 1} without gaps")
    missing = [i for i in range(256) if bytes([i]) not in ranks]
    if missing:
        raise ValueError(f"{path}: byte {missing[0]} has no token of its own")
    return {"mergeable_ranks": ranks, "name": path.stem}


def _read_json(raw: bytes, path: Path) -> dict:
    try:
        data = json.loads(raw)
        model = data["model"]
        kind = model.get("type", "BPE")
        if kind != "BPE":
            raise ValueError(f"model type {kind!r} is not supported: byte-level BPE is")
        if data.get("normalizer") is not None:
            raise ValueError("a normalizer is not supported: byte-level BPE has none")
        pattern = _pattern(data.get("pre_tokenizer"))
        added = {token["content"]: token["id"] for token in data.get("added_tokens", ())}
        ranks, rank_to_id = _ranks(model, added)
    except KeyError as error:
        raise ValueError(f"{path}: key {error} is missing") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: {error}") from None
    return {
        "mergeable_ranks": ranks,
        "special_tokens": added,
        "pattern": pattern,
        "rank_to_id": rank_to_id,
        "name": path.stem,
    }


def _pattern(pre_tokenizer: dict | None) -> str:
    """The cutting rule: a Split by regular expression, or ByteLevel's built-in one."""
    steps = [] if pre_tokenizer is None else pre_tokenizer.get("pretokenizers", [pre_tokenizer])
    kinds = [step["type"] for step in steps]
    if kinds == ["ByteLevel"] and steps[0].get("use_regex", True):
        found = _GPT2_PATTERN
    elif kinds == ["Split", "ByteLevel"] and not steps[1].get("use_regex", True):
        split = steps[0]
        isolated = split["behavior"] == "Isolated" and not split.get("invert", False)
        if not isolated or "Regex" not in split["pattern"]:
            raise ValueError("the Split step is not supported: Isolated by Regex is")
        found = split["pattern"]["Regex"]
    else:
        raise ValueError(
            f"pre_tokenizer {kinds} is not supported: ByteLevel, or Split and ByteLevel, is"
        )
    if steps[-1].get("add_prefix_space", False):
        raise ValueError("add_prefix_space=true is not supported: false is")
    return LLAMA3_PATTERN if found == LLAMA3_PATTERN else found


def _ranks(model: dict, added: dict[str, int]) -> tuple[dict[bytes, int], list[int]]:
    """Ranks in the order of merging, and the id of each rank."""
    vocab = {token: i for token, i in model["vocab"].items() if token not in added}
    letters = byte_letters()
    to_byte = {letter: i for i, letter in letters.items()}
    ids = {}
    for token, i in vocab.items():
        unknown = [letter for letter in token if letter not in to_byte]
        if unknown:
            raise ValueError(f"token {token!r} is not written in byte letters (a {unknown[0]!r})")
        ids[bytes(to_byte[letter] for letter in token)] = i
    merges = [m.split(" ") if isinstance(m, str) else m for m in model["merges"]]
    made = {bytes([i]): None for i in range(256)}
    parts = {}
    for left, right in merges:
        token = bytes(to_byte[letter] for letter in left + right)
        made.setdefault(token)
        parts.setdefault(token, set()).add(len(left))
    if model.get("ignore_merges"):
        # whole words are looked up first and merges list every way to split: ids are the order
        order = sorted(ids, key=ids.get)
    else:
        order = list(made)
    if set(order) != set(ids):
        raise ValueError("vocab and merges do not hold the same tokens")
    ranks = {token: rank for rank, token in enumerate(order)}
    if not model.get("ignore_merges"):
        _check_merges(ranks, parts)
    return ranks, [ids[token] for token in order]


def _check_merges(ranks: dict[bytes, int], parts: dict[bytes, set[int]]) -> None:
    """Merging by rank must rebuild every token from the same two parts as the file's merges."""
    for token, cuts in parts.items():
        pieces = split_by_rank(token, ranks)
        if len(pieces) != 2 or len(cuts) != 1:
            raise ValueError(
                f"the merges of token {token!r} are not those of byte-level BPE by rank"
            )
        if len(pieces[0]) not in cuts:
            raise ValueError(f"token {token!r} is merged from other parts than its rank says")


def split_by_rank(token: bytes, ranks: dict[bytes, int]) -> list[bytes]:
    """The parts a token was last merged from: merge its bytes by rank, but not to the end."""
    pieces = [token[i : i + 1] for i in range(len(token))]
    while len(pieces) > 2:
        joined = [ranks.get(a + b, len(ranks)) for a, b in zip(pieces, pieces[1:], strict=False)]
        at = min(range(len(joined)), key=joined.__getitem__)
        if joined[at] >= ranks[token]:
            break
        pieces[at : at + 2] = [pieces[at] + pieces[at + 1]]
    return pieces


@cache
def byte_letters() -> dict[int, str]:
    """The printable letter that stands for each byte in `tokenizer.json`.

    Printable Latin-1 bytes stand for themselves; the others take U+0100, U+0101, ... in order.
    """
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters = {byte: chr(byte) for byte in plain}
    others = [byte for byte in range(256) if byte not in letters]
    return letters | {byte: chr(0x100 + i) for i, byte in enumerate(others)}
