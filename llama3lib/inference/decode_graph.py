"""Decode steps that are recorded once and replayed (CUDA graphs).

A step of one token a text is so little work that a GPU waits for Python to ask for it, kernel by
kernel. A recording holds all kernels of a step; replaying it is one call. But it holds addresses
and shapes, too: so tokens, positions and tables are copied into buffers that never move, and the
number of texts and of blocks are rounded up to powers of two, with a recording for each pair.
Ours, as serving engines commonly do; the paper does not speak of it.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from llama3lib.inference.paged_attention import PagedMetadata
from llama3lib.inference.scheduler import ScheduledSequence, StepRow
from llama3lib.model import Transformer


class DecodeGraphs:
    """Steps in which every text has one token.

    record=False computes on the same buffers without recording, on any device.

    The weights must stay where they are: after a change of the model make another one.
    """

    def __init__(self, model: Transformer, block_size: int, *, record: bool = True) -> None:
        self.model, self.block_size, self.record = model, block_size, record
        self._steps: dict[tuple[int, int], _Step] = {}

    @staticmethod
    def fits(scheduled: list[ScheduledSequence]) -> bool:
        """Whether this is such a step, and nobody wants to see what goes on inside."""
        return all(item.num_tokens == 1 and not item.sequence.readers for item in scheduled)

    def run(self, scheduled: list[ScheduledSequence]) -> Float[Tensor, "B V"]:
        """Scores of the token that follows each text."""
        sequences = [item.sequence for item in scheduled]
        blocks = max(len(sequence.block_table) for sequence in sequences)
        size, width = _power_of_two(len(scheduled)), _power_of_two(blocks)
        if (size, width) not in self._steps:
            self._steps[size, width] = _Step(self.model, self.block_size, size, width)
        step = self._steps[size, width]
        # a text that stands there twice writes the same numbers to the same place: no harm
        rows = [item.row for item in scheduled]
        step.fill(rows + rows[:1] * (size - len(rows)))
        logits = step.replay() if self.record else step.compute()
        return logits[: len(scheduled)].clone()  # the next replay writes over them


class _Step:
    """Buffers for `size` texts of up to `width` blocks, and the recording of what is done there."""

    def __init__(self, model: Transformer, block_size: int, size: int, width: int) -> None:
        self.model, self.block_size = model, block_size
        self.device = model.norm.weight.device

        def zeros(*shape: int, dtype: torch.dtype = torch.long) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=self.device)

        self.tokens, self.positions = zeros(1, size), zeros(1, size)
        self.metadata = PagedMetadata(
            slot_mapping=zeros(size),
            pieces=(),
            single=torch.arange(size, device=self.device),
            tables=zeros(size, width),
            mask=zeros(size, 1, width * block_size, dtype=torch.bool),
        )
        self.graph: torch.cuda.CUDAGraph | None = None
        self.logits: Tensor | None = None

    def fill(self, rows: list[StepRow]) -> None:
        """Put a step's numbers into the buffers."""
        metadata = PagedMetadata.of(rows, self.block_size, self.device)
        self.tokens.copy_(torch.tensor([[row.tokens[0] for row in rows]]))
        self.positions.copy_(torch.tensor([[row.start for row in rows]]))
        own = self.metadata
        own.slot_mapping.copy_(metadata.slot_mapping)
        own.tables.zero_()[:, : metadata.tables.shape[1]] = metadata.tables
        own.mask.zero_()[..., : metadata.mask.shape[-1]] = metadata.mask

    def compute(self) -> Float[Tensor, "B V"]:
        """What is recorded."""
        h = self.model.hidden_states(self.tokens, self.positions, self.metadata)
        return self.model.output(h[0])

    def replay(self) -> Float[Tensor, "B V"]:
        """The same from the recording, which the first call makes."""
        if self.graph is None:
            # kernels that choose their way at the first call must have chosen before; what this
            # writes to the cache is what the recording writes again
            aside = torch.cuda.Stream(self.device)
            aside.wait_stream(torch.cuda.current_stream(self.device))
            with torch.cuda.stream(aside):
                self.compute()
            torch.cuda.current_stream(self.device).wait_stream(aside)
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self.logits = self.compute()
        self.graph.replay()
        return self.logits


def _power_of_two(count: int) -> int:
    return 1 << (count - 1).bit_length()
