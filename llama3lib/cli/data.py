"""`llama3 data`: run a recipe, tell how far it is, then what happened."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

if TYPE_CHECKING:
    from llama3lib.data.funnel import Funnel
    from llama3lib.data.recipe import Recipe
    from llama3lib.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Data:
    """Clean documents by a recipe: archives or pages in, text and an account of every drop out.

    Interrupted runs go on where they were when started again.
    """

    recipe: Annotated[Positional[str], arg(metavar="RECIPE")]
    """A recipe file (TOML), or web for the one that comes along."""
    source: Annotated[Positional[str | None], arg(metavar="INPUT")] = None
    """A file or folder: .warc[.gz|.zst], .warc.wet[.gz], .jsonl[.gz|.zst], .parquet, .html, .txt;
    none shows RECIPE."""
    output: Annotated[Positional[str | None], arg(metavar="OUTPUT")] = None
    """A new folder, or that of an interrupted run."""
    engine: Literal["plain", "local", "ray", "slurm"] = "plain"
    """What runs the tasks; all but plain need the extra "cluster"."""
    workers: int = 1
    """Processes at the same time."""
    tokenizer: str | None = None
    """Also write the text as tokens: a tokenizer file, a checkpoint folder or a bundled name."""

    def run(self) -> int:
        """Do it; returns the exit code."""
        from llama3lib.data.recipe import WEB, load_recipe, web_recipe

        own = self.recipe == "web"
        recipe = web_recipe() if own else load_recipe(self.recipe)
        if self.source is None:
            print(WEB if own else Path(self.recipe).read_text(encoding="utf-8"), end="")
            return 0
        if self.output is None:
            raise ValueError("OUTPUT is missing: llama3 data RECIPE INPUT OUTPUT")
        return self._clean(recipe)

    def _clean(self, recipe: "Recipe") -> int:
        from llama3lib.checkpoint import load_tokenizer
        from llama3lib.cli.progress import Progress, watch_texts
        from llama3lib.data.runner import run_recipe

        # before hours of work
        tokenizer = None if self.tokenizer is None else load_tokenizer(self.tokenizer)
        if tokenizer is not None and self.engine == "slurm":
            raise ValueError(
                f"tokenizer={self.tokenizer!r} is not allowed: slurm only submits the jobs"
            )
        output, bars = Path(self.output), list[Progress]()
        with contextlib.ExitStack() as stack:

            def tell(done: int, tasks: int, where: str) -> None:
                if not bars:
                    bars.append(stack.enter_context(Progress("task", tasks)))
                bars[0].reach(done, where)

            how = {"engine": self.engine, "workers": self.workers, "progress": tell}
            funnel = run_recipe(recipe, self.source, self.output, watch=watch_texts, **how)
        if funnel is None:
            print(f"Jobs are submitted; the report will be in {self.output}/funnel.html")
            return 0
        print(table(funnel))
        print(f"Documents: {output / 'documents'}; report: {output / 'funnel.html'}")
        if tokenizer is not None:
            print(_tokenize(output, tokenizer))
        return 0


def table(funnel: "Funnel") -> str:
    """The funnel as lines of text: step, documents in and out, reasons."""
    width = max(len(count.step) for count in funnel.counts)
    lines = [f"{'step':{width}} {'in':>10} {'out':>10}  dropped"]
    for count in funnel.counts:
        reasons = ", ".join(f"{reason} {n:,}" for reason, n in count.reasons.most_common())
        numbers = f"{count.documents_in:>10,} {count.documents_out:>10,}"
        lines.append(f"{count.step:{width}} {numbers}  {reasons}".rstrip())
    return "\n".join(lines)


def _tokenize(folder: Path, tokenizer: "Tokenizer") -> str:
    """Write `tokens/` beside the documents; says how many there are."""
    from llama3lib.data.tokens import write_shard

    shard = write_shard(_texts(folder / "documents"), folder / "tokens", tokenizer)
    letters = sum(len(text) for text in _texts(folder / "documents"))
    per_token = letters / len(shard)
    return f"Tokens: {len(shard):,} in {folder / 'tokens'}, {per_token:.2f} characters each"


def _texts(folder: Path) -> Iterator[str]:
    from llama3lib.data.shards import read_part

    for part in sorted(folder.glob("part-*.jsonl")):
        for document in read_part(part):
            yield document.text
