"""`llama3 sft`: tell what is in the data and what it costs, fine-tune, hand over a folder."""

import contextlib
import shlex
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from tyro.conf import Positional, arg

if TYPE_CHECKING:
    from llama3lib.posttrain.collate import Format
    from llama3lib.posttrain.sft import SftConfig, SftData
    from llama3lib.train import TrainConfig, Trainer

MODEL = "model"
"""Folder of the result, in that of the run."""


@dataclass(frozen=True, kw_only=True)
class Sft:
    """Fine-tune a model on dialogs. What is in them is told first; an interrupted run goes on."""

    path: Annotated[Positional[str], arg(metavar="MODEL")]
    """A checkpoint folder (Hugging Face or Meta layout), or a bundled name such as tiny-skills."""
    data: Annotated[Positional[str], arg(metavar="DATA")]
    """JSON lines or a JSON array, .gz too, or a folder of them: messages; prompt and completion;
    or instruction, input and output."""
    out: Annotated[Positional[str | None], arg(metavar="RUN")] = None
    """Folder of the run, new or interrupted; the result is in RUN/model."""
    dry_run: bool = False
    """Only tell rows, tokens, what is cut or dropped and why, steps, time and memory."""
    lr: float = 1e-5
    """Highest learning rate: the paper's for its largest models. A million weights need 1e-3."""
    epochs: float = 2.0
    """How often each dialog is read."""
    steps: int | None = None
    """Steps, instead of epochs."""
    batch_size: int = 16
    """Windows a step; each holds as many whole dialogs as it has room for."""
    length: int | None = None
    """Tokens a window; the model's context if left out, 2,048 at most. Longer dialogs are cut."""
    held_out: float = 0.1
    """Share of the dialogs that is only measured on."""
    most_bad: float = 0.05
    """Largest share of rows that may be unusable; beyond it nothing is trained."""
    weight_decay: float = 0.0
    """Of AdamW, on matrices."""
    lora: int | None = None
    """Train adapters of this rank beside frozen matrices; RUN/model has them merged in."""
    seed: int = 0
    """Of the order of the data and of the held-out share."""
    device: str = "auto"
    """Where to train: cpu, cuda; auto takes the fastest there is."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the arithmetic; weights are float32 always."""
    micro_batch: int | None = None
    """Windows that go through the model at once; fewer need less memory."""
    checkpointing: bool = False
    """Keep fewer activations and compute them again: less memory, a third more work."""
    save_every: int = 200
    """Steps between checkpoints."""
    evaluate_every: int = 50
    """Steps between held-out losses."""
    mesh: str | None = None
    """Ranks that train together, as in dp=2,tp=2; starts them here, unless torchrun has."""
    restarts: int = 0
    """How often all ranks start again from the last checkpoint after one was lost."""
    name: ClassVar[str] = "sft"
    doing: ClassVar[str] = "fine-tuning"

    def run(self) -> int:
        """Do it; returns the exit code."""
        from llama3lib.cli.ranks import as_rank, start_ranks, under_torchrun
        from llama3lib.utils.require import at_least, require

        require(self.out or self.dry_run, "RUN", self.out, "a folder, or --dry-run")
        at_least("restarts", self.restarts, 0)
        config = self._config()
        ranks = config.mesh.dims.world
        if ranks == 1 or under_torchrun() or self.dry_run:
            return as_rank(lambda: self._run(config))
        return start_ranks("llama3lib.cli.main", self._words(), ranks, self.restarts)

    def _config(self) -> "SftConfig":
        from llama3lib.posttrain.sft import SftConfig
        from llama3lib.train.mesh import MeshConfig, mesh_changes
        from llama3lib.utils.settings import build, with_overrides

        mesh = MeshConfig()
        if self.mesh is not None:
            table = with_overrides({"mesh": {}}, mesh_changes(self.mesh))["mesh"]
            mesh = build(MeshConfig, table, "mesh")
        names = {f.name for f in fields(SftConfig)} - {"mesh"}
        return SftConfig(mesh=mesh, **{name: getattr(self, name) for name in names})

    def _words(self) -> list[str]:
        """This command line again, for each of several ranks."""
        from llama3lib.cli.ranks import words_of

        return [self.name, *words_of(self, ("path", "data", "out"))]

    def _run(self, config: "SftConfig") -> int:
        """As the only rank, or as one of several."""
        from llama3lib.checkpoint import load_args, load_tokenizer
        from llama3lib.cli.ranks import join
        from llama3lib.tokenizer import chat_format_of

        rank = join(config.mesh, config.device)
        args, chat = load_args(self.path), chat_format_of(load_tokenizer(self.path))
        length = config.window(args)
        print(f"{self.doing} {self.path} on {self.data}")
        if not self.dry_run:
            return self._in_folder(config, chat, args, rank)
        data = self._read(chat, length, config)
        print("\n".join(data.lines()))
        folder = Path(self.out or ".")
        _tell_plan(self._recipe(config, args, folder / "data", data.windows(length)))
        return 0

    def _in_folder(self, config: "SftConfig", chat: "Format", args: Any, rank: int) -> int:
        from llama3lib.checkpoint.ranks import Ranks
        from llama3lib.data.packing import window_count
        from llama3lib.posttrain.sft import DIALOGS, open_shards
        from llama3lib.train import DivergedError, StoppedError
        from llama3lib.train.interrupt import terminated_in_order
        from llama3lib.train.plan import check_hardware
        from llama3lib.train.prepare import check_run_folder
        from llama3lib.utils.locks import alone_in

        folder, trainer, ranks = Path(str(self.out)), None, Ranks()
        length = config.window(args)

        def write() -> dict[str, Any]:
            data = self._read(chat, length, config)
            print("\n".join(data.lines()))
            self._write(data, folder / "data", chat)
            return {"files_sha256": _sums_of(self.data)} | data.account()

        ranks.first(lambda: check_run_folder(folder))
        with contextlib.ExitStack() as stack, terminated_in_order():
            ranks.first(lambda: stack.enter_context(alone_in(folder, "RUN")) and None)
            try:
                told = ranks.first(write)
                shards = open_shards(folder / "data")
                windows = window_count(shards[DIALOGS], length)
                recipe = self._recipe(config, args, folder / "data", windows)
                plan = _tell_plan(recipe, measure=rank == 0)
                check_hardware(recipe, plan)
                trainer = self._trainer(recipe, shards, folder, chat, config)
                self._train(trainer, plan.steps, chat, told)
            except KeyboardInterrupt:
                step = None if trainer is None else trainer.saved_step()
                kept = "no step was made" if step is None else f"saved after step {step:,}"
                print(f"stopped; {kept}. The same line goes on from there.")
                return 130
            except (DivergedError, StoppedError) as error:
                if rank == 0:
                    print(f"llama3: {error}", file=sys.stderr)
                return 1
        return 0

    # ---- what `llama3 reward` does in another way

    def _read(self, chat: "Format", length: int, config: "SftConfig") -> "SftData":
        from llama3lib.posttrain.sft import prepare

        return prepare(self.data, chat, length, config)

    def _write(self, data: "SftData", folder: Path, chat: "Format") -> None:
        from llama3lib.posttrain.sft import write_shards

        write_shards(data, folder, chat)

    def _recipe(self, config: "SftConfig", args: Any, folder: Path, windows: int) -> "TrainConfig":
        from llama3lib.posttrain.sft import make_recipe

        return told_recipe(make_recipe(config, args, self.path, folder, windows), config, windows)

    def _trainer(
        self,
        recipe: "TrainConfig",
        shards: dict[str, Any],
        folder: Path,
        chat: "Format",
        config: "SftConfig",
    ) -> "Trainer":
        from llama3lib.posttrain.sft import make_evaluation

        evaluate = make_evaluation(shards, recipe.phases[0].length)
        return self._begun(recipe, shards, folder, config.objective, evaluate)

    def _begun(
        self,
        recipe: "TrainConfig",
        shards: dict[str, Any],
        folder: Path,
        objective: Any,
        evaluate: Any,
    ) -> "Trainer":
        """Measured once before the first step."""
        from llama3lib.checkpoint import load_model
        from llama3lib.train import Trainer

        more = {"evaluate": evaluate, "objective": objective}
        trainer = Trainer(
            recipe, shards, folder, model=load_model(self.path, dtype="float32"), **more
        )
        if trainer.state.place.step == 0:
            trainer.measure()
            for name, value in trainer.evaluation.items():
                print(f"{name.replace('_', ' ')} before: {value:.3f}")
        return trainer

    def _train(self, trainer: "Trainer", steps: int, chat: "Format", told: dict[str, Any]) -> None:
        from llama3lib.cli.train import fit_and_tell
        from llama3lib.tokenizer.llama3_template import with_chat_template
        from llama3lib.train.export import export

        result = fit_and_tell(trainer, steps)
        if result is None:
            return
        if line := before_and_after(trainer.folder):
            print(line)
        notes = {"made_by": "llama3 sft", "kind": "chat", "from": self.path, "dialogs": told}
        out = trainer.folder / MODEL
        tokenizer = with_chat_template(chat.tokenizer)
        more = {"tokenizer": tokenizer, "notes": notes, "plain": self._config().plain}
        export(trainer.folder, out, overwrite=True, **more)
        print(f"written: {out}; talk with it: {shlex.join(['llama3', 'chat', str(out)])}")


