"""What a training run is made of, as a typed recipe: model, data, optimizer and phases.

A recipe is a TOML file. Everything in it is checked before anything is computed; a mistyped name
is refused together with the nearest one that exists.
"""

import copy
import dataclasses
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from llama3lib.model import ModelArgs, get_preset
from llama3lib.train.mesh import MeshConfig
from llama3lib.utils.require import at_least, between, positive, require
from llama3lib.utils.settings import build, read_toml, refuse_unknown, with_overrides

ASSETS = Path(__file__).parent.parent / "assets"
RECIPES = ASSETS / "recipes"
Rate = Literal["schedule", "constant", "anneal"]
HELD_OUT = "held-out"
"""What the held-out text is called among the sources."""
KINDS = ("shard", "documents", "stories")
"""Where a source may come from."""


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """Where documents come from: exactly one of `shard`, `documents` and `stories`."""

    shard: str | None = None
    """Folder of tokens written by `write_token_shard` or `llama3 data --tokenizer`."""
    documents: str | None = None
    """File or folder that `read_documents` reads, such as the output of `llama3 data`."""
    stories: int | None = None
    """So many small stories of our own grammar."""
    seed: int = 0
    """Of the stories."""
    most_left_out: float = 0.05
    """Largest share of the rows of `documents` that may hold no text, and of files that break off.
    Beyond it the run is refused; below it, what is left out is told."""

    def __post_init__(self) -> None:
        given = [n for n in KINDS if getattr(self, n) is not None]
        if len(given) != 1:
            raise ValueError(f"{given} are given: exactly one of {', '.join(KINDS)}")
        require("" not in (self.shard, self.documents), given[0], "", "a file or a folder")
        require(self.stories is None or self.stories >= 1, "stories", self.stories, "1 or more")
        between("most_left_out", self.most_left_out, 0, 1)


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW and its learning rate (paper section 3.4.1).

    The paper gives neither betas nor decay nor clipping; the defaults are common values (ours).
    """

    peak: float = 3e-3
    """Highest learning rate; 8e-5 for the 405B."""
    warmup: int = 100
    """Steps of linear warm-up; 8,000 for the 405B."""
    decay_steps: int | None = None
    """Step at which the cosine has reached `minimum`; all steps of the run if left out."""
    minimum: float = 0.0
    """Where the cosine ends; 8e-7 for the 405B."""
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    weight_decay: float = 0.1
    clip: float = 1.0
    """Largest norm of the whole gradient."""

    def __post_init__(self) -> None:
        for name in ("peak", "eps", "clip"):
            require(getattr(self, name) > 0, name, getattr(self, name), "above 0")
        for name in ("peak", "eps", "weight_decay"):  # clip may be infinite: never clip
            finite = math.isfinite(getattr(self, name))
            require(finite, name, getattr(self, name), "a finite number")
        for name in ("warmup", "minimum", "weight_decay"):
            at_least(name, getattr(self, name), 0)
        require(self.minimum <= self.peak, "minimum", self.minimum, f"at most peak={self.peak}")
        require(all(0 <= b < 1 for b in self.betas), "betas", self.betas, "0 or more, below 1")
        if self.decay_steps is not None:
            later = self.decay_steps > self.warmup
            require(later, "decay_steps", self.decay_steps, f"above warmup={self.warmup}")


@dataclass(frozen=True, kw_only=True)
class Phase:
    """Steps with the same batch size, length and mix.

    The batch ramp, a change of the mix, each stage of the long context and the annealing are all
    phases (paper sections 3.4.1 to 3.4.3).
    """

    name: str
    steps: int
    batch_size: int
    """Sequences a step."""
    length: int
    """Tokens a sequence."""
    mix: dict[str, float] | None = None
    """Share of each source; as in the phase before if left out, all equal in the first."""
    rate: Rate = "schedule"
    """`schedule`: warm-up and cosine over the whole run; `constant`: the rate the phase begins
    with; `anneal`: from that rate linearly to 0 (section 3.4.3)."""
    rope_theta: float | None = None
    """Base of the rotary positions from this phase on."""
    gate: bool = False
    """Go on to the next phase only when the gate lets through: section 3.4.2."""
    gate_every: int = 50
    most_steps: int | None = None
    """A phase with a gate gives up after so many steps; four times `steps` if left out."""
    average_every: int = 0
    """Average the weights of every so many steps of this phase (section 3.4.3); 0: never."""

    def __post_init__(self) -> None:
        require(_is_plain(self.name), "name", self.name, "letters, digits, - and _")
        for name in ("steps", "batch_size", "length", "gate_every"):
            at_least(name, getattr(self, name), 1)
        few = 0 <= self.average_every <= self.steps
        require(few, "average_every", self.average_every, f"0 to steps={self.steps}")
        if self.rope_theta is not None:
            positive("rope_theta", self.rope_theta)
        if self.gate and self.rate == "anneal":
            raise ValueError("gate=True is not allowed with rate='anneal': its end must be known")
        if self.most_steps is not None:
            require(self.most_steps >= self.steps, "most_steps", self.most_steps, "not below steps")
        if self.mix is not None:
            good = all(0 <= share < float("inf") for share in self.mix.values())
            require(good and any(self.mix.values()), "mix", self.mix, "0 or more, one above 0")

    @property
    def tokens(self) -> int:
        """Tokens of the phase, in its least steps."""
        return self.steps * self.batch_size * self.length

    @property
    def last_step(self) -> int:
        """Steps after which the phase is over, whatever its gate says."""
        return self.steps if not self.gate else self.most_steps or 4 * self.steps


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A whole run."""

    model: ModelArgs
    data: dict[str, SourceConfig]
    phases: tuple[Phase, ...]
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    title: str = "Training"
    tokenizer: str = "bytes"
    """`bytes`, `llama3`, a tokenizer file, a folder that holds one, or a bundled name."""
    held_out: SourceConfig | None = None
    """Text to measure on; never trained on."""
    seed: int = 0
    device: str = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the arithmetic; weights, gradients and moments are float32 always."""
    compile: bool = False
    checkpointing: bool = False
    """Keep only each block's input and compute the rest again: less memory, a third more work."""
    document_mask: bool = True
    """Documents in one sequence do not see each other (section 3.2); False only to see why."""
    micro_batch: int | None = None
    """Sequences that go through the model at once; the whole batch if left out."""
    save_every: int = 500
    keep_last: int = 3
    on_spike: Literal["tell", "rollback"] = "tell"
    """When the loss jumps or is no number: only tell; or go back to the last checkpoint and leave
    out the batches since then. The paper reports few spikes and no intervention (section 3.4.1)."""
    evaluate_every: int = 200
    gate_reference: float | None = None
    """Held-out loss, in nats a token, that a gate takes as recovered."""
    mesh: MeshConfig = field(default_factory=MeshConfig)
    """The ranks that train together."""
    gpus: int = 0
    """GPUs that the recipe is made for; 0: any device will do."""
    reference: str | None = None
    """Name of the stored loss band to compare with."""

    def __post_init__(self) -> None:
        require(bool(self.data), "data", {}, "one source at least")
        require(bool(self.phases), "phases", (), "one phase at least")
        for name in ("save_every", "keep_last", "evaluate_every"):
            at_least(name, getattr(self, name), 1)
        if self.micro_batch is not None:
            at_least("micro_batch", self.micro_batch, 1)
        require(0 <= self.seed < 1 << 63, "seed", self.seed, "0 to 2^63 - 1")
        names = [phase.name for phase in self.phases]
        if len(set(names)) < len(names):
            raise ValueError(f"phases {names} are not allowed: each name once")
        for name in self.data:  # each is the name of a folder as well
            plain = _is_plain(name) and name != HELD_OUT
            require(plain, "data", name, f"names of letters, digits, - and _, but not {HELD_OUT}")
        for phase in self.phases:
            refuse_unknown(f"phases.{phase.name}.mix", phase.mix or (), tuple(self.data))
        ends = self.optimizer.decay_steps or self.total_steps
        require(
            ends > self.optimizer.warmup,
            "optimizer.warmup",
            self.optimizer.warmup,
            f"below the {ends} steps of the schedule",
        )

    @property
    def total_steps(self) -> int:
        """Steps of all phases, each in its least number."""
        return sum(phase.steps for phase in self.phases)

    @property
    def total_tokens(self) -> int:
        """Tokens of all phases, each in its least number of steps."""
        return sum(phase.tokens for phase in self.phases)

    def mix_of(self, number: int) -> dict[str, float]:
        """Shares of the sources in phase `number`: its own, or the latest before it."""
        for phase in reversed(self.phases[: number + 1]):
            if phase.mix is not None:
                return {name: phase.mix.get(name, 0.0) for name in self.data}
        return dict.fromkeys(self.data, 1.0)

    def tokens_from(self, name: str) -> float:
        """Tokens of a source that all phases read."""
        total = 0.0
        for number, phase in enumerate(self.phases):
            mix = self.mix_of(number)
            total += phase.tokens * mix[name] / sum(mix.values())
        return total

    def describe(self) -> dict[str, Any]:
        """All settings, for JSON."""
        return json.loads(json.dumps(dataclasses.asdict(self)))


