"""The training loop: phases, checkpoints, logs; a killed run goes on to the same bits.

One device. Everything that a step depends on is a function of the recipe and of the step, or is in
the checkpoint: weights, both moments of AdamW, place in the schedule, place in the data.
"""

import contextlib
import json
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from llama3lib.checkpoint import CheckpointManager, average_checkpoints
from llama3lib.data.loader import StatefulDataLoader
from llama3lib.data.tokens import TokenShard
from llama3lib.model import Transformer
from llama3lib.parallel import apply_activation_checkpointing
from llama3lib.train.config import Phase, TrainConfig
from llama3lib.train.metrics import MetricLog, Speed, SpikeAlarm, memory_bytes, peak_flops
from llama3lib.train.optim import make_adamw
from llama3lib.train.schedule import rate_at
from llama3lib.train.state import RunState, model_tensors, training_tensors
from llama3lib.train.step import DivergedError, train_step
from llama3lib.utils.device import pick_device, pick_dtype
from llama3lib.utils.files import atomic_write
from llama3lib.utils.logging import get_logger

_log = get_logger(__name__)
OnStep = Callable[[dict[str, Any]], None]
Evaluate = Callable[[Transformer], Mapping[str, float]]


class GateReport(Protocol):
    """What a gate answers; a dataclass, whose fields go to the log."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def passed(self) -> bool: ...


Gate = Callable[[Transformer, Phase], GateReport]


class StoppedError(RuntimeError):
    """The run cannot go on; the last checkpoint is whole and told in the message."""


@dataclass(frozen=True)
class TrainResult:
    """How a run ended."""

    model: Transformer
    steps: int
    tokens: int
    loss: float
    """Of the last step."""
    spikes: int
    averaged: dict[str, dict[str, Tensor]]
    """By phase, the mean of its checkpoints, where the recipe asks for one."""


class Trainer:
    """Runs a recipe on one device, writing to `folder`; a folder with checkpoints is gone on with.

    sources: the tokens of each source of the recipe.
    gate: asked at the end of each phase that has one (section 3.4.2).
    evaluate: asked every `evaluate_every` steps and after each phase.
    model: weights to begin with, instead of drawn ones.
    probe: called with the name of each place where a crash would matter; for tests.

    Raises ValueError if the recipe does not fit the sources, the device or what is in the folder.
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
        tensorboard: bool = False,
        probe: Callable[[str], None] | None = None,
    ) -> None:
        if any(phase.gate for phase in config.phases) and gate is None:
            raise ValueError("gate=None is not allowed: a phase of the recipe has a gate")
        if missing := sorted(set(config.data) - set(sources)):
            raise ValueError(f"sources is not allowed: {missing[0]!r} of the recipe is missing")
        self.config, self.sources, self.folder = config, sources, Path(folder)
        self.gate, self.evaluate = gate, evaluate
        self.probe = probe or (lambda place: None)
        self.device = pick_device(config.device)
        self.dtype = _precision(config.precision, self.device)
        self.model = _starting_model(config, model).to(self.device).train()
        told = config.optimizer
        self.optimizer = make_adamw(
            self.model, told.peak, betas=told.betas, eps=told.eps, weight_decay=told.weight_decay
        )
        self.checkpoints = CheckpointManager(
            self.folder / "checkpoints", keep_last=config.keep_last, probe=probe
        )
        self.state = self._resumed()
        self.alarm, self.gate_passed = SpikeAlarm(self.state.losses), False
        self.loader: StatefulDataLoader | None = None
        self._note_config()
        self.log = MetricLog(self.folder, from_step=self.state.place.step, tensorboard=tensorboard)
        if config.checkpointing:
            apply_activation_checkpointing(self.model)
        if config.compile:
            self.model.compile()

    # ---- the loop

    def fit(self, on_step: OnStep | None = None) -> TrainResult:
        """Train to the end of the last phase. Ctrl-C saves first; `on_step` sees each record.

        Raises DivergedError if the loss is no number, StoppedError if a gate never lets through,
        CheckpointError if a checkpoint cannot be written; the last good one stays.
        """
        state = self.state
        self.speed = Speed(self.model.args, peak_flops(self.device, self.dtype))
        try:
            with _stop_between_steps() as stop:
                while state.place.phase < len(self.config.phases):
                    phase = self._enter_phase()
                    while not self._phase_is_over(phase):
                        record = self._step(phase)
                        if on_step is not None:
                            on_step(record)
                        if stop.is_set():
                            raise KeyboardInterrupt
                    self._leave_phase(phase)
        except KeyboardInterrupt:
            if stop.is_set():  # else in the midst of a step: the weights may be half changed
                self._save_and_wait()
            raise
        finally:
            self.log.flush()
        self._save_and_wait()
        averaged = {p.name: self.averaged(p.name) for p in self.config.phases if p.average_every}
        return TrainResult(
            self.model, state.place.step, state.tokens, state.loss, state.spikes, averaged
        )

    def _step(self, phase: Phase) -> dict[str, Any]:
        state, place = self.state, self.state.place
        rate = rate_at(self.config, place)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.probe("before_step")
        try:
            told = train_step(
                self.model,
                self.optimizer,
                self.loader.next(),
                micro_batch=self.config.micro_batch,
                clip=self.config.optimizer.clip,
                dtype=self.dtype,
                document_mask=self.config.document_mask,
            )
        except DivergedError as error:
            raise DivergedError(f"step {place.step + 1}: {error}. {self._last_good()}") from None
        self.probe("after_step")
        tokens = phase.batch_size * phase.length
        place.step, place.phase_step = place.step + 1, place.phase_step + 1
        state.tokens, state.loss, state.rate = state.tokens + tokens, told.loss, rate
        spike = self.alarm.is_spike(told.loss)
        state.spikes += spike
        if spike:
            _log.warning("step %d: the loss jumps to %.3f", place.step, told.loss)
        record = {"step": place.step, "phase": phase.name, "loss": told.loss, "lr": rate}
        record |= {"grad_norm": told.grad_norm, "tokens": state.tokens, "spike": spike}
        record |= self.speed.measure(tokens, phase.length)
        record["memory"] = memory_bytes(self.device)
        self.log.write(**record)
        self._after_step(phase)
        return record

    def _after_step(self, phase: Phase) -> None:
        place = self.state.place
        self.gate_passed = False
        if phase.average_every and place.phase_step % phase.average_every == 0:
            self._weights(phase.name).save(place.step, {"model": model_tensors(self.model)}, {})
        if self.evaluate is not None and place.step % self.config.evaluate_every == 0:
            self._evaluate()
        if place.step % self.config.save_every == 0:
            self.save()
        self.speed.restart()

    def _evaluate(self) -> None:
        if self.evaluate is not None:
            self.log.write(self.state.place.step, **self.evaluate(self.model.eval()))
            self.model.train()

    # ---- phases

    def _enter_phase(self) -> Phase:
        place, saved = self.state.place, self.state.loader
        phase = self.config.phases[place.phase]
        _set_positions(self.model, phase)
        used = saved["before"] if saved else self.state.drawn.get(str(phase.length), {})
        self.loader = StatefulDataLoader(
            {name: self.sources[name] for name in self.config.data},
            batch_size=phase.batch_size,
            length=phase.length,
            weights=self.config.mix_of(place.phase),
            seed=self.config.seed,
            first_step=place.step - place.phase_step,
            drawn=used,
        )
        if saved is not None:
            self.loader.load_state_dict(saved)
            self.state.loader = None
        return phase

    def _phase_is_over(self, phase: Phase) -> bool:
        done = self.state.place.phase_step
        if not phase.gate or done < phase.steps:
            return done >= phase.steps
        if (done - phase.steps) % phase.gate_every == 0 or done >= phase.last_step:
            report = self.gate(self.model.eval(), phase)
            self.model.train()
            self.log.write(
                self.state.place.step, gate=phase.name, passed=report.passed, **asdict(report)
            )
            self.gate_passed = report.passed
            if not report.passed and done >= phase.last_step:
                self._save_and_wait()
                raise StoppedError(
                    f"the gate of phase {phase.name!r} did not let through in {done} steps: "
                    f"{asdict(report)}. {self._last_good()}"
                )
        return self.gate_passed

    def _leave_phase(self, phase: Phase) -> None:
        """The windows used so far are remembered for a later phase of the same length."""
        if phase.average_every:
            self._weights(phase.name).wait()
        self._evaluate()
        seen = self.state.drawn.setdefault(str(phase.length), {})
        seen |= self.loader.drawn()
        self.state.place.next_phase(self.state.rate)
        self.loader = None

    # ---- checkpoints

    def save(self) -> None:
        """Write a checkpoint of this moment, in the background."""
        self.state.loader = None if self.loader is None else self.loader.state_dict()
        self.state.losses = list(self.alarm.losses)
        meta = self.state.to_meta(self.config)
        self.state.loader = None
        self.checkpoints.save(
            self.state.place.step, training_tensors(self.model, self.optimizer), meta
        )

    def averaged(self, phase: str) -> dict[str, Tensor]:
        """The mean of the weights kept in that phase (Polyak averaging, section 3.4.3).

        Raises ValueError if none were kept.
        """
        return average_checkpoints(self._weights(phase))

    def _weights(self, phase: str) -> CheckpointManager:
        if phase not in self._kept:
            folder = self.folder / "weights" / phase
            self._kept[phase] = CheckpointManager(folder, keep_last=1_000_000)
        return self._kept[phase]

    def _save_and_wait(self) -> None:
        self.save()
        self.checkpoints.wait()

    def _resumed(self) -> RunState:
        """The state of the newest checkpoint that is whole, with the weights filled in."""
        self._kept: dict[str, CheckpointManager] = {}
        restored = self.checkpoints.restore(training_tensors(self.model, self.optimizer))
        if restored is None:
            return RunState()
        for step, why in restored.skipped:
            _log.warning("the checkpoint of step %d is damaged and passed over: %s", step, why)
        _log.info("going on at step %d", restored.step)
        return RunState.from_meta(restored.meta, self.config)

    def _note_config(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(self.folder / "config.json") as file:
            file.write_text(json.dumps(self.config.describe(), indent=2) + "\n", encoding="utf-8")

    def _last_good(self) -> str:
        steps = self.checkpoints.steps()
        where = self.checkpoints.folder
        return f"Last checkpoint: step {steps[-1]} in {where}" if steps else "No checkpoint yet"


def _precision(name: str, device: torch.device) -> torch.dtype:
    return pick_dtype(device) if name == "auto" else getattr(torch, name)


def _starting_model(config: TrainConfig, model: Transformer | None) -> Transformer:
    """A copy of the given model, or a drawn one; long enough for the first phase."""
    length = max(config.model.max_seq_len, config.phases[0].length)
    fresh = Transformer(config.model.replace(max_seq_len=length))
    if model is None:
        fresh.init_weights(torch.Generator().manual_seed(config.seed))
        return fresh
    shapes = [{n: tuple(p.shape) for n, p in m.named_parameters()} for m in (model, fresh)]
    if shapes[0] != shapes[1]:
        raise ValueError("model is not allowed: its weights have other shapes than the recipe's")
    fresh.load_state_dict(model.state_dict())
    return fresh


def _set_positions(model: Transformer, phase: Phase) -> None:
    """Make the table of positions long enough for a phase, with its base."""
    args = model.args
    theta = phase.rope_theta or args.rope_theta
    length = max(args.max_seq_len, phase.length)
    if (theta, length) != (args.rope_theta, args.max_seq_len):
        model.args = args.replace(rope_theta=theta, max_seq_len=length)
        model.to(model.norm.weight.dtype)  # makes the table again


@contextlib.contextmanager
def _stop_between_steps() -> Iterator[threading.Event]:
    """Ctrl-C sets the event; a second one interrupts at once. Elsewhere than in the main thread
    nothing is changed, since only that one gets signals."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.getsignal(signal.SIGINT)

    def on_interrupt(number: int, frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
