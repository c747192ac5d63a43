"""Exercise 03.1: what each model costs, and which one matches a budget."""

import math
from collections.abc import Callable, Mapping

import numpy as np

from llama3lib.paper import herd, scaling
from widgets.ch03.exercises.numbers import numbers
from widgets.core.exercise import Exercise
from widgets.core.judge import Case, Mistake, run

E = Exercise(
    "03.1",
    "match_budget",
    hints=(
        "One rule gives all costs. And what number is the same for half the budget and for twice "
        "the budget, but for its sign?",
        "First a dict: name to 6 times parameters times tokens. Then the name with the least "
        "distance, where distance is the absolute value of log(cost / budget).",
        "costs = {name: 6 * n * d for name, (n, d) in models.items()}; min(costs, key=lambda name: "
        "abs(math.log(costs[name] / budget))).",
    ),
)
Models = dict[str, tuple[float, float]]


@E.reference
def match_budget(
    models: Models,
    budget: float,
    *,
    cost: Callable[[float, float, float], float] = lambda n, d, budget: 6 * n * d,
    score: Callable[[float, float, float], float] = lambda c, budget, n: abs(math.log(c / budget)),
) -> tuple[dict[str, float], str]:
    """Costs, and the name of the least score, which is made of cost, budget and size."""
    costs = {name: cost(n, d, budget) for name, (n, d) in models.items()}
    return costs, min(costs, key=lambda name: score(costs[name], budget, models[name][0]))


costs = E.part("costs", through=lambda f, *given: f(*given)[0], tolerance=1e-9)
costs.mistake("the 6 is forgotten", cost=lambda n, d, budget: n * d).why(
    "Each parameter takes part in several products for each token, forward and backward."
)
costs.mistake("the forward pass only", cost=lambda n, d, budget: 2 * n * d).why(
    "2 is what reading a token costs. Training goes backward too."
)
costs.mistake("the backward pass only", cost=lambda n, d, budget: 4 * n * d).why(
    "The forward pass is paid for as well."
)
costs.mistake("the forward pass counted twice", cost=lambda n, d, budget: 8 * n * d).why(
    "That is training with recomputed activations. The rule of the paper leaves it out."
)
costs.mistake("divided, not multiplied", cost=lambda n, d, budget: 6 * d / n).why(
    "More parameters cost more."
)
costs.mistake("tokens for each parameter, not FLOPs", cost=lambda n, d, budget: d / n).why(
    "That is another useful number, but no cost."
)
costs.mistake("the tokens are forgotten", cost=lambda n, d, budget: 6 * n).why(
    "That is the cost of one token."
)
costs.mistake(
    "20 tokens for each parameter, whatever was trained on",
    cost=lambda n, d, budget: 6 * n * 20 * n,
).why("The number of tokens is given. Use it.")
costs.mistake("the budget itself for each model", cost=lambda n, d, budget: budget).why(
    "Take the tokens that are given, not those that the budget would buy."
)
costs.mistake("a share of the budget, not FLOPs", cost=lambda n, d, budget: 6 * n * d / budget).why(
    "The table should hold the FLOPs themselves."
)

nearest = E.part("name", through=lambda f, *given: f(*given)[1])
nearest.mistake(
    "nearest as a difference, not as a ratio", score=lambda c, budget, n: abs(c - budget)
).why("Half the budget is as far off as twice the budget.")
nearest.mistake(
    "the largest that does not pass the budget",
    score=lambda c, budget, n: budget - c if c <= budget else math.inf,
).why("Nearest means from above, too.")
nearest.mistake(
    "the smallest that reaches the budget",
    score=lambda c, budget, n: c - budget if c >= budget else math.inf,
).why("Nearest means from below, too.")
nearest.mistake("the farthest one", score=lambda c, budget, n: -abs(math.log(c / budget))).why(
    "Is it the least distance that is looked for?"
)
nearest.mistake("the cheapest one", score=lambda c, budget, n: c).why(
    "A cost far below the budget is far off as well. Is an abs missing?"
)
nearest.mistake("the most expensive one", score=lambda c, budget, n: -c).why(
    "The budget is not used."
)
nearest.mistake("the largest model, whatever it costs", score=lambda c, budget, n: -n).why(
    "A small model on many tokens may cost more."
)
nearest.mistake("the first one", score=lambda c, budget, n: 0).why("Compare all of them.")
nearest.mistake(
    "the last one", lambda models, budget: (match_budget(models, budget)[0], list(models)[-1])
).why("Compare all of them.")


@E.rule
def _has_its_form(function: Callable) -> None:
    for case in costs.inputs:
        _check_form(run(function, case, "match_budget"), case)


def _check_form(result: object, case: Case) -> None:
    models, shows = case.inputs[0], case.shows
    if not isinstance(result, tuple | list) or len(result) != 2:
        why = "Return the dict of costs and the name: return costs, name."
        raise Mistake("match_budget: two results are needed", shows=shows, why=why)
    costs, name = result
    if isinstance(costs, str) and isinstance(name, Mapping):
        raise Mistake("the two results are swapped", shows=shows, why="First the dict.")
    if not isinstance(costs, Mapping) or set(costs) != set(models):
        why = f"The first result is a dict with the keys {', '.join(models)}."
        raise Mistake("match_budget: one cost for each model", shows=shows, why=why)
    if not isinstance(name, str) or name not in models:
        why = f"{name!r:.60} came, which is no name of a model."
        raise Mistake("match_budget: the name of a model is needed", shows=shows, why=why)
    numbers(list(costs.values()), ["costs"] * len(costs), "match_budget", shows)


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
        away = sorted(abs(math.log(6 * n * d / budget)) for n, d in models.values())
        if away[1] - away[0] > 0.01:  # no case hangs on a digit
            rows.append((models, budget))
    return [Case(row, _shown(*row)) for row in rows]


def _shown(models: Models, budget: float) -> str:
    told = ", ".join(f"{name!r}: ({n:.4g}, {d:.4g})" for name, (n, d) in models.items())
    return f"models={{{told}}}, budget={budget:.4g}"


costs.cases(_cases)
nearest.cases(_cases)
