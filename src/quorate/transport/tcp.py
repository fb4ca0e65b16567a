"""A mesh of TCP connections, one for each direction of each pair.

A replica dials every peer and sends on the connections it dialled; it receives on those it accepted. So neither side
has to settle which of two connections counts, and each way fails and returns on its own. Who dialled greets first and
waits for the other's greeting before it sends; the other judges it (`greeter`), answers, and closes if it refuses, so
both logs name the reason.

- A newer connection of a peer replaces the older: a peer that restarted is not kept out by what its old one left.
- Bounds: unsent bytes per peer, a stranger's first frame, its time, and the number of strangers.
- A dead way is found by TCP_USER_TIMEOUT, since a core always has a heartbeat under way, and dialled again.
- Off loopback, connections are under mutual TLS unless the operator insists. In the clear nobody is authenticated:
  such connections belong on loopback or on a network of one's own.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import structlog

from quorate.errors import Broken, Misbehaviour, Misuse, NetworkRefused
from quorate.limits import MESH_BEAT_SECONDS
from quorate.transport import MeshOptions, StoreFacts, TransportStatistics
from quorate.transport.acquaintances import Acquaintances, Unwelcome
from quorate.transport.addresses import Address, is_loopback, is_unspecified, parse_address
from quorate.transport.connection import Connection, Gate
from quorate.transport.greeter import Greeter
from quorate.transport.link import Link, SendCounts
from quorate.types import Membership, ReplicaId
from quorate.wire import Channel, Hello, decode_commits, encode_commits, encode_frame

ACCEPT_TURNS = 4
"""Turns of the loop until a connection that it has accepted is known to us, and can be dropped."""

log = structlog.get_logger(__name__)


class TcpMesh:
    """The `Transport` contract over TCP.

    `membership` is the one in force when the replica starts, and empty for a joiner, which talks to those whose
    addresses its options name. What is remembered of peers lies in `directory`, the replica's data directory. Raises
    `Misuse` if an address is none or peers would be met in the clear, and `StorageBroken` if that memory is damaged.
    """

    on_refused: Callable[[Broken], None]

    def __init__(
        self,
        me: ReplicaId,
        membership: Membership,
        options: MeshOptions,
        store: StoreFacts,
        directory: Path,
        rng: random.Random,
    ) -> None:
        self._me = me
        self._own_address = parse_address(options.listen)
        _check_privacy(options)
        self._addresses = {replica: parse_address(address) for replica, address in options.addresses.items()}
        self._store = store
        self._acquaintances = Acquaintances(directory)
        address = options.addresses.get(me, "" if is_unspecified(self._own_address[0]) else options.listen)
        self._greeter = Greeter(me, options.cluster, options.epoch, address, store, self._acquaintances)
        self._gate = Gate(self._greeter, options.credentials)
        self._rng = rng
        self._subscribers: dict[int, Callable[[ReplicaId, bytes], None]] = {Channel.MESH: self._on_commits}
        self._links: dict[ReplicaId, Link] = {}
        self._accepted: dict[ReplicaId, _Accepted] = {}
        self._server: asyncio.Server | None = None
        self._dialling: dict[ReplicaId, asyncio.Task[None]] = {}
        self._beating: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self._dismissed = False
        self._counts = SendCounts()
        self._received_frames = 0
        self._received_bytes = 0
        self.reconfigure(membership)

    def subscribe(self, channel: Channel, on_message: Callable[[ReplicaId, bytes], None]) -> None:
        """Hand what arrives on `channel` to `on_message`."""
        assert channel not in self._subscribers, channel
        self._subscribers[channel] = on_message

    async def start(self) -> None:
        """Listen on this replica's own address and keep dialling all others."""
        loop = asyncio.get_running_loop()
        host, port = self._own_address
        try:
            self._server = await loop.create_server(lambda: _Accepted(self, self._gate), host, port)
        except OSError as error:
            what = f"{host}:{port} can't be listened on for peers: {error.strerror or error}"
            raise NetworkRefused(what, "free the address or set another") from error
        for link in self._links.values():
            self._dial(link)
        self._beating = loop.create_task(self._beat())

    def reconfigure(self, membership: Membership) -> None:
        """Dial new members, and drop the connections of those that went."""
        addresses = _readable(membership) | self._addresses
        peers = frozenset(membership.members or addresses) - {self._me}
        for gone in self._links.keys() - peers:
            if gone <= membership.last_id:  # any other may come in a later membership
                self._drop(gone)
        for peer in sorted(peers - self._links.keys()):
            self._take_in(peer, addresses.get(peer))
        self._greeter.expect(peers, membership.last_id)
        self._acquaintances.forget(membership.last_id, but=peers)

    def send(self, to: tuple[ReplicaId, ...], payload: bytes, channel: Channel = Channel.ORDER) -> None:
        """Encode the frame once and queue it for each of `to`."""
        frame = encode_frame(payload, channel)
        for replica in to:
            link = self._links.get(replica)
            if link is None:
                self._counts.drop(1, channel)
            else:
                link.queue(frame, channel)

    def flush(self) -> None:
        """Write what is queued, in one call per peer."""
        for link in self._links.values():
            link.flush()

    def connected(self) -> frozenset[ReplicaId]:
        """Return the peers whose dialled connection is greeted both ways."""
        return frozenset(replica for replica, link in self._links.items() if link.connection)

    def statistics(self) -> TransportStatistics:
        """Return a snapshot."""
        return TransportStatistics(
            sent_frames=self._counts.sent_frames,
            sent_bytes=self._counts.sent_bytes,
            received_frames=self._received_frames,
            received_bytes=self._received_bytes,
            dropped_frames=self._counts.dropped_frames,
            dropped_state_frames=self._counts.dropped_state_frames,
            refused_connections=self._gate.refused_connections,
            connects=self._counts.connects,
            buffered_bytes=sum(link.buffered_bytes() for link in self._links.values()),
        )

    async def close(self) -> None:
        """Stop dialling and listening, and drop every connection."""
        self._closing.set()
        self._gate.closed = True
        if self._beating:
            await self._beating
        for task in self._dialling.values():
            task.cancel()
        await asyncio.gather(*self._dialling.values(), return_exceptions=True)
        if self._server:
            self._server.close()
            for _ in range(ACCEPT_TURNS):
                await asyncio.sleep(0)
        connections = list(self._gate.open)
        for connection in connections:
            connection.abort()
        for connection in connections:
            await connection.wait_ended()
        if self._server:
            await self._server.wait_closed()

    # --- peers -------------------------------------------------------------------------------------------------------

    def greeted(self, connection: _Accepted, hello: Hello) -> None:
        """Receive from the sender of an accepted greeting on this connection from now on, and on no other."""
        sender = ReplicaId(hello.sender)
        older = self._accepted.get(sender)
        self._accepted[sender] = connection
        if sender not in self._links:
            self._take_in(sender, None)
        self._links[sender].told(hello.address)
        if older:
            older.abort()

    def received(self, sender: ReplicaId, channel: int, payload: bytes) -> None:
        """Hand a payload to the room it is for. Raises `Misbehaviour`."""
        subscriber = self._subscribers.get(channel)
        if subscriber is None:
            raise Misbehaviour(f"replica {sender} sends on channel {channel}, which nobody here listens to")
        if channel != Channel.MESH:
            self._received_frames += 1
            self._received_bytes += len(payload)
        subscriber(sender, payload)

    def ended(self, connection: _Accepted, sender: ReplicaId) -> None:
        """Forget a connection."""
        if self._accepted.get(sender) is connection:
            del self._accepted[sender]

    def _take_in(self, peer: ReplicaId, address: Address | None) -> None:
        self._links[peer] = Link(self._gate, peer, address, self._counts, self._rng, self._on_dismissed)
        if self._server is not None:
            self._dial(self._links[peer])

    def _dial(self, link: Link) -> None:
        self._dialling[link.replica] = asyncio.get_running_loop().create_task(link.keep_dialled())

    def _drop(self, peer: ReplicaId) -> None:
        link = self._links.pop(peer)
        if peer in self._dialling:
            self._dialling.pop(peer).cancel()
        for connection in (link.connection, self._accepted.get(peer)):
            if connection is not None:
                connection.abort()

    def _on_dismissed(self, error: Broken) -> None:
        if not self._dismissed:
            self._dismissed = True
            self.on_refused(error)

    # --- the beat ----------------------------------------------------------------------------------------------------

    async def _beat(self) -> None:
        """Tell peers of this store, save what they told of theirs, and look at the certificates; until closed."""
        while not self._closing.is_set():
            try:
                await asyncio.wait_for(self._closing.wait(), MESH_BEAT_SECONDS)
            except TimeoutError:
                frame = encode_frame(encode_commits(self._store.commits()), Channel.MESH)
                for link in self._links.values():
                    link.tell(frame)
                if self._gate.credentials is not None:
                    self._gate.credentials.refresh()
            await asyncio.to_thread(self._acquaintances.save)

    def _on_commits(self, sender: ReplicaId, payload: bytes) -> None:
        self._acquaintances.heard(sender, decode_commits(payload))


