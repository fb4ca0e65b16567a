"""Embedded replicas in one event loop, over loopback, with the core and on the stores of the test's choice.

Some of their peers may be played by the test.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from quorate import registry
from quorate.consensus.core import Change
from quorate.consensus.messages import Message
from quorate.errors import Broken
from quorate.ordering import Delivered
from quorate.ordering.embedded import EmbeddedOrdering
from quorate.storage import Identity, LogStore
from quorate.storage.lmdb import LmdbStore
from quorate.storage.memory import MemoryStore
from quorate.transport import Channel, MeshOptions, StoreFacts
from quorate.transport.tcp import TcpMesh
from quorate.types import Batch, Command, Membership, ReplicaId, Slot, founding
from quorate.wire import MessageCodec, decode_batch, encode_batch, encode_command

OpenStore = Callable[[ReplicaId, Path], LogStore]
"""Called with the replica and its data directory."""


def in_memory(_: ReplicaId, __: Path) -> LogStore:
    return MemoryStore()


def on_disk(me: ReplicaId, directory: Path) -> LogStore:
    return LmdbStore(directory, Identity("bank", me, 1))


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


def mesh_of(
    me: ReplicaId, membership: Membership, addresses: Mapping[ReplicaId, str], store: LogStore, directory: Path
) -> TcpMesh:
    """Return one end of the mesh between `addresses`."""
    options = MeshOptions("bank", 1, addresses[me], addresses)
    facts = StoreFacts(store.store_id, store.life, store.nonce, lambda: store.commits)
    return TcpMesh(me, membership, options, facts, directory, random.Random(me))


class Host:
    """One life of one replica, and a reader that pulls everything delivered from its base on.

    A joiner's `founders` are empty. `wants_snapshot` holds what its engine said about the snapshots it needs.
    """

    def __init__(
        self,
        me: ReplicaId,
        founders: Membership,
        addresses: Mapping[ReplicaId, str],
        store: LogStore,
        directory: Path,
        core: str = "paxos",
    ) -> None:
        self.me = me
        self.broken: list[Broken] = []
        self.read: list[Delivered] = []
        self.wants_snapshot: list[Slot] = []
        self.store = store
        recovered = store.recover()
        self.mesh = mesh_of(me, recovered.membership or founders, addresses, store, directory)
        self.ordering = EmbeddedOrdering(
            me,
            registry.resolve(registry.CORES, core)(me, founders, random.Random(), recovered),
            MessageCodec(registry.resolve(registry.MESSAGES, core)),
            store,
            self.mesh,
            recovered,
            self.broken.append,
        )
        self.ordering.on_delivered = self.pull
        self.ordering.on_snapshot_needed = self.wants_snapshot.append

    def pull(self) -> None:
        after = self.read[-1].point if self.read else self.ordering.base.slot
        while entries := self.ordering.entries(after):
            self.read += entries
            after = entries[-1].point

    def names(self) -> list[str]:
        """Return the commands delivered so far, in order."""
        return [one.body.decode() for entry in self.read for one in decode_batch(entry.batch)]

    def leads(self) -> bool:
        return self.ordering.status().role == "leader"

    async def barrier(self) -> Slot:
        reached: asyncio.Future[Slot] = asyncio.get_running_loop().create_future()
        self.ordering.read_barrier(reached.set_result)
        async with asyncio.timeout(20):
            return await reached

    async def change(self, replica: ReplicaId, address: str | None) -> str:
        """Ask once for a change of membership; return why it was refused, or an empty string."""
        answered: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.ordering.change(Change(replica, address), answered.set_result)
        async with asyncio.timeout(20):
            return await answered


class Peer:
    """A member played by the test, over a real mesh."""

    def __init__(self, cluster: Cluster, me: ReplicaId) -> None:
        self._codec = MessageCodec(registry.resolve(registry.MESSAGES, cluster.core))
        store, directory = MemoryStore(), cluster.directory_of(me)
        self.mesh = mesh_of(me, cluster.founders, cluster.addresses, store, directory)
        self.heard: list[Any] = []
        self.mesh.subscribe(Channel.ORDER, lambda _, payload: self.heard.append(self._codec.decode(payload)))
        self.refused: list[Broken] = []
        self.mesh.on_refused = self.refused.append

    def say(self, to: ReplicaId, *messages: Message) -> None:
        self.say_bytes(to, *map(self._codec.encode, messages))

    def say_bytes(self, to: ReplicaId, *payloads: bytes) -> None:
        for payload in payloads:
            self.mesh.send((to,), payload)
        self.mesh.flush()

    def count(self, kind: type[Message]) -> int:
        return sum(isinstance(message, kind) for message in self.heard)

    async def hears(self, kind: type[Message]) -> Any:
        """Return the first message of a kind, once there is one."""
        await until(lambda: self.count(kind))
        return next(message for message in self.heard if isinstance(message, kind))


class Cluster:
    """Replicas by number; whoever is not there is down. Each has a directory below `directory`."""

    def __init__(
        self, directory: Path, open_store: OpenStore = in_memory, size: int = 3, *, core: str = "paxos"
    ) -> None:
        ids = [ReplicaId(number) for number in range(1, size + 1)]
        self.addresses = dict(zip(ids, free_addresses(size), strict=True))
        self.founders = founding(self.addresses)
        self.hosts: dict[ReplicaId, Host] = {}
        self._directory = directory
        self._open_store = open_store
        self.core = core

    def directory_of(self, me: ReplicaId) -> Path:
        directory = self._directory / f"r{me}"
        directory.mkdir(parents=True, exist_ok=True)
        return directory

    async def start(self, *who: ReplicaId) -> None:
        """Start founders, and joiners once their address is known; all of them without names."""
        hosts = [self.make(me) for me in who or tuple(self.addresses)]
        await asyncio.gather(*(host.ordering.start() for host in hosts))
        for host in hosts:
            host.pull()

    def make(self, me: ReplicaId) -> Host:
        """Open a replica's store and compose it, without starting it."""
        directory = self.directory_of(me)
        founders = self.founders if me in self.founders.members else founding({})
        store = self._open_store(me, directory)
        self.hosts[me] = host = Host(me, founders, self.addresses, store, directory, self.core)
        return host

    async def stop(self, *who: ReplicaId) -> None:
        for me in who or tuple(self.hosts):
            await self.hosts.pop(me).ordering.close()

    async def leader(self) -> Host:
        """Return the leader once there is one that everybody knows, and a way from each member to each other."""
        await until(lambda: self._agreed() and all(map(self._connected, self.hosts.values())))
        return next(host for host in self.hosts.values() if host.leads())

    async def follower(self) -> Host:
        leader = await self.leader()
        return next(host for host in self.hosts.values() if host is not leader)

    def _agreed(self) -> bool:
        believed = {host.ordering.status().leader for host in self.hosts.values()}
        return len(believed) == 1 and sum(host.leads() for host in self.hosts.values()) == 1

    def _connected(self, host: Host) -> bool:
        running = self.hosts.keys() & host.ordering.membership.members
        return host.mesh.connected() >= running - {host.me}

    async def all_read(self, count: int) -> None:
        await until(lambda: all(len(host.names()) >= count for host in self.hosts.values()))
