"""Text and ids: byte-pair encoding, the tokenizer, and the chat format."""

from llama3lib.tokenizer.bpe import LLAMA3_PATTERN, ranks_from_merges, train_bpe
from llama3lib.tokenizer.chat_format import ChatFormat, EncodedDialog, Message
from llama3lib.tokenizer.chat_template import ChatTemplate, chat_format_of
from llama3lib.tokenizer.rules import TextRules
from llama3lib.tokenizer.special import special_tokens
from llama3lib.tokenizer.tokenizer import StreamDecoder, Tokenizer
from llama3lib.tokenizer.tool_calls import ToolCall

__all__ = [
    "LLAMA3_PATTERN",
    "ChatFormat",
    "ChatTemplate",
    "EncodedDialog",
    "Message",
    "StreamDecoder",
    "TextRules",
    "Tokenizer",
    "ToolCall",
    "chat_format_of",
    "ranks_from_merges",
    "special_tokens",
    "train_bpe",
]
