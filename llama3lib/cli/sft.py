"""`llama3 sft`: tell what is in the data and what it costs, fine-tune, hand over a folder."""

import contextlib
import shlex
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

if TYPE_CHECKING:
    from llama3lib.posttrain.collate import Format
    from llama3lib.posttrain.sft import SftConfig
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

    def run(self) -> int:
        """Do it; returns the exit code."""
        from llama3lib.cli.ranks import as_rank, start_ranks, under_torchrun, words_of
        from llama3lib.utils.require import at_least, require

        require(self.out or self.dry_run, "RUN", self.out, "a folder, or --dry-run")
        at_least("restarts", self.restarts, 0)
        config = self._config()
        ranks = config.mesh.dims.world
        if ranks == 1 or under_torchrun() or self.dry_run:
            return as_rank(lambda: self._run(config))
        return start_ranks("llama3lib.cli.main", self._words(words_of(self)), ranks, self.restarts)

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

    def _words(self, words: list[str]) -> list[str]:
        """The command line again; places come first, in their order."""
        named = [word for word in words if word not in (self.path, self.data, self.out)]
        return ["sft", self.path, self.data, str(self.out), *named]

    def _run(self, config: "SftConfig") -> int:
        """As the only rank, or as one of several."""
        from llama3lib.checkpoint import load_args, load_tokenizer
        from llama3lib.cli.ranks import join
        from llama3lib.posttrain.sft import prepare
        from llama3lib.tokenizer import chat_format_of

        rank = join(config.mesh, config.device)
        args, chat = load_args(self.path), chat_format_of(load_tokenizer(self.path))
        length = config.window(args)
        print(f"fine-tuning {self.path} on {self.data}")
        if not self.dry_run:
            return self._in_folder(config, chat, args, rank)
        data = prepare(self.data, chat, length, config)
        print("\n".join(data.lines()))
        folder = Path(self.out or ".")
        _tell_plan(_recipe(self.path, config, args, folder / "data", data.windows(length)))
        return 0

    def _in_folder(self, config: "SftConfig", chat: "Format", args: Any, rank: int) -> int:
        from llama3lib.checkpoint.ranks import Ranks
        from llama3lib.data.packing import window_count
        from llama3lib.posttrain.sft import DIALOGS, open_shards, prepare, write_shards
        from llama3lib.train import DivergedError, StoppedError
        from llama3lib.train.interrupt import terminated_in_order
        from llama3lib.train.plan import check_hardware
        from llama3lib.train.prepare import check_run_folder
        from llama3lib.utils.locks import alone_in

        folder, trainer, ranks = Path(str(self.out)), None, Ranks()
        length = config.window(args)

        def write() -> dict[str, Any]:
            data = prepare(self.data, chat, length, config)
            print("\n".join(data.lines()))
            write_shards(data, folder / "data", chat)
            return {"rows": data.rows.rows, "unused_rows": data.rows.reasons} | {
                "cut_dialogs": data.cut.cut + data.cut_held_out.cut,
                "dropped_dialogs": len(data.cut.dropped) + len(data.cut_held_out.dropped),
            }

        ranks.first(lambda: check_run_folder(folder))
        with contextlib.ExitStack() as stack, terminated_in_order():
            ranks.first(lambda: stack.enter_context(alone_in(folder, "RUN")) and None)
            try:
                told = ranks.first(write)
                shards = open_shards(folder / "data")
                windows = window_count(shards[DIALOGS], length)
                recipe = _recipe(self.path, config, args, folder / "data", windows)
                plan = _tell_plan(recipe, measure=rank == 0)
                check_hardware(recipe, plan)
                trainer = self._trainer(recipe, shards, folder)
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

    def _trainer(self, recipe: "TrainConfig", shards: dict[str, Any], folder: Path) -> "Trainer":
        from llama3lib.checkpoint import load_model
        from llama3lib.posttrain.sft import make_evaluation
        from llama3lib.train import Trainer

        evaluate = make_evaluation(shards, recipe.phases[0].length)
        model = load_model(self.path, dtype="float32")
        trainer = Trainer(recipe, shards, folder, evaluate=evaluate, model=model)
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
        export(trainer.folder, out, overwrite=True, tokenizer=tokenizer, notes=notes)
        print(f"written: {out}; talk with it: {shlex.join(['llama3', 'chat', str(out)])}")


def before_and_after(folder: Path) -> str:
    """The first and the last held-out loss of a run; "" without one."""
    from llama3lib.train.metrics import read_metrics

    losses = [row["held_out_loss"] for row in read_metrics(folder) if "held_out_loss" in row]
    if not losses:
        return ""
    return f"held-out loss {losses[0]:.3f} before, {losses[-1]:.3f} after, in nats a learned token"


def _recipe(path: str, config: "SftConfig", args: Any, folder: Path, windows: int) -> "TrainConfig":
    from llama3lib.posttrain.sft import make_recipe
    from llama3lib.train.mesh import check_mesh

    recipe = make_recipe(config, args, path, folder, windows)
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
