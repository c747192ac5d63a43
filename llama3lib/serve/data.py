"""What `llama3 data` does: run a recipe with a progress bar, then tell what happened."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from llama3lib.data.funnel import Funnel
from llama3lib.data.recipe import WEB, Recipe, load_recipe, web_recipe
from llama3lib.data.runner import run_recipe
from llama3lib.data.shards import read_part

if TYPE_CHECKING:
    from llama3lib.tokenizer import Tokenizer


def recipe_text(name: str) -> str:
    """The text of a recipe, checked; `web` is the one that comes along."""
    if name == "web":
        return WEB
    load_recipe(name)
    return Path(name).read_text(encoding="utf-8")


def _recipe(name: str) -> Recipe:
    return web_recipe() if name == "web" else load_recipe(name)


def run(
    recipe: str, source: str, output: str, engine: str, workers: int, tokenizer: str | None
) -> int:
    """Run it and print the funnel; returns the exit code.

    Raises ValueError for a wrong recipe, input, output or tokenizer.
    """
    steps = _recipe(recipe)
    known = None if tokenizer is None else _tokenizer(tokenizer)  # before hours of work
    if known is not None and engine == "slurm":
        raise ValueError(f"tokenizer={tokenizer!r} is not allowed: slurm only submits the jobs")
    progress = sys.stderr.isatty()
    funnel = run_recipe(steps, source, output, engine=engine, workers=workers, progress=progress)
    if funnel is None:
        print(f"Jobs are submitted; the report will be in {output}/funnel.html")
        return 0
    print(table(funnel))
    print(f"Documents: {Path(output) / 'documents'}; report: {Path(output) / 'funnel.html'}")
    if known is not None:
        print(_tokenize(Path(output), known))
    return 0


def table(funnel: Funnel) -> str:
    """The funnel as lines of text: step, documents in and out, reasons."""
    width = max(len(count.step) for count in funnel.counts)
    lines = [f"{'step':{width}} {'in':>10} {'out':>10}  dropped"]
    for count in funnel.counts:
        reasons = ", ".join(f"{reason} {n:,}" for reason, n in count.reasons.most_common())
        numbers = f"{count.documents_in:>10,} {count.documents_out:>10,}"
        lines.append(f"{count.step:{width}} {numbers}  {reasons}".rstrip())
    return "\n".join(lines)


def _tokenizer(name: str) -> "Tokenizer":
    from llama3lib.checkpoint import load_tokenizer
    from llama3lib.tokenizer import Tokenizer

    return Tokenizer.from_file(name) if Path(name).is_file() else load_tokenizer(name)


def _tokenize(folder: Path, known: "Tokenizer") -> str:
    """Write `tokens/` beside the documents; says how many there are."""
    from llama3lib.data.tokens import write_token_shard

    shard = write_token_shard(
        _texts(folder / "documents"),
        known.encode,
        folder / "tokens",
        vocab_size=known.n_vocab,
        end=known.eos_id,
        overwrite=True,
    )
    letters = sum(len(text) for text in _texts(folder / "documents"))
    per_token = letters / len(shard)
    return f"Tokens: {len(shard):,} in {folder / 'tokens'}, {per_token:.2f} characters each"


def _texts(folder: Path) -> Iterator[str]:
    for part in sorted(folder.glob("part-*.jsonl")):
        for document in read_part(part):
            yield document.text
