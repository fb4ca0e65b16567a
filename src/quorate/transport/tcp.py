"""A mesh of TCP connections, one for each direction of each pair.

A replica dials every peer and sends on the connections it dialled; it receives on those it accepted. So neither side
has to settle which of two connections counts, and each way fails and returns on its own. Who dialled greets first and
waits for the other's greeting before it sends; the other checks cluster, epoch and names, answers, and closes if one
differs, so both logs name the reason.

- A newer connection of a peer replaces the older: a peer that restarted is not kept out by what its old one left.
- Bounds: unsent bytes per peer, a stranger's first frame, its time, and the number of strangers.
- A dead way is found by TCP_USER_TIMEOUT, since a core always has a heartbeat under way, and dialled again after a
  pause drawn from an interval that doubles ("full jitter": Brooker, "Exponential Backoff And Jitter", 2015).
- Connections are neither encrypted nor authenticated: they belong on loopback or on a network of one's own.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping

import structlog

from quorate.errors import Misbehaviour, Misuse, NetworkRefused
from quorate.limits import (
    HELLO_SECONDS_MAX,
    PEER_BUFFER_BYTES_MAX,
    RECONNECT_SECONDS_MAX,
    RECONNECT_SECONDS_MIN,
    REFUSAL_LOG_SECONDS,
    UNGREETED_CONNECTIONS_MAX,
)
from quorate.transport import TransportStatistics
from quorate.transport.connection import Connection
from quorate.types import ReplicaId
from quorate.wire import WIRE_MAGIC, WIRE_VERSION, Hello, encode_frame

log = structlog.get_logger(__name__)


class TcpMesh:
    """The `Transport` contract over TCP. `peers` maps every member, `me` included, to its "host:port".

    A `Misbehaviour` that `on_message` raises closes the connection the message came on.
    """

    on_message: Callable[[ReplicaId, bytes], None]

    def __init__(
        self, me: ReplicaId, peers: Mapping[ReplicaId, str], cluster: str, epoch: int, rng: random.Random
    ) -> None:
        self._own_address = _parse_address(peers[me])
        self._greeter = _Greeter(cluster, epoch, me, frozenset(peers) - {me})
        others = {replica: address for replica, address in peers.items() if replica != me}
        self._links = {replica: _Link(self, replica, _parse_address(to), rng) for replica, to in others.items()}
        self._connections: set[Connection] = set()
        self._accepted: dict[ReplicaId, _Accepted] = {}
        self._server: asyncio.Server | None = None
        self._dialling: list[asyncio.Task[None]] = []
        self._received_frames = 0
        self._received_bytes = 0
        self._refused_connections = 0
        self._refusal_logged_at = float("-inf")

    async def start(self) -> None:
        """Listen on this replica's own address and keep dialling all others."""
        loop = asyncio.get_running_loop()
        host, port = self._own_address
        try:
            self._server = await loop.create_server(lambda: _Accepted(self), host, port)
        except OSError as error:
            what = f"{host}:{port} can't be listened on for peers: {error.strerror or error}"
            raise NetworkRefused(what, "free the address or set another") from error
        self._dialling = [loop.create_task(link.keep_dialled()) for link in self._links.values()]

    def send(self, to: tuple[ReplicaId, ...], payload: bytes) -> None:
        """Encode the frame once and queue it for each of `to`."""
        frame = encode_frame(payload)
        for replica in to:
            self._links[replica].queue(frame)

    def flush(self) -> None:
        """Write what is queued, in one call per peer."""
        for link in self._links.values():
            link.flush()

    def connected(self) -> frozenset[ReplicaId]:
        """Return the peers whose dialled connection is greeted both ways."""
        return frozenset(replica for replica, link in self._links.items() if link.connection)

    def statistics(self) -> TransportStatistics:
        """Return a snapshot."""
        links = self._links.values()
        return TransportStatistics(
            sent_frames=sum(link.sent_frames for link in links),
            sent_bytes=sum(link.sent_bytes for link in links),
            received_frames=self._received_frames,
            received_bytes=self._received_bytes,
            dropped_frames=sum(link.dropped_frames for link in links),
            refused_connections=self._refused_connections,
            connects=sum(link.connects for link in links),
            buffered_bytes=sum(link.buffered_bytes() for link in links),
        )

    async def close(self) -> None:
        """Stop dialling and listening, and drop every connection."""
        for task in self._dialling:
            task.cancel()
        await asyncio.gather(*self._dialling, return_exceptions=True)
        if self._server:
            self._server.close()
        connections = list(self._connections)
        for connection in connections:
            connection.transport.abort()
        for connection in connections:
            await connection.ended.wait()
        if self._server:
            await self._server.wait_closed()

    # --- for connections ---------------------------------------------------------------------------------------------

    def greeting(self, receiver: int) -> bytes:
        """Return the frame by which this replica makes itself known to `receiver`; 0 stands for a stranger."""
        return self._greeter.frame(receiver)

    def check(self, hello: Hello) -> ReplicaId:
        """Return which peer greets. Raises `Misbehaviour`."""
        return self._greeter.check(hello)

    def opened(self, connection: Connection) -> None:
        """Hold a connection until it has `ended`."""
        self._connections.add(connection)

    def has_room(self) -> bool:
        """Say whether the accepted connections that have not greeted are within their bound."""
        strangers = sum(isinstance(one, _Accepted) and not one.greeted for one in self._connections)
        return strangers <= UNGREETED_CONNECTIONS_MAX

    def receive_on(self, connection: _Accepted, sender: ReplicaId) -> None:
        """Receive from `sender` on this connection from now on, and on no other."""
        older = self._accepted.get(sender)
        self._accepted[sender] = connection
        if older:
            older.transport.abort()

    def received(self, sender: ReplicaId, payload: bytes) -> None:
        """Hand a payload on."""
        self._received_frames += 1
        self._received_bytes += len(payload)
        self.on_message(sender, payload)

    def refused(self, remote: str, reason: str) -> None:
        """Count a refusal, and log it unless another was logged a moment ago."""
        self._refused_connections += 1
        now = asyncio.get_running_loop().time()
        if now - self._refusal_logged_at >= REFUSAL_LOG_SECONDS:
            self._refusal_logged_at = now
            log.warning("connection refused", remote=remote, why=reason, refused=self._refused_connections)

    def ended(self, connection: Connection) -> None:
        """Forget a connection."""
        self._connections.discard(connection)
        for sender in [sender for sender, one in self._accepted.items() if one is connection]:
            del self._accepted[sender]


