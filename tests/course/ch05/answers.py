"""Answers to the exercises of chapter 05: right ones in different ways, and mistakes."""

import math
from dataclasses import replace

import torch
import torch.nn.functional as F

from llama3lib.model import ModelArgs
from llama3lib.model.flops import flops_per_token
from llama3lib.train import (
    OptimizerConfig,
    Phase,
    SourceConfig,
    TrainConfig,
    lr_at,
    next_token_loss,
)


# 05.1
def rate_library(step, peak, warmup, total, minimum):
    return lr_at(step, peak, warmup, total, minimum)


def rate_wave(step, peak, warmup, total, minimum):
    """The same wave written as a mean of both ends, and with torch for the cosine."""
    if step <= warmup and warmup:
        return peak * step / warmup
    angle = torch.tensor(math.pi * (min(step, total) - warmup) / (total - warmup))
    return (peak + minimum) / 2 + (peak - minimum) / 2 * torch.cos(angle)


RATE_WRONG = {
    "the minimum is added on top of the peak": lambda s, p, w, t, m: (
        p * s / w if s < w else m + p * (1 + math.cos(math.pi * min(1, (s - w) / (t - w)))) / 2
    ),
    "the warm-up begins at the peak": lambda s, p, w, t, m: (
        p if s < w else rate_library(s, p, w, t, m)
    ),
    "a straight line, not a cosine": lambda s, p, w, t, m: (
        p * s / w if s < w else p + (m - p) * (min(s, t) - w) / (t - w)
    ),
    "rate: a number is needed": lambda *_: "8e-5",
}


# 05.2
SUMS = {"steps": 63, "share of warm-up": 0.007875, "annealing steps": 2.5}
SUMS_DIVIDED = {
    "steps": 252e6 / 4e6,
    "share of warm-up": 252e6 / 4e6 / 8000,
    "annealing steps": 40e6 / 16e6,
}
SUMS_WRONG = {
    "steps: binary millions": SUMS | {"steps": 60},
    "steps: the batch of a later phase": SUMS | {"steps": 31.5},
    "steps: billions, not millions": SUMS | {"steps": 63_000},
    "steps: sequences, not tokens": SUMS | {"steps": 63 / 4096},
    "share of warm-up: binary millions": SUMS | {"share of warm-up": 252e6 / 2**22 / 8000},
    "share of warm-up: a share of the whole run": SUMS | {"share of warm-up": 63 / 1_200_000},
    "share of warm-up: percent, not a share": SUMS | {"share of warm-up": 0.79},
    "share of warm-up: the fraction is upside down": SUMS | {"share of warm-up": 127},
    "share of warm-up: rounded": SUMS | {"share of warm-up": 0.008},
    "annealing steps: rounded": SUMS | {"annealing steps": 3},
    "annealing steps: binary millions": SUMS | {"annealing steps": 40e6 / 2**24},
    "annealing steps: the batch of an earlier phase": SUMS | {"annealing steps": 10},
    "annealing steps: billions, not millions": SUMS | {"annealing steps": 2500},
    "annealing steps: the fraction is upside down": SUMS | {"annealing steps": 0.4},
    "annealing steps: another number": SUMS | {"annealing steps": 7},
    "'annealing steps' has no number yet": SUMS | {"annealing steps": None},
    "'steps' is no number": SUMS | {"steps": "63"},
    "'tokens' is not one of the keys": {"tokens": 1},
}


# 05.3
def losses_library(logits_parts, targets_parts):
    valid = sum((targets != -100).sum() for targets in targets_parts)
    pairs = zip(logits_parts, targets_parts, strict=True)
    return [next_token_loss(logits, targets, valid) for logits, targets in pairs]


def losses_by_hand(logits_parts, targets_parts):
    valid, found = 0, []
    for targets in targets_parts:
        valid += int((targets != -100).sum())
    for logits, targets in zip(logits_parts, targets_parts, strict=True):
        asked = targets != -100
        log_p = logits.log_softmax(-1)[asked]
        found.append(-log_p[torch.arange(len(log_p)), targets[asked]].sum() / valid)
    return tuple(found)


