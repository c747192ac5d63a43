"""Exercise 05.7: a speed run, trained against the house recipe."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

from llama3lib.data.tokens import TokenShard
from llama3lib.eval import held_out_loss
from llama3lib.model.flops import flops_per_token
from llama3lib.train import DivergedError, Phase, TrainConfig, ablations
from llama3lib.worlds import domains
from widgets.ch05.exercises.training import fit, lengthen_table, shards
from widgets.core.exercise import Exercise
from widgets.core.judge import Case, Mistake, run, said_by

E = Exercise(
    "05.7",
    "recipe",
    hints=(
        "The house run has little more than a hundred steps. Is a step over so many bytes the best "
        "use of the budget? And is this the best size for so short a run?",
        "First compute what a byte costs; then batch and length give the number of steps. A model "
        "with half the width costs less than half: it sees more text. (Section 3.2.1 of the paper "
        "asks this very question.) Then change one thing at a time: size, batch, peak, warm-up.",
        "per_byte = flops_per_token(args, length).training; steps = int(budget / (per_byte * batch "
        "* length)). Try args with dim below 48 and a batch below 8, a peak near 1e-2, a tenth of "
        "the steps as warm-up, and Phase(name='all', steps=steps, batch_size=..., length=...).",
    ),
)
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
def _texts() -> dict[str, TokenShard]:
    return shards(
        {
            "general": domains.general_texts(800, 0),
            "race-test": domains.general_texts(30, 1_000_003),
        }
    )


def race(config: TrainConfig) -> float:
    """Train a recipe; its loss on held-out text, in windows of 128 bytes."""
    model = fit(config, {"general": _texts()["general"]})
    return held_out_loss(lengthen_table(model, 128), _texts()["race-test"], 128).mean


@cache
def _house_loss() -> float:
    return race(house_recipe(BUDGET))


@E.rule
def _beats_the_house(function: Callable) -> None:
    shows = f"budget={BUDGET:g}"
    config = run(function, Case((BUDGET,), shows), "recipe")
    try:
        _check_rules(config, shows)
        loss = race(config)
    except Mistake:
        raise
    except DivergedError as error:
        raise Mistake("the run diverged", shows=shows, why=str(error).split(". ")[0]) from None
    except Exception as error:  # a length of 64.5, say, is found where it is used
        raise Mistake("the recipe cannot be run", shows=shows, why=said_by(error)) from None
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


def _check_rules(config: object, shows: str) -> None:
    """The rules of the race, that can be checked before it."""
    if not isinstance(config, TrainConfig):
        why = f"{type(config).__name__} came. Return llama3lib.train.TrainConfig(...)."
        raise Mistake("recipe: a TrainConfig is needed", shows=shows, why=why)
    if config.model.vocab_size != 256:
        why = f"vocab_size={config.model.vocab_size}; the data are bytes, of which there are 256."
        raise Mistake("wrong vocabulary", shows=shows, why=why)
    if set(config.data) != {"general"}:
        why = "Only 'general' is there."
        raise Mistake("other data", shows=repr(sorted(config.data)), why=why)
    if config.device not in ("cpu", "auto"):
        raise Mistake("wrong device", shows=repr(config.device), why="The race is on the CPU.")
    if any(phase.gate for phase in config.phases):
        raise Mistake("a phase has a gate", shows=shows, why="Here no gate is asked.")
    if (spent := cost(config)) > BUDGET:
        why = f"It needs {spent:.3g} FLOPs, {spent / BUDGET - 1:.1%} more than there are."
        raise Mistake("over the budget", shows=shows, why=why)
    if config.total_steps > STEPS_AT_MOST:
        why = f"{config.total_steps} steps; {STEPS_AT_MOST} at most, so that the check ends soon."
        raise Mistake("too many steps", shows=shows, why=why)