class _Greeter:
    """Who this replica is, and whom it talks to."""

    def __init__(self, cluster: str, epoch: int, me: ReplicaId, peers: frozenset[ReplicaId]) -> None:
        self._cluster = cluster
        self._epoch = epoch
        self._me = me
        self._peers = peers

    def frame(self, receiver: int) -> bytes:
        hello = Hello(WIRE_MAGIC, WIRE_VERSION, self._cluster, self._epoch, self._me, receiver)
        return encode_frame(hello.encode())

    def check(self, hello: Hello) -> ReplicaId:
        theirs, ours = (hello.cluster, hello.epoch), (self._cluster, self._epoch)
        if theirs != ours:
            raise Misbehaviour(f"peer is of cluster and epoch {theirs}, this replica of {ours}")
        if hello.sender not in self._peers:
            raise Misbehaviour(f"replica {hello.sender} is no peer of replica {self._me}")
        if hello.receiver == 0:
            raise Misbehaviour(f"replica {hello.sender} refuses this one: its log tells why")
        if hello.receiver != self._me:
            raise Misbehaviour(f"replica {hello.sender} wants replica {hello.receiver}, this is replica {self._me}")
        return ReplicaId(hello.sender)


class _Accepted(Connection):
    """The receiving end."""

    def __init__(self, mesh: TcpMesh) -> None:
        super().__init__()
        self._mesh = mesh
        self._sender = ReplicaId(0)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._mesh.opened(self)
        if not self._mesh.has_room():
            self.refuse("too many connections without a greeting")

    def on_hello(self, hello: Hello) -> None:
        try:
            self._sender = self._mesh.check(hello)
        except Misbehaviour:
            self.transport.write(self._mesh.greeting(0))
            raise
        self._mesh.receive_on(self, self._sender)
        self.transport.write(self._mesh.greeting(self._sender))

    def on_payload(self, payload: bytes) -> None:
        self._mesh.received(self._sender, payload)

    def on_refused(self, reason: str) -> None:
        self._mesh.refused(self.remote, reason)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._mesh.ended(self)


