"""A text of any length as the model's windows, and how surprised the model is by it."""

import math
from collections.abc import Sequence

from llama3lib.eval.multiple_choice import score_continuations
from llama3lib.model import Transformer
from llama3lib.tokenizer import Tokenizer
from llama3lib.utils.require import require


def text_windows(ids: Sequence[int], room: int) -> list[tuple[list[int], list[int]]]:
    """Pairs of what is read and what is asked for, so that each id but the first is asked once.

    As lm-eval lays them: side by side, `room` ids asked for in each, and the last filled up with
    ids before it.
    """
    windows = []
    for start in range(1, len(ids), room):
        end = min(start + room, len(ids))
        first = max(end - room, 1)  # the last window keeps its full length
        windows.append((list(ids[first - 1 : start]), list(ids[start:end])))
    return windows


def text_perplexity(
    model: Transformer, tokenizer: Tokenizer, text: str, *, batch_size: int = 8
) -> float:
    """exp of the mean nats per token of a text after the begin-of-text token.

    Among how many equally likely tokens the model seems to choose. A text longer than the position
    table is read in windows side by side, each of which begins without what stands before it.
    Perplexities of models with other tokenizers do not compare: `PositionLoss.bits_per_byte` does.

    Raises ValueError for an empty text or no text.
    """
    require(isinstance(text, str) and text, "text", text, "at least one character")
    ids = tokenizer.encode(text, bos=True)
    pairs = text_windows(ids, model.args.max_seq_len)
    scored = score_continuations(model, pairs, batch_size=batch_size)
    mean = -math.fsum(one.log_prob for one in scored) / (len(ids) - 1)
    return math.exp(mean) if mean < 700 else math.inf
