"""A thin HTTP server with OpenAI's interface over the engine.

    with LLMEngine(model, tokenizer) as engine:
        uvicorn.run(create_app(engine, model_name="mine"), host="127.0.0.1", port=8000)

A request goes this way: `admission` (key, seats, size) → `openai.types` (schema) → `openai.prompts`
(limits, ids) → `engine_thread` → `openai.answer` (bodies and events).
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from llama3lib.inference import LLMEngine, SamplingParams
from llama3lib.serve.admission import (
    Admission,
    AdmissionMiddleware,
    EventStream,
    read_json,
    remember,
    unless_gone,
)
from llama3lib.serve.engine_thread import EngineError, EngineThread, Job, TokenDelta
from llama3lib.serve.metrics import Metrics
from llama3lib.serve.openai.answer import AnswerWriter, TextReader
from llama3lib.serve.openai.chat import ChatWriter, not_a_chat_model
from llama3lib.serve.openai.completions import CompletionWriter
from llama3lib.serve.openai.embeddings import embeddings_body
from llama3lib.serve.openai.errors import (
    APIError,
    engine_failed,
    of_validation,
    stopping,
    too_complex,
)
from llama3lib.serve.openai.prompts import (
    PreparedRequest,
    PromptReader,
    checked_model,
    unknown_model,
)
from llama3lib.serve.openai.structured import read_forced_call
from llama3lib.serve.openai.tools import offered_tools, read_tool_calls
from llama3lib.serve.openai.types import (
    FIELDS,
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    EmbeddingRequest,
    TokenizeRequest,
    refuse_unsupported,
)
from llama3lib.serve.settings import Limits
from llama3lib.tokenizer import chat_format_of

AnyForm = CompletionRequest | ChatRequest
Form = TypeVar(
    "Form", CompletionRequest, ChatRequest, EmbeddingRequest, TokenizeRequest, DetokenizeRequest
)


class Service:
    """What the routes share. The engine belongs to who made it; only its steps are ours."""

    def __init__(
        self, engine: LLMEngine, *, model_name: str, api_key: str | None, chat: bool, limits: Limits
    ) -> None:
        self.model_name, self.limits, self.chat = model_name, limits, chat
        self.created = int(time.time())
        self.metrics = Metrics()
        self.admission = Admission(self.metrics, limits, api_key)
        self.reader = PromptReader(engine, limits)
        self.tokenizer = self.reader.tokenizer
        self.engine = EngineThread(engine, self.metrics)
        self.chat_format = chat_format_of(self.tokenizer) if chat else None

    async def drain(self, seconds: float) -> None:
        """Take no new requests; let those inside finish; after `seconds` end the rest."""
        self.admission.stopping = True
        if not await self.admission.emptied(seconds):
            self.engine.abort_all()
            await self.admission.emptied(_LAST_SECONDS)

    def model_card(self) -> dict[str, Any]:
        """The model as /v1/models tells it."""
        return {
            "id": self.model_name,
            "object": "model",
            "created": self.created,
            "owned_by": "llama3lib",
            "max_model_len": self.reader.context,
        }

    def submit(self, request: Request, prepared: PreparedRequest) -> Job:
        """Hand it to the engine; its job ends with the request."""
        job = self.engine.submit(
            prepared.prompts, prepared.params, prepared.n, constraint=prepared.constraint
        )
        remember(request, job)
        return job

    async def embed(self, request: Request, form: EmbeddingRequest) -> dict[str, Any]:
        """The body of /v1/embeddings."""
        prompts = await asyncio.to_thread(self.reader.embedding, form)
        job = self.engine.submit(prompts, SamplingParams(max_tokens=0), 1, states="mean")
        remember(request, job)
        deltas = await unless_gone(request.receive, _gather(job))
        return await asyncio.to_thread(
            embeddings_body,
            [delta.states for delta in sorted(deltas, key=lambda delta: delta.index)],
            model=self.model_name,
            num_tokens=job.num_prompt_tokens,
            as_base64=form.encoding_format == "base64",
        )

    def tokenize(self, form: TokenizeRequest) -> dict[str, Any]:
        """The body of /tokenize."""
        ids = self.reader.tokens(form, self.chat_format)
        names = [self.tokenizer.decode([i]) for i in ids] if form.return_token_strs else None
        found = {"count": len(ids), "max_model_len": self.reader.context, "tokens": ids}
        return found | {"token_strs": names}

    def detokenize(self, form: DetokenizeRequest) -> dict[str, Any]:
        """The body of /detokenize."""
        self.reader.check_ids("tokens", form.tokens)
        return {"prompt": self.tokenizer.decode(form.tokens)}

    def writer(self, form: AnyForm, prepared: PreparedRequest) -> AnswerWriter:
        """What makes the answer of a request."""
        kind, logprobs = CompletionWriter, form.logprobs is not None
        calls = None
        if isinstance(form, ChatRequest):
            kind, logprobs = ChatWriter, bool(form.logprobs)
            offered = frozenset(tool.function.name for tool in offered_tools(form))
            if offered and prepared.constraint is not None:
                calls = partial(self._forced_call, offered=offered)
            elif offered:
                calls = partial(read_tool_calls, self.chat_format, offered=offered)
        readers = []
        for index in range(len(prepared.prompts) * prepared.n):
            place = index // prepared.n
            opening = prepared.openings[place], prepared.prompts[place]
            readers.append(TextReader(index, self.tokenizer, calls, *opening))
        return kind(self.model_name, self.tokenizer, readers, logprobs=logprobs)

    def _forced_call(self, ids: list[int], offered: frozenset[str]) -> list[dict[str, Any]]:
        return read_forced_call(self.tokenizer.decode(ids), offered)


_LAST_SECONDS = 5.0


def create_app(
    engine: LLMEngine,
    *,
    model_name: str,
    api_key: str | None = None,
    chat: bool = True,
    limits: Limits | None = None,
) -> FastAPI:
    """The application over an engine that has a tokenizer.

    model_name: what clients call the model. api_key: what they must send; None asks for none.
    chat: whether dialogs are answered; a base model only continues text.
    While it runs, nobody else may step the engine. `app.state.service` is what the routes share.

    Raises ValueError for an empty name or key, or an engine without what is needed.
    """
    if not model_name:
        raise ValueError("model_name='' is not allowed: at least one character")
    if api_key is not None and not api_key:
        raise ValueError("api_key is not allowed to be empty")
    service = Service(
        engine, model_name=model_name, api_key=api_key, chat=chat, limits=limits or Limits()
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.engine.start()
        try:
            yield
        finally:
            await service.engine.stop()

    # no pages of documentation: they would load scripts from other machines
    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.router.redirect_slashes = False
    app.state.service = service
    app.add_middleware(AdmissionMiddleware, admission=service.admission, engine=service.engine)
    app.add_exception_handler(HTTPException, _unknown_route)
    _add_routes(app, service)
    return app


def _add_routes(app: FastAPI, service: Service) -> None:
    @app.post("/v1/completions")
    async def completions(request: Request) -> Response:
        form = await _read(request, service, CompletionRequest)
        prepared = await asyncio.to_thread(service.reader.completion, form)
        return await _respond(request, service, form, prepared)

    @app.post("/v1/chat/completions")
    async def chat_completions(request: Request) -> Response:
        form = await _read(request, service, ChatRequest)
        if service.chat_format is None:
            raise not_a_chat_model(service.model_name)
        prepared = await asyncio.to_thread(service.reader.chat, form, service.chat_format)
        return await _respond(request, service, form, prepared)

    @app.post("/v1/embeddings")
    async def embeddings(request: Request) -> Response:
        form = await _read(request, service, EmbeddingRequest)
        return JSONResponse(await service.embed(request, form))

    @app.post("/tokenize")
    async def tokenize(request: Request) -> Response:
        form = await _read(request, service, TokenizeRequest)
        return JSONResponse(await asyncio.to_thread(service.tokenize, form))

    @app.post("/detokenize")
    async def detokenize(request: Request) -> Response:
        form = await _read(request, service, DetokenizeRequest)
        return JSONResponse(await asyncio.to_thread(service.detokenize, form))

    @app.get("/v1/models")
    async def models() -> Response:
        return JSONResponse({"object": "list", "data": [service.model_card()]})

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> Response:
        if name != service.model_name:
            raise unknown_model()
        return JSONResponse(service.model_card())

    @app.get("/health")
    async def health() -> Response:
        state = "stopping" if service.admission.stopping else service.engine.state
        return JSONResponse({"status": state}, 200 if state == "ok" else 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        kind = "text/plain; version=0.0.4; charset=utf-8"
        return Response(service.metrics.text(), media_type=kind)


async def _read(request: Request, service: Service, form: type[Form]) -> Form:
    data = await read_json(request, service.limits)
    try:
        made = form.model_validate(data)
    except ValidationError as error:
        raise of_validation(error, FIELDS) from None
    checked_model(made.model, service.model_name)
    refuse_unsupported(made)
    return made


async def _respond(
    request: Request,
    service: Service,
    form: AnyForm,
    prepared: PreparedRequest,
) -> Response:
    job, writer = service.submit(request, prepared), service.writer(form, prepared)
    if not form.stream:
        body = await unless_gone(request.receive, _whole(job, writer))
        return Response(body, media_type="application/json")
    batches = job.batches()
    # only when there is something to tell: until then an error is an answer of its own
    first = await unless_gone(request.receive, _first(batches))
    events = _events(job, writer, first, batches, form.wants_usage)
    return EventStream(events, service.limits.write_seconds)


async def _whole(job: Job, writer: AnswerWriter) -> bytes:
    deltas = writer.take(await _gather(job))
    return writer.whole(deltas, _usage(job, writer))


async def _gather(job: Job) -> list[TokenDelta]:
    """All that comes of a request. Raises APIError unless it comes to its end."""
    deltas = []
    try:
        async for batch in job.batches():
            deltas += batch
    except EngineError as error:
        raise _as_api_error(error) from None
    if any(delta.finish_reason == "abort" for delta in deltas):
        raise stopping()
    return deltas


async def _first(batches: AsyncIterator[list[TokenDelta]]) -> list[TokenDelta]:
    try:
        return await anext(batches)
    except EngineError as error:
        raise _as_api_error(error) from None


async def _events(
    job: Job,
    writer: AnswerWriter,
    first: list[TokenDelta],
    batches: AsyncIterator[list[TokenDelta]],
    wants_usage: bool,
) -> AsyncGenerator[bytes]:
    """A stream: every event says that its usage is not known yet; the last one knows."""
    usage = {"usage": None} if wants_usage else {}
    for event in writer.first_events(**usage):
        yield event
    batch: list[TokenDelta] | None = first
    while batch is not None:
        for delta in writer.take(batch):
            for choice in writer.choices(delta):
                yield writer.event([choice], **usage)
        batch = await anext(batches, None)
    if wants_usage:
        yield writer.event([], usage=_usage(job, writer))


def _usage(job: Job, writer: AnswerWriter) -> Any:
    return writer.usage(job.num_prompt_tokens, job.num_cached_tokens)


def _as_api_error(error: EngineError) -> APIError:
    if error.too_complex:
        return too_complex()
    if error.refused:
        return APIError(400, "the engine cannot serve this request")
    return engine_failed()


async def _unknown_route(_: Request, error: HTTPException) -> Response:
    code = "method_not_allowed" if error.status_code == 405 else "not_found"
    message = "this path does not know the method" if error.status_code == 405 else "no such path"
    raise APIError(error.status_code, message, code=code, headers=dict(error.headers or {}))
