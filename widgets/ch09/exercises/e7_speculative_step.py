"""Exercise 09.7: speculative decoding that is distributed as the target alone.

Two random models of few tokens write many short texts, the draft guessing for the target. Three
things are tested: the law of the first tokens against that of the target alone, the number of
guesses that are kept, and that all randomness comes from the generator. If a test fails, the exact
laws of known mistakes are compared with what was seen.
"""

from bisect import bisect
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import accumulate, product

import torch
from torch import Tensor

from widgets.ch09.exercises.laws import DRAWS, Row, Seen, World, expected, p_value, trouble
from widgets.core.exercise import Exercise
from widgets.core.forms import single
from widgets.core.judge import Case, Known, Mistake, run

E = Exercise(
    "09.7",
    "speculative_step",
    hints=(
        "A token may come out in two ways: guessed and kept, or drawn after a guess was refused. "
        "Together they must make p. How much can the first way bring at most?",
        "Go through the guesses with p and q, the two chances of the guess. Kept with chance p / q "
        "(or 1), it brings min(p, q) for each token. What is missing to p is max(p - q, 0): draw "
        "from that when a guess is refused, and stop there. If none is refused, one token more "
        "comes from the target's last row.",
        "For each guess: if torch.rand((), generator=generator) * q[guess] < p[guess], keep it and "
        "go on. Else rest = (p - q).clamp(min=0), and torch.multinomial(rest / rest.sum(), 1, "
        "generator=generator) ends the step. After the loop the same with target_probs[-1].",
    ),
)
_EXPLAINS = 1e-4
"""A mistake is named if what was seen has a chance above this under its law."""
WORLDS = (World.of(2, 1, 1), World.of(3, 2, 2), World.of(4, 2, 3))

# A step and its parts: when a guess is kept, what replaces one that is not, what follows if all are


def _over(row: Row) -> Row:
    """Divided by the sum; a row of zeros stays."""
    total = sum(row)
    return [value / total for value in row] if total > 0 else row


def _rest(p: Row, q: Row, guess: int) -> Row:
    return _over([max(a - b, 0.0) for a, b in zip(p, q, strict=True)])


def _missing_to(place: int) -> Callable[[Row, Row, int], Row]:
    """The rest not renormalised; what is missing to 1 falls on one place."""

    def rest(p: Row, q: Row, guess: int) -> Row:
        row = [max(a - b, 0.0) for a, b in zip(p, q, strict=True)]
        row[place] += 1 - sum(row)
        return row

    return rest


def _likeliest(row: Row) -> Row:
    best = row.index(max(row))
    return [float(i == best) for i in range(len(row))]


def _keep(p: float, q: float) -> float:
    return min(1.0, p / q)


def _bonus(draft: list[Row], target: list[Row]) -> Row:
    return target[-1]


_RIGHT = {"keep": _keep, "rest": _rest, "bonus": _bonus}


def _draw(row: Row, generator: torch.Generator) -> int:
    place = bisect(list(accumulate(row)), float(torch.rand((), generator=generator)) * sum(row))
    return min(place, len(row) - 1)


@E.reference
def speculative_step(
    guesses: list[int],
    draft_probs: Tensor,
    target_probs: Tensor,
    generator: torch.Generator,
    *,
    keep: Callable[[float, float], float] = _keep,
    rest: Callable[[Row, Row, int], Row] = _rest,
    bonus: Callable[[list[Row], list[Row]], Row | None] = _bonus,
) -> list[int]:
    """The kept guesses and one token more."""
    draft, target = draft_probs.tolist(), target_probs.tolist()
    for place, (guess, q, p) in enumerate(zip(guesses, draft, target, strict=False)):
        if float(torch.rand((), generator=generator)) >= keep(p[guess], q[guess]):
            return [*guesses[:place], _draw(rest(p, q, guess), generator)]
    row = bonus(draft, target)
    return guesses if row is None else [*guesses, _draw(row, generator)]