class _Dialled(Connection):
    """The sending end."""

    def __init__(self, mesh: TcpMesh, link: _Link) -> None:
        super().__init__()
        self._mesh = mesh
        self._link = link

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._mesh.opened(self)
        self.transport.write(self._mesh.greeting(self._link.replica))

    def on_hello(self, hello: Hello) -> None:
        sender = self._mesh.check(hello)
        if sender != self._link.replica:
            raise Misbehaviour(f"replica {sender} answers at the address of replica {self._link.replica}")
        self._link.connected(self)

    def on_payload(self, payload: bytes) -> None:
        raise Misbehaviour(f"replica {self._link.replica} sends on a connection that it accepted")

    def on_refused(self, reason: str) -> None:
        self._mesh.refused(self.remote, reason)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._mesh.ended(self)
        self._link.disconnected(self, error)


class _Link:
    """The way to one peer: keeps a connection dialled and holds what is not yet written to it."""

    def __init__(self, mesh: TcpMesh, replica: ReplicaId, address: tuple[str, int], rng: random.Random) -> None:
        self.replica = replica
        self.connection: _Dialled | None = None
        self.sent_frames = self.sent_bytes = self.dropped_frames = self.connects = 0
        self._mesh = mesh
        self._address = address
        self._rng = rng
        self._queued: list[bytes] = []
        self._queued_bytes = 0

    def queue(self, frame: bytes) -> None:
        """Take one frame, or drop it."""
        if self.connection is None or self.buffered_bytes() + len(frame) > PEER_BUFFER_BYTES_MAX:
            self.dropped_frames += 1
            return
        self._queued.append(frame)
        self._queued_bytes += len(frame)

    def flush(self) -> None:
        """Write what is queued."""
        if self.connection is None or not self._queued:
            return
        self.connection.transport.writelines(self._queued)
        self.sent_frames += len(self._queued)
        self.sent_bytes += self._queued_bytes
        self._queued, self._queued_bytes = [], 0

    def buffered_bytes(self) -> int:
        """Return what the kernel has not taken yet."""
        written = self.connection.transport.get_write_buffer_size() if self.connection else 0
        return self._queued_bytes + written

    async def keep_dialled(self) -> None:
        """Dial, wait for the end of the connection, pause; for ever."""
        pause = RECONNECT_SECONDS_MIN
        while True:
            connects = self.connects
            await self._dial()
            pause = RECONNECT_SECONDS_MIN if self.connects > connects else min(2 * pause, RECONNECT_SECONDS_MAX)
            await asyncio.sleep(self._rng.uniform(0, pause))

    async def _dial(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(HELLO_SECONDS_MAX):
                _, connection = await loop.create_connection(lambda: _Dialled(self._mesh, self), *self._address)
        except OSError:
            return  # nobody there yet, or no more: `connected` shows it, and the next attempt follows
        await connection.ended.wait()

    def connected(self, connection: _Dialled) -> None:
        """Send on this connection."""
        self.connection = connection
        self.connects += 1
        log.info("peer connected", peer=self.replica, remote=connection.remote)

    def disconnected(self, connection: _Dialled, error: Exception | None) -> None:
        """Drop what was not written."""
        if self.connection is not connection:
            return
        self.connection = None
        self.dropped_frames += len(self._queued)
        self._queued, self._queued_bytes = [], 0
        log.info("peer lost", peer=self.replica, remote=connection.remote, why=str(error or "closed"))


def _parse_address(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise Misuse(f"peer address {address!r} is not host:port", 'for example "127.0.0.1:7101" or "[::1]:7101"')
    return host.removeprefix("[").removesuffix("]"), int(port)
