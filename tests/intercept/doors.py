"""What the tests of this room share: a replica that records, and a client that sends exact bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

from quorate.intercept.front import Front, FrontOptions
from quorate.intercept.policy import RoutePolicy
from quorate.intercept.server import HttpServer, ServerOptions
from quorate.replica.tunnels import Tunnels, Upgrade
from quorate.types import Call, Index, Outcome, ReadMode, Reply


class Submitted(NamedTuple):
    call: Call
    key: bytes | None
    fingerprint: bytes
    deadline: float


class Read(NamedTuple):
    call: Call
    mode: ReadMode
    at_least: Index
    deadline: float


class RecordingReplica:
    """A replica of one: it keeps what it was given, and answers at once unless told to wait."""

    def __init__(self) -> None:
        self.submitted: list[Submitted] = []
        self.reads: list[Read] = []
        self.reply = Reply(Outcome(200, b"Content-Type: text/plain\r\n", b"done"), 7, b"\x01" * 16)
        self.outcomes: dict[bytes, Reply] = {}
        self.waiting: list[Callable[[Reply], None]] | None = None
        self.tunnels: Tunnels | None = None
        """Whom upgrades are asked of; without it none is expected."""

    @property
    def calls(self) -> list[Call]:
        return [entry.call for entry in self.submitted] + [entry.call for entry in self.reads]

    def submit(
        self, call: Call, key: bytes | None, fingerprint: bytes, deadline: float, done: Callable[[Reply], None]
    ) -> None:
        self.submitted.append(Submitted(call, key, fingerprint, deadline))
        self._answer(done)

    def read(self, call: Call, mode: ReadMode, at_least: Index, deadline: float, done: Callable[[Reply], None]) -> None:
        self.reads.append(Read(call, mode, at_least, deadline))
        self._answer(done)

    def upgrade(
        self, call: Call, accept: bytes, deadline: float, done: Callable[[Outcome, Upgrade | None], None]
    ) -> None:
        assert self.tunnels is not None
        self.tunnels.open(call, accept, deadline, done)

    def outcome(self, request_id: bytes) -> Reply | None:
        return self.outcomes.get(request_id)

    def answer_all(self) -> None:
        """Answer those that wait, the oldest first."""
        assert self.waiting is not None
        waiting, self.waiting = self.waiting, []
        for done in waiting:
            done(self.reply)

    def _answer(self, done: Callable[[Reply], None]) -> None:
        if self.waiting is None:
            done(self.reply)
        else:
            self.waiting.append(done)


class Door(NamedTuple):
    """A front door that listens, and the replica behind it."""

    server: HttpServer
    replica: RecordingReplica
    address: str

    async def connect(self, source: str | None = None) -> Client:
        """Connect, from the address `source` if it matters."""
        host, _, port = self.address.rpartition(":")
        local = None if source is None else (source, 0)
        return Client(*await asyncio.open_connection(host.strip("[]"), int(port), local_addr=local))

    async def exchange(self, data: bytes) -> bytes:
        """Send bytes on a fresh connection, keep the write side open, and return what comes until the server closes."""
        client = await self.connect()
        try:
            return await client.exchange(data)
        finally:
            await client.close()


class Client:
    """A connection over which exact bytes go."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def exchange(self, data: bytes) -> bytes:
        self.send(data)
        return await self.rest()

    async def rest(self) -> bytes:
        """Return what comes until the server closes."""
        async with asyncio.timeout(10):
            return await self.reader.read()

    async def answer(self) -> bytes:
        """Return one answer, framed by its Content-Length."""
        async with asyncio.timeout(10):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            return head + (await self.reader.readexactly(int(length[0].partition(b":")[2])) if length else b"")

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            return  # the server was faster


async def open_door(
    policy: RoutePolicy | None = None,
    options: ServerOptions | None = None,
    address: str = "127.0.0.1:0",
    **front_options: Any,
) -> Door:
    replica = RecordingReplica()
    clock = asyncio.get_running_loop().time
    front = Front(replica, policy or RoutePolicy(), FrontOptions(pseudonym=b"quorate-r1", **front_options), clock)
    server = HttpServer(front, options)
    return Door(server, replica, await server.listen(address))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)