def _sums_of(path: str) -> dict[str, str]:
    """For the provenance: which files were read."""
    from llama3lib.posttrain.rows import data_files
    from llama3lib.utils.files import sha256_file

    return {file.name: sha256_file(file) for file in data_files(path)}


def before_and_after(folder: Path) -> str:
    """The first and the last held-out loss of a run; "" without one."""
    from llama3lib.train.metrics import read_metrics

    losses = [row["held_out_loss"] for row in read_metrics(folder) if "held_out_loss" in row]
    if not losses:
        return ""
    return f"held-out loss {losses[0]:.3f} before, {losses[-1]:.3f} after, in nats a learned token"


def told_recipe(recipe: "TrainConfig", config: "SftConfig", windows: int) -> "TrainConfig":
    """The recipe, checked against its mesh, after a line on how full its windows are."""
    from llama3lib.train.mesh import check_mesh

    check_mesh(recipe)
    filled = f"{windows:,} windows of {recipe.phases[0].length:,} tokens"
    epochs = recipe.total_steps * config.batch_size / windows
    print(f"{'packed':12}{filled}, {epochs:.2f} epochs at a rate of up to {config.lr:g}")
    return recipe


def _tell_plan(recipe: "TrainConfig", measure: bool = True) -> Any:
    """The plan without the loss of a model that knows nothing, for this one knows something."""
    from llama3lib.train.plan import make_plan

    plan = make_plan(recipe, measure=measure)
    print("\n".join(line for line in plan.lines() if not line.startswith("first loss")))
    return plan
