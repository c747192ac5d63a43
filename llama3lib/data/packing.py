"""Cut the stream of tokens into training windows, and remember which document each token is from.

The paper packs documents one after the other and masks attention so that no token sees another
document (section 3.2). The mask is made from the document ids that are cut out here.
"""

from collections.abc import Sized
from dataclasses import dataclass

import numpy as np

from llama3lib.data.tokens import TokenShard
from llama3lib.utils.require import at_least, require


@dataclass(frozen=True)
class Packed:
    """One training window: `tokens` [T + 1] and `document_ids` [T + 1], both int64.

    Inputs are all but the last, targets all but the first. Document ids count from 0 within the
    window.
    """

    tokens: np.ndarray
    document_ids: np.ndarray


def window_count(shard: Sized, length: int) -> int:
    """How many windows of `length` + 1 tokens a shard has; they overlap by one token.

    Raises ValueError if it has not even one.
    """
    at_least("length", length, 1)
    count = (len(shard) - 1) // length
    if count < 1:
        raise ValueError(f"the text has {len(shard)} tokens, a window needs {length + 1}")
    return count


def window(shard: TokenShard, place: int, length: int) -> Packed:
    """The window number `place` of a shard.

    Raises ValueError if there is none.
    """
    ok = 0 <= place < window_count(shard, length)
    require(ok, "place", place, f"0 to {window_count(shard, length) - 1}")
    start = place * length
    stop = start + length + 1
    tokens = np.asarray(shard.tokens[start:stop], dtype=np.int64)
    owners = np.searchsorted(shard.starts, np.arange(start, stop), side="right") - 1
    return Packed(tokens, owners - owners[0])
