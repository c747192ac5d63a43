"""What the engine gives back, and what it keeps of a request meanwhile."""

from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from llama3lib.inference.prompt_states import LogprobReader, StateReader
from llama3lib.inference.sampling import TokenLogprob
from llama3lib.inference.sequence import Sequence
from llama3lib.inference.text import TextStream


@dataclass(frozen=True)
class RequestOutput:
    """What a step brought for one sample of a request."""

    request_id: str
    sample_id: int
    token_ids: list[int]
    """All tokens after the prompt so far, without one that ended the text."""
    text: str
    """All text so far that is sure to stay."""
    new_text: str
    finished: bool
    finish_reason: str | None
    """`stop`: it has ended; `length`: `max_tokens` are written; `error`: see `error`; or None."""
    num_prompt_tokens: int
    num_cached_tokens: int = 0
    new_token_ids: list[int] = field(default_factory=list)
    """The tokens of this step; none if the one drawn only said that the text has ended."""
    new_logprobs: list[TokenLogprob] = field(default_factory=list)
    """What the model thought of them, if `SamplingParams.logprobs` asks for it."""
    prompt_logprobs: list[TokenLogprob | None] | None = None
    """What it thought of the prompt, if `SamplingParams.prompt_logprobs` asks for it; None for
    the first token, which nothing stands before."""
    states: Float[Tensor, "*T D"] | None = None
    """What `add_request(states=...)` asks for."""
    error: str | None = None
    """Why there is no text, or no more of it."""

    @property
    def is_first(self) -> bool:
        """Whether nothing was told of this sample before."""
        return len(self.token_ids) == len(self.new_token_ids)

    @classmethod
    def failed(cls, error: str) -> "RequestOutput":
        """Of a request that was not taken."""
        return cls("", 0, [], "", "", True, "error", num_prompt_tokens=0, error=error)


@dataclass
class Request:
    """One request: its samples and their texts, and who reads its prompt."""

    request_id: str
    sequences: list[Sequence] = field(default_factory=list)
    texts: dict[int, TextStream] = field(default_factory=dict)
    logprob_reader: LogprobReader | None = None
    state_reader: StateReader | None = None

    @property
    def seen(self) -> dict[str, object]:
        """What its outputs tell of the prompt."""
        found: dict[str, object] = {}
        if self.logprob_reader is not None:
            found["prompt_logprobs"] = self.logprob_reader.logprobs
        if self.state_reader is not None:
            found["states"] = self.state_reader.states
        return found
