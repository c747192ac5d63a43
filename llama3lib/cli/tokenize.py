"""`llama3 tokenize`."""

import json
from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional, arg

from llama3lib.cli.options import text_or_stdin


@dataclass(frozen=True, kw_only=True)
class Tokenize:
    """Ids and pieces of a text."""

    path: Annotated[Positional[str], arg(metavar="PATH")]
    """A tokenizer file, a checkpoint folder, a bundled name, or llama3 for the released one."""
    text: Annotated[Positional[str], arg(metavar="TEXT")]
    """The text; "-" reads it from standard input."""
    json: bool = False
    """Print one JSON object instead of a table."""
    bos: bool = False
    """Put the begin-of-text token in front."""
    special: bool = False
    """Read names such as <|eot_id|> in the text as special tokens."""

    def run(self) -> int:
        """Do it; returns the exit code."""
        from llama3lib.checkpoint import load_tokenizer
        from llama3lib.tokenizer import Tokenizer

        released = self.path.lower() == "llama3"
        tokenizer = Tokenizer.llama3() if released else load_tokenizer(self.path)
        text = text_or_stdin(self.text)
        ids = tokenizer.encode(text, bos=self.bos, allow_special=self.special)
        pieces = [tokenizer.token_bytes(token_id) for token_id in ids]
        if self.json:
            # a token may be a part of a character: its bytes are then written as \xNN
            texts = [piece.decode("utf-8", "backslashreplace") for piece in pieces]
            print(json.dumps({"ids": ids, "pieces": texts}, ensure_ascii=False))
            return 0
        width = len(str(tokenizer.n_vocab - 1))
        for token_id, piece in zip(ids, pieces, strict=True):
            print(f"{token_id:>{width}}  {_shown(piece)}")
        print(f"tokens: {len(ids)}, characters: {len(text)}")
        return 0


def _shown(piece: bytes) -> str:
    """Text in quotes, or b'...' where the bytes are only a part of a character."""
    try:
        return repr(piece.decode("utf-8"))
    except UnicodeDecodeError:
        return repr(piece)
