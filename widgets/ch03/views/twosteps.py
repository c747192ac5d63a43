"""From FLOPs to loss to accuracy, with points taken away (section 3.2.1, Figure 4).

Step 1 predicts the loss of the right answers from compute, step 2 the accuracy from that loss.
What if fewer budgets had been seen, or other models? All fits are made once.
"""

from collections.abc import Callable, Sequence

from llama3lib.scaling import Run, Sigmoid
from widgets.ch03.views.twosteps_fits import FORMS, MODELS, best_runs, chosen, fit_all, spans
from widgets.ch03.views.twosteps_picture import Picture, percent, sci
from widgets.view import Choice, Paper, Scene, Slider, View
from widgets.view.words import fixed

ASSUMED = "What joins the steps: models of equal loss have equal accuracy, however they came by it."


def spread(ends: Sequence[float | None], say: Callable[[float], str], level: float) -> str:
    """An interval in words, or that nothing is known of it."""
    if None in ends:
        return "error unknown"
    return f"{to(*map(say, ends))} in {fixed(100 * level, 0)} of 100 draws"


def trouble(entry: dict, models: str, form: str) -> str | None:
    """Why there is no prediction; None if there is one."""
    return entry["first"][form].get("trouble") or entry["second"][models].get("trouble")


def measured(data: dict) -> tuple[float, float] | None:
    """Mean loss and accuracy of the runs held out; None without such runs."""
    if not (held := data["held"]):
        return None
    return tuple(sum(run[n] for run in held) / len(held) for n in ("nll", "accuracy"))


def headline(data: dict, entry: dict, models: str, form: str) -> str:
    """The title: what is predicted with so much seen, and what came."""
    seen = f"Seen up to {sci(entry['limit'])} FLOPs"
    if why := trouble(entry, models, form):
        return f"{seen}: no prediction. {why}"
    told = entry["told"][models][form]
    score, low, high = told["accuracy"]
    said = f"{seen}: predicted {percent(score)} at {sci(data['target'])}"
    below = entry["first"][form]["nll"][0] < 0
    if below:
        said += ", but through a loss below 0"
    elif top_is_open(entry["second"][models]):
        said += f" ({percent(told['by_top'][0])} with another top)"
    else:
        said += (
            " (error unknown)" if None in (low, high) else f" ({to(*map(percent, (low, high)))})"
        )
    real = measured(data)
    return said + (f"{';' if below else ','} measured {percent(real[1])}" if real else "")


def top_is_open(second: dict) -> bool:
    """Whether tops that differ by 0.05 or more fit the models of step 2 as well."""
    return bool(second["tops"]) and second["tops"][0][1] - second["tops"][-1][1] > 0.045


def notes(data: dict, entry: dict, models: str, form: str) -> list[str]:
    """What each step did, as lines under the picture."""
    first, second, real = entry["first"][form], entry["second"][models], measured(data)
    level, told = data["level"], []
    if "trouble" in first:
        told.append(f"{first['trouble']}, and it has {entry['budgets']}.")
    else:
        kind = "A line"
        if form == "floor":
            kind = f"A power law with a floor of {fixed(first['curve'][2], 3)} (ours)"
        score, *ends = first["nll"]
        line = (
            f"Step 1. {kind} through {entry['points']} runs, the best of each of "
            f"{entry['budgets']} budgets and each seed, says {fixed(score, 3)} nats a character "
            f"({spread(ends, lambda v: fixed(v, 3), level)})"
        )
        line += f"; measured: {fixed(real[0], 3)}." if real else "."
        told.append(line + " No loss is below 0: the line has left its range." * (score < 0))
    if "trouble" in second:
        return [*told, f"{second['trouble']}."]
    chance, top = second["sigmoid"][:2]
    line = (
        f"Step 2. A sigmoid from {percent(chance)} (guessing) to {percent(top)} (set, not fitted) "
        f"through {second['models']} models of {percent(second['span'][0])} to "
        f"{percent(second['span'][1])}."
    )
    if real:
        there = percent(Sigmoid(*second["sigmoid"]).predict(real[0]))
        line += f" At the measured loss it says {there}."
    told.append(line)
    told.append(top_words(second, entry["told"].get(models, {}).get(form), top))
    if models == "others":
        told.append(
            "Models of larger budgets help step 2 and stay out of step 1, as Llama 2's did in the "
            "paper."
        )
    return [*told, ASSUMED]


def top_words(second: dict, told: dict | None, top: float) -> str:
    """Which tops these models allow, and what they would predict."""
    if not second["tops"]:
        return "With fewer than five models nothing can be said of the sigmoid's top."
    high, low = second["tops"][0][1], second["tops"][-1][1]
    ends = to(f"{fixed(100 * low, 0)}%", f"{fixed(100 * high, 0)}%")
    if top_is_open(second):
        said = f"These models do not tell the sigmoid's top: any from {ends} fits them as well"
    else:
        said = f"These models tell the sigmoid's top: {ends}"
    said += f", not the {percent(top)} set" if not low - 0.005 < top < high + 0.005 else ""
    if told is None or not top_is_open(second):
        return f"{said}."
    return f"{said}. With it, the prediction goes from {to(*map(percent, told['by_top']))}."