E.mistake("all guesses are kept", keep=lambda p, q: 1.0).why(
    "Then the draft writes, not the target."
)
E.mistake("only guesses with p >= q are kept", keep=lambda p, q: float(p >= q)).why(
    "A guess with p < q is refused always, and comes out too rarely. Keep it sometimes: with "
    "which chance?"
)
E.mistake("no guess is kept", keep=lambda p, q: 0.0).why(
    "The distribution may be right, but nothing is saved."
)
E.mistake("a guess is kept with the chance p", keep=lambda p, q: p).why(
    "It was not drawn from all tokens alike, but with chance q. That has to be made up for."
)
E.mistake("the ratio is upside down", keep=lambda p, q: min(1.0, q / p) if p > 0 else 1.0).why(
    "A guess that the target likes more than the draft does is always welcome."
)
E.mistake(
    "a guess is kept with the chance of refusing it", keep=lambda p, q: 1 - min(1.0, p / q)
).why("Which way round is the comparison?")
E.mistake(
    "a refused guess is replaced by a draw from the target's row", rest=lambda p, q, guess: p
).why("The kept guesses have brought a part of that row already. What is left of it?")
E.mistake(
    "a refused guess is replaced by a draw from the draft's row", rest=lambda p, q, guess: q
).why("The draft has had its guess.")
E.mistake(
    "only the refused guess is taken out of the target's row",
    rest=lambda p, q, guess: _over([0.0 if i == guess else a for i, a in enumerate(p)]),
).why("The other tokens have been guessed at other times, too. What has p more than q?")
E.mistake("the rest is taken the wrong way round", rest=lambda p, q, guess: _rest(q, p, guess)).why(
    "What has the target more than the draft?"
)
E.mistake(
    "the rest has all differences, not only those above 0",
    rest=lambda p, q, guess: _over([abs(a - b) for a, b in zip(p, q, strict=True)]),
).why("Where the draft has more than the target, nothing is left over.")
E.mistake("the rest is not renormalised", rest=_missing_to(-1)).why(
    "Its sum is less than 1, and what is missing falls on one token."
)
E.mistake("the rest is not renormalised", rest=_missing_to(0)).why(
    "Its sum is less than 1, and what is missing falls on one token."
)
E.mistake(
    "the likeliest token of the rest is taken, not drawn",
    rest=lambda p, q, guess: _likeliest(_rest(p, q, guess)),
).why("Each token of the rest must come, as often as its share.")
E.mistake("the bonus token is missing", bonus=lambda draft, target: None).why(
    "When all guesses are kept, the target has one row more. It was computed anyway."
)
E.mistake(
    "the bonus token is drawn from the wrong row", bonus=lambda draft, target: target[-2]
).why("The last row of target_probs follows the last guess.")
E.mistake("the bonus token is drawn from the wrong row", bonus=lambda draft, target: draft[-1]).why(
    "The draft has no row for it: the target does."
)
E.mistake(
    "the bonus token is the likeliest, not drawn",
    bonus=lambda draft, target: _likeliest(target[-1]),
).why("It is a token of the target like any other.")

# What is tested ---------------------------------------------------------------------------------


@E.rule
def _writes_as_the_target(answer: Callable) -> None:
    _check_dice(answer)
    seen = [_watch(answer, world) for world in WORLDS]
    right = tuple(_RIGHT.values())
    found = next(filter(None, (trouble(one, right) for one in seen)), None) or _sure(answer)
    if found:
        known = _known(seen)
        raise Mistake(known.name, shows=found.shows, why=known.why) if known else found


def _step(
    answer: Callable,
    guesses: Sequence[int],
    draft: Tensor,
    target: Tensor,
    dice: torch.Generator,
    shows: str,
) -> tuple[int, ...]:
    """One call; its result as whole numbers. Raises Mistake for another form."""
    given = list(guesses), draft.clone(), target.clone(), dice
    found = run(lambda: answer(*given), Case((), shows), E.what)
    shows = f"guesses={list(guesses)}; {shows}"
    if isinstance(found, Tensor) and found.dim() == 1:
        found = found.tolist()
    if not isinstance(found, list | tuple):
        why = f"{type(found).__name__} came."
        raise Mistake(f"{E.what}: a list of tokens is needed", shows=shows, why=why)
    tokens = [single(token) for token in found]
    if not all(type(token) is int for token in tokens):
        why = f"{found!r:.60} came."
        raise Mistake(f"{E.what}: whole numbers are needed", shows=shows, why=why)
    if not all(0 <= t < draft.shape[1] for t in tokens):
        why = f"{tokens} came."
        raise Mistake(f"{E.what}: a token that is not in the vocabulary", shows=shows, why=why)
    if not tokens:
        why = "A refused guess is replaced, so that each step brings one token at least."
        raise Mistake("a refused guess is not replaced", shows=shows, why=why)
    if len(tokens) > len(guesses) + 1 or tokens[:-1] != list(guesses)[: len(tokens) - 1]:
        why = (
            f"{tokens} came. All but the last token must be the first guesses, as they are: rows "
            "after a refused guess belong to a text that is not there."
        )
        raise Mistake("it goes on after a refused guess", shows=shows, why=why)
    return tuple(tokens)