def _is_plain(name: str) -> bool:
    return bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name))


def recipe_names() -> list[str]:
    """The recipes that come along."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def recipe_path(name: str) -> Path:
    """The file of a recipe: a path, or the name of one that comes along.

    Raises ValueError if there is none.
    """
    path = Path(name)
    if path.is_file():
        return path
    require(not path.suffix and path.name == name, "recipe", name, "there is no such file")
    refuse_unknown("recipe", [name], recipe_names())
    return RECIPES / f"{name}.toml"


def load_config(name: str, changes: Sequence[str] = ()) -> TrainConfig:
    """Read a recipe; `changes` such as `optimizer.peak=1e-3` override it.

    Paths in it are relative to its folder, paths in a change to the one we are in. A change that
    says where a source comes from, such as `data.text.documents=FOLDER`, takes the place of what
    the recipe says, of whatever kind.

    Raises ValueError naming the setting that is wrong.
    """
    path = recipe_path(name)
    table = _anchored(read_toml(path, "recipe"), path.parent)
    table = with_overrides(_making_way(table, changes), changes)
    return make_config(_anchored(table, Path()))


def _anchored(table: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A recipe whose paths hold wherever it is read: those of sources, and that of a tokenizer
    that is there (other names of tokenizers are no paths)."""
    table = copy.deepcopy(dict(table))
    data = table.get("data")
    for source in (*(data.values() if isinstance(data, dict) else ()), table.get("held_out")):
        for kind in ("shard", "documents"):
            if isinstance(source, dict) and isinstance(source.get(kind), str) and source[kind]:
                source[kind] = os.path.abspath(folder / os.path.expanduser(source[kind]))
    tokenizer = table.get("tokenizer")
    if isinstance(tokenizer, str) and tokenizer and (folder / tokenizer).exists():
        table["tokenizer"] = os.path.abspath(folder / tokenizer)
    return table


def _making_way(table: dict[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """Without what a recipe says of a source where a change says where that comes from."""
    for change in changes:
        *where, kind = change.partition("=")[0].strip().split(".")
        if kind in KINDS and (where == ["held_out"] or (len(where) == 2 and where[0] == "data")):
            source: Any = table
            for part in where:
                source = source.get(part) if isinstance(source, dict) else None
            for other in KINDS if isinstance(source, dict) else ():
                source.pop(other, None)
    return table


def make_config(table: Mapping[str, Any]) -> TrainConfig:
    """A config from the contents of a recipe.

    Raises ValueError as `load_config` does.
    """
    table = dict(table)
    model = table.get("model")
    if isinstance(model, Mapping) and "preset" in model:
        rest = {name: value for name, value in model.items() if name != "preset"}
        names = tuple(f.name for f in dataclasses.fields(ModelArgs))
        refuse_unknown("recipe.model", rest, names)
        try:
            table["model"] = get_preset(str(model["preset"])).replace(**rest)
        except (TypeError, ValueError) as error:
            raise ValueError(f"recipe.model: {error}") from None
    return build(TrainConfig, table, "recipe")