class _Accepted(Connection):
    """The receiving end."""

    accepting = True

    def __init__(self, mesh: TcpMesh, gate: Gate) -> None:
        super().__init__(gate)
        self._mesh = mesh
        self._sender = ReplicaId(0)

    def on_open(self) -> None:
        """Wait for the greeting of who dialled."""

    def on_hello(self, hello: Hello) -> None:
        """Answer, in either case."""
        greeter = self.gate.greeter
        try:
            self._sender = greeter.check(hello, self.certified())
        except Unwelcome as error:
            self.transport.write(greeter.refusal(hello.sender, error))
            raise
        self._mesh.greeted(self, hello)
        self.transport.write(greeter.greeting(self._sender))

    def on_frame(self, channel: int, payload: bytes) -> None:
        """Hand the frame on."""
        self._mesh.received(self._sender, channel, payload)

    def connection_lost(self, error: Exception | None) -> None:
        """Have the mesh forget it."""
        super().connection_lost(error)
        self._mesh.ended(self, self._sender)


def _readable(membership: Membership) -> dict[ReplicaId, Address]:
    """Return the addresses of a membership; one that is none is left out, since an ordered value can't be refused."""
    addresses = {}
    for replica, address in membership.addresses:
        try:
            addresses[replica] = parse_address(address)
        except Misuse as error:
            log.error("address of a member is of no use", peer=replica, why=error.what)
    return addresses


def _check_privacy(options: MeshOptions) -> None:
    host, _ = parse_address(options.listen)
    if options.credentials is None and not options.insecure and not is_loopback(host):
        raise Misuse(
            f"peers would talk in the clear at {options.listen}",
            "make certificates with `quorate tls init`, or say --insecure if the network is yours alone",
        )
