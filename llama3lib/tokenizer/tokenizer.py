"""Text to ids and back, over tiktoken's merging (§3.2: 128K tokens; the artefact is released code).

Text that comes from a user is only ever text: a string that looks like `<|eot_id|>` becomes the
tokens of its letters unless the caller asks for special tokens by `allow_special=True`.

Both ends of a text are the same everywhere, as in the released model: a document to train or to
measure on is begin-of-text, the text, end-of-text; a prompt is begin-of-text and the text. So
shards are written, so generation, the server and the adapter to lm-eval read, and so the
`tokenizer.json` of an exported folder does by itself.
"""

import base64
import codecs
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path

import tiktoken

from llama3lib.tokenizer import readers, special
from llama3lib.tokenizer.bpe import LLAMA3_PATTERN
from llama3lib.utils.files import atomic_write

# tiktoken's regular expressions run out of stack on very long runs, so long text is cut where
# Meta's code cuts it: every 400,000 characters, and inside runs of over 25,000 characters that
# are all white space or all not
_CHUNK = 400_000
_RUN = 25_000
_SPACES = re.compile(r"\s*")
_OTHERS = re.compile(r"\S*")
_LONG_RUNS = re.compile(rf"\s{{1,{_RUN}}}|\S{{1,{_RUN}}}")


class Tokenizer:
    """A byte-level BPE vocabulary: any text has ids, and the ids give the text back.

    mergeable_ranks: bytes of each ordinary token and its rank; lower ranks merge first.
    special_tokens: name and id; Llama 3's 256 after the last rank if left out.
    pattern: how text is cut into words before merging.
    rank_to_id: for vocabularies whose ids are not the ranks.

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
    ) -> None:
        needed = [i for i in range(256) if i not in special.UNUSED_BYTES]
        missing = [i for i in needed if bytes([i]) not in mergeable_ranks]
        if missing:
            raise ValueError(
                f"mergeable_ranks lacks {len(missing)} single bytes, first {missing[0]}"
            )
        if sorted(mergeable_ranks.values()) != list(range(len(mergeable_ranks))):
            raise ValueError(
                "mergeable_ranks is not allowed: ranks must be 0, 1, 2, ... without gaps"
            )
        self.mergeable_ranks = dict(mergeable_ranks)
        self.name, self.pattern = name, pattern
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
            name, pat_str=pattern, mergeable_ranks=self.mergeable_ranks, special_tokens={}
        )
        self._bytes = {
            (rank if identity else rank_to_id[rank]): token
            for token, rank in self.mergeable_ranks.items()
        }
        self._bytes |= {i: token.encode("utf-8") for token, i in self.special_tokens.items()}
        self._special_ids = frozenset(self.special_tokens.values())
        names = sorted(self.special_tokens, key=len, reverse=True)
        self._special_pattern = re.compile("(" + "|".join(map(re.escape, names)) + ")")

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

        allow_special: read `<|...|>` names in the text as special tokens. Only for text that
        the program itself wrote.
        Raises ValueError if text is not a string or holds half a surrogate pair.
        """
        self._check_text(text)
        ids = [self.bos_id] if bos else []
        if allow_special and self.special_tokens:
            for i, part in enumerate(self._special_pattern.split(text)):
                ids += [self.special_tokens[part]] if i % 2 else self._encode_text(part)
        else:
            ids += self._encode_text(text)
        if eos:
            ids.append(self.eos_id)
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids, special tokens by name. Bytes that are no UTF-8 become U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Bytes of ids. Raises ValueError naming the first id that is not in the vocabulary."""
        return b"".join(map(self.token_bytes, ids))

    def token_bytes(self, token_id: int) -> bytes:
        """Bytes of one token; a special token's are its name. Raises ValueError if unknown."""
        try:
            return self._bytes[token_id]
        except (KeyError, TypeError):
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
        return same and self._rank_to_id is None

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all that ids depend on: the same for the same tokenizer, whatever its file."""
        digest = hashlib.sha256(self.pattern.encode("utf-8"))
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
        return self._named(special.BEGIN_OF_TEXT)

    @property
    def eos_id(self) -> int:
        """End of text."""
        return self._named(special.END_OF_TEXT)

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
        return self._named(special.PAD)

    @property
    def stop_ids(self) -> frozenset[int]:
        """Ids at which generation ends: end of text, of a message, of a turn."""
        names = (special.END_OF_TEXT, special.END_OF_MESSAGE, special.END_OF_TURN)
        return frozenset(self.special_tokens[n] for n in names if n in self.special_tokens)

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

    def _encode_text(self, text: str) -> list[int]:
        if len(text) <= _RUN:
            ranks = self._encoding.encode_ordinary(text)
        else:
            ranks = []
            for piece in _pieces(text):
                ranks += self._encoding.encode_ordinary(piece)
        return [self._rank_to_id[rank] for rank in ranks] if self._rank_to_id else ranks


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


def _pieces(text: str) -> Iterator[str]:
    """Cut a long text as Meta's code does. Text without very long runs is cut in chunks only."""
    for start in range(0, len(text), _CHUNK):
        chunk = text[start : start + _CHUNK]
        if _has_long_run(chunk):
            yield from _split_long_runs(chunk)
        else:
            yield chunk


def _has_long_run(chunk: str) -> bool:
    # a run of over 25,000 characters covers two neighbouring probes: follow the run from each
    step = _RUN // 2
    for probe in range(0, len(chunk) - step, step):
        kind = _SPACES if chunk[probe].isspace() else _OTHERS
        if kind.match(chunk, probe).end() > probe + step:
            return True
    return False


def _split_long_runs(chunk: str) -> Iterator[str]:
    """Cut only inside runs of over 25,000, leaving everything between the cuts in one piece."""
    start, previous_end, previous_space = 0, 0, None
    for run in _LONG_RUNS.finditer(chunk):
        space = chunk[run.start()].isspace()
        if space == previous_space and run.start() == previous_end:
            yield chunk[start : run.start()]
            start = run.start()
        previous_end, previous_space = run.end(), space
    yield chunk[start:]