def _part_sums(logits_parts, targets_parts):
    return [
        F.cross_entropy(x.flatten(0, 1), y.flatten(), reduction="sum")
        for x, y in zip(logits_parts, targets_parts, strict=True)
    ]


LOSSES_WRONG = {
    "a mean of means": lambda x, y: [
        F.cross_entropy(a.flatten(0, 1), b.flatten()) / len(x) for a, b in zip(x, y, strict=True)
    ],
    "divided by the count of the first part": lambda x, y: [
        s / (y[0] != -100).sum() for s in _part_sums(x, y)
    ],
    "ignored targets are scored": lambda x, y: losses_library(x, [t.clamp(min=0) for t in y]),
    "the losses have no gradient": lambda x, y: [loss.item() for loss in losses_library(x, y)],
    "the gradient differs from the whole batch's": lambda x, y: [
        loss.detach() if place else loss for place, loss in enumerate(losses_library(x, y))
    ],
    "one loss for the whole batch": lambda x, y: sum(losses_library(x, y)),
}


# 05.4
BUGS = {
    "A": "gradients never cleared",
    "B": "the same batch again and again",
    "C": "the future is visible",
    "D": "the rate reaches 0 half-way",
    "E": "labels not shifted",
    "F": "no warm-up and too high a rate",
}
BUGS_WRONG = {
    "curve B is not 'the future is visible'": BUGS | {"B": "the future is visible"},
    "curve C is not 'labels not shifted'": BUGS | {"C": "labels not shifted"},
    "curve F is not 'the rate reaches 0 half-way'": BUGS | {"F": "the rate reaches 0 half-way"},
    "A: 'a bad seed' is not one of the bugs": BUGS | {"A": "a bad seed"},
    "'G' is not one of the keys": BUGS | {"G": "labels not shifted"},
    "D, E: no bug named yet": BUGS | {"D": None, "E": None},
}


# 05.5
def _plan(stages, short_share=0.3, theta=500_000.0):
    return {"stages": stages, "short_share": short_share, "theta": theta}


STAGES_THREE = _plan([(128, 60), (256, 60), (512, 120)])
STAGES_TWO = _plan(((256, 80), (512, 160)), theta=None)
STAGES_WRONG = {
    "over the budget": _plan([(128, 100), (256, 100), (512, 100)]),
    "the lengths do not rise": _plan([(256, 10), (128, 10)]),
    "a straight jump": _plan([(512, 240)]),
    "longer than needed": _plan([(256, 10), (1024, 10)]),
    "short_share is not from 0 to 1": _plan([(128, 10)], short_share=30),
    "theta is no base": _plan([(128, 10)], theta=-1),
    "lengths and steps are whole numbers above 0": _plan([(128, 10.5)]),
    "stages is no list of pairs (length, steps)": _plan([128, 256, 512]),
    "'short_share' has no value yet": _plan([(128, 10)], short_share=None),
    "short strings are forgotten": _plan([(128, 60), (256, 60), (512, 120)], 0.0, None),
    "the stages have too few steps": _plan([(128, 20), (256, 20), (512, 20)]),
    "the last stage is not long enough": _plan([(128, 20)]),
}


# 05.6
def rank_sorted(names, anneal):
    return sorted(names, key=lambda name: anneal({"default": 0.7, name: 0.3})["target"])


def rank_against_none(names, anneal):
    """How much each set gains over an annealing on the default data alone, twice as careful."""
    base, gains = anneal({"default": 1.0})["target"], {}
    for name in names:
        found = [anneal({"default": 1 - share, name: share})["target"] for share in (0.2, 0.3)]
        gains[name] = base - sum(found) / 2
    return tuple(sorted(names, key=gains.get, reverse=True))


def _too_often(names, anneal):
    for turn in range(13):
        anneal({"default": 1.0 - turn % 2 / 10, names[0]: turn % 2 / 10})
    return rank_sorted(names, anneal)


def _second_first(names, anneal):
    first, second, *rest = rank_sorted(names, anneal)
    return [second, first, *rest]