def to(low: str, high: str) -> str:
    """A range in words; one number if both are the same."""
    return low if low == high else f"{low} to {high}"


def table_rows(data: dict, form: str) -> list[dict[str, object]]:
    """Every limit with every choice of models."""
    rows, real = [], measured(data)
    for entry in data["entries"]:
        for models, words in MODELS.items():
            row = {"seen up to, FLOPs": sci(entry["limit"]), "models in step 2": words}
            loss = entry["first"][form].get("nll", [None])[0]
            told = entry["told"].get(models, {}).get(form, {})
            score, low, high = told.get("accuracy", (None, None, None))
            row["predicted nats a character"] = "-" if loss is None else fixed(loss, 3)
            row["predicted accuracy"] = "too few points" if score is None else percent(score)
            row["low"], row["high"] = ("-" if end is None else percent(end) for end in (low, high))
            by_top = told.get("by_top")
            row["with other tops"] = to(*map(percent, by_top)) if by_top else "-"
            row["measured"] = percent(real[1]) if real else "-"
            rows.append(row)
    return rows


class TwoStepsView(View):
    """Take points away and see what the two steps predict then.

    runs: finished runs with `nll` and `accuracy`, of two budgets or more; step 1 sees the one of
    least loss of each budget and seed. held_out: runs to predict, in no fit; those of the largest
    budget count. Without any, four times the largest budget is predicted.
    limit: the largest budget that is seen, from the second one up. models: a key of MODELS. form:
    a key of FORMS. chance, top: ends of the sigmoid, set as in `fit_sigmoid`. level, resamples,
    seed: of the intervals.

    Raises ValueError if fewer than two budgets or three different losses are left of the runs that
    have both numbers, or if no run held out has them.
    """

    limit = Slider(
        lambda view, values: list(view.entries),
        "seen up to",
        text=lambda flops: f"{sci(flops)} FLOPs",
    )
    models = Choice(MODELS, "step 2 sees", start="seen")
    form = Choice(FORMS, "step 1 is")

    def __init__(
        self,
        runs: Sequence[Run],
        *,
        held_out: Sequence[Run] = (),
        limit: float | None = None,
        models: str = "seen",
        form: str = "line",
        chance: float = 0.25,
        top: float = 1.0,
        level: float = 0.95,
        resamples: int = 80,
        seed: int = 0,
    ) -> None:
        seen, held = _known(runs), _known(held_out)
        if len({run["budget"] for run in seen}) < 2 or len({run["nll"] for run in seen}) < 3:
            raise ValueError(
                f"runs: {len(seen)} have nll and accuracy; two budgets and three different losses "
                "are needed"
            )
        if held_out and not held:
            raise ValueError("held_out: no run has nll and accuracy")
        last = max(run["budget"] for run in held or seen)
        held = [run for run in held if run["budget"] == last]
        target = sum(run["flops"] for run in held) / len(held) if held else 4 * last
        ends = {"chance": chance, "top": top, "level": level}
        self.data = {"runs": seen, "held": held, "target": target, "level": level}
        self.data["entries"] = fit_all(seen, target, **ends, resamples=resamples, seed=seed)
        self.data["spans"] = spans(self.data)
        self.entries = {entry["limit"]: entry for entry in self.data["entries"]}
        last = list(self.entries)[-1] if limit is None else limit
        super().__init__(limit=last, models=models, form=form)

    def scene(self, paper: Paper, *, limit: float, models: str, form: str) -> Scene:
        data, entry = self.data, self.entries[limit]
        Picture(paper, data, entry, models, form)
        told = entry["told"].get(models, {}).get(form)
        return Scene(
            title=headline(data, entry, models, form),
            notes=notes(data, entry, models, form),
            table=table_rows(data, form),
            facts={
                "accuracy": told["accuracy"][0] if told else "none",
                "seen": len(chosen(data["runs"], limit, models)),
            },
        )

    def entry(self) -> dict:
        """All fits of the limit that is set."""
        return self.entries[self.limit]


def _known(runs: Sequence[Run]) -> list[dict]:
    """Runs that have both numbers of the task, as the fits need them."""
    both = [run for run in runs if run.nll is not None and run.accuracy is not None]
    names = ("budget", "seed", "flops", "parameters", "nll", "accuracy")
    return [
        {name: getattr(run, name) for name in names} | {"best": best}
        for run, best in zip(both, best_runs(both), strict=True)
    ]
