"""A log of text lines over HTTP, kept in a file. It knows nothing of replication.

    POST /insert    raw UTF-8 text of one line -> 200 `written`
    GET  /line/<n>  -> 200 the line as a JSON string, counted from 1; 0 or -1 the last one; `null` where there is none
    GET  /          -> 200 one sentence with the number of lines
    GET  /snapshot  -> 200 the file
    PUT  /snapshot  a file -> 200 `restored`; it replaces the one there is

The file starts anew with 1,000 lines at every start: what it held before belongs to an earlier life of the service.
It lies in `QUORATE_STATE_DIR`, or, where that is not set, has no name and dies with the process.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from array import array
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import IO, Any

import uvicorn

LINE_BYTES_MAX = 64 * 1024
SNAPSHOT_BYTES_MAX = 256 * 1024 * 1024
POPULATED_LINES = 1000

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Answer = tuple[int, bytes, bytes]
"""Status, content type and content."""


class LineFile:
    """Lines in a file, each ended by a newline; `ends` holds the offset behind each, and 0 before the first."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.ends = array("Q", [0])
        for number in range(POPULATED_LINES):
            self.append(b"automatic-populated-%d" % number)

    def append(self, line: bytes) -> None:
        self.file.seek(self.ends[-1])
        self.file.write(line + b"\n")
        self.file.flush()
        self.ends.append(self.file.tell())

    def content(self) -> bytes:
        self.file.seek(0)
        return self.file.read(self.ends[-1])

    def replace(self, content: bytes) -> None:
        self.file.seek(0)
        self.file.truncate()
        self.file.write(content)
        self.file.flush()
        self.ends = array("Q", [0])
        for line in content.split(b"\n")[:-1]:
            self.ends.append(self.ends[-1] + len(line) + 1)

    def line(self, number: int) -> bytes | None:
        """Return line `number` counted from 1; 0 and -1 mean the last one."""
        number = len(self) if number in (0, -1) else number
        if not 1 <= number <= len(self):
            return None
        self.file.seek(self.ends[number - 1])
        return self.file.read(self.ends[number] - self.ends[number - 1] - 1)

    def __len__(self) -> int:
        return len(self.ends) - 1


def opened() -> LineFile:
    """Open the empty file that the environment names."""
    directory = os.environ.get("QUORATE_STATE_DIR")
    if directory is None:
        return LineFile(tempfile.TemporaryFile())
    Path(directory).mkdir(parents=True, exist_ok=True)
    return LineFile((Path(directory) / "lines.txt").open("w+b"))


def text(status: int, content: str) -> Answer:
    return status, b"text/plain; charset=utf-8", content.encode()


def insert(lines: LineFile, body: bytes) -> Answer:
    if len(body) > LINE_BYTES_MAX:
        return text(413, "line too long")
    try:
        body.decode()
    except UnicodeDecodeError:
        return text(400, "line is not UTF-8")
    if b"\n" in body:
        return text(400, "one line at a time")
    lines.append(body)
    return text(200, "written")


def snapshot(lines: LineFile, method: str, body: bytes) -> Answer:
    if method != "PUT":
        return 200, b"application/octet-stream", lines.content()
    if len(body) > SNAPSHOT_BYTES_MAX:
        return text(413, "too many lines")
    if body and not body.endswith(b"\n"):
        return text(400, "the last line does not end")
    lines.replace(body)
    return text(200, "restored")


def get_line(lines: LineFile, number: str) -> Answer:
    if not re.fullmatch(r"-?[0-9]{1,18}", number):
        return text(404, "no such path")
    line = lines.line(int(number))
    return 200, b"application/json", json.dumps(None if line is None else line.decode()).encode()


def handle(lines: LineFile, method: str, path: str, body: bytes) -> Answer:
    if path == "/insert":
        return insert(lines, body) if method == "POST" else text(405, "POST only")
    if path == "/snapshot":
        return snapshot(lines, method, body) if method in ("GET", "HEAD", "PUT") else text(405, "GET or PUT only")
    if method not in ("GET", "HEAD"):
        return text(405 if path == "/" or path.startswith("/line/") else 404, "GET only")
    if path == "/":
        return text(200, f"A log of {len(lines)} lines.")
    if path.startswith("/line/"):
        return get_line(lines, path.removeprefix("/line/"))
    return text(404, "no such path")


def service(lines: LineFile) -> Callable[[dict[str, Any], Receive, Send], Awaitable[None]]:
    """Return the ASGI application over `lines`."""

    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        bound = {"POST": LINE_BYTES_MAX, "PUT": SNAPSHOT_BYTES_MAX}.get(scope["method"])
        body = b"" if bound is None else await received(receive, bound)
        status, kind, content = handle(lines, scope["method"], scope["path"], body)
        headers = [(b"content-type", kind), (b"content-length", b"%d" % len(content))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    return app


async def received(receive: Receive, bound: int) -> bytes:
    """Collect the body, no further than it takes to know that it is too long."""
    body = bytearray()
    while True:
        message = await receive()
        if len(body) <= bound:
            body += message.get("body", b"")
        if not message.get("more_body"):
            return bytes(body)


if __name__ == "__main__":
    uvicorn.run(
        service(opened()),
        host=os.environ.get("HOST", "127.0.0.1"),
        port=int(os.environ.get("PORT", "8001")),
        log_level="warning",
        access_log=False,
        lifespan="off",
    )
