"""A tokenizer written as Hugging Face's `tokenizer.json`."""

from llama3lib.tokenizer.readers import byte_letters, split_by_rank
from llama3lib.tokenizer.tokenizer import Tokenizer


def to_hf_json(tokenizer: Tokenizer) -> dict:
    """The content of `tokenizer.json`: the same ids for the same text, begin-of-text in front.

    Words that are a token are looked up whole (`ignore_merges`), as tiktoken does.
    Footgun: unless told otherwise, Hugging Face's tokenizers read special tokens in user text.
    Nor do they cut runs of over 25,000 letters or blanks, as `Tokenizer` does.
    """
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    splits = [
        {"type": "Split", "pattern": {"Regex": cut}, "behavior": "Isolated", "invert": False}
        for cut in (*tokenizer.cuts, tokenizer.pattern)
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            _added(tokenizer, name, token_id) for name, token_id in tokenizer.special_tokens.items()
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [*splits, level | {"use_regex": False}],
        },
        "post_processor": _begin_of_text(tokenizer, level),
        "decoder": level | {"use_regex": True},
        "model": _bpe_model(tokenizer),
    }


def _added(tokenizer: Tokenizer, name: str, token_id: int) -> dict:
    sides = tokenizer.strips.get(name, ())
    return {
        "id": token_id,
        "content": name,
        "single_word": False,
        "lstrip": "left" in sides,
        "rstrip": "right" in sides,
        "normalized": False,
        "special": name not in tokenizer.text_tokens,
    }


def _begin_of_text(tokenizer: Tokenizer, level: dict) -> dict | None:
    """As in the released file: begin-of-text before a text, and before each of a pair."""
    name = tokenizer.rules.names.get("bos_token")
    if name not in tokenizer.special_tokens or not tokenizer.rules.begins_with_bos:
        return None

    def one(which: str, type_id: int) -> list[dict]:
        begin = {"SpecialToken": {"id": name, "type_id": type_id}}
        return [begin, {"Sequence": {"id": which, "type_id": type_id}}]

    token = {"id": name, "ids": [tokenizer.bos_id], "tokens": [name]}
    template = {
        "type": "TemplateProcessing",
        "single": one("A", 0),
        "pair": [*one("A", 0), *one("B", 1)],
        "special_tokens": {name: token},
    }
    return {"type": "Sequence", "processors": [level | {"use_regex": True}, template]}


def _bpe_model(tokenizer: Tokenizer) -> dict:
    ranks, letters = tokenizer.mergeable_ranks, byte_letters()

    def write(token: bytes) -> str:
        return "".join(letters[byte] for byte in token)

    ordered = sorted(ranks, key=ranks.__getitem__)
    vocab = {write(token): tokenizer.id_of_rank(ranks[token]) for token in ordered}
    specials = tokenizer.special_tokens
    if [*specials.values()] != [*range(len(vocab), len(vocab) + len(specials))]:
        vocab |= specials  # outside of the vocabulary they would get the ids that follow its own
    merges = [
        [write(part) for part in parts]
        for token in ordered
        if len(token) > 1 and len(parts := split_by_rank(token, ranks)) == 2
    ]
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": True,
        "vocab": vocab,
        "merges": merges,
    }
