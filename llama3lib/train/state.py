"""What a run has to remember besides its weights, and how it goes into a checkpoint and back."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llama3lib.parallel import ParallelModel
from llama3lib.train.config import TrainConfig
from llama3lib.train.schedule import Place

_FREE = ("steps", "most_steps", "gate", "gate_every", "average_every")  # while a phase goes on


@dataclass
class RunState:
    """Where a run stands; all of it numbers and names."""

    place: Place = field(default_factory=Place)
    tokens: int = 0
    spikes: int = 0
    rollbacks: int = 0
    skipped: int = 0
    """Batches left out by them."""
    loss: float = float("nan")
    rate: float = 0.0
    """Learning rate of the last step."""
    losses: list[float] = field(default_factory=list)
    """The last ones, by which a spike is told."""
    drawn: dict[str, dict[str, int]] = field(default_factory=dict)
    """By length, windows of each source used up in the phases before this one."""
    data: dict[str, str] = field(default_factory=dict)
    """SHA-256 of the tokens of each source that was read from."""
    tokenizer: str | None = None
    """Digest of the tokenizer that made those tokens, if it is known."""
    kept: dict[str, list[int]] = field(default_factory=dict)
    """By phase, the steps whose weights were kept for its average."""
    loader: dict[str, Any] | None = None
    """State of this phase's loader when the checkpoint was written; None between phases."""

    def to_meta(self, config: TrainConfig) -> dict[str, Any]:
        """For the checkpoint, with the recipe that it belongs to."""
        return {"config": config.describe(), "state": asdict(self)}

    @classmethod
    def from_meta(cls, meta: Mapping[str, Any], config: TrainConfig) -> "RunState":
        """The state in a checkpoint.

        Raises ValueError if the recipe is another one than the run was begun with.
        """
        fields = dict(meta["state"])
        place = Place(**fields.pop("place"))
        _must_fit(meta["config"], config.describe(), place.phase)
        if (
            place.phase < len(config.phases)
            and place.phase_step > config.phases[place.phase].last_step
        ):
            least = config.phases[place.phase].last_step
            raise ValueError(
                f"phases.{place.phase}.steps={least} is not allowed: "
                f"{place.phase_step} have been done already"
            )
        return cls(place=place, **fields)


def _must_fit(old: Mapping[str, Any], new: Mapping[str, Any], phase: int) -> None:
    """What has been computed with must not change: the same steps would have other results."""
    for name in ("model", "seed", "optimizer", "precision", "document_mask"):
        _same(name, old[name], new[name])
    # its folder may have moved: what is in it shows in the tokens, which are compared too
    _same("tokenizer", *(Path(recipe["tokenizer"]).name for recipe in (old, new)))
    if len(new["phases"]) < phase:
        count = len(new["phases"])
        raise ValueError(f"phases has {count}, which is not allowed: the run has finished {phase}")
    for number, past in enumerate(old["phases"][: phase + 1]):
        if number >= len(new["phases"]):
            break
        now = new["phases"][number]
        free = _FREE if number == phase else ()
        keep = {key: value for key, value in past.items() if key not in free}
        _same(f"phases.{number}", keep, {key: now[key] for key in keep})
    cosine = any(p["rate"] == "schedule" for p in old["phases"][: phase + 1])
    if cosine and old["optimizer"]["decay_steps"] is None:
        totals = [sum(p["steps"] for p in recipe["phases"]) for recipe in (old, new)]
        if totals[0] != totals[1]:
            raise ValueError(
                f"the run was begun with a cosine over {totals[0]} steps, the recipe has "
                f"{totals[1]}: set optimizer.decay_steps"
            )


def _same(where: str, old: Any, new: Any) -> None:
    """Settings, or tables of them; those that the old recipe could not have yet are new."""
    if isinstance(old, Mapping) and isinstance(new, Mapping) and where.split(".")[-1] != "mix":
        for key in old:
            _same(f"{where}.{key}", old[key], new.get(key))
    elif old != new:
        raise ValueError(f"{where}={new!r} is not allowed: the run was begun with {old!r}")


def training_tensors(model: ParallelModel, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Weights and both moments of AdamW by the weights' names, for a checkpoint to keep or fill.

    AdamW makes its moments at its first step; they are made here, as zeros, if it has not yet.
    """
    names = {parameter: name for name, parameter in model.named_parameters()}
    moments: dict[str, dict[str, Tensor]] = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            state = optimizer.state[parameter]
            if not state:
                state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
                state["exp_avg"] = torch.zeros_like(parameter)
                state["exp_avg_sq"] = torch.zeros_like(parameter)
            moments[names[parameter]] = dict(state)
    return {"model": model_tensors(model), "optimizer": moments}


def model_tensors(model: ParallelModel) -> dict[str, Tensor]:
    """The weights by name; a tied matrix once."""
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def config_of(meta: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe in a checkpoint's notes, as a table; empty settings are left out."""
    return _without_none(meta["config"])


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_none(part) for key, part in value.items() if part is not None}
    return [_without_none(part) for part in value] if isinstance(value, list) else value
