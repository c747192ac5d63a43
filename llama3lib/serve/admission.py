"""What stands before the routes: the key, the number of open requests, sizes, and who has left.

`AdmissionMiddleware` wraps the whole application (ASGI), so that an error in any route gets
OpenAI's shape, and whatever a request held is given back, however it ends.
"""

import asyncio
import contextlib
import hashlib
import hmac
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.responses import StreamingResponse
from pydantic_core import from_json
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llama3lib.serve.engine_thread import EngineThread, Job
from llama3lib.serve.metrics import Metrics
from llama3lib.serve.openai.errors import (
    APIError,
    ClientGone,
    engine_failed,
    stopping,
    too_large,
    too_many,
)
from llama3lib.serve.settings import Limits
from llama3lib.utils.logging import get_logger

_log = get_logger(__name__)
_JOBS = "llama3.jobs"
_OPEN_PATHS = ("/health",)
_PATHS = ("/v1/completions", "/v1/chat/completions", "/v1/embeddings", "/v1/models")
_PATHS += ("/tokenize", "/detokenize", "/metrics", "/health")


class Admission:
    """Counts who is inside, and lets nobody in any more when the server is to stop."""

    def __init__(self, metrics: Metrics, limits: Limits, api_key: str | None) -> None:
        self.metrics, self.limits, self.stopping = metrics, limits, False
        self.open_requests = 0
        self._key = None if api_key is None else _digest(api_key.encode())

    def check_key(self, scope: Scope) -> None:
        """Raises APIError (401) without the right key; takes the same time for every wrong one."""
        if self._key is None or scope["path"] in _OPEN_PATHS:
            return
        given = dict(scope["headers"]).get(b"authorization", b"")
        kind, _, key = given.partition(b" ")
        right = hmac.compare_digest(_digest(key.strip()), self._key)
        if not (right and kind.lower() == b"bearer"):
            raise APIError(
                401,
                "the API key is missing or wrong",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )

    def enter(self, scope: Scope) -> Callable[[], None]:
        """Take a seat if this is a request for text; returns how to leave it.

        Raises APIError: 503 when the server is to stop, 429 if all seats are taken.
        """
        if scope["method"] != "POST":
            return lambda: None
        if self.stopping:
            raise stopping()
        if self.open_requests >= self.limits.max_concurrent:
            raise too_many(self.limits.max_concurrent)
        seats = contextlib.ExitStack()  # left once, however often it is said
        seats.callback(self._count, -1)
        self._count(1)
        return seats.close

    def _count(self, change: int) -> None:
        self.open_requests += change
        self.metrics.open_requests.set(self.open_requests)

    async def emptied(self, seconds: float) -> bool:
        """Wait until nobody is inside; False if it takes longer."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.open_requests:
                    await asyncio.sleep(0.02)
        return not self.open_requests


class AdmissionMiddleware:
    """The application, behind an admission."""

    def __init__(self, app: ASGIApp, *, admission: Admission, engine: EngineThread) -> None:
        self.app, self.admission, self.engine = app, admission, engine

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 0

        async def noting(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        scope[_JOBS] = []
        try:
            error = await self._pass(scope, receive, noting)
            if error is not None and not status:
                await error.response()(scope, receive, noting)
        except (ClientGone, ClientDisconnect):
            status = 499
        finally:
            for job in scope[_JOBS]:
                self.engine.abort(job)
            endpoint = scope["path"] if scope["path"] in _PATHS else "other"
            self.admission.metrics.requests.labels(endpoint, str(status or 500)).inc()

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> APIError | None:
        leave = None

        async def last_leaves(message: Message) -> None:
            # before the client can know that it is over and ask for the next
            if message["type"] == "http.response.body" and not message.get("more_body"):
                leave()
            await send(message)

        try:
            self.admission.check_key(scope)
            leave = self.admission.enter(scope)
            await self.app(scope, receive, last_leaves)
        except APIError as error:
            return error
        except (ClientGone, ClientDisconnect):
            raise
        except Exception:
            _log.exception("a request failed")
            return engine_failed()
        finally:
            if leave is not None:
                leave()
        return None


def remember(request: Request, job: Job) -> None:
    """Whatever becomes of the request, its job ends with it."""
    request.scope[_JOBS].append(job)


async def read_json(request: Request, limits: Limits) -> dict[str, Any]:
    """The body. Raises APIError: 415 not called JSON, 413 too large, 408 too slow, 400 not JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":  # else any web page could ask a server on localhost
        raise APIError(415, "Content-Type must be application/json", code="unsupported_media_type")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > limits.max_body_bytes:
        raise too_large(limits.max_body_bytes)
    body = bytearray()
    try:
        async with asyncio.timeout(limits.read_seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limits.max_body_bytes:
                    raise too_large(limits.max_body_bytes)
    except TimeoutError:
        raise APIError(408, "the request took too long to come", code="timeout") from None
    try:
        data = from_json(bytes(body), allow_inf_nan=False)
    except ValueError:
        data = None
    if not isinstance(data, dict):
        raise APIError(400, "the body must be a JSON object in UTF-8", code="invalid_json")
    return data


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, Any]) -> Any:
    """The result of `work`. Raises ClientGone, and ends the work, if the client leaves first."""
    tasks = asyncio.ensure_future(work), asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if tasks[0].done():
            return tasks[0].result()
        raise ClientGone
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream(StreamingResponse):
    """Server-sent events. What goes wrong on the way is told as a last event."""

    def __init__(self, events: AsyncGenerator[bytes], write_seconds: float) -> None:
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(events, headers=headers, media_type="text/event-stream")
        self._events, self._seconds = events, write_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        head = {"status": self.status_code, "headers": self.raw_headers}
        await send({"type": "http.response.start", **head})
        await unless_gone(receive, self._write(send))

    async def _write(self, send: Send) -> None:
        async with contextlib.aclosing(self._events) as events:
            try:
                async for event in events:
                    await self._send(send, event)
            except ClientGone:
                raise
            except Exception:
                _log.exception("a stream failed")
                await self._send(send, b"data: " + engine_failed().response().body + b"\n\n")
        await self._send(send, b"data: [DONE]\n\n", more=False)

    async def _send(self, send: Send, body: bytes, *, more: bool = True) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                await send({"type": "http.response.body", "body": body, "more_body": more})
        except TimeoutError:
            raise ClientGone from None


def _digest(key: bytes) -> bytes:
    # of equal length for all keys: the time to compare tells nothing
    return hashlib.sha256(key).digest()
