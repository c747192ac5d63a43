"""Answers to the exercises of chapter 02: right ones in different ways, and mistakes."""

import math
import zlib
from collections import Counter

import numpy as np

from llama3lib.data import run
from llama3lib.data.extract import extract_text
from llama3lib.data.mixture import best_mix, fit_mix_law
from llama3lib.data.quality import train_classifier
from llama3lib.data.recipe import web_recipe
from llama3lib.worlds.miniweb import make_web
from llama3lib.worlds.miniweb.prose import LISTED_WORDS
from llama3lib.worlds.miniweb.web import GOOD

P = 2**61 - 1


# 02.3
def lines_counter(documents, most=6):
    counts = Counter(x for d in documents for x in d)
    return [[x for x in d if counts[x] <= most] for d in documents]


def lines_dict(documents, most=6):
    seen = {}
    for document in documents:
        for line in document:
            seen[line] = seen.get(line, 0) + 1
    return [list(filter(lambda line: seen[line] <= most, document)) for document in documents]


def lines_one_copy(documents, most):
    counts, seen, out = Counter(x for d in documents for x in d), set(), []
    for document in documents:
        kept = []
        for line in document:
            if counts[line] <= most or line not in seen:
                kept.append(line)
            seen.add(line)
        out.append(kept)
    return out


LINES_WRONG = {
    "lines at the limit are removed too": lambda d, most: lines_counter(d, most - 1),
    "documents are counted, not lines": lambda d, most: [
        [x for x in one if sum(x in other for other in d) <= most] for one in d
    ],
    "one copy stays": lines_one_copy,
}


# 02.1
def signature_min(shingles, factors, offsets):
    return [min((a * x + b) % P for x in shingles) for a, b in zip(factors, offsets, strict=True)]


def signature_loop(shingles, factors, offsets):
    best = [P] * len(factors)
    for x in shingles:
        for place, (a, b) in enumerate(zip(factors, offsets, strict=True)):
            best[place] = min(best[place], (a * x + b) % P)
    return best


def estimate_sum(one, other):
    return sum(a == b for a, b in zip(one, other, strict=True)) / len(one)


def estimate_numpy(one, other):
    return float(np.mean(np.array(one, dtype=object) == np.array(other, dtype=object)))


MINHASH_WRONG = {
    "the remainder is missing": {
        "signature": lambda s, f, o: [
            int(min(a * x + b for x in s)) for a, b in zip(f, o, strict=True)
        ]
    },
    "signatures are compared as sets": {
        "estimate": lambda s, t: len(set(s).intersection(t)) / len({*s, *t})
    },
    "equal places are counted, not their share": {
        "estimate": lambda s, t: sum(np.equal(np.array(s, object), np.array(t, object)))
    },
}


