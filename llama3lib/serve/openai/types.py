"""Requests and answers of OpenAI's HTTP interface, as far as this server speaks it.

Types are strict: a number in quotes is no number. Unknown fields are let through and ignored;
those that would change the answer are refused by name (`refuse_unsupported`).
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from llama3lib.serve.openai.errors import unsupported, wrong


class _Form(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


class StreamOptions(_Form):
    """What else a stream shall tell."""

    include_usage: bool | None = None


class _Request(_Form):
    """What completions and chat have in common. None everywhere means: left out."""

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=-1, lt=2**31)
    min_p: float | None = Field(None, ge=0, lt=1)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    repetition_penalty: float | None = Field(None, gt=0)
    logit_bias: dict[str, float] | None = None
    max_tokens: int | None = Field(None, ge=1)
    min_tokens: int | None = Field(None, ge=0)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = Field(None, max_length=64)
    ignore_eos: bool | None = None
    response_format: dict[str, Any] | None = None
    structured_outputs: dict[str, Any] | None = None
    guided_json: dict[str, Any] | str | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None

    @property
    def stops(self) -> list[str]:
        """The strings that end the text."""
        return [self.stop] if isinstance(self.stop, str) else list(self.stop or ())

    @property
    def wants_usage(self) -> bool:
        """Whether the stream shall end with the tokens used."""
        return bool(self.stream_options and self.stream_options.include_usage)


class CompletionRequest(_Request):
    """POST /v1/completions."""

    prompt: Any
    """A text, ids, or a list of either; see `prompts`."""
    max_tokens: int | None = Field(None, ge=0)
    echo: bool | None = None
    logprobs: int | None = Field(None, ge=0)
    best_of: int | None = None


class ContentPart(_Form):
    """A piece of a message."""

    type: str
    text: str | None = None


class FunctionCall(_Form):
    """The call that an assistant made: its arguments are JSON in a string, or the object itself."""

    name: str
    arguments: str | dict[str, Any] | None = None


class ToolCallEntry(_Form):
    """One call in an assistant's message."""

    id: str | None = None
    type: Literal["function"] = "function"
    function: FunctionCall


class ChatMessage(_Form):
    """One message of a dialog."""

    role: str
    content: str | list[ContentPart] | None = None
    tool_calls: list[ToolCallEntry] | None = None
    tool_call_id: str | None = None


class FunctionSpec(_Form):
    """A function that the model may call."""

    name: str = Field(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ToolSpec(_Form):
    """A tool; only functions are known."""

    type: Literal["function"]
    function: FunctionSpec


class ChatRequest(_Request):
    """POST /v1/chat/completions."""

    messages: list[ChatMessage] = Field(min_length=1)
    tools: list[ToolSpec] | None = Field(None, max_length=128)
    tool_choice: str | dict[str, Any] | None = None
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0)


class EmbeddingRequest(_Form):
    """POST /v1/embeddings."""

    model: str
    input: Any
    """A text, ids, or a list of either."""
    encoding_format: Literal["float", "base64"] | None = None


class TokenizeRequest(_Form):
    """POST /tokenize: a text, or the messages of a dialog."""

    model: str | None = None
    prompt: str | None = None
    add_special_tokens: bool | None = None
    messages: list[ChatMessage] | None = Field(None, min_length=1)
    tools: list[ToolSpec] | None = Field(None, max_length=128)
    return_token_strs: bool | None = None


class DetokenizeRequest(_Form):
    """POST /detokenize."""

    model: str | None = None
    tokens: list[int]


FIELDS = frozenset(
    name
    for form in (CompletionRequest, ChatRequest, EmbeddingRequest, TokenizeRequest)
    + (DetokenizeRequest, StreamOptions, ContentPart, FunctionCall)
    + (ToolCallEntry, ChatMessage, FunctionSpec, ToolSpec)
    for name in form.model_fields
)

# fields that would change the answer, and the values with which they change nothing
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "length_penalty": (1,),
    "suffix": ("",),
    "functions": ([],),
    "function_call": ("none",),
    "modalities": (["text"],),
    "audio": (),
    "reasoning_effort": (),
    "verbosity": (),
    "web_search_options": (),
    "use_beam_search": (False,),
    "bad_words": ([],),
    "allowed_token_ids": (),
    "prompt_logprobs": (),
    "truncate_prompt_tokens": (),
    "include_stop_str_in_output": (False,),
    "skip_special_tokens": (),
    "add_generation_prompt": (True,),
    "continue_final_message": (False,),
    "chat_template": (),
    "chat_template_kwargs": ({},),
    "documents": ([],),
    "dimensions": (),
    "guided_whitespace_pattern": (),
}


def refuse_unsupported(form: _Form) -> None:
    """Raises APIError (400) for what cannot be done, rather than doing something else."""
    for name, value in (form.model_extra or {}).items():
        neutral = _NEUTRAL.get(name)
        if neutral is not None and value is not None and value not in neutral:
            raise unsupported(name)
    if isinstance(form, _Request) and form.stream_options is not None and not form.stream:
        raise wrong("stream_options", "only allowed with stream=true")
    if isinstance(form, CompletionRequest) and form.best_of not in (None, form.n or 1):
        raise unsupported("best_of", "only allowed to be the same as n")
    if isinstance(form, ChatRequest) and form.top_logprobs is not None and not form.logprobs:
        raise wrong("top_logprobs", "only allowed with logprobs=true")


class CachedTokens(BaseModel):
    """How much of the prompt was in the cache already."""

    cached_tokens: int = 0


class Usage(BaseModel):
    """Tokens read and written; a token that only ends the text is not counted."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens


class CompletionLogprobs(BaseModel):
    """Log-probabilities of /v1/completions: a list each."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class TopLogprob(BaseModel):
    """A token that might have come."""

    token: str
    logprob: float
    bytes: list[int]


class ChatTokenLogprob(TopLogprob):
    """A token that came."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(BaseModel):
    """Log-probabilities of /v1/chat/completions."""

    content: list[ChatTokenLogprob]
    refusal: None = None


class CompletionChoice(BaseModel):
    """A text, or the next piece of one."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: str | None


class AnswerMessage(BaseModel):
    """What the assistant says, or the next piece of it; only what is set is sent."""

    role: str | None = None
    content: str | None = None
    refusal: None = None
    tool_calls: list[dict[str, Any]] | None = None


class ChatChoice(BaseModel):
    """An answer: whole in `message`, or the next piece in `delta`."""

    index: int
    message: AnswerMessage | None = None
    delta: AnswerMessage | None = None
    logprobs: ChatLogprobs | None
    finish_reason: str | None


class Answer(BaseModel):
    """The body of an answer, or one event of a stream; only what is set is sent."""

    id: str
    object: str
    created: int
    model: str
    choices: list[CompletionChoice] | list[ChatChoice]
    usage: Usage | None = None

    def json_bytes(self) -> bytes:
        """As it goes over the wire."""
        return self.model_dump_json(exclude_unset=True).encode()
