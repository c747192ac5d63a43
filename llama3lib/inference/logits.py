"""What a request changes in the model's scores before a token is chosen from them.

In vLLM's order and with its definitions: the mask of what a text may say (`structured`), no end
before `min_tokens`, `logit_bias`, then the penalties.
"""

from collections.abc import Collection, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from llama3lib.inference.sampling_params import SamplingParams
from llama3lib.inference.sequence import Sequence as TextSequence


def adjusted_logits(
    logits: Float[Tensor, "B V"], sequences: Sequence[TextSequence]
) -> Float[Tensor, "B V"]:
    """The scores that the next token of each sequence is chosen from.

    The same tensor if no sequence wants anything changed, else another one.
    """
    changing = [i for i, one in enumerate(sequences) if one.params.changes_logits]
    bound = [i for i, one in enumerate(sequences) if one.constraint is not None]
    if not changing and not bound:
        return logits
    logits = wide_copy(logits)
    if bound:
        masks = torch.stack([sequences[i].constraint.mask() for i in bound])
        allowed = unpacked(masks, logits.shape[-1]).to(logits.device)
        for i, row in zip(bound, allowed, strict=True):
            logits[i].masked_fill_(~row, -torch.inf)
    for i in changing:
        one = sequences[i]
        prompt, written = one.token_ids[: one.num_prompt_tokens], one.output_ids
        adjust_row(logits[i], one.params, prompt, written, one.end_ids)
    return logits


def wide_copy(logits: Float[Tensor, "B V"]) -> Float[Tensor, "B V"]:
    """In float32 or wider: bfloat16 is too coarse to add a small bias to a large score."""
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    return logits.to(dtype, copy=True)


def adjust_row(
    row: Float[Tensor, "V"],
    params: SamplingParams,
    prompt_ids: Sequence[int],
    output_ids: Sequence[int],
    end_ids: Collection[int] = (),
) -> None:
    """Change the scores after `prompt_ids` and `output_ids` in place, as `params` says.

    end_ids: what ends the text; scored minus infinity before `min_tokens`, unless nothing else
    may come. Those outside the row are passed over.
    """

    def places(ids: Collection[int]) -> Int[Tensor, "ids"]:
        return torch.tensor(sorted(set(ids)), dtype=torch.long, device=row.device)

    if len(output_ids) < params.min_tokens:
        ends = places(i for i in end_ids if i < len(row))
        kept = row[ends]
        row[ends] = -torch.inf
        if bool(row.isneginf().all()):
            row[ends] = kept
    if params.logit_bias:
        biases = [params.logit_bias[i] for i in sorted(params.logit_bias)]
        row[places(params.logit_bias)] += torch.tensor(biases, dtype=row.dtype, device=row.device)
    if params.repetition_penalty != 1:
        seen = places([*prompt_ids, *output_ids])
        scores, penalty = row[seen], params.repetition_penalty
        row[seen] = torch.where(scores > 0, scores / penalty, scores * penalty)
    if output_ids and (params.frequency_penalty or params.presence_penalty):
        written = torch.tensor(output_ids, device=row.device)
        seen, counts = written.unique(return_counts=True)
        row[seen] -= params.frequency_penalty * counts.to(row.dtype) + params.presence_penalty


def unpacked(masks: Int[Tensor, "B words"], size: int) -> Bool[Tensor, "B V"]:
    """Bits of 32-bit words, lowest first, as truth values; `size` of them, False where none are."""
    # as NumPy does it: shifting the words in PyTorch takes four times as long
    bits = np.unpackbits(masks.numpy().view(np.uint8), axis=1, bitorder="little")[:, :size]
    found = torch.from_numpy(bits).bool()
    return torch.nn.functional.pad(found, (0, size - found.shape[1]))
