"""Transport: messages between replicas, lossy by contract.

A transport carries opaque payloads between the members of one cluster. It may lose, duplicate, delay or reorder them,
and never alters one or takes one from a stranger. It holds no message for a peer that is away: the cores send again.
Payloads travel on channels, one for each room of the receiving replica; STATE never holds up ORDER.

- `tcp` is a mesh of TCP connections, under TLS wherever they leave the machine.
- `link` is the way to one peer, `connection` one connection as either end sees it.
- `greeter` decides who is let in; `acquaintances` is what it remembers of the peers' disks.
- `tls` holds the certificates, `addresses` reads host:port.

Every transport passes tests/contracts/test_transports.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from quorate.errors import Broken
from quorate.transport.tls import Credentials
from quorate.types import Membership, ReplicaId
from quorate.wire import Channel as Channel


class StoreFacts(NamedTuple):
    """What a replica tells of its store, so that its peers notice if it comes back emptied, older or twice."""

    store: bytes
    """16 random bytes, made when the data directory was initialised."""
    life: int
    """Starts on this directory, this one included; durable before the transport starts."""
    nonce: bytes
    """16 random bytes, made at this start."""
    commits: Callable[[], int]
    """Commits that are durable by now; never fewer than it said before, not even in an earlier life. Never raises."""


class MeshOptions(NamedTuple):
    """Where a replica is to be found, where it finds the others, and how both sides know each other."""

    cluster: str
    epoch: int
    listen: str
    """This replica's "host:port" for its peers."""
    addresses: Mapping[ReplicaId, str] = {}
    """Where the operator says that peers are, in place of the membership's word; this replica's own entry is what it
    tells the others, in place of `listen`."""
    credentials: Credentials | None = None
    """None: in the clear, which is refused unless `listen` is on loopback or `insecure` is set."""
    insecure: bool = False


class TransportStatistics(NamedTuple):
    """Counts since the start, and the bytes held at the moment. The transport's own frames are not in them."""

    sent_frames: int
    sent_bytes: int
    received_frames: int
    received_bytes: int
    dropped_frames: int
    """Not sent: the peer was not connected, or its buffer full."""
    dropped_state_frames: int
    """Those among them that were on the STATE channel."""
    refused_connections: int
    """Closed because of what came in on them: strangers, other clusters, garbage, silence."""
    connects: int
    """Connections to peers that were accepted by them."""
    buffered_bytes: int


class Transport(Protocol):
    """One replica's end of the mesh. Everything happens on the event loop."""

    on_refused: Callable[[Broken], None]
    """Called once if a peer says that this replica must not go on: it was removed, or its disk is not what it was. Set
    before `start`."""

    def subscribe(self, channel: Channel, on_message: Callable[[ReplicaId, bytes], None]) -> None:
        """Have `on_message` called with sender and payload of each frame on `channel`; before `start`, once for each.

        It may raise `Misbehaviour`, which closes the connection, and nothing else. A frame on a channel that nobody
        subscribed to closes its connection too.
        """
        ...

    async def start(self) -> None:
        """Listen, and begin to connect; returns before peers are reached. Raises `NetworkRefused`."""
        ...

    def reconfigure(self, membership: Membership) -> None:
        """Talk to the other members of `membership`, and to nobody else, from now on."""
        ...

    def send(self, to: tuple[ReplicaId, ...], payload: bytes, channel: Channel = Channel.ORDER) -> None:
        """Queue `payload` for some peers, to leave at the next `flush`; never raises, may drop."""
        ...

    def flush(self) -> None:
        """Hand what is queued to the network, in one write per peer; STATE follows as the network takes it."""
        ...

    def connected(self) -> frozenset[ReplicaId]:
        """Return the peers that a payload sent now has a way to."""
        ...

    def statistics(self) -> TransportStatistics:
        """Return a snapshot."""
        ...

    async def close(self) -> None:
        """Stop; nothing is delivered and no task runs afterwards."""
        ...
