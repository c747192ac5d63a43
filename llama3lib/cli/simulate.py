"""`llama3 simulate`: what failures leave of the time of a large run."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

if TYPE_CHECKING:
    from llama3lib.parallel.failures import Conditions, Outcome

Minutes = Annotated[float, arg(metavar="MINUTES")]


@dataclass(frozen=True, kw_only=True)
class Simulate:
    """Days of a run with failures drawn at the rates of Table 5, and how much time was useful.

    What a stop costs, slow GPUs and unseen corruption are not in the paper: those values are ours.
    """

    gpus: int = 16_384
    """Unexpected stops come in proportion to them; planned ones do not."""
    days: float = 54.0
    """Those of the paper's snapshot if left out."""
    seed: int = 0
    """The same seed draws the same failures."""
    restart: Minutes = 10.0
    """From a stop until training goes on."""
    pause: Minutes = 0.05
    """For which training stands still at each checkpoint."""
    interval: Annotated[float | None, arg(metavar="MINUTES")] = None
    """Training between checkpoints; by Young's rule if left out."""
    stragglers_per_day: float = 0.5
    """How many GPUs become slow."""
    slowdown: float = 0.05
    """Part of everybody's speed that is lost meanwhile."""
    straggler_minutes: Minutes = 60.0
    """Until a slow GPU is found and taken out, which is a planned stop."""
    corruption_minutes: Minutes = 60.0
    """Mean time until silent corruption is noticed; the work since then is thrown away."""

    def run(self) -> int:
        """Print what became of the time; returns the exit code. Raises ValueError if wrong."""
        import dataclasses

        from llama3lib.parallel.failures import Conditions, best_interval, simulate

        names = {field.name for field in dataclasses.fields(Conditions)}
        given = {name: getattr(self, name) for name in names}
        conditions = Conditions(**given)
        outcome = simulate(conditions, self.days, self.seed)
        print(_told(conditions, outcome, self.days))
        if conditions.pause:
            print(
                f"checkpoint every {conditions.interval or conditions.young:.1f} minutes; ", end=""
            )
            print(f"Young: {conditions.young:.1f}, Daly: {conditions.daly:.1f}, ", end="")
            print(f"best of those tried on 10,000 days: {best_interval(conditions):.1f}")
        return 0


def _told(conditions: "Conditions", outcome: "Outcome", days: float) -> str:
    from llama3lib.paper.infrastructure import EFFECTIVE_TIME, LOSS_PER_INTERRUPTION

    total = outcome.minutes
    rows = {
        "restarts": outcome.restarts,
        "work done again": outcome.again,
        "checkpoints": outcome.pauses,
        "slow GPUs": outcome.slow,
    }
    lost = ", ".join(f"{name} {part / total:.1%}" for name, part in rows.items())
    paper = f"the paper: more than {EFFECTIVE_TIME.value:.0%} on 16K GPUs"
    most = f"{LOSS_PER_INTERRUPTION.value:g} leave 90 % at the rate of the paper"
    lines = [
        f"{days:g} days on {conditions.gpus:,} GPUs",
        f"effective training time {outcome.effective:.1%} ({paper})",
        f"lost: {lost}",
        f"each of {sum(outcome.stops.values()):,} stops costs {outcome.each:.1f} minutes ({most})",
        f"{'stops':32} drawn  expected",
    ]
    expected = conditions.rates * days * 24 * 60
    for (name, count), mean in zip(outcome.stops.items(), expected, strict=True):
        lines.append(f"  {name:30} {count:5,} {mean:9,.1f}")
    return "\n".join(lines)
