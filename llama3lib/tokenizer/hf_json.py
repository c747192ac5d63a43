"""A tokenizer written as Hugging Face's `tokenizer.json`."""

from llama3lib.tokenizer.readers import byte_letters, split_by_rank
from llama3lib.tokenizer.tokenizer import Tokenizer


def to_hf_json(tokenizer: Tokenizer) -> dict:
    """The content of `tokenizer.json`: the same ids for the same text.

    Words that are a token are looked up whole (`ignore_merges`), as tiktoken does.
    Footgun: unless told otherwise, Hugging Face's tokenizers read special tokens in user text.
    """
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    split = {
        "type": "Split",
        "pattern": {"Regex": tokenizer.pattern},
        "behavior": "Isolated",
        "invert": False,
    }
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": token_id, "content": name, **plain, "special": True}
            for name, token_id in tokenizer.special_tokens.items()
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [split, level | {"use_regex": False}],
        },
        "post_processor": None,
        "decoder": level | {"use_regex": True},
        "model": _bpe_model(tokenizer),
    }


def _bpe_model(tokenizer: Tokenizer) -> dict:
    ranks, letters = tokenizer.mergeable_ranks, byte_letters()

    def write(token: bytes) -> str:
        return "".join(letters[byte] for byte in token)

    ordered = sorted(ranks, key=ranks.__getitem__)
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
        "vocab": {write(token): tokenizer.id_of_rank(ranks[token]) for token in ordered},
        "merges": merges,
    }
