"""Puts a step together, sends it through the model, and draws the next tokens."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llama3lib.inference.block_manager import BlockCopy
from llama3lib.inference.decode_graph import DecodeGraphs
from llama3lib.inference.logits import adjusted_logits
from llama3lib.inference.paged_attention import PagedCache, PagedMetadata
from llama3lib.inference.prompt_states import show_prompts
from llama3lib.inference.sampling import sample
from llama3lib.inference.scheduler import ScheduledSequence, StepRow
from llama3lib.model import Transformer


@dataclass(eq=False)
class MicroBatch:
    """Sequences on their way through the layers: all of a step's, or a part of them.

    content: ids [1, T] first, then the stream [1, T, D], at the end scores [B, V].
    """

    content: Int[Tensor, "1 T"] | Float[Tensor, "1 T D"] | Float[Tensor, "B V"]
    positions: Int[Tensor, "1 T"]
    metadata: PagedMetadata
    last: list[int]
    """Row of each sequence's last token."""
    copies: Sequence[BlockCopy]
    """Blocks that each layer copies first."""
    hidden: Float[Tensor, "T D"] | None = None
    """What the output matrix sees."""
    times: list[tuple[float, float]] = field(default_factory=list)
    """When each stage began and ended."""
    error: BaseException | None = None

    @classmethod
    def of(
        cls,
        rows: Sequence[StepRow],
        copies: Sequence[BlockCopy],
        block_size: int,
        device: torch.device,
    ) -> "MicroBatch":
        """The tokens of all rows, end to end."""
        tokens, positions, last = [], [], []
        for row in rows:
            tokens += row.tokens
            positions += range(row.start, row.end)
            last.append(len(tokens) - 1)
        return cls(
            content=torch.tensor([tokens], device=device),
            positions=torch.tensor([positions], device=device),
            metadata=PagedMetadata.of(rows, block_size, device),
            last=last,
            copies=copies,
        )


def advance(stage: Transformer, batch: MicroBatch) -> None:
    """Bring it through the layers of a stage, which may be the whole model."""
    for layer in stage.layers.values():
        layer.attention.inner_attention.copy(batch.copies)
    h = stage.hidden_states(batch.content, batch.positions, batch.metadata)
    if stage.output is None:
        batch.content = h
    else:
        batch.hidden = h[0]
        batch.content = stage.output(h[0, batch.last])


class ModelRunner:
    """Owns the cache of `num_blocks` blocks of `block_size` tokens, for all layers.

    decode_graphs: where steps of one token a text are computed; None is recordings (CUDA graphs)
    on a GPU and the plain way elsewhere.
    The model is its old self again after `close`.

    Raises ValueError if another runner or cache has the model.
    """

    num_micro_batches = 1

    def __init__(
        self,
        model: Transformer,
        *,
        num_blocks: int,
        block_size: int,
        decode_graphs: DecodeGraphs | None = None,
    ) -> None:
        self._paged = PagedCache(model, num_blocks=num_blocks, block_size=block_size)
        self.model, self.block_size, self.cache = model, block_size, self._paged.blocks
        self.device = self.cache.device
        if decode_graphs is None and self.device.type == "cuda":
            decode_graphs = DecodeGraphs(model, block_size)
        self._decode_graphs = decode_graphs
        self._submitted: tuple[list[ScheduledSequence], list[BlockCopy]] = [], []

    def close(self) -> None:
        """Give the model back; a second time does nothing."""
        self._paged.close()
        self._decode_graphs = None

    def submit(self, scheduled: list[ScheduledSequence], copies: list[BlockCopy]) -> None:
        """Take a step; it is computed in `collect`."""
        self._submitted = scheduled, copies

    def collect(self) -> Float[Tensor, "B V"]:
        """Scores of the token that follows each sequence's last one of the step."""
        return self.run(*self._submitted)

    def forget(self) -> None:
        """Leave what was submitted and not collected."""

    @torch.inference_mode()
    def run(
        self, scheduled: list[ScheduledSequence], copies: list[BlockCopy]
    ) -> Float[Tensor, "B V"]:
        """Both at once."""
        if self._decode_graphs is not None and self._decode_graphs.fits(scheduled):
            self._paged.copy(copies)
            return self._decode_graphs.run(scheduled)
        rows = [item.row for item in scheduled]
        batch = MicroBatch.of(rows, copies, self.block_size, self.device)
        advance(self.model, batch)
        show_prompts(batch.hidden, rows, scheduled)
        return batch.content

    @staticmethod
    def draw(logits: Float[Tensor, "B V"], scheduled: list[ScheduledSequence]) -> list[int]:
        """The next token of each sequence, each with its own settings and its own dice."""
        logits = adjusted_logits(logits, [item.sequence for item in scheduled])
        greedy = logits.float().argmax(-1).tolist()  # slow in bfloat16 on a CPU
        return [
            best
            if item.sequence.params.temperature == 0
            else int(sample(row.unsqueeze(0), item.sequence.params, item.sequence.generator))
            for best, row, item in zip(greedy, logits, scheduled, strict=True)
        ]
