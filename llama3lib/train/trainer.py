"""The training loop: phases, checkpoints, logs; a killed run goes on to the same bits.

On one device, or on a mesh of them (`mesh`): then all ranks compute, and what they might see
differently rank 0 decides for all. Everything that a step depends on is a function of the recipe
and of the step, or is in the checkpoint: weights, both moments of AdamW, place in the schedule,
place in the data.
"""

import contextlib
import json
import math
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from llama3lib.checkpoint import CheckpointError, CheckpointManager, average_checkpoints
from llama3lib.checkpoint.ranks import Ranks
from llama3lib.data.loader import StatefulDataLoader
from llama3lib.data.tokens import TokenShard
from llama3lib.model import Transformer
from llama3lib.parallel import parallelize
from llama3lib.train.config import Phase, TrainConfig
from llama3lib.train.gates import Evaluate, Gate
from llama3lib.train.interrupt import StoppedError, given_up_after, stop_between_steps
from llama3lib.train.mesh import make_mesh, plan_of, precision_of, whole_model
from llama3lib.train.metrics import MetricLog, Speed, SpikeAlarm, memory_bytes, peak_flops
from llama3lib.train.objective import NEXT_TOKEN, Objective
from llama3lib.train.optim import make_adamw
from llama3lib.train.prepare import check_sources, make_loader, set_positions, starting_model
from llama3lib.train.rollback import roll_back
from llama3lib.train.schedule import rate_at
from llama3lib.train.state import RunState, model_tensors, training_tensors
from llama3lib.train.step import DivergedError, StepResult, train_step
from llama3lib.utils.device import pick_device
from llama3lib.utils.files import atomic_write
from llama3lib.utils.locks import alone_in
from llama3lib.utils.logging import get_logger
from llama3lib.utils.require import require

_log = get_logger(__name__)
OnStep = Callable[[dict[str, Any]], None]
T = TypeVar("T")


@dataclass(frozen=True)
class TrainResult:
    """How a run ended."""

    model: Transformer | None
    """With all its weights; None on other ranks than 0."""
    steps: int
    tokens: int
    loss: float
    """Of the last step."""
    spikes: int
    rollbacks: int
    averaged: dict[str, dict[str, Tensor]]
    """By phase, the mean of its checkpoints, where the recipe asks for one."""