RANK_WRONG = {
    "the order is reversed": lambda names, anneal: rank_sorted(names, anneal)[::-1],
    "rank: another order": _second_first,
    "ranked by the default loss": lambda names, anneal: sorted(
        names, key=lambda name: anneal({"default": 0.7, name: 0.3})["default"]
    ),
    "the default data are missing in the mix": lambda names, anneal: sorted(
        names, key=lambda name: anneal({name: 1.0})["target"]
    ),
    "nothing was annealed": lambda names, anneal: sorted(names),
    "more than 12 annealings": _too_often,
    "the shares of a mix do not sum to 1": lambda names, anneal: anneal({names[0]: 0.3}),
    "anneal takes a dict of shares": lambda names, anneal: anneal(names[0]),
    "'maths' is no data set": lambda names, anneal: anneal({"default": 0.7, "maths": 0.3}),
    "rank: each name once is needed": lambda names, anneal: rank_sorted(names, anneal)[:1],
}


# 05.7
def _recipe(budget, dim, heads, ffn, batch, peak, layers=2, anneal=0.0, **changes):
    args = ModelArgs(
        dim=dim,
        n_layers=layers,
        n_heads=heads,
        n_kv_heads=heads,
        ffn_dim=ffn,
        vocab_size=changes.pop("vocabulary", 256),
        max_seq_len=128,
    )
    steps = int(budget / (flops_per_token(args, 128).training * batch * 128))
    shape = {"batch_size": batch, "length": 128}
    phases = [Phase(name="all", steps=steps, **shape)]
    if anneal:
        last = int(anneal * steps)
        phases = [
            Phase(name="main", steps=steps - last, rate="constant", **shape),
            Phase(name="anneal", steps=last, rate="anneal", **shape),
        ]
    optimizer = OptimizerConfig(peak=peak, warmup=max(1, steps // 10))
    told = {"data": {"general": SourceConfig(shard="given")}, "device": "cpu", **changes}
    return TrainConfig(model=args, phases=tuple(phases), optimizer=optimizer, **told)


def _changed(budget, data=None, **phase):
    config = recipe_small(budget)
    only = replace(config.phases[0], **phase)
    few = replace(config.optimizer, warmup=1)
    return replace(config, data=data or config.data, phases=(only,), optimizer=few)


def recipe_small(budget):
    return _recipe(budget, 24, 2, 64, 4, 1.2e-2)


def recipe_annealed(budget):
    return _recipe(budget, 32, 2, 64, 2, 8e-3, anneal=0.4)


RECIPE_WRONG = {
    "over the budget": lambda budget: recipe_small(1.1 * budget),
    "recipe: a TrainConfig is needed": lambda budget: {"peak": 1e-2},
    "wrong vocabulary": lambda budget: _recipe(budget, 24, 2, 64, 4, 1e-2, vocabulary=300),
    "wrong device": lambda budget: _recipe(budget, 24, 2, 64, 4, 1e-2, device="cuda"),
    "other data": lambda budget: _changed(budget, data={"maths": SourceConfig(shard="given")}),
    "a phase has a gate": lambda budget: _changed(budget, gate=True),
    "the recipe cannot be run": lambda budget: _changed(budget, length=64.5),
    "too many steps": lambda budget: _recipe(budget, 16, 2, 32, 1, 1e-2),
    "not better than the house recipe": lambda budget: _recipe(budget / 8, 48, 3, 128, 8, 6e-3),
    "the run diverged": lambda budget: _recipe(budget / 8, 24, 2, 64, 4, 1e18),
}

SLOW = {"05.5", "05.6", "05.7", "short strings are forgotten"}
SLOW |= {"the default data are missing in the mix"}
RIGHT = {
    "05.1": [rate_library, rate_wave],
    "05.2": [SUMS, SUMS_DIVIDED],
    "05.3": [losses_library, losses_by_hand],
    "05.4": [BUGS, dict(reversed(BUGS.items()))],
    "05.5": [STAGES_THREE, STAGES_TWO],
    "05.6": [rank_sorted, rank_against_none],
    "05.7": [recipe_small, recipe_annealed],
}
WRONG = {
    "05.1": RATE_WRONG,
    "05.2": SUMS_WRONG,
    "05.3": LOSSES_WRONG,
    "05.4": BUGS_WRONG,
    "05.5": STAGES_WRONG,
    "05.6": RANK_WRONG,
    "05.7": RECIPE_WRONG,
}
