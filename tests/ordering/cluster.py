"""Embedded replicas in one event loop, over loopback, on stores of the test's choice."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable
from pathlib import Path

from quorate.consensus.paxos.messages import PaxosMessage
from quorate.consensus.paxos.node import PaxosCore
from quorate.errors import Broken
from quorate.ordering import Delivered
from quorate.ordering.embedded import EmbeddedOrdering
from quorate.storage import Identity, LogStore
from quorate.storage.lmdb import LmdbStore
from quorate.storage.memory import MemoryStore
from quorate.transport.tcp import TcpMesh
from quorate.types import Batch, Command, ReplicaId, Slot
from quorate.wire import MessageCodec, decode_batch, encode_batch, encode_command

OpenStore = Callable[[ReplicaId], LogStore]


def in_memory(_: ReplicaId) -> LogStore:
    return MemoryStore()


def on_disk(directory: Path) -> OpenStore:
    return lambda me: LmdbStore(directory / f"r{me}", Identity("bank", me, 1))


async def until(condition: Callable[[], object], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


def free_addresses(count: int) -> list[str]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    return addresses


def command(name: str) -> bytes:
    return encode_command(Command(name.encode().rjust(16, b"\0"), 0, 0, 0, b"", b"POST", b"", name.encode()))


def batch(*names: str) -> Batch:
    return encode_batch([command(name) for name in names])


class Host:
    """One life of one replica, and a reader that pulls everything delivered from the first point on."""

    def __init__(self, me: ReplicaId, peers: dict[ReplicaId, str], open_store: OpenStore) -> None:
        self.me = me
        self.broken: list[Broken] = []
        self.read: list[Delivered] = []
        store = open_store(me)
        recovered = store.recover()
        core = PaxosCore(me, tuple(sorted(peers)), random.Random(), recovered)
        self.mesh = TcpMesh(me, peers, "bank", 1, random.Random(me))
        self.ordering = EmbeddedOrdering(
            core, MessageCodec(PaxosMessage), store, self.mesh, recovered.chosen, self.broken.append
        )
        self.ordering.on_delivered = self.pull

    def pull(self) -> None:
        after = self.read[-1].point if self.read else 0
        while entries := self.ordering.entries(after):
            self.read += entries
            after = entries[-1].point

    def names(self) -> list[str]:
        """Return the commands delivered so far, in order."""
        return [one.body.decode() for entry in self.read for one in decode_batch(entry.batch)]

    async def barrier(self) -> Slot:
        reached: asyncio.Future[Slot] = asyncio.get_running_loop().create_future()
        self.ordering.read_barrier(reached.set_result)
        async with asyncio.timeout(20):
            return await reached


class Cluster:
    """Replicas by number; whoever is not there is down."""

    def __init__(self, open_store: OpenStore = in_memory, size: int = 3) -> None:
        ids = [ReplicaId(number) for number in range(1, size + 1)]
        self.peers = dict(zip(ids, free_addresses(size), strict=True))
        self.hosts: dict[ReplicaId, Host] = {}
        self._open_store = open_store

    async def start(self, *who: ReplicaId) -> None:
        for me in who or tuple(self.peers):
            self.hosts[me] = host = Host(me, self.peers, self._open_store)
            host.pull()
            await host.ordering.start()

    async def stop(self, *who: ReplicaId) -> None:
        for me in who or tuple(self.hosts):
            await self.hosts.pop(me).ordering.close()

    async def leader(self) -> Host:
        """Return the leader once there is one that everybody knows."""
        await until(self._agreed)
        return next(host for host in self.hosts.values() if host.ordering.status().role == "leader")

    async def follower(self) -> Host:
        leader = await self.leader()
        return next(host for host in self.hosts.values() if host is not leader)

    def _agreed(self) -> bool:
        statuses = [host.ordering.status() for host in self.hosts.values()]
        believed = {status.leader for status in statuses}
        return len(believed) == 1 and [status.role for status in statuses].count("leader") == 1

    async def all_read(self, count: int) -> None:
        await until(lambda: all(len(host.names()) >= count for host in self.hosts.values()))
