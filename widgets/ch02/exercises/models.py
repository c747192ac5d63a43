"""Chapter 02, exercises 5 to 7: a quality classifier, a law of the mix, a better recipe."""

import random
from collections.abc import Callable, Mapping, Sequence

from llama3lib.data import Document
from llama3lib.data import run as clean_by
from llama3lib.data.mixture import MixLaw
from llama3lib.data.mixture import best_mix as best_of_laws
from llama3lib.data.recipe import web_recipe
from llama3lib.worlds.miniweb import make_web
from llama3lib.worlds.miniweb.prose import LISTED_WORDS
from llama3lib.worlds.miniweb.web import GOOD, Page
from widgets.core.judge import Case, Mistake, functions_of, run

Texts = Sequence[str]
Score = Callable[[str], float]


# 02.5 quality ---------------------------------------------------------------------------------


def rank_share(good: Sequence[float], bad: Sequence[float]) -> float:
    """How often a good text scores above a bad one (the area under the ROC curve)."""
    wins = sum((g > b) + 0.5 * (g == b) for g in good for b in bad)
    return wins / (len(good) * len(bad))


def quality_pages(seed: int, pages: int = 600) -> tuple[list[Page], list[str]]:
    """Pages in English and their labels, "good" or "bad"."""
    found = [p for p in make_web(pages, seed).pages if p.kind not in ("foreign", "empty")]
    return found, ["good" if page.kind in GOOD else "bad" for page in found]


def check_quality(answer: object) -> None:
    """Judge `train(texts, labels)`, which gives a score function, and `harmed(score, pages)`."""
    train, harmed = functions_of(answer, ("train", "harmed"))
    pages, labels = quality_pages(seed=21)
    told = f"{len(pages)} pages of a mini-web with labels"
    score = run(train, Case(([p.text for p in pages], labels), told), "train")
    if not callable(score):
        raise Mistake("train: a function is needed", why="It takes a text and gives a number.")
    _judge_score(score)
    _judge_harmed(harmed)


def _judge_score(score: Score) -> None:
    pages, labels = quality_pages(seed=22, pages=400)
    scores = []
    for page in pages:
        value = run(score, Case((page.text,), "a page that it has not seen"), "the score")
        if not isinstance(value, int | float) or not 0 <= value <= 1:
            raise Mistake("a score is not from 0 to 1", shows=f"it was {value!r}")
        scores.append(float(value))
    good = [s for s, label in zip(scores, labels, strict=True) if label == "good"]
    bad = [s for s, label in zip(scores, labels, strict=True) if label == "bad"]
    if len({round(s, 9) for s in scores}) == 1:
        raise Mistake("every text gets the same score", why="Nothing was learned.")
    area = rank_share(good, bad)
    if area < 0.3:
        raise Mistake("good and bad are swapped", why="A good text should score near 1.")
    lengths = [len(page.text) for page in pages]
    if _same_order(scores, lengths):
        raise Mistake("only the length is looked at", why="Look at the words.")
    if area < 0.9:
        why = f"A good page scores above a bad one in {area:.0%} of cases; 90% is asked for."
        raise Mistake("it does not tell good from bad well enough", why=why)


def _same_order(one: Sequence[float], other: Sequence[float]) -> bool:
    order = sorted(range(len(one)), key=lambda i: other[i])
    rising = [one[i] for i in order]
    ups = sum(b > a for a, b in zip(rising, rising[1:], strict=False))
    downs = sum(b < a for a, b in zip(rising, rising[1:], strict=False))
    return min(ups, downs) == 0


def _judge_harmed(harmed: Callable) -> None:
    """Made-up scores whose answer is known."""
    cases: list[tuple[list[tuple[str, str]], dict[str, float], str, str]] = [
        ([("a", "x"), ("b", "y")], {"a": 0.2, "b": 0.9}, "x", "one page below 0.5, of kind x"),
        (
            [("a", "x"), ("b", "x"), ("c", "x"), ("d", "y")],
            {"a": 0.1, "b": 0.9, "c": 0.8, "d": 0.3},
            "y",
            "one of three x below 0.5, the only y too",
        ),
        (
            [("a", "x"), ("b", "x"), ("c", "y"), ("d", "y")],
            {"a": 0.45, "b": 0.45, "c": 0.01, "d": 0.6},
            "x",
            "both x just below 0.5, one y far below",
        ),
    ]
    for pages, scores, want, shows in cases:
        case = Case((scores.__getitem__, pages), shows)
        got = run(harmed, case, "harmed")
        if got == want:
            continue
        counts = {kind: sum(scores[t] < 0.5 for t, k in pages if k == kind) for kind in ("x", "y")}
        if shows.startswith("one of three") and got == max(counts, key=lambda k: counts[k]):
            raise Mistake("pages are counted, not their share", shows=shows)
        if shows.startswith("both") and got == "y":
            raise Mistake("the mean score is compared", shows=shows, why="Who is dropped counts.")
        raise Mistake("harmed: another kind loses more", shows=shows)


# 02.6 the mix ---------------------------------------------------------------------------------

Mix = dict[str, float]
Losses = dict[str, float]
NAMES = ("code", "maths", "prose")


