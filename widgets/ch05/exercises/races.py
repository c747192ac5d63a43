"""Chapter 05, exercises 6 and 7: what a data set is worth, and a speed run. Both are trained."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from numbers import Real

from llama3lib.checkpoint import load_model
from llama3lib.data.tokens import TokenShard, write_shard
from llama3lib.eval import held_out_loss
from llama3lib.model.flops import flops_per_token
from llama3lib.train import DivergedError, Phase, TrainConfig, ablations
from llama3lib.worlds import domains
from llama3lib.worlds.miniweb import prose
from widgets.ch05.exercises.runs import fit, folder, lengthen_table
from widgets.core.judge import Case, Mistake, run

# 05.6 what a data set is worth ----------------------------------------------------------------

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
    texts = {
        "general": domains.general_texts(200, _OWN),
        "maths": domains.maths_texts(40, _OWN + 1),
        "sums": sums,
        "shuffled-sums": [_shuffled(text, rng) for text in sums],
        "server-logs": ["\n".join(prose.log(rng)) for _ in range(60)],
        "default-test": domains.general_texts(12, _OWN + 2),
        "target-test": domains.maths_texts(20, _OWN + 2),
    }
    return {name: write_shard(iter(rows), folder(name), None) for name, rows in texts.items()}


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
    problem: Mistake | None = None

    def anneal(self, mix: Mapping[str, float]) -> dict[str, float]:
        """Losses after an annealing on this mix."""
        self.problem = self._refused(mix)
        if self.problem is not None:
            raise self.problem
        shares = {self.names.get(name, name): float(share) for name, share in mix.items()}
        losses = annealed(tuple(sorted(shares.items())))
        self.seen.append(({name: float(share) for name, share in mix.items()}, dict(losses)))
        return dict(losses)

    def _refused(self, mix: object) -> Mistake | None:
        if not isinstance(mix, Mapping):
            return Mistake("anneal takes a dict of shares", shows=repr(mix))
        if foreign := set(mix) - {*self.names, "default"}:
            why = f"Allowed: default, {', '.join(self.names)}."
            return Mistake(f"{sorted(map(str, foreign))[0]!r} is no data set", why=why)
        shares = list(mix.values())
        if not all(isinstance(s, Real) and s >= 0 for s in shares) or abs(sum(shares) - 1) > 1e-6:
            return Mistake("the shares of a mix do not sum to 1", shows=repr(dict(mix)))
        if len(self.seen) == CALLS:
            return Mistake(f"more than {CALLS} annealings", why="One for each data set may do.")
        return None


def check_rank(answer: object) -> None:
    """Judge `rank(names, anneal)` in two rounds, in which the sets have other names."""
    if not callable(answer):
        raise Mistake("check needs the function", why="Call check('05.6', rank).")
    for names in _NAMINGS:
        lab = _Lab(dict(zip(names, TRUTH, strict=True)))
        case = Case((sorted(names), lab.anneal), f"names={sorted(names)}")
        try:
            found = run(answer, case, "rank")
        except Mistake:
            if lab.problem is not None:
                raise lab.problem from None
            raise
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


# 05.7 a speed run -----------------------------------------------------------------------------

BUDGET, BETTER_BY, STEPS_AT_MOST = 6e10, 0.9, 2000


def cost(config: TrainConfig) -> float:
    """FLOPs of all phases of a recipe."""
    model = config.model
    return sum(flops_per_token(model, p.length).training * p.tokens for p in config.phases)


def house_recipe(budget: float) -> TrainConfig:
    """What there is to beat: batch 8, length 128, a cosine to 0."""
    steps = int(budget / (flops_per_token(ablations.BYTE_CELL, 128).training * 8 * 128))
    config = ablations.trunk(steps)
    phase = Phase(name="house", steps=steps, batch_size=8, length=128)
    return replace(config, data={"general": config.data["general"]}, phases=(phase,))


@cache
def _race_texts() -> dict[str, TokenShard]:
    texts = {
        "general": domains.general_texts(800, 0),
        "race-test": domains.general_texts(30, 1_000_003),
    }
    return {name: write_shard(iter(rows), folder(name), None) for name, rows in texts.items()}


def race(config: TrainConfig) -> float:
    """Train a recipe; its loss on held-out text, in windows of 128 bytes."""
    texts = _race_texts()
    model = fit(config, {"general": texts["general"]})
    return held_out_loss(lengthen_table(model, 128), texts["race-test"], 128).mean


@cache
def _house_loss() -> float:
    return race(house_recipe(BUDGET))


def check_recipe(answer: object) -> None:
    """Judge `recipe(budget)`: within the budget, and better than the house's."""
    if not callable(answer):
        raise Mistake("check needs the function", why="Call check('05.7', recipe).")
    shows = f"budget={BUDGET:g}"
    config = run(answer, Case((BUDGET,), shows), "recipe")
    _allowed(config, shows)
    try:
        loss = race(config)
    except DivergedError as error:
        raise Mistake("the run diverged", shows=shows, why=str(error).split(". ")[0]) from None
    except (ValueError, RuntimeError) as error:
        raise Mistake("the recipe cannot be run", shows=shows, why=str(error)) from None
    house = _house_loss()
    told = f"{cost(config) / BUDGET:.0%} of the budget used"
    print(f"your loss {loss:.3f}, the house's {house:.3f} nats a byte; {told}")
    if not loss < 20:
        raise Mistake("the run diverged", shows=shows, why=f"Its loss is {loss:.1f}.")
    if loss > house - BETTER_BY:
        side = "above" if loss > house else "below"
        why = (
            f"It is {abs(loss - house):.3f} nats {side} the house's; {BETTER_BY:g} below is asked."
        )
        raise Mistake("not better than the house recipe", shows=told, why=why)


def _allowed(config: object, shows: str) -> None:
    """The rules of the race, that can be checked before it."""
    if not isinstance(config, TrainConfig):
        why = f"{type(config).__name__} came. Return llama3lib.train.TrainConfig(...)."
        raise Mistake("recipe: a TrainConfig is needed", shows=shows, why=why)
    if config.model.vocab_size != 256:
        why = f"vocab_size={config.model.vocab_size}; the data are bytes, of which there are 256."
        raise Mistake("wrong vocabulary", shows=shows, why=why)
    if set(config.data) != {"general"}:
        raise Mistake("other data", shows=repr(sorted(config.data)), why="Only 'general' is there.")
    if config.device not in ("cpu", "auto"):
        raise Mistake("wrong device", shows=repr(config.device), why="The race is on the CPU.")
    if any(phase.gate for phase in config.phases):
        raise Mistake("a phase has a gate", why="Here no gate is asked.")
    if (spent := cost(config)) > BUDGET:
        why = f"It needs {spent:.3g} FLOPs, {spent / BUDGET - 1:.1%} more than there are."
        raise Mistake("over the budget", shows=shows, why=why)
    if config.total_steps > STEPS_AT_MOST:
        why = f"{config.total_steps} steps; {STEPS_AT_MOST} at most, so that the check ends soon."
        raise Mistake("too many steps", shows=shows, why=why)
