"""Whole copies with snapshots: services on real sockets, snapshots in real files, messages by call."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from pathlib import Path

from tests.replica.parts import MemoryOrdering, Process, Request, TinyService, batch_of, command, http, until
from tests.storage.made import CLUSTER

from quorate.protocols.fields import HttpLimits
from quorate.replica.apply import Applied, Applier
from quorate.replica.checkpoints import Checkpoints, Schedule
from quorate.replica.drivers import HttpDriver, StateDriver
from quorate.replica.recovery import Recovery, StateMode
from quorate.replica.restore import Restorer
from quorate.replica.transfer import Transfer
from quorate.replica.upstream import Upstream
from quorate.storage.snapshots import SnapshotStore
from quorate.types import Batch, ReplicaId, Slot

Bend = Callable[[ReplicaId, ReplicaId, bytes], bytes | None]
"""From, to, payload: what arrives, if anything."""


class Keeper(TinyService):
    """A service that keeps what it is posted, and gives and takes all of it at /snapshot."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[bytes] = []
        self.last_index = 0
        self.puts = 0
        self.refuse_put = 0
        self.answer = self.serve

    async def start(self) -> None:
        self.kept = []
        await super().start()

    async def serve(self, request: Request, writer: asyncio.StreamWriter) -> None:
        method, path, _ = request.line.split()
        body = b""
        if method == "POST":
            self.kept.append(request.body)
            self.last_index = int(request.fields["log-index"])
            body = b"%d" % len(self.kept)
        elif path == "/last-index":
            body = b'{"index": %d}' % self.last_index
        elif method == "PUT":
            self.puts += 1
            if self.refuse_put:
                self.refuse_put -= 1
                writer.write(http(b"", 500))
                return
            index, *self.kept = request.body.split(b"\n")
            self.last_index = int(index)
        else:
            body = b"\n".join((b"%d" % self.last_index, *self.kept))
        writer.write(http(body))


class Mesh:
    """The state channel between copies; `bend` may lose or change what travels."""

    def __init__(self) -> None:
        self.ends: dict[ReplicaId, Transfer] = {}
        self.bend: Bend = lambda sender, receiver, payload: payload
        self.sent: list[tuple[ReplicaId, ReplicaId, int]] = []


class Channel:
    """One copy's end of the mesh."""

    def __init__(self, mesh: Mesh, me: ReplicaId) -> None:
        self._mesh = mesh
        self._me = me

    def peers(self) -> tuple[ReplicaId, ...]:
        return tuple(peer for peer in self._mesh.ends if peer != self._me)

    def send(self, to: tuple[ReplicaId, ...], payload: bytes) -> None:
        for peer in to:
            arrives = self._mesh.bend(self._me, peer, payload)
            if arrives is not None and peer in self._mesh.ends:
                self._mesh.sent.append((self._me, peer, len(payload)))
                asyncio.get_running_loop().call_soon(self._mesh.ends[peer].on_message, self._me, arrives)


class Copy:
    """One replica as `ops` composes it, less its front and its consensus."""

    def __init__(
        self,
        number: int,
        directory: Path,
        mesh: Mesh,
        log: list[Batch] | None = None,
        *,
        mode: StateMode = "volatile",
        depth: int = 4,
        entries: int = 10,
        driver: StateDriver | None = None,
        keeper: Keeper | None = None,
    ) -> None:
        self.me = ReplicaId(number)
        self.keeper = Keeper() if keeper is None else keeper
        self.process = Process(self.keeper)
        self.ordering = MemoryOrdering(log)
        self.store = SnapshotStore(directory, CLUSTER)
        self.driver = driver or HttpDriver(self.keeper.address, "/snapshot", "/snapshot")
        self.lane = Upstream(self.keeper.address, HttpLimits(), 1, depth=depth)
        self.pool = Upstream(self.keeper.address, HttpLimits(), 4, retry_lost=True)
        self.applier = Applier(self.ordering, self.lane, depth, self.ordering.membership)
        self.ordering.on_delivered = self.applier.advance
        self.applied: list[Applied] = []
        self.applier.on_applied = self.applied.append
        self.checkpoints = Checkpoints(self.applier, self.store, self.driver, CLUSTER, Schedule(self.me, entries))
        self.mesh = mesh
        self.transfer = Transfer(
            Channel(mesh, self.me), self.store, self.ordering, lambda: self.applier.applied, random.Random(number)
        )
        mesh.ends[self.me] = self.transfer
        restorer = Restorer(self.store, self.driver, self.ordering, self.transfer.obtain)
        self.recovery = Recovery(mode, self.process, self.ordering, self.applier, self.lane, self.pool, restorer)
        self.transfer.on_overtaken = self.recovery.begin_again
        self._running: list[asyncio.Task[None]] = []

    def run(self) -> None:
        self.run_transfer()
        self._running.append(asyncio.create_task(self.recovery.run()))

    def run_transfer(self) -> None:
        """Run without a service: what snapshots hold does not matter then."""
        self._running.append(asyncio.create_task(self.transfer.run()))

    async def ready(self, index: int = 0) -> None:
        await until(lambda: self.recovery.ready and self.applier.applied >= index)

    async def has_snapshot(self, index: int) -> None:
        await until(lambda: self.store.held and self.store.held[0].index >= index)

    async def close(self) -> None:
        self.mesh.ends.pop(self.me, None)
        for task in self._running:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self.checkpoints.close()
        await self.lane.close()
        await self.pool.close()

    def deliver(self, *names: int, together: int = 1) -> None:
        for start in range(0, len(names), together):
            self.ordering.deliver(batch_of(*(command(name) for name in names[start : start + together])))

    @property
    def point(self) -> Slot:
        return self.applier.point


def bodies(first: int, last: int) -> list[bytes]:
    return [b"%d" % name for name in range(first, last + 1)]
