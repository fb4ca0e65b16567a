"""What the tests of this room share: an order in memory, and a small HTTP service on a real socket."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from quorate.consensus.core import Change
from quorate.errors import LogTrimmed
from quorate.ordering import Delivered, OrderingStatus
from quorate.replica.service import Prepare
from quorate.types import NO_BASE, Ballot, Base, Batch, Call, Command, Index, Membership, ReplicaId, Slot, founding
from quorate.wire import encode_batch, encode_command

FINGERPRINT = b"f" * 16


async def until(condition: Callable[[], object], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.002)


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def call(body: bytes = b"", method: bytes = b"POST", path: bytes = b"/") -> Call:
    head = b"%b %b HTTP/1.1\r\nHost: app\r\n" % (method, path)
    return Call(method, head + (b"Content-Length: %d\r\n" % len(body) if method == b"POST" else b""), body)


def command(name: int, *, stamp: Index = 0, time_ms: int = 0, fingerprint: bytes = b"", body: bytes = b"") -> Command:
    """Return a command whose request id is `name`, and whose body is too unless told otherwise."""
    one = call(body or b"%d" % name)
    return Command(name.to_bytes(16, "big"), stamp, time_ms, name, fingerprint, one.method, one.head, one.body)


def batch_of(*commands: Command) -> Batch:
    return encode_batch([encode_command(one) for one in commands])


class MemoryOrdering:
    """The `Ordering` contract on a list. `leads` says whether proposals are taken, `chooses` whether they get chosen,
    and `at_once` that this happens inside `propose`.

    Replicas that share one `log` are given the same order, as far as each of them has `heard` of it.
    """

    def __init__(self, log: list[Batch] | None = None, replicas: int = 3) -> None:
        self.on_delivered: Callable[[], None] = lambda: None
        self.on_snapshot_needed: Callable[[Slot], None] = lambda slot: None
        self.log = [] if log is None else log
        self.membership = founding({ReplicaId(number): f"127.0.0.1:{number}" for number in range(1, replicas + 1)})
        self.base = NO_BASE
        self.heard: Slot = 1 << 62
        self.writable = True
        self.installed: list[tuple[Base, Membership]] = []
        self.leads = True
        self.leadership = Ballot(1, ReplicaId(1))
        self.chooses = True
        self.at_once = False
        self.quorum = True
        self.refused: list[Batch] = []
        self.proposed: list[Batch] = []
        self.barriers_waiting: list[Callable[[Slot], None]] = []

    def propose(self, batch: Batch) -> bool:
        if not self.leads:
            self.refused.append(batch)
            return False
        self.proposed.append(batch)
        if self.chooses and self.at_once:
            self.deliver(batch)
        elif self.chooses:
            asyncio.get_running_loop().call_soon(self.deliver, batch)
        return True

    def deliver(self, *batches: Batch) -> None:
        """Let values be chosen, whoever proposed them."""
        self.log += batches
        self.on_delivered()

    def read_barrier(self, done: Callable[[Slot], None]) -> None:
        self.barriers_waiting.append(done)
        if self.quorum:
            asyncio.get_running_loop().call_soon(self.answer_barriers)

    def answer_barriers(self) -> None:
        waiting, self.barriers_waiting = self.barriers_waiting, []
        for done in waiting:
            done(len(self.log))

    def base_at(self, point: Slot) -> Base:
        return Base(point, self._end(point), Ballot(1, ReplicaId(1)) if point else NO_BASE.ballot)

    def trim(self, base: Base) -> None:
        assert base == self.base_at(base.slot)
        assert base.slot > self.base.slot
        self.base = base

    def install(self, base: Base, membership: Membership) -> None:
        """Hear of everything, as one who gets to a place from which peers can lead on."""
        assert base.slot > min(self.heard, len(self.log))
        self.installed.append((base, membership))
        self.base, self.membership = base, membership
        self.heard = 1 << 62

    def change(self, change: Change, done: Callable[[str], None]) -> None:
        done("the order in memory does not change its members")

    def hand_over(self) -> None:
        self.leads = False

    def entries(self, after: Slot) -> list[Delivered]:
        if after < self.base.slot:
            raise LogTrimmed(f"slot {after + 1}")
        last = min(len(self.log), self.heard, after + 3)
        return [Delivered(point, self._end(point - 1) + 1, self.log[point - 1]) for point in range(after + 1, last + 1)]

    def status(self) -> OrderingStatus:
        end = max(min(len(self.log), self.heard), self.base.slot)
        role = "leader" if self.leads else "follower"
        leader, leadership = ("r1", self.leadership) if self.leads else (None, None)
        return OrderingStatus(role, leader, leadership, end, len(self.log), self._end(end), {})

    def _end(self, point: Slot) -> Index:
        """Return the index of the last command up to and in `point`."""
        return sum(batch.size for batch in self.log[:point])


class Request(NamedTuple):
    """A call as the service got it; field names in lower case."""

    line: str
    fields: dict[str, str]
    body: bytes


Answer = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


def raw(data: bytes, *, close: bool = False) -> Answer:
    """Answer with exact bytes."""

    async def answer(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        if close:
            writer.close()

    return answer


def http(body: bytes, status: int = 200, fields: bytes = b"") -> bytes:
    return b"HTTP/1.1 %d .\r\n%bContent-Length: %d\r\n\r\n%b" % (status, fields, len(body), body)


async def hang(_: Request, writer: asyncio.StreamWriter) -> None:
    """Never answer."""


async def hang_up(_: Request, writer: asyncio.StreamWriter) -> None:
    """Close without an answer."""
    writer.transport.abort()


class Held:
    """Calls whose answers are kept back; `keep` is the service's answer to them."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Request, asyncio.StreamWriter]] = []

    async def keep(self, request: Request, writer: asyncio.StreamWriter) -> None:
        self.waiting.append((request, writer))

    async def gets(self, *bodies: bytes) -> None:
        """Return once these calls wait, no more and no others."""
        await until(lambda: len(self.waiting) >= len(bodies))
        assert [request.body for request, _ in self.waiting] == [*bodies]

    def answer_all(self) -> None:
        """Answer each call with its own body; the answers on one connection come as one piece."""
        waiting, self.waiting = self.waiting, []
        for writer in dict.fromkeys(writer for _, writer in waiting):
            writer.write(b"".join(http(request.body) for request, at in waiting if at is writer))


