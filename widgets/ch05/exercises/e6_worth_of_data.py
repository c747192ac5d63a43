"""Exercise 05.6: what a data set is worth, found by annealing on it."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache

from llama3lib.checkpoint import load_model
from llama3lib.data.tokens import TokenShard
from llama3lib.eval import held_out_loss
from llama3lib.train import Phase, ablations
from llama3lib.worlds import domains
from llama3lib.worlds.miniweb import prose
from widgets.ch05.exercises.training import fit, shards
from widgets.core.exercise import Exercise
from widgets.core.forms import is_number
from widgets.core.judge import Case, Mistake, run

E = Exercise(
    "05.6",
    "rank",
    hints=(
        "Train with it, and see. Everything but the data set must stay the same.",
        "One annealing for each name, each with the same share of new data beside the default. "
        "Then sort the names by one of the two losses. Which one tells what you want to know?",
        "losses = {n: anneal({'default': 0.7, n: 0.3})['target'] for n in names}, then "
        "sorted(names, key=losses.get).",
    ),
)
CALLS, ANNEAL_STEPS = 12, 60
TRUTH = ("sums", "shuffled-sums", "server-logs")
"""The hidden sets, most valuable for mathematics first."""
_NAMINGS = (("coral", "amber", "birch"), ("delta", "fjord", "ember"))
"""What they are called, in the same order, in two rounds."""
_OWN = 1_234


@cache
def _sources() -> dict[str, TokenShard]:
    """Default data, the hidden sets, and texts of both kinds to measure on; none in `tiny-half`."""
    rng = random.Random(_OWN)
    sums = domains.maths_texts(300, _OWN)
    return shards(
        {
            "general": domains.general_texts(200, _OWN),
            "maths": domains.maths_texts(40, _OWN + 1),
            "sums": sums,
            "shuffled-sums": [_shuffled(text, rng) for text in sums],
            "server-logs": ["\n".join(prose.log(rng)) for _ in range(60)],
            "default-test": domains.general_texts(12, _OWN + 2),
            "target-test": domains.maths_texts(20, _OWN + 2),
        }
    )


def _shuffled(text: str, rng: random.Random) -> str:
    """The same words, line by line, in random order."""
    lines = [line.split(" ") for line in text.split("\n")]
    return "\n".join(" ".join(rng.sample(words, len(words))) for words in lines)


@cache
def annealed(mix: tuple[tuple[str, float], ...]) -> dict[str, float]:
    """Anneal `tiny-half` on shares of "default" and hidden sets; losses on default and target."""
    sources = _sources()
    shares = {name: share for name, share in mix if share > 0}
    default = shares.pop("default", 0.0)
    if default:
        shares |= {"general": 0.98 * default, "maths": 0.02 * default}  # as `tiny-half` had it
    trunk = ablations.trunk()
    phase = Phase(
        name="anneal", steps=ANNEAL_STEPS, batch_size=8, length=128, rate="anneal", mix=shares
    )
    config = replace(
        trunk,
        phases=(phase,),
        data=dict.fromkeys(sorted(shares), trunk.data["general"]),
        optimizer=replace(trunk.optimizer, warmup=0),
    )
    model = fit(config, sources, load_model("tiny-half"))
    return {n: held_out_loss(model, sources[f"{n}-test"], 128).mean for n in ("default", "target")}


@dataclass
class _Lab:
    """What `anneal` is behind the scenes: it counts, and remembers what was tried."""

    names: dict[str, str]
    """Given name to hidden set."""
    seen: list[tuple[dict[str, float], dict[str, float]]] = field(default_factory=list)

    def anneal(self, mix: Mapping[str, float]) -> dict[str, float]:
        """Losses after an annealing on this mix."""
        self._check(mix)
        shares = {self.names.get(name, name): float(share) for name, share in mix.items()}
        losses = annealed(tuple(sorted(shares.items())))
        self.seen.append(({name: float(share) for name, share in mix.items()}, dict(losses)))
        return dict(losses)

    def _check(self, mix: object) -> None:
        shows = repr(mix)
        if not isinstance(mix, Mapping):
            raise Mistake("anneal takes a dict of shares", shows=shows)
        if foreign := set(mix) - {*self.names, "default"}:
            why = f"Allowed: default, {', '.join(self.names)}."
            raise Mistake(f"{min(map(str, foreign))!r} is no data set", shows=shows, why=why)
        shares = list(mix.values())
        if not all(is_number(s) and s >= 0 for s in shares) or abs(sum(shares) - 1) > 1e-6:
            raise Mistake("the shares of a mix do not sum to 1", shows=shows)
        if len(self.seen) == CALLS:
            why = "One for each data set may do."
            raise Mistake(f"more than {CALLS} annealings", shows=shows, why=why)


@E.rule
def _sets_are_ranked(function: Callable) -> None:
    for names in _NAMINGS:  # in two rounds, in which the sets have other names
        lab = _Lab(dict(zip(names, TRUTH, strict=True)))
        inputs = (sorted(names), function.uncounted(lab.anneal))
        found = run(function, Case(inputs, f"names={sorted(names)}"), "rank")
        _judge_rank(found, list(names), lab)


def _judge_rank(found: object, right: list[str], lab: _Lab) -> None:
    shows = f"{found!r}"
    if not isinstance(found, list | tuple) or sorted(map(str, found)) != sorted(right):
        raise Mistake("rank: each name once is needed", shows=shows)
    if not lab.seen:
        why = "Nobody can tell from the names alone. Call anneal."
        raise Mistake("nothing was annealed", shows=shows, why=why)
    careful = [(m, loss) for m, loss in lab.seen if m.get("default", 0.0) >= 0.5]
    tried = {name for mix, _ in careful for name in right if mix.get(name, 0.0) > 0}
    if len(tried) < len(right) - 1:
        worst = max(loss["default"] for _, loss in lab.seen)
        why = (
            f"The default loss went up to {worst:.1f}: the model forgets the rest, and you pay for "
            "that too. The paper mixes 30 % new with 70 % default data (section 3.1.3)."
        )
        raise Mistake("the default data are missing in the mix", shows=shows, why=why)
    if list(found) == right:
        return
    if list(found) == right[::-1]:
        why = "A lower loss on the target is better, so the most valuable set has the lowest."
        raise Mistake("the order is reversed", shows=shows, why=why)
    alone = {n: loss for mix, loss in careful for n in right if mix.get(n, 0.0) >= 0.1}
    if list(found) == sorted(alone, key=lambda name: alone[name]["default"]):
        why = "The data are to be worth something for the target. Compare that loss."
        raise Mistake("ranked by the default loss", shows=shows, why=why)
    why = "Give each set the same share, one at a time, and compare the losses on the target."
    raise Mistake("rank: another order", shows=shows, why=why)
