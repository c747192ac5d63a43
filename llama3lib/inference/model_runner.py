"""Puts a step together, sends it through the model, and draws the next tokens."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from llama3lib.inference.block_manager import BlockCopy
from llama3lib.inference.decode_graph import DecodeGraphs
from llama3lib.inference.logits import adjusted_logits
from llama3lib.inference.paged_attention import PagedAttention, PagedMetadata
from llama3lib.inference.prompt_states import show_prompts
from llama3lib.inference.sampling import sample
from llama3lib.inference.scheduler import ScheduledSequence
from llama3lib.model import Transformer
from llama3lib.model.attention import ScaledDotProductAttention


class ModelRunner:
    """Owns the cache of `num_blocks` blocks of `block_size` tokens, for all layers.

    decode_graphs: where steps of one token a text are computed; None is recordings (CUDA graphs)
    on a GPU and the plain way elsewhere.
    The model is its old self again after `close`.

    Raises ValueError if another runner or cache has the model.
    """

    def __init__(
        self,
        model: Transformer,
        *,
        num_blocks: int,
        block_size: int,
        decode_graphs: DecodeGraphs | None = None,
    ) -> None:
        weight, args = model.norm.weight, model.args
        self.model, self.block_size, self.device = model, block_size, weight.device
        shape = (args.n_layers, 2, args.n_kv_heads, num_blocks, block_size, args.head_dim)
        # zeros: what stands in a slot nobody wrote is masked, but 0 times NaN would be NaN
        self.cache = torch.zeros(shape, dtype=weight.dtype, device=self.device)
        self._originals: list[nn.Module] = []
        attentions = [layer.attention for layer in model.layers.values()]
        if not all(isinstance(a.inner_attention, ScaledDotProductAttention) for a in attentions):
            raise ValueError("model is not allowed: it has a cache already")
        self._originals = [attention.inner_attention for attention in attentions]
        for attention, (keys, values) in zip(attentions, self.cache, strict=True):
            attention.inner_attention = PagedAttention(keys, values)
        if decode_graphs is None and self.device.type == "cuda":
            decode_graphs = DecodeGraphs(model, block_size)
        self._decode_graphs = decode_graphs

    def close(self) -> None:
        """Give the model back; a second time does nothing."""
        layers = self.model.layers.values()
        for layer, original in zip(layers, self._originals, strict=False):
            layer.attention.inner_attention = original
        self._originals, self._decode_graphs = [], None

    @torch.inference_mode()
    def run(
        self, scheduled: list[ScheduledSequence], copies: list[BlockCopy]
    ) -> Float[Tensor, "B V"]:
        """Scores of the token that follows each sequence's last one of this step."""
        for copy in copies:
            self.cache[:, :, :, copy.target] = self.cache[:, :, :, copy.source]
        if self._decode_graphs is not None and self._decode_graphs.fits(scheduled):
            return self._decode_graphs.run(scheduled)
        tokens, positions, last = end_to_end(scheduled)
        metadata = PagedMetadata.of(scheduled, self.block_size, self.device)
        row = torch.tensor([tokens], device=self.device)
        places = torch.tensor([positions], device=self.device)
        h = self.model.hidden_states(row, places, metadata)
        show_prompts(h[0], scheduled)
        return self.model.output(h[0, last])

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


def end_to_end(scheduled: list[ScheduledSequence]) -> tuple[list[int], list[int], list[int]]:
    """This step's tokens in one row, their positions, and where each sequence has its last one."""
    tokens, positions, last = [], [], []
    for item in scheduled:
        done = item.sequence.num_computed_tokens
        tokens += item.sequence.token_ids[done : done + item.num_tokens]
        positions += range(done, done + item.num_tokens)
        last.append(len(tokens) - 1)
    return tokens, positions, last
