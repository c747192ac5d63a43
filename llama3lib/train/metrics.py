"""What a run tells while it goes: one JSON line a step, TensorBoard, speed, spikes."""

import contextlib
import importlib.util
import math
import os
import statistics
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import torch

from llama3lib.model import ModelArgs
from llama3lib.model.flops import flops_per_token
from llama3lib.utils import strict_json
from llama3lib.utils.files import atomic_write

_IS_MAC = sys.platform == "darwin"  # where the unit is bytes, not kibibytes
H100_PEAK = 989.4e12
"""FLOP a second in bfloat16, dense, of the chip that the paper's own share is counted against."""


class MetricLog:
    """Records in `metrics.jsonl`, one line each, and in TensorBoard where that is wanted.

    A run that goes on at an earlier step takes back the lines after it, so that no step is told
    twice. Nor is a record of the same kind told twice of one step, such as an evaluation at the
    end of a phase that is asked for again by a run that goes on there.
    """

    def __init__(
        self, folder: str | Path, *, from_step: int = 0, tensorboard: bool = False
    ) -> None:
        if tensorboard:
            check_tensorboard()
        self.path = Path(folder) / "metrics.jsonl"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._step, self._told = from_step, self._take_back(from_step)
        self._file: TextIO | None = None
        self._board = _open_board(Path(folder), from_step) if tensorboard else None

    def _take_back(self, step: int) -> set[tuple[str, ...]]:
        """Returns what kinds of records are left of the step itself: the names in them."""
        rows = list(read_metrics(self.path))
        kept = [row for row in rows if row["step"] <= step]
        if rows or self.path.exists():
            lines = "".join(strict_json.dumps(row) + "\n" for row in kept)
            with atomic_write(self.path) as file:
                file.write_text(lines, encoding="utf-8")
        return {tuple(row) for row in kept if row["step"] == step}

    def go_back(self, step: int) -> None:
        """Take back all lines after a step."""
        self.flush()
        self._step, self._told = step, self._take_back(step)

    def write(self, step: int, **values: Any) -> None:
        """Add a record, line by line; NaN and infinities as null. Numbers go to TensorBoard too."""
        row = {"step": step, **values}
        kinds = self._told if step == self._step else set()
        if tuple(row) in kinds:
            return
        self._step, self._told = step, kinds | {tuple(row)}
        if self._file is None:
            self._file = open(self.path, "a", encoding="utf-8", buffering=1)
        self._file.write(strict_json.dumps(row) + "\n")
        if self._board is not None:
            for name, value in values.items():
                if isinstance(value, int | float) and not isinstance(value, bool):
                    self._board.add_scalar(name, value, step)

    def sync(self) -> None:
        """Return when all that was told is on the disk."""
        if self._file is not None:
            os.fsync(self._file.fileno())

    def flush(self) -> None:
        """Write out what is left and close the file; it is opened again when needed."""
        if self._file is not None:
            file, self._file = self._file, None
            with contextlib.suppress(OSError):  # each line went out when it was written
                file.close()
        if self._board is not None:
            self._board.flush()


def check_tensorboard() -> None:
    """Raises ModuleNotFoundError if there is no TensorBoard to write for."""
    if importlib.util.find_spec("tensorboard") is None:
        message = "no TensorBoard: pip install 'llama3lib[train]' brings it"
        raise ModuleNotFoundError(message, name="tensorboard")


def _open_board(folder: Path, from_step: int) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"), purge_step=from_step + 1)


def read_metrics(path: str | Path) -> Iterator[dict[str, Any]]:
    """The records of a run; a last line that was cut off is left out.

    What was no finite number when it was written is None.
    """
    path = Path(path)
    path = path / "metrics.jsonl" if path.is_dir() else path
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = strict_json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            yield row


class SpikeAlarm:
    """Says when a loss stands out from the last ones.

    The measure is robust: the median of the last losses and their median distance from it. The
    paper reports few spikes and no intervention (section 3.4.1); the rule is ours.
    """

    def __init__(
        self,
        losses: Sequence[float] = (),
        *,
        window: int = 64,
        factor: float = 8.0,
        least: float = 0.2,
    ) -> None:
        self.factor, self.least = factor, least
        self.losses: deque[float] = deque(losses, maxlen=window)

    def is_spike(self, loss: float) -> bool:
        """Whether this loss is one; it is remembered either way."""
        found = False
        if len(self.losses) == self.losses.maxlen:
            middle = statistics.median(self.losses)
            spread = 1.4826 * statistics.median(abs(loss - middle) for loss in self.losses)
            found = loss > middle + max(self.least, self.factor * spread)
        self.losses.append(loss)
        return found


class Speed:
    """Tokens a second and the share of the chip's peak that the model's products use (MFU)."""

    def __init__(self, args: ModelArgs, peak: float | None) -> None:
        self.args, self.peak = args, peak
        self._last = time.perf_counter()

    def restart(self) -> None:
        """Leave out the time until now, such as that of an evaluation."""
        self._last = time.perf_counter()

    def measure(self, tokens: int, length: int) -> dict[str, float]:
        """Of the tokens since the last call."""
        now = time.perf_counter()
        rate, self._last = tokens / max(now - self._last, 1e-9), now
        speed = {"tokens_per_s": round(rate, 1)}
        if self.peak:
            speed["mfu"] = round(rate * flops_per_token(self.args, length).training / self.peak, 4)
        return speed


def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP a second that the device reaches: H100 and H200 as published, others measured here.

    Measured is the best of five products of square matrices, in about a second at most.
    """
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    if dtype == torch.bfloat16 and ("H100" in name or "H200" in name):
        return H100_PEAK
    size = 512 if device.type == "cpu" else 8192
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best = math.inf
    for _ in range(5):
        begun = time.perf_counter()
        (a @ b).sum().item()  # waits for the device
        best = min(best, time.perf_counter() - begun)
    return 2 * size**3 / best


def memory_bytes(device: torch.device) -> int | None:
    """Most memory used so far: of the GPU, or of this process; None where it cannot be told."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return None
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if _IS_MAC else used * 1024
