"""What can be seen of a prompt while it goes through the model: how likely it is, what it means.

A reader is shown the rows of a step, so it goes through the engine with all others: in pieces,
beside texts that are being written.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from llama3lib.inference.sampling import TokenLogprob, token_logprobs

if TYPE_CHECKING:
    from llama3lib.inference.scheduler import ScheduledSequence, StepRow

_ROWS = 128  # logits of so many rows at a time: a vocabulary may be 128K wide


class PromptReader(ABC):
    """Sees each of the first `size` rows once, though a text that made room is read again."""

    def __init__(self, size: int) -> None:
        self.size, self.seen = size, 0

    def show(self, start: int, hidden: Float[Tensor, "T D"]) -> None:
        """Rows from place `start` of the text on; none before them is missing."""
        new = self.new(start, len(hidden))
        if new:
            self.read(hidden[new.start : new.stop])
            self.seen += len(new)

    def new(self, start: int, count: int) -> range:
        """Which of `count` rows from place `start` on it has not seen."""
        return range(self.seen - start, min(count, self.size - start))

    @abstractmethod
    def read(self, hidden: Float[Tensor, "T D"]) -> None:
        """The next rows."""


class LogprobReader(PromptReader):
    """How likely each token of a prompt is after those before it.

    output: from the stream to logits. top: how many of the likeliest to name at each place.
    """

    def __init__(
        self,
        ids: Sequence[int],
        output: Callable[[Float[Tensor, "T D"]], Float[Tensor, "T V"]],
        top: int,
    ) -> None:
        super().__init__(len(ids) - 1)
        self._ids, self._output, self._top = ids, output, top
        self.logprobs: list[TokenLogprob | None] = [None]
        """One a token; None for the first, which nothing stands before."""

    def read(self, hidden: Float[Tensor, "T D"]) -> None:
        for rows in hidden.split(_ROWS):
            begin = len(self.logprobs)
            drawn = self._ids[begin : begin + len(rows)]
            self.logprobs += token_logprobs(self._output(rows), drawn, [self._top] * len(rows))


class StateReader(PromptReader):
    """The stream after the last norm: all rows of it, or their mean."""

    def __init__(self, size: int, *, mean: bool) -> None:
        super().__init__(size)
        self._mean, self._rows = mean, []

    def read(self, hidden: Float[Tensor, "T D"]) -> None:
        wide = hidden if hidden.dtype == torch.float64 else hidden.float()
        self._rows.append(wide.sum(0, keepdim=True) if self._mean else wide)

    @property
    def states(self) -> Float[Tensor, "*T D"]:
        """[D] if the mean was wanted, else [T, D]; in float32 or wider."""
        rows = torch.cat(self._rows).cpu()
        return rows.sum(0) / self.size if self._mean else rows


def show_prompts(
    hidden: Float[Tensor, "T D"],
    rows: "Sequence[StepRow]",
    scheduled: "Sequence[ScheduledSequence]",
) -> None:
    """Show all rows of a step, end to end as they were computed, to whom they concern."""
    start = 0
    for row, item in zip(rows, scheduled, strict=True):
        stop = start + len(row.tokens)
        for reader in item.sequence.readers:
            reader.show(row.start, hidden[start:stop])
        start = stop


def scored_rows(
    rows: "Sequence[StepRow]", scheduled: "Sequence[ScheduledSequence]"
) -> list[tuple[int, int]]:
    """Rows of a step, first and behind the last, that `show_prompts` will send through the
    output matrix at a time: the ranks that share the matrix must do so, too."""
    found, start = [], 0
    for row, item in zip(rows, scheduled, strict=True):
        for reader in item.sequence.readers:
            if isinstance(reader, LogprobReader):
                new = reader.new(row.start, len(row.tokens))
                for first in range(start + new.start, start + new.stop, _ROWS):
                    found.append((first, min(first + _ROWS, start + new.stop)))
        start += len(row.tokens)
    return found
