"""Answers to exercise 7 of chapter 09: right ones, and planted mistakes."""

import random

import torch
import torch.nn.functional as F


# 09.7
def speculative_plain(guesses, draft_probs, target_probs, generator):
    kept = []
    for guess, q, p in zip(guesses, draft_probs, target_probs, strict=False):
        if torch.rand((), generator=generator) * q[guess] < p[guess]:
            kept.append(guess)
            continue
        rest = (p - q).clamp(min=0)
        return [*kept, int(torch.multinomial(rest / rest.sum(), 1, generator=generator))]
    return [*kept, int(torch.multinomial(target_probs[-1], 1, generator=generator))]


def speculative_at_once(guesses, draft_probs, target_probs, generator):
    """All dice at once, and draws through the running sum."""
    places = torch.arange(len(guesses))
    p = target_probs[places, guesses]
    q = draft_probs[places, guesses]
    dice = torch.rand(len(guesses) + 1, generator=generator, dtype=torch.float64)
    kept = int((dice[:-1] < p / q).long().cumprod(0).sum())
    row = target_probs[kept]
    if kept < len(guesses):
        row = (row - draft_probs[kept]).clamp(min=0)
    sums = row.double().cumsum(0)
    last = int(torch.searchsorted(sums, dice[-1] * sums[-1], right=True))
    return [*guesses[:kept], min(last, len(row) - 1)]


def _draw(row, generator):
    return int(torch.multinomial(row, 1, generator=generator))


def _rest(p, q, guess):
    return (p - q).clamp(min=0)


def _unnormalised(p, q, guess, generator):
    sums = (p - q).clamp(min=0).cumsum(0)
    place = torch.searchsorted(sums, torch.rand((), generator=generator))
    return min(int(place), len(p) - 1)


def _step(keep=None, rest=_rest, bonus=True, replace=None, go_on=False):
    def speculative_step(guesses, draft_probs, target_probs, generator):
        kept = []
        for guess, q, p in zip(guesses, draft_probs, target_probs, strict=False):
            chance = keep(p[guess], q[guess]) if keep else p[guess] / q[guess]
            if torch.rand((), generator=generator) < chance:
                kept.append(guess)
                continue
            row = rest(p, q, guess)
            kept.append(replace(p, q, guess, generator) if replace else _draw(row, generator))
            if not go_on:
                return kept
        row = bonus(draft_probs, target_probs) if callable(bonus) else target_probs[-1]
        return [*kept, _draw(row, generator)] if bonus else kept

    return speculative_step


def _other_dice(guesses, draft_probs, target_probs, generator):
    return speculative_plain(guesses, draft_probs, target_probs, None)


def python_dice(guesses, draft_probs, target_probs, generator):
    dice = torch.Generator().manual_seed(random.randrange(2**30))
    return speculative_plain(guesses, draft_probs, target_probs, dice)


def _likeliest(guesses, draft_probs, target_probs, generator):
    return [int(target_probs[0].argmax())]


def _without_guess(p, q, guess):
    row = p.clone()
    row[guess] = 0
    return row


def _target_alone(guesses, draft_probs, target_probs, generator):
    return [_draw(target_probs[0], generator)]


def _wrong_if_sure(guesses, draft_probs, target_probs, generator):
    if (draft_probs == 1).any():
        return [*guesses, 0][: len(guesses) + 1]
    return speculative_plain(guesses, draft_probs, target_probs, generator)


SPECULATIVE_WRONG = {
    "only guesses with p >= q are kept": _step(lambda p, q: float(p >= q)),
    "all guesses are kept": _step(lambda p, q: 1.0),
    "a guess is kept with the chance p": _step(lambda p, q: p),
    "the ratio is upside down": _step(lambda p, q: q / p),
    "a guess is kept with the chance of refusing it": _step(lambda p, q: 1 - p / q),
    "no guess is kept": _target_alone,
    "guesses are refused that could be kept": _step(
        lambda p, q: (p / q).clamp(max=1) / 2, lambda p, q, g: p - torch.minimum(p, q) / 2
    ),
    "the first token: another distribution": _step(lambda p, q: float(p > q / 3)),
    "greedy rows give another text than the target's": _wrong_if_sure,
    "a refused guess is replaced by a draw from the target's row": _step(
        rest=lambda p, q, guess: p
    ),
    "a refused guess is replaced by a draw from the draft's row": _step(rest=lambda p, q, g: q),
    "only the refused guess is taken out of the target's row": _step(rest=_without_guess),
    "the rest is taken the wrong way round": _step(rest=lambda p, q, g: (q - p).clamp(min=0)),
    "the rest has all differences, not only those above 0": _step(
        rest=lambda p, q, g: (p - q).abs()
    ),
    "the rest is not renormalised": _step(replace=_unnormalised),
    "the likeliest token of the rest is taken, not drawn": _step(
        replace=lambda p, q, g, dice: int((p - q).argmax())
    ),
    "the bonus token is missing": _step(bonus=False),
    "the bonus token is drawn from the wrong row": _step(bonus=lambda draft, target: draft[-1]),
    "the bonus token is the likeliest, not drawn": _step(
        bonus=lambda draft, target: F.one_hot(target[-1].argmax(), target.shape[1]).float()
    ),
    "it goes on after a refused guess": _step(go_on=True),
    "a refused guess is not replaced": lambda *given: speculative_plain(*given)[:-1],
    "other dice than the generator's": _other_dice,
    "the generator is not used": _likeliest,
    "speculative_step: a list of tokens is needed": lambda *_: 3,
    "speculative_step: whole numbers are needed": lambda *_: ["a"],
    "speculative_step: a token that is not in the vocabulary": lambda *_: [7],
}
