"""`llama3 train`: tell the plan and what the sources hold, train, hand over."""

import contextlib
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, UseAppendAction, arg

from llama3lib.cli.progress import Progress, watch_texts

if TYPE_CHECKING:
    from llama3lib.data.tokens import TokenShard
    from llama3lib.eval import GateReport
    from llama3lib.model import Transformer
    from llama3lib.tokenizer import Tokenizer
    from llama3lib.train import TrainConfig, Trainer, TrainResult
    from llama3lib.train.plan import Plan
    from llama3lib.train.sources import Stock

Tell = Callable[[str, "Stock"], None]
_DEPTHS = (0.0, 0.5, 1.0)


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train a model by a recipe. The plan is told first; an interrupted run goes on."""

    recipe: Annotated[Positional[str], arg(metavar="RECIPE")]
    """A recipe file (TOML), or tiny-cpu, small-cpu, 125m-gpu, 1b-gpu, 8b-multi."""
    out: Annotated[Positional[str | None], arg(metavar="RUN")] = None
    """Folder of the run, new or interrupted; none shows RECIPE."""
    set: UseAppendAction[tuple[str, ...]] = ()
    """Change a setting, as in optimizer.peak=1e-3 or data.text.documents=FOLDER; may be given
    often."""
    on_spike: Literal["tell", "rollback"] | None = None
    """When the loss jumps or is no number: only tell, or go back to the last checkpoint and leave
    out the batches since then; as RECIPE says if left out."""
    mesh: str | None = None
    """Ranks that train together, as in dp=2,tp=2; starts them here, unless torchrun has. Also cp,
    pp, dp_replicate, virtual, run, schedule, context, timeout; as RECIPE says if left out."""
    restarts: int = 0
    """How often all ranks start again from the last checkpoint after one was lost."""
    dry_run: bool = False
    """Only tell the plan and look through all sources: size, steps, time, memory, loss, epochs."""
    tensorboard: bool = False
    """Log to RUN/tensorboard too."""

    def run(self) -> int:
        """Do it; returns the exit code."""
        from llama3lib.cli.ranks import as_rank, start_ranks, under_torchrun
        from llama3lib.train.config import load_config, recipe_path
        from llama3lib.train.mesh import check_mesh, mesh_changes
        from llama3lib.train.plan import check_hardware, make_plan
        from llama3lib.utils.require import at_least

        if self.out is None and not self.dry_run:
            load_config(self.recipe)  # what is shown is right
            print(recipe_path(self.recipe).read_text(encoding="utf-8"), end="")
            return 0
        at_least("restarts", self.restarts, 0)
        spike = () if self.on_spike is None else (f"on_spike={self.on_spike}",)
        mesh = () if self.mesh is None else mesh_changes(self.mesh)
        config = load_config(self.recipe, (*self.set, *spike, *mesh))
        check_mesh(config)
        ranks = config.mesh.dims.world
        if ranks == 1 or under_torchrun() or self.dry_run:
            return as_rank(lambda: self._run(config))
        check_hardware(config, make_plan(config, measure=False))
        return start_ranks("llama3lib.train", self._words(), ranks, self.restarts)

    def _run(self, config: "TrainConfig") -> int:
        """As the only rank, or as one of those that torchrun has started."""
        from llama3lib.cli.ranks import join
        from llama3lib.train.metrics import check_tensorboard
        from llama3lib.train.plan import check_hardware, make_plan
        from llama3lib.train.survey import survey

        rank = join(config.mesh, config.device)
        if self.tensorboard:
            check_tensorboard()
        plan = make_plan(config, measure=rank == 0)
        print(f"{config.title} ({self.recipe})")
        print("\n".join(plan.lines()))
        if line := expected(config):
            print(line)
        tell = _teller(config)
        if self.dry_run:
            survey(config, Path(self.out or "."), watch=watch_texts, on_source=tell)
            return 0
        check_hardware(config, plan)
        return self._in_folder(config, plan, tell)

    def _in_folder(self, config: "TrainConfig", plan: "Plan", tell: Tell) -> int:
        """Train in RUN, alone there, until the end or until somebody stops it."""
        from llama3lib.checkpoint.ranks import Ranks
        from llama3lib.train import DivergedError, StoppedError
        from llama3lib.train.interrupt import terminated_in_order
        from llama3lib.train.prepare import check_run_folder
        from llama3lib.train.sources import open_sources
        from llama3lib.utils.locks import alone_in

        folder, trainer, ranks = Path(self.out), None, Ranks()
        ranks.first(lambda: check_run_folder(folder))
        with contextlib.ExitStack() as stack, terminated_in_order():
            ranks.first(lambda: stack.enter_context(alone_in(folder, "RUN")))
            try:
                sources: list[dict] = []
                data = folder / "data"
                ranks.first(
                    lambda: sources.append(
                        open_sources(config, data, watch=watch_texts, on_source=tell)
                    )
                )
                if ranks.rank > 0:  # after rank 0 has made what was missing
                    sources.append(open_sources(config, data))
                trainer = self._trainer(config, folder, sources[0])
                if result := fit_and_tell(trainer, plan.steps):
                    _hand_over(trainer, result.averaged)
            except KeyboardInterrupt:
                self._tell_stop(trainer)
                return 130
            except (DivergedError, StoppedError) as error:
                if ranks.rank == 0:
                    print(f"llama3: {error}", file=sys.stderr)
                return 1
        return 0

    def _trainer(
        self, config: "TrainConfig", folder: Path, sources: dict[str, "TokenShard"]
    ) -> "Trainer":
        from llama3lib.eval import held_out_loss
        from llama3lib.train.gates import make_evaluation, make_gate
        from llama3lib.train.trainer import Trainer

        evaluate = make_evaluation(
            config,
            sources,
            lambda model, text, length, n: held_out_loss(model, text, length, windows=n).mean,
        )
        gate = None
        if any(phase.gate for phase in config.phases):
            gate = make_gate(config, sources, folder, evaluate, _judge)
        return Trainer(
            config, sources, folder, gate=gate, evaluate=evaluate, tensorboard=self.tensorboard
        )

    def _tell_stop(self, trainer: "Trainer | None") -> None:
        """What there is now, and the line that goes on."""
        step = None if trainer is None else trainer.saved_step()
        kept = "no step was made" if step is None else f"saved after step {step:,}"
        words = shlex.join(["llama3", "train", *self._words()])
        print(f"stopped; {kept}. This line goes on from there:\n{words}")

    def _words(self) -> list[str]:
        """The options of this run."""
        words = [self.recipe, str(self.out)]
        words += [word for change in self.set for word in ("--set", change)]
        words += [] if self.on_spike is None else ["--on-spike", self.on_spike]
        words += [] if self.mesh is None else ["--mesh", self.mesh]
        words += ["--restarts", str(self.restarts)] if self.restarts else []
        return words + (["--tensorboard"] if self.tensorboard else [])


def _teller(config: "TrainConfig") -> Tell:
    from llama3lib.train.survey import source_lines

    return lambda name, stock: print(*source_lines(config, name, stock), sep="\n", flush=True)


def _judge(
    model: "Transformer",
    tokenizer: "Tokenizer",
    texts: Sequence[str],
    length: int,
    loss: float,
    before: float,
) -> "GateReport":
    from llama3lib.eval import LongContextGate, city_needle, needle_grid

    needles = [city_needle(seed) for seed in range(3)]
    grid = needle_grid(model, tokenizer, texts, needles, lengths=[length], depths=_DEPTHS)
    return LongContextGate(reference_loss=before).check(loss, grid, length)


def fit_and_tell(trainer: "Trainer", steps: int) -> "TrainResult | None":
    """Train to the end and tell how far it is; None on other ranks than 0, which are silent."""
    if trainer.ranks.rank > 0:
        trainer.fit()
        return None
    begun = trainer.state.place.step
    if begun:
        print(f"goes on after step {begun:,}")
    with Progress("step", steps, begun) as progress:

        def on_step(record: dict[str, Any]) -> None:
            loss, speed = f"loss {record['loss']:.3f}", f"{record['tokens_per_s']:,.0f} tokens/s"
            words = (record["phase"], loss, *_held_out(trainer), speed)
            evaluated = trainer.evaluated_at == record["step"]
            progress.reach(record["step"], *words, now=evaluated)

        result = trainer.fit(on_step)
    ends = f"{result.steps:,} steps", f"{result.tokens:,} tokens", f"last loss {result.loss:.3f}"
    print(", ".join([*ends, *_held_out(trainer)]))
    print(f"loss spikes: {result.spikes}")
    return result


def _held_out(trainer: "Trainer") -> list[str]:
    """The last held-out loss, if there is one."""
    loss, step = trainer.evaluation.get("held_out_loss"), trainer.evaluated_at
    return [] if loss is None else [f"held-out loss {loss:.3f} (step {step:,})"]


def _hand_over(trainer: "Trainer", averaged: Iterable[str]) -> None:
    """Hold the curve against its reference, and write the folders that others open."""
    from llama3lib.train.export import export

    folder = trainer.folder
    if line := against_reference(trainer.config, folder):
        print(line)
    export(folder, folder / "model", overwrite=True)
    for phase in averaged:
        export(folder, folder / f"averaged-{phase}", phase=phase, overwrite=True)


def expected(config: "TrainConfig") -> str:
    """The last loss that the recipe gave on other seeds; "" if nobody has measured it."""
    from llama3lib.train.reference_curves import reference_curve_of

    curve = reference_curve_of(config)
    if curve is None:
        return ""
    return (
        f"last loss   {curve.mean[-1]:.3f} ({curve.low[-1]:.3f} to {curve.high[-1]:.3f} "
        f"on {len(curve.seeds)} seeds)"
    )


def against_reference(config: "TrainConfig", folder: Path) -> str:
    """How a finished run compares with its reference band; "" without one."""
    from llama3lib.train.metrics import read_metrics
    from llama3lib.train.reference_curves import reference_curve_of

    curve = reference_curve_of(config)
    if curve is None:
        return ""
    losses = [row["loss"] for row in read_metrics(folder) if "loss" in row]
    if len(losses) < curve.steps[0]:
        return ""
    found = curve.compare(losses)
    return f"{found.share:.0%} of the curve is inside the reference band"
