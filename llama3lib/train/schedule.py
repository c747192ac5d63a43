"""Which phase a step belongs to and which learning rate it has (paper section 3.4)."""

from dataclasses import dataclass

from llama3lib.train.config import OptimizerConfig, TrainConfig
from llama3lib.train.optim import lr_at


@dataclass
class Place:
    """Where a run stands: steps done in all, and within which phase."""

    step: int = 0
    phase: int = 0
    phase_step: int = 0
    began_with: float | None = None
    """Learning rate when the phase began; None in the first."""

    def next_phase(self, rate: float) -> None:
        """Go to the first step of the next phase; `rate` is that of the last step."""
        self.phase, self.phase_step, self.began_with = self.phase + 1, 0, rate


def rate_at(config: TrainConfig, place: Place) -> float:
    """The learning rate of the next step."""
    optimizer, phase = config.optimizer, config.phases[place.phase]
    if phase.rate == "schedule":
        return scheduled_rate(optimizer, place.step, config.total_steps)
    begun = optimizer.peak if place.began_with is None else place.began_with
    if place.step < optimizer.warmup:
        begun = min(begun, scheduled_rate(optimizer, place.step, config.total_steps))
    if phase.rate == "constant":
        return begun
    return begun * max(0.0, 1 - place.phase_step / phase.steps)


def scheduled_rate(optimizer: OptimizerConfig, step: int, total: int) -> float:
    """Warm-up and cosine; the first step has a rate above 0, or it would do nothing."""
    end = optimizer.decay_steps or total
    return lr_at(
        step + 1,
        optimizer.peak,
        optimizer.warmup,
        max(end, optimizer.warmup + 1),
        optimizer.minimum,
    )


def planned_rates(config: TrainConfig) -> list[float]:
    """The learning rate of every step, if each phase takes its least number of steps."""
    place, rates = Place(), []
    for phase in config.phases:
        for _ in range(phase.steps):
            rates.append(rate_at(config, place))
            place.step, place.phase_step = place.step + 1, place.phase_step + 1
        place.next_phase(rates[-1])
    return rates
