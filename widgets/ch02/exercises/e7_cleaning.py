"""Exercise 02.7: a better recipe than the course's own."""

from collections.abc import Callable, Sequence
from functools import cache

from llama3lib.data import Document
from llama3lib.data import run as clean_by
from llama3lib.data.recipe import web_recipe
from llama3lib.worlds.miniweb import make_web
from llama3lib.worlds.miniweb.prose import LISTED_WORDS
from llama3lib.worlds.miniweb.web import GOOD, Page
from widgets.core.exercise import Exercise
from widgets.core.judge import Case, Mistake, run

E = Exercise(
    "02.7",
    "clean",
    hints=(
        "Look at what our recipe leaves: which kind of junk has good words and good lines, but no "
        "sense?",
        "The mini-web is yours to make, as often as you like, with the truth beside it. Train a "
        "classifier on another seed; word pairs see what single words cannot.",
        "run(documents, web_recipe(...).steps), then drop what train_classifier, trained on "
        "make_web(seed=...) pages, scores below 0.5.",
    ),
)


@cache
def _pages() -> list[Page]:
    return make_web(600, seed=31).pages


def _documents() -> list[Document]:
    """The pages as a crawler would bring them."""
    return [
        Document(page.html, f"raw#{i}", {"url": page.url, "date": page.date})
        for i, page in enumerate(_pages())
    ]


def _purity_and_yield(texts: Sequence[str]) -> tuple[float, float]:
    """Share of the cleaned characters that are good lines, once each; share of good ones kept."""
    good = {
        line: len(line)
        for page in _pages()
        if page.kind in GOOD and not page.older and page.copy_of is None
        for line in page.lines
    }
    lines = [line for text in texts for line in text.splitlines()]
    kept = sum(good[line] for line in set(lines) & set(good))
    return kept / max(1, sum(map(len, lines))), kept / sum(good.values())


@cache
def _ours() -> tuple[float, float]:
    """What the course's own recipe reaches."""
    recipe = web_recipe(word_list={"words": LISTED_WORDS})
    return _purity_and_yield([document.text for document in clean_by(_documents(), recipe.steps)])


@E.rule
def _is_purer_than_ours(function: Callable) -> None:
    documents = _documents()
    shows = f"{len(documents)} pages of HTML"
    with function.limit.longer(6):
        texts = run(function, Case((documents,), shows), "clean")
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise Mistake("clean: a list of texts is needed", shows=shows)
    if any("<p>" in text or "</div>" in text for text in texts):
        raise Mistake("there is HTML left", shows=shows, why="extract_text takes it away.")
    (purity, kept), (ours, ours_kept) = _purity_and_yield(texts), _ours()
    told = f"{purity:.1%} of your characters are good, {kept:.1%} of the good ones are there"
    if kept < ours_kept - 0.05:
        why = f"{told}; ours keeps {ours_kept:.1%}."
        raise Mistake("too much good text is lost", shows=shows, why=why)
    if purity < ours + 0.02:
        why = f"{told}; ours reaches {ours:.1%}."
        raise Mistake("not purer than our recipe", shows=shows, why=why)
