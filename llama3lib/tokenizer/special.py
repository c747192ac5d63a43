"""The 256 special tokens of Llama 3 and where they stand (released code, not in the paper)."""

BEGIN_OF_TEXT = "<|begin_of_text|>"
END_OF_TEXT = "<|end_of_text|>"
PAD = "<|finetune_right_pad_id|>"
START_HEADER = "<|start_header_id|>"
END_HEADER = "<|end_header_id|>"
END_OF_MESSAGE = "<|eom_id|>"
END_OF_TURN = "<|eot_id|>"
PYTHON_TAG = "<|python_tag|>"
IMAGE = "<|image|>"

N_SPECIAL = 256
UNUSED_BYTES = (0xC0, 0xC1, *range(0xF5, 0x100))
"""Byte values that no UTF-8 text has: where a vocabulary of bytes keeps its special tokens."""
_NAMED = (
    BEGIN_OF_TEXT,
    END_OF_TEXT,
    "<|reserved_special_token_0|>",
    "<|reserved_special_token_1|>",
    PAD,
    "<|step_id|>",
    START_HEADER,
    END_HEADER,
    END_OF_MESSAGE,
    END_OF_TURN,
    PYTHON_TAG,
    IMAGE,
)


def special_tokens(n_ranks: int) -> dict[str, int]:
    """Name and id of the 256 special tokens of a vocabulary with `n_ranks` ordinary ones.

    With Llama 3's 128,000 ordinary tokens they are 128,000 to 128,255.
    """
    return dict(zip(_names(), range(n_ranks, n_ranks + N_SPECIAL), strict=True))


def byte_special_tokens() -> dict[str, int]:
    """The first of these tokens, one for each byte value that text does not need."""
    return dict(zip(_names(), UNUSED_BYTES, strict=False))


def _names() -> list[str]:
    reserved = N_SPECIAL - len(_NAMED)
    return [*_NAMED, *(f"<|reserved_special_token_{2 + i}|>" for i in range(reserved))]
