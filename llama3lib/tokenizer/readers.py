"""Reading vocabularies: Meta's `tokenizer.model` and Hugging Face's `tokenizer.json`."""

import base64
import binascii
import importlib.util
import json
from functools import cache
from pathlib import Path

import regex

from llama3lib.tokenizer import special
from llama3lib.tokenizer.bpe import GPT2_PATTERN
from llama3lib.tokenizer.rules import LLAMA3_NAMES, TextRules, read_rules


def read_vocabulary(path: Path) -> dict:
    """Keyword arguments for `Tokenizer` from a file, or from a folder that holds one.

    Only a folder says more than its vocabulary: see `TextRules`.
    """
    if path.is_dir():
        # where both are, a fine-tune has changed the one that transformers reads
        for name in ("tokenizer.json", "tokenizer.model", "original/tokenizer.model"):
            if (path / name).is_file():
                return _with_rules(read_vocabulary(path / name), path)
        raise FileNotFoundError(f"{path} holds no tokenizer.model and no tokenizer.json")
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    raw = path.read_bytes()
    if raw.lstrip()[:1] == b"{":
        return _read_json(raw, path)
    return _read_meta(raw, path)


def _with_rules(given: dict, folder: Path) -> dict:
    names = given.get("special_tokens")
    if names is None:  # Meta's layout
        names = special.special_tokens(len(given["mergeable_ranks"]))
    return given | {"rules": read_rules(folder, names, given.get("rules", TextRules()))}


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
        _check_kind(data, model)
        cuts, pattern = _pattern(data.get("pre_tokenizer"))
        added = {token["content"]: token for token in data.get("added_tokens") or ()}
        ids = {name: token["id"] for name, token in added.items()}
        ranks, rank_to_id = _ranks(model, ids)
        first = _first_token(data.get("post_processor"))
    except KeyError as error:
        raise ValueError(f"{path}: key {error} is missing") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: {error}") from None
    names = {"bos_token": first} if first else {}
    return {
        "mergeable_ranks": ranks,
        "special_tokens": ids,
        "pattern": pattern,
        "cuts": cuts,
        "rank_to_id": rank_to_id,
        "text_tokens": [name for name, token in added.items() if not token.get("special", True)],
        "strips": {name: sides for name, token in added.items() if (sides := _sides(token))},
        "rules": TextRules(names=LLAMA3_NAMES | names, begins_with_bos=first is not None),
        "all_bytes": False,
        "name": path.stem,
    }


def _check_kind(data: dict, model: dict) -> None:
    """Raises ValueError for what is no byte-level BPE."""
    kind = model.get("type", "BPE")
    if kind != "BPE":
        raise ValueError(f"model type {kind!r} is not supported: byte-level BPE is")
    if model.get("byte_fallback"):
        raise ValueError("byte_fallback=true (SentencePiece) is not supported: byte-level BPE is")
    for key in ("continuing_subword_prefix", "end_of_word_suffix", "dropout"):
        if model.get(key):
            raise ValueError(f"{key}={model[key]!r} is not supported: byte-level BPE has none")
    normalizer = data.get("normalizer")
    if normalizer is not None and normalizer.get("normalizers", True):
        raise ValueError(
            f"normalizer {normalizer.get('type')!r} is not supported: byte-level BPE has none"
        )


def _sides(token: dict) -> frozenset[str]:
    """On which sides an added token swallows blanks."""
    if token.get("single_word"):
        raise ValueError(f"single_word=true of {token['content']!r} is not supported: false is")
    pairs = (("left", "lstrip"), ("right", "rstrip"))
    return frozenset(side for side, key in pairs if token.get(key))


def _first_token(post_processor: dict | None) -> str | None:
    """The special token that stands in front of a text; None if there is none."""
    if post_processor is None:
        return None
    steps = post_processor.get("processors", [post_processor])
    templates = [step for step in steps if step["type"] == "TemplateProcessing"]
    others = {step["type"] for step in steps} - {"TemplateProcessing", "ByteLevel"}
    if others or len(templates) > 1:
        raise ValueError(f"post_processor {sorted(others)} is not supported: TemplateProcessing is")
    items = templates[0]["single"] if templates else []
    names = [item["SpecialToken"]["id"] if "SpecialToken" in item else None for item in items]
    if names not in ([], [None]) and (len(names) != 2 or names[1] is not None):
        raise ValueError(
            f"post_processor puts {names} around a text: one token in front is supported"
        )
    return names[0] if len(names) == 2 else None


def _pattern(pre_tokenizer: dict | None) -> tuple[list[str], str]:
    """How a text is cut: patterns of what stands alone, and the pattern of its words."""
    steps = [] if pre_tokenizer is None else pre_tokenizer.get("pretokenizers", [pre_tokenizer])
    kinds = [step["type"] for step in steps]
    if kinds[-1:] != ["ByteLevel"] or set(kinds[:-1]) - {"Split", "Digits"}:
        raise ValueError(
            f"pre_tokenizer {kinds} is not supported: ByteLevel, after Split or Digits, is"
        )
    if steps[-1].get("add_prefix_space", False):
        raise ValueError("add_prefix_space=true is not supported: false is")
    cuts = [_isolated(step) for step in steps[:-1]]
    if steps[-1].get("use_regex", True):
        return cuts, GPT2_PATTERN
    return (cuts[:-1], cuts[-1]) if cuts else ([], r"[\s\S]+")


def _isolated(step: dict) -> str:
    if step["type"] == "Digits":
        return r"\p{N}" if step.get("individual_digits") else r"\p{N}+"
    if step["behavior"] != "Isolated" or step.get("invert", False):
        raise ValueError("the Split step is not supported: Isolated is")
    pattern = step["pattern"]
    found = pattern["Regex"] if "Regex" in pattern else regex.escape(pattern["String"])
    try:
        regex.compile(found)
    except regex.error as error:
        raise ValueError(f"{found!r} is not a regular expression: {error}") from None
    return found


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
    if model.get("ignore_merges"):
        # whole words are looked up first and merges list every way to split: ids are the order
        order = sorted(ids, key=ids.get)
        ranks = {token: rank for rank, token in enumerate(order)}
        return ranks, [ids[token] for token in order]
    # a vocabulary may lack bytes that its texts never had
    made = {bytes([i]): None for i in range(256) if bytes([i]) in ids}
    parts = {}
    for left, right in merges:
        token = bytes(to_byte[letter] for letter in left + right)
        made.setdefault(token)
        parts.setdefault(token, set()).add(len(left))
    if made.keys() != ids.keys():
        raise ValueError("vocab and merges do not hold the same tokens")
    ranks = {token: rank for rank, token in enumerate(made)}
    _check_merges(ranks, parts)
    return ranks, [ids[token] for token in made]


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