class Trainer:
    """Runs a recipe, writing to `folder`; a folder with checkpoints is gone on with.

    While it is made and while it trains, no other process can have a trainer in that folder.
    If the recipe has a mesh, it is made and `fit` is called on all ranks together; `gate` and
    `evaluate` are asked on rank 0, with a copy of the whole model.

    sources: the tokens of each source of the recipe.
    gate: asked at the end of each phase that has one (section 3.4.2).
    evaluate: asked every `evaluate_every` steps and after each phase.
    model: weights to begin with, instead of drawn ones. objective: what is made of it and trained.
    probe: called with the name of each place where a crash would matter; for tests.

    Raises ValueError if the recipe does not fit the sources, the device or what is in the folder,
    or another process trains there; ModuleNotFoundError for `tensorboard` without that package.
    """

    def __init__(
        self,
        config: TrainConfig,
        sources: Mapping[str, TokenShard],
        folder: str | Path,
        *,
        gate: Gate | None = None,
        evaluate: Evaluate | None = None,
        model: Transformer | None = None,
        objective: Objective = NEXT_TOKEN,
        tensorboard: bool = False,
        probe: Callable[[str], None] | None = None,
    ) -> None:
        if any(phase.gate for phase in config.phases) and gate is None:
            raise ValueError("gate=None is not allowed: a phase of the recipe has a gate")
        self.config, self.sources, self.folder = config, sources, Path(folder)
        self.gate, self.evaluate = gate, evaluate
        self.evaluation: dict[str, float] = {}  # what the last one found, and when
        self.evaluated_at = -1
        self.probe = probe or (lambda place: None)
        self.device = pick_device(config.device)
        self.dtype = precision_of(config, self.device)
        mesh = make_mesh(config, self.device)
        self.objective = objective
        start = objective.adapt(starting_model(config, model).to(self.device).train())
        self.parallel = parallelize(start, mesh, plan_of(config, self.dtype))
        self.ranks, recipe = Ranks(), config.optimizer
        self.optimizer = make_adamw(
            self.parallel,
            recipe.peak,
            betas=recipe.betas,
            eps=recipe.eps,
            weight_decay=recipe.weight_decay,
        )
        self.checkpoints = CheckpointManager(
            self.folder / "checkpoints", keep_last=config.keep_last, probe=probe
        )
        self._kept: dict[str, CheckpointManager] = {}
        self._torn = False
        with self._alone():
            self._begin(tensorboard)

    @property
    def model(self) -> Transformer:
        """What this rank trains; on a mesh its share, or the first of its stages."""
        return self.parallel.parts[0]

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            self.ranks.first(lambda: stack.enter_context(alone_in(self.folder, "RUN")))
            yield

    def _begin(self, tensorboard: bool) -> None:
        """Go on with what is in the folder: state, place in the data, log."""
        config, sources = self.config, self.sources
        self.state = self.resumed()
        check_sources(config, sources, self.state)
        set_positions(self.parallel, config, self.state.place.phase)  # of a finished run too
        self.loader: StatefulDataLoader | None = None
        if not self._is_over():
            self.make_loader()
        self.alarm, self.gate_passed = SpikeAlarm(self.state.losses), False
        self.ranks.first(lambda: self._open_log(tensorboard))

    def _open_log(self, tensorboard: bool) -> None:
        """On rank 0 only, as all that goes to the log."""
        step = self.state.place.step
        self.log = MetricLog(self.folder, from_step=step, tensorboard=tensorboard)
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(self.folder / "config.json") as file:
            file.write_text(json.dumps(self.config.describe(), indent=2) + "\n", encoding="utf-8")

    # ---- the loop

    def fit(self, on_step: OnStep | None = None) -> TrainResult:
        """Train to the end of the last phase. Ctrl-C saves first; `on_step` sees each record.

        Raises DivergedError if the loss is no number, StoppedError if a gate never lets through,
        CheckpointError if a checkpoint cannot be written; the last good one stays.
        """
        if self._torn:
            raise StoppedError(
                "a step of this trainer was cut short: make a new one, it goes on from the last "
                "checkpoint"
            )
        peak = peak_flops(self.device, self.dtype) * self.ranks.size
        self.speed = Speed(self.model.args, peak)
        with self._alone():
            try:
                if not self._is_over():
                    with stop_between_steps() as stop, self._answering() as beat:
                        self._run(stop, beat, on_step)
                        self._save_and_wait()
            finally:
                if self.ranks.rank == 0:
                    self.log.flush()
        state = self.state
        averaged = {name: self.averaged(name) for name in state.kept}
        return TrainResult(
            whole_model(self.parallel, self.ranks, self.objective.adapt),
            state.place.step,
            state.tokens,
            state.loss,
            state.spikes,
            state.rollbacks,
            averaged,
        )

    def _answering(self) -> contextlib.AbstractContextManager[Callable[[], None]]:
        if self.ranks.size == 1:
            return contextlib.nullcontext(lambda: None)
        return given_up_after(self.config.mesh.timeout, self.ranks.rank)

    def _run(self, stop: threading.Event, beat: Callable[[], None], on_step: OnStep | None) -> None:
        while not self._is_over():
            phase, number = self._enter_phase(), self.state.place.phase
            while self.state.place.phase == number and not self._phase_is_over(phase):
                beat()
                record = self._step(phase)
                if on_step is not None:
                    on_step(record)
                # only here: in the midst of a step weights may be half changed
                if self.ranks.any(stop.is_set()):
                    self._save_and_wait()
                    raise KeyboardInterrupt
            if self.state.place.phase == number:  # else a rollback has led to an earlier one
                self._leave_phase(phase)

    def _is_over(self) -> bool:
        return self.state.place.phase >= len(self.config.phases)

    def _step(self, phase: Phase) -> dict[str, Any]:
        state, place = self.state, self.state.place
        rate = rate_at(self.config, place)
        self._torn = True
        self.speed.restart()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.probe("before_step")
        try:
            result = train_step(
                self.parallel,
                self.optimizer,
                self.loader.next(),
                micro_batch=self.config.micro_batch,
                clip=self.config.optimizer.clip,
                document_mask=self.config.document_mask,
                objective=self.objective,
            )
        except DivergedError as error:
            if self.config.on_spike != "rollback" or self.saved_step() is None:
                told = f"step {place.step + 1}: {error}. {self.last_good()}"
                raise DivergedError(told) from None
            result = StepResult(math.nan, math.nan, 0)
        self.probe("after_step")
        tokens = phase.batch_size * phase.length
        place.step, place.phase_step = place.step + 1, place.phase_step + 1
        state.tokens, state.loss, state.rate = state.tokens + tokens, result.loss, rate
        spike = math.isnan(result.loss) or self.alarm.is_spike(result.loss)
        state.spikes += spike
        if spike:
            _log.warning("step %d: the loss jumps to %.3f", place.step, result.loss)
        record = {"step": place.step, "phase": phase.name, "loss": result.loss, "lr": rate}
        record |= {"grad_norm": result.grad_norm, "tokens": state.tokens, "spike": spike}
        record |= self.speed.measure(tokens, phase.length)
        record["memory"] = memory_bytes(self.device)
        self.tell(**record)
        if spike and self.config.on_spike == "rollback":
            roll_back(self)
        else:
            self._after_step(phase)
        self._torn = False
        return record

    def _after_step(self, phase: Phase) -> None:
        place = self.state.place
        self.gate_passed = False
        if phase.average_every and place.phase_step % phase.average_every == 0:
            self.kept(phase.name).save(place.step, {"model": model_tensors(self.parallel)}, {})
            self.state.kept.setdefault(phase.name, []).append(place.step)
        if place.step % self.config.evaluate_every == 0:
            self.measure()
        if place.step % self.config.save_every == 0:
            self.save()

    def measure(self) -> None:
        """Evaluate now, on all ranks together; at most once a step."""
        step = self.state.place.step
        if self.evaluate is not None and self.evaluated_at != step:
            self.evaluation = self._asked(lambda model: dict(self.evaluate(model)))
            self.tell(**(self.evaluation | {"step": step}))
            self.evaluated_at = step

    def _asked(self, question: Callable[[Transformer], T]) -> T:
        """What rank 0 finds out about the whole model, on all ranks."""
        model = whole_model(self.parallel, self.ranks, self.objective.adapt)
        answer = self.ranks.first(lambda: question(model.eval()))
        self.model.train()
        return answer

    def tell(self, step: int, **values: Any) -> None:
        """Add a record to the log."""
        self._log(lambda: self.log.write(step, **values))

    def _log(self, work: Callable[[], None]) -> None:
        try:
            self.ranks.first(work)
        except OSError as error:  # a full disk
            path = self.folder / "metrics.jsonl"
            raise StoppedError(f"{path}: {error}. {self.last_good()}") from error

    # ---- phases

    def _enter_phase(self) -> Phase:
        number = self.state.place.phase
        set_positions(self.parallel, self.config, number)
        if self.loader is None:
            self.make_loader()
        return self.config.phases[number]

    def make_loader(self) -> None:
        """This rank's rows of the batches, from where the run stands."""
        share = self.parallel.dp_rank
        self.loader = make_loader(self.config, self.sources, self.state, share)

    def _phase_is_over(self, phase: Phase) -> bool:
        done = self.state.place.phase_step
        if not phase.gate or done < phase.steps:
            return done >= phase.steps
        if (done - phase.steps) % phase.gate_every == 0 or done >= phase.last_step:

            def judge(model: Transformer) -> tuple[bool, dict[str, Any]]:
                told = self.gate(model, phase)
                return bool(told.passed), asdict(told)

            self.gate_passed, report = self._asked(judge)
            verdict = {"gate": phase.name, "passed": self.gate_passed}
            self.tell(**(report | verdict | {"step": self.state.place.step}))
            if not self.gate_passed and done >= phase.last_step:
                self._save_and_wait()
                raise StoppedError(
                    f"the gate of phase {phase.name!r} did not let through in {done} steps: "
                    f"{report}. {self.last_good()}"
                )
        return self.gate_passed

    def _leave_phase(self, phase: Phase) -> None:
        """The windows used so far are remembered for a later phase of the same length."""
        self.measure()
        seen = self.state.drawn.setdefault(str(phase.length), {})
        seen |= self.loader.drawn()
        self.state.place.next_phase(self.state.rate)
        self.loader = None

    # ---- checkpoints

    def save(self) -> None:
        """Write a checkpoint of this moment, in the background.

        What it counts on is on the disk before it: a run that goes on from it will not make the
        kept weights and the lines of the log again.
        """
        for manager in self._kept.values():
            manager.wait()
        self._log(lambda: self.log.sync())
        self.state.loader = None if self.loader is None else self.loader.state_dict()
        self.state.losses = list(self.alarm.losses)
        meta = self.state.to_meta(self.config)
        self.state.loader = None
        self.checkpoints.save(
            self.state.place.step, training_tensors(self.parallel, self.optimizer), meta
        )

    def averaged(self, phase: str) -> dict[str, Tensor]:
        """The mean of the weights kept in that phase (Polyak averaging, section 3.4.3).

        Raises ValueError if none were kept.
        """
        require(phase in self.state.kept, "phase", phase, "no weights of it were kept")
        return average_checkpoints(self.kept(phase), self.state.kept[phase])

    def kept(self, phase: str) -> CheckpointManager:
        """The weights kept in a phase, for averaging."""
        if phase not in self._kept:
            folder = self.folder / "weights" / phase
            self._kept[phase] = CheckpointManager(
                folder, keep_last=1_000_000, probe=lambda place: self.probe(f"average_{place}")
            )
        return self._kept[phase]

    def _save_and_wait(self) -> None:
        self.save()
        self.checkpoints.wait()

    def resumed(self) -> RunState:
        """The state of the newest checkpoint that is whole, with the weights filled in."""
        restored = self.checkpoints.restore(training_tensors(self.parallel, self.optimizer))
        if restored is None:
            return RunState()
        for step, why in restored.skipped:
            _log.warning("the checkpoint of step %d is damaged and passed over: %s", step, why)
        _log.info("going on at step %d", restored.step)
        return RunState.from_meta(restored.meta, self.config)

    def saved_step(self) -> int | None:
        """Step of the newest checkpoint; None if there is none yet."""
        with contextlib.suppress(CheckpointError):  # one that is being written may be the last
            self.checkpoints.wait()
        return self.ranks.first(lambda: max(self.checkpoints.steps(), default=None))

    def last_good(self) -> str:
        """Words for an error: where one can go on from."""
        step, where = self.saved_step(), self.checkpoints.folder
        return "No checkpoint yet" if step is None else f"Last checkpoint: step {step} in {where}"
