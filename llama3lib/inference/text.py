"""From tokens to text while they come: whole characters only, and never a part of a stop string."""

from collections.abc import Sequence

from llama3lib.inference.sampling import SamplingParams
from llama3lib.tokenizer import Tokenizer


class TextStream:
    """The text of one sample; without a tokenizer it stays empty."""

    def __init__(self, tokenizer: Tokenizer | None, params: SamplingParams) -> None:
        self.text = ""
        self._stops = params.stop
        self._decoder = None if tokenizer is None else tokenizer.stream_decoder()
        no_ends = tokenizer is None or params.ignore_eos
        ends = frozenset() if no_ends else tokenizer.stop_ids
        self.end_ids = ends.union(params.stop_token_ids)
        """Tokens that say that the text has ended; they are not part of it."""
        self._to_come = params.min_tokens
        self._held = ""

    def is_end(self, token: int) -> bool:
        """Whether this token says that the text has ended."""
        return token in self.end_ids

    def push(self, token: int) -> tuple[str, bool]:
        """The text that is sure now, and whether a stop string has come."""
        if self._decoder is None:
            return "", False
        self._held += self._decoder.push(token)
        self._to_come -= 1
        if self._to_come >= 0:  # nothing ends the text yet
            return self._give(len(self._held)), False
        stop_at = min((at for s in self._stops if (at := self._held.find(s)) >= 0), default=None)
        if stop_at is not None:
            return self._give(stop_at, drop_rest=True), True
        return self._give(len(self._held) - _could_begin_stop(self._held, self._stops)), False

    def flush(self) -> str:
        """What was held back; the text ends here."""
        if self._decoder is None:
            return ""
        self._held += self._decoder.flush()
        return self._give(len(self._held))

    def _give(self, size: int, *, drop_rest: bool = False) -> str:
        piece, self._held = self._held[:size], "" if drop_rest else self._held[size:]
        self.text += piece
        return piece


def _could_begin_stop(text: str, stops: Sequence[str]) -> int:
    """How many last characters might be the beginning of a stop string."""
    most = 0
    for stop in stops:
        for size in range(min(len(stop) - 1, len(text)), most, -1):
            if text.endswith(stop[:size]):
                most = size
                break
    return most
