"""Refusals: errors that a caller can understand and act on, as application/problem+json (RFC 9457).

`Refused` is final: the same request will be refused again. `Unavailable` passes: nothing was changed, come again.
`Unknown` is neither: the change may have come about or not.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from chat import limits

MEDIA_TYPE = "application/problem+json"
CODES = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 413: "too_large"}
"""Of refusals by the framework, which has none."""


class Problem(BaseModel):
    """What every refusal looks like outside; some have members of their own besides."""

    model_config = ConfigDict(extra="allow")

    type: str = "about:blank"
    title: str
    status: int
    code: str
    hint: Annotated[str, Field(exclude_if=lambda hint: not hint)] = ""
    """What the caller may do."""


_SHAPE = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"description": HTTPStatus(status).phrase, "content": _SHAPE}
    for status in (400, 401, 403, 404, 409, 413, 422, 429, 503, 504)
}
"""For the description of every endpoint: the refusals that a caller has to be prepared for."""


class Refused(Exception):
    """A request that is not granted: HTTP status, a code for programs, a title for people, and what they may do."""

    def __init__(
        self, status: int, code: str, title: str, hint: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(title)
        self.status = status
        self.code = code
        self.title = title
        self.hint = hint
        self.headers = dict(headers or {})


class Unavailable(Refused):
    """A part that is needed is away. Nothing was changed."""

    def __init__(self, what: str) -> None:
        super().__init__(503, "unavailable", f"{what} can't be reached", "Try again shortly.", {"Retry-After": "1"})


class Unknown(Refused):
    """Nobody can tell whether the change came about."""

    def __init__(self) -> None:
        super().__init__(504, "outcome_unknown", "It is not known whether this was done", "Look before trying again.")


def problem(refused: Refused, **more: object) -> Response:
    """Return a refusal as a response, with members of its own."""
    document = Problem(title=refused.title, status=refused.status, code=refused.code, hint=refused.hint, **more)
    return JSONResponse(document.model_dump(), refused.status, refused.headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Have the application answer every refusal, its framework's included, in this form."""
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _failed)


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return problem(error)


def _invalid(request: Request, error: Exception) -> Response:
    """Say which fields make no sense, and why; what was sent is not sent back."""
    assert isinstance(error, RequestValidationError)
    fields = [
        {"field": ".".join(map(str, one["loc"]))[: limits.REASON_CHARACTERS_MAX], "why": one["msg"]}
        for one in error.errors()[: limits.FIELDS_TOLD_MAX]
    ]
    return problem(Refused(422, "invalid", "The request makes no sense", "See `fields`."), fields=fields)


def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = CODES.get(error.status_code, "http")
    return problem(Refused(error.status_code, code, str(error.detail), headers=error.headers))


def _failed(request: Request, error: Exception) -> Response:
    """Tell nothing of what went wrong: that is for the log, to which it is on its way."""
    return problem(Refused(500, "internal", "This should not have happened"))
