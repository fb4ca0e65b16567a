"""Bodies of requests have a bound: what is larger is refused, by its declared size or once it has come so far."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chat import limits
from chat.problems import CODES, Refused, problem

TITLE = f"The body is larger than {limits.BODY_BYTES_MAX >> 20} MiB"


class Bounded:
    """Middleware that lets nobody make us keep more than BODY_BYTES_MAX."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if int(Headers(scope=scope).get("content-length", 0)) > limits.BODY_BYTES_MAX:
            await problem(Refused(413, CODES[413], TITLE))(scope, receive, send)
            return
        size = 0

        async def counted() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > limits.BODY_BYTES_MAX:
                raise HTTPException(413, TITLE)  # the one exception that readers of bodies let through
            return message

        await self._app(scope, counted, send)
