"""Back to the last checkpoint when the loss jumps, and past the batches that led there.

A myth tells that Llama 3's run was rolled back by hand. The paper reports few loss spikes and no
intervention to correct a divergence (section 3.4.1), so this is off unless a recipe asks for it.
"""

from typing import TYPE_CHECKING

from llama3lib.train.interrupt import StoppedError
from llama3lib.train.metrics import SpikeAlarm
from llama3lib.train.prepare import set_positions
from llama3lib.utils.logging import get_logger

if TYPE_CHECKING:
    from llama3lib.train.trainer import Trainer

_log = get_logger(__name__)
MOST = 10
"""What leads to more rollbacks is no bad batch."""


def roll_back(trainer: "Trainer") -> None:
    """Give a trainer the state of its last checkpoint, and leave out the batches since then.

    Without a checkpoint the run goes on as it is. The log tells it at the step gone back to; a run
    that is killed before its next checkpoint does the same again.

    Raises StoppedError after `MOST` times.
    """
    left, step = trainer.state, trainer.state.place.step
    if trainer.saved_step() is None:
        _log.warning("step %d: no checkpoint to go back to yet", step)
        return
    if left.rollbacks >= MOST:
        raise StoppedError(
            f"step {step}: the loss is {left.loss} after {left.rollbacks} rollbacks. "
            f"{trainer.last_good()}"
        )
    state = trainer.state = trainer.resumed()
    saved, batches = state.place.step, step - state.place.step
    state.rollbacks, state.spikes = left.rollbacks + 1, left.spikes
    state.skipped += batches
    set_positions(trainer.parallel, trainer.config, state.place.phase)
    trainer.make_loader()
    for _ in range(batches):
        trainer.loader.next()
    trainer.alarm = SpikeAlarm(state.losses)
    trainer.ranks.first(lambda: trainer.log.go_back(saved))
    trainer.tell(saved, rollback_from=step, spike_loss=left.loss, skipped=batches)
    _log.warning("step %d: back to step %d, %d batches are left out", step, saved, batches)
