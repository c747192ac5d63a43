"""What a run trains, and by which loss."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from llama3lib.model import DocumentMask, Transformer
from llama3lib.model.attention import AttentionMask
from llama3lib.parallel.pipeline import Loss
from llama3lib.train.loss import next_token_loss


def _all_of_it(model: Transformer) -> Transformer:
    return model


@dataclass(frozen=True)
class Objective:
    """The next token, with all weights, unless something else is given.

    adapt: makes what is trained out of the recipe's model, in place: another head, or adapters
    beside frozen matrices. Called on every rank, at times on the meta device.
    loss: as `next_token_loss`.
    mask: from document ids [B, T] to who may look where, with `positions()`.
    """

    adapt: Callable[[Transformer], Transformer] = _all_of_it
    loss: Loss = next_token_loss
    mask: Callable[[Tensor], AttentionMask] = DocumentMask


NEXT_TOKEN = Objective()
