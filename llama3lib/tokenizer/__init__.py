"""Text and ids: byte-pair encoding, the tokenizer, and the chat format."""

from llama3lib.tokenizer.bpe import LLAMA3_PATTERN, ranks_from_merges, train_bpe
from llama3lib.tokenizer.chat_format import ChatFormat, EncodedDialog, Message, ToolCall
from llama3lib.tokenizer.special import special_tokens
from llama3lib.tokenizer.tokenizer import StreamDecoder, Tokenizer

__all__ = [
    "LLAMA3_PATTERN",
    "ChatFormat",
    "EncodedDialog",
    "Message",
    "StreamDecoder",
    "Tokenizer",
    "ToolCall",
    "ranks_from_merges",
    "special_tokens",
    "train_bpe",
]
