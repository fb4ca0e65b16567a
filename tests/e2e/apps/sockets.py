"""A service with WebSockets, and requests that need the front door again before they can be answered.

A WebSocket at /echo sends back what it gets; at other paths the handshake is refused. POST /add counts and GET /count
tells. POST /edge adds and asks, through the front named in its body, and answers with what it was told: it is to be
passed, and the others not.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

ADDED = 0


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await (echo if scope["path"] == "/echo" else refuse)(receive, send)
    elif scope["type"] == "http":
        content = await respond(scope["path"], (await receive())["body"])
        length = str(len(content)).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
        await send({"type": "http.response.body", "body": content})


async def echo(receive: Receive, send: Send) -> None:
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "bytes": message["bytes"]})


async def refuse(receive: Receive, send: Send) -> None:
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.close"})


async def respond(path: str, body: bytes) -> bytes:
    global ADDED
    if path == "/edge":
        return await ask(body.decode(), "POST /add") + b" " + await ask(body.decode(), "GET /count")
    if path == "/add":
        ADDED += 1
    return b"%d" % ADDED


async def ask(front: str, line: str) -> bytes:
    host, _, port = front.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"{line} HTTP/1.1\r\nHost: front\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
    head, _, content = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert head.startswith(b"HTTP/1.1 200 "), head
    return content


if __name__ == "__main__":
    uvicorn.run(
        app, host=os.environ["HOST"], port=int(os.environ["PORT"]), log_level="warning", lifespan="off", backlog=1024
    )
