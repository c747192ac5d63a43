"""Text to ids and back, over tiktoken's merging (§3.2: 128K tokens; the artefact is released code).

Text that comes from a user is only ever text: a string that looks like `<|eot_id|>` becomes the
tokens of its letters unless the caller asks for special tokens by `allow_special=True`.

Both ends of a text are the same everywhere, as in the released model: a document to train or to
measure on is begin-of-text, the text, end-of-text; a prompt is begin-of-text and the text. So
shards are written, so generation, the server and the adapter to lm-eval read, and so the
`tokenizer.json` of an exported folder does by itself. Folders of others bring their own
`TextRules`: which tokens these are, where a text ends, and how dialogs are written.
"""

import base64
import codecs
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import regex
import tiktoken

from llama3lib.tokenizer import readers, special
from llama3lib.tokenizer.bpe import LLAMA3_PATTERN
from llama3lib.tokenizer.cutting import LONGEST_RUN, cut_apart, short_pieces, words_pattern
from llama3lib.tokenizer.rules import TextRules
from llama3lib.utils.files import atomic_write


class Tokenizer:
    """A byte-level BPE vocabulary: any text has ids, and the ids give the text back.

    mergeable_ranks: bytes of each ordinary token and its rank; lower ranks merge first.
    special_tokens: name and id; Llama 3's 256 after the last rank if left out.
    pattern: how text is cut into words before merging. cuts: where it is cut before that, each
    a pattern of words that stand alone.
    rank_to_id: for vocabularies whose ids are not the ranks.
    text_tokens: those of `special_tokens` that are no control tokens: any text may hold them.
    strips: names of tokens that swallow the blanks in front ("left") or behind ("right").
    rules: how texts begin and end.
    all_bytes: False lets bytes be missing; a text that needs one is refused then.

    Raises ValueError if a byte that text needs is missing, or two tokens share an id.
    """

    def __init__(
        self,
        mergeable_ranks: Mapping[bytes, int],
        *,
        special_tokens: Mapping[str, int] | None = None,
        pattern: str = LLAMA3_PATTERN,
        rank_to_id: list[int] | None = None,
        name: str = "llama3lib",
        cuts: Sequence[str] = (),
        text_tokens: Iterable[str] = (),
        strips: Mapping[str, frozenset[str]] | None = None,
        rules: TextRules | None = None,
        all_bytes: bool = True,
    ) -> None:
        needed = [i for i in range(256) if i not in special.UNUSED_BYTES]
        missing = [i for i in needed if bytes([i]) not in mergeable_ranks]
        if missing and all_bytes:
            raise ValueError(
                f"mergeable_ranks lacks {len(missing)} single bytes, first {missing[0]}"
            )
        self._missing = re.compile(b"[" + re.escape(bytes(missing)) + b"]") if missing else None
        if sorted(mergeable_ranks.values()) != list(range(len(mergeable_ranks))):
            raise ValueError(
                "mergeable_ranks is not allowed: ranks must be 0, 1, 2, ... without gaps"
            )
        self.mergeable_ranks = dict(mergeable_ranks)
        self.name, self.pattern, self.cuts = name, pattern, tuple(cuts)
        self.rules = rules or TextRules()
        self.strips = dict(strips or {})
        n_ranks = len(self.mergeable_ranks)
        identity = rank_to_id is None or rank_to_id == list(range(n_ranks))
        self._rank_to_id = None if identity else list(rank_to_id)
        if special_tokens is None:
            special_tokens = special.special_tokens(n_ranks)
        self.special_tokens = dict(special_tokens)
        ids = [*(rank_to_id or range(n_ranks)), *self.special_tokens.values()]
        if len(set(ids)) != len(ids):
            raise ValueError("special_tokens is not allowed: two tokens share an id")
        self.n_vocab = max(ids) + 1
        # special tokens stay outside tiktoken: it cannot then make one from text
        self._encoding = tiktoken.Encoding(
            name,
            pat_str=words_pattern(pattern),
            mergeable_ranks=self.mergeable_ranks,
            special_tokens={},
        )
        self._cuts = [regex.compile(cut) for cut in self.cuts]
        self._bytes = {
            (rank if identity else rank_to_id[rank]): token
            for token, rank in self.mergeable_ranks.items()
        }
        self._bytes |= {i: token.encode("utf-8") for token, i in self.special_tokens.items()}
        self.text_tokens = frozenset(text_tokens)
        control = self.special_tokens.keys() - self.text_tokens
        self._special_ids = frozenset(self.special_tokens[name] for name in control)
        self._special_pattern = _any_of(self.special_tokens)
        self._text_pattern = _any_of(self.text_tokens)

    @classmethod
    def from_file(cls, path: str | Path) -> "Tokenizer":
        """Read Meta's `tokenizer.model`, Hugging Face's `tokenizer.json`, or a folder with one.

        Raises FileNotFoundError, or ValueError naming the file and what is wrong in it.
        """
        return cls(**readers.read_vocabulary(Path(path)))

    @classmethod
    def llama3(cls) -> "Tokenizer":
        """The released Llama 3 vocabulary, read from the installed package `llama-models`.

        It has its own licence, so it is not part of this package.
        Raises FileNotFoundError saying how to get it.
        """
        return cls.from_file(readers.find_llama3_vocabulary())

    @classmethod
    def of_bytes(cls) -> "Tokenizer":
        """256 tokens: each byte of text is its own id, with no merges.

        The special tokens take the ids of the 13 byte values that UTF-8 never has.
        """
        used = [i for i in range(256) if i not in special.UNUSED_BYTES]
        return cls(
            {bytes([i]): rank for rank, i in enumerate(used)},
            special_tokens=special.byte_special_tokens(),
            rank_to_id=used,
            name="bytes",
        )

    def encode(
        self, text: str, *, bos: bool = False, eos: bool = False, allow_special: bool = False
    ) -> list[int]:
        """Ids of a text, with begin- and end-of-text tokens if asked for.

        bos: begin as a text begins in this vocabulary; some put nothing in front.
        allow_special: read `<|...|>` names in the text as special tokens. Only for text that
        the program itself wrote.
        Raises ValueError if text is not a string or holds half a surrogate pair.
        """
        self._check_text(text)
        ids = [self.bos_id] if bos and self.rules.begins_with_bos else []
        if allow_special:
            for i, part in enumerate(self.split(text)):
                ids += [self.special_tokens[part]] if i % 2 else self.encode_text(part)
        else:
            ids += self.encode_text(text)
        if eos:
            ids.append(self.eos_id)
        return ids

    def split(self, text: str) -> list[str]:
        """Texts and names of special tokens in turn, a text first.

        Texts are without the blanks that a token beside them swallows (`strips`).
        """
        return self._stripped(_split(self._special_pattern, text))

    def encode_text(self, text: str) -> list[int]:
        """Ids of a text that holds no control token; `text_tokens` are found in it."""
        if self._text_pattern is None:
            return self._encode_text(text)
        ids = []
        for i, part in enumerate(self._stripped(_split(self._text_pattern, text))):
            ids += [self.special_tokens[part]] if i % 2 else self._encode_text(part)
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids, special tokens by name. Bytes that are no UTF-8 become U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Bytes of ids. Raises ValueError naming the first id that is not in the vocabulary."""
        return b"".join(map(self.token_bytes, ids))

    def token_bytes(self, token_id: int) -> bytes:
        """Bytes of one token; a special token's are its name.

        A row that the model has and the vocabulary has not has none. Raises ValueError if unknown.
        """
        try:
            return self._bytes[token_id]
        except (KeyError, TypeError):
            if type(token_id) is int and 0 <= token_id < self.rules.num_rows:
                return b""
            raise ValueError(
                f"id {token_id!r} is not in the vocabulary of {self.n_vocab}"
            ) from None

    def stream_decoder(self) -> "StreamDecoder":
        """For text that arrives token by token: gives out whole characters only."""
        return StreamDecoder(self)

    def save(self, path: str | Path) -> None:
        """Write Meta's format: one line a token, base64 of its bytes and its rank.

        Special tokens are not in that format. Raises ValueError if they or the pattern differ
        from Llama 3's, because then reading the file would give another tokenizer.
        """
        if not self.fits_meta_format():
            raise ValueError(
                f"tokenizer {self.name!r} does not fit Meta's format: not Llama 3's layout"
            )
        ranked = sorted(self.mergeable_ranks.items(), key=lambda item: item[1])
        lines = [base64.b64encode(token) + b" %d\n" % rank for token, rank in ranked]
        with atomic_write(path) as temporary:
            temporary.write_bytes(b"".join(lines))

    def fits_meta_format(self) -> bool:
        """True if ids, special tokens and pattern are laid out as in Llama 3."""
        expected = special.special_tokens(len(self.mergeable_ranks))
        same = self.special_tokens == expected and self.pattern == LLAMA3_PATTERN
        return same and not (self._rank_to_id or self.cuts or self.text_tokens or self.strips)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all that ids depend on: the same for the same tokenizer, whatever its file."""
        digest = hashlib.sha256("".join((self.pattern, *self.cuts)).encode("utf-8"))
        for token_id, token in sorted(self._bytes.items()):
            digest.update(b"%d %d %d " % (token_id, self.is_special(token_id), len(token)) + token)
        return digest.hexdigest()

    def id_of_rank(self, rank: int) -> int:
        """The id of the ordinary token with that rank; in Llama 3's layout the same number."""
        return self._rank_to_id[rank] if self._rank_to_id else rank

    def is_special(self, token_id: int) -> bool:
        """True if the id is a special token."""
        return token_id in self._special_ids

    @property
    def bos_id(self) -> int:
        """Begin of text."""
        return self._named(self.rules.names.get("bos_token", "bos_token"))

    @property
    def eos_id(self) -> int:
        """End of text."""
        return self._named(self.rules.names.get("eos_token", "eos_token"))

    @property
    def eot_id(self) -> int:
        """End of a turn: the other side speaks next."""
        return self._named(special.END_OF_TURN)

    @property
    def eom_id(self) -> int:
        """End of a message: a tool's answer is expected."""
        return self._named(special.END_OF_MESSAGE)

    @property
    def pad_id(self) -> int:
        """Filler on the right of short rows."""
        return self._named(self.rules.names.get("pad_token", "pad_token"))

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """Ids at which generation ends: end of text, of a message, of a turn, and `rules.ends`."""
        return self.rules.stop_ids(self.special_tokens)

    def _named(self, name: str) -> int:
        if name not in self.special_tokens:
            raise ValueError(f"tokenizer {self.name!r} has no special token {name}")
        return self.special_tokens[name]

    def _check_text(self, text: str) -> None:
        if not isinstance(text, str):
            raise ValueError(f"text is a {type(text).__name__}: a string is needed")
        if text.isascii():
            return
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            bad = f"U+{ord(text[error.start]):04X}"
            raise ValueError(
                f"text has half a surrogate pair ({bad}) at character {error.start}: "
                "not valid Unicode"
            ) from None

    def _stripped(self, parts: list[str]) -> list[str]:
        """Texts and names in turn, the texts without the blanks that their neighbours swallow."""
        if self.strips:
            for i in range(1, len(parts), 2):
                sides = self.strips.get(parts[i], ())
                if "left" in sides:
                    parts[i - 1] = parts[i - 1].rstrip()
                if "right" in sides:
                    parts[i + 1] = parts[i + 1].lstrip()
        return parts

    def _encode_text(self, text: str) -> list[int]:
        if self._missing is not None:
            self._check_bytes(text)
        if len(text) <= LONGEST_RUN and not self._cuts:
            ranks = self._encoding.encode_ordinary(text)
        else:
            ranks = []
            for piece in short_pieces(text):
                for part in cut_apart(piece, self._cuts):
                    ranks += self._encoding.encode_ordinary(part)
        return [self._rank_to_id[rank] for rank in ranks] if self._rank_to_id else ranks

    def _check_bytes(self, text: str) -> None:
        found = self._missing.search(text.encode("utf-8"))
        if found is not None:
            letter = next(letter for letter in text if found[0] in letter.encode("utf-8"))
            raise ValueError(
                f"text has {letter!r} (U+{ord(letter):04X}), whose byte 0x{found[0].hex()} "
                f"tokenizer {self.name!r} has no token for"
            )


class StreamDecoder:
    """Collects tokens and gives out text as soon as its characters are complete."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token_id: int) -> str:
        """Text completed by this token; empty while a character is still in pieces."""
        return self._decoder.decode(self._tokenizer.token_bytes(token_id))

    def flush(self) -> str:
        """What is left at the end: U+FFFD if a character never became whole."""
        return self._decoder.decode(b"", final=True)


def _any_of(names: Iterable[str]) -> re.Pattern | None:
    """Matches any of the names, the longest first; None if there are none."""
    ordered = sorted(names, key=len, reverse=True)
    return re.compile("(" + "|".join(map(re.escape, ordered)) + ")") if ordered else None


def _split(pattern: re.Pattern | None, text: str) -> list[str]:
    return [text] if pattern is None else pattern.split(text)
