"""One text in the making: its tokens, where its cache lies, and what has been computed of it."""

from collections.abc import Collection
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING

import torch

from llama3lib.inference.sampling import SamplingParams

if TYPE_CHECKING:
    from llama3lib.inference.prompt_states import PromptReader
    from llama3lib.inference.structured import Constraint


class SequenceStatus(Enum):
    """Where a sequence stands."""

    WAITING = auto()
    RUNNING = auto()
    FINISHED = auto()


@dataclass(eq=False)
class Sequence:
    """A prompt and what follows it.

    The keys and values of the first `num_computed_tokens` tokens are in the cache, in the blocks
    of `block_table`: token i in block i // block_size.
    """

    token_ids: list[int]
    params: SamplingParams
    num_prompt_tokens: int = 0
    num_computed_tokens: int = 0
    block_table: list[int] = field(default_factory=list)
    status: SequenceStatus = SequenceStatus.WAITING
    num_samples: int = 1
    """Texts that shall follow this prompt; the others are forked when it has been read."""
    request_id: str = ""
    sample_id: int = 0
    finish_reason: str | None = None
    """`stop`, `length`, `error` or `abort`."""
    generator: torch.Generator | None = None
    constraint: "Constraint | None" = None
    """What the text keeps to, and where in it the text stands."""
    end_ids: Collection[int] = ()
    """Tokens that end the text."""
    readers: list["PromptReader"] = field(default_factory=list)
    """Who wants to see the prompt go through the model; none any more when it has."""
    block_keys: list[int] = field(default_factory=list)
    """Names of the full blocks in the manager's table of prefixes."""
    num_cached_tokens: int | None = None
    """Tokens that others had computed when it was first let in; None before."""
    in_flight: bool = False
    """Whether a step with it is under way: it cannot take part in another one, or make room."""

    def __post_init__(self) -> None:
        if not self.token_ids:
            raise ValueError("token_ids=[] is not allowed: at least one token")
        self.num_prompt_tokens = self.num_prompt_tokens or len(self.token_ids)

    def __len__(self) -> int:
        return len(self.token_ids)

    @property
    def output_ids(self) -> list[int]:
        """The tokens after the prompt."""
        return self.token_ids[self.num_prompt_tokens :]

    @property
    def num_output_tokens(self) -> int:
        """How many tokens follow the prompt."""
        return len(self.token_ids) - self.num_prompt_tokens

    @property
    def num_uncomputed_tokens(self) -> int:
        """Tokens that have to go through the model before the next one can be drawn."""
        return len(self.token_ids) - self.num_computed_tokens

    @property
    def is_finished(self) -> bool:
        return self.status is SequenceStatus.FINISHED

    def fork(self, sample_id: int, generator: torch.Generator | None) -> "Sequence":
        """Another text on the same prompt; its blocks are shared by `BlockManager.fork`."""
        return Sequence(
            list(self.token_ids),
            self.params,
            num_prompt_tokens=self.num_prompt_tokens,
            num_computed_tokens=self.num_computed_tokens,
            status=self.status,
            request_id=self.request_id,
            sample_id=sample_id,
            generator=generator,
            num_cached_tokens=self.num_cached_tokens,
            constraint=self.constraint and self.constraint.copy(),
            end_ids=self.end_ids,
        )
