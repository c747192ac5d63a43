"""Text to token shards: flat files of ids that are read without being loaded.

A shard folder holds `tokens.bin` (ids as 16- or 32-bit numbers, one document after the other),
`starts.npy` (where each document begins, and where the last one ends) and `index.json` (counts,
vocabulary size, checksums, and whose tokens they are). A shard of dialogs also has `asked.bin`, one
byte for each id: whether a loss is taken there. In one of rankings, a prompt with several answers
to each document, the byte is the number of the answer (0: prompt) and, at its last token, 16 times
its rank from 1, the best. All of it is written whole or not at all.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import BinaryIO

import numpy as np

from llama3lib.tokenizer import EncodedDialog, Tokenizer
from llama3lib.utils.files import atomic_folder, sha256_file
from llama3lib.utils.require import require

_FORMAT = "llama3lib-tokens-1"
_DIALOGS = "llama3lib-dialogs-1"  # another name: who knows no masks must not read it
_RANKINGS = "llama3lib-rankings-1"
SEGMENTS = 16
"""Prompt and answers of one row, at most."""


def write_token_shard(
    texts: Iterable[str],
    encode: Callable[[str], list[int]],
    folder: str | Path,
    *,
    vocab_size: int,
    end: int,
    overwrite: bool = False,
    tokenizer: str | None = None,
) -> "TokenShard":
    """Any ids into a shard, each document closed by the token `end`; of text see `write_shard`.

    tokenizer: digest of the one that made the ids, for readers to compare.

    Raises ValueError if an id does not fit the vocabulary or there is no text at all.
    """
    require(0 <= end < vocab_size, "end", end, f"0 to {vocab_size - 1}")
    with atomic_folder(folder, overwrite=overwrite) as temporary:
        documents = ([*encode(text), end] for text in texts)
        with open(temporary / "tokens.bin", "wb") as file:
            starts = _write_ids(documents, file, vocab_size)
        _write_index(temporary, starts, vocab_size, tokenizer, _FORMAT)
    return TokenShard(folder)


def write_dialog_shard(
    dialogs: Iterable[EncodedDialog],
    folder: str | Path,
    *,
    vocab_size: int,
    overwrite: bool = False,
    tokenizer: str | None = None,
) -> "TokenShard":
    """Dialogs into a shard, each one document with its loss mask; windows never split one.

    Raises ValueError if an id does not fit the vocabulary, a mask is not as long as its ids, or
    there is no dialog at all.
    """
    return _write_marked(dialogs, folder, vocab_size, overwrite, tokenizer, _DIALOGS)


def _write_marked(
    dialogs: Iterable[EncodedDialog],
    folder: str | Path,
    vocab_size: int,
    overwrite: bool,
    tokenizer: str | None,
    form: str,
) -> "TokenShard":
    with atomic_folder(folder, overwrite=overwrite) as temporary:
        with open(temporary / "asked.bin", "wb") as masks:

            def documents() -> Iterable[list[int]]:
                for dialog in dialogs:
                    sizes = len(dialog.ids), len(dialog.loss_mask)
                    require(
                        sizes[0] == sizes[1] > 1, "dialog", sizes, "as many of both, two or more"
                    )
                    masks.write(bytes(dialog.loss_mask))
                    yield dialog.ids

            with open(temporary / "tokens.bin", "wb") as file:
                starts = _write_ids(documents(), file, vocab_size)
        _write_index(temporary, starts, vocab_size, tokenizer, form)
    return TokenShard(folder)


def write_ranking_shard(
    rows: Iterable[tuple[Sequence[int], bytes]],
    folder: str | Path,
    *,
    vocab_size: int,
    overwrite: bool = False,
    tokenizer: str | None = None,
) -> "TokenShard":
    """Prompts with ranked answers into a shard: ids and their bytes, as told above.

    Raises ValueError as `write_dialog_shard`.
    """
    dialogs = (EncodedDialog(list(ids), list(marks)) for ids, marks in rows)
    return _write_marked(dialogs, folder, vocab_size, overwrite, tokenizer, _RANKINGS)


def _kind(vocab_size: int) -> np.dtype:
    return np.dtype("<u2") if vocab_size <= 1 << 16 else np.dtype("<u4")


def _write_ids(documents: Iterable[Sequence[int]], file: BinaryIO, vocab_size: int) -> list[int]:
    """Ids one document after the other; where each begins, and where the last one ends."""
    kind, starts = _kind(vocab_size), [0]
    for document in documents:
        ids = np.asarray(document, dtype=np.int64)
        if ids.max() >= vocab_size or ids.min() < 0:
            bad = int(ids.min() if ids.min() < 0 else ids.max())
            raise ValueError(f"token {bad} is not allowed: 0 to {vocab_size - 1}")
        file.write(ids.astype(kind).tobytes())
        starts.append(starts[-1] + len(ids))
    return starts


def _write_index(
    folder: Path, starts: list[int], vocab_size: int, tokenizer: str | None, form: str
) -> None:
    if len(starts) == 1:
        what = "texts" if form == _FORMAT else "dialogs"
        raise ValueError(f"{what} is not allowed to be empty: a shard needs a document")
    np.save(folder / "starts.npy", np.asarray(starts, dtype="<i8"))
    index = {
        "format": form,
        "dtype": _kind(vocab_size).str,
        "vocab_size": vocab_size,
        "tokenizer": tokenizer,
        "documents": len(starts) - 1,
        "tokens": starts[-1],
        "sha256": sha256_file(folder / "tokens.bin"),
        "starts_sha256": sha256_file(folder / "starts.npy"),
    }
    if form != _FORMAT:
        index["asked_sha256"] = sha256_file(folder / "asked.bin")
    (folder / "index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def write_shard(texts: Iterable[str], folder: str | Path, tokenizer: Tokenizer) -> "TokenShard":
    """Texts into a shard: begin-of-text, text, end-of-text. What is in the folder is replaced.

    Raises ValueError if there is no text at all.
    """
    return write_token_shard(
        texts,
        partial(tokenizer.encode, bos=True),
        folder,
        vocab_size=tokenizer.n_vocab,
        end=tokenizer.eos_id,
        overwrite=True,
        tokenizer=tokenizer.digest,
    )


class TokenShard:
    """A shard opened for reading; nothing is loaded before it is asked for.

    Raises ValueError if the folder is no shard or its sizes do not fit together. `verify` also
    compares the checksum, which reads everything.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        try:
            self.index = json.loads((self.folder / "index.json").read_text(encoding="utf-8"))
            if self.index["format"] not in (_FORMAT, _DIALOGS, _RANKINGS):
                raise ValueError(f"format {self.index['format']!r} is not {_FORMAT!r}")
            if self.index["dtype"] not in ("<u2", "<u4"):
                raise ValueError(f"dtype {self.index['dtype']!r} is not '<u2' or '<u4'")
            self.dtype = np.dtype(self.index["dtype"])
            size = (self.folder / "tokens.bin").stat().st_size
            if size != self.index["tokens"] * self.dtype.itemsize:
                raise ValueError(f"tokens.bin has {size} bytes for {self.index['tokens']} tokens")
            if self.has_mask:
                size = (self.folder / "asked.bin").stat().st_size
                if size != self.index["tokens"]:
                    told = f"asked.bin has {size} bytes for {self.index['tokens']} tokens"
                    raise ValueError(told)
            self.starts = np.load(self.folder / "starts.npy", allow_pickle=False)
            if self.starts.dtype != "<i8" or self.starts.shape != (self.index["documents"] + 1,):
                raise ValueError(f"starts.npy does not fit {self.index['documents']} documents")
            ends = (self.starts[0], self.starts[-1])
            if ends != (0, self.index["tokens"]) or (np.diff(self.starts) < 1).any():
                raise ValueError("starts.npy does not rise from 0 to the number of tokens")
        except Exception as error:  # NumPy answers damaged files with many kinds of error
            raise ValueError(f"token shard {str(folder)!r} cannot be read: {error}") from None

        self.packed: dict[int, list[np.ndarray]] = {}  # by length, the dialogs of each window

    def __len__(self) -> int:
        return int(self.index["tokens"])

    @property
    def has_mask(self) -> bool:
        """Whether these are dialogs, of which some tokens are asked for and others not."""
        return self.index["format"] != _FORMAT

    @property
    def is_ranking(self) -> bool:
        """Whether each document is a prompt with several answers that have ranks."""
        return self.index["format"] == _RANKINGS

    @property
    def digest(self) -> str:
        """SHA-256 of all that is learned from: the ids; of dialogs also their places and masks."""
        if not self.has_mask:
            return self.index["sha256"]
        parts = [self.index[key] for key in ("sha256", "starts_sha256", "asked_sha256")]
        return hashlib.sha256("".join(parts).encode("ascii")).hexdigest()

    @cached_property
    def tokens(self) -> np.ndarray:
        """All ids as one array on disk, read page by page as they are used."""
        return np.memmap(self.folder / "tokens.bin", dtype=self.dtype, mode="r")

    @cached_property
    def asked(self) -> np.ndarray:
        """For each id whether a loss is taken there, of rankings its byte; texts have none."""
        require(self.has_mask, "shard", str(self.folder), "a shard of dialogs or rankings")
        kind = np.uint8 if self.is_ranking else np.bool_
        return np.memmap(self.folder / "asked.bin", dtype=kind, mode="r")

    def document(self, place: int) -> np.ndarray:
        """The ids of one document, its end token included."""
        return self.tokens[self.starts[place] : self.starts[place + 1]]

    def verify(self) -> None:
        """Compare the checksums; raises ValueError if a bit of the data has changed."""
        files = [("tokens.bin", "sha256"), ("starts.npy", "starts_sha256")]
        files += [("asked.bin", "asked_sha256")] * self.has_mask
        for name, key in files:
            if sha256_file(self.folder / name) != self.index.get(key):
                raise ValueError(f"{str(self.folder / name)!r} is damaged: its checksum differs")
