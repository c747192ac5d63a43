"""Cut the stream of tokens into training windows, and remember which document each token is from.

The paper packs documents one after the other and masks attention so that no token sees another
document (section 3.2). The mask is made from the document ids that are cut out here.

Dialogs are not cut: a window takes as many whole ones as it has room for, and is filled up behind
them. Which go together is a function of their lengths alone (best fit, the longest first).
"""

from collections.abc import Sized
from dataclasses import dataclass

import numpy as np

from llama3lib.data.tokens import SEGMENTS, TokenShard
from llama3lib.utils.require import at_least, require


@dataclass(frozen=True)
class Packed:
    """One training window: `tokens` [T + 1] and `document_ids` [T + 1], both int64.

    Inputs are all but the last, targets all but the first. Document ids count from 0 within the
    window. asked [T + 1]: of dialogs, which tokens a loss is taken on; None: on all.
    ranks [T + 1]: of rankings, at the last token of each answer its rank, 0 the best, and -100
    elsewhere; their document ids are 16 times the number of the prompt, plus that of the answer.
    """

    tokens: np.ndarray
    document_ids: np.ndarray
    asked: np.ndarray | None = None
    ranks: np.ndarray | None = None


def window_count(shard: Sized, length: int) -> int:
    """How many windows of `length` + 1 tokens a shard has; those of texts overlap by one token.

    Raises ValueError if it has not even one, or a dialog is longer than a window.
    """
    at_least("length", length, 1)
    if isinstance(shard, TokenShard) and shard.has_mask:
        return len(_dialog_windows(shard, length))
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
    if shard.has_mask:
        return _window_of_dialogs(shard, _dialog_windows(shard, length)[place], length)
    start = place * length
    stop = start + length + 1
    tokens = np.asarray(shard.tokens[start:stop], dtype=np.int64)
    owners = np.searchsorted(shard.starts, np.arange(start, stop), side="right") - 1
    return Packed(tokens, owners - owners[0])


def _window_of_dialogs(shard: TokenShard, members: np.ndarray, length: int) -> Packed:
    """Whole dialogs one after the other; the filling is a document of its own, never asked for."""
    tokens = np.zeros(length + 1, dtype=np.int64)
    owners = np.full(length + 1, len(members), dtype=np.int64)
    asked, at = np.zeros(length + 1, dtype=shard.asked.dtype), 0
    for number, member in enumerate(members):
        begin, end = shard.starts[member], shard.starts[member + 1]
        own = slice(at, at := at + int(end - begin))
        tokens[own], owners[own] = shard.tokens[begin:end], number
        asked[own] = shard.asked[begin:end]
    if not shard.is_ranking:
        return Packed(tokens, owners, asked)
    ranks = asked // SEGMENTS - 1.0
    ranks = np.where(ranks < 0, -100, ranks).astype(np.int64)
    return Packed(tokens, owners * SEGMENTS + asked % SEGMENTS, ranks=ranks)


def _dialog_windows(shard: TokenShard, length: int) -> list[np.ndarray]:
    if length not in shard.packed:
        shard.packed[length] = whole_windows(np.diff(shard.starts), length + 1)
    return shard.packed[length]


def whole_windows(sizes: np.ndarray, room: int) -> list[np.ndarray]:
    """Which documents share a window of `room` tokens; each is in one, and none is cut.

    Best fit, the longest first: a document goes where it leaves the least room.

    Raises ValueError naming the first document that is longer than a window.
    """
    if (sizes > room).any():
        bad = int(np.argmax(sizes > room))
        raise ValueError(
            f"dialog {bad} has {int(sizes[bad])} tokens, a window of length {room - 1} has room "
            f"for {room}: write them shorter, or make the window longer"
        )
    windows: list[list[int]] = []
    by_room: dict[int, list[int]] = {}
    there = 0  # its bit r tells that some window has room for r more
    for document in np.argsort(-sizes, kind="stable").tolist():
        size = int(sizes[document])
        fitting = there >> size
        if fitting:
            left = size + (fitting & -fitting).bit_length() - 1
            number = by_room[left].pop()
            there ^= (not by_room[left]) << left
        else:
            left, number = room, len(windows)
            windows.append([])
        windows[number].append(document)
        by_room.setdefault(left - size, []).append(number)
        there |= 1 << (left - size)
    return [np.asarray(window) for window in windows]