# 02.2
def choose_down(similarity, recall, numbers):
    for rows in range(numbers, 0, -1):
        if 1 - (1 - similarity**rows) ** (numbers // rows) >= recall:
            return numbers // rows, rows
    return None


def choose_logs(similarity, recall, numbers):
    good = [
        rows
        for rows in range(1, numbers + 1)
        if similarity**rows >= 1 or (numbers // rows) * math.log1p(-(similarity**rows))
        <= math.log1p(-recall)
    ]  # fmt: skip
    return numbers // max(good), max(good)


CHOOSE_WRONG = {
    "bands and rows are swapped": lambda s, r, n: choose_down(s, r, n)[::-1],
    "the fewest rows are taken": lambda s, r, n: (n, 1),
    "a single band is looked at": lambda s, r, n: next(
        ((n // rows, rows) for rows in range(n, 0, -1) if s**rows >= r), (0, 0)
    ),
}


# 02.5
def merges_index(words, count):
    pieces, counts, where, learned = {w: list(w) for w in words}, Counter(), {}, []

    def add(word, sign):
        for pair in zip(pieces[word], pieces[word][1:], strict=False):
            counts[pair] += sign * words[word]
            where.setdefault(pair, set()).add(word)

    for word in words:
        add(word, 1)
    while len(learned) < count:
        best = min(counts, key=lambda p: (-counts[p], p), default=None)
        if best is None or counts[best] <= 0:
            break
        learned.append(best)
        for word in where.pop(best):
            add(word, -1)
            pieces[word] = _join(pieces[word], best)
            add(word, 1)
        for pair in [p for p, n in counts.items() if n <= 0]:
            del counts[pair]
    return learned


def merges_recount_changed(words, count):
    """Keeps each word's own pair counts, and looks only into words that hold the pair."""
    pieces = {w: tuple(w) for w in words}
    own = {w: Counter(zip(w, w[1:], strict=False)) for w in words}
    total = Counter()
    for word, pairs in own.items():
        for pair, n in pairs.items():
            total[pair] += n * words[word]
    learned = []
    for _ in range(count):
        total = +total
        if not total:
            break
        most = max(total.values())
        best = min(pair for pair, n in total.items() if n == most)
        learned.append(best)
        for word in [w for w, pairs in own.items() if best in pairs]:
            for pair, n in own[word].items():
                total[pair] -= n * words[word]
            pieces[word] = tuple(_join(pieces[word], best))
            own[word] = Counter(zip(pieces[word], pieces[word][1:], strict=False))
            for pair, n in own[word].items():
                total[pair] += n * words[word]
    return learned


def _join(parts, pair):
    out, place = [], 0
    while place < len(parts):
        hit = tuple(parts[place : place + 2]) == pair
        out.append("".join(parts[place : place + 2]) if hit else parts[place])
        place += 1 + hit
    return out


def merges_slow(words, count, best_of=lambda counts: min(counts, key=lambda p: (-counts[p], p))):
    pieces, learned = {w: list(w) for w in words}, []
    for _ in range(count):
        counts = Counter()
        for word, parts in pieces.items():
            for pair in zip(parts, parts[1:], strict=False):
                counts[pair] += words[word]
        if not counts:
            break
        learned.append(best_of(counts))
        pieces = {word: _join(parts, learned[-1]) for word, parts in pieces.items()}
    return learned


MERGES_WRONG = {
    "words are counted once, however often they come": lambda w, n: merges_index(
        dict.fromkeys(w, 1), n
    ),
    "ties go to the largest pair": lambda w, n: merges_slow(
        w, n, lambda counts: max(counts, key=lambda p: (counts[p], p))
    ),
    "it is right, but slow": merges_slow,
    "learn_merges: the values differ": lambda w, n: merges_index(w, min(n, 299)),
}


# 02.4
def train_library(texts, labels):
    model = train_classifier(texts, labels)
    return lambda text: model.score([text])[0]


def _grams(text):
    words = text.lower().split()[:300]
    grams = words + [" ".join(pair) for pair in zip(words, words[1:], strict=False)]
    return [zlib.crc32(gram.encode()) % 65536 for gram in grams]


def train_log_odds(texts, labels):
    counts = {"good": Counter(), "bad": Counter()}
    for text, label in zip(texts, labels, strict=True):
        counts[label].update(set(_grams(text)))
    n = Counter(labels)

    def score(text):
        grams = _grams(text) or [0]
        odds = [
            math.log((counts["good"][g] + 1) / (n["good"] + 2))
            - math.log((counts["bad"][g] + 1) / (n["bad"] + 2))
            for g in grams
        ]
        return 1 / (1 + math.exp(-max(-30, min(30, sum(odds) / len(odds) * 8))))

    return score


def harmed_share(score, pages):
    dropped = {}
    for text, kind in pages:
        dropped.setdefault(kind, []).append(score(text) < 0.5)
    return max(dropped, key=lambda kind: sum(dropped[kind]) / len(dropped[kind]))


def harmed_counter(score, pages):
    there = Counter(kind for _, kind in pages)
    lost = Counter(kind for text, kind in pages if score(text) < 0.5)
    return sorted(there, key=lambda kind: lost[kind] / there[kind])[-1]


def _mean_lowest(score, pages):
    values = {}
    for text, kind in pages:
        values.setdefault(kind, []).append(score(text))
    return min(values, key=lambda kind: sum(values[kind]) / len(values[kind]))


def _scores(function):
    return {"train": lambda texts, labels: function}


QUALITY_WRONG = {
    "every text gets the same score": _scores(lambda text: 0.5),
    "good and bad are swapped": {
        "train": lambda texts, labels: train_log_odds(
            texts, ["bad" if label == "good" else "good" for label in labels]
        )
    },
    "only the length is looked at": _scores(lambda text: min(1, len(text) / 1e5)),
    "a score is not from 0 to 1": _scores(lambda text: 7.0),
    "it does not tell good from bad well enough": _scores(
        lambda text: zlib.crc32(text.encode()) / 2**32
    ),
    "train: a function is needed": _scores(0.5),
    "harmed: another kind loses more": {"harmed": lambda score, pages: pages[-1][1]},
    "pages are counted, not their share": {
        "harmed": lambda score, pages: Counter(
            kind for text, kind in pages if score(text) < 0.5
        ).most_common(1)[0][0]
    },
    "the mean score is compared": {"harmed": _mean_lowest},
}


# 02.6
def mix_library(mixes, losses):
    return best_mix([fit_mix_law(mixes, [row[n] for row in losses]) for n in losses[0]])


def mix_by_hand(mixes, losses):
    names = sorted(mixes[0])
    shares = np.array([[m[n] for n in names] for m in mixes])
    grid = np.array([(a, b, 40 - a - b) for a in range(2, 37) for b in range(2, 39 - a)]) / 40
    total = np.zeros(len(grid))
    for held_out in losses[0]:
        seen, best = np.array([row[held_out] for row in losses]), None
        for part in np.linspace(0, 0.98, 99):
            floor = part * seen.min()
            weights, *_ = np.linalg.lstsq(shares, np.log(seen - floor), rcond=None)
            error = ((floor + np.exp(shares @ weights) - seen) ** 2).sum()
            if best is None or error < best[0]:
                best = (error, floor, weights)
        total += best[1] + np.exp(grid @ best[2])
    return dict(zip(names, map(float, grid[total.argmin()]), strict=True))


def _best_run(mixes, losses):
    return min(zip(mixes, losses, strict=True), key=lambda pair: sum(pair[1].values()))[0]


def _corner(mixes, losses):
    means = [sum(row.values()) for row in losses]
    names = sorted(mixes[0])
    slopes, *_ = np.linalg.lstsq(
        np.array([[m[n] for n in names] for m in mixes]), means, rcond=None
    )
    mix = dict.fromkeys(names, 0.05)
    mix[names[int(np.argmin(slopes))]] = 0.9
    return mix


def _worst(mixes, losses):
    """The run with the highest loss, and more of what it has most of."""
    mix, _ = max(zip(mixes, losses, strict=True), key=lambda pair: sum(pair[1].values()))
    most = max(mix, key=mix.get)
    return {name: 0.8 if name == most else 0.1 for name in mix}


MIX_WRONG = {
    "one of the runs is returned": _best_run,
    "shares do not sum to 1": lambda m, loss: dict.fromkeys(m[0], 0.5),
    "a source gets less than 0.05": lambda m, loss: dict(
        zip(sorted(m[0]), (0, 0.5, 0.5), strict=True)
    ),
    "nearly all goes to one source": _corner,
    "the worst mix is found": _worst,
    "a better mix exists": lambda m, loss: {"code": 0.5, "maths": 0.3, "prose": 0.2},
    "best_mix: a share for each source is needed": lambda m, loss: [0.3, 0.3, 0.4],
}


# 02.7
def clean_judged(documents):
    pages = [p for p in make_web(800, seed=99).pages if p.kind not in ("foreign", "empty")]
    score = train_library(
        [p.text for p in pages], ["good" if p.kind in GOOD else "bad" for p in pages]
    )
    kept = run(documents, web_recipe(word_list={"words": LISTED_WORDS}).steps)
    return [d.text for d in kept if d.metadata["language"] != "en" or score(d.text) > 0.3]


def clean_by_pairs(documents):
    """Text whose word pairs no other page has is in no order."""
    kept = list(run(documents, web_recipe(word_list={"words": LISTED_WORDS}).steps))
    pairs = [set(zip(d.text.split(), d.text.split()[1:], strict=False)) for d in kept]
    seen = Counter(pair for found in pairs for pair in found)
    return [
        document.text
        for document, found in zip(kept, pairs, strict=True)
        if document.metadata["language"] != "en"
        or sum(seen[pair] > 3 for pair in found) > 0.25 * len(found)
    ]


CLEAN_WRONG = {
    "there is HTML left": lambda documents: [d.text for d in documents],
    "too much good text is lost": lambda documents: clean_by_pairs(documents)[:20],
    "not purer than our recipe": lambda documents: [extract_text(d.text) for d in documents],
    "clean: a list of texts is needed": lambda documents: documents,
}

RIGHT = {
    "02.3": [lines_counter, lines_dict],
    "02.1": [
        {"signature": signature_min, "estimate": estimate_sum},
        {"signature": signature_loop, "estimate": estimate_numpy},
    ],
    "02.2": [choose_down, choose_logs],
    "02.5": [merges_index, merges_recount_changed],
    "02.4": [
        {"train": train_log_odds, "harmed": harmed_share},
        {"train": train_library, "harmed": harmed_counter},
    ],
    "02.6": [mix_library, mix_by_hand],
    "02.7": [clean_judged, clean_by_pairs],
}
WRONG = {
    "02.3": LINES_WRONG,
    "02.1": MINHASH_WRONG,
    "02.2": CHOOSE_WRONG,
    "02.5": MERGES_WRONG,
    "02.4": QUALITY_WRONG,
    "02.6": MIX_WRONG,
    "02.7": CLEAN_WRONG,
}

SLOW = {"02.7"}
