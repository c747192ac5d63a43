"""Errors as OpenAI's clients expect them: a status, and {"error": {message, type, param, code}}.

Texts are written here and in the checks, never taken from an exception: what goes wrong inside
is for the log, not for a stranger.
"""

import re
from typing import Any

from fastapi.responses import JSONResponse
from pydantic import ValidationError

_TYPES = {401: "authentication_error", 429: "rate_limit_error"}
RETRY_SECONDS = "1"
_NAME = re.compile(r"[a-z_]+")


class APIError(Exception):
    """An answer that is an error.

    status: HTTP status; param: the field that is wrong; code: a word for programs.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.headers = headers or {}

    @property
    def body(self) -> dict[str, Any]:
        """What the client reads."""
        fallback = "server_error" if self.status >= 500 else "invalid_request_error"
        kind = _TYPES.get(self.status, fallback)
        named = {"param": self.param, "code": self.code}
        return {"error": {"message": self.message, "type": kind} | named}

    def response(self) -> JSONResponse:
        """The whole HTTP answer."""
        return JSONResponse(self.body, self.status, self.headers)


class ClientGone(Exception):
    """Nobody is left to be answered."""


def wrong(param: str, message: str, code: str | None = None) -> APIError:
    """400: a field has a value that is not allowed."""
    return APIError(400, f"{param}: {message}", param=param, code=code)


def too_long(param: str, needed: int, room: int) -> APIError:
    """400: prompt and answer together do not fit."""
    message = f"{needed} tokens of prompt and answer are too many: the context has {room}"
    return APIError(400, message, param=param, code="context_length_exceeded")


def unsupported(param: str, why: str = "this server does not support it") -> APIError:
    """400: the field would change the answer, and this server cannot do that."""
    return wrong(param, why, code="unsupported_parameter")


def too_large(limit: int) -> APIError:
    """413: the body of the request."""
    return APIError(413, f"the request is larger than {limit} bytes", code="request_too_large")


def too_many(limit: int) -> APIError:
    """429: as many requests as allowed are open."""
    return APIError(
        429,
        f"{limit} requests are open, and no more are taken; try again soon",
        code="rate_limit_exceeded",
        headers={"Retry-After": RETRY_SECONDS},
    )


def stopping() -> APIError:
    """503: the server is about to end."""
    return APIError(
        503,
        "the server is stopping",
        code="service_unavailable",
        headers={"Retry-After": RETRY_SECONDS, "Connection": "close"},
    )


def engine_failed() -> APIError:
    """500: something went wrong inside; the log knows what."""
    return APIError(500, "the engine failed on this request", code="engine_error")


def too_complex() -> APIError:
    """400: what the answer had to keep to was taken, but could not be followed to its end."""
    message = "the schema, grammar or pattern is too complex to be followed"
    return APIError(400, message, code="too_complex")


def of_validation(error: ValidationError, fields: frozenset[str]) -> APIError:
    """400 for the first thing that a schema found wrong.

    fields: all names of the schemas; other parts of a place are pydantic's own notes.
    """
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    param = ""
    for part in first["loc"]:
        if isinstance(part, int):
            param += f"[{part}]"
        elif part in fields and _NAME.fullmatch(part):
            param += f".{part}" if param else part
    return wrong(param or "request", first["msg"][:1].lower() + first["msg"][1:])
