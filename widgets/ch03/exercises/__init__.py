"""Chapter 03, exercise 1 (which size is the flagship's bill), and the table of all six."""

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from llama3lib.paper import herd, scaling
from widgets.ch03.exercises.beyond import check_predict_loss
from widgets.ch03.exercises.hints import HINTS
from widgets.ch03.exercises.numbers import number
from widgets.ch03.exercises.pair import check_pair
from widgets.ch03.exercises.parabola import check_lowest_point
from widgets.ch03.exercises.serving import check_served
from widgets.ch03.exercises.spoilt import check_find_spoilt
from widgets.core.judge import Case, Known, Mistake, diagnose, run
from widgets.core.time_limit import patiently

__all__ = ["CHECKS", "HINTS"]

_WHAT = "match_budget"
Models = dict[str, tuple[float, float]]


def _cost(one: Callable[[float, float], float]) -> Callable:
    """Costs of all models, in their order, from what one costs."""

    def costs(models: Models, budget: float) -> Tensor:
        return torch.tensor([one(n, d) for n, d in models.values()], dtype=torch.float64)

    return costs


def _over_budget(models: Models, budget: float) -> Tensor:
    return _RIGHT(models, budget) / budget


_RIGHT = _cost(lambda n, d: 6 * n * d)
_COSTS_KNOWN = [
    Known(
        "the 6 is forgotten",
        _cost(lambda n, d: n * d),
        "Each parameter takes part in several products for each token, forward and backward.",
    ),
    Known(
        "the forward pass only",
        _cost(lambda n, d: 2 * n * d),
        "2 is what reading a token costs. Training goes backward too.",
    ),
    Known(
        "the backward pass only",
        _cost(lambda n, d: 4 * n * d),
        "The forward pass is paid for as well.",
    ),
    Known(
        "the forward pass counted twice",
        _cost(lambda n, d: 8 * n * d),
        "That is training with recomputed activations. The rule of the paper leaves it out.",
    ),
    Known(
        "divided, not multiplied",
        _cost(lambda n, d: 6 * d / n),
        "More parameters cost more.",
    ),
    Known(
        "tokens for each parameter, not FLOPs",
        _cost(lambda n, d: d / n),
        "That is another useful number, but no cost.",
    ),
    Known(
        "the tokens are forgotten",
        _cost(lambda n, d: 6 * n),
        "That is the cost of one token.",
    ),
    Known(
        "20 tokens for each parameter, whatever was trained on",
        _cost(lambda n, d: 6 * n * 20 * n),
        "The number of tokens is given. Use it.",
    ),
    Known(
        "the budget itself for each model",
        lambda models, budget: torch.full((len(models),), budget, dtype=torch.float64),
        "Take the tokens that are given, not those that the budget would buy.",
    ),
    Known(
        "a share of the budget, not FLOPs",
        _over_budget,
        "The table should hold the FLOPs themselves.",
    ),
]


def _pick(score: Callable[[float, float], float]) -> Callable:
    """The name with the least score, which is made of cost and budget."""

    def picked(models: Models, budget: float) -> str:
        found = {name: 6 * n * d for name, (n, d) in models.items()}
        return min(found, key=lambda name: score(found[name], budget))

    return picked


def _nearest_size(models: Models, budget: float) -> str:
    return max(models, key=lambda name: models[name][0])


_NAMES_KNOWN = [
    Known(
        "nearest as a difference, not as a ratio",
        _pick(lambda cost, budget: abs(cost - budget)),
        "Half the budget is as far off as twice the budget.",
    ),
    Known(
        "the largest that does not pass the budget",
        _pick(lambda cost, budget: budget - cost if cost <= budget else math.inf),
        "Nearest means from above, too.",
    ),
    Known(
        "the smallest that reaches the budget",
        _pick(lambda cost, budget: cost - budget if cost >= budget else math.inf),
        "Nearest means from below, too.",
    ),
    Known(
        "the farthest one",
        _pick(lambda cost, budget: -abs(math.log(cost / budget))),
        "Is it the least distance that is looked for?",
    ),
    Known(
        "the cheapest one",
        _pick(lambda cost, budget: cost),
        "A cost far below the budget is far off as well. Is an abs missing?",
    ),
    Known(
        "the dearest one",
        _pick(lambda cost, budget: -cost),
        "The budget is not used.",
    ),
    Known(
        "the largest model, whatever it costs",
        _nearest_size,
        "A small model on many tokens may cost more.",
    ),
    Known("the first one", lambda models, budget: next(iter(models)), "Compare all of them."),
    Known("the last one", lambda models, budget: list(models)[-1], "Compare all of them."),
]


