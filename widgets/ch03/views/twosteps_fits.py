"""All the fits of the two-step prediction that `TwoStepsView` can ask for (section 3.2.1).

They are made once. Sigmoids are the dear part, and depend only on the models they go through.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from llama3lib.eval.intervals import Interval
from llama3lib.scaling import Run, Sigmoid, TwoSteps, fit_power_law, fit_sigmoid, fit_two_steps

FORMS = {"line": "a line (paper)", "floor": "with a floor (ours)"}
MODELS = {
    "smallest": "only the smallest budget",
    "best": "the best of each budget",
    "seen": "all up to there",
    "others": "larger budgets too",
}
_FEW = "Step 2 has too few points: a sigmoid needs three models of different loss"
_RISES = "Step 2 finds no slope: accuracy does not fall with the loss of these models"
_SHORT = "Step 1 has too few points: a floor needs three budgets"


def best_runs(runs: Iterable[Run]) -> list[bool]:
    """For each run, whether it has the least loss of its budget and seed: those step 1 sees."""
    runs, least = list(runs), {}
    for run in runs:
        key = run.budget, run.seed
        least[key] = min(least.get(key, math.inf), run.loss)
    return [run.loss == least[run.budget, run.seed] for run in runs]


def chosen(runs: Sequence[dict], limit: float, models: str) -> list[dict]:
    """The models that step 2 sees, if step 1 sees budgets up to `limit`; a key of MODELS."""
    if models == "others":
        return list(runs)
    if models == "smallest":
        limit = min(run["budget"] for run in runs)
    return [r for r in runs if r["budget"] <= limit and (r["best"] or models != "best")]


def tops_that_fit(
    nll: Sequence[float], accuracy: Sequence[float], *, chance: float = 0.25, level: float = 0.95
) -> list[Sigmoid]:
    """Sigmoids whose top cannot be told from the best one by these models, the highest first.

    Tops are tried in steps of 0.01 from 1 down. One is kept while its squares, against those of
    the best, pass an F test at `level`. None are given for fewer than five models: the noise of
    three unknowns would be judged by one point or none.
    """
    from scipy.special import fdtri  # scipy.stats takes long to import

    freedom = len(nll) - 3
    if freedom < 2:
        return []
    near, tried, squares = None, [], []
    for top in np.arange(1.0, max(max(accuracy) - 0.12, chance + 0.05), -0.01):
        near = fit_sigmoid(nll, accuracy, chance=chance, top=float(top), near=near)
        tried.append(near)
        left = [near.predict(x) - y for x, y in zip(nll, accuracy, strict=True)]
        squares.append(sum(miss * miss for miss in left))
    most = min(squares) * (1 + float(fdtri(1, freedom, level)) / freedom)
    return [one for one, missed in zip(tried, squares, strict=True) if missed <= most]


def fit_all(
    runs: Sequence[dict],
    target: float,
    *,
    chance: float = 0.25,
    top: float = 1.0,
    level: float = 0.95,
    resamples: int = 80,
    seed: int = 0,
) -> list[dict]:
    """Every fit that the controls can ask for: one entry a limit, from the second budget up.

    runs: `budget`, `best`, `flops`, `nll`, `accuracy` of each. A fit that cannot be made has its
    reason under `trouble`. Sigmoids depend on the models alone, so forms and limits share them.
    """
    budgets = sorted({run["budget"] for run in runs})
    noise = {"level": level, "resamples": resamples, "seed": seed}
    ends = {"chance": chance, "top": top}
    found: dict[tuple[int, ...], TwoSteps] = {}
    second: dict[tuple[int, ...], dict] = {}
    entries = []
    for number, limit in enumerate(budgets[1:], 2):
        best = [run for run in runs if run["best"] and run["budget"] <= limit]
        points = [run["flops"] for run in best], [run["nll"] for run in best]
        steps, keys = {}, {}
        for models in MODELS:
            mine = chosen(runs, limit, models)
            key = keys[models] = tuple(map(id, mine))
            if key in second or len({run["nll"] for run in mine}) < 3:
                continue
            if _rises(*_both(mine)):
                second[key] = {"trouble": _RISES}
            else:
                found[key] = steps["line"] = fit_two_steps(*points, *_both(mine), **ends, **noise)
                second[key] = _second(mine, found[key], ends, level)
        if "line" not in steps:  # all sigmoids were there already
            steps["line"] = fit_two_steps(*points, *_both(runs), **ends, **noise)
        if number >= 3:
            law = fit_power_law(*points, floor="fit", **noise)
            steps["floor"] = replace(steps["line"], line=None, lines=np.empty((0, 2)), law=law)
        told = {
            models: {
                form: _told(one, found[key], second[key], target) for form, one in steps.items()
            }
            for models, key in keys.items()
            if key in found
        }
        entry = {"limit": limit, "budgets": number, "points": len(best), "told": told}
        entry["first"] = {form: _first(steps.get(form), runs, target) for form in FORMS}
        entry["second"] = {m: second.get(key, {"trouble": _FEW}) for m, key in keys.items()}
        entries.append(entry)
    return entries


def nll_at(first: dict, form: str, flops: float) -> float:
    """Step 1: nats a character at a budget."""
    if form == "line":
        return first["curve"][0] + first["curve"][1] * math.log(flops)
    return first["curve"][2] + math.exp(first["curve"][0] + first["curve"][1] * math.log(flops))


def spans(data: dict) -> dict[str, list[float]]:
    """Ends of the axes; those of the loss depend on the form, since a line may leave its range."""
    flops = [run["flops"] for run in data["runs"]]
    nll = [run["nll"] for run in (*data["runs"], *data["held"])]
    right = min(run["accuracy"] for run in (*data["runs"], *data["held"]))
    found = {"flops": [min(flops) / 1.6, 1.6 * data["target"]]}
    for form in FORMS:
        told = [e["first"][form]["nll"] for e in data["entries"] if "nll" in e["first"][form]]
        low = min([0.0, *(v for one in told for v in one[:2] if v is not None)])
        found[form] = [1.08 * max(low, -1.1 * max(nll)), 1.08 * max(nll)]
    return found | {"accuracy": [max(0.0, math.floor(10 * right - 0.4) / 10), 1.01]}


def _plain(interval: Interval) -> list[float | None]:
    """Value, low and high; None where an end is not known."""
    ends = (interval.low, interval.high)
    return [float(interval.score), *(float(v) if math.isfinite(v) else None for v in ends)]


def _first(step: TwoSteps | None, runs: Sequence[dict], target: float) -> dict:
    if step is None:
        return {"trouble": _SHORT}
    low = min(run["flops"] for run in runs)
    grid = np.geomspace(low / 1.6, 1.6 * target, 33).tolist()
    law = step.law.law if step.law is not None else None
    curve = [*step.line] if law is None else [math.log(law.coefficient), law.exponent, law.floor]
    band = [[x, *_plain(step.predict(x).nll)[1:]] for x in grid]
    told = _plain(step.predict(target).nll)
    return {"curve": curve, "nll": told, "band": [] if None in band[0] else band}


def _both(runs: Sequence[dict]) -> tuple[list[float], list[float]]:
    return [run["nll"] for run in runs], [run["accuracy"] for run in runs]


def _rises(nll: Sequence[float], accuracy: Sequence[float]) -> bool:
    """Whether a line through the models does not fall: through these goes no sigmoid."""
    return float(np.cov(nll, accuracy)[0, 1]) > -1e-12


def _second(mine: Sequence[dict], fit: TwoSteps, ends: dict, level: float) -> dict:
    nll, accuracy = _both(mine)
    tops = tops_that_fit(nll, accuracy, chance=ends["chance"], level=level)
    band = []
    for x in np.linspace(-1, 1, 81) * 1.2 * max(nll):
        drawn = np.array([s.predict(x) for s in fit.sigmoids])  # NaN where a draw could not tell
        low, high = (np.where(np.isnan(drawn), ends[name], drawn) for name in ("chance", "top"))
        sides = np.quantile(low, 0.5 - level / 2), np.quantile(high, 0.5 + level / 2)
        band.append([float(x), *map(float, sides)])
    ways = [[s.chance, s.top, s.middle, s.width] for s in (fit.sigmoid, *tops)]
    span = [min(accuracy), max(accuracy)]
    return {"sigmoid": ways[0], "tops": ways[1:], "models": len(mine), "span": span, "band": band}


def _told(step: TwoSteps, with_: TwoSteps, second: dict, target: float) -> dict:
    """Accuracy predicted, and what it were with each of the tops that fit as well."""
    told = replace(step, sigmoid=with_.sigmoid, sigmoids=with_.sigmoids).predict(target)
    others = [Sigmoid(*way).predict(told.nll.score) for way in second["tops"]]
    by_top = [min(others), max(others)] if others else None
    return {"accuracy": _plain(told.accuracy), "by_top": by_top}
