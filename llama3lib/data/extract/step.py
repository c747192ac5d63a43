"""The step of the pipeline that reads HTML, and the function behind it."""

from dataclasses import dataclass, field
from typing import ClassVar

from llama3lib.data.document import Document, DocumentStep, Drop
from llama3lib.data.extract.main_text import find_main_text
from llama3lib.data.extract.render import Renderer
from llama3lib.data.extract.tree import parse
from llama3lib.data.invisible import drop_invisible
from llama3lib.utils.require import one_of, require
from llama3lib.utils.sandbox import Refused, Sandbox

AS_THEY_ARE = ("text/plain", "text/markdown", "text/x-markdown")
"""Types of documents that are text already."""


def extract_text(page: str) -> str:
    """The main text of an HTML page, one block a line; "" if there is none.

    Formulas come as TeX between dollar signs, or written in one line where a page has no TeX; `pre`
    stays as it is; cells of a table row are set apart by tabs. An image in a line becomes its `alt`
    text; one that stands alone is left out, unless it is a formula.

    Raises ValueError if elements are nested deeper than `MOST_NESTED`.
    """
    return _extract(page)[0]


def _extract(page: str) -> tuple[str, list[str]]:
    """The main text, and those of its lines that are code."""
    part, listing = find_main_text(parse(page))
    renderer = Renderer(links=listing)
    renderer.render(part)
    if not (renderer.lines or listing):  # a few links and nothing else
        renderer = Renderer(links=True)
        renderer.render(part)
    return "\n".join(renderer.lines), renderer.code


@dataclass(frozen=True, kw_only=True)
class Extract(DocumentStep):
    """Turn HTML documents into text; of other types only what nobody sees is taken out.

    Lines that stood in `pre` are listed in the metadata, as `code_lines`, for later steps.

    Runs in a child process with limits, for the parser reads what anybody may have put on the web.
    Drops: `no text`, and what the sandbox refuses: `too slow`, `too much memory`, `crashed`,
    `failed`, and `refused` for pages that are nested too deep.
    """

    name: ClassVar[str] = "extract"
    engine: str = "llama3lib"
    """`llama3lib`, or `trafilatura` where that package is installed."""
    seconds: float = 5.0
    """Time limit of one page."""
    least_characters: int = 1
    sandbox: Sandbox = field(default_factory=Sandbox, repr=False, compare=False)
    """Where pages are parsed; the default starts one child process and keeps it."""

    def __post_init__(self) -> None:
        one_of("engine", self.engine, sorted(_ENGINES))
        require(self.seconds > 0, "seconds", self.seconds, "more than 0")

    @property
    def packages(self) -> tuple[str, ...]:
        """What the engine is imported from."""
        return ("trafilatura",) if self.engine == "trafilatura" else ("lxml",)

    def apply(self, document: Document) -> Document | Drop:
        if document.metadata.get("content_type", "text/html") in AS_THEY_ARE:
            text = drop_invisible(document.text)
            return document if text == document.text else document.but(text)
        try:
            text, code = self.sandbox.call(
                _ENGINES[self.engine], document.text, seconds=self.seconds
            )
        except Refused as refusal:
            return Drop(refusal.reason, refusal.detail)
        if len(text.strip()) < self.least_characters:
            return Drop("no text", f"{len(document.text)} characters of HTML")
        lines = {"code_lines": sorted(set(code))} if code else {}
        return document.but(text, content_type="text/plain", **lines)


def _with_trafilatura(page: str) -> tuple[str, list[str]]:
    import trafilatura

    parse(page)  # refuses what is nested too deep
    # its deduplicate=True would remember earlier pages: not a pure function any more
    return trafilatura.extract(page, deduplicate=False, include_tables=True) or "", []


_ENGINES = {"llama3lib": _extract, "trafilatura": _with_trafilatura}
