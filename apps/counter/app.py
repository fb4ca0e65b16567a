"""A counter over HTTP, as bare ASGI. It knows nothing of replication: all its state is two integers in memory.

    GET  /integer        -> 200 {"value":n}
    POST /integer        {"op":"INC"|"DEC","value":k} -> 201 {"value":n}, n being the new value; another op -> 500
    POST /integer/reset  -> 200 {"value":0}
    GET  /last-index     -> 200 {"index":N}, N being the `log-index` field of the last request that bore one
    GET  /snapshot       -> 200 {"value":n,"index":N}, all of its state
    PUT  /snapshot       the same -> 200 {"value":n,"index":N}, which is its state from now on

Numbers are the integers that a double holds exactly, so that `app.js` beside this file can answer with the same bytes.
It refuses malformed JSON (400), unknown paths (404), wrong methods (405), long bodies (413) and overflow (422).
"""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn

BODY_BYTES_MAX = 1024
INTEGER_MAX = 2**53 - 1

METHODS = {
    b"/integer": ("GET", "HEAD", "POST"),
    b"/integer/reset": ("POST",),
    b"/last-index": ("GET", "HEAD"),
    b"/snapshot": ("GET", "HEAD", "PUT"),
}

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class Refused(Exception):
    """The request is answered with this status and this explanation, and changes nothing."""

    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.status = status
        self.error = error


class Counter:
    """The state, and what each request does to it."""

    def __init__(self) -> None:
        self.value = 0
        self.last_index = 0

    def handle(self, method: str, path: bytes, body: bytes) -> tuple[int, dict[str, int]]:
        """Execute one request; Refused is raised before anything changes."""
        methods = METHODS.get(path)
        if methods is None:
            raise Refused(404, "no such path")
        if method not in methods:
            raise Refused(405, "method not allowed")
        if path == b"/last-index":
            return 200, {"index": self.last_index}
        if path == b"/snapshot":
            return 200, self.snapshot(body if method == "PUT" else None)
        if path == b"/integer/reset":
            self.value = 0
            return 200, {"value": 0}
        if method != "POST":
            return 200, {"value": self.value}
        self.value = self.changed(body)
        return 201, {"value": self.value}

    def snapshot(self, body: bytes | None) -> dict[str, int]:
        """Return all of the state, after it was replaced by the one in `body` if there is one."""
        if body is not None:
            state = parse(body)
            self.value, self.last_index = exact_integer(state.get("value")), exact_integer(state.get("index"))
        return {"value": self.value, "index": self.last_index}

    def changed(self, body: bytes) -> int:
        """Return the value after the operation in `body`."""
        operation = parse(body)
        if operation.get("op") not in ("INC", "DEC"):
            raise Refused(500, "op must be INC or DEC")
        step = exact_integer(operation.get("value"))
        value = self.value + step if operation["op"] == "INC" else self.value - step
        if abs(value) > INTEGER_MAX:
            raise Refused(422, "the counter can't hold that value")
        return value


def parse(body: bytes) -> dict[str, Any]:
    """Read a JSON object. Python's reader takes NaN and Infinity, which JSON has not (RFC 8259 §6)."""
    if len(body) > BODY_BYTES_MAX:
        raise Refused(413, "body too long")
    try:
        operation = json.loads(body.decode(), parse_constant=refuse_constant)
    except (ValueError, RecursionError):
        raise Refused(400, "body is not JSON") from None
    if not isinstance(operation, dict):
        raise Refused(400, "body is not a JSON object")
    return operation


def refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def exact_integer(value: object) -> int:
    """Accept any JSON number that is an integer a double holds exactly, however it is written."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Refused(400, "not an integer")
    if abs(value) > INTEGER_MAX or value != int(value):
        raise Refused(400, "not an integer")
    return int(value)


counter = Counter()


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Take the body, execute in one go, answer: asyncio never switches between the index and what it stands for."""
    body = await received(receive) if scope["method"] in ("POST", "PUT") else b""
    for name, value in scope["headers"]:
        if name == b"log-index" and value.isdigit():
            counter.last_index = int(value)
    try:
        status, answer = counter.handle(scope["method"], scope["raw_path"], body)
        content = json.dumps(answer, separators=(",", ":")).encode()
    except Refused as refused:
        status, content = refused.status, json.dumps({"error": refused.error}, separators=(",", ":")).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
    if status == 405:
        headers.append((b"allow", ", ".join(METHODS[scope["raw_path"]]).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


async def received(receive: Receive) -> bytes:
    """Collect the body, no further than it takes to know that it is too long."""
    body = b""
    while True:
        message = await receive()
        if len(body) <= BODY_BYTES_MAX:
            body += message.get("body", b"")
        if not message.get("more_body"):
            return body


if __name__ == "__main__":
    uvicorn.run(
        app,
        host=os.environ.get("HOST", "127.0.0.1"),
        port=int(os.environ.get("PORT", "3000")),
        log_level="warning",
        access_log=False,
        lifespan="off",
        proxy_headers=False,  # nothing here asks where a client is
    )
