"""`llama3 tokenizer`: learn a vocabulary, or look at one."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import OmitSubcommandPrefixes, Positional, arg, subcommand

from llama3lib.cli.progress import Progress, watch_texts
from llama3lib.utils.require import at_least, between

if TYPE_CHECKING:
    from llama3lib import tokenizer

_SAMPLE = 200  # documents that the size of tokens is told from


@dataclass(frozen=True, kw_only=True)
class TrainTokenizer:
    """Learn a vocabulary from documents by byte-pair encoding, in Llama 3's layout."""

    source: Annotated[Positional[str], arg(metavar="INPUT")]
    """A file or folder that llama3 data reads or has written."""
    out: Annotated[Positional[str], arg(metavar="FOLDER")]
    """A new folder, to be named wherever a tokenizer is asked for."""
    vocab_size: int = 4096
    """Tokens in all: 256 bytes, 256 special ones, and merges. What model.vocab_size must be."""
    most_left_out: float = 0.05
    """Largest share of the rows that may hold no text, and of files that break off."""

    def run(self) -> int:
        """Do it; returns the exit code."""
        from llama3lib.checkpoint import write_tokenizer
        from llama3lib.data.texts import text_files
        from llama3lib.tokenizer import Tokenizer, ranks_from_merges, train_bpe
        from llama3lib.tokenizer.special import N_SPECIAL
        from llama3lib.utils.files import atomic_folder

        at_least("vocab_size", self.vocab_size, 256 + N_SPECIAL)
        between("most_left_out", self.most_left_out, 0, 1)
        text_files(self.source)
        sample: list[str] = []
        size = self.vocab_size - N_SPECIAL
        with atomic_folder(self.out) as folder, Progress("merge", size - 256) as progress:
            merges = train_bpe(
                self._texts(sample), size, progress=lambda done, _: progress.reach(done)
            )
            made = Tokenizer(ranks_from_merges(merges), name=Path(self.out).name)
            write_tokenizer(made, folder)
        if made.n_vocab < self.vocab_size:
            print(f"no pair of neighbours is left after {len(merges):,} merges")
        letters = sum(map(len, sample)) / sum(len(made.encode(text)) for text in sample)
        print(f"{made.n_vocab:,} tokens; {letters:.2f} characters each in the first documents")
        print(f"in a recipe: tokenizer = {str(self.out)!r}, model.vocab_size = {made.n_vocab}")
        return 0

    def _texts(self, sample: list[str]) -> Iterator[str]:
        """All texts; the first ones are kept, and what is left out is told or refused."""
        from llama3lib.data.texts import Account, read_texts

        account = Account()
        for text in watch_texts("documents", read_texts(self.source, account)):
            if len(sample) < _SAMPLE:
                sample.append(text)
            yield text
        if problem := account.problem(self.most_left_out):
            raise ValueError(f"{self.source}: {problem}")
        print(f"{account.texts:,} documents", *account.lines(), sep="\n")


@dataclass(frozen=True, kw_only=True)
class Show:
    """How many tokens a tokenizer has, which of them are special, and how it cuts text."""

    path: Annotated[Positional[str], arg(metavar="PATH")]
    """A tokenizer file, a folder with one, a bundled name, llama3 (the released one) or bytes."""

    def run(self) -> int:
        """Do it; returns the exit code."""
        from llama3lib.checkpoint import load_tokenizer

        for label, value in _facts(load_tokenizer(self.path)).items():
            print(f"{label:12} {value}")
        return 0


def _facts(shown: "tokenizer.Tokenizer") -> dict[str, str]:
    from llama3lib.tokenizer import LLAMA3_PATTERN

    ordinary, names = shown.mergeable_ranks, shown.special_tokens
    longest = sorted(ordinary, key=len)[-5:][::-1]
    facts = {
        "tokens": f"{len(ordinary) + len(names):,}: {len(ordinary):,} ordinary, "
        f"{len(names):,} special; ids up to {shown.n_vocab - 1:,}",
        "longest": ", ".join(repr(token.decode("utf-8", "backslashreplace")) for token in longest),
        "words": "cut as in Llama 3"
        if (shown.pattern, shown.cuts) == (LLAMA3_PATTERN, ())
        else ", then ".join([*shown.cuts, shown.pattern]),
    }
    bos = shown.rules.names.get("bos_token") if shown.rules.begins_with_bos else None
    for label, name in (("text begins", bos), ("text ends", shown.rules.names.get("eos_token"))):
        facts[label] = f"{name} {names[name]:,}" if name in names else "not marked"
    stops = sorted(shown.stop_ids)
    facts["stops at"] = ", ".join(f"{_name(shown, i)} {i:,}" for i in stops) or "none"
    facts["dialogs"] = "as its chat_template says" if shown.rules.chat_templates else "as Llama 3"
    return facts


def _name(shown: "tokenizer.Tokenizer", token_id: int) -> str:
    """A stop may be named by a config and be no token of the vocabulary."""
    try:
        return shown.token_bytes(token_id).decode("utf-8", "backslashreplace")
    except ValueError:
        return "(unknown)"


Action = OmitSubcommandPrefixes[
    Annotated[TrainTokenizer, subcommand("train")] | Annotated[Show, subcommand("show")]
]


@dataclass(frozen=True, kw_only=True)
class Tokenizer:
    """Tokenizers: train (learn one from your documents), show (what is in one)."""

    action: Action
    """What to do."""

    def run(self) -> int:
        """Do it; returns the exit code."""
        return self.action.run()