async def echo(request: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(http(request.body))


class TinyService:
    """An HTTP service that remembers what it got and answers as it is told; its answers count its requests."""

    def __init__(self, address: str | None = None) -> None:
        self.address = address or free_address()
        self.got: list[Request] = []
        self.answer: Answer = self.count
        self.connections = 0
        """Connections that carried a request."""
        self._server: asyncio.Server | None = None
        self._tasks: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def start(self) -> None:
        host, _, port = self.address.partition(":")
        self._server = await asyncio.start_server(self._serve, host, int(port))

    async def stop(self) -> None:
        """Die as a process does: no listener, no connection."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        for writer in self._tasks.values():
            writer.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def bodies(self) -> list[bytes]:
        return [request.body for request in self.got if request.line.startswith("POST")]

    async def count(self, _: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(http(b"%d" % len(self.bodies())))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks[task] = writer
        first = True
        try:
            while (request := await _read(reader)) is not None:
                self.got.append(request)
                self.connections += first
                first = False
                await self.answer(request, writer)
        finally:
            del self._tasks[task]
            writer.close()


class Process:
    """The `Service` contract for a service in this process: dead means that its listener and connections are gone."""

    def __init__(self, tiny: TinyService) -> None:
        self.pid: int | None = None
        self.restarts = 0
        self.restart_wanted = False
        self.tiny = tiny
        self.lives: list[list[bytes]] = []
        """What each life was given, so far."""
        self._dead = asyncio.Event()
        self._dead.set()

    async def start_fresh(self, prepare: Prepare | None = None) -> None:
        await self.end()
        if prepare is not None:
            await prepare()
        await self._start()

    async def wait_listening(self) -> None:
        if self._dead.is_set():
            await self._start()

    async def _start(self) -> None:
        self.tiny.got = []
        self.lives.append([])
        await self.tiny.start()
        self._dead.clear()

    async def has_ended(self) -> bool:
        return self._dead.is_set()

    async def wait_ended(self) -> None:
        await self._dead.wait()

    async def end(self) -> None:
        if not self._dead.is_set():
            await self.kill()

    async def close(self) -> None:
        await self.end()

    async def kill(self) -> None:
        """Die, whoever wants it."""
        self.restarts += 1
        self.lives[-1] = self.tiny.bodies()
        self._dead.set()
        await self.tiny.stop()


async def _read(reader: asyncio.StreamReader) -> Request | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    line, *lines = head.strip().split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (one.partition(":") for one in lines)}
    return Request(line, fields, await reader.readexactly(int(fields.get("content-length", "0"))))
