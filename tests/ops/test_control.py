"""The admin listener of a run, over a socket: what it answers, and whom it refuses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from quorate.config import RunConfig, SidecarConfig
from quorate.intercept.server import HttpServer
from quorate.ops import ports
from quorate.ops.changes import Changes
from quorate.ops.child import Child
from quorate.ops.control import Control
from quorate.ops.rundir import RunInfo
from quorate.ops.view import Display


class FakeRun:
    """A run whose only replica was never started, and has no part in a cluster."""

    def __init__(self, directory: Path, port: int) -> None:
        self.info = RunInfo(1, "c", "http://127.0.0.1:1", f"http://127.0.0.1:{port}")
        self.children = {"r1": Child("r1", directory / "sidecar.toml", Display(Console(), live=False))}
        self.configs: dict[str, SidecarConfig] = {}
        self.changes = Changes(self)
        self.asked = 0
        self.stopped = 0

    def status(self) -> dict[str, Any]:
        return {"asked": self.asked}

    def when_fresh(self, then: Callable[[], None]) -> None:
        self.asked += 1
        asyncio.get_running_loop().call_soon(then)

    def stop(self) -> None:
        self.stopped += 1

    def expect(self, number: int) -> SidecarConfig:
        raise AssertionError(number)

    def welcome(self, config: SidecarConfig) -> None:
        raise AssertionError(config)

    def dismiss(self, name: str) -> None:
        raise AssertionError(name)


class Listener:
    """Sends one request per connection to the run's listener."""

    def __init__(self, run: FakeRun) -> None:
        self.run = run

    async def ask(self, line: str, *fields: str, host: str | None = None) -> tuple[int, dict[str, Any]]:
        address = self.run.info.admin_url.removeprefix("http://")
        reader, writer = await asyncio.open_connection(*address.split(":"))
        lines = [f"{line} HTTP/1.1", f"Host: {host or address}", "Content-Length: 0", "Connection: close", *fields]
        writer.write("".join(f"{each}\r\n" for each in [*lines, ""]).encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()
        return int(head.split()[1]), json.loads(body)


@pytest.fixture
async def listener(tmp_path: Path) -> AsyncIterator[Listener]:
    run = FakeRun(tmp_path, ports.plan(RunConfig(replicas=1, port=0, admin_port=0, app_port=0), [1]).admin)
    server = HttpServer(Control(run))
    await server.listen(run.info.admin_url.removeprefix("http://"))
    yield Listener(run)
    await server.drain(1)


async def test_status_is_asked_for_anew(listener: Listener) -> None:
    assert await listener.ask("GET /status") == (200, {"asked": 1})
    assert await listener.ask("GET /status?x=1") == (200, {"asked": 2})


@pytest.mark.parametrize(
    ("line", "status", "code", "title"),
    [
        ("GET /members", 504, "no_answer", "no replica answers"),
        ("POST /members", 504, "no_answer", "no replica answers"),
        ("POST /members/r9/remove", 409, "change_refused", "no replica r9"),
    ],
)
async def test_changes_that_fail_say_why(listener: Listener, line: str, status: int, code: str, title: str) -> None:
    """See test_changes.py, and test_members_commands.py for those that succeed."""
    answered, document = await listener.ask(line)
    assert (answered, document["code"], document["title"]) == (status, code, title)


async def test_stop(listener: Listener) -> None:
    assert await listener.ask("POST /stop") == (202, {"stopping": True, "pid": 1})
    assert listener.run.stopped == 1


@pytest.mark.parametrize(
    ("line", "status", "code"),
    [
        ("GET /", 404, "not_found"),
        ("GET /stop", 404, "not_found"),
        ("DELETE /replicas/r1/kill", 404, "not_found"),
        ("DELETE /members/r1", 404, "not_found"),
        ("POST /members/r1", 404, "not_found"),
        ("POST /replicas/r1/explode", 404, "not_found"),
        ("POST /replicas/r9/kill", 404, "no_such_replica"),
        ("POST /replicas/r1/kill", 409, "not_running"),
        ("POST /replicas/r1/pause", 409, "not_running"),
    ],
)
async def test_refusals_are_problem_documents(listener: Listener, line: str, status: int, code: str) -> None:
    answered, document = await listener.ask(line)
    assert (answered, document["code"]) == (status, code)
    assert document["hint"]
    assert listener.run.stopped == 0


async def test_a_web_page_can_do_nothing(listener: Listener) -> None:
    """Neither by a form or fetch, which bears Origin, nor by a name that was made to resolve to loopback."""
    for fields, host, status in [(["Origin: http://evil.example"], None, 403), (["Origin: null"], None, 403)] + [
        ([], foreign, 421) for foreign in ("evil.example", "evil.example:9000", "127.0.0.1", "127.0.0.1:1")
    ]:
        answered, _ = await listener.ask("POST /stop", *fields, host=host)
        assert answered == status
    assert listener.run.stopped == 0
    port = listener.run.info.admin_url.rpartition(":")[2]
    assert (await listener.ask("POST /stop", host=f"LOCALHOST:{port}"))[0] == 202
