"""Exercise 02.4: a classifier of quality, and the good pages that it harms."""

from collections.abc import Callable, Sequence

from llama3lib.worlds.miniweb import make_web
from llama3lib.worlds.miniweb.web import GOOD, Page
from widgets.core.exercise import Exercise
from widgets.core.forms import is_number, single
from widgets.core.judge import Case, Mistake, run

E = Exercise(
    "02.4",
    hints=(
        "Words and word pairs tell good text from bad, if you let a linear model weigh them.",
        "Hash each word and pair into one of some thousand bins, average, one weight for each bin, "
        "a sigmoid. For `harmed`: which kind of good page loses the largest share below 0.5?",
        "train_classifier(texts, labels) does the first part; a home-made one with Counter and "
        "log-odds does it too. Then group the pages by kind and compare shares of scores < 0.5.",
    ),
)
train = E.part("train")
harmed = E.part("harmed", otherwise=("harmed: another kind loses more", ""))


def rank_share(good: Sequence[float], bad: Sequence[float]) -> float:
    """How often a good text scores above a bad one (the area under the ROC curve)."""
    wins = sum((g > b) + 0.5 * (g == b) for g in good for b in bad)
    return wins / (len(good) * len(bad))


def quality_pages(seed: int, pages: int = 600) -> tuple[list[Page], list[str]]:
    """Pages in English and their labels, "good" or "bad"."""
    found = [p for p in make_web(pages, seed).pages if p.kind not in ("foreign", "empty")]
    return found, ["good" if page.kind in GOOD else "bad" for page in found]


@train.rule
def _tells_good_from_bad(function: Callable) -> None:
    pages, labels = quality_pages(seed=21)
    told = f"{len(pages)} pages of a mini-web with labels"
    with function.limit.longer(6):
        score = run(function, Case(([p.text for p in pages], labels), told), "train")
    if not callable(score):
        why = "It takes a text and gives a number."
        raise Mistake("train: a function is needed", shows=told, why=why)
    pages, labels = quality_pages(seed=22, pages=400)
    scores = [_score_of(score, page) for page in pages]
    good = [s for s, label in zip(scores, labels, strict=True) if label == "good"]
    bad = [s for s, label in zip(scores, labels, strict=True) if label == "bad"]
    shows, area = f"{len(pages)} pages that it has not seen", rank_share(good, bad)
    if len({round(s, 9) for s in scores}) == 1:
        raise Mistake("every text gets the same score", shows=shows, why="Nothing was learned.")
    if area < 0.3:
        why = "A good text should score near 1."
        raise Mistake("good and bad are swapped", shows=shows, why=why)
    if _same_order(scores, [len(page.text) for page in pages]):
        raise Mistake("only the length is looked at", shows=shows, why="Look at the words.")
    if area < 0.9:
        why = f"A good page scores above a bad one in {area:.0%} of cases; 90% is asked for."
        raise Mistake("it does not tell good from bad well enough", shows=shows, why=why)


def _score_of(score: Callable, page: Page) -> float:
    value = single(run(score, Case((page.text,), "a page that it has not seen"), "the score"))
    if not is_number(value) or not 0 <= value <= 1:
        raise Mistake("a score is not from 0 to 1", shows=f"it was {value!r}")
    return float(value)


def _same_order(one: Sequence[float], other: Sequence[float]) -> bool:
    order = sorted(range(len(one)), key=lambda i: other[i])
    rising = [one[i] for i in order]
    ups = sum(b > a for a, b in zip(rising, rising[1:], strict=False))
    downs = sum(b < a for a, b in zip(rising, rising[1:], strict=False))
    return min(ups, downs) == 0


@harmed.reference
def most_harmed(
    score: Callable[[str], float],
    pages: Sequence[tuple[str, str]],
    *,
    loss: Callable[[list[float]], float] = lambda scores: (
        sum(s < 0.5 for s in scores) / len(scores)
    ),
) -> str:
    """The kind of which most is lost."""
    scores: dict[str, list[float]] = {}
    for text, kind in pages:
        scores.setdefault(kind, []).append(score(text))
    return max(scores, key=lambda kind: loss(scores[kind]))


harmed.mistake(
    "pages are counted, not their share", loss=lambda scores: sum(s < 0.5 for s in scores)
)
harmed.mistake("the mean score is compared", loss=lambda scores: -sum(scores) / len(scores)).why(
    "Who is dropped counts."
)


@harmed.cases
def _cases() -> list[Case]:
    """Made-up scores, a row of them for each kind."""
    told = {
        "one page below 0.5, of kind x": {"x": [0.2], "y": [0.9]},
        "one of three x below 0.5, the only y too": {"x": [0.1, 0.9, 0.8], "y": [0.3]},
        "both x just below 0.5, one y far below": {"x": [0.45, 0.45], "y": [0.01, 0.6]},
    }
    cases = []
    for shows, kinds in told.items():
        rows = [(f"{k}{i}", k, s) for k, row in kinds.items() for i, s in enumerate(row)]
        score = {text: value for text, _, value in rows}.__getitem__
        cases.append(Case((score, [(text, kind) for text, kind, _ in rows]), shows))
    return cases