def planted_runs(seed: int) -> tuple[list[Mix], list[Losses], list[MixLaw]]:
    """Five small runs on mixes of three sources, from three laws that are known."""
    draw = random.Random(seed)
    laws = []
    for own in NAMES:
        weights = [draw.uniform(-0.6, 0.3) for _ in NAMES]
        weights[NAMES.index(own)] = draw.uniform(-5.0, -2.0)
        laws.append(MixLaw(NAMES, draw.uniform(0.5, 0.9), tuple(weights)))
    rows = [(0.6, 0.2, 0.2), (0.2, 0.6, 0.2), (0.2, 0.2, 0.6), (0.5, 0.4, 0.1), (0.1, 0.3, 0.6)]
    mixes = [dict(zip(NAMES, row, strict=True)) for row in rows]
    losses = [
        {own: law.predict(mix) for own, law in zip(NAMES, laws, strict=True)} for mix in mixes
    ]
    return mixes, losses, laws


def _mean_loss(laws: Sequence[MixLaw], mix: Mix) -> float:
    return sum(law.predict(mix) for law in laws) / len(laws)


def check_mix(answer: object) -> None:
    """Judge `best_mix(mixes, losses)`."""
    if not callable(answer):
        raise Mistake("check needs the function", why="Call check('02.6', best_mix).")
    for seed in (5, 6, 7):
        mixes, losses, laws = planted_runs(seed)
        means = [sum(row.values()) / len(row) for row in losses]
        shows = f"five runs with mean losses {[round(loss, 3) for loss in means]}"
        mix = run(answer, Case((mixes, losses), shows), "best_mix")
        _is_a_mix(mix, NAMES, shows)
        if mix in mixes:
            why = "The best of the five runs is not the best of all mixes: predict the others."
            raise Mistake("one of the runs is returned", shows=shows, why=why)
        reached, best = _mean_loss(laws, mix), _mean_loss(laws, best_of_laws(laws))
        if max(mix.values()) > 0.85 and reached > best + 0.02:
            why = "A straight line has its least value in a corner; the law is bent."
            raise Mistake("nearly all goes to one source", shows=shows, why=why)
        if reached >= max(means):
            raise Mistake("the worst mix is found", shows=shows, why="Lower loss is better.")
        if reached > best + 0.02:
            why = f"Yours would give a mean loss of {reached:.3f}."
            raise Mistake("a better mix exists", shows=shows, why=why)


def _is_a_mix(mix: object, names: Sequence[str], shows: str) -> None:
    if not isinstance(mix, Mapping) or set(mix) != set(names):
        raise Mistake("best_mix: a share for each source is needed", shows=shows)
    if abs(sum(mix.values()) - 1) > 1e-6:
        raise Mistake(
            "shares do not sum to 1", shows=shows, why=f"They sum to {sum(mix.values())}."
        )
    if min(mix.values()) < 0.05 - 1e-9:
        raise Mistake("a source gets less than 0.05", shows=shows, why="Keep a little of each.")


# 02.7 a better recipe -------------------------------------------------------------------------


def raw_documents(pages: Sequence[Page]) -> list[Document]:
    """Pages as a crawler would bring them."""
    return [
        Document(page.html, f"raw#{i}", {"url": page.url, "date": page.date})
        for i, page in enumerate(pages)
    ]


def purity_and_yield(texts: Texts, pages: Sequence[Page]) -> tuple[float, float]:
    """Share of the cleaned characters that are good lines, once each; share of good ones kept."""
    good = {
        line: len(line)
        for page in pages
        if page.kind in GOOD and not page.older and page.copy_of is None
        for line in page.lines
    }
    found: set[str] = set()
    total = 0
    for text in texts:
        for line in text.splitlines():
            total += len(line)
            if line in good:
                found.add(line)
    kept = sum(good[line] for line in found)
    return kept / max(1, total), kept / sum(good.values())


def by_our_recipe(documents: Sequence[Document]) -> list[str]:
    """What the course's own recipe makes of them."""
    recipe = web_recipe(word_list={"words": LISTED_WORDS})
    return [document.text for document in clean_by(documents, recipe.steps)]


def check_cleaning(answer: object) -> None:
    """Judge `clean(documents)`: purer than our recipe, with as much text left."""
    if not callable(answer):
        raise Mistake("check needs the function", why="Call check('02.7', clean).")
    pages = make_web(600, seed=31).pages
    documents = raw_documents(pages)
    texts = run(answer, Case((documents,), f"{len(documents)} pages of HTML"), "clean")
    if not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
        raise Mistake("clean: a list of texts is needed")
    if any("<p>" in text or "</div>" in text for text in texts):
        raise Mistake("there is HTML left", why="extract_text takes it away.")
    purity, kept = purity_and_yield(texts, pages)
    ours, ours_kept = purity_and_yield(by_our_recipe(documents), pages)
    told = f"{purity:.1%} of your characters are good, {kept:.1%} of the good ones are there"
    if kept < ours_kept - 0.05:
        raise Mistake("too much good text is lost", why=f"{told}; ours keeps {ours_kept:.1%}.")
    if purity < ours + 0.02:
        raise Mistake("not purer than our recipe", why=f"{told}; ours reaches {ours:.1%}.")