def _check_dice(answer: Callable) -> None:
    """Equal generators give equal results, the generator moves, and the global dice do not."""
    world, moved = WORLDS[0], False
    for seed in range(20):
        guesses, results = [seed % 2], set()
        rows = world.rows(world.draft, guesses)[:1], world.rows(world.target, guesses)
        for _ in range(3):
            dice, before = torch.Generator().manual_seed(seed), torch.get_rng_state()
            start = dice.get_state()
            results.add(_step(answer, guesses, *rows, dice, world.shows))
            moved = moved or not torch.equal(dice.get_state(), start)
            if not torch.equal(before, torch.get_rng_state()):
                why = "Hand `generator=generator` to each function that draws."
                raise Mistake("other dice than the generator's", shows=world.shows, why=why)
        if len(results) > 1:
            why = "The same inputs and a generator of the same seed gave different results."
            raise Mistake("other dice than the generator's", shows=world.shows, why=why)
    if not moved:
        why = (
            "It is in the same state after each call as before. Whether a guess is kept is drawn, "
            "and so is the token after it."
        )
        raise Mistake("the generator is not used", shows=world.shows, why=why)


def _watch(answer: Callable, world: World) -> Seen:
    """Let the draft guess and the learner's function judge, many times."""
    texts = list(world.texts(world.num_guesses))
    chances = torch.tensor([world.chance(world.draft, text) for text in texts])
    dice = torch.Generator().manual_seed(100 + world.size)
    drawn = torch.multinomial(chances, DRAWS, replacement=True, generator=dice).tolist()
    rows = [(world.rows(world.draft, t)[:-1], world.rows(world.target, t)) for t in texts]
    counts, shows = Counter(), world.shows
    for number in drawn:
        result = _step(answer, texts[number], *rows[number], dice, shows)
        counts[texts[number], result] += 1
    return Seen(world, counts)


def _sure(answer: Callable) -> Mistake | None:
    """Rows of zeros and a one leave nothing to chance; nor do equal models."""
    eye, dice = torch.eye(3), torch.Generator().manual_seed(4)
    for guesses, written in (([0], [1, 2]), ([1, 2], [1, 2, 0]), ([1, 2], [1, 0, 0])):
        same = next((i for i, g in enumerate(guesses) if g != written[i]), len(guesses))
        shows = f"greedy: guesses={guesses}, likeliest of each target row {written}"
        found = _step(answer, guesses, eye[guesses], eye[written], dice, shows)
        if found != tuple(written[: same + 1]):
            why = f"{list(found)} came. Rows of zeros and a one leave nothing to chance."
            name = "greedy rows give another text than the target's"
            return Mistake(name, shows=shows, why=why)
    return None


def _known(seen: Sequence[Seen]) -> Known | None:
    """The mistake that explains all worlds with the fewest changes to a right step."""
    ways = [
        [(right, None), *((m.function.keywords[knob], m) for m in E.mistakes if _turns(m, knob))]
        for knob, right in _RIGHT.items()
    ]
    for chosen in sorted(product(*ways), key=lambda chosen: sum(m is not None for _, m in chosen)):
        functions = tuple(function for function, _ in chosen)
        if all(p_value(s.counts, expected(s.world, functions)) > _EXPLAINS for s in seen):
            return next((mistake for _, mistake in chosen if mistake), None)
    return None


def _turns(mistake: Known, knob: str) -> bool:
    return knob in mistake.function.keywords