def _cases() -> list[Case]:
    table = scaling.SIX_ND
    paper = {
        name: (table.cell(name, "parameters"), table.cell(name, "tokens")) for name in table.rows
    }
    rows: list[tuple[Models, float]] = [
        ({"a": (1.0, 1.0)}, 6.0),
        ({"a": (2.0, 3.0)}, 30.0),
        ({"a": (1.0, 1.0), "b": (5.0, 1.0)}, 24.0),
        ({"a": (1.0, 1.0), "b": (3.0, 2.0)}, 7.0),
        ({"a": (1.0, 4.0), "b": (1.0, 18.0)}, 60.0),
        ({"a": (2.0, 2.0), "b": (1.0, 8.0), "c": (1.0, 30.0)}, 40.0),
        ({"a": (5.0, 1.0), "b": (2.0, 10.0), "c": (1.0, 9.0)}, 110.0),
        (paper, float(herd.FLOPS.value)),
        (dict(reversed(paper.items())), float(herd.FLOPS.value) / 60),
    ]
    rng = np.random.default_rng(31)
    while len(rows) < 40:
        count = int(rng.integers(2, 6))
        sizes, tokens = (np.exp(rng.uniform(low, low + 6, count)) for low in (16, 22))
        models = {
            f"model {i}": (float(n), float(d))
            for i, (n, d) in enumerate(zip(sizes, tokens, strict=True))
        }
        budget = float(6 * np.exp(rng.uniform(40, 48)))
        away = sorted(abs(math.log(c / budget)) for c in _RIGHT(models, budget).tolist())
        if away[1] - away[0] > 0.01:  # no case hangs on a digit
            rows.append((models, budget))
    return [Case(row, _shown(*row)) for row in rows]


def _shown(models: Models, budget: float) -> str:
    told = ", ".join(f"{name!r}: ({n:.4g}, {d:.4g})" for name, (n, d) in models.items())
    return f"models={{{told}}}, budget={budget:.4g}"


def _parted(result: object, case: Case) -> tuple[Tensor, str]:
    """Costs in the models' order, and the name. Raises `Mistake` on another form."""
    models = case.inputs[0]
    if not isinstance(result, tuple | list) or len(result) != 2:
        why = "Return the dict of costs and the name: return costs, name."
        raise Mistake(f"{_WHAT}: two results are needed", shows=case.shows, why=why)
    costs, name = result
    if isinstance(costs, str) and isinstance(name, Mapping):
        raise Mistake("the two results are swapped", shows=case.shows, why="First the dict.")
    if not isinstance(costs, Mapping) or set(costs) != set(models):
        why = f"The first result is a dict with the keys {', '.join(models)}."
        raise Mistake(f"{_WHAT}: one cost for each model", shows=case.shows, why=why)
    if not isinstance(name, str) or name not in models:
        why = f"{name!r:.60} came, which is no name of a model."
        raise Mistake(f"{_WHAT}: the name of a model is needed", shows=case.shows, why=why)
    values = [number(costs[n], f"{_WHAT}, costs", case.shows) for n in models]
    return torch.tensor(values, dtype=torch.float64), name


def check_match_budget(answer: Callable) -> None:
    """03.1: match_budget(models, budget) -> (costs, name of the nearest)."""
    cases = _cases()
    results = {
        case.shows: _parted(run(lambda m, b: answer(dict(m), b), case, _WHAT), case)
        for case in cases
    }
    nearest = _pick(lambda cost, budget: abs(math.log(cost / budget)))
    for place, right, known in ((0, _RIGHT, _COSTS_KNOWN), (1, nearest, _NAMES_KNOWN)):
        what = f"{_WHAT}, {('costs', 'name')[place]}"
        told = {shows: result[place] for shows, result in results.items()}
        diagnose(
            lambda *given, told=told: told[_shown(*given)],
            right,
            cases,
            known,
            what=what,
            tolerance=1e-9,
        )


CHECKS: dict[str, Callable[[object], None]] = {
    "03.1": patiently("match_budget", check_match_budget),
    "03.2": patiently("lowest_point", check_lowest_point),
    "03.3": check_pair,
    "03.4": patiently("find_spoilt", check_find_spoilt),
    "03.5": patiently("served_until_cheaper", check_served),
    "03.6": patiently("predict_loss", check_predict_loss),
}
